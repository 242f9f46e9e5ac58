// What only packed rings have, against a driver that keeps the rules. What both
// formats do is in virtqueue_ring_test.cc; what happens with a driver that does
// not keep them, in packed_virtqueue_fault_test.cc.

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_fixture.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/base/guest_address.h"

namespace vmsg::virtio {
namespace {

class PackedQueueTest : public VirtqueueFixture {
 protected:
  PackedQueueTest() { Start({kFeatureIndirectDesc}); }

  void StartAt(PackedCursor cursor) {
    packed_driver().StartAt(cursor);
    CreateQueue(Virtqueue::Position{cursor.Encode(), cursor.Encode()});
  }
  PackedCursor Cursor(uint32_t passed) {
    PackedCursor cursor;
    cursor.Advance(passed, size());
    return cursor;
  }
};

INSTANTIATE_TEST_SUITE_P(
    Rings, PackedQueueTest,
    ::testing::Values(Ring{.packed = true},
                      Ring{.packed = true, .event_idx = true},
                      Ring{.packed = true, .size = 5},
                      Ring{.packed = true, .size = 5, .event_idx = true}),
    RingName);

TEST_P(PackedQueueTest, BothWrapCountersAreOneAtFirstAndZeroInTheSecondTurn) {
  // virtio 1.2, 2.8.1. They are in bit 15.
  EXPECT_EQ(queue_->position(), (Virtqueue::Position{0x8000, 0x8000}));
  AddWritable(16, size() - 1);
  Serve(1);
  driver_->TakeUsed();
  AddWritable(16, 3);
  Serve(1);
  EXPECT_EQ(queue_->position(), (Virtqueue::Position{2, 2}));
}

TEST_P(PackedQueueTest, UsedDescriptorHasIdLengthAndTheDevicesWrapCounter) {
  // virtio 1.2, 2.8.1 to 2.8.4. The address is left alone.
  const uint16_t id = AddWritable();
  Serve(1, 7);
  EXPECT_EQ(packed_driver().ReadDescriptor(0),
            (PackedDescriptor{
                .address = TestMemory::kBuffers.value,
                .length = 7,
                .id = id,
                .flags = kDescFlagWrite | kDescFlagAvail | kDescFlagUsed}));
  EXPECT_EQ(driver_->TakeUsed(), (Used{id, 7}));
  EXPECT_EQ(driver_->TakeUsed(), std::nullopt);
  EXPECT_EQ(queue_->owed(), 0u);
}

TEST_P(PackedQueueTest, WriteFlagSaysThatSomethingWasWritten) {
  // virtio 1.2, 2.8.3
  AddWritable();
  Serve(1, 0);
  EXPECT_EQ(packed_driver().ReadDescriptor(0).flags,
            kDescFlagAvail | kDescFlagUsed);
}

TEST_P(PackedQueueTest, ChainOfSeveralIsOneUsedDescriptorAndPassesTheOthers) {
  // virtio 1.2, 2.8.6
  const uint16_t first = AddWritable(8, 3);
  const uint16_t second = AddWritable(8);
  Serve(1, 20);
  Serve(1, 8);
  EXPECT_EQ(packed_driver().ReadDescriptor(0).id, first);
  EXPECT_EQ(packed_driver().ReadDescriptor(3).id, second);
  EXPECT_EQ(driver_->TakeUsed(), (Used{first, 20}));
  EXPECT_EQ(driver_->TakeUsed(), (Used{second, 8}));
  EXPECT_EQ(queue_->position().next_used, Cursor(4).Encode());
}

TEST_P(PackedQueueTest, PositionOutsideTheRingIsRefused) {
  const auto slot = static_cast<uint16_t>(size());
  // At the last one chains would be owed.
  for (const Virtqueue::Position& position :
       {Virtqueue::Position{slot, slot}, Virtqueue::Position{slot, 0},
        Virtqueue::Position{0, slot}, Virtqueue::Position{0, 0x8000}}) {
    EXPECT_EQ(CreateVirtqueue(0, driver_->config(), size(),
                              {kFeatureVersion1, kFeatureRingPacked},
                              memory_.dma(), position)
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_P(PackedQueueTest, FlagsInATableOtherThanWriteMeanNothing) {
  // virtio 1.2, 2.8.7: the table's length says where it ends.
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x8000};
  packed_driver().WriteDescriptorAt(table, 0,
                                    {TestMemory::kBuffers.value, 4, 77, 0});
  packed_driver().WriteDescriptorAt(
      table, 1,
      {TestMemory::kBuffers.value, 4, 78,
       kDescFlagNext | kDescFlagWrite | kDescFlagUsed});
  // So does the write flag of the descriptor that names it.
  packed_driver().Publish({table.value, 2 * kDescriptorBytes, 3,
                           kDescFlagIndirect | kDescFlagWrite});
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_EQ(chain.readable_bytes(), 4u);
  EXPECT_EQ(chain.writable_bytes(), 4u);
  queue_->Complete(std::move(chain), 1);
  EXPECT_EQ(packed_driver().ReadDescriptor(0).id, 3);
}

// --- Notifications. ---

TEST_P(PackedQueueTest, ReservedEventFlagsNotify) {
  packed_driver().SetEvent(0, 3);
  AddWritable();
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(PackedQueueTest, BitsAboveTheEventFlagsMeanNothing) {
  packed_driver().SetEvent(0, 0xfffc | kEventDisable);
  AddWritable();
  Serve(1);
  EXPECT_FALSE(queue_->ShouldNotify());
}

// --- Clauses of the event index. ---

class PackedQueueEventIdxTest : public PackedQueueTest {};
INSTANTIATE_TEST_SUITE_P(
    Rings, PackedQueueEventIdxTest,
    ::testing::Values(Ring{.packed = true, .event_idx = true},
                      Ring{.packed = true, .size = 5, .event_idx = true}),
    RingName);

TEST_P(PackedQueueEventIdxTest, NotifiesExactlyWhenTheEventIsReached) {
  // virtio 1.2, 2.8.10: for the descriptor at that offset in that turn.
  for (const bool wrap : {true, false}) {
    StartAt({0, true});
    packed_driver().SetEvent(PackedCursor{2, wrap}.Encode(), kEventDesc);
    for (uint32_t i = 0; i < 2 * size(); ++i) {
      AddWritable();
      Serve(1);
      EXPECT_EQ(queue_->ShouldNotify(), i == (wrap ? 2 : size() + 2)) << i;
      driver_->TakeUsed();
    }
  }
}

TEST_P(PackedQueueEventIdxTest, NotifiesWhenTheEventLiesInsideABatch) {
  packed_driver().SetEvent(PackedCursor{1, true}.Encode(), kEventDesc);
  for (int i = 0; i < 3; ++i) AddWritable();
  Serve(3);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(PackedQueueEventIdxTest, NotifiesWhenTheEventLiesInsideAChain) {
  packed_driver().SetEvent(PackedCursor{2, true}.Encode(), kEventDesc);
  AddWritable(16, 4);
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(PackedQueueEventIdxTest, EventOutsideTheRingNotifies) {
  packed_driver().SetEvent(static_cast<uint16_t>(0x8000 | size()), kEventDesc);
  AddWritable();
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(PackedQueueEventIdxTest, TwoTurnsUnannouncedAreAnnounced) {
  // The event lies anywhere.
  packed_driver().SetEvent(PackedCursor{3, true}.Encode(), kEventDesc);
  for (uint32_t i = 0; i < 2 * size() + 1; ++i) {
    AddWritable();
    Serve(1);
    ASSERT_TRUE(driver_->TakeUsed().has_value());
  }
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(PackedQueueEventIdxTest, DeviceAsksForTheNextDescriptor) {
  AddWritable(16, 2);
  Serve(1);
  EXPECT_FALSE(queue_->EnableNotifications());
  EXPECT_EQ(packed_driver().DeviceEventPosition(), Cursor(2).Encode());
  EXPECT_EQ(packed_driver().DeviceEventFlags(), kEventDesc);
}

class PackedQueueFlagsTest : public PackedQueueTest {};
INSTANTIATE_TEST_SUITE_P(Rings, PackedQueueFlagsTest,
                         ::testing::Values(Ring{.packed = true},
                                           Ring{.packed = true, .size = 5}),
                         RingName);

TEST_P(PackedQueueFlagsTest, FlagsTellTheDriverWhetherToKick) {
  queue_->DisableNotifications();
  EXPECT_EQ(packed_driver().DeviceEventFlags(), kEventDisable);
  EXPECT_FALSE(queue_->EnableNotifications());
  EXPECT_EQ(packed_driver().DeviceEventFlags(), kEventEnable);
  EXPECT_EQ(packed_driver().DeviceEventPosition(), 0);
}

TEST_P(PackedQueueFlagsTest, DescFlagWithoutTheFeatureNotifies) {
  packed_driver().SetEvent(PackedCursor{3, true}.Encode(), kEventDesc);
  AddWritable();
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

}  // namespace
}  // namespace vmsg::virtio
