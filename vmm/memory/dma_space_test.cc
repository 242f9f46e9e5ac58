#include "vmm/memory/dma_space.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/shared_copy.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPiece = DmaSpace::kMaxCopyBytes;

constexpr GuestRange Range(uint64_t start, uint64_t size) {
  return {.start = {start}, .size = size};
}

using Bytes = std::vector<std::byte>;

Bytes Pattern(size_t size) {
  Bytes bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = std::byte(i * 31 + i / 256 + 1);
  return bytes;
}

// RAM at [0x1000, 0x3000) and, adjacent, [0x3000, 0x5000); a hole; ROM at
// [0x8000, 0x9000); RAM in the last page of the address space.
class DmaSpaceTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kLastPage = UINT64_MAX - (kPage - 1);

  DmaSpaceTest() {
    low_ = AddRegion(0x1000, 0x2000);
    high_ = AddRegion(0x3000, 0x2000);
    rom_ = AddRegion(0x8000, kPage, /*read_only=*/true);
    last_ = AddRegion(kLastPage, kPage);
  }

  std::shared_ptr<const MemoryBacking> AddRegion(uint64_t start, uint64_t size,
                                                 bool read_only = false) {
    auto backing = *MemoryBacking::CreateAnonymous(size, "test");
    EXPECT_OK(memory_.Add({.range = Range(start, size),
                           .read_only = read_only,
                           .backing = backing}));
    return backing;
  }

  DmaResult Read(uint64_t from, size_t size) {
    read_.assign(size, std::byte{0xee});
    return dma_.Read({from}, read_);
  }
  DmaResult Write(uint64_t to, const Bytes& bytes) {
    return dma_.Write({to}, bytes);
  }
  // No byte of any region has changed from zero.
  bool AllUntouched() const {
    for (const auto& backing : {low_, high_, rom_, last_}) {
      const std::byte* const data = backing->data();
      if (std::any_of(data, data + backing->size(),
                      [](std::byte b) { return b != std::byte{0}; })) {
        return false;
      }
    }
    return true;
  }

  std::shared_ptr<const MemoryBacking> low_, high_, rom_, last_;
  GuestMemory memory_;
  DmaGate gate_;
  DmaSpace dma_{&memory_};
  Bytes read_;
};

TEST_F(DmaSpaceTest, WrittenBytesAreReadBack) {
  const Bytes bytes = Pattern(100);
  EXPECT_EQ(Write(0x1234, bytes), DmaResult::kOk);
  EXPECT_EQ(low_->data()[0x234], bytes[0]);
  EXPECT_EQ(low_->data()[0x233], std::byte{0});
  EXPECT_EQ(low_->data()[0x234 + 100], std::byte{0});
  EXPECT_EQ(Read(0x1234, 100), DmaResult::kOk);
  EXPECT_EQ(read_, bytes);
}

TEST_F(DmaSpaceTest, ATransferSpansAdjacentRegions) {
  const Bytes bytes = Pattern(0x1001);
  EXPECT_EQ(Write(0x2fff, bytes), DmaResult::kOk);
  EXPECT_EQ(low_->data()[0x1fff], bytes[0]);
  EXPECT_EQ(high_->data()[0], bytes[1]);
  EXPECT_EQ(high_->data()[0xfff], bytes[0x1000]);
  EXPECT_EQ(Read(0x2fff, 0x1001), DmaResult::kOk);
  EXPECT_EQ(read_, bytes);
}

TEST_F(DmaSpaceTest, ARegionStartsAtItsOffsetInTheBacking) {
  ASSERT_OK(memory_.Add({.range = Range(0x10000, kPage),
                         .backing = high_,
                         .backing_offset = kPage}));
  EXPECT_EQ(Write(0x10000, Pattern(4)), DmaResult::kOk);
  EXPECT_EQ(high_->data()[kPage], Pattern(4)[0]);
}

TEST_F(DmaSpaceTest, TheLastByteOfTheAddressSpaceIsReachable) {
  const Bytes bytes = Pattern(kPage);
  EXPECT_EQ(Write(kLastPage, bytes), DmaResult::kOk);
  EXPECT_EQ(Read(kLastPage, kPage), DmaResult::kOk);
  EXPECT_EQ(read_, bytes);
  EXPECT_EQ(Read(UINT64_MAX, 1), DmaResult::kOk);
}

TEST_F(DmaSpaceTest, ATransferThatWrapsTouchesNothing) {
  AddRegion(0, kPage);  // What a wrapped address would hit.
  EXPECT_EQ(Write(UINT64_MAX, Pattern(2)), DmaResult::kOutside);
  EXPECT_EQ(Write(kLastPage, Pattern(kPage + 1)), DmaResult::kOutside);
  EXPECT_TRUE(AllUntouched());
  EXPECT_EQ(Read(UINT64_MAX, 2), DmaResult::kOutside);
  EXPECT_EQ(dma_.Check(Range(0x1000, UINT64_MAX), false), DmaResult::kOutside);
  EXPECT_EQ(dma_.Check(Range(UINT64_MAX, UINT64_MAX), true),
            DmaResult::kOutside);
}

TEST_F(DmaSpaceTest, ATransferThatEndsInAHoleTouchesNothing) {
  EXPECT_EQ(Write(0x4fff, Pattern(2)), DmaResult::kOutside);
  EXPECT_EQ(Write(0x0fff, Pattern(2)), DmaResult::kOutside);
  EXPECT_EQ(Write(0x1000, Pattern(0x4001)), DmaResult::kOutside);
  EXPECT_TRUE(AllUntouched());
  EXPECT_EQ(Read(0x4fff, 2), DmaResult::kOutside);
  EXPECT_THAT(read_, ElementsAre(std::byte{0xee}, std::byte{0xee}));
}

TEST_F(DmaSpaceTest, AReadOnlyRegionIsReadAndNotWritten) {
  rom_->data()[0] = std::byte{5};
  EXPECT_EQ(Read(0x8000, 1), DmaResult::kOk);
  EXPECT_THAT(read_, ElementsAre(std::byte{5}));
  EXPECT_EQ(Write(0x8000, Pattern(1)), DmaResult::kReadOnly);
  EXPECT_EQ(rom_->data()[0], std::byte{5});
  EXPECT_EQ(dma_.Check(Range(0x8000, kPage), false), DmaResult::kOk);
  EXPECT_EQ(dma_.Check(Range(0x8000, kPage), true), DmaResult::kReadOnly);
}

TEST_F(DmaSpaceTest, AWriteThatEndsInAReadOnlyRegionTouchesNothing) {
  AddRegion(0x7000, kPage);
  EXPECT_EQ(Write(0x7fff, Pattern(2)), DmaResult::kReadOnly);
  EXPECT_EQ(Read(0x7fff, 2), DmaResult::kOk);
  EXPECT_THAT(read_, ElementsAre(std::byte{0}, std::byte{0}));
}

TEST_F(DmaSpaceTest, AnEmptyTransferSucceedsAnywhere) {
  EXPECT_EQ(Write(0x6000, {}), DmaResult::kOk);
  EXPECT_EQ(Read(UINT64_MAX, 0), DmaResult::kOk);
  EXPECT_EQ(dma_.Check(Range(0x6000, 0), true), DmaResult::kOk);
}

// --- The gate ---

TEST_F(DmaSpaceTest, AClosedGateStopsEverything) {
  DmaSpace dma(&memory_, &gate_);
  Bytes bytes = Pattern(2);
  uint16_t word = 0x1234;
  EXPECT_EQ(dma.Write({0x1000}, bytes), DmaResult::kDisabled);
  EXPECT_EQ(dma.Read({0x1000}, bytes), DmaResult::kDisabled);
  EXPECT_EQ(dma.Check(Range(0x1000, 1), false), DmaResult::kDisabled);
  EXPECT_EQ(dma.Load16({0x1000}, std::memory_order_relaxed, &word),
            DmaResult::kDisabled);
  EXPECT_EQ(dma.Store16({0x1000}, 1, std::memory_order_relaxed),
            DmaResult::kDisabled);
  EXPECT_EQ(dma.Pin(Range(0x1000, 1), true).result, DmaResult::kDisabled);
  EXPECT_EQ(dma.Write({0x6000}, {}), DmaResult::kDisabled);
  EXPECT_TRUE(AllUntouched());
  EXPECT_EQ(bytes, Pattern(2));
  EXPECT_EQ(word, 0x1234);

  gate_.Set(true);
  EXPECT_EQ(dma.Write({0x1000}, bytes), DmaResult::kOk);
  gate_.Set(false);
  EXPECT_EQ(dma.Read({0x1000}, bytes), DmaResult::kDisabled);
}

// --- Words ---

TEST_F(DmaSpaceTest, WordsAreLittleEndian) {
  EXPECT_EQ(dma_.Store16({0x1002}, 0x1234, std::memory_order_release),
            DmaResult::kOk);
  EXPECT_EQ(low_->data()[1], std::byte{0});
  EXPECT_EQ(low_->data()[2], std::byte{0x34});
  EXPECT_EQ(low_->data()[3], std::byte{0x12});
  EXPECT_EQ(low_->data()[4], std::byte{0});
  uint16_t value = 0;
  EXPECT_EQ(dma_.Load16({0x1002}, std::memory_order_acquire, &value),
            DmaResult::kOk);
  EXPECT_EQ(value, 0x1234);
}

TEST_F(DmaSpaceTest, AWordThatCannotBeAccessedAtOnceIsRefused) {
  uint16_t value = 7;
  for (const uint64_t address :
       {uint64_t{0x1001}, uint64_t{0x6000}, uint64_t{0x5000}, UINT64_MAX}) {
    EXPECT_EQ(dma_.Load16({address}, std::memory_order_relaxed, &value),
              DmaResult::kOutside);
    EXPECT_EQ(dma_.Store16({address}, 1, std::memory_order_relaxed),
              DmaResult::kOutside);
  }
  EXPECT_EQ(dma_.Store16({0x8000}, 1, std::memory_order_relaxed),
            DmaResult::kReadOnly);
  EXPECT_EQ(value, 7);
  EXPECT_TRUE(AllUntouched());
}

TEST_F(DmaSpaceTest, AWordAcrossTwoRegionsIsRefused) {
  // The first region ends with half a word.
  ASSERT_OK(memory_.Add({.range = Range(0x10000, 0x11), .backing = high_}));
  ASSERT_OK(memory_.Add({.range = Range(0x10011, 0x10),
                         .backing = high_,
                         .backing_offset = 0x101}));
  uint16_t value = 0;
  EXPECT_EQ(dma_.Check(Range(0x10010, 2), true), DmaResult::kOk);
  EXPECT_EQ(dma_.Load16({0x10010}, std::memory_order_relaxed, &value),
            DmaResult::kOutside);
  EXPECT_EQ(dma_.Store16({0x10010}, 1, std::memory_order_relaxed),
            DmaResult::kOutside);
  EXPECT_EQ(dma_.Load16({0x1000e}, std::memory_order_relaxed, &value),
            DmaResult::kOk);
}

TEST_F(DmaSpaceTest, StoreReleasePublishesWhatWasWrittenBefore) {
  std::thread device([this] {
    DmaSpace dma(&memory_);
    EXPECT_EQ(dma.Write({0x1000}, Pattern(64)), DmaResult::kOk);
    EXPECT_EQ(dma.Store16({0x2000}, 1, std::memory_order_release),
              DmaResult::kOk);
  });
  uint16_t index = 0;
  while (index == 0) {
    ASSERT_EQ(dma_.Load16({0x2000}, std::memory_order_acquire, &index),
              DmaResult::kOk);
  }
  EXPECT_EQ(Read(0x1000, 64), DmaResult::kOk);
  EXPECT_EQ(read_, Pattern(64));
  device.join();
}

// --- Pin ---

TEST_F(DmaSpaceTest, PinGivesThePlaceOfTheBytes) {
  const DmaSpace::Pinned pinned = dma_.Pin(Range(0x1100, 0x100), true);
  EXPECT_EQ(pinned.result, DmaResult::kOk);
  EXPECT_EQ(pinned.data, low_->data() + 0x100);
  EXPECT_EQ(pinned.hold, low_);
  EXPECT_EQ(dma_.Pin(Range(0x8000, kPage), false).data, rom_->data());
}

TEST_F(DmaSpaceTest, PinRefusesWhatIsNotInOneRegionOrNotWritable) {
  for (const GuestRange range :
       {Range(0x2fff, 2), Range(0x4fff, 2), Range(0x6000, 1), Range(0x6000, 0),
        Range(UINT64_MAX, 2), Range(0x1000, UINT64_MAX)}) {
    const DmaSpace::Pinned pinned = dma_.Pin(range, false);
    EXPECT_EQ(pinned.result, DmaResult::kOutside);
    EXPECT_EQ(pinned.data, nullptr);
    EXPECT_EQ(pinned.hold, nullptr);
  }
  EXPECT_EQ(dma_.Pin(Range(0x8000, 1), true).result, DmaResult::kReadOnly);
}

TEST_F(DmaSpaceTest, AHoldKeepsARemovedRegionMapped) {
  const std::weak_ptr<const MemoryBacking> alive = low_;
  DmaSpace::Pinned pinned = dma_.Pin(Range(0x1000, 8), true);
  low_.reset();
  ASSERT_OK(memory_.Remove(Range(0x1000, 0x2000)));
  EXPECT_EQ(Read(0x1000, 1), DmaResult::kOutside);
  // The space has looked again; only the hold is left.
  EXPECT_FALSE(alive.expired());
  pinned.data[7] = std::byte{1};
  EXPECT_EQ(pinned.data[7], std::byte{1});
  pinned.hold.reset();
  EXPECT_TRUE(alive.expired());
  low_ = high_;
}

// --- Changes of the map ---

TEST_F(DmaSpaceTest, SeesARegionThatComesAndGoes) {
  EXPECT_EQ(Read(0x20000, 1), DmaResult::kOutside);
  AddRegion(0x20000, kPage);
  EXPECT_EQ(Read(0x20000, 1), DmaResult::kOk);
  ASSERT_OK(memory_.Remove(Range(0x20000, kPage)));
  EXPECT_EQ(Read(0x20000, 1), DmaResult::kOutside);
}

TEST_F(DmaSpaceTest, SeesARegionThatReplacesTheOneItUsedLast) {
  EXPECT_EQ(Write(0x1000, Pattern(1)), DmaResult::kOk);
  ASSERT_OK(memory_.Remove(Range(0x1000, 0x2000)));
  const auto fresh = AddRegion(0x1000, 0x1000);
  EXPECT_EQ(Write(0x1008, Pattern(1)), DmaResult::kOk);
  EXPECT_EQ(fresh->data()[8], Pattern(1)[0]);
  EXPECT_EQ(low_->data()[8], std::byte{0});
}

TEST_F(DmaSpaceTest, KeepsItsSnapshotUntilItLooksAgain) {
  const std::weak_ptr<const MemoryBacking> alive = low_;
  const MemoryMap* const before = &dma_.map();
  EXPECT_EQ(&dma_.map(), before);
  low_.reset();
  ASSERT_OK(memory_.Remove(Range(0x1000, 0x2000)));
  EXPECT_FALSE(alive.expired());
  EXPECT_EQ(dma_.map().regions().size(), 3u);
  EXPECT_TRUE(alive.expired());
  low_ = high_;
}

// --- The write hook and long transfers ---

class DmaHookTest : public DmaSpaceTest {
 protected:
  static constexpr uint64_t kBig = 0x100000;

  DmaHookTest() {
    big_ = AddRegion(kBig, 4 * kPiece);
    memory_.SetWriteHook(
        [](void* context, GuestRange range) {
          static_cast<DmaHookTest*>(context)->OnWrite(range);
        },
        this);
  }

  void OnWrite(GuestRange range) {
    noted_.push_back(range);
    if (on_first_write_ && noted_.size() == 1) on_first_write_();
  }

  std::shared_ptr<const MemoryBacking> big_;
  std::vector<GuestRange> noted_;
  std::function<void()> on_first_write_;
};

TEST_F(DmaHookTest, TheHookSeesEveryWrittenRange) {
  EXPECT_EQ(Write(0x2ff0, Pattern(0x20)), DmaResult::kOk);
  EXPECT_EQ(dma_.Store16({0x1004}, 1, std::memory_order_relaxed),
            DmaResult::kOk);
  EXPECT_EQ(dma_.Pin(Range(0x3000, 0x200), true).result, DmaResult::kOk);
  EXPECT_THAT(noted_, ElementsAre(Range(0x2ff0, 0x20), Range(0x1004, 2),
                                  Range(0x3000, 0x200)));
}

TEST_F(DmaHookTest, TheHookSeesALongWritePieceByPiece) {
  EXPECT_EQ(Write(kBig + 8, Pattern(2 * kPiece + 1)), DmaResult::kOk);
  EXPECT_THAT(noted_, ElementsAre(Range(kBig + 8, kPiece),
                                  Range(kBig + 8 + kPiece, kPiece),
                                  Range(kBig + 8 + 2 * kPiece, 1)));
  EXPECT_EQ(Read(kBig + 8, 2 * kPiece + 1), DmaResult::kOk);
  EXPECT_EQ(read_, Pattern(2 * kPiece + 1));
}

TEST_F(DmaHookTest, TheHookComesBeforeTheBytesChange) {
  on_first_write_ = [this] { EXPECT_EQ(low_->data()[0], std::byte{0}); };
  EXPECT_EQ(Write(0x1000, Pattern(1)), DmaResult::kOk);
  EXPECT_NE(low_->data()[0], std::byte{0});
}

TEST_F(DmaHookTest, TheHookSeesNothingOfReadsAndRefusedWrites) {
  EXPECT_EQ(Read(0x1000, 16), DmaResult::kOk);
  EXPECT_EQ(Write(0x4fff, Pattern(2)), DmaResult::kOutside);
  EXPECT_EQ(Write(0x8000, Pattern(2)), DmaResult::kReadOnly);
  EXPECT_EQ(Write(0x1000, {}), DmaResult::kOk);
  EXPECT_EQ(dma_.Store16({0x1001}, 1, std::memory_order_relaxed),
            DmaResult::kOutside);
  EXPECT_EQ(dma_.Pin(Range(0x1000, 8), false).result, DmaResult::kOk);
  EXPECT_EQ(dma_.Pin(Range(0x2fff, 2), true).result, DmaResult::kOutside);
  EXPECT_THAT(noted_, IsEmpty());
}

TEST_F(DmaHookTest, AGateThatClosesStopsALongWriteBetweenPieces) {
  DmaSpace dma(&memory_, &gate_);
  gate_.Set(true);
  on_first_write_ = [this] { gate_.Set(false); };
  const Bytes bytes = Pattern(2 * kPiece);
  EXPECT_EQ(dma.Write({kBig}, bytes), DmaResult::kDisabled);
  EXPECT_THAT(noted_, ElementsAre(Range(kBig, kPiece)));
  EXPECT_EQ(big_->data()[kPiece - 1], bytes[kPiece - 1]);
  EXPECT_EQ(big_->data()[kPiece], std::byte{0});
}

TEST_F(DmaHookTest, ARegionThatGoesStopsALongWriteBetweenPieces) {
  on_first_write_ = [this] {
    EXPECT_OK(memory_.Remove(Range(kBig, 4 * kPiece)));
  };
  const Bytes bytes = Pattern(2 * kPiece);
  EXPECT_EQ(Write(kBig, bytes), DmaResult::kOutside);
  EXPECT_EQ(big_->data()[kPiece - 1], bytes[kPiece - 1]);
  EXPECT_EQ(big_->data()[kPiece], std::byte{0});
}

TEST_F(DmaHookTest, ALongTransferIsCheckedToItsEndBeforeItStarts) {
  EXPECT_EQ(Write(kBig + 1, Pattern(4 * kPiece)), DmaResult::kOutside);
  EXPECT_THAT(noted_, IsEmpty());
  EXPECT_EQ(big_->data()[1], std::byte{0});
}

// --- Threads ---

TEST_F(DmaSpaceTest, AReaderAndAnUpdaterOfTheMapRunAtOnce) {
  constexpr uint64_t kStart = 0x20000;
  std::atomic<bool> done = false;
  std::thread updater([&] {
    for (int i = 0; i < 300; ++i) {
      const auto backing = AddRegion(kStart, kPage);
      CopyToShared(backing->data(), Pattern(16));
      ASSERT_OK(memory_.Remove(Range(kStart, kPage)));
    }
    done = true;
  });
  int rounds = 0;
  while (!done || rounds == 0) {
    ++rounds;
    Bytes bytes(16);
    // What never changes is always there.
    ASSERT_EQ(dma_.Read({0x1000}, bytes), DmaResult::kOk);
    const DmaResult result = dma_.Read({kStart}, bytes);
    ASSERT_TRUE(result == DmaResult::kOk || result == DmaResult::kOutside);
    const DmaSpace::Pinned pinned = dma_.Pin(Range(kStart, 16), false);
    if (pinned.result == DmaResult::kOk) CopyFromShared(bytes, pinned.data);
  }
  updater.join();
  EXPECT_EQ(Read(kStart, 1), DmaResult::kOutside);
}

TEST_F(DmaSpaceTest, TheGateMayCloseWhileADeviceWrites) {
  gate_.Set(true);
  std::thread device([this] {
    DmaSpace dma(&memory_, &gate_);
    while (dma.Write({0x1000}, Pattern(64)) == DmaResult::kOk) {
    }
  });
  gate_.Set(false);
  device.join();
  EXPECT_EQ(DmaSpace(&memory_, &gate_).Write({0x1000}, Pattern(1)),
            DmaResult::kDisabled);
}

}  // namespace
}  // namespace vmsg::vmm
