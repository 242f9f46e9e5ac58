#include <memory>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "absl/container/inlined_vector.h"
#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vmsg {
namespace {

using ::testing::ElementsAre;
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

TEST(AbslTest, AnyInvocableOwnsMoveOnlyState) {
  absl::AnyInvocable<int()> call = [n = std::make_unique<int>(7)] {
    return *n;
  };
  EXPECT_EQ(std::move(call)(), 7);
}

TEST(AbslTest, ContainersLinkAndHold) {
  absl::flat_hash_map<std::string, int> hashed = {{"a", 1}};
  absl::btree_map<int, int> sorted = {{2, 1}, {1, 2}};
  absl::InlinedVector<int, 2> inlined = {1, 2, 3};
  EXPECT_EQ(hashed["a"], 1);
  EXPECT_EQ(sorted.begin()->first, 1);
  EXPECT_THAT(inlined, ElementsAre(1, 2, 3));
}

TEST(AbslTest, CleanupRunsAtTheEndOfScope) {
  std::string text;
  {
    absl::Cleanup append = [&text] {
      absl::StrAppend(&text, absl::FormatDuration(absl::Milliseconds(5)));
    };
    EXPECT_EQ(text, "");
  }
  EXPECT_EQ(text, "5ms");
}

}  // namespace
}  // namespace vmsg
