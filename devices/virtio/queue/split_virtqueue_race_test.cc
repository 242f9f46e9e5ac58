// The two sides on two threads: a driver that keeps the rules, and one that
// scribbles. For ThreadSanitizer and AddressSanitizer above all.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "devices/virtio/queue/race_harness.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {
namespace {

using PopResult = Virtqueue::PopResult;

constexpr uint32_t kSize = 16;
const Features kFeatures = {kFeatureVersion1, kFeatureIndirectDesc,
                            kFeatureEventIdx};

TEST(SplitQueueRaceTest, NoKickOrInterruptIsLostWithTheEventIndex) {
  EchoAcrossThreads<FakeDriverQueue>(kSize, kFeatures);
}

TEST(SplitQueueRaceTest, NoKickOrInterruptIsLostWithFlags) {
  EchoAcrossThreads<FakeDriverQueue>(kSize,
                                     {kFeatureVersion1, kFeatureIndirectDesc});
}

TEST(SplitQueueRaceTest, WriterThatScribblesOverRingsHarmsNobodyElse) {
  TestMemory memory;
  FakeDriverQueue driver(memory.memory(), TestMemory::kRam, kSize,
                         /*event_idx=*/true);
  std::atomic<bool> stop{false};
  std::thread scribbler([&] {
    vmm::DmaSpace guest(memory.memory());
    std::mt19937_64 random(7);
    const uint64_t ring_bytes = FakeDriverQueue::BytesNeeded(kSize);
    while (!stop.load(std::memory_order_relaxed)) {
      // A plausible descriptor now and then, so that chains get through.
      Descriptor descriptor;
      descriptor.address = random() % 8 == 0
                               ? random()
                               : TestMemory::kBuffers.value + random() % 4096;
      descriptor.length = random() % 8 == 0
                              ? static_cast<uint32_t>(random())
                              : 1 + static_cast<uint32_t>(random() % 512);
      descriptor.flags =
          static_cast<uint16_t>(random() % 16 == 0 ? random() : random() % 4);
      descriptor.next = static_cast<uint16_t>(random() % (kSize + 1));
      guest.Write(
          {TestMemory::kRam.value + kDescriptorBytes * (random() % kSize)},
          EncodeDescriptor(descriptor));
      std::array<std::byte, 8> noise;
      StoreLittle<uint64_t>(random(), noise);
      if (random() % 16 == 0) {
        guest.Write({TestMemory::kRam.value + random() % ring_bytes}, noise);
      }
      guest.Store16({driver.config().driver.value + kAvailRing +
                     kAvailEntryBytes * (random() % kSize)},
                    static_cast<uint16_t>(random() % (kSize + 1)),
                    std::memory_order_relaxed);
      // An index that moves by little.
      guest.Store16({driver.config().driver.value + kAvailIdx},
                    static_cast<uint16_t>(random() % 4),
                    std::memory_order_release);
    }
  });

  // Until enough has happened of both kinds; else the scribbling proves
  // nothing.
  uint64_t chains = 0;
  uint64_t faults = 0;
  std::array<std::byte, 64> data = {};
  while (chains < 2000 || faults < 2000) {
    auto queue =
        *CreateVirtqueue(0, driver.config(), kSize, kFeatures, memory.dma());
    std::vector<DescriptorChain> held;
    DescriptorChain chain;
    PopResult popped;
    while ((popped = queue->Pop(&chain)) == PopResult::kChain) {
      ++chains;
      ExpectInvariants(chain, *queue);
      size_t copied = 0;
      chain.Read(memory.dma(), 0, data, &copied);
      chain.Write(memory.dma(), 0, data, &copied);
      held.push_back(std::move(chain));
      if (held.size() == 3) break;
    }
    if (popped == PopResult::kBroken) ++faults;
    for (DescriptorChain& owed : held) {
      const uint32_t written = owed.writable_bytes();
      queue->Complete(std::move(owed), written);
    }
    queue->ShouldNotify();
    queue->EnableNotifications();
  }
  stop.store(true, std::memory_order_relaxed);
  scribbler.join();
}

TEST(SplitQueueRaceTest, MemoryMayComeAndGoWhileTheQueueIsInUse) {
  TestMemory memory;
  const vmm::GuestAddress base{0x10000000};
  const vmm::GuestRange range{base, 0x10000};
  auto backing = *vmm::MemoryBacking::CreateAnonymous(range.size, "plugged");
  const auto plug = [&] {
    ASSERT_TRUE(
        memory.memory()->Add({.range = range, .backing = backing}).ok());
  };
  plug();
  FakeDriverQueue driver(memory.memory(), base, kSize);
  driver.WriteDescriptor(0, {base.value + 0x8000, 64, kDescFlagWrite});
  driver.SetAvailIdx(4);  // entries are 0, each time

  std::atomic<bool> stop{false};
  std::thread plugger([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      (void)memory.memory()->Remove(range);
      plug();
    }
  });
  // Until enough got through between two removals.
  uint64_t completed = 0;
  std::array<std::byte, 64> data = {};
  while (completed < 2000) {
    auto queue =
        CreateVirtqueue(0, driver.config(), kSize, kFeatures, memory.dma());
    if (!queue.ok()) continue;
    DescriptorChain chain;
    while ((*queue)->Pop(&chain) == PopResult::kChain) {
      size_t copied = 0;
      chain.Write(memory.dma(), 0, data, &copied);
      (*queue)->Complete(std::move(chain), static_cast<uint32_t>(copied));
      if ((*queue)->fault() == QueueFault::kNone) ++completed;
    }
    (*queue)->ShouldNotify();
  }
  stop.store(true, std::memory_order_relaxed);
  plugger.join();
}

}  // namespace
}  // namespace vmsg::virtio
