// The split queue against a driver that keeps the rules. What happens with one
// that does not is in split_virtqueue_fault_test.cc.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"

namespace vmsg::virtio {
namespace {

using Buffer = FakeDriverQueue::Buffer;
using PopResult = Virtqueue::PopResult;
using Used = FakeDriverQueue::Used;

constexpr uint32_t kSize = 8;

class SplitQueueTest : public ::testing::TestWithParam<bool> {
 protected:
  SplitQueueTest()
      : driver_(memory_.memory(), TestMemory::kRam, kSize, GetParam()) {
    Create({});
  }

  static Features AllFeatures() {
    Features features = {kFeatureVersion1, kFeatureIndirectDesc};
    if (GetParam()) features.Set(kFeatureEventIdx);
    return features;
  }

  void Create(Virtqueue::Position position) {
    queue_ = *CreateVirtqueue(0, driver_.config(), kSize, AllFeatures(),
                              memory_.dma(), position);
  }

  // A chain of one writable buffer.
  uint16_t AddWritable(uint32_t length = 16) {
    return *driver_.Add(
        std::vector<Buffer>{{TestMemory::kBuffers, length, true}});
  }

  void Serve(uint32_t count, uint32_t written = 0) {
    for (uint32_t i = 0; i < count; ++i) {
      DescriptorChain chain;
      ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
      queue_->Complete(std::move(chain), written);
    }
  }

  TestMemory memory_;
  FakeDriverQueue driver_;
  std::unique_ptr<Virtqueue> queue_;
};

INSTANTIATE_TEST_SUITE_P(Suppression, SplitQueueTest, ::testing::Bool(),
                         [](const auto& param_info) {
                           return param_info.param ? "EventIdx" : "Flags";
                         });

TEST_P(SplitQueueTest, EmptyQueueGivesNothing) {
  DescriptorChain chain;
  EXPECT_EQ(queue_->Pop(&chain), PopResult::kEmpty);
  EXPECT_FALSE(chain.valid());
  EXPECT_FALSE(queue_->ShouldNotify());
}

TEST_P(SplitQueueTest, ChainsComeInTheOrderOfTheAvailableRing) {
  AddWritable(1);
  AddWritable(2);
  AddWritable(3);
  DescriptorChain chain;
  for (uint32_t length = 1; length <= 3; ++length) {
    ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
    EXPECT_EQ(chain.writable_bytes(), length);
  }
  EXPECT_EQ(queue_->Pop(&chain), PopResult::kEmpty);
  EXPECT_FALSE(chain.valid());
  EXPECT_EQ(queue_->owed(), 3u);
}

TEST_P(SplitQueueTest, CompletedChainIsInTheUsedRingWithItsLength) {
  const uint16_t head = AddWritable();
  Serve(1, 7);
  EXPECT_EQ(driver_.TakeUsed(), (Used{head, 7}));
  EXPECT_EQ(driver_.TakeUsed(), std::nullopt);
  EXPECT_EQ(queue_->owed(), 0u);
}

TEST_P(SplitQueueTest, CompletionsMayComeInAnyOrder) {
  const uint16_t first = AddWritable();
  const uint16_t second = AddWritable();
  DescriptorChain a;
  DescriptorChain b;
  ASSERT_EQ(queue_->Pop(&a), PopResult::kChain);
  ASSERT_EQ(queue_->Pop(&b), PopResult::kChain);
  queue_->Complete(std::move(b), 2);
  queue_->Complete(std::move(a), 1);
  EXPECT_EQ(driver_.TakeUsed(), (Used{second, 2}));
  EXPECT_EQ(driver_.TakeUsed(), (Used{first, 1}));
}

TEST_P(SplitQueueTest, WholeRingMayBeOneChain) {
  std::vector<Buffer> buffers(kSize, Buffer{TestMemory::kBuffers, 4});
  ASSERT_TRUE(driver_.Add(buffers).has_value());
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_EQ(chain.readable().size(), kSize);
}

TEST_P(SplitQueueTest, EveryDescriptorMayBeAChainOfItsOwn) {
  for (uint32_t i = 0; i < kSize; ++i) AddWritable();
  std::vector<DescriptorChain> chains(kSize);
  for (DescriptorChain& chain : chains) {
    ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  }
  EXPECT_EQ(queue_->owed(), kSize);
  for (DescriptorChain& chain : chains) queue_->Complete(std::move(chain), 0);
  for (uint32_t i = 0; i < kSize; ++i) {
    EXPECT_TRUE(driver_.TakeUsed().has_value());
  }
  EXPECT_EQ(driver_.outstanding(), 0u);
}

TEST_P(SplitQueueTest, IndicesWrapAt65536) {
  driver_.StartAt(65530);
  Create({65530, 65530});
  for (int round = 0; round < 10; ++round) {
    AddWritable();
    AddWritable();
    Serve(2, 5);
    EXPECT_TRUE(driver_.TakeUsed().has_value());
    EXPECT_TRUE(driver_.TakeUsed().has_value());
  }
  EXPECT_EQ(driver_.bad_used(), 0u);
  EXPECT_EQ(queue_->position(), (Virtqueue::Position{14, 14}));
  EXPECT_EQ(driver_.UsedIdx(), 14);
}

TEST_P(SplitQueueTest, SavedPositionGoesOnInANewQueue) {
  AddWritable();
  AddWritable();
  Serve(2);
  const Virtqueue::Position position = queue_->position();
  const uint16_t head = AddWritable(9);
  Create(position);
  EXPECT_EQ(queue_->position(), position);
  Serve(1, 9);
  driver_.TakeUsed();
  driver_.TakeUsed();
  EXPECT_EQ(driver_.TakeUsed(), (Used{head, 9}));
}

TEST_P(SplitQueueTest, IndirectTableIsTheChain) {
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x8000};
  const auto head = driver_.AddIndirect(
      table, std::vector<Buffer>{{TestMemory::kBuffers, 5},
                                 {TestMemory::kBuffers, 6, true},
                                 {TestMemory::kBuffers, 7, true}});
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_EQ(chain.readable_bytes(), 5u);
  EXPECT_EQ(chain.writable_bytes(), 13u);
  queue_->Complete(std::move(chain), 13);
  EXPECT_EQ(driver_.TakeUsed(), (Used{*head, 13}));
}

TEST_P(SplitQueueTest, BuffersMayComeBeforeTheIndirectDescriptor) {
  // virtio 1.2, 2.7.5.3.2: zero or more normal descriptors, then an indirect
  // one, whose write flag means nothing.
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x8000};
  driver_.WriteDescriptorAt(table, 0,
                            {TestMemory::kBuffers.value, 30, kDescFlagNext, 2});
  driver_.WriteDescriptorAt(table, 2,
                            {TestMemory::kBuffers.value, 40, kDescFlagWrite});
  driver_.WriteDescriptor(1,
                          {TestMemory::kBuffers.value, 20, kDescFlagNext, 4});
  driver_.WriteDescriptor(4, {table.value, 3 * kDescriptorBytes,
                              kDescFlagIndirect | kDescFlagWrite});
  driver_.Publish(1);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_EQ(chain.readable().size(), 2u);
  EXPECT_EQ(chain.readable_bytes(), 50u);
  EXPECT_EQ(chain.writable_bytes(), 40u);
}

TEST_P(SplitQueueTest, IndirectTableMayBeLongerThanItsChain) {
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x8000};
  driver_.WriteDescriptorAt(table, 0, {TestMemory::kBuffers.value, 4});
  driver_.WriteDescriptor(
      0, {table.value, 4 * kSize * kDescriptorBytes, kDescFlagIndirect});
  driver_.Publish(0);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_EQ(chain.readable().size(), 1u);
}

TEST_P(SplitQueueTest, GuestCannotChangeAChainThatTheDeviceHolds) {
  const uint16_t head = AddWritable(16);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  driver_.WriteDescriptor(head, {TestMemory::kHole.value, 1000});
  EXPECT_EQ(chain.writable_bytes(), 16u);
  EXPECT_EQ(chain.writable()[0].address, TestMemory::kBuffers);
}

// --- Notifications to the driver. ---

TEST_P(SplitQueueTest, DriverIsNotifiedOnceForABatch) {
  for (int i = 0; i < 3; ++i) AddWritable();
  Serve(3);
  EXPECT_TRUE(queue_->ShouldNotify());
  EXPECT_FALSE(queue_->ShouldNotify());
}

TEST_P(SplitQueueTest, DriverThatPollsIsNotNotified) {
  driver_.DisableInterrupts();
  AddWritable();
  Serve(1);
  EXPECT_FALSE(queue_->ShouldNotify());
  EXPECT_TRUE(driver_.EnableInterrupts()) << "it finds the entry itself";
  AddWritable();
  driver_.TakeUsed();
  EXPECT_FALSE(driver_.EnableInterrupts());
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(SplitQueueTest, NotificationsWorkAcrossTheWrapOfTheIndex) {
  driver_.StartAt(65533);
  Create({65533, 65533});
  for (int i = 0; i < 6; ++i) {
    ASSERT_FALSE(driver_.EnableInterrupts());
    AddWritable();
    Serve(1);
    EXPECT_TRUE(queue_->ShouldNotify()) << i;
    EXPECT_TRUE(driver_.TakeUsed().has_value());
  }
}

// --- Notifications from the driver. ---

TEST_P(SplitQueueTest, DriverKicksWhenTheDeviceAskedForIt) {
  EXPECT_FALSE(queue_->EnableNotifications());
  AddWritable();
  EXPECT_TRUE(driver_.ShouldKick());
  Serve(1);
  EXPECT_FALSE(queue_->EnableNotifications());
  AddWritable();
  EXPECT_TRUE(driver_.ShouldKick());
}

TEST_P(SplitQueueTest, DriverDoesNotKickWhileTheDeviceIsAtWork) {
  EXPECT_FALSE(queue_->EnableNotifications());
  AddWritable();
  EXPECT_TRUE(driver_.ShouldKick());
  queue_->DisableNotifications();
  AddWritable();
  EXPECT_FALSE(driver_.ShouldKick());
}

TEST_P(SplitQueueTest, DriverKicksForANewChainWhileOthersAreOwed) {
  AddWritable();
  AddWritable();
  EXPECT_TRUE(driver_.ShouldKick());
  DescriptorChain first;
  DescriptorChain second;
  ASSERT_EQ(queue_->Pop(&first), PopResult::kChain);
  ASSERT_EQ(queue_->Pop(&second), PopResult::kChain);
  EXPECT_FALSE(queue_->EnableNotifications());
  AddWritable();
  EXPECT_TRUE(driver_.ShouldKick());
}

TEST_P(SplitQueueTest, EnablingFindsTheChainThatCameJustBefore) {
  queue_->DisableNotifications();
  AddWritable();
  EXPECT_TRUE(queue_->EnableNotifications());
  Serve(1);
  EXPECT_FALSE(queue_->EnableNotifications());
}

// --- Clauses of the event index. ---

class SplitQueueEventIdxTest : public SplitQueueTest {};
INSTANTIATE_TEST_SUITE_P(Suppression, SplitQueueEventIdxTest,
                         ::testing::Values(true),
                         [](const auto&) { return "EventIdx"; });

TEST_P(SplitQueueEventIdxTest, MustNotifyExactlyWhenUsedEventIsReached) {
  // virtio 1.2, 2.7.7.2: the notification is for the entry whose index equals
  // used_event, not for those before or after it.
  driver_.SetUsedEvent(2);
  const bool expected[] = {false, false, true, false, false};
  for (bool notify : expected) {
    AddWritable();
    Serve(1);
    EXPECT_EQ(queue_->ShouldNotify(), notify);
  }
}

TEST_P(SplitQueueEventIdxTest, MustNotifyWhenUsedEventLiesInsideABatch) {
  // virtio 1.2, 2.7.7.2
  driver_.SetUsedEvent(1);
  for (int i = 0; i < 3; ++i) AddWritable();
  Serve(3);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(SplitQueueEventIdxTest, FlagsOfTheAvailableRingMeanNothing) {
  // virtio 1.2, 2.7.7.2: with the feature the device ignores the flags.
  driver_.SetAvailFlags(kAvailFlagNoInterrupt);
  AddWritable();
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(SplitQueueEventIdxTest, UsedFlagsStayZero) {
  // virtio 1.2, 2.7.10.1: with the feature the device sets the flags to 0.
  queue_->DisableNotifications();
  EXPECT_EQ(driver_.UsedFlags(), 0);
}

TEST_P(SplitQueueEventIdxTest, AvailEventIsTheNextIndexToTake) {
  // virtio 1.2, 2.7.10
  AddWritable();
  AddWritable();
  Serve(2);
  EXPECT_FALSE(queue_->EnableNotifications());
  EXPECT_EQ(driver_.AvailEvent(), 2);
}

TEST_P(SplitQueueEventIdxTest, MoreThan65535UnannouncedEntriesAreAnnounced) {
  // The distance from used_event is then beyond 16 bits.
  driver_.SetUsedEvent(5);
  for (uint32_t i = 0; i < 65536 + 3; ++i) {
    AddWritable();
    Serve(1);
    ASSERT_TRUE(driver_.TakeUsed().has_value());
  }
  EXPECT_TRUE(queue_->ShouldNotify());
}

class SplitQueueFlagsTest : public SplitQueueTest {};
INSTANTIATE_TEST_SUITE_P(Suppression, SplitQueueFlagsTest,
                         ::testing::Values(false),
                         [](const auto&) { return "Flags"; });

TEST_P(SplitQueueFlagsTest, NoInterruptFlagSuppresses) {
  // virtio 1.2, 2.7.7.2
  driver_.SetAvailFlags(kAvailFlagNoInterrupt);
  AddWritable();
  Serve(1);
  EXPECT_FALSE(queue_->ShouldNotify());
  driver_.SetAvailFlags(0);
  AddWritable();
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(SplitQueueFlagsTest, NoNotifyFlagTellsTheDriverNotToKick) {
  // virtio 1.2, 2.7.10.1
  queue_->DisableNotifications();
  EXPECT_EQ(driver_.UsedFlags(), kUsedFlagNoNotify);
  EXPECT_FALSE(queue_->EnableNotifications());
  EXPECT_EQ(driver_.UsedFlags(), 0);
}

TEST_P(SplitQueueFlagsTest, EventWordsAreNotTouched) {
  queue_->EnableNotifications();
  AddWritable();
  Serve(1);
  queue_->EnableNotifications();
  EXPECT_EQ(driver_.AvailEvent(), 0);
}

}  // namespace
}  // namespace vmsg::virtio
