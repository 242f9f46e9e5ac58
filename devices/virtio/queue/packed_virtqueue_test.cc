// The packed queue against a driver that keeps the rules. What happens with one
// that does not is in packed_virtqueue_fault_test.cc.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"

namespace vmsg::virtio {
namespace {

using Buffer = FakePackedDriverQueue::Buffer;
using PopResult = Virtqueue::PopResult;
using Used = FakePackedDriverQueue::Used;

// Whether event index, and the size.
using Param = std::tuple<bool, uint32_t>;

class PackedQueueTest : public ::testing::TestWithParam<Param> {
 protected:
  PackedQueueTest()
      : driver_(memory_.memory(), TestMemory::kRam, size(), event_idx()) {
    Create(std::nullopt);
  }

  static bool event_idx() { return std::get<0>(GetParam()); }
  static uint32_t size() { return std::get<1>(GetParam()); }

  void Create(std::optional<Virtqueue::Position> position) {
    Features features = {kFeatureVersion1, kFeatureRingPacked,
                         kFeatureIndirectDesc};
    if (event_idx()) features.Set(kFeatureEventIdx);
    queue_ = *CreateVirtqueue(0, driver_.config(), size(), features,
                              memory_.dma(), position);
  }
  void StartAt(PackedCursor cursor) {
    driver_.StartAt(cursor);
    Create(Virtqueue::Position{cursor.Encode(), cursor.Encode()});
  }

  // A chain of `count` writable buffers of one length.
  uint16_t AddWritable(uint32_t length = 16, size_t count = 1) {
    return *driver_.Add(
        std::vector<Buffer>(count, Buffer{TestMemory::kBuffers, length, true}));
  }
  void Serve(uint32_t count, uint32_t written = 0) {
    for (uint32_t i = 0; i < count; ++i) {
      DescriptorChain chain;
      ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
      queue_->Complete(std::move(chain), written);
    }
  }
  PackedCursor Cursor(uint32_t passed) {
    PackedCursor cursor;
    cursor.Advance(passed, size());
    return cursor;
  }

  TestMemory memory_;
  FakePackedDriverQueue driver_;
  std::unique_ptr<Virtqueue> queue_;
};

std::string NameOf(const ::testing::TestParamInfo<Param>& info) {
  return std::string(std::get<0>(info.param) ? "EventIdx" : "Flags") +
         std::to_string(std::get<1>(info.param));
}

INSTANTIATE_TEST_SUITE_P(Suppression, PackedQueueTest,
                         ::testing::Combine(::testing::Bool(),
                                            ::testing::Values(8u, 5u)),
                         NameOf);

TEST_P(PackedQueueTest, EmptyQueueGivesNothing) {
  DescriptorChain chain;
  EXPECT_EQ(queue_->Pop(&chain), PopResult::kEmpty);
  EXPECT_FALSE(chain.valid());
  EXPECT_FALSE(queue_->ShouldNotify());
  // virtio 1.2, 2.8.1: both wrap counters are 1 at first.
  EXPECT_EQ(queue_->position(), (Virtqueue::Position{0x8000, 0x8000}));
}

TEST_P(PackedQueueTest, ChainsComeInTheOrderOfTheRing) {
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

TEST_P(PackedQueueTest, UsedDescriptorHasIdLengthAndTheDevicesWrapCounter) {
  // virtio 1.2, 2.8.1 to 2.8.4. The address is left alone.
  const uint16_t id = AddWritable();
  Serve(1, 7);
  EXPECT_EQ(driver_.ReadDescriptor(0),
            (PackedDescriptor{
                .address = TestMemory::kBuffers.value,
                .length = 7,
                .id = id,
                .flags = kDescFlagWrite | kDescFlagAvail | kDescFlagUsed}));
  EXPECT_EQ(driver_.TakeUsed(), (Used{id, 7}));
  EXPECT_EQ(driver_.TakeUsed(), std::nullopt);
  EXPECT_EQ(queue_->owed(), 0u);
}

TEST_P(PackedQueueTest, WriteFlagSaysThatSomethingWasWritten) {
  // virtio 1.2, 2.8.3
  AddWritable();
  Serve(1, 0);
  EXPECT_EQ(driver_.ReadDescriptor(0).flags, kDescFlagAvail | kDescFlagUsed);
}

TEST_P(PackedQueueTest, ChainOfSeveralIsOneUsedDescriptorAndPassesTheOthers) {
  // virtio 1.2, 2.8.6
  const uint16_t first = AddWritable(8, 3);
  const uint16_t second = AddWritable(8);
  Serve(1, 20);
  Serve(1, 8);
  EXPECT_EQ(driver_.ReadDescriptor(0).id, first);
  EXPECT_EQ(driver_.ReadDescriptor(3).id, second);
  EXPECT_EQ(driver_.TakeUsed(), (Used{first, 20}));
  EXPECT_EQ(driver_.TakeUsed(), (Used{second, 8}));
  EXPECT_EQ(queue_->position().next_used, Cursor(4).Encode());
}

TEST_P(PackedQueueTest, CompletionsMayComeInAnyOrder) {
  const uint16_t first = AddWritable(16, 2);
  const uint16_t second = AddWritable();
  DescriptorChain a;
  DescriptorChain b;
  ASSERT_EQ(queue_->Pop(&a), PopResult::kChain);
  ASSERT_EQ(queue_->Pop(&b), PopResult::kChain);
  queue_->Complete(std::move(b), 2);
  EXPECT_EQ(driver_.TakeUsed(), (Used{second, 2}));
  queue_->Complete(std::move(a), 1);
  EXPECT_EQ(driver_.TakeUsed(), (Used{first, 1}));
  EXPECT_EQ(driver_.bad_used(), 0u);
}

TEST_P(PackedQueueTest, WholeRingMayBeOneChain) {
  for (int turn = 0; turn < 3; ++turn) {
    const uint16_t id = AddWritable(4, size());
    Serve(1, 4);
    EXPECT_EQ(driver_.TakeUsed(), (Used{id, 4}));
  }
}

TEST_P(PackedQueueTest, EveryDescriptorMayBeAChainOfItsOwn) {
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
    EXPECT_TRUE(driver_.TakeUsed().has_value());
  }
  EXPECT_EQ(driver_.outstanding(), 0u);
}

TEST_P(PackedQueueTest, ChainsGoRoundTheRingManyTimesInAnyOrder) {
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
    while (const std::optional<Used> used = driver_.TakeUsed()) {
      EXPECT_EQ(used->length, 3u);
      ++taken;
    }
  }
  EXPECT_EQ(taken, 400u);
  EXPECT_EQ(driver_.bad_used(), 0u);
  EXPECT_EQ(driver_.outstanding(), 0u);
}

TEST_P(PackedQueueTest, SavedPositionGoesOnInANewQueue) {
  AddWritable(16, size() - 1);
  Serve(1);
  driver_.TakeUsed();
  AddWritable(16, 3);
  Serve(1);
  driver_.TakeUsed();
  const Virtqueue::Position position = queue_->position();
  EXPECT_EQ(position, (Virtqueue::Position{2, 2}))
      << "the wrap counters are in bit 15, and 0 in the second turn";
  const uint16_t id = AddWritable(9);
  Create(position);
  EXPECT_EQ(queue_->position(), position);
  Serve(1, 9);
  EXPECT_EQ(driver_.TakeUsed(), (Used{id, 9}));
}

TEST_P(PackedQueueTest, PositionOutsideTheRingIsRefused) {
  const auto slot = static_cast<uint16_t>(size());
  for (const Virtqueue::Position& position :
       {Virtqueue::Position{slot, 0}, Virtqueue::Position{0, slot}}) {
    EXPECT_EQ(CreateVirtqueue(0, driver_.config(), size(),
                              {kFeatureVersion1, kFeatureRingPacked},
                              memory_.dma(), position)
                  .status()
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_P(PackedQueueTest, IndirectTableIsTheChain) {
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x8000};
  const auto id = driver_.AddIndirect(
      table, std::vector<Buffer>{{TestMemory::kBuffers, 5},
                                 {TestMemory::kBuffers, 6, true},
                                 {TestMemory::kBuffers, 7, true}});
  const uint16_t next = AddWritable();
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_EQ(chain.readable_bytes(), 5u);
  EXPECT_EQ(chain.writable_bytes(), 13u);
  queue_->Complete(std::move(chain), 13);
  Serve(1);
  EXPECT_EQ(driver_.TakeUsed(), (Used{*id, 13}));
  EXPECT_EQ(driver_.TakeUsed(), (Used{next, 0}));
}

TEST_P(PackedQueueTest, FlagsInATableOtherThanWriteMeanNothing) {
  // virtio 1.2, 2.8.7: the table's length says where it ends.
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x8000};
  driver_.WriteDescriptorAt(table, 0, {TestMemory::kBuffers.value, 4, 77, 0});
  driver_.WriteDescriptorAt(table, 1,
                            {TestMemory::kBuffers.value, 4, 78,
                             kDescFlagNext | kDescFlagWrite | kDescFlagUsed});
  // So does the write flag of the descriptor that names it.
  driver_.Publish({table.value, 2 * kDescriptorBytes, 3,
                   kDescFlagIndirect | kDescFlagWrite});
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_EQ(chain.readable_bytes(), 4u);
  EXPECT_EQ(chain.writable_bytes(), 4u);
  queue_->Complete(std::move(chain), 1);
  EXPECT_EQ(driver_.ReadDescriptor(0).id, 3);
}

TEST_P(PackedQueueTest, GuestCannotChangeAChainThatTheDeviceHolds) {
  AddWritable(16);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  driver_.WriteDescriptor(0, {TestMemory::kHole.value, 1000});
  EXPECT_EQ(chain.writable_bytes(), 16u);
  EXPECT_EQ(chain.writable()[0].address, TestMemory::kBuffers);
}

// --- Notifications to the driver. ---

TEST_P(PackedQueueTest, DriverIsNotifiedOnceForABatch) {
  for (int i = 0; i < 3; ++i) AddWritable();
  ASSERT_FALSE(driver_.EnableInterrupts());
  Serve(3);
  EXPECT_TRUE(queue_->ShouldNotify());
  EXPECT_FALSE(queue_->ShouldNotify());
}

TEST_P(PackedQueueTest, DriverThatPollsIsNotNotified) {
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

TEST_P(PackedQueueTest, NotificationsWorkAcrossTheWrap) {
  for (uint32_t i = 0; i < 4 * size(); ++i) {
    ASSERT_FALSE(driver_.EnableInterrupts());
    AddWritable(16, 1 + i % 2);
    Serve(1);
    EXPECT_TRUE(queue_->ShouldNotify()) << i;
    EXPECT_TRUE(driver_.TakeUsed().has_value());
  }
}

TEST_P(PackedQueueTest, ReservedEventFlagsNotify) {
  driver_.SetEvent(0, 3);
  AddWritable();
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(PackedQueueTest, BitsAboveTheEventFlagsMeanNothing) {
  driver_.SetEvent(0, 0xfffc | kEventDisable);
  AddWritable();
  Serve(1);
  EXPECT_FALSE(queue_->ShouldNotify());
}

// --- Notifications from the driver. ---

TEST_P(PackedQueueTest, DriverKicksWhenTheDeviceAskedForIt) {
  for (uint32_t i = 0; i < 3 * size(); ++i) {
    EXPECT_FALSE(queue_->EnableNotifications());
    AddWritable(16, 1 + i % 2);
    EXPECT_TRUE(driver_.ShouldKick());
    Serve(1);
    driver_.TakeUsed();
  }
}

TEST_P(PackedQueueTest, DriverDoesNotKickWhileTheDeviceIsAtWork) {
  EXPECT_FALSE(queue_->EnableNotifications());
  AddWritable();
  EXPECT_TRUE(driver_.ShouldKick());
  queue_->DisableNotifications();
  AddWritable();
  EXPECT_FALSE(driver_.ShouldKick());
}

TEST_P(PackedQueueTest, DriverKicksForANewChainWhileOthersAreOwed) {
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

TEST_P(PackedQueueTest, EnablingFindsTheChainThatCameJustBefore) {
  queue_->DisableNotifications();
  AddWritable();
  EXPECT_TRUE(queue_->EnableNotifications());
  Serve(1);
  EXPECT_FALSE(queue_->EnableNotifications());
}

// --- Clauses of the event index. ---

class PackedQueueEventIdxTest : public PackedQueueTest {};
INSTANTIATE_TEST_SUITE_P(Suppression, PackedQueueEventIdxTest,
                         ::testing::Combine(::testing::Values(true),
                                            ::testing::Values(8u, 5u)),
                         NameOf);

TEST_P(PackedQueueEventIdxTest, NotifiesExactlyWhenTheEventIsReached) {
  // virtio 1.2, 2.8.10: for the descriptor at that offset in that turn.
  for (const bool wrap : {true, false}) {
    StartAt({0, true});
    driver_.SetEvent(PackedCursor{2, wrap}.Encode(), kEventDesc);
    for (uint32_t i = 0; i < 2 * size(); ++i) {
      AddWritable();
      Serve(1);
      EXPECT_EQ(queue_->ShouldNotify(), i == (wrap ? 2 : size() + 2)) << i;
      driver_.TakeUsed();
    }
  }
}

TEST_P(PackedQueueEventIdxTest, NotifiesWhenTheEventLiesInsideABatch) {
  driver_.SetEvent(PackedCursor{1, true}.Encode(), kEventDesc);
  for (int i = 0; i < 3; ++i) AddWritable();
  Serve(3);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(PackedQueueEventIdxTest, NotifiesWhenTheEventLiesInsideAChain) {
  driver_.SetEvent(PackedCursor{2, true}.Encode(), kEventDesc);
  AddWritable(16, 4);
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(PackedQueueEventIdxTest, EventOutsideTheRingNotifies) {
  driver_.SetEvent(static_cast<uint16_t>(0x8000 | size()), kEventDesc);
  AddWritable();
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(PackedQueueEventIdxTest, TwoTurnsUnannouncedAreAnnounced) {
  // The event lies anywhere.
  driver_.SetEvent(PackedCursor{3, true}.Encode(), kEventDesc);
  for (uint32_t i = 0; i < 2 * size() + 1; ++i) {
    AddWritable();
    Serve(1);
    ASSERT_TRUE(driver_.TakeUsed().has_value());
  }
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(PackedQueueEventIdxTest, DeviceAsksForTheNextDescriptor) {
  AddWritable(16, 2);
  Serve(1);
  EXPECT_FALSE(queue_->EnableNotifications());
  EXPECT_EQ(driver_.DeviceEventPosition(), Cursor(2).Encode());
  EXPECT_EQ(driver_.DeviceEventFlags(), kEventDesc);
}

class PackedQueueFlagsTest : public PackedQueueTest {};
INSTANTIATE_TEST_SUITE_P(Suppression, PackedQueueFlagsTest,
                         ::testing::Combine(::testing::Values(false),
                                            ::testing::Values(8u, 5u)),
                         NameOf);

TEST_P(PackedQueueFlagsTest, FlagsTellTheDriverWhetherToKick) {
  queue_->DisableNotifications();
  EXPECT_EQ(driver_.DeviceEventFlags(), kEventDisable);
  EXPECT_FALSE(queue_->EnableNotifications());
  EXPECT_EQ(driver_.DeviceEventFlags(), kEventEnable);
  EXPECT_EQ(driver_.DeviceEventPosition(), 0);
}

TEST_P(PackedQueueFlagsTest, DescFlagWithoutTheFeatureNotifies) {
  driver_.SetEvent(PackedCursor{3, true}.Encode(), kEventDesc);
  AddWritable();
  Serve(1);
  EXPECT_TRUE(queue_->ShouldNotify());
}

}  // namespace
}  // namespace vmsg::virtio
