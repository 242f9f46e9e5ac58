// DmaSpace behind a translator.

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/iova_map.h"
#include "vmm/memory/shared_copy.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kCopy = DmaSpace::kMaxCopyBytes;

constexpr GuestRange Range(uint64_t start, uint64_t size) {
  return {.start = {start}, .size = size};
}

using Bytes = std::vector<std::byte>;

Bytes Pattern(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = std::byte(i * 31 + i / 256 + 1);
  return bytes;
}

// Whatever a test makes of it, with a look at the rules of uses.
class ScriptedTranslator final : public DmaTranslator {
 public:
  using Answer = std::function<DmaTranslation(GuestRange iova, bool writable)>;

  explicit ScriptedTranslator(Answer answer) : answer_(std::move(answer)) {}
  ~ScriptedTranslator() override { EXPECT_FALSE(in_use_); }

  void BeginUse() override {
    EXPECT_FALSE(in_use_);
    in_use_ = true;
    ++uses_;
  }
  void EndUse() override {
    EXPECT_TRUE(in_use_);
    in_use_ = false;
    if (on_end_) on_end_(uses_);
  }
  DmaTranslation Translate(GuestRange iova, bool writable) override {
    EXPECT_TRUE(in_use_);
    EXPECT_TRUE(iova.size != 0 && iova.IsValid());
    ++translations_;
    return answer_(iova, writable);
  }

  void OnEnd(std::function<void(int uses)> on_end) {
    on_end_ = std::move(on_end);
  }
  int uses() const { return uses_; }
  int translations() const { return translations_; }

 private:
  const Answer answer_;
  std::function<void(int)> on_end_;
  bool in_use_ = false;
  int uses_ = 0;
  int translations_ = 0;
};

// RAM at [0x100000, 0x180000) and, adjacent, [0x180000, 0x200000); ROM at
// [0x300000, 0x301000). Nothing is mapped.
class DmaTranslationTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kRam = 0x100000;
  static constexpr uint64_t kRegion = 0x80000;
  static constexpr uint64_t kRom = 0x300000;
  static constexpr uint64_t kIova = 0x7f0000000000;

  DmaTranslationTest() {
    low_ = AddRegion(kRam, kRegion);
    high_ = AddRegion(kRam + kRegion, kRegion);
    rom_ = AddRegion(kRom, kPage, /*read_only=*/true);
  }

  std::shared_ptr<const MemoryBacking> AddRegion(uint64_t start, uint64_t size,
                                                 bool read_only = false) {
    auto backing = *MemoryBacking::CreateAnonymous(size, "test");
    EXPECT_OK(memory_.Add({.range = Range(start, size),
                           .read_only = read_only,
                           .backing = backing}));
    return backing;
  }
  void Map(uint64_t iova, uint64_t size, uint64_t physical,
           bool readable = true, bool writable = true) {
    ASSERT_OK(map_.Map({.iova = Range(iova, size),
                        .physical = {physical},
                        .readable = readable,
                        .writable = writable}));
  }
  // `pages` pages from kIova on, which lie in memory in the reverse order.
  void MapReversed(uint64_t pages) {
    for (uint64_t i = 0; i < pages; ++i) {
      Map(kIova + kPage * i, kPage, kRam + kPage * (pages - 1 - i));
    }
  }

  DmaResult Read(uint64_t from, size_t size) {
    read_.assign(size, std::byte{0xee});
    return dma_.Read({from}, read_);
  }
  DmaResult Write(uint64_t to, const Bytes& bytes) {
    return dma_.Write({to}, bytes);
  }
  Bytes Memory(uint64_t physical, size_t size) {
    Bytes bytes(size);
    EXPECT_EQ(DmaSpace(&memory_).Read({physical}, bytes), DmaResult::kOk);
    return bytes;
  }
  // No byte of any region has changed from zero.
  void ExpectUntouched() const {
    for (const auto& backing : {low_, high_, rom_}) {
      const std::byte* const data = backing->data();
      EXPECT_TRUE(std::all_of(data, data + backing->size(),
                              [](std::byte b) { return b == std::byte{0}; }));
    }
  }

  std::shared_ptr<const MemoryBacking> low_, high_, rom_;
  GuestMemory memory_;
  DmaGate gate_;
  IovaMap map_;
  DmaSpace dma_{&memory_, nullptr, &map_};
  Bytes read_;
};

// --- Transfers ---

TEST_F(DmaTranslationTest, BytesLieWhereTheyAreMapped) {
  Map(kIova, kPage, kRam + 0x5000);
  const Bytes bytes = Pattern(100);
  EXPECT_EQ(Write(kIova + 0x10, bytes), DmaResult::kOk);
  EXPECT_EQ(Memory(kRam + 0x5010, 100), bytes);
  EXPECT_EQ(Memory(kRam + 0x500f, 1), Bytes(1));
  EXPECT_EQ(Memory(kRam + 0x5010 + 100, 1), Bytes(1));
  EXPECT_EQ(Read(kIova + 0x10, 100), DmaResult::kOk);
  EXPECT_EQ(read_, bytes);
}

TEST_F(DmaTranslationTest, GuestPhysicalAddressesAreNoAddressesHere) {
  Map(kIova, kPage, kRam);
  EXPECT_EQ(Write(kRam, Pattern(8)), DmaResult::kOutside);
  EXPECT_EQ(Read(kRam, 8), DmaResult::kOutside);
  ExpectUntouched();
}

TEST_F(DmaTranslationTest, TransferCrossesPagesThatAreNotNeighboursInMemory) {
  MapReversed(4);
  const Bytes bytes = Pattern(2 * kPage + 20);
  EXPECT_EQ(Write(kIova + kPage - 10, bytes), DmaResult::kOk);
  const auto part = [&bytes](size_t at, size_t size) {
    return Bytes(bytes.begin() + static_cast<ptrdiff_t>(at),
                 bytes.begin() + static_cast<ptrdiff_t>(at + size));
  };
  EXPECT_EQ(Memory(kRam + 4 * kPage - 10, 10), part(0, 10));
  EXPECT_EQ(Memory(kRam + 2 * kPage, kPage), part(10, kPage));
  EXPECT_EQ(Memory(kRam + kPage, kPage), part(kPage + 10, kPage));
  EXPECT_EQ(Memory(kRam, 10), part(2 * kPage + 10, 10));
  EXPECT_EQ(Memory(kRam + 10, 1), Bytes(1));
  EXPECT_EQ(Read(kIova + kPage - 10, bytes.size()), DmaResult::kOk);
  EXPECT_EQ(read_, bytes);
}

TEST_F(DmaTranslationTest, OneMappingMaySpanRegions) {
  Map(kIova, 2 * kPage, kRam + kRegion - kPage);
  const Bytes bytes = Pattern(2 * kPage);
  EXPECT_EQ(Write(kIova, bytes), DmaResult::kOk);
  EXPECT_EQ(low_->data()[kRegion - 1], bytes[kPage - 1]);
  EXPECT_EQ(high_->data()[0], bytes[kPage]);
  EXPECT_EQ(Read(kIova, 2 * kPage), DmaResult::kOk);
  EXPECT_EQ(read_, bytes);
}

TEST_F(DmaTranslationTest, TwoAddressesMayBeOnePlace) {
  Map(kIova, kPage, kRam);
  Map(kIova + kPage, kPage, kRam);
  EXPECT_EQ(Write(kIova + 8, Pattern(8)), DmaResult::kOk);
  EXPECT_EQ(Read(kIova + kPage + 8, 8), DmaResult::kOk);
  EXPECT_EQ(read_, Pattern(8));
}

TEST_F(DmaTranslationTest, RangeThatIsMappedInPartIsNotTouched) {
  Map(kIova, 2 * kPage, kRam);
  Map(kIova + 3 * kPage, kPage, kRam + 3 * kPage);
  for (const GuestRange range :
       {Range(kIova + 2 * kPage - 1, 2), Range(kIova, 4 * kPage),
        Range(kIova - 1, 2), Range(kIova + 2 * kPage, 8)}) {
    EXPECT_EQ(Write(range.start.value, Pattern(range.size)),
              DmaResult::kOutside);
    EXPECT_EQ(Read(range.start.value, range.size), DmaResult::kOutside);
    EXPECT_THAT(read_, Each(std::byte{0xee}));
    EXPECT_EQ(dma_.Check(range, false), DmaResult::kOutside);
  }
  ExpectUntouched();
}

TEST_F(DmaTranslationTest, PermissionOfAMappingHolds) {
  Map(kIova, kPage, kRam, /*readable=*/true, /*writable=*/false);
  Map(kIova + kPage, kPage, kRam + kPage, /*readable=*/false,
      /*writable=*/true);
  EXPECT_EQ(Read(kIova, 8), DmaResult::kOk);
  EXPECT_EQ(Write(kIova, Pattern(8)), DmaResult::kReadOnly);
  EXPECT_EQ(dma_.Check(Range(kIova, 8), true), DmaResult::kReadOnly);
  EXPECT_EQ(Read(kIova + kPage, 8), DmaResult::kOutside);
  EXPECT_EQ(dma_.Check(Range(kIova + kPage, 8), false), DmaResult::kOutside);
  // Neither is right across both.
  EXPECT_EQ(Read(kIova + kPage - 4, 8), DmaResult::kOutside);
  EXPECT_EQ(Write(kIova + kPage - 4, Pattern(8)), DmaResult::kReadOnly);
  ExpectUntouched();
  EXPECT_EQ(Write(kIova + kPage, Pattern(8)), DmaResult::kOk);
}

TEST_F(DmaTranslationTest, MappingToRomIsNotWritten) {
  Map(kIova, kPage, kRom);
  EXPECT_EQ(Read(kIova, 8), DmaResult::kOk);
  EXPECT_EQ(Write(kIova, Pattern(8)), DmaResult::kReadOnly);
  ExpectUntouched();
}

TEST_F(DmaTranslationTest, MappingToNoMemoryIsWorthNothing) {
  Map(kIova, kPage, 0x400000);
  Map(kIova + kPage, 2 * kPage, kRam + 2 * kRegion - kPage);
  EXPECT_EQ(Read(kIova, 1), DmaResult::kOutside);
  EXPECT_EQ(Write(kIova + kPage, Pattern(kPage + 1)), DmaResult::kOutside);
  ExpectUntouched();
  EXPECT_EQ(Write(kIova + kPage, Pattern(kPage)), DmaResult::kOk);
}

TEST_F(DmaTranslationTest, RangeThatWrapsIsNotTouched) {
  constexpr uint64_t kLastPage = UINT64_MAX - (kPage - 1);
  Map(kLastPage, kPage, kRam);
  Map(0, kPage, kRam + kPage);  // what a wrapped address would hit
  EXPECT_EQ(Write(UINT64_MAX, Pattern(2)), DmaResult::kOutside);
  EXPECT_EQ(Write(kLastPage, Pattern(kPage + 1)), DmaResult::kOutside);
  EXPECT_EQ(Write(kLastPage + 2, Pattern(kCopy)), DmaResult::kOutside);
  EXPECT_EQ(Read(UINT64_MAX, 2), DmaResult::kOutside);
  EXPECT_EQ(dma_.Check(Range(UINT64_MAX, UINT64_MAX), true),
            DmaResult::kOutside);
  EXPECT_EQ(dma_.Pin(Range(UINT64_MAX, 2), true).result, DmaResult::kOutside);
  uint16_t word = 0;
  EXPECT_EQ(dma_.Load16({UINT64_MAX}, std::memory_order_relaxed, &word),
            DmaResult::kOutside);
  ExpectUntouched();
  EXPECT_EQ(Write(kLastPage, Pattern(kPage)), DmaResult::kOk);
}

TEST_F(DmaTranslationTest, EmptyTransferSucceedsAnywhere) {
  EXPECT_EQ(Write(kIova, {}), DmaResult::kOk);
  EXPECT_EQ(Read(UINT64_MAX, 0), DmaResult::kOk);
  EXPECT_EQ(dma_.Check(Range(kIova, 0), true), DmaResult::kOk);
}

TEST_F(DmaTranslationTest, ClosedGateStopsEverythingBeforeItIsTranslated) {
  ScriptedTranslator translator(
      [](GuestRange, bool) -> DmaTranslation { return {}; });
  DmaSpace dma(&memory_, &gate_, &translator);
  Bytes bytes(2);
  uint16_t word = 0;
  EXPECT_EQ(dma.Write({kIova}, bytes), DmaResult::kDisabled);
  EXPECT_EQ(dma.Read({kIova}, bytes), DmaResult::kDisabled);
  EXPECT_EQ(dma.Check(Range(kIova, 1), false), DmaResult::kDisabled);
  EXPECT_EQ(dma.Load16({kIova}, std::memory_order_relaxed, &word),
            DmaResult::kDisabled);
  EXPECT_EQ(dma.Store16({kIova}, 1, std::memory_order_relaxed),
            DmaResult::kDisabled);
  EXPECT_EQ(dma.Pin(Range(kIova, 1), true).result, DmaResult::kDisabled);
  EXPECT_EQ(translator.uses(), 0);
}

// --- Changes ---

TEST_F(DmaTranslationTest, EachAccessIsTranslatedAnew) {
  Map(kIova, kPage, kRam);
  EXPECT_EQ(Write(kIova, Pattern(8)), DmaResult::kOk);
  ASSERT_OK(map_.Unmap(Range(kIova, kPage)));
  EXPECT_EQ(Write(kIova, Pattern(8)), DmaResult::kOutside);
  uint16_t word = 0;
  EXPECT_EQ(dma_.Load16({kIova}, std::memory_order_relaxed, &word),
            DmaResult::kOutside);
  Map(kIova, kPage, kRam + kPage);
  EXPECT_EQ(Read(kIova, 8), DmaResult::kOk);
  EXPECT_EQ(read_, Bytes(8));
  EXPECT_EQ(Memory(kRam, 8), Pattern(8));
}

TEST_F(DmaTranslationTest, RegionThatGoesIsGoneBehindItsMappingToo) {
  Map(kIova, kPage, kRam);
  EXPECT_EQ(Write(kIova, Pattern(8)), DmaResult::kOk);
  ASSERT_OK(memory_.Remove(Range(kRam, kRegion)));
  EXPECT_EQ(Write(kIova, Pattern(8)), DmaResult::kOutside);
  const auto fresh = AddRegion(kRam, kRegion);
  EXPECT_EQ(Write(kIova, Pattern(8)), DmaResult::kOk);
  EXPECT_EQ(fresh->data()[0], Pattern(8)[0]);
}

TEST_F(DmaTranslationTest, ShortAccessIsTranslatedOnce) {
  ScriptedTranslator translator([](GuestRange iova, bool) -> DmaTranslation {
    return {.result = DmaResult::kOk, .range = {{kRam}, iova.size}};
  });
  DmaSpace dma(&memory_, nullptr, &translator);
  Bytes bytes(kPage);
  uint16_t word = 0;
  EXPECT_EQ(dma.Write({0x10}, bytes), DmaResult::kOk);
  EXPECT_EQ(translator.translations(), 1);
  EXPECT_EQ(dma.Read({0x10}, bytes), DmaResult::kOk);
  EXPECT_EQ(dma.Load16({0x10}, std::memory_order_relaxed, &word),
            DmaResult::kOk);
  EXPECT_EQ(dma.Store16({0x10}, 1, std::memory_order_relaxed), DmaResult::kOk);
  EXPECT_EQ(dma.Check(Range(0x10, 8), true), DmaResult::kOk);
  EXPECT_EQ(translator.translations(), 5);
  EXPECT_EQ(translator.uses(), 5);
}

// --- Long ranges ---

TEST_F(DmaTranslationTest, LongTransferIsCheckedToItsEndBeforeItStarts) {
  MapReversed(40);
  EXPECT_EQ(Write(kIova, Pattern(40 * kPage + 1)), DmaResult::kOutside);
  ExpectUntouched();
  const Bytes bytes = Pattern(40 * kPage);
  EXPECT_EQ(Write(kIova, bytes), DmaResult::kOk);
  EXPECT_EQ(Read(kIova, 40 * kPage), DmaResult::kOk);
  EXPECT_EQ(read_, bytes);
}

TEST_F(DmaTranslationTest, MappingThatGoesStopsALongTransferBetweenUses) {
  bool mapped = true;
  ScriptedTranslator translator([&](GuestRange iova, bool) -> DmaTranslation {
    if (!mapped && iova.start.value >= kCopy) return {};
    return {.result = DmaResult::kOk,
            .range = {{kRam + iova.start.value}, iova.size}};
  });
  // Two to check, one for each part.
  translator.OnEnd([&](int uses) { mapped = uses < 3; });
  DmaSpace dma(&memory_, nullptr, &translator);
  const Bytes bytes = Pattern(2 * kCopy);
  EXPECT_EQ(dma.Write({0}, bytes), DmaResult::kOutside);
  EXPECT_EQ(Memory(kRam + kCopy - 1, 1)[0], bytes[kCopy - 1]);
  EXPECT_EQ(Memory(kRam + kCopy, 1)[0], std::byte{0});
}

TEST_F(DmaTranslationTest, GateThatClosesStopsALongTransferBetweenUses) {
  ScriptedTranslator translator([](GuestRange iova, bool) -> DmaTranslation {
    return {.result = DmaResult::kOk,
            .range = {{kRam + iova.start.value}, iova.size}};
  });
  translator.OnEnd([&](int uses) { gate_.Set(uses < 3); });
  gate_.Set(true);
  DmaSpace dma(&memory_, &gate_, &translator);
  const Bytes bytes = Pattern(2 * kCopy);
  EXPECT_EQ(dma.Write({0}, bytes), DmaResult::kDisabled);
  EXPECT_EQ(Memory(kRam + kCopy - 1, 1)[0], bytes[kCopy - 1]);
  EXPECT_EQ(Memory(kRam + kCopy, 1)[0], std::byte{0});
}

TEST_F(DmaTranslationTest, CheckLooksAtSoManyPiecesAndTheTransferAtAll) {
  constexpr uint64_t kPieces = DmaSpace::kMaxCheckedPieces;
  MapReversed(kPieces);
  const GuestRange past = Range(kIova, kPieces * kPage + 1);
  EXPECT_EQ(dma_.Check(past, true), DmaResult::kOk);
  EXPECT_EQ(dma_.Check(Range(kIova, uint64_t{1} << 32), true), DmaResult::kOk);
  EXPECT_EQ(Write(kIova, Pattern(past.size)), DmaResult::kOutside);
  ExpectUntouched();
  ASSERT_OK(map_.Unmap(Range(kIova + (kPieces - 1) * kPage, kPage)));
  EXPECT_EQ(dma_.Check(past, true), DmaResult::kOutside);
}

TEST_F(DmaTranslationTest, CheckOfAHugeRangeIsBoundedWork) {
  // A byte at a time: as fine as it gets.
  ScriptedTranslator translator([](GuestRange, bool) -> DmaTranslation {
    return {.result = DmaResult::kOk, .range = {{kRam}, 1}};
  });
  DmaSpace dma(&memory_, nullptr, &translator);
  EXPECT_EQ(dma.Check(Range(0, UINT64_MAX), true), DmaResult::kOk);
  EXPECT_EQ(translator.translations(),
            static_cast<int>(DmaSpace::kMaxCheckedPieces));
  // A transfer takes the bytes one by one, then.
  const Bytes bytes = Pattern(100);
  EXPECT_EQ(dma.Write({0}, bytes), DmaResult::kOk);
  EXPECT_EQ(Memory(kRam, 1)[0], bytes[99]);
}

// --- Translators that say what is not true ---

TEST_F(DmaTranslationTest, WhateverATranslatorSaysOnlyTheMapIsReached) {
  std::optional<DmaTranslation> answer;
  ScriptedTranslator translator(
      [&answer](GuestRange, bool) -> DmaTranslation { return *answer; });
  DmaSpace dma(&memory_, nullptr, &translator);
  const auto says = [&answer](GuestRange range) {
    answer = {.result = DmaResult::kOk, .range = range};
  };
  Bytes bytes = Pattern(16);
  says(Range(kRam, 0));
  EXPECT_EQ(dma.Write({0}, bytes), DmaResult::kOutside);
  says(Range(UINT64_MAX, UINT64_MAX));
  EXPECT_EQ(dma.Write({0}, bytes), DmaResult::kOutside);
  says(Range(kRom, 16));
  EXPECT_EQ(dma.Write({0}, bytes), DmaResult::kReadOnly);
  ExpectUntouched();
  // More than was asked for, and past the end of a region.
  says(Range(kRam, UINT64_MAX));
  EXPECT_EQ(dma.Write({0}, bytes), DmaResult::kOk);
  EXPECT_EQ(Memory(kRam, 16), bytes);
  EXPECT_EQ(Memory(kRam + 16, 1), Bytes(1));
  says(Range(kRam + 2 * kRegion - 8, 16));
  EXPECT_EQ(dma.Write({0}, bytes), DmaResult::kOk);  // the same 8 bytes twice
  EXPECT_EQ(Memory(kRam + 2 * kRegion - 8, 8),
            Bytes(bytes.begin() + 8, bytes.end()));
}

TEST_F(DmaTranslationTest, FailureInTheMiddleOfACopyIsAFailure) {
  int call = 0;
  ScriptedTranslator translator([&](GuestRange iova, bool) -> DmaTranslation {
    // Both halves are there when it is checked, and one when it is copied.
    if (++call > 2) return {};
    return {.result = DmaResult::kOk, .range = {{kRam + iova.start.value}, 8}};
  });
  DmaSpace dma(&memory_, nullptr, &translator);
  EXPECT_EQ(dma.Write({0}, Pattern(16)), DmaResult::kOutside);
  EXPECT_EQ(Memory(kRam + 8, 8), Bytes(8));
}

// --- Words ---

TEST_F(DmaTranslationTest, WordsLieWhereTheyAreMapped) {
  MapReversed(2);
  EXPECT_EQ(dma_.Store16({kIova + 2}, 0x1234, std::memory_order_release),
            DmaResult::kOk);
  EXPECT_EQ(Memory(kRam + kPage + 2, 2),
            Bytes({std::byte{0x34}, std::byte{0x12}}));
  uint16_t value = 0;
  EXPECT_EQ(dma_.Load16({kIova + 2}, std::memory_order_acquire, &value),
            DmaResult::kOk);
  EXPECT_EQ(value, 0x1234);
}

TEST_F(DmaTranslationTest, WordThatCannotBeAccessedAtOnceIsRefused) {
  MapReversed(1);
  // A word in two mappings that could be one.
  Map(0x1000, 0x11, kRam);
  Map(0x1011, 0x7, kRam + 0x11);
  Map(0x2000, kPage, kRam, /*readable=*/true, /*writable=*/false);
  Map(0x3000, kPage, kRam, /*readable=*/false, /*writable=*/true);
  uint16_t value = 7;
  for (const uint64_t address :
       {kIova + 1, kIova + kPage, kIova + kPage - 1, uint64_t{0x1010}}) {
    EXPECT_EQ(dma_.Load16({address}, std::memory_order_relaxed, &value),
              DmaResult::kOutside);
    EXPECT_EQ(dma_.Store16({address}, 1, std::memory_order_relaxed),
              DmaResult::kOutside);
  }
  EXPECT_EQ(dma_.Store16({0x2000}, 1, std::memory_order_relaxed),
            DmaResult::kReadOnly);
  EXPECT_EQ(dma_.Load16({0x3000}, std::memory_order_relaxed, &value),
            DmaResult::kOutside);
  EXPECT_EQ(value, 7);
  ExpectUntouched();
}

TEST_F(DmaTranslationTest, WordAtAnOddPlaceInMemoryIsRefused) {
  ScriptedTranslator translator([](GuestRange iova, bool) -> DmaTranslation {
    return {.result = DmaResult::kOk,
            .range = {{kRam + 1 + iova.start.value}, iova.size}};
  });
  DmaSpace dma(&memory_, nullptr, &translator);
  uint16_t value = 7;
  EXPECT_EQ(dma.Load16({0x100}, std::memory_order_relaxed, &value),
            DmaResult::kOutside);
  EXPECT_EQ(dma.Store16({0x100}, 1, std::memory_order_relaxed),
            DmaResult::kOutside);
  ExpectUntouched();
}

// --- Pins ---

TEST_F(DmaTranslationTest, PinGivesThePlaceOfTheBytesAndBothHolds) {
  MapReversed(2);
  DmaSpace::Pinned pinned = dma_.Pin(Range(kIova + 0x100, 0x100), true);
  EXPECT_EQ(pinned.result, DmaResult::kOk);
  EXPECT_EQ(pinned.data, low_->data() + kPage + 0x100);
  EXPECT_EQ(pinned.hold, low_);
  EXPECT_TRUE(map_.pinned(Range(kIova, kPage)));

  // The hold keeps the memory, not the permission.
  ASSERT_OK(map_.Unmap(Range(kIova, kPage)));
  EXPECT_EQ(dma_.Pin(Range(kIova + 0x100, 0x100), true).result,
            DmaResult::kOutside);
  pinned.data[0] = std::byte{1};
  EXPECT_TRUE(map_.pinned(Range(kIova, kPage)));
  pinned = {};
  EXPECT_FALSE(map_.pinned(Range(kIova, kPage)));
}

TEST_F(DmaTranslationTest, PinRefusesWhatIsNotInOnePieceOrNotAllowed) {
  MapReversed(2);
  Map(0x1000, 2 * kPage, kRam + kRegion - kPage);  // one mapping, two regions
  Map(0x8000, kPage, kRam, /*readable=*/true, /*writable=*/false);
  for (const GuestRange range :
       {Range(kIova, 2 * kPage), Range(0x1000, 2 * kPage), Range(0x9000, 1),
        Range(0x9000, 0), Range(kIova + 2 * kPage - 1, 2),
        Range(kIova, UINT64_MAX)}) {
    const DmaSpace::Pinned pinned = dma_.Pin(range, false);
    EXPECT_EQ(pinned.result, DmaResult::kOutside);
    EXPECT_EQ(pinned.data, nullptr);
    EXPECT_EQ(pinned.hold, nullptr);
    EXPECT_EQ(pinned.mapping, nullptr);
  }
  EXPECT_EQ(dma_.Pin(Range(0x8000, 1), true).result, DmaResult::kReadOnly);
  EXPECT_EQ(dma_.Pin(Range(0x8000, 0), false).data, low_->data());
}

// --- The write hook ---

TEST_F(DmaTranslationTest, HookSeesWhereInMemoryIsWritten) {
  std::vector<GuestRange> noted;
  memory_.SetWriteHook(
      [](void* context, GuestRange range) {
        static_cast<std::vector<GuestRange>*>(context)->push_back(range);
      },
      &noted);
  MapReversed(2);
  EXPECT_EQ(Write(kIova + kPage - 8, Pattern(16)), DmaResult::kOk);
  EXPECT_EQ(dma_.Store16({kIova + 4}, 1, std::memory_order_relaxed),
            DmaResult::kOk);
  EXPECT_EQ(dma_.Pin(Range(kIova, 0x200), true).result, DmaResult::kOk);
  EXPECT_THAT(noted, ElementsAre(Range(kRam + 2 * kPage - 8, 8), Range(kRam, 8),
                                 Range(kRam + kPage + 4, 2),
                                 Range(kRam + kPage, 0x200)));
  noted.clear();
  EXPECT_EQ(Read(kIova, 16), DmaResult::kOk);
  EXPECT_EQ(Write(kIova + 2 * kPage - 8, Pattern(16)), DmaResult::kOutside);
  EXPECT_EQ(dma_.Pin(Range(kIova, 8), false).result, DmaResult::kOk);
  EXPECT_THAT(noted, IsEmpty());
  memory_.SetWriteHook(nullptr, nullptr);
}

// --- Threads ---

// What an embedder has to know before it tells the guest that a mapping is
// gone: the page is the guest's alone from then on.
TEST_F(DmaTranslationTest, NobodyWritesThroughAMappingThatHasGone) {
  std::atomic<bool> stop{false};
  std::vector<std::thread> devices;
  for (int i = 0; i < 2; ++i) {
    devices.emplace_back([this, &stop] {
      DmaSpace dma(&memory_, nullptr, &map_);
      const Bytes bytes = Pattern(4 * kPage);
      while (!stop.load()) {
        const DmaResult result = dma.Write({kIova}, bytes);
        ASSERT_TRUE(result == DmaResult::kOk || result == DmaResult::kOutside);
      }
    });
  }
  const Bytes mine(4 * kPage, std::byte{0xAA});
  for (int i = 0; i < 50; ++i) {
    MapReversed(4);
    std::this_thread::yield();
    ASSERT_OK(map_.Unmap(Range(kIova, 4 * kPage)));
    CopyToShared(low_->data(), mine);
    for (int look = 0; look < 4; ++look) {
      ASSERT_EQ(Memory(kRam, mine.size()), mine);
      std::this_thread::yield();
    }
  }
  stop.store(true);
  for (std::thread& device : devices) device.join();
}

}  // namespace
}  // namespace vmsg::vmm
