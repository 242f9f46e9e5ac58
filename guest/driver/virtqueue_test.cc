#include "guest/driver/virtqueue.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

constexpr uint64_t kBase = 0x80000000;
constexpr uint32_t kSize = 8;

// A descriptor as the device reads it.
struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};

class SplitQueueTest : public testing::Test {
 protected:
  SplitQueueTest() : memory_(1 << 20), arena_(memory_, kBase) {}

  void Create(const SplitQueueOptions& options) {
    // What an earlier owner left must not show.
    std::memset(memory_.data(), 0xEE, memory_.size());
    ASSERT_EQ(queue_.Create(options, &arena_), Error::kNone);
    ASSERT_LE(arena_.used(), SplitQueue::ArenaBytes(options));
  }

  std::byte* At(uint64_t address) { return memory_.data() + (address - kBase); }
  template <typename T>
  T Load(uint64_t address) {
    return LoadAcquire<T>(At(address));
  }
  Descriptor Desc(uint64_t table, uint32_t i) {
    Descriptor result;
    std::memcpy(&result, At(table + 16 * i), 16);
    return result;
  }
  uint16_t AvailIndex() { return Load<uint16_t>(queue_.driver_address() + 2); }
  uint16_t AvailEntry(uint32_t i) {
    return Load<uint16_t>(queue_.driver_address() + 4 + 2 * i);
  }
  uint16_t AvailFlags() { return Load<uint16_t>(queue_.driver_address()); }
  uint16_t UsedEvent() {
    return Load<uint16_t>(queue_.driver_address() + 4 + 2 * queue_.size());
  }
  void SetUsedFlags(uint16_t flags) {
    StoreRelease<uint16_t>(At(queue_.device_address()), flags);
  }
  void SetAvailEvent(uint16_t value) {
    StoreRelease<uint16_t>(At(queue_.device_address() + 4 + 8 * queue_.size()),
                           value);
  }
  void SetUsedIndex(uint16_t value) {
    used_ = value;
    StoreRelease<uint16_t>(At(queue_.device_address() + 2), value);
  }
  void PushUsed(uint32_t id, uint32_t written) {
    std::byte* const element =
        At(queue_.device_address() + 4 + 8 * (used_ % queue_.size()));
    StoreRelaxed<uint32_t>(element, id);
    StoreRelaxed<uint32_t>(element + 4, written);
    SetUsedIndex(static_cast<uint16_t>(used_ + 1));
  }
  Error AddOne(uint64_t cookie, uint32_t bytes = 100) {
    const QueueBuffer buffer = {kBase, bytes, true};
    return queue_.Add(std::span(&buffer, 1), cookie);
  }

  std::vector<std::byte> memory_;
  Arena arena_;
  SplitQueue queue_;
  uint16_t used_ = 0;
};

TEST_F(SplitQueueTest, RefusesSizesThatARingCannotHave) {
  for (const uint32_t size : {0u, 3u, 65536u}) {
    EXPECT_EQ(queue_.Create({.size = size}, &arena_), Error::kInvalidArgument);
  }
  EXPECT_EQ(queue_.size(), 0u);
}

TEST_F(SplitQueueTest, ReportsAnArenaThatIsTooSmall) {
  std::array<std::byte, 256> memory;
  Arena small(memory, kBase);
  EXPECT_EQ(queue_.Create({.size = 16}, &small), Error::kNoMemory);
  EXPECT_EQ(queue_.size(), 0u);
  EXPECT_EQ(AddOne(1), Error::kInvalidArgument);
}

TEST_F(SplitQueueTest, AreasAreAlignedAndZero) {
  // virtio 1.2, 2.7: 16, 2 and 4.
  Create({.size = kSize});
  EXPECT_EQ(queue_.desc_address() % 16, 0u);
  EXPECT_EQ(queue_.driver_address() % 2, 0u);
  EXPECT_EQ(queue_.device_address() % 4, 0u);
  EXPECT_EQ(AvailIndex(), 0u);
  EXPECT_EQ(AvailFlags(), 0u);
  EXPECT_EQ(Load<uint16_t>(queue_.device_address() + 2), 0u);
}

TEST_F(SplitQueueTest, ChainIsLinkedAndShownOnlyByPublish) {
  Create({.size = kSize});
  const std::array<QueueBuffer, 3> buffers = {QueueBuffer{0x1000, 16, false},
                                              QueueBuffer{0x2000, 512, true},
                                              QueueBuffer{0x3000, 1, true}};
  ASSERT_EQ(queue_.Add(buffers, 42), Error::kNone);
  EXPECT_EQ(AvailIndex(), 0u);
  EXPECT_TRUE(queue_.Publish());
  EXPECT_EQ(AvailIndex(), 1u);
  const uint16_t head = AvailEntry(0);
  const Descriptor first = Desc(queue_.desc_address(), head);
  EXPECT_EQ(first.address, 0x1000u);
  EXPECT_EQ(first.length, 16u);
  EXPECT_EQ(first.flags, 1u);  // NEXT
  const Descriptor second = Desc(queue_.desc_address(), first.next);
  EXPECT_EQ(second.address, 0x2000u);
  EXPECT_EQ(second.flags, 3u);  // NEXT, WRITE
  const Descriptor third = Desc(queue_.desc_address(), second.next);
  EXPECT_EQ(third.address, 0x3000u);
  EXPECT_EQ(third.flags, 2u);  // WRITE
  EXPECT_EQ(queue_.outstanding(), 1u);
}

TEST_F(SplitQueueTest, IndirectChainTakesOneDescriptor) {
  Create({.size = 2, .indirect_buffers = 3});
  const std::array<QueueBuffer, 3> buffers = {QueueBuffer{0x1000, 16, false},
                                              QueueBuffer{0x2000, 512, true},
                                              QueueBuffer{0x3000, 1, true}};
  ASSERT_EQ(queue_.Add(buffers, 1), Error::kNone);
  ASSERT_EQ(queue_.Add(buffers, 2), Error::kNone);
  EXPECT_EQ(queue_.Add(buffers, 3), Error::kQueueFull);
  queue_.Publish();
  for (const uint32_t i : {0u, 1u}) {
    const Descriptor head = Desc(queue_.desc_address(), AvailEntry(i));
    EXPECT_EQ(head.flags, 4u);  // INDIRECT
    EXPECT_EQ(head.length, 48u);
    EXPECT_EQ(head.address % 16, 0u);
    EXPECT_EQ(Desc(head.address, 0).flags, 1u);
    EXPECT_EQ(Desc(head.address, 0).next, 1u);
    EXPECT_EQ(Desc(head.address, 1).flags, 3u);
    EXPECT_EQ(Desc(head.address, 1).next, 2u);
    EXPECT_EQ(Desc(head.address, 2).flags, 2u);
  }
}

TEST_F(SplitQueueTest, LongerChainThanAnIndirectTableGoesDirect) {
  Create({.size = kSize, .indirect_buffers = 2});
  const std::array<QueueBuffer, 3> buffers = {QueueBuffer{0x1000, 1, true},
                                              QueueBuffer{0x2000, 1, true},
                                              QueueBuffer{0x3000, 1, true}};
  ASSERT_EQ(queue_.Add(buffers, 1), Error::kNone);
  queue_.Publish();
  EXPECT_EQ(Desc(queue_.desc_address(), AvailEntry(0)).flags, 3u);
}

TEST_F(SplitQueueTest, RefusesChainsThatNoDeviceMayGet) {
  Create({.size = kSize});
  EXPECT_EQ(queue_.Add({}, 0), Error::kInvalidArgument);
  const std::array<QueueBuffer, 1> empty = {QueueBuffer{0x1000, 0, true}};
  EXPECT_EQ(queue_.Add(empty, 0), Error::kInvalidArgument);
  const std::array<QueueBuffer, 2> order = {QueueBuffer{0x1000, 1, true},
                                            QueueBuffer{0x2000, 1, false}};
  EXPECT_EQ(queue_.Add(order, 0), Error::kInvalidArgument);
  const std::array<QueueBuffer, 2> huge = {
      QueueBuffer{0x1000, UINT32_MAX, true}, QueueBuffer{0x2000, 1, true}};
  EXPECT_EQ(queue_.Add(huge, 0), Error::kInvalidArgument);
  EXPECT_EQ(queue_.outstanding(), 0u);
}

TEST_F(SplitQueueTest, DescriptorsComeBackAndAreUsedAgain) {
  Create({.size = kSize});
  const std::array<QueueBuffer, 2> two = {QueueBuffer{0x1000, 8, false},
                                          QueueBuffer{0x2000, 64, true}};
  // More chains than the 16-bit indices have values.
  for (uint32_t i = 0; i < 70000; ++i) {
    ASSERT_EQ(queue_.Add(two, i), Error::kNone);
    queue_.Publish();
    PushUsed(AvailEntry(i % kSize), 64);
    UsedChain chain;
    ASSERT_EQ(queue_.Take(&chain), Error::kNone);
    ASSERT_EQ(chain.cookie, i);
    ASSERT_EQ(chain.written, 64u);
    ASSERT_EQ(queue_.Take(&chain), Error::kNotFound);
  }
}

TEST_F(SplitQueueTest, ChainsComeBackInTheOrderOfTheDevice) {
  Create({.size = 4});
  for (uint64_t i = 0; i < 4; ++i) ASSERT_EQ(AddOne(i), Error::kNone);
  EXPECT_EQ(AddOne(4), Error::kQueueFull);
  queue_.Publish();
  const std::array<uint32_t, 4> order = {2, 0, 3, 1};
  for (const uint32_t i : order) PushUsed(AvailEntry(i), i);
  for (const uint32_t i : order) {
    UsedChain chain;
    ASSERT_EQ(queue_.Take(&chain), Error::kNone);
    EXPECT_EQ(chain.cookie, i);
    EXPECT_EQ(chain.written, i);
  }
  for (uint64_t i = 0; i < 4; ++i) ASSERT_EQ(AddOne(i), Error::kNone);
}

// virtio 1.2, 2.7.10: without the event index the flag decides.
TEST_F(SplitQueueTest, NotificationIsWantedUnlessTheDeviceSaysNo) {
  Create({.size = kSize});
  ASSERT_EQ(AddOne(1), Error::kNone);
  EXPECT_TRUE(queue_.Publish());
  EXPECT_FALSE(queue_.Publish());  // nothing new
  SetUsedFlags(1);
  ASSERT_EQ(AddOne(2), Error::kNone);
  EXPECT_FALSE(queue_.Publish());
}

// virtio 1.2, 2.7.10: with it, the device names the entry it waits for.
TEST_F(SplitQueueTest, NotificationIsWantedWhenTheEventIndexIsPassed) {
  Create({.size = kSize, .event_index = true});
  SetUsedFlags(1);  // must not count
  ASSERT_EQ(AddOne(1), Error::kNone);
  EXPECT_TRUE(queue_.Publish());  // avail_event 0, entry 0
  ASSERT_EQ(AddOne(2), Error::kNone);
  EXPECT_FALSE(queue_.Publish());
  SetAvailEvent(3);
  ASSERT_EQ(AddOne(3), Error::kNone);
  EXPECT_FALSE(queue_.Publish());  // up to entry 2
  ASSERT_EQ(AddOne(4), Error::kNone);
  ASSERT_EQ(AddOne(5), Error::kNone);
  EXPECT_TRUE(queue_.Publish());  // entries 3 and 4
}

TEST_F(SplitQueueTest, InterruptFlagFollowsTheDriversWish) {
  Create({.size = kSize});
  EXPECT_EQ(AvailFlags(), 0u);
  queue_.EnableInterrupts(false);
  EXPECT_EQ(AvailFlags(), 1u);
  queue_.EnableInterrupts(true);
  EXPECT_EQ(AvailFlags(), 0u);
}

TEST_F(SplitQueueTest, UsedEventFollowsWhatWasTaken) {
  Create({.size = kSize, .event_index = true});
  EXPECT_EQ(UsedEvent(), 0u);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(AddOne(1), Error::kNone);
  queue_.Publish();
  PushUsed(AvailEntry(0), 1);
  UsedChain chain;
  ASSERT_EQ(queue_.Take(&chain), Error::kNone);
  EXPECT_EQ(UsedEvent(), 1u);  // the next one raises an interrupt
  queue_.EnableInterrupts(false);
  EXPECT_EQ(UsedEvent(), 0u);  // passed already
  PushUsed(AvailEntry(1), 1);
  ASSERT_EQ(queue_.Take(&chain), Error::kNone);
  EXPECT_EQ(UsedEvent(), 0u);
  queue_.EnableInterrupts(true);
  EXPECT_EQ(UsedEvent(), 2u);
  EXPECT_EQ(AvailFlags(), 0u);  // always 0 with the event index
}

// --- A device that lies. ---

TEST_F(SplitQueueTest, UsedIndexPastWhatTheDeviceHasBreaksForGood) {
  Create({.size = kSize});
  ASSERT_EQ(AddOne(1), Error::kNone);
  queue_.Publish();
  SetUsedIndex(2);
  UsedChain chain;
  EXPECT_EQ(queue_.Take(&chain), Error::kQueueBroken);
  SetUsedIndex(0);
  EXPECT_EQ(queue_.Take(&chain), Error::kQueueBroken);
  EXPECT_EQ(AddOne(2), Error::kQueueBroken);
  EXPECT_FALSE(queue_.Publish());
  EXPECT_TRUE(queue_.broken());
}

TEST_F(SplitQueueTest, ChainThatWasNotPublishedCannotComeBack) {
  Create({.size = kSize});
  ASSERT_EQ(AddOne(1), Error::kNone);
  PushUsed(0, 1);
  UsedChain chain;
  EXPECT_EQ(queue_.Take(&chain), Error::kQueueBroken);
}

TEST_F(SplitQueueTest, UsedIdPastTheQueueBreaks) {
  Create({.size = kSize});
  ASSERT_EQ(AddOne(1), Error::kNone);
  queue_.Publish();
  PushUsed(kSize, 1);
  UsedChain chain;
  EXPECT_EQ(queue_.Take(&chain), Error::kQueueBroken);
}

TEST_F(SplitQueueTest, UsedIdThatIsNoHeadBreaks) {
  Create({.size = kSize});
  const std::array<QueueBuffer, 2> two = {QueueBuffer{0x1000, 8, false},
                                          QueueBuffer{0x2000, 64, true}};
  ASSERT_EQ(queue_.Add(two, 1), Error::kNone);
  queue_.Publish();
  PushUsed(Desc(queue_.desc_address(), AvailEntry(0)).next, 1);
  UsedChain chain;
  EXPECT_EQ(queue_.Take(&chain), Error::kQueueBroken);
}

TEST_F(SplitQueueTest, ChainThatComesBackTwiceBreaks) {
  Create({.size = kSize});
  ASSERT_EQ(AddOne(1), Error::kNone);
  ASSERT_EQ(AddOne(2), Error::kNone);
  queue_.Publish();
  PushUsed(AvailEntry(0), 1);
  PushUsed(AvailEntry(0), 1);
  UsedChain chain;
  EXPECT_EQ(queue_.Take(&chain), Error::kNone);
  EXPECT_EQ(queue_.Take(&chain), Error::kQueueBroken);
}

TEST_F(SplitQueueTest, MoreWrittenThanTheChainHoldsBreaks) {
  Create({.size = kSize});
  ASSERT_EQ(AddOne(1, /*bytes=*/100), Error::kNone);
  queue_.Publish();
  PushUsed(AvailEntry(0), 101);
  UsedChain chain;
  EXPECT_EQ(queue_.Take(&chain), Error::kQueueBroken);
}

TEST_F(SplitQueueTest, DescriptorsThatTheDeviceChangesDoNotMisleadTheDriver) {
  Create({.size = kSize});
  const std::array<QueueBuffer, 2> two = {QueueBuffer{0x1000, 8, false},
                                          QueueBuffer{0x2000, 64, true}};
  ASSERT_EQ(queue_.Add(two, 1), Error::kNone);
  queue_.Publish();
  const uint16_t head = AvailEntry(0);
  std::memset(At(queue_.desc_address()), 0xFF, 16 * kSize);
  PushUsed(head, 64);
  UsedChain chain;
  ASSERT_EQ(queue_.Take(&chain), Error::kNone);
  // All descriptors are free again.
  for (uint64_t i = 0; i < kSize; ++i) ASSERT_EQ(AddOne(i), Error::kNone);
}

TEST_F(SplitQueueTest, CreateMakesABrokenQueueGoodAgain) {
  Create({.size = kSize});
  SetUsedIndex(1);
  UsedChain chain;
  ASSERT_EQ(queue_.Take(&chain), Error::kQueueBroken);
  arena_.Reset();
  Create({.size = kSize});
  used_ = 0;
  EXPECT_EQ(queue_.Take(&chain), Error::kNotFound);
  EXPECT_EQ(AddOne(1), Error::kNone);
}

}  // namespace
}  // namespace vmsg::guest
