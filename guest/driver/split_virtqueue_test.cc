#include "guest/driver/split_virtqueue.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "gtest/gtest.h"
#include "guest/driver/testing/virtqueue_fixture.h"

namespace vmsg::guest {
namespace {

// A descriptor as the device reads it.
struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t flags;
  uint16_t next;
};

class SplitVirtqueueTest : public VirtqueueFixture {
 protected:
  SplitVirtqueueTest() : VirtqueueFixture(RingFormat::kSplit) {}

  Descriptor Desc(uint64_t table, uint32_t i) {
    Descriptor result;
    std::memcpy(&result, At(table + 16 * i), 16);
    return result;
  }
  uint64_t table() { return queue_->areas().descriptors; }
  uint64_t driver() { return queue_->areas().driver; }
  uint64_t device() { return queue_->areas().device; }
  uint16_t AvailFlags() { return Load<uint16_t>(driver()); }
  uint16_t AvailIndex() { return Load<uint16_t>(driver() + 2); }
  uint16_t AvailEntry(uint32_t i) {
    return Load<uint16_t>(driver() + 4 + 2 * i);
  }
  uint16_t UsedEvent() {
    return Load<uint16_t>(driver() + 4 + 2 * queue_->size());
  }
};

TEST_F(SplitVirtqueueTest, RefusesSizesThatAreNoPowerOfTwo) {
  for (const uint32_t size : {3u, 12u, 32767u}) {
    EXPECT_EQ(queue_->Create({.size = size}, &arena_), Error::kInvalidArgument);
  }
}

TEST_F(SplitVirtqueueTest, AreasAreAlignedAndZero) {
  // virtio 1.2, 2.7: 16, 2 and 4.
  Create({.size = kSize});
  EXPECT_EQ(table() % 16, 0u);
  EXPECT_EQ(driver() % 2, 0u);
  EXPECT_EQ(device() % 4, 0u);
  EXPECT_EQ(AvailIndex(), 0u);
  EXPECT_EQ(AvailFlags(), 0u);
  EXPECT_EQ(Load<uint16_t>(device() + 2), 0u);
}

TEST_F(SplitVirtqueueTest, ChainIsLinked) {
  Create({.size = kSize});
  const std::array<QueueBuffer, 3> buffers = {QueueBuffer{0x1000, 16, false},
                                              QueueBuffer{0x2000, 512, true},
                                              QueueBuffer{0x3000, 1, true}};
  ASSERT_EQ(queue_->Add(buffers, 42), Error::kNone);
  EXPECT_EQ(AvailIndex(), 0u);
  EXPECT_TRUE(queue_->Publish());
  EXPECT_EQ(AvailIndex(), 1u);
  const Descriptor first = Desc(table(), AvailEntry(0));
  EXPECT_EQ(first.address, 0x1000u);
  EXPECT_EQ(first.length, 16u);
  EXPECT_EQ(first.flags, 1u);  // NEXT
  const Descriptor second = Desc(table(), first.next);
  EXPECT_EQ(second.address, 0x2000u);
  EXPECT_EQ(second.flags, 3u);  // NEXT, WRITE
  const Descriptor third = Desc(table(), second.next);
  EXPECT_EQ(third.address, 0x3000u);
  EXPECT_EQ(third.flags, 2u);  // WRITE
}

TEST_F(SplitVirtqueueTest, IndirectTableIsLinked) {
  Create({.size = 2, .indirect_buffers = 3});
  const std::array<QueueBuffer, 3> buffers = {QueueBuffer{0x1000, 16, false},
                                              QueueBuffer{0x2000, 512, true},
                                              QueueBuffer{0x3000, 1, true}};
  for (const uint32_t i : {0u, 1u}) {
    ASSERT_EQ(queue_->Add(buffers, i), Error::kNone);
    queue_->Publish();
    const Descriptor head = Desc(table(), AvailEntry(i));
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

// virtio 1.2, 2.7.5: with VIRTIO_F_IN_ORDER, next is the following descriptor,
// and 0 in the last one.
TEST_F(SplitVirtqueueTest, InOrderDescriptorsAreTakenInTheOrderOfTheTable) {
  Create({.size = kSize, .in_order = true});
  uint32_t expected = 0;
  for (uint32_t i = 0; i < 100; ++i) {
    const uint32_t buffers = 1 + i % 3;
    AddAndPublish(i, buffers);
    uint16_t at = AvailEntry(i % kSize);
    for (uint32_t n = 1; n <= buffers; ++n) {
      ASSERT_EQ(at, expected);
      expected = (expected + 1) % kSize;
      if (n == buffers) break;
      at = Desc(table(), at).next;
    }
    device_->Push(Pop(), 1);
    ExpectTaken(i, 1);
  }
}

TEST_F(SplitVirtqueueTest, FlagOfTheUsedRingDoesNotCountWithTheEventIndex) {
  // virtio 1.2, 2.7.10.
  Create({.size = kSize, .event_index = true});
  device_->AskForNotifications(false);
  ASSERT_EQ(Add(1), Error::kNone);
  EXPECT_TRUE(queue_->Publish());  // avail_event 0, entry 0
}

TEST_F(SplitVirtqueueTest, InterruptFlagFollowsTheDriversWish) {
  Create({.size = kSize});
  EXPECT_EQ(AvailFlags(), 0u);
  queue_->EnableInterrupts(false);
  EXPECT_EQ(AvailFlags(), 1u);
  queue_->EnableInterrupts(true);
  EXPECT_EQ(AvailFlags(), 0u);
}

TEST_F(SplitVirtqueueTest, UsedEventFollowsWhatWasTaken) {
  Create({.size = kSize, .event_index = true});
  EXPECT_EQ(UsedEvent(), 0u);
  for (int i = 0; i < 3; ++i) AddAndPublish(1);
  device_->Push(Pop(), 1);
  ExpectTaken(1, 1);
  EXPECT_EQ(UsedEvent(), 1u);  // the next one raises an interrupt
  queue_->EnableInterrupts(false);
  EXPECT_EQ(UsedEvent(), 0u);  // passed already
  device_->Push(Pop(), 1);
  ExpectTaken(1, 1);
  EXPECT_EQ(UsedEvent(), 0u);
  queue_->EnableInterrupts(true);
  EXPECT_EQ(UsedEvent(), 2u);
  EXPECT_EQ(AvailFlags(), 0u);  // always 0 with the event index
}

TEST_F(SplitVirtqueueTest, PositionIsTheWholeAvailableIndex) {
  Create({.size = kSize});
  for (uint32_t i = 0; i < 65536 + 3; ++i) {
    ASSERT_EQ(Add(i), Error::kNone);
    ASSERT_EQ(queue_->position(), i % 65536);  // not published yet
    queue_->Publish();
    device_->Push(device_->Pop().value(), 1);
    UsedChain used;
    ASSERT_EQ(queue_->Take(&used), Error::kNone);
  }
}

// --- A device that lies. ---

TEST_F(SplitVirtqueueTest, UsedIndexPastWhatTheDeviceHasBreaksForGood) {
  Create({.size = kSize});
  AddAndPublish(1);
  Store<uint16_t>(device() + 2, 2);
  UsedChain chain;
  EXPECT_EQ(queue_->Take(&chain), Error::kQueueBroken);
  Store<uint16_t>(device() + 2, 0);
  ExpectBroken(QueueFault::kIndexPastOutstanding);
}

TEST_F(SplitVirtqueueTest, UsedIndexThatGoesBackBreaks) {
  Create({.size = kSize});
  AddAndPublish(1);
  AddAndPublish(2);
  device_->Push(Pop(), 1);
  ExpectTaken(1, 1);
  Store<uint16_t>(device() + 2, 0);
  ExpectBroken(QueueFault::kIndexPastOutstanding);
}

TEST_F(SplitVirtqueueTest, UsedIndexDoesNotCountChainsThatWereNotPublished) {
  Create({.size = kSize});
  ASSERT_EQ(Add(1), Error::kNone);
  device_->PushId(0, 1);
  ExpectBroken(QueueFault::kIndexPastOutstanding);
}

TEST_F(SplitVirtqueueTest, InOrderChainBeforeItsEldersBreaks) {
  Create({.size = kSize, .in_order = true});
  for (uint64_t i = 0; i < 3; ++i) AddAndPublish(i);
  Pop();
  device_->Push(Pop(), 1);  // one element for what would be a batch of two
  ExpectBroken(QueueFault::kOutOfOrder);
}

}  // namespace
}  // namespace vmsg::guest
