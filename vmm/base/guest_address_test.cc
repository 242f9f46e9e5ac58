#include "vmm/base/guest_address.h"

#include <cstdint>

#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

constexpr uint64_t kTop = UINT64_MAX;

constexpr GuestRange Range(uint64_t start, uint64_t size) {
  return {.start = {start}, .size = size};
}

TEST(GuestAddressTest, ComparesByValue) {
  EXPECT_LT(GuestAddress{1}, GuestAddress{2});
  EXPECT_EQ(GuestAddress{7}, GuestAddress{7});
  EXPECT_GT(GuestAddress{kTop}, GuestAddress{0});
}

TEST(GuestRangeTest, IsValidUpToTheEndOfTheAddressSpace) {
  EXPECT_TRUE(Range(0, 0).IsValid());
  EXPECT_TRUE(Range(kTop, 0).IsValid());
  EXPECT_TRUE(Range(kTop, 1).IsValid());
  EXPECT_TRUE(Range(0, kTop).IsValid());
  EXPECT_TRUE(Range(1, kTop).IsValid());
  EXPECT_TRUE(Range(kTop - 0xfff, 0x1000).IsValid());
}

TEST(GuestRangeTest, IsInvalidWhenItsLastByteHasNoAddress) {
  EXPECT_FALSE(Range(kTop, 2).IsValid());
  EXPECT_FALSE(Range(2, kTop).IsValid());
  EXPECT_FALSE(Range(kTop - 0xfff, 0x1001).IsValid());
  EXPECT_FALSE(Range(kTop, kTop).IsValid());
}

TEST(GuestRangeTest, ContainsItsFirstAndLastByteAndNotTheNeighbours) {
  constexpr GuestRange range = Range(0x1000, 0x1000);
  EXPECT_FALSE(range.Contains(GuestAddress{0xfff}));
  EXPECT_TRUE(range.Contains(GuestAddress{0x1000}));
  EXPECT_TRUE(range.Contains(GuestAddress{0x1fff}));
  EXPECT_FALSE(range.Contains(GuestAddress{0x2000}));
}

TEST(GuestRangeTest, AtTheTopContainsTheLastAddressButNotZero) {
  constexpr GuestRange range = Range(kTop - 0xfff, 0x1000);
  EXPECT_TRUE(range.Contains(GuestAddress{kTop}));
  EXPECT_FALSE(range.Contains(GuestAddress{0}));
}

TEST(GuestRangeTest, EmptyContainsNoByte) {
  EXPECT_FALSE(Range(0x1000, 0).Contains(GuestAddress{0x1000}));
}

TEST(GuestRangeTest, ContainsRangesUpToItsEnd) {
  constexpr GuestRange range = Range(0x1000, 0x1000);
  EXPECT_TRUE(range.Contains(range));
  EXPECT_TRUE(range.Contains(Range(0x1800, 0x800)));
  EXPECT_FALSE(range.Contains(Range(0x1800, 0x801)));
  EXPECT_FALSE(range.Contains(Range(0xfff, 2)));
}

TEST(GuestRangeTest, ContainsIsExactWhereStartPlusSizeWraps) {
  constexpr GuestRange range = Range(0x1000, 0x1000);
  EXPECT_FALSE(range.Contains(Range(0x1800, kTop)));
  EXPECT_FALSE(range.Contains(Range(0x1800, kTop - 0x17ff)));
  EXPECT_FALSE(range.Contains(Range(kTop, 2)));
}

TEST(GuestRangeTest, ContainsAnEmptyRangeUpToOnePastItsEnd) {
  constexpr GuestRange range = Range(0x1000, 0x1000);
  EXPECT_TRUE(range.Contains(Range(0x1000, 0)));
  EXPECT_TRUE(range.Contains(Range(0x2000, 0)));
  EXPECT_FALSE(range.Contains(Range(0x2001, 0)));
  EXPECT_FALSE(range.Contains(Range(0xfff, 0)));
}

TEST(GuestRangeTest, OverlapsWhenAByteIsShared) {
  constexpr GuestRange range = Range(0x1000, 0x1000);
  EXPECT_TRUE(range.Overlaps(range));
  EXPECT_TRUE(range.Overlaps(Range(0x1fff, 1)));
  EXPECT_TRUE(range.Overlaps(Range(0xfff, 2)));
  EXPECT_TRUE(range.Overlaps(Range(0, kTop)));
  EXPECT_TRUE(Range(0, kTop).Overlaps(range));
}

TEST(GuestRangeTest, NeighboursAndEmptyRangesDoNotOverlap) {
  constexpr GuestRange range = Range(0x1000, 0x1000);
  EXPECT_FALSE(range.Overlaps(Range(0x2000, 0x1000)));
  EXPECT_FALSE(range.Overlaps(Range(0, 0x1000)));
  EXPECT_FALSE(range.Overlaps(Range(0x1800, 0)));
  EXPECT_FALSE(Range(0x1800, 0).Overlaps(range));
}

}  // namespace
}  // namespace vmsg::vmm
