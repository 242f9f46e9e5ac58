// What only split rings have, against a driver that keeps the rules. What both
// formats do is in virtqueue_ring_test.cc; what happens with a driver that does
// not keep them, in split_virtqueue_fault_test.cc.

#include <gtest/gtest.h>

#include <cstdint>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_fixture.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/base/guest_address.h"

namespace vmsg::virtio {
namespace {

class SplitQueueTest : public VirtqueueFixture {
 protected:
  SplitQueueTest() { Start({kFeatureIndirectDesc}); }
};

INSTANTIATE_TEST_SUITE_P(Rings, SplitQueueTest,
                         ::testing::Values(Ring{}, Ring{.event_idx = true}),
                         RingName);

TEST_P(SplitQueueTest, IndicesWrapAt65536) {
  split_driver().StartAt(65530);
  CreateQueue(Virtqueue::Position{65530, 65530});
  for (int round = 0; round < 10; ++round) {
    AddWritable();
    AddWritable();
    Serve(2, 5);
    EXPECT_TRUE(driver_->TakeUsed().has_value());
    EXPECT_TRUE(driver_->TakeUsed().has_value());
  }
  EXPECT_EQ(driver_->bad_used(), 0u);
  EXPECT_EQ(queue_->position(), (Virtqueue::Position{14, 14}));
  EXPECT_EQ(split_driver().UsedIdx(), 14);
}

TEST_P(SplitQueueTest, BuffersMayComeBeforeTheIndirectDescriptor) {
  // virtio 1.2, 2.7.5.3.2: zero or more normal descriptors, then an indirect
  // one, whose write flag means nothing.
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x8000};
  split_driver().WriteDescriptorAt(
      table, 0, {TestMemory::kBuffers.value, 30, kDescFlagNext, 2});
  split_driver().WriteDescriptorAt(
      table, 2, {TestMemory::kBuffers.value, 40, kDescFlagWrite});
  split_driver().WriteDescriptor(
      1, {TestMemory::kBuffers.value, 20, kDescFlagNext, 4});
  split_driver().WriteDescriptor(4, {table.value, 3 * kDescriptorBytes,
                                     kDescFlagIndirect | kDescFlagWrite});
  split_driver().Publish(1);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_EQ(chain.readable().size(), 2u);
  EXPECT_EQ(chain.readable_bytes(), 50u);
  EXPECT_EQ(chain.writable_bytes(), 40u);
}

TEST_P(SplitQueueTest, IndirectTableMayBeLongerThanItsChain) {
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x8000};
  split_driver().WriteDescriptorAt(table, 0, {TestMemory::kBuffers.value, 4});
  split_driver().WriteDescriptor(
      0, {table.value, static_cast<uint32_t>(4 * size() * kDescriptorBytes),
          kDescFlagIndirect});
  split_driver().Publish(0);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_EQ(chain.readable().size(), 1u);
}

TEST_P(SplitQueueTest, NotificationsWorkAcrossTheWrapOfTheIndex) {
  split_driver().StartAt(65533);
  CreateQueue(Virtqueue::Position{65533, 65533});
  for (int i = 0; i < 6; ++i) {
    ASSERT_FALSE(driver_->EnableInterrupts());
    AddWritable();
    Serve(1);
    EXPECT_TRUE(queue_->ShouldNotify()) << i;
    EXPECT_TRUE(driver_->TakeUsed().has_value());
  }
}

// --- Clauses of the event index. ---

class SplitQueueEventIdxTest : public SplitQueueTest {};
INSTANTIATE_TEST_SUITE_P(Rings, SplitQueueEventIdxTest,
                         ::testing::Values(Ring{.event_idx = true}), RingName);

TEST_P(SplitQueueEventIdxTest, MustNotifyExactlyWhenUsedEventIsReached) {
  // virtio 1.2, 2.7.7.2: the notification is for the entry whose index equals
  // used_event, not for those before or after it.
  split_driver().SetUsedEvent(2);
  const bool expected[] = {false, false, true, false, false};
  for (bool notify : expected) {
    AddWritable();
    Serve(1);
    EXPECT_EQ(queue_->ShouldNotify(), notify);
  }
}

TEST_P(SplitQueueEventIdxTest, MustNotifyWhenUsedEventLiesInsideABatch) {
  // virtio 1.2, 2.7.7.2
  split_driver().SetUsedEvent(1);
  for (int i = 0; i < 3; ++i) AddWritable();
  Serve(3);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(SplitQueueEventIdxTest, FlagsOfTheAvailableRingMeanNothing) {
  // virtio 1.2, 2.7.7.2: with the feature the device ignores the flags.
  split_driver().SetAvailFlags(kAvailFlagNoInterrupt);
  AddWritable();
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(SplitQueueEventIdxTest, UsedFlagsStayZero) {
  // virtio 1.2, 2.7.10.1: with the feature the device sets the flags to 0.
  queue_->DisableNotifications();
  EXPECT_EQ(split_driver().UsedFlags(), 0);
}

TEST_P(SplitQueueEventIdxTest, AvailEventIsTheNextIndexToTake) {
  // virtio 1.2, 2.7.10
  AddWritable();
  AddWritable();
  Serve(2);
  EXPECT_FALSE(queue_->EnableNotifications());
  EXPECT_EQ(split_driver().AvailEvent(), 2);
}

TEST_P(SplitQueueEventIdxTest, MoreThan65535UnannouncedEntriesAreAnnounced) {
  // The distance from used_event is then beyond 16 bits.
  split_driver().SetUsedEvent(5);
  for (uint32_t i = 0; i < 65536 + 3; ++i) {
    AddWritable();
    Serve(1);
    ASSERT_TRUE(driver_->TakeUsed().has_value());
  }
  EXPECT_TRUE(queue_->ShouldNotify());
}

class SplitQueueFlagsTest : public SplitQueueTest {};
INSTANTIATE_TEST_SUITE_P(Rings, SplitQueueFlagsTest, ::testing::Values(Ring{}),
                         RingName);

TEST_P(SplitQueueFlagsTest, NoInterruptFlagSuppresses) {
  // virtio 1.2, 2.7.7.2
  split_driver().SetAvailFlags(kAvailFlagNoInterrupt);
  AddWritable();
  Serve(1);
  EXPECT_FALSE(queue_->ShouldNotify());
  split_driver().SetAvailFlags(0);
  AddWritable();
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(SplitQueueFlagsTest, NoNotifyFlagTellsTheDriverNotToKick) {
  // virtio 1.2, 2.7.10.1
  queue_->DisableNotifications();
  EXPECT_EQ(split_driver().UsedFlags(), kUsedFlagNoNotify);
  EXPECT_FALSE(queue_->EnableNotifications());
  EXPECT_EQ(split_driver().UsedFlags(), 0);
}

TEST_P(SplitQueueFlagsTest, EventWordsAreNotTouched) {
  queue_->EnableNotifications();
  AddWritable();
  Serve(1);
  queue_->EnableNotifications();
  EXPECT_EQ(split_driver().AvailEvent(), 0);
}

}  // namespace
}  // namespace vmsg::virtio
