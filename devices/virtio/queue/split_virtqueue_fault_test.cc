// The split queue against a driver that breaks the rules, and against memory
// that goes away.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"

namespace vmsg::virtio {
namespace {

using PopResult = Virtqueue::PopResult;

constexpr uint32_t kSize = 8;
constexpr uint64_t kBuffer = TestMemory::kBuffers.value;
constexpr vmm::GuestAddress kTable{TestMemory::kBuffers.value + 0x8000};

class SplitQueueFaultTest : public ::testing::Test {
 protected:
  SplitQueueFaultTest()
      : driver_(memory_.memory(), TestMemory::kRam, kSize,
                /*event_idx=*/true) {
    Create({kFeatureVersion1, kFeatureIndirectDesc, kFeatureEventIdx});
  }

  void Create(const Features& features) {
    queue_ =
        *CreateVirtqueue(0, driver_.config(), kSize, features, memory_.dma());
  }

  // Pop() finds `fault`, keeps saying so, and has taken nothing.
  void ExpectBroken(QueueFault fault) {
    DescriptorChain chain;
    EXPECT_EQ(queue_->Pop(&chain), PopResult::kBroken);
    EXPECT_FALSE(chain.valid());
    EXPECT_EQ(queue_->fault(), fault) << QueueFaultName(queue_->fault());
    EXPECT_EQ(queue_->Pop(&chain), PopResult::kBroken);
    EXPECT_EQ(queue_->fault(), fault);
    EXPECT_FALSE(queue_->EnableNotifications());
    EXPECT_FALSE(queue_->ShouldNotify());
    queue_->DisableNotifications();
  }

  // Descriptor 0 is made available and is this one.
  void PublishOne(const Descriptor& descriptor) {
    driver_.WriteDescriptor(0, descriptor);
    driver_.Publish(0);
  }
  void PublishIndirect(uint32_t bytes, uint16_t more_flags = 0) {
    PublishOne({kTable.value, bytes,
                static_cast<uint16_t>(kDescFlagIndirect | more_flags), 1});
  }

  TestMemory memory_;
  FakeDriverQueue driver_;
  std::unique_ptr<Virtqueue> queue_;
};

// --- The available ring. ---

TEST_F(SplitQueueFaultTest, IndexThatClaimsMoreThanTheQueueHasBreaksIt) {
  driver_.SetAvailIdx(kSize + 1);
  ExpectBroken(QueueFault::kTooManyAvailable);
}

TEST_F(SplitQueueFaultTest, IndexThatGoesBackBreaksIt) {
  driver_.SetAvailIdx(65535);
  ExpectBroken(QueueFault::kTooManyAvailable);
}

TEST_F(SplitQueueFaultTest, ChainsThatAreOwedCountAsAvailable) {
  driver_.WriteDescriptor(0, {kBuffer, 4});
  DescriptorChain chain;
  for (int i = 0; i < 3; ++i) {
    driver_.Publish(0);
    ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  }
  driver_.SetAvailIdx(kSize + 1);
  ExpectBroken(QueueFault::kTooManyAvailable);
  EXPECT_EQ(queue_->owed(), 3u);
}

TEST_F(SplitQueueFaultTest, NoMoreChainsAreOwedThanTheQueueHasDescriptors) {
  driver_.WriteDescriptor(0, {kBuffer, 4});
  DescriptorChain chain;
  for (uint32_t i = 0; i < kSize; ++i) {
    driver_.Publish(0);
    ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  }
  driver_.Publish(0);
  ExpectBroken(QueueFault::kTooManyAvailable);
  EXPECT_EQ(queue_->owed(), kSize);
}

TEST_F(SplitQueueFaultTest, EnablingFindsABadIndexAndLeavesItToPop) {
  driver_.SetAvailIdx(1000);
  EXPECT_TRUE(queue_->EnableNotifications());
  ExpectBroken(QueueFault::kTooManyAvailable);
}

TEST_F(SplitQueueFaultTest, HeadOutsideTheTableBreaksIt) {
  for (uint16_t head : {uint16_t{kSize}, uint16_t{65535}}) {
    FakeDriverQueue driver(memory_.memory(), TestMemory::kRam, kSize);
    Create({kFeatureVersion1});
    driver.Publish(head);
    ExpectBroken(QueueFault::kHeadOutOfRange);
  }
}

// --- Descriptors. ---

TEST_F(SplitQueueFaultTest, NextOutsideTheTableBreaksIt) {
  PublishOne({kBuffer, 4, kDescFlagNext, kSize});
  ExpectBroken(QueueFault::kHeadOutOfRange);
}

TEST_F(SplitQueueFaultTest, ChainThatLeadsToItselfBreaksIt) {
  PublishOne({kBuffer, 4, kDescFlagNext, 0});
  ExpectBroken(QueueFault::kChainTooLong);
}

TEST_F(SplitQueueFaultTest, LoopOfSeveralDescriptorsBreaksIt) {
  driver_.WriteDescriptor(1, {kBuffer, 4, kDescFlagNext, 2});
  driver_.WriteDescriptor(2, {kBuffer, 4, kDescFlagNext, 1});
  PublishOne({kBuffer, 4, kDescFlagNext, 1});
  ExpectBroken(QueueFault::kChainTooLong);
}

TEST_F(SplitQueueFaultTest, DescriptorOfLengthZeroBreaksIt) {
  PublishOne({kBuffer, 0});
  ExpectBroken(QueueFault::kZeroLength);
}

TEST_F(SplitQueueFaultTest, BufferOutsideMemoryBreaksIt) {
  const uint64_t end = TestMemory::kRam.value + TestMemory::kRamBytes;
  const Descriptor bad[] = {
      {TestMemory::kHole.value, 1},
      {end - 4, 5},
      {kBuffer, 0xffffffff},
      {UINT64_MAX, 1},
      {UINT64_MAX - 3, 16},  // wraps
      {0, 1},
  };
  for (const Descriptor& descriptor : bad) {
    FakeDriverQueue driver(memory_.memory(), TestMemory::kRam, kSize);
    Create({kFeatureVersion1});
    driver.WriteDescriptor(0, descriptor);
    driver.Publish(0);
    ExpectBroken(QueueFault::kBufferOutsideMemory);
  }
}

TEST_F(SplitQueueFaultTest, WritableBufferInReadOnlyMemoryBreaksIt) {
  PublishOne({TestMemory::kReadOnly.value, 4, kDescFlagWrite});
  ExpectBroken(QueueFault::kBufferReadOnly);
}

TEST_F(SplitQueueFaultTest, ReadableBufferInReadOnlyMemoryIsFine) {
  PublishOne({TestMemory::kReadOnly.value, 4});
  DescriptorChain chain;
  EXPECT_EQ(queue_->Pop(&chain), PopResult::kChain);
}

TEST_F(SplitQueueFaultTest, ReadableAfterWritableBreaksIt) {
  // virtio 1.2, 2.7.4.2: readable ones come first.
  driver_.WriteDescriptor(1, {kBuffer, 4});
  PublishOne({kBuffer, 4, kDescFlagNext | kDescFlagWrite, 1});
  ExpectBroken(QueueFault::kReadableAfterWritable);
}

TEST_F(SplitQueueFaultTest, GoodChainsBeforeABadOneAreServed) {
  driver_.WriteDescriptor(1, {kBuffer, 4, kDescFlagWrite});
  driver_.Publish(1);
  PublishOne({kBuffer, 0});
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  queue_->Complete(std::move(chain), 4);
  EXPECT_EQ(driver_.UsedIdx(), 1);
  ExpectBroken(QueueFault::kZeroLength);
}

TEST_F(SplitQueueFaultTest, BrokenQueueWritesNothingAnyMore) {
  driver_.WriteDescriptor(1, {kBuffer, 4, kDescFlagWrite});
  driver_.Publish(1);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  PublishOne({kBuffer, 0});
  ExpectBroken(QueueFault::kZeroLength);
  queue_->Complete(std::move(chain), 4);
  EXPECT_EQ(queue_->owed(), 0u);
  EXPECT_EQ(driver_.UsedIdx(), 0);
}

// --- Totals. A queue and memory of their own: large, since lengths add up. ---

TEST_F(SplitQueueFaultTest, FourGibibytesInOneDirectionBreakIt) {
  constexpr uint64_t kHalf = uint64_t{1} << 31;
  auto backing = vmm::MemoryBacking::CreateAnonymous(kHalf, "large");
  ASSERT_TRUE(backing.ok());
  const vmm::GuestAddress large{uint64_t{1} << 40};
  ASSERT_TRUE(memory_.memory()
                  ->Add({.range = {large, kHalf}, .backing = *backing})
                  .ok());
  const auto half = static_cast<uint32_t>(kHalf);
  // 2^31 readable and 2^31 writable bytes are fine, and one less than 2^32 is.
  driver_.WriteDescriptor(0, {large.value, half, kDescFlagNext, 1});
  driver_.WriteDescriptor(1, {large.value, half - 1, kDescFlagNext, 2});
  driver_.WriteDescriptor(2, {large.value, half, kDescFlagWrite});
  driver_.Publish(0);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_EQ(chain.readable_bytes(), UINT32_MAX);
  EXPECT_EQ(chain.writable_bytes(), half);

  driver_.WriteDescriptor(1, {large.value, half, 0, 0});
  driver_.Publish(0);
  ExpectBroken(QueueFault::kTooManyBytes);
}

TEST(SplitQueueLimitTest, SegmentsOfAllOwedChainsAreBounded) {
  // Each chain is as long as the queue, and all reuse the same descriptors.
  constexpr uint32_t kLarge = 2048;
  TestMemory memory;
  FakeDriverQueue driver(memory.memory(), TestMemory::kRam, kLarge);
  auto queue = *CreateVirtqueue(0, driver.config(), kLarge, {kFeatureVersion1},
                                memory.dma());
  for (uint32_t i = 0; i < kLarge; ++i) {
    const bool last = i + 1 == kLarge;
    driver.WriteDescriptor(static_cast<uint16_t>(i),
                           {kBuffer, 1, last ? uint16_t{0} : kDescFlagNext,
                            static_cast<uint16_t>(i + 1)});
  }
  std::vector<DescriptorChain> chains;
  for (;;) {
    driver.Publish(0);
    DescriptorChain chain;
    if (queue->Pop(&chain) != PopResult::kChain) break;
    chains.push_back(std::move(chain));
  }
  EXPECT_EQ(queue->fault(), QueueFault::kTooManySegments);
  EXPECT_EQ(chains.size(), Virtqueue::kMaxOwedSegments / kLarge);
}

// --- Indirect tables. ---

TEST_F(SplitQueueFaultTest, IndirectWithoutTheFeatureBreaksIt) {
  Create({kFeatureVersion1});
  driver_.WriteDescriptorAt(kTable, 0, {kBuffer, 4});
  PublishIndirect(kDescriptorBytes);
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_F(SplitQueueFaultTest, IndirectWithNextBreaksIt) {
  // virtio 1.2, 2.7.5.3.1
  driver_.WriteDescriptorAt(kTable, 0, {kBuffer, 4});
  PublishIndirect(kDescriptorBytes, kDescFlagNext);
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_F(SplitQueueFaultTest, IndirectInsideAnIndirectTableBreaksIt) {
  // virtio 1.2, 2.7.5.3.1
  driver_.WriteDescriptorAt(
      kTable, 0, {kTable.value, kDescriptorBytes, kDescFlagIndirect});
  PublishIndirect(kDescriptorBytes);
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_F(SplitQueueFaultTest, IndirectTableOfAnOddLengthBreaksIt) {
  for (uint32_t bytes : {0u, 1u, 15u, 17u, 0xffffffffu}) {
    FakeDriverQueue driver(memory_.memory(), TestMemory::kRam, kSize);
    Create({kFeatureVersion1, kFeatureIndirectDesc});
    driver.WriteDescriptor(0, {kTable.value, bytes, kDescFlagIndirect});
    driver.Publish(0);
    ExpectBroken(QueueFault::kBadIndirect);
  }
}

TEST_F(SplitQueueFaultTest, LoopInAHugeIndirectTableEnds) {
  driver_.WriteDescriptorAt(kTable, 0, {kBuffer, 4, kDescFlagNext, 0});
  PublishIndirect(0xfffffff0);
  ExpectBroken(QueueFault::kChainTooLong);
}

TEST_F(SplitQueueFaultTest, ChainLongerThanTheQueueBreaksItInATableToo) {
  // virtio 1.2, 2.7.5.3.1: a chain is at most as long as the queue.
  for (uint16_t i = 0; i <= kSize; ++i) {
    driver_.WriteDescriptorAt(
        kTable, i,
        {kBuffer, 4, i == kSize ? uint16_t{0} : kDescFlagNext,
         static_cast<uint16_t>(i + 1)});
  }
  PublishIndirect((kSize + 1) * kDescriptorBytes);
  ExpectBroken(QueueFault::kChainTooLong);
}

TEST_F(SplitQueueFaultTest, NextOutsideTheIndirectTableBreaksIt) {
  driver_.WriteDescriptorAt(kTable, 0, {kBuffer, 4, kDescFlagNext, 2});
  driver_.WriteDescriptorAt(kTable, 2, {kBuffer, 4});
  PublishIndirect(2 * kDescriptorBytes);
  ExpectBroken(QueueFault::kHeadOutOfRange);
}

TEST_F(SplitQueueFaultTest, IndirectTableOutsideMemoryBreaksIt) {
  for (uint64_t table : {TestMemory::kHole.value, uint64_t{UINT64_MAX - 15},
                         uint64_t{UINT64_MAX - 4}}) {
    FakeDriverQueue driver(memory_.memory(), TestMemory::kRam, kSize);
    Create({kFeatureVersion1, kFeatureIndirectDesc});
    driver.WriteDescriptor(0, {table, 4 * kDescriptorBytes, kDescFlagIndirect});
    driver.Publish(0);
    ExpectBroken(QueueFault::kBufferOutsideMemory);
  }
}

TEST_F(SplitQueueFaultTest, IndirectTableAtTheEndOfMemoryIsCutThere) {
  const uint64_t table =
      TestMemory::kRam.value + TestMemory::kRamBytes - kDescriptorBytes;
  driver_.WriteDescriptorAt({table}, 0, {kBuffer, 4, kDescFlagNext, 1});
  PublishOne({table, 4 * kDescriptorBytes, kDescFlagIndirect});
  ExpectBroken(QueueFault::kBufferOutsideMemory);
}

// --- Memory that goes away under a running queue. ---

TEST_F(SplitQueueFaultTest, RingThatIsRemovedBreaksPop) {
  memory_.RemoveRam();
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_F(SplitQueueFaultTest, RingThatIsRemovedBreaksComplete) {
  driver_.WriteDescriptor(0, {kBuffer, 4, kDescFlagWrite});
  driver_.Publish(0);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  memory_.RemoveRam();
  queue_->Complete(std::move(chain), 0);
  EXPECT_EQ(queue_->owed(), 0u);
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_F(SplitQueueFaultTest, RingThatIsRemovedBreaksNotifications) {
  driver_.WriteDescriptor(0, {kBuffer, 4, kDescFlagWrite});
  driver_.Publish(0);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  queue_->Complete(std::move(chain), 0);
  memory_.RemoveRam();
  EXPECT_FALSE(queue_->ShouldNotify());
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_F(SplitQueueFaultTest, BusMasteringThatGoesOffIsTold) {
  driver_.WriteDescriptor(0, {kBuffer, 4, kDescFlagWrite});
  driver_.Publish(0);
  memory_.gate()->Set(false);
  ExpectBroken(QueueFault::kDmaDisabled);
  memory_.gate()->Set(true);
  ExpectBroken(QueueFault::kDmaDisabled);
}

// --- Our own bugs. ---

using SplitQueueDeathTest = SplitQueueFaultTest;

TEST_F(SplitQueueDeathTest, CompletingTwiceIsOurBug) {
  driver_.WriteDescriptor(0, {kBuffer, 4, kDescFlagWrite});
  driver_.Publish(0);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  queue_->Complete(std::move(chain), 0);
  EXPECT_DEATH(queue_->Complete(DescriptorChain(), 0), "completed once");
}

TEST_F(SplitQueueDeathTest, WritingMoreThanThereIsIsOurBug) {
  driver_.WriteDescriptor(0, {kBuffer, 4, kDescFlagWrite});
  driver_.Publish(0);
  DescriptorChain chain;
  ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
  EXPECT_DEATH(queue_->Complete(std::move(chain), 5), "more written");
}

}  // namespace
}  // namespace vmsg::virtio
