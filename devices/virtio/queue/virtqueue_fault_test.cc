// Either ring against a driver that breaks the rules, and against memory that
// goes away: the two have one outcome wherever they have the same rule. Faults
// that only one of the two formats has are in split_virtqueue_fault_test.cc and
// packed_virtqueue_fault_test.cc.

#include <gtest/gtest.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_fixture.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/base/guest_address.h"

namespace vmsg::virtio {
namespace {

class VirtqueueFaultTest : public VirtqueueFaultFixture {};

const Ring kRings[] = {{.packed = false, .event_idx = true},
                       {.packed = true, .size = 7, .event_idx = true}};

INSTANTIATE_TEST_SUITE_P(Rings, VirtqueueFaultTest, ::testing::ValuesIn(kRings),
                         RingName);

TEST_P(VirtqueueFaultTest, NoMoreChainsAreOwedThanTheQueueHasDescriptors) {
  for (uint32_t i = 0; i < size(); ++i) {
    driver_->PublishRaw({kBuffer.value, 4});
    Pop();
  }
  DescriptorChain chain;
  EXPECT_EQ(queue_->Pop(&chain), PopResult::kEmpty);
  driver_->PublishRaw({kBuffer.value, 4});
  ExpectBroken(QueueFault::kTooManyAvailable);
  EXPECT_EQ(queue_->owed(), size());
}

TEST_P(VirtqueueFaultTest, EnablingFindsTooManyAndLeavesItToPop) {
  for (uint32_t i = 0; i < size(); ++i) {
    driver_->PublishRaw({kBuffer.value, 4});
    Pop();
  }
  driver_->PublishRaw({kBuffer.value, 4});
  EXPECT_TRUE(queue_->EnableNotifications());
  ExpectBroken(QueueFault::kTooManyAvailable);
}

// --- Buffers. ---

TEST_P(VirtqueueFaultTest, DescriptorOfLengthZeroBreaksIt) {
  Add({{kBuffer, 0}});
  ExpectBroken(QueueFault::kZeroLength);
}

TEST_P(VirtqueueFaultTest, BufferOutsideMemoryBreaksIt) {
  const std::vector<Buffer> bad = {
      {TestMemory::kHole, 1},
      {{kRamEnd.value - 4}, 5},
      {kBuffer, 0xffffffff},
      {{UINT64_MAX}, 1},
      {{UINT64_MAX - 3}, 16},  // wraps
      {{0}, 1},
  };
  for (const Buffer& buffer : bad) {
    Start({});
    Add({buffer});
    ExpectBroken(QueueFault::kBufferOutsideMemory);
  }
}

TEST_P(VirtqueueFaultTest, BufferAcrossAdjacentRegionsIsOne) {
  AddRegion(kRamEnd, 0x10000);
  const vmm::GuestAddress seam{kRamEnd.value - 4};
  Add({{seam, 8, true}});
  DescriptorChain chain = Pop();
  EXPECT_EQ(chain.writable_bytes(), 8u);
  size_t copied = 0;
  EXPECT_EQ(chain.Write(memory_.dma(), 0, CountingBytes(8, 3), &copied),
            vmm::DmaResult::kOk);
  EXPECT_EQ(copied, 8u);
  EXPECT_EQ(memory_.Read(seam, 8), CountingBytes(8, 3));
}

TEST_P(VirtqueueFaultTest, WritableBufferThatEndsInReadOnlyMemoryBreaksIt) {
  AddRegion(kRamEnd, 0x10000, /*read_only=*/true);
  Add({{{kRamEnd.value - 4}, 8}});
  EXPECT_EQ(Pop().readable_bytes(), 8u);
  Add({{{kRamEnd.value - 4}, 8, true}});
  ExpectBroken(QueueFault::kBufferReadOnly);
}

TEST_P(VirtqueueFaultTest, WritableBufferInReadOnlyMemoryBreaksIt) {
  Add({{TestMemory::kReadOnly, 4, true}});
  ExpectBroken(QueueFault::kBufferReadOnly);
}

TEST_P(VirtqueueFaultTest, ReadableBufferInReadOnlyMemoryIsFine) {
  Add({{TestMemory::kReadOnly, 4}});
  EXPECT_EQ(Pop().readable_bytes(), 4u);
}

TEST_P(VirtqueueFaultTest, ReadableAfterWritableBreaksIt) {
  // virtio 1.2, 2.7.4.2 and 2.8.17: readable ones come first.
  Add({{kBuffer, 4, true}, {kBuffer, 4}});
  ExpectBroken(QueueFault::kReadableAfterWritable);
}

TEST_P(VirtqueueFaultTest, GoodChainsBeforeABadOneAreServed) {
  const uint16_t good = AddWritable(4);
  Add({{kBuffer, 0}});
  queue_->Complete(Pop(), 4);
  EXPECT_EQ(driver_->TakeUsed(), (Used{good, 4}));
  EXPECT_TRUE(queue_->ShouldNotify());
  ExpectBroken(QueueFault::kZeroLength);
}

TEST_P(VirtqueueFaultTest, BrokenQueueWritesNothingAnyMore) {
  AddWritable(4);
  DescriptorChain chain = Pop();
  Add({{kBuffer, 0}});
  ExpectBroken(QueueFault::kZeroLength);
  queue_->Complete(std::move(chain), 4);
  EXPECT_EQ(queue_->owed(), 0u);
  EXPECT_FALSE(driver_->TakeUsed().has_value());
  EXPECT_EQ(driver_->bad_used(), 0u);
}

// Half of what a chain may have in all.
constexpr uint32_t kHalf = uint32_t{1} << 31;
constexpr vmm::GuestAddress kLarge{uint64_t{1} << 40};

TEST_P(VirtqueueFaultTest, FourGibibytesInOneDirectionBreakIt) {
  AddRegion(kLarge, kHalf);
  for (const bool writable : {false, true}) {
    Start({});
    Add({{kLarge, kHalf, writable}, {kLarge, kHalf - 1, writable}});
    const DescriptorChain chain = Pop();
    EXPECT_EQ(writable ? chain.writable_bytes() : chain.readable_bytes(),
              UINT32_MAX);
    Add({{kLarge, kHalf, writable}, {kLarge, kHalf, writable}});
    ExpectBroken(QueueFault::kTooManyBytes);
  }
}

TEST_P(VirtqueueFaultTest, MoreThanFourGibibytesInAllBreakIt) {
  // virtio 1.2, 2.7.5.2 and 2.8.16: a chain has at most 2^32 bytes in total.
  AddRegion(kLarge, kHalf);
  Add({{kLarge, kHalf}, {kLarge, kHalf, true}});
  EXPECT_EQ(Pop().writable_bytes(), kHalf);
  Add({{kLarge, kHalf}, {kLarge, kHalf, true}, {kLarge, 1, true}});
  ExpectBroken(QueueFault::kTooManyBytes);
}

// --- Indirect tables. ---

TEST_P(VirtqueueFaultTest, IndirectWithoutTheFeatureBreaksIt) {
  Start({});
  driver_->AddIndirect(kTable, std::vector<Buffer>{{kBuffer, 4}});
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_P(VirtqueueFaultTest, IndirectWithNextBreaksIt) {
  // virtio 1.2, 2.7.5.3.1 and 2.8.19
  driver_->WriteRaw(kTable, 0, {kBuffer.value, 4});
  PublishIndirect(kDescriptorBytes, kDescFlagNext);
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_P(VirtqueueFaultTest, IndirectInsideAnIndirectTableBreaksIt) {
  // virtio 1.2, 2.7.5.3.1 and 2.8.19
  driver_->WriteRaw(kTable, 0,
                    {kTable.value, kDescriptorBytes, kDescFlagIndirect});
  PublishIndirect(kDescriptorBytes);
  ExpectBroken(QueueFault::kBadIndirect);
}

TEST_P(VirtqueueFaultTest, IndirectTableOfAnOddLengthBreaksIt) {
  for (uint32_t bytes : {0u, 1u, 15u, 17u, 0xffffffffu}) {
    Start({kFeatureIndirectDesc});
    PublishIndirect(bytes);
    ExpectBroken(QueueFault::kBadIndirect);
  }
}

TEST_P(VirtqueueFaultTest, ChainLongerThanTheQueueBreaksItInATableToo) {
  // virtio 1.2, 2.7.5.3.1 and 2.8.19
  const std::vector<Buffer> buffers(size() + 1, Buffer{kBuffer, 4});
  driver_->AddIndirect(kTable, buffers);
  ExpectBroken(QueueFault::kChainTooLong);
}

TEST_P(VirtqueueFaultTest, ChainAsLongAsTheQueueIsFineInATable) {
  const std::vector<Buffer> buffers(size(), Buffer{kBuffer, 4});
  driver_->AddIndirect(kTable, buffers);
  EXPECT_EQ(Pop().readable_bytes(), 4 * size());
}

TEST_P(VirtqueueFaultTest, BadBufferInATableBreaksIt) {
  driver_->AddIndirect(kTable, std::vector<Buffer>{{kBuffer, 4}, {kBuffer, 0}});
  ExpectBroken(QueueFault::kZeroLength);
}

TEST_P(VirtqueueFaultTest, IndirectTableOutsideMemoryBreaksIt) {
  for (uint64_t table : {TestMemory::kHole.value, uint64_t{UINT64_MAX - 15},
                         uint64_t{UINT64_MAX - 4}}) {
    Start({kFeatureIndirectDesc});
    driver_->PublishRaw({table, 4 * kDescriptorBytes, kDescFlagIndirect});
    ExpectBroken(QueueFault::kBufferOutsideMemory);
  }
}

TEST_P(VirtqueueFaultTest, IndirectTableMayLieAcrossAdjacentRegions) {
  AddRegion(kRamEnd, 0x10000);
  driver_->AddIndirect({kRamEnd.value - kDescriptorBytes - 4},
                       std::vector<Buffer>(3, Buffer{kBuffer, 4}));
  EXPECT_EQ(Pop().readable_bytes(), 12u);
}

TEST_P(VirtqueueFaultTest, IndirectTableMayEndWhereMemoryEnds) {
  const vmm::GuestAddress table{kRamEnd.value - kDescriptorBytes};
  driver_->WriteRaw(table, 0, {kBuffer.value, 4});
  driver_->PublishRaw({table.value, kDescriptorBytes, kDescFlagIndirect});
  EXPECT_EQ(Pop().readable_bytes(), 4u);
}

// --- Memory that goes away under a running queue. ---

TEST_P(VirtqueueFaultTest, RingThatIsRemovedBreaksPop) {
  memory_.RemoveRam();
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_P(VirtqueueFaultTest, RingThatIsRemovedBreaksComplete) {
  AddWritable();
  DescriptorChain chain = Pop();
  memory_.RemoveRam();
  queue_->Complete(std::move(chain), 0);
  EXPECT_EQ(queue_->owed(), 0u);
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_P(VirtqueueFaultTest, RingThatIsRemovedBreaksNotifications) {
  AddWritable();
  queue_->Complete(Pop(), 0);
  memory_.RemoveRam();
  EXPECT_TRUE(queue_->ShouldNotify()) << "what the driver wants is not known";
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_P(VirtqueueFaultTest, WhatWasVisibleBeforeAFaultIsNotified) {
  driver_->DisableInterrupts();
  AddWritable();
  queue_->Complete(Pop(), 0);
  memory_.RemoveRam();
  DescriptorChain chain;
  EXPECT_EQ(queue_->Pop(&chain), PopResult::kBroken);
  EXPECT_TRUE(queue_->ShouldNotify());
  EXPECT_FALSE(queue_->ShouldNotify()) << "once";
}

TEST_P(VirtqueueFaultTest, RingThatIsRemovedBreaksEnabling) {
  memory_.RemoveRam();
  EXPECT_TRUE(queue_->EnableNotifications());
  ExpectBroken(QueueFault::kRingOutsideMemory);
}

TEST_P(VirtqueueFaultTest, BusMasteringThatGoesOffIsTold) {
  AddWritable();
  memory_.gate()->Set(false);
  ExpectBroken(QueueFault::kDmaDisabled);
  memory_.gate()->Set(true);
  ExpectBroken(QueueFault::kDmaDisabled);
}

// --- Our own bugs. ---

class VirtqueueDeathTest : public VirtqueueFaultFixture {};
INSTANTIATE_TEST_SUITE_P(Rings, VirtqueueDeathTest, ::testing::ValuesIn(kRings),
                         RingName);

TEST_P(VirtqueueDeathTest, CompletingTwiceIsOurBug) {
  AddWritable();
  queue_->Complete(Pop(), 0);
  EXPECT_DEATH(queue_->Complete(DescriptorChain(), 0), "completed once");
}

TEST_P(VirtqueueDeathTest, WritingMoreThanThereIsIsOurBug) {
  AddWritable(4);
  DescriptorChain chain = Pop();
  EXPECT_DEATH(queue_->Complete(std::move(chain), 5), "more written");
}

// --- A large queue, whose chains add up. ---

class VirtqueueLimitTest : public VirtqueueFaultFixture {};
INSTANTIATE_TEST_SUITE_P(Rings, VirtqueueLimitTest,
                         ::testing::Values(Ring{.packed = false, .size = 2048},
                                           Ring{.packed = true, .size = 2000}),
                         RingName);

TEST_P(VirtqueueLimitTest, SegmentsOfAllOwedChainsAreBounded) {
  // Each chain is as long as the queue, and all are one table.
  const std::vector<Buffer> buffers(size(), Buffer{kBuffer, 1});
  std::vector<DescriptorChain> chains;
  for (;;) {
    ASSERT_TRUE(driver_->AddIndirect(kTable, buffers).has_value());
    DescriptorChain chain;
    if (queue_->Pop(&chain) != PopResult::kChain) break;
    chains.push_back(std::move(chain));
  }
  EXPECT_EQ(queue_->fault(), QueueFault::kTooManySegments);
  EXPECT_EQ(chains.size(), Virtqueue::kMaxOwedSegments / size());
}

}  // namespace
}  // namespace vmsg::virtio
