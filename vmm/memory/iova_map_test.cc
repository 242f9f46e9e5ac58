#include "vmm/memory/iova_map.h"

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kLastPage = UINT64_MAX - (kPage - 1);

constexpr GuestRange Range(uint64_t start, uint64_t size) {
  return {.start = {start}, .size = size};
}

class IovaMapTest : public ::testing::Test {
 protected:
  absl::Status Map(uint64_t iova, uint64_t size, uint64_t physical,
                   bool readable = true, bool writable = true) {
    return map_.Map({.iova = Range(iova, size),
                     .physical = {physical},
                     .readable = readable,
                     .writable = writable});
  }
  DmaTranslation Translate(uint64_t iova, uint64_t size, bool writable = true) {
    map_.BeginUse();
    const DmaTranslation result = map_.Translate(Range(iova, size), writable);
    map_.EndUse();
    return result;
  }
  std::shared_ptr<const void> Hold(uint64_t iova, uint64_t size) {
    map_.BeginUse();
    std::shared_ptr<const void> hold = map_.Hold(Range(iova, size));
    map_.EndUse();
    return hold;
  }
  void ExpectAt(uint64_t iova, uint64_t size, GuestRange physical) {
    const DmaTranslation result = Translate(iova, size);
    EXPECT_EQ(result.result, DmaResult::kOk);
    EXPECT_EQ(result.range, physical);
  }
  void ExpectNothingAt(uint64_t iova) {
    EXPECT_EQ(Translate(iova, 1).result, DmaResult::kOutside) << iova;
  }

  IovaMap map_;
};

TEST_F(IovaMapTest, GivesNothingAtFirst) {
  ExpectNothingAt(0);
  ExpectNothingAt(UINT64_MAX);
  EXPECT_EQ(map_.size(), 0u);
}

TEST_F(IovaMapTest, GivesThePlaceAndHowFarItGoes) {
  ASSERT_OK(Map(0x10000, 2 * kPage, 0x5000));
  ExpectAt(0x10000, 1, Range(0x5000, 1));
  ExpectAt(0x10008, 2 * kPage, Range(0x5008, 2 * kPage - 8));
  ExpectAt(0x11fff, 100, Range(0x6fff, 1));
  ExpectNothingAt(0xffff);
  ExpectNothingAt(0x12000);
  ExpectNothingAt(0x5000);
}

TEST_F(IovaMapTest, MappingsBesideEachOtherStayTwo) {
  ASSERT_OK(Map(0x1000, kPage, 0x8000));
  ASSERT_OK(Map(0x2000, kPage, 0x3000));
  ASSERT_OK(Map(0, kPage, 0));
  ExpectAt(0x1800, kPage, Range(0x8800, 0x800));
  ExpectAt(0x2000, kPage, Range(0x3000, kPage));
}

TEST_F(IovaMapTest, ReachesTheEndsOfBothAddressSpaces) {
  ASSERT_OK(Map(kLastPage, kPage, 0));
  ASSERT_OK(Map(0, kPage, kLastPage));
  ExpectAt(UINT64_MAX, 1, Range(kPage - 1, 1));
  ExpectAt(kPage - 1, 1, Range(UINT64_MAX, 1));
  EXPECT_THAT(map_.Unmap(Range(0, UINT64_MAX)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK(map_.Unmap(Range(kLastPage, kPage)));
  EXPECT_EQ(map_.size(), 1u);
}

TEST_F(IovaMapTest, AllowsWhatTheMappingSays) {
  ASSERT_OK(Map(0x1000, kPage, 0x1000, /*readable=*/true, /*writable=*/false));
  ASSERT_OK(Map(0x2000, kPage, 0x2000, /*readable=*/false, /*writable=*/true));
  EXPECT_EQ(Translate(0x1000, 1, false).result, DmaResult::kOk);
  EXPECT_EQ(Translate(0x1000, 1, true).result, DmaResult::kReadOnly);
  EXPECT_EQ(Translate(0x2000, 1, false).result, DmaResult::kOutside);
  EXPECT_EQ(Translate(0x2000, 1, true).result, DmaResult::kOk);
}

TEST_F(IovaMapTest, RefusesWhatIsNoMapping) {
  EXPECT_THAT(Map(0x1000, 0, 0x1000),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Map(kLastPage, kPage + 8, 0),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Map(0, kPage + 8, kLastPage),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Map(0x1000, UINT64_MAX, 0x1000),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Map(0x1000, kPage, 0x1000, false, false),
              StatusIs(absl::StatusCode::kInvalidArgument));
  for (const uint64_t skew : {1, 2, 4, 7}) {
    EXPECT_THAT(
        Map(0x1000, kPage, 0x1000 + skew),
        StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("unaligned")));
  }
  EXPECT_OK(Map(0x1004, 10, 0x100c));
  EXPECT_EQ(map_.size(), 1u);
}

TEST_F(IovaMapTest, RefusesAnOverlapAndNamesBoth) {
  ASSERT_OK(Map(0x2000, 2 * kPage, 0));
  for (const GuestRange range :
       {Range(0x2000, 2 * kPage), Range(0x1000, kPage + 8),
        Range(0x3ff8, kPage), Range(0x2008, 8), Range(0x1000, 8 * kPage)}) {
    EXPECT_THAT(Map(range.start.value, range.size, range.start.value),
                StatusIs(absl::StatusCode::kAlreadyExists,
                         HasSubstr("overlaps [0x2000,+0x2000)")));
  }
  EXPECT_EQ(map_.size(), 1u);
  EXPECT_OK(Map(0x1000, kPage, 0));
  EXPECT_OK(Map(0x4000, kPage, 0));
}

TEST_F(IovaMapTest, UnmapTakesWhatIsInside) {
  for (uint64_t page = 1; page <= 5; ++page) {
    ASSERT_OK(Map(page * kPage, kPage, page * kPage));
  }
  EXPECT_OK(map_.Unmap(Range(2 * kPage, 2 * kPage)));
  ExpectAt(kPage, 1, Range(kPage, 1));
  ExpectNothingAt(2 * kPage);
  ExpectNothingAt(3 * kPage);
  ExpectAt(4 * kPage, 1, Range(4 * kPage, 1));
  // More than is there, and nothing.
  EXPECT_OK(map_.Unmap(Range(4 * kPage, 100 * kPage)));
  EXPECT_OK(map_.Unmap(Range(4 * kPage, 100 * kPage)));
  EXPECT_OK(map_.Unmap(Range(kPage, 0)));
  EXPECT_EQ(map_.size(), 1u);
  map_.Clear();
  ExpectNothingAt(kPage);
  EXPECT_EQ(map_.size(), 0u);
}

TEST_F(IovaMapTest, UnmapRefusesToCutAMapping) {
  ASSERT_OK(Map(0x1000, kPage, 0x1000));
  ASSERT_OK(Map(0x4000, 2 * kPage, 0x4000));
  for (const GuestRange range :
       {Range(0x1000, 3 * kPage + 8), Range(0x4000, kPage),
        Range(0x5000, kPage), Range(0x4008, 8), Range(0x5000, 8 * kPage)}) {
    EXPECT_THAT(map_.Unmap(range), StatusIs(absl::StatusCode::kInvalidArgument,
                                            HasSubstr("reaches out of")));
  }
  EXPECT_THAT(map_.Unmap(Range(0x1000, UINT64_MAX)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_EQ(map_.size(), 2u);
}

TEST_F(IovaMapTest, HoldsNoMoreThanItsLimit) {
  IovaMap map(2);
  const auto add = [&map](uint64_t iova) {
    return map.Map({.iova = Range(iova, kPage), .physical = {0}});
  };
  ASSERT_OK(add(0));
  ASSERT_OK(add(kPage));
  EXPECT_THAT(add(2 * kPage), StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_OK(map.Unmap(Range(0, kPage)));
  EXPECT_OK(add(2 * kPage));
}

TEST_F(IovaMapTest, KnowsWhatIsStillPinnedAfterItsMappingHasGone) {
  ASSERT_OK(Map(0x1000, kPage, 0x1000));
  ASSERT_OK(Map(0x2000, kPage, 0x2000));
  EXPECT_FALSE(map_.pinned(Range(0, 0x10000)));
  std::shared_ptr<const void> first = Hold(0x1800, 8);
  std::shared_ptr<const void> second = Hold(0x1000, kPage);
  EXPECT_TRUE(map_.pinned(Range(0x1000, 1)));
  EXPECT_TRUE(map_.pinned(Range(0, 0x10000)));
  EXPECT_FALSE(map_.pinned(Range(0x2000, kPage)));
  EXPECT_FALSE(map_.pinned(Range(0x1000, 0)));

  ASSERT_OK(map_.Unmap(Range(0x1000, 2 * kPage)));
  EXPECT_TRUE(map_.pinned(Range(0x1000, kPage)));
  EXPECT_FALSE(map_.pinned(Range(0x2000, kPage)));
  // What is mapped there next is another matter.
  ASSERT_OK(Map(0x1000, kPage, 0x7000));
  first.reset();
  EXPECT_TRUE(map_.pinned(Range(0x1000, kPage)));
  second.reset();
  EXPECT_FALSE(map_.pinned(Range(0x1000, kPage)));
}

TEST_F(IovaMapTest, HoldMayOutliveTheMap) {
  std::shared_ptr<const void> hold;
  {
    IovaMap map;
    ASSERT_OK(map.Map({.iova = Range(0, kPage), .physical = {0}}));
    map.BeginUse();
    hold = map.Hold(Range(0, 8));
    EXPECT_EQ(map.Hold(Range(kPage, 8)), nullptr);
    map.EndUse();
  }
  EXPECT_NE(hold, nullptr);
}

}  // namespace
}  // namespace vmsg::vmm
