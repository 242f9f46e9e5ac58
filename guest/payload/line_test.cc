#include "guest/payload/line.h"

#include <string>

#include "gtest/gtest.h"

namespace vmsg::guest {
namespace {

std::string Text(Line line) {
  const std::span<const char> text = line.Finish();
  return std::string(text.begin(), text.end());
}

TEST(LineTest, HasPrefixWordAndPairs) {
  EXPECT_EQ(Text(Line("ready").Number("functions", 1).Text("result", "ok")),
            "vmsg-guest: ready functions=1 result=ok\n");
}

TEST(LineTest, FormatsNumbers) {
  EXPECT_EQ(Text(Line("x")
                     .Number("a", 0)
                     .Number("b", UINT64_MAX)
                     .Hex("c", 0)
                     .Hex("d", 0xBEEF, 8)
                     .Hex("e", UINT64_MAX)
                     .Indexed("vector", 3, 12)),
            "vmsg-guest: x a=0 b=18446744073709551615 c=0x0 d=0x0000beef"
            " e=0xffffffffffffffff vector3=12\n");
}

TEST(LineTest, FormatsPciAddresses) {
  EXPECT_EQ(Text(Line("pci").PciAddress(31, 7)),
            "vmsg-guest: pci address=00:1f.7\n");
}

TEST(LineTest, CutsWhatDoesNotFitAndKeepsTheLineEnd) {
  Line line("long");
  for (int i = 0; i < 100; ++i) line.Number("key", 1234);
  const std::string text = Text(line);
  EXPECT_EQ(text.size(), 256u);
  EXPECT_EQ(text.back(), '\n');
}

}  // namespace
}  // namespace vmsg::guest
