#include "vmm/base/check.h"

#include <string>

#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

TEST(CheckTest, GoesOnWhenTheConditionHolds) {
  int evaluations = 0;
  VMSG_CHECK(++evaluations == 1);
  EXPECT_EQ(evaluations, 1);
}

TEST(CheckTest, EvaluatesTheDetailOnlyOnFailure) {
  int evaluations = 0;
  auto detail = [&evaluations] {
    ++evaluations;
    return std::string("detail");
  };
  VMSG_CHECK(true, detail());
  EXPECT_EQ(evaluations, 0);
}

TEST(CheckTest, IsAnExpressionThatFitsAnUnbracedIf) {
  bool other_branch = false;
  if (true)
    VMSG_CHECK(true);
  else
    other_branch = true;
  EXPECT_FALSE(other_branch);
}

TEST(CheckDeathTest, AbortsWithPlaceAndCondition) {
  EXPECT_DEATH(VMSG_CHECK(1 + 1 == 3),
               "check_test\\.cc:[0-9]+: check failed: 1 \\+ 1 == 3\n");
}

TEST(CheckDeathTest, AbortsWithTheDetail) {
  EXPECT_DEATH(VMSG_CHECK(false, std::string("slot 7 is free")),
               "check failed: false: slot 7 is free\n");
}

}  // namespace
}  // namespace vmsg::vmm
