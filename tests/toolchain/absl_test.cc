#include "absl/status/statusor.h"
#include "absl/strings/str_format.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vmsg {
namespace {

using ::testing::HasSubstr;

absl::StatusOr<int> Half(int value) {
  if (value % 2 != 0) {
    return absl::InvalidArgumentError(absl::StrFormat("%d is odd", value));
  }
  return value / 2;
}

TEST(AbslTest, StatusOrCarriesValueOrMessage) {
  EXPECT_EQ(*Half(4), 2);
  EXPECT_THAT(std::string(Half(3).status().message()), HasSubstr("3 is odd"));
}

}  // namespace
}  // namespace vmsg
