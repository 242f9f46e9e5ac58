// The packed queue against a driver that breaks the rules which only this
// format has. The others are in virtqueue_fault_test.cc.

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_fixture.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "vmm/base/guest_address.h"

namespace vmsg::virtio {
namespace {

class PackedQueueFaultTest : public VirtqueueFaultFixture {};

INSTANTIATE_TEST_SUITE_P(Rings, PackedQueueFaultTest,
                         ::testing::Values(Ring{
                             .packed = true, .size = 7, .event_idx = true}),
                         RingName);

// --- What is available. ---

TEST_P(PackedQueueFaultTest, ChainThatGoesOnIntoPlacesThatAreOwedBreaksIt) {
  packed_driver().Publish({kBuffer.value, 4});
  Pop();
  for (uint32_t i = 1; i < size(); ++i) {
    packed_driver().Publish({kBuffer.value, 4, 0, kDescFlagNext});
  }
  packed_driver().Publish({kBuffer.value, 4});
  ExpectBroken(QueueFault::kTooManyAvailable);
}

TEST_P(PackedQueueFaultTest, ChainThatGoesOnWhereNothingIsAvailableBreaksIt) {
  // Never written, used, or of the turn before.
  const PackedDescriptor second[] = {
      {kBuffer.value, 4, 0, 0},
      {kBuffer.value, 4, 0, kDescFlagAvail | kDescFlagUsed},
      {kBuffer.value, 4, 0, kDescFlagUsed}};
  for (const PackedDescriptor& descriptor : second) {
    Start({kFeatureIndirectDesc});
    packed_driver().WriteDescriptor(1, descriptor);
    packed_driver().Publish({kBuffer.value, 4, 0, kDescFlagNext});
    ExpectBroken(QueueFault::kNotAvailable);
  }
}

TEST_P(PackedQueueFaultTest, ChainAcrossTheEndNeedsTheOtherWrapCounterThere) {
  for (uint32_t i = 0; i + 1 < size(); ++i) {
    packed_driver().Publish({kBuffer.value, 4});
    queue_->Complete(Pop(), 0);
  }
  EXPECT_TRUE(queue_->ShouldNotify());
  // The last place leads to the first; which is available as in this turn.
  packed_driver().WriteDescriptor(0, {kBuffer.value, 4, 0, kDescFlagAvail});
  packed_driver().Publish({kBuffer.value, 4, 0, kDescFlagNext});
  ExpectBroken(QueueFault::kNotAvailable);
}

TEST_P(PackedQueueFaultTest, FlagsThatAreNotOfThisTurnAreNotAvailable) {
  for (uint16_t flags : {uint16_t{0}, uint16_t{kDescFlagUsed},
                         uint16_t{kDescFlagAvail | kDescFlagUsed}}) {
    Start({kFeatureIndirectDesc});
    packed_driver().WriteDescriptor(0, {kBuffer.value, 4, 0, flags});
    DescriptorChain chain;
    EXPECT_EQ(queue_->Pop(&chain), PopResult::kEmpty);
  }
}

// --- Descriptors. ---

TEST_P(PackedQueueFaultTest, ChainThatGoesAllRoundTheRingBreaksIt) {
  for (uint32_t i = 0; i < size(); ++i) {
    packed_driver().Publish({kBuffer.value, 4, 0, kDescFlagNext});
  }
  ExpectBroken(QueueFault::kChainTooLong);
}

TEST_P(PackedQueueFaultTest, AnyIdGoesBackAsItCame) {
  // It means something to the driver only: two chains may even share one.
  for (uint16_t id :
       {uint16_t{0}, static_cast<uint16_t>(size()), uint16_t{0xffff}}) {
    Start({});
    packed_driver().Publish({kBuffer.value, 4, id});
    packed_driver().Publish({kBuffer.value, 4, id});
    DescriptorChain first = Pop();
    queue_->Complete(Pop(), 0);
    queue_->Complete(std::move(first), 0);
    EXPECT_EQ(packed_driver().ReadDescriptor(0).id, id);
    EXPECT_EQ(packed_driver().ReadDescriptor(1).id, id);
    EXPECT_EQ(queue_->fault(), QueueFault::kNone);
  }
}

// --- Indirect tables. ---

TEST_P(PackedQueueFaultTest, IndirectAtTheEndOfAChainBreaksIt) {
  // virtio 1.2, 2.8.19; a split ring allows it.
  packed_driver().WriteDescriptorAt(kTable, 0, {kBuffer.value, 4});
  packed_driver().WriteDescriptor(1, {kTable.value, kDescriptorBytes, 0,
                                      kDescFlagIndirect | kDescFlagAvail});
  packed_driver().Publish({kBuffer.value, 4, 0, kDescFlagNext});
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_P(PackedQueueFaultTest, TableLongerThanTheQueueBreaksItUnread) {
  for (uint32_t bytes : {(size() + 1) * 16, 0xfffffff0u}) {
    Start({kFeatureIndirectDesc});
    PublishIndirect(bytes);
    ExpectBroken(QueueFault::kChainTooLong);
  }
}

TEST_P(PackedQueueFaultTest, IndirectTableAtTheEndOfMemoryIsCutThere) {
  const vmm::GuestAddress table{kRamEnd.value - kDescriptorBytes};
  packed_driver().WriteDescriptorAt(table, 0, {kBuffer.value, 4});
  packed_driver().Publish(
      {table.value, 4 * kDescriptorBytes, 0, kDescFlagIndirect});
  ExpectBroken(QueueFault::kBufferOutsideMemory);
}

}  // namespace
}  // namespace vmsg::virtio
