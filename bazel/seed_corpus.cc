#include "bazel/seed_corpus.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string_view>
#include <utility>

namespace vmsg::fuzz {
namespace {

class SeedTest : public ::testing::Test {
 public:
  SeedTest(std::string folder, Seeds seeds)
      : folder_(std::move(folder)), seeds_(std::move(seeds)) {}

  void TestBody() override {
    ASSERT_FALSE(seeds_.empty());
    for (const auto& [name, bytes] : seeds_) {
      std::ifstream file(folder_ + "/" + name, std::ios::binary);
      const std::string stored((std::istreambuf_iterator<char>(file)), {});
      EXPECT_TRUE(stored == bytes)
          << name << " is another one; `bazel run` with --write writes it";
    }
  }

 private:
  const std::string folder_;
  const Seeds seeds_;
};

int Write(const std::string& folder, const Seeds& seeds) {
  const char* const workspace = std::getenv("BUILD_WORKSPACE_DIRECTORY");
  if (workspace == nullptr) {
    std::fprintf(stderr, "--write needs `bazel run`\n");
    return 1;
  }
  for (const auto& [name, bytes] : seeds) {
    const std::string path = std::string(workspace) + "/" + folder + "/" + name;
    std::ofstream file(path, std::ios::binary);
    if (!(file << bytes).flush()) {
      std::fprintf(stderr, "%s: not written\n", path.c_str());
      return 1;
    }
  }
  return 0;
}

}  // namespace

int SeedTestMain(int argc, char** argv, const std::string& folder,
                 const Seeds& seeds) {
  ::testing::InitGoogleTest(&argc, argv);
  if (argc == 2 && std::string_view(argv[1]) == "--write") {
    return Write(folder, seeds);
  }
  ::testing::RegisterTest(
      "SeedTest", "CorpusHoldsTheSeedsAsTheyAreMadeToday", nullptr, nullptr,
      __FILE__, __LINE__,
      [&]() -> SeedTest* { return new SeedTest(folder, seeds); });
  return RUN_ALL_TESTS();
}

}  // namespace vmsg::fuzz
