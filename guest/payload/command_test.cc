#include "guest/payload/command.h"

#include <string>
#include <string_view>
#include <vector>

#include "gtest/gtest.h"

namespace vmsg::guest {
namespace {

std::vector<Command> Feed(std::string_view text) {
  CommandReader reader;
  std::vector<Command> commands;
  for (const char c : text) {
    Command command;
    if (reader.Add(c, &command)) commands.push_back(command);
  }
  return commands;
}

TEST(CommandTest, ReadsEachCommand) {
  const std::vector<Command> commands =
      Feed("report\nping\r\nread 65536\npoweroff\n");
  ASSERT_EQ(commands.size(), 4u);
  EXPECT_EQ(commands[0].kind, Command::Kind::kReport);
  EXPECT_EQ(commands[1].kind, Command::Kind::kPing);
  EXPECT_EQ(commands[2].kind, Command::Kind::kRead);
  EXPECT_EQ(commands[2].bytes, 65536u);
  EXPECT_EQ(commands[3].kind, Command::Kind::kPowerOff);
}

TEST(CommandTest, NothingHappensBeforeTheLineEnd) {
  EXPECT_TRUE(Feed("poweroff").empty());
  EXPECT_TRUE(Feed("\n\r\n").empty());
}

class UnknownCommandTest : public testing::TestWithParam<const char*> {};

TEST_P(UnknownCommandTest, IsReportedOnceAndTheNextLineCounts) {
  const std::vector<Command> commands =
      Feed(std::string(GetParam()) + "\nreport\n");
  ASSERT_EQ(commands.size(), 2u);
  EXPECT_EQ(commands[0].kind, Command::Kind::kUnknown);
  EXPECT_EQ(commands[1].kind, Command::Kind::kReport);
}

INSTANTIATE_TEST_SUITE_P(
    All, UnknownCommandTest,
    testing::Values("x", "reports", " report", "Report", "read", "read ",
                    "read 0", "read -1", "read 65537", "read 4294967297",
                    "read 1x", "read 18446744073709551617",
                    // "report" and so many blanks that the line is cut
                    "report                                        "));

}  // namespace
}  // namespace vmsg::guest
