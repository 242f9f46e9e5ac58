#include "vmm/boot/read_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::HasSubstr;

constexpr uid_t kOtherUser = 65534;

std::string NewFile(const std::string& name, const std::string& content) {
  const std::string path = ::testing::TempDir() + "/" + name;
  std::FILE* const file = std::fopen(path.c_str(), "w");
  EXPECT_EQ(std::fwrite(content.data(), 1, content.size(), file),
            content.size());
  EXPECT_EQ(std::fclose(file), 0);
  return path;
}

TEST(ReadFileTest, WholeContentComesBack) {
  const std::string path = NewFile("whole", "some bytes");
  ASSERT_OK_AND_ASSIGN(const auto content, ReadFile(path, 10));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(content.data()),
                        content.size()),
            "some bytes");
}

TEST(ReadFileTest, EmptyFileIsEmpty) {
  ASSERT_OK_AND_ASSIGN(const auto content, ReadFile(NewFile("empty", ""), 10));
  EXPECT_TRUE(content.empty());
}

TEST(ReadFileTest, LargerFileThanAllowedIsRefused) {
  const std::string path = NewFile("large", "some bytes");
  EXPECT_THAT(ReadFile(path, 9), StatusIs(absl::StatusCode::kInvalidArgument,
                                          HasSubstr("10 bytes")));
}

TEST(ReadFileTest, MissingFileIsNamed) {
  EXPECT_THAT(
      ReadFile("/no/such/file", 10),
      StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/file")));
}

TEST(ReadFileTest, FileThatMayNotBeReadIsPermissionDenied) {
  const std::string path = NewFile("secret", "some bytes");
  ASSERT_EQ(chmod(path.c_str(), 0), 0);
  const uid_t user = geteuid();
  // Root may read it anyway.
  if (user == 0 && seteuid(kOtherUser) != 0) {
    GTEST_SKIP() << "only root is here";
  }
  const auto content = ReadFile(path, 10);
  ASSERT_EQ(seteuid(user), 0);
  EXPECT_THAT(content,
              StatusIs(absl::StatusCode::kPermissionDenied, HasSubstr(path)));
  unlink(path.c_str());
}

TEST(ReadFileTest, PathThatLeadsNowhereIsNamedWithItsReason) {
  const std::string path = ::testing::TempDir() + "/loop";
  unlink(path.c_str());
  ASSERT_EQ(symlink(path.c_str(), path.c_str()), 0);
  EXPECT_THAT(ReadFile(path, 10),
              StatusIs(absl::StatusCode::kInternal,
                       HasSubstr(path + ": Too many levels")));
  unlink(path.c_str());
}

TEST(ReadFileTest, FolderIsRefused) {
  EXPECT_THAT(ReadFile(::testing::TempDir(), 10),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(ReadFileTest, FifoWithoutAWriterIsRefusedAndDoesNotHang) {
  const std::string path = ::testing::TempDir() + "/read_file_test.fifo";
  unlink(path.c_str());
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(ReadFile(path, 10), StatusIs(absl::StatusCode::kInvalidArgument));
  unlink(path.c_str());
}

}  // namespace
}  // namespace vmsg::vmm
