#include "vmm/testing/status_matchers.h"

#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "gmock/gmock.h"
#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

TEST(StatusMatchersTest, IsOkTellsOkFromErrors) {
  EXPECT_THAT(absl::OkStatus(), IsOk());
  EXPECT_THAT(absl::NotFoundError("x"), Not(IsOk()));
  EXPECT_THAT(absl::StatusOr<int>(3), IsOk());
  EXPECT_THAT(absl::StatusOr<int>(absl::NotFoundError("x")), Not(IsOk()));
}

TEST(StatusMatchersTest, StatusIsComparesTheCode) {
  EXPECT_THAT(absl::NotFoundError("x"), StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(absl::NotFoundError("x"),
              Not(StatusIs(absl::StatusCode::kInternal)));
  EXPECT_THAT(absl::NotFoundError("x"),
              StatusIs(AnyOf(absl::StatusCode::kInternal,
                             absl::StatusCode::kNotFound)));
}

TEST(StatusMatchersTest, StatusIsMatchesTheMessage) {
  const absl::StatusOr<std::string> result = absl::NotFoundError("slot 7");
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kNotFound, "slot 7"));
  EXPECT_THAT(result, StatusIs(absl::StatusCode::kNotFound, HasSubstr("7")));
  EXPECT_THAT(result,
              Not(StatusIs(absl::StatusCode::kNotFound, HasSubstr("8"))));
}

TEST(StatusMatchersTest, ExplainsWithTheStatus) {
  const ::testing::Matcher<const absl::Status&> matcher = IsOk();
  ::testing::StringMatchResultListener listener;
  EXPECT_FALSE(
      matcher.MatchAndExplain(absl::NotFoundError("slot 7"), &listener));
  EXPECT_EQ(listener.str(), "whose status is NOT_FOUND: slot 7");
}

TEST(StatusMatchersTest, AssignsTheValueAlsoOfMoveOnlyTypes) {
  ASSERT_OK_AND_ASSIGN(
      const std::unique_ptr<int> value,
      absl::StatusOr<std::unique_ptr<int>>(std::make_unique<int>(5)));
  EXPECT_EQ(*value, 5);
}

void AssignFromError(bool* went_on) {
  ASSERT_OK_AND_ASSIGN([[maybe_unused]] const int value,
                       absl::StatusOr<int>(absl::NotFoundError("slot 7")));
  *went_on = true;
}

TEST(StatusMatchersTest, AssignEndsTheTestOnAnError) {
  static bool went_on;  // The macro below allows no local variables.
  went_on = false;
  EXPECT_FATAL_FAILURE(AssignFromError(&went_on), "NOT_FOUND: slot 7");
  EXPECT_FALSE(went_on);
}

}  // namespace
}  // namespace vmsg::vmm
