// In its own program: it counts every allocation of it.

#include <gtest/gtest.h>
#include <malloc.h>

#include <cstdint>
#include <cstdlib>
#include <new>
#include <utility>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/iova_map.h"

namespace {
uint64_t g_allocations = 0;
uint64_t g_live_bytes = 0;

void Release(void* memory) {
  g_live_bytes -= malloc_usable_size(memory);
  std::free(memory);
}
}  // namespace

void* operator new(size_t size) {
  ++g_allocations;
  void* memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  g_live_bytes += malloc_usable_size(memory);
  return memory;
}
void* operator new[](size_t size) { return operator new(size); }
void operator delete(void* memory) noexcept { Release(memory); }
void operator delete[](void* memory) noexcept { Release(memory); }
void operator delete(void* memory, size_t) noexcept { Release(memory); }
void operator delete[](void* memory, size_t) noexcept { Release(memory); }

namespace vmsg::virtio {
namespace {

using Buffer = FakeDriverQueue::Buffer;

constexpr uint32_t kSize = 16;

// Takes everything that is available, then completes it, the last first.
void ServeAll(Virtqueue* queue, std::vector<DescriptorChain>* held) {
  size_t count = 0;
  while (count < held->size() &&
         queue->Pop(&(*held)[count]) == Virtqueue::PopResult::kChain) {
    ++count;
  }
  while (count != 0) queue->Complete(std::move((*held)[--count]), 0);
  queue->ShouldNotify();
  queue->EnableNotifications();
}

// Rounds of what a driver may put there, until each piece of storage has held
// the longest chain, and then a thousand that must not allocate.
template <typename Driver>
void ExpectSteadyStateAllocatesNothing(const Features& features) {
  TestMemory memory;
  Driver driver(memory.memory(), TestMemory::kRam, kSize,
                /*event_idx=*/true);
  // The driver's addresses, in pieces.
  vmm::IovaMap map;
  constexpr uint64_t kPiece = 0x4000;
  for (uint64_t at = 0; at < TestMemory::kRamBytes; at += kPiece) {
    const vmm::GuestAddress address{TestMemory::kRam.value + at};
    ASSERT_TRUE(map.Map({.iova = {address, kPiece}, .physical = address}).ok());
  }
  vmm::DmaSpace translated(memory.memory(), memory.gate(), &map);
  auto queue = *CreateVirtqueue(
      0, driver.config(), kSize, features,
      features.Has(kFeatureAccessPlatform) ? &translated : memory.dma());
  const std::vector<Buffer> short_chain = {{TestMemory::kBuffers, 8},
                                           {TestMemory::kBuffers, 8, true}};
  const std::vector<Buffer> long_chain(kSize, Buffer{TestMemory::kBuffers, 8});
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x1000};
  std::vector<DescriptorChain> held(kSize);

  uint64_t used = 0;
  const auto round = [&] {
    for (int i = 0; i < 3; ++i) driver.Add(short_chain);
    for (int i = 0; i < 4; ++i) driver.AddIndirect(table, long_chain);
    ServeAll(queue.get(), &held);
    while (driver.TakeUsed().has_value()) ++used;
  };
  for (int i = 0; i < 100; ++i) round();

  const uint64_t before = g_allocations;
  for (int i = 0; i < 1000; ++i) round();
  EXPECT_EQ(g_allocations, before);
  EXPECT_EQ(driver.outstanding(), 0u);
  EXPECT_EQ(used, 1100u * 7);
}

const Features kSplit = {kFeatureVersion1, kFeatureIndirectDesc,
                         kFeatureEventIdx};
const Features kPacked = kSplit | Features{kFeatureRingPacked};
const Features kInOrder = {kFeatureInOrder};
const Features kTranslated = {kFeatureAccessPlatform};

TEST(SplitQueueAllocationTest, SteadyStateAllocatesNothing) {
  ExpectSteadyStateAllocatesNothing<FakeDriverQueue>(kSplit);
}

TEST(SplitQueueAllocationTest, NothingIsAllocatedForChainsThatWaitTheirTurn) {
  ExpectSteadyStateAllocatesNothing<FakeDriverQueue>(kSplit | kInOrder);
}

TEST(PackedQueueAllocationTest, SteadyStateAllocatesNothing) {
  ExpectSteadyStateAllocatesNothing<FakePackedDriverQueue>(kPacked);
}

TEST(PackedQueueAllocationTest, NothingIsAllocatedForChainsThatWaitTheirTurn) {
  ExpectSteadyStateAllocatesNothing<FakePackedDriverQueue>(kPacked | kInOrder);
}

TEST(SplitQueueAllocationTest, NothingIsAllocatedForTranslation) {
  ExpectSteadyStateAllocatesNothing<FakeDriverQueue>(kSplit | kTranslated);
}

TEST(PackedQueueAllocationTest, NothingIsAllocatedForTranslation) {
  ExpectSteadyStateAllocatesNothing<FakePackedDriverQueue>(kPacked |
                                                           kTranslated);
}

// A guest that has the device hold short chains in the storage of long ones.
template <typename Driver>
void ExpectStorageIsBounded(const Features& features) {
  constexpr uint32_t kLarge = 4096;
  constexpr uint32_t kRounds = 4;
  constexpr uint32_t kLongChains = Virtqueue::kMaxOwedSegments / kLarge;
  TestMemory memory;
  Driver driver(memory.memory(), TestMemory::kRam, kLarge, /*event_idx=*/true);
  auto queue =
      *CreateVirtqueue(0, driver.config(), kLarge, features, memory.dma());
  const std::vector<Buffer> short_chain = {{TestMemory::kBuffers, 8}};
  const std::vector<Buffer> long_chain(kLarge, Buffer{TestMemory::kBuffers, 8});
  const vmm::GuestAddress table{TestMemory::kBuffers.value + 0x1000};
  std::vector<DescriptorChain> owed(kRounds * kLongChains);
  std::vector<DescriptorChain> long_ones(kLongChains);
  size_t next = 0;

  const uint64_t before = g_live_bytes;
  for (uint32_t round = 0; round < kRounds; ++round) {
    // As many as fit beside the short ones.
    const size_t count = kLongChains - 1;
    for (size_t i = 0; i < count; ++i) {
      ASSERT_TRUE(driver.AddIndirect(table, long_chain).has_value());
      ASSERT_EQ(queue->Pop(&long_ones[i]), Virtqueue::PopResult::kChain);
    }
    for (size_t i = 0; i < count; ++i) {
      queue->Complete(std::move(long_ones[i]), 0);
    }
    while (driver.TakeUsed().has_value()) {
    }
    for (size_t i = 0; i < count; ++i) {
      ASSERT_TRUE(driver.Add(short_chain).has_value());
      ASSERT_EQ(queue->Pop(&owed[next++]), Virtqueue::PopResult::kChain);
    }
  }
  // What is kept for the next ones, and as much in the hands of the device.
  constexpr uint64_t kMost =
      2 * uint64_t{Virtqueue::kMaxOwedSegments} * sizeof(Segment);
  EXPECT_LT(g_live_bytes - before, kMost);
}

TEST(SplitQueueAllocationTest, ShortChainsDoNotHoldTheStorageOfLongOnes) {
  ExpectStorageIsBounded<FakeDriverQueue>(kSplit);
}

TEST(PackedQueueAllocationTest, ShortChainsDoNotHoldTheStorageOfLongOnes) {
  ExpectStorageIsBounded<FakePackedDriverQueue>(kPacked);
}

}  // namespace
}  // namespace vmsg::virtio
