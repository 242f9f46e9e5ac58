// The split queue against a driver that breaks the rules which only this format
// has. The others are in virtqueue_fault_test.cc.

#include <gtest/gtest.h>

#include <cstdint>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_fixture.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "vmm/base/guest_address.h"

namespace vmsg::virtio {
namespace {

class SplitQueueFaultTest : public VirtqueueFaultFixture {
 protected:
  // Descriptor 0 is made available and is this one.
  void PublishOne(const Descriptor& descriptor) {
    split_driver().WriteDescriptor(0, descriptor);
    split_driver().Publish(0);
  }
};

INSTANTIATE_TEST_SUITE_P(Rings, SplitQueueFaultTest,
                         ::testing::Values(Ring{.event_idx = true}), RingName);

// --- The available ring. ---

TEST_P(SplitQueueFaultTest, IndexThatClaimsMoreThanTheQueueHasBreaksIt) {
  split_driver().SetAvailIdx(static_cast<uint16_t>(size() + 1));
  ExpectBroken(QueueFault::kTooManyAvailable);
}

TEST_P(SplitQueueFaultTest, IndexThatGoesBackBreaksIt) {
  split_driver().SetAvailIdx(65535);
  ExpectBroken(QueueFault::kTooManyAvailable);
}

TEST_P(SplitQueueFaultTest, ChainsThatAreOwedCountAsAvailable) {
  split_driver().WriteDescriptor(0, {kBuffer.value, 4});
  DescriptorChain chain;
  for (int i = 0; i < 3; ++i) {
    split_driver().Publish(0);
    ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  }
  split_driver().SetAvailIdx(static_cast<uint16_t>(size() + 1));
  ExpectBroken(QueueFault::kTooManyAvailable);
  EXPECT_EQ(queue_->owed(), 3u);
}

TEST_P(SplitQueueFaultTest, EnablingFindsABadIndexAndLeavesItToPop) {
  split_driver().SetAvailIdx(1000);
  EXPECT_TRUE(queue_->EnableNotifications());
  ExpectBroken(QueueFault::kTooManyAvailable);
}

TEST_P(SplitQueueFaultTest, HeadOutsideTheTableBreaksIt) {
  for (uint16_t head : {static_cast<uint16_t>(size()), uint16_t{65535}}) {
    Start({});
    split_driver().Publish(head);
    ExpectBroken(QueueFault::kHeadOutOfRange);
  }
}

// --- Descriptors. ---

TEST_P(SplitQueueFaultTest, NextOutsideTheTableBreaksIt) {
  PublishOne({kBuffer.value, 4, kDescFlagNext, static_cast<uint16_t>(size())});
  ExpectBroken(QueueFault::kHeadOutOfRange);
}

TEST_P(SplitQueueFaultTest, ChainThatLeadsToItselfBreaksIt) {
  PublishOne({kBuffer.value, 4, kDescFlagNext, 0});
  ExpectBroken(QueueFault::kChainTooLong);
}

TEST_P(SplitQueueFaultTest, LoopOfSeveralDescriptorsBreaksIt) {
  split_driver().WriteDescriptor(1, {kBuffer.value, 4, kDescFlagNext, 2});
  split_driver().WriteDescriptor(2, {kBuffer.value, 4, kDescFlagNext, 1});
  PublishOne({kBuffer.value, 4, kDescFlagNext, 1});
  ExpectBroken(QueueFault::kChainTooLong);
}

// --- Indirect tables. ---

TEST_P(SplitQueueFaultTest, LoopInAHugeIndirectTableEnds) {
  split_driver().WriteDescriptorAt(kTable, 0,
                                   {kBuffer.value, 4, kDescFlagNext, 0});
  PublishIndirect(0xfffffff0);
  ExpectBroken(QueueFault::kChainTooLong);
}

TEST_P(SplitQueueFaultTest, NextOutsideTheIndirectTableBreaksIt) {
  split_driver().WriteDescriptorAt(kTable, 0,
                                   {kBuffer.value, 4, kDescFlagNext, 2});
  split_driver().WriteDescriptorAt(kTable, 2, {kBuffer.value, 4});
  PublishIndirect(2 * kDescriptorBytes);
  ExpectBroken(QueueFault::kHeadOutOfRange);
}

// The order is that of the whole chain, in the table and before it.
TEST_P(SplitQueueFaultTest, ReadableInTheTableAfterWritableBeforeItBreaksIt) {
  split_driver().WriteDescriptorAt(kTable, 0, {kBuffer.value, 4});
  split_driver().WriteDescriptor(
      0, {kBuffer.value, 4, kDescFlagNext | kDescFlagWrite, 1});
  split_driver().WriteDescriptor(
      1, {kTable.value, kDescriptorBytes, kDescFlagIndirect});
  split_driver().Publish(0);
  ExpectBroken(QueueFault::kReadableAfterWritable);
}

TEST_P(SplitQueueFaultTest, IndirectTableAtTheEndOfMemoryIsCutThere) {
  const vmm::GuestAddress table{kRamEnd.value - kDescriptorBytes};
  split_driver().WriteDescriptorAt(table, 0,
                                   {kBuffer.value, 4, kDescFlagNext, 1});
  PublishOne({table.value, 4 * kDescriptorBytes, kDescFlagIndirect});
  ExpectBroken(QueueFault::kBufferOutsideMemory);
}

}  // namespace
}  // namespace vmsg::virtio
