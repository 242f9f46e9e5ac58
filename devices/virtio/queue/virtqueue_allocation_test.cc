// In its own program: it counts every allocation of it.

#include <gtest/gtest.h>

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
}  // namespace

void* operator new(size_t size) {
  ++g_allocations;
  if (void* memory = std::malloc(size)) return memory;
  std::abort();
}
void* operator new[](size_t size) { return operator new(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, size_t) noexcept { std::free(memory); }

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

}  // namespace
}  // namespace vmsg::virtio
