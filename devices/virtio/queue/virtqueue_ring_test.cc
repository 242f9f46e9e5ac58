// Either ring against a driver that keeps the rules. What only one of the two
// formats has is in split_virtqueue_test.cc and packed_virtqueue_test.cc.

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_fixture.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/base/guest_address.h"

namespace vmsg::virtio {
namespace {

class VirtqueueRingTest : public VirtqueueFixture {
 protected:
  VirtqueueRingTest() { Start({kFeatureIndirectDesc}); }
};

INSTANTIATE_TEST_SUITE_P(
    Rings, VirtqueueRingTest,
    ::testing::Values(Ring{.packed = false},
                      Ring{.packed = false, .event_idx = true},
                      Ring{.packed = true},
                      Ring{.packed = true, .event_idx = true},
                      Ring{.packed = true, .size = 5},
                      Ring{.packed = true, .size = 5, .event_idx = true}),
    RingName);

TEST_P(VirtqueueRingTest, EmptyQueueGivesNothing) {
  DescriptorChain chain;
  EXPECT_EQ(queue_->Pop(&chain), PopResult::kEmpty);
  EXPECT_FALSE(chain.valid());
  EXPECT_FALSE(queue_->ShouldNotify());
}

TEST_P(VirtqueueRingTest, ChainsComeInTheOrderInWhichTheyWereAdded) {
  AddWritable(1);
  AddWritable(2, 2);
  AddWritable(3);
  DescriptorChain chain;
  for (uint32_t bytes : {1u, 4u, 3u}) {
    ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
    EXPECT_EQ(chain.writable_bytes(), bytes);
  }
  EXPECT_EQ(queue_->Pop(&chain), PopResult::kEmpty);
  EXPECT_FALSE(chain.valid());
  EXPECT_EQ(queue_->owed(), 3u);
}

TEST_P(VirtqueueRingTest, CompletedChainIsUsedWithItsIdAndLength) {
  const uint16_t id = AddWritable();
  Serve(1, 7);
  EXPECT_EQ(driver_->TakeUsed(), (Used{id, 7}));
  EXPECT_EQ(driver_->TakeUsed(), std::nullopt);
  EXPECT_EQ(queue_->owed(), 0u);
}

TEST_P(VirtqueueRingTest, CompletionsMayComeInAnyOrder) {
  const uint16_t first = AddWritable(16, 2);
  const uint16_t second = AddWritable();
  DescriptorChain a = Pop();
  DescriptorChain b = Pop();
  queue_->Complete(std::move(b), 2);
  EXPECT_EQ(driver_->TakeUsed(), (Used{second, 2}));
  queue_->Complete(std::move(a), 1);
  EXPECT_EQ(driver_->TakeUsed(), (Used{first, 1}));
  EXPECT_EQ(driver_->bad_used(), 0u);
}

TEST_P(VirtqueueRingTest, WholeRingMayBeOneChain) {
  for (int turn = 0; turn < 3; ++turn) {
    const uint16_t id = AddWritable(4, size());
    DescriptorChain chain = Pop();
    EXPECT_EQ(chain.writable().size(), size());
    queue_->Complete(std::move(chain), 4);
    EXPECT_EQ(driver_->TakeUsed(), (Used{id, 4}));
  }
}

TEST_P(VirtqueueRingTest, EveryDescriptorMayBeAChainOfItsOwn) {
  for (uint32_t i = 0; i < size(); ++i) AddWritable();
  std::vector<DescriptorChain> chains(size());
  for (DescriptorChain& chain : chains) {
    ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  }
  DescriptorChain none;
  EXPECT_EQ(queue_->Pop(&none), PopResult::kEmpty);
  EXPECT_FALSE(queue_->EnableNotifications());
  EXPECT_EQ(queue_->owed(), size());
  for (DescriptorChain& chain : chains) queue_->Complete(std::move(chain), 0);
  for (uint32_t i = 0; i < size(); ++i) {
    EXPECT_TRUE(driver_->TakeUsed().has_value());
  }
  EXPECT_EQ(driver_->outstanding(), 0u);
}

TEST_P(VirtqueueRingTest, ChainsGoRoundTheRingManyTimesInAnyOrder) {
  // Of all lengths, so that they begin and end, and are used, everywhere.
  uint32_t taken = 0;
  for (uint32_t round = 0; round < 200; ++round) {
    std::vector<DescriptorChain> chains(2);
    AddWritable(4, 1 + round % 3);
    AddWritable(4, 1 + round / 3 % 2);
    for (DescriptorChain& chain : chains) {
      ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
    }
    if (round % 5 < 2) std::swap(chains[0], chains[1]);
    for (DescriptorChain& chain : chains) queue_->Complete(std::move(chain), 3);
    while (const std::optional<Used> used = driver_->TakeUsed()) {
      EXPECT_EQ(used->length, 3u);
      ++taken;
    }
  }
  EXPECT_EQ(taken, 400u);
  EXPECT_EQ(driver_->bad_used(), 0u);
  EXPECT_EQ(driver_->outstanding(), 0u);
}

TEST_P(VirtqueueRingTest, SavedPositionGoesOnInANewQueue) {
  // In the second turn of the ring.
  AddWritable(16, size() - 1);
  Serve(1);
  driver_->TakeUsed();
  AddWritable(16, 3);
  Serve(1);
  driver_->TakeUsed();
  const Virtqueue::Position position = queue_->position();
  const uint16_t id = AddWritable(9);
  CreateQueue(position);
  EXPECT_EQ(queue_->position(), position);
  Serve(1, 9);
  EXPECT_EQ(driver_->TakeUsed(), (Used{id, 9}));
}

TEST_P(VirtqueueRingTest, IndirectTableIsTheChain) {
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x8000};
  const auto id = driver_->AddIndirect(
      table, std::vector<Buffer>{{TestMemory::kBuffers, 5},
                                 {TestMemory::kBuffers, 6, true},
                                 {TestMemory::kBuffers, 7, true}});
  const uint16_t next = AddWritable();
  DescriptorChain chain = Pop();
  EXPECT_EQ(chain.readable_bytes(), 5u);
  EXPECT_EQ(chain.writable_bytes(), 13u);
  queue_->Complete(std::move(chain), 13);
  Serve(1);
  EXPECT_EQ(driver_->TakeUsed(), (Used{*id, 13}));
  EXPECT_EQ(driver_->TakeUsed(), (Used{next, 0}));
}

TEST_P(VirtqueueRingTest, GuestCannotChangeAChainThatTheDeviceHolds) {
  AddWritable(16);
  const DescriptorChain chain = Pop();
  // A new ring has it at its first place.
  driver_->WriteRaw(driver_->config().desc, 0, {TestMemory::kHole.value, 1000});
  EXPECT_EQ(chain.writable_bytes(), 16u);
  EXPECT_EQ(chain.writable()[0].address, TestMemory::kBuffers);
}

// --- Notifications to the driver. ---

TEST_P(VirtqueueRingTest, DriverIsNotifiedOnceForABatch) {
  for (int i = 0; i < 3; ++i) AddWritable();
  ASSERT_FALSE(driver_->EnableInterrupts());
  Serve(3);
  EXPECT_TRUE(queue_->ShouldNotify());
  EXPECT_FALSE(queue_->ShouldNotify());
}

TEST_P(VirtqueueRingTest, DriverThatPollsIsNotNotified) {
  driver_->DisableInterrupts();
  AddWritable();
  Serve(1);
  EXPECT_FALSE(queue_->ShouldNotify());
  EXPECT_TRUE(driver_->EnableInterrupts()) << "it finds the entry itself";
  AddWritable();
  driver_->TakeUsed();
  EXPECT_FALSE(driver_->EnableInterrupts());
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(VirtqueueRingTest, NotificationsWorkInEachPlaceOfTheRing) {
  for (uint32_t i = 0; i < 4 * size(); ++i) {
    ASSERT_FALSE(driver_->EnableInterrupts());
    AddWritable(16, 1 + i % 2);
    Serve(1);
    EXPECT_TRUE(queue_->ShouldNotify()) << i;
    EXPECT_TRUE(driver_->TakeUsed().has_value());
  }
}

// --- Notifications from the driver. ---

TEST_P(VirtqueueRingTest, DriverKicksWhenTheDeviceAskedForIt) {
  for (uint32_t i = 0; i < 3 * size(); ++i) {
    EXPECT_FALSE(queue_->EnableNotifications());
    AddWritable(16, 1 + i % 2);
    EXPECT_TRUE(driver_->ShouldKick());
    Serve(1);
    driver_->TakeUsed();
  }
}

TEST_P(VirtqueueRingTest, DriverDoesNotKickWhileTheDeviceIsAtWork) {
  EXPECT_FALSE(queue_->EnableNotifications());
  AddWritable();
  EXPECT_TRUE(driver_->ShouldKick());
  queue_->DisableNotifications();
  AddWritable();
  EXPECT_FALSE(driver_->ShouldKick());
}

TEST_P(VirtqueueRingTest, DriverKicksForANewChainWhileOthersAreOwed) {
  AddWritable();
  AddWritable();
  EXPECT_TRUE(driver_->ShouldKick());
  const DescriptorChain first = Pop();
  const DescriptorChain second = Pop();
  EXPECT_FALSE(queue_->EnableNotifications());
  AddWritable();
  EXPECT_TRUE(driver_->ShouldKick());
}

TEST_P(VirtqueueRingTest, EnablingFindsTheChainThatCameJustBefore) {
  queue_->DisableNotifications();
  AddWritable();
  EXPECT_TRUE(queue_->EnableNotifications());
  Serve(1);
  EXPECT_FALSE(queue_->EnableNotifications());
}

}  // namespace
}  // namespace vmsg::virtio
