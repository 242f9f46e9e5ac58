// The packed queue against a driver that breaks the rules, and against memory
// that goes away. Outcomes are those of the split queue wherever the two have
// the same rule.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"

namespace vmsg::virtio {
namespace {

using PopResult = Virtqueue::PopResult;

constexpr uint32_t kSize = 7;
constexpr uint64_t kBuffer = TestMemory::kBuffers.value;
constexpr vmm::GuestAddress kTable{TestMemory::kBuffers.value + 0x8000};
const Features kPlain = {kFeatureVersion1, kFeatureRingPacked};
const Features kAll = {kFeatureVersion1, kFeatureRingPacked,
                       kFeatureIndirectDesc, kFeatureEventIdx};

class PackedQueueFaultTest : public ::testing::Test {
 protected:
  PackedQueueFaultTest() { Create(kAll); }

  // A new driver and a new queue in cleared memory.
  void Create(const Features& features) {
    driver_.emplace(memory_.memory(), TestMemory::kRam, kSize,
                    features.Has(kFeatureEventIdx));
    queue_ =
        *CreateVirtqueue(0, driver_->config(), kSize, features, memory_.dma());
  }

  // Pop() finds `fault`, keeps saying so, and has taken nothing.
  void ExpectBroken(QueueFault fault) {
    const uint32_t owed = queue_->owed();
    const Virtqueue::Position position = queue_->position();
    DescriptorChain chain;
    EXPECT_EQ(queue_->Pop(&chain), PopResult::kBroken);
    EXPECT_FALSE(chain.valid());
    EXPECT_EQ(queue_->fault(), fault) << QueueFaultName(queue_->fault());
    EXPECT_EQ(queue_->Pop(&chain), PopResult::kBroken);
    EXPECT_EQ(queue_->fault(), fault);
    EXPECT_EQ(queue_->owed(), owed);
    EXPECT_EQ(queue_->position(), position);
    EXPECT_FALSE(queue_->EnableNotifications());
    EXPECT_FALSE(queue_->ShouldNotify());
    queue_->DisableNotifications();
  }

  DescriptorChain PopOne() {
    DescriptorChain chain;
    EXPECT_EQ(queue_->Pop(&chain), PopResult::kChain);
    return chain;
  }
  void PublishIndirect(uint32_t bytes, uint16_t more_flags = 0) {
    driver_->Publish({kTable.value, bytes, 0,
                      static_cast<uint16_t>(kDescFlagIndirect | more_flags)});
  }

  TestMemory memory_;
  std::optional<FakePackedDriverQueue> driver_;
  std::unique_ptr<Virtqueue> queue_;
};

// --- What is available. ---

TEST_F(PackedQueueFaultTest, PlaceThatIsOwedAndMadeAvailableAgainBreaksIt) {
  for (uint32_t i = 0; i < kSize; ++i) {
    driver_->Publish({kBuffer, 4});
    PopOne();
  }
  DescriptorChain chain;
  EXPECT_EQ(queue_->Pop(&chain), PopResult::kEmpty);
  driver_->Publish({kBuffer, 4});
  ExpectBroken(QueueFault::kTooManyAvailable);
  EXPECT_EQ(queue_->owed(), kSize);
}

TEST_F(PackedQueueFaultTest, ChainThatGoesOnIntoPlacesThatAreOwedBreaksIt) {
  driver_->Publish({kBuffer, 4});
  PopOne();
  for (uint32_t i = 1; i < kSize; ++i) {
    driver_->Publish({kBuffer, 4, 0, kDescFlagNext});
  }
  driver_->Publish({kBuffer, 4});
  ExpectBroken(QueueFault::kTooManyAvailable);
}

TEST_F(PackedQueueFaultTest, EnablingFindsTooManyAndLeavesItToPop) {
  for (uint32_t i = 0; i < kSize; ++i) {
    driver_->Publish({kBuffer, 4});
    PopOne();
  }
  driver_->Publish({kBuffer, 4});
  EXPECT_TRUE(queue_->EnableNotifications());
  ExpectBroken(QueueFault::kTooManyAvailable);
}

TEST_F(PackedQueueFaultTest, ChainThatGoesOnWhereNothingIsAvailableBreaksIt) {
  // Never written, used, or of the turn before.
  const PackedDescriptor second[] = {
      {kBuffer, 4, 0, 0},
      {kBuffer, 4, 0, kDescFlagAvail | kDescFlagUsed},
      {kBuffer, 4, 0, kDescFlagUsed}};
  for (const PackedDescriptor& descriptor : second) {
    Create(kAll);
    driver_->WriteDescriptor(1, descriptor);
    driver_->Publish({kBuffer, 4, 0, kDescFlagNext});
    ExpectBroken(QueueFault::kNotAvailable);
  }
}

TEST_F(PackedQueueFaultTest, ChainAcrossTheEndNeedsTheOtherWrapCounterThere) {
  for (uint32_t i = 0; i + 1 < kSize; ++i) {
    driver_->Publish({kBuffer, 4});
    queue_->Complete(PopOne(), 0);
  }
  // The last place leads to the first; which is available as in this turn.
  driver_->WriteDescriptor(0, {kBuffer, 4, 0, kDescFlagAvail});
  driver_->Publish({kBuffer, 4, 0, kDescFlagNext});
  ExpectBroken(QueueFault::kNotAvailable);
}

TEST_F(PackedQueueFaultTest, FlagsThatAreNotOfThisTurnAreNotAvailable) {
  for (uint16_t flags : {uint16_t{0}, uint16_t{kDescFlagUsed},
                         uint16_t{kDescFlagAvail | kDescFlagUsed}}) {
    Create(kAll);
    driver_->WriteDescriptor(0, {kBuffer, 4, 0, flags});
    DescriptorChain chain;
    EXPECT_EQ(queue_->Pop(&chain), PopResult::kEmpty);
  }
}

// --- Descriptors. ---

TEST_F(PackedQueueFaultTest, ChainThatGoesAllRoundTheRingBreaksIt) {
  for (uint32_t i = 0; i < kSize; ++i) {
    driver_->Publish({kBuffer, 4, 0, kDescFlagNext});
  }
  ExpectBroken(QueueFault::kChainTooLong);
}

TEST_F(PackedQueueFaultTest, DescriptorOfLengthZeroBreaksIt) {
  driver_->Publish({kBuffer, 0});
  ExpectBroken(QueueFault::kZeroLength);
}

TEST_F(PackedQueueFaultTest, BufferOutsideMemoryBreaksIt) {
  const uint64_t end = TestMemory::kRam.value + TestMemory::kRamBytes;
  const PackedDescriptor bad[] = {
      {TestMemory::kHole.value, 1},
      {end - 4, 5},
      {kBuffer, 0xffffffff},
      {UINT64_MAX, 1},
      {UINT64_MAX - 3, 16},  // wraps
      {0, 1},
  };
  for (const PackedDescriptor& descriptor : bad) {
    Create(kPlain);
    driver_->Publish(descriptor);
    ExpectBroken(QueueFault::kBufferOutsideMemory);
  }
}

TEST_F(PackedQueueFaultTest, BufferAcrossAdjacentRegionsIsOne) {
  const uint64_t end = TestMemory::kRam.value + TestMemory::kRamBytes;
  auto backing = vmm::MemoryBacking::CreateAnonymous(0x10000, "next");
  ASSERT_TRUE(backing.ok());
  ASSERT_TRUE(
      memory_.memory()
          ->Add({.range = {{end}, 0x10000}, .backing = *std::move(backing)})
          .ok());
  driver_->Publish({end - 4, 8, 0, kDescFlagWrite});
  EXPECT_EQ(PopOne().writable_bytes(), 8u);
}

TEST_F(PackedQueueFaultTest, WritableBufferInReadOnlyMemoryBreaksIt) {
  driver_->Publish({TestMemory::kReadOnly.value, 4, 0, kDescFlagWrite});
  ExpectBroken(QueueFault::kBufferReadOnly);
}

TEST_F(PackedQueueFaultTest, ReadableBufferInReadOnlyMemoryIsFine) {
  driver_->Publish({TestMemory::kReadOnly.value, 4});
  PopOne();
}

TEST_F(PackedQueueFaultTest, ReadableAfterWritableBreaksIt) {
  driver_->WriteDescriptor(1, {kBuffer, 4, 0, kDescFlagAvail});
  driver_->Publish({kBuffer, 4, 0, kDescFlagNext | kDescFlagWrite});
  ExpectBroken(QueueFault::kReadableAfterWritable);
}

TEST_F(PackedQueueFaultTest, AnyIdGoesBackAsItCame) {
  // It means something to the driver only: two chains may even share one.
  for (uint16_t id : {uint16_t{0}, uint16_t{kSize}, uint16_t{0xffff}}) {
    Create(kPlain);
    driver_->Publish({kBuffer, 4, id});
    driver_->Publish({kBuffer, 4, id});
    DescriptorChain first = PopOne();
    queue_->Complete(PopOne(), 0);
    queue_->Complete(std::move(first), 0);
    EXPECT_EQ(driver_->ReadDescriptor(0).id, id);
    EXPECT_EQ(driver_->ReadDescriptor(1).id, id);
    EXPECT_EQ(queue_->fault(), QueueFault::kNone);
  }
}

TEST_F(PackedQueueFaultTest, GoodChainsBeforeABadOneAreServed) {
  driver_->Publish({kBuffer, 4, 5, kDescFlagWrite});
  driver_->Publish({kBuffer, 0});
  queue_->Complete(PopOne(), 4);
  EXPECT_EQ(driver_->ReadDescriptor(0).flags,
            kDescFlagWrite | kDescFlagAvail | kDescFlagUsed);
  ExpectBroken(QueueFault::kZeroLength);
}

TEST_F(PackedQueueFaultTest, BrokenQueueWritesNothingAnyMore) {
  driver_->Publish({kBuffer, 4, 5, kDescFlagWrite});
  DescriptorChain chain = PopOne();
  driver_->Publish({kBuffer, 0});
  ExpectBroken(QueueFault::kZeroLength);
  const PackedDescriptor before = driver_->ReadDescriptor(0);
  queue_->Complete(std::move(chain), 4);
  EXPECT_EQ(queue_->owed(), 0u);
  EXPECT_EQ(driver_->ReadDescriptor(0), before);
}

// --- Totals. ---

TEST_F(PackedQueueFaultTest, FourGibibytesInOneDirectionBreakIt) {
  constexpr uint64_t kHalf = uint64_t{1} << 31;
  auto backing = vmm::MemoryBacking::CreateAnonymous(kHalf, "large");
  ASSERT_TRUE(backing.ok());
  const vmm::GuestAddress large{uint64_t{1} << 40};
  ASSERT_TRUE(memory_.memory()
                  ->Add({.range = {large, kHalf}, .backing = *backing})
                  .ok());
  const auto half = static_cast<uint32_t>(kHalf);
  constexpr uint16_t kNext = kDescFlagNext | kDescFlagAvail;
  driver_->WriteDescriptor(1, {large.value, half - 1, 0, kNext});
  driver_->WriteDescriptor(
      2, {large.value, half, 0, kDescFlagWrite | kDescFlagAvail});
  driver_->Publish({large.value, half, 0, kDescFlagNext});
  DescriptorChain chain = PopOne();
  EXPECT_EQ(chain.readable_bytes(), UINT32_MAX);
  EXPECT_EQ(chain.writable_bytes(), half);

  Create(kAll);
  driver_->WriteDescriptor(1, {large.value, half, 0, kDescFlagAvail});
  driver_->Publish({large.value, half, 0, kDescFlagNext});
  ExpectBroken(QueueFault::kTooManyBytes);
}

TEST(PackedQueueLimitTest, SegmentsOfAllOwedChainsAreBounded) {
  // Chains through one table each, all of them the same.
  constexpr uint32_t kLarge = 2000;
  TestMemory memory;
  FakePackedDriverQueue driver(memory.memory(), TestMemory::kRam, kLarge);
  auto queue = *CreateVirtqueue(
      0, driver.config(), kLarge,
      {kFeatureVersion1, kFeatureRingPacked, kFeatureIndirectDesc},
      memory.dma());
  for (uint32_t i = 0; i < kLarge; ++i) {
    driver.WriteDescriptorAt(kTable, i, {kBuffer, 1});
  }
  std::vector<DescriptorChain> chains;
  for (;;) {
    driver.Publish(
        {kTable.value, kLarge * kDescriptorBytes, 0, kDescFlagIndirect});
    DescriptorChain chain;
    if (queue->Pop(&chain) != PopResult::kChain) break;
    chains.push_back(std::move(chain));
  }
  EXPECT_EQ(queue->fault(), QueueFault::kTooManySegments);
  EXPECT_EQ(chains.size(), Virtqueue::kMaxOwedSegments / kLarge);
}

// --- Indirect tables. ---

TEST_F(PackedQueueFaultTest, IndirectWithoutTheFeatureBreaksIt) {
  Create(kPlain);
  driver_->WriteDescriptorAt(kTable, 0, {kBuffer, 4});
  PublishIndirect(kDescriptorBytes);
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_F(PackedQueueFaultTest, IndirectWithNextBreaksIt) {
  // virtio 1.2, 2.8.19
  driver_->WriteDescriptorAt(kTable, 0, {kBuffer, 4});
  PublishIndirect(kDescriptorBytes, kDescFlagNext);
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_F(PackedQueueFaultTest, IndirectAtTheEndOfAChainBreaksIt) {
  // virtio 1.2, 2.8.19; a split ring allows it.
  driver_->WriteDescriptorAt(kTable, 0, {kBuffer, 4});
  driver_->WriteDescriptor(1, {kTable.value, kDescriptorBytes, 0,
                               kDescFlagIndirect | kDescFlagAvail});
  driver_->Publish({kBuffer, 4, 0, kDescFlagNext});
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_F(PackedQueueFaultTest, IndirectInsideAnIndirectTableBreaksIt) {
  driver_->WriteDescriptorAt(
      kTable, 0, {kTable.value, kDescriptorBytes, 0, kDescFlagIndirect});
  PublishIndirect(kDescriptorBytes);
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_F(PackedQueueFaultTest, IndirectTableOfAnOddLengthBreaksIt) {
  for (uint32_t bytes : {0u, 1u, 15u, 17u, 0xffffffffu}) {
    Create(kAll);
    PublishIndirect(bytes);
    ExpectBroken(QueueFault::kBadIndirect);
  }
}

TEST_F(PackedQueueFaultTest, TableLongerThanTheQueueBreaksItUnread) {
  for (uint32_t bytes : {(kSize + 1) * 16, 0xfffffff0u}) {
    Create(kAll);
    PublishIndirect(bytes);
    ExpectBroken(QueueFault::kChainTooLong);
  }
}

TEST_F(PackedQueueFaultTest, BadBufferInATableBreaksIt) {
  driver_->WriteDescriptorAt(kTable, 0, {kBuffer, 4});
  driver_->WriteDescriptorAt(kTable, 1, {kBuffer, 0});
  PublishIndirect(2 * kDescriptorBytes);
  ExpectBroken(QueueFault::kZeroLength);
}

TEST_F(PackedQueueFaultTest, IndirectTableOutsideMemoryBreaksIt) {
  const uint64_t end = TestMemory::kRam.value + TestMemory::kRamBytes;
  driver_->WriteDescriptorAt({end - kDescriptorBytes}, 0, {kBuffer, 4});
  for (uint64_t table : {TestMemory::kHole.value, uint64_t{UINT64_MAX - 15},
                         uint64_t{UINT64_MAX - 4}, end - kDescriptorBytes}) {
    Create(kAll);
    driver_->Publish({table, 4 * kDescriptorBytes, 0, kDescFlagIndirect});
    ExpectBroken(QueueFault::kBufferOutsideMemory);
  }
}

// --- Memory that goes away under a running queue. ---

TEST_F(PackedQueueFaultTest, RingThatIsRemovedBreaksPop) {
  memory_.RemoveRam();
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_F(PackedQueueFaultTest, RingThatIsRemovedBreaksComplete) {
  driver_->Publish({kBuffer, 4, 0, kDescFlagWrite});
  DescriptorChain chain = PopOne();
  memory_.RemoveRam();
  queue_->Complete(std::move(chain), 0);
  EXPECT_EQ(queue_->owed(), 0u);
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_F(PackedQueueFaultTest, RingThatIsRemovedBreaksNotifications) {
  driver_->Publish({kBuffer, 4, 0, kDescFlagWrite});
  queue_->Complete(PopOne(), 0);
  memory_.RemoveRam();
  EXPECT_FALSE(queue_->ShouldNotify());
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_F(PackedQueueFaultTest, RingThatIsRemovedBreaksEnabling) {
  memory_.RemoveRam();
  EXPECT_TRUE(queue_->EnableNotifications());
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_F(PackedQueueFaultTest, BusMasteringThatGoesOffIsTold) {
  driver_->Publish({kBuffer, 4, 0, kDescFlagWrite});
  memory_.gate()->Set(false);
  ExpectBroken(QueueFault::kDmaDisabled);
  memory_.gate()->Set(true);
  ExpectBroken(QueueFault::kDmaDisabled);
}

// --- Our own bugs. ---

using PackedQueueDeathTest = PackedQueueFaultTest;

TEST_F(PackedQueueDeathTest, CompletingTwiceIsOurBug) {
  driver_->Publish({kBuffer, 4, 0, kDescFlagWrite});
  queue_->Complete(PopOne(), 0);
  EXPECT_DEATH(queue_->Complete(DescriptorChain(), 0), "completed once");
}

TEST_F(PackedQueueDeathTest, WritingMoreThanThereIsIsOurBug) {
  driver_->Publish({kBuffer, 4, 0, kDescFlagWrite});
  DescriptorChain chain = PopOne();
  EXPECT_DEATH(queue_->Complete(std::move(chain), 5), "more written");
}

}  // namespace
}  // namespace vmsg::virtio
