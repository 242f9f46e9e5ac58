#include "bazel/corpus_runner.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <string_view>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vmsg::fuzz {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::Gt;
using ::testing::Ne;
using ::testing::SizeIs;

Input Bytes(std::string_view text) { return Input(text.begin(), text.end()); }

class RunCorpusTest : public ::testing::Test {
 protected:
  RunCorpusTest() {
    const ::testing::TestInfo* info =
        ::testing::UnitTest::GetInstance()->current_test_info();
    folder_ = fs::path(::testing::TempDir()) / info->name();
    fs::create_directories(folder_ / "corpus");
    options_.corpus = (folder_ / "corpus").string();
  }
  ~RunCorpusTest() override { fs::remove_all(folder_); }

  void AddFile(const std::string& name, std::string_view content) {
    const fs::path path = folder_ / "corpus" / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << content;
  }

  std::vector<Input> Run() {
    std::vector<Input> seen;
    ran_ = RunCorpus(options_, [&](const uint8_t* data, size_t size) {
      seen.emplace_back(data, data + size);
    });
    return seen;
  }

  fs::path folder_;
  CorpusRunOptions options_;
  size_t ran_ = 0;
};

TEST_F(RunCorpusTest, FailsWhenTheFolderIsMissing) {
  options_.corpus += "/none";
  EXPECT_THAT(Run(), SizeIs(0));
  EXPECT_EQ(ran_, 0u);
}

TEST_F(RunCorpusTest, FailsWhenTheFolderIsEmpty) {
  EXPECT_THAT(Run(), SizeIs(0));
  EXPECT_EQ(ran_, 0u);
}

TEST_F(RunCorpusTest, RunsEveryFileInTheOrderOfNames) {
  options_.mutations = 0;
  AddFile("b", "second");
  AddFile("a", "first");
  AddFile("c/d", "third");
  EXPECT_THAT(Run(),
              ElementsAre(Bytes("first"), Bytes("second"), Bytes("third")));
  EXPECT_EQ(ran_, 3u);
}

TEST_F(RunCorpusTest, AnEmptyFileIsAnInput) {
  options_.mutations = 0;
  AddFile("empty", "");
  EXPECT_THAT(Run(), ElementsAre(Input()));
}

TEST_F(RunCorpusTest, MutationsAreTheSameInEveryRun) {
  AddFile("a", "some bytes that get mutated");
  AddFile("b", "others");
  EXPECT_EQ(Run(), Run());
  EXPECT_EQ(ran_, 2u + options_.mutations);
}

TEST_F(RunCorpusTest, MutationsDifferFromTheCorpusAndFromEachOther) {
  // Even 16 bytes should give mostly new inputs; half is far below that.
  AddFile("a", "0123456789abcdef");
  const std::vector<Input> seen = Run();
  const std::set<Input> distinct(seen.begin(), seen.end());
  EXPECT_THAT(distinct, SizeIs(Gt(options_.mutations / 2)));
}

TEST_F(RunCorpusTest, EmptyInputsAreMutatedToo) {
  options_.mutations = 1;
  AddFile("empty", "");
  const std::vector<Input> seen = Run();
  ASSERT_THAT(seen, SizeIs(2));
  EXPECT_THAT(seen[1], Ne(Input()));
}

TEST_F(RunCorpusTest, LeavesTheInputThatEndedTheProcess) {
  options_.mutations = 0;
  options_.current_input_file = (folder_ / "crash_input").string();
  AddFile("a", "fine");
  AddFile("b", "deadly");
  EXPECT_EXIT(RunCorpus(options_,
                        [](const uint8_t* data, size_t) {
                          if (data[0] == 'd') std::_Exit(3);
                        }),
              ::testing::ExitedWithCode(3), "");
  std::ifstream file(options_.current_input_file, std::ios::binary);
  const std::string left((std::istreambuf_iterator<char>(file)), {});
  EXPECT_EQ(left, "deadly");
}

TEST_F(RunCorpusTest, RemovesTheCurrentInputAtTheEnd) {
  options_.mutations = 1;
  options_.current_input_file = (folder_ / "crash_input").string();
  AddFile("a", "fine");
  Run();
  EXPECT_FALSE(fs::exists(options_.current_input_file));
}

}  // namespace
}  // namespace vmsg::fuzz
