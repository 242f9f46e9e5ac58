// The two sides on two threads: a driver that keeps the rules, and one that
// scribbles. For ThreadSanitizer and AddressSanitizer above all.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <utility>

#include "devices/virtio/little_endian.h"
#include "devices/virtio/queue/race_harness.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {
namespace {

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

TEST(SplitQueueRaceTest, NoKickOrInterruptIsLostInOrder) {
  Features features = kFeatures;
  features.Set(kFeatureInOrder);
  EchoAcrossThreads<FakeDriverQueue>(kSize, features);
}

TEST(SplitQueueRaceTest, WriterThatScribblesOverRingsHarmsNobodyElse) {
  const auto scribble = [](vmm::DmaSpace* guest, const FakeDriverQueue& driver,
                           std::mt19937_64* generator) {
    std::mt19937_64& random = *generator;
    const uint64_t table = driver.config().desc.value;
    const uint64_t available = driver.config().driver.value;
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
    guest->Write({table + kDescriptorBytes * (random() % kSize)},
                 EncodeDescriptor(descriptor));
    if (random() % 16 == 0) {
      std::array<std::byte, 8> noise;
      StoreLittle<uint64_t>(random(), noise);
      guest->Write({table + random() % FakeDriverQueue::BytesNeeded(kSize)},
                   noise);
    }
    guest->Store16(
        {available + kAvailRing + kAvailEntryBytes * (random() % kSize)},
        static_cast<uint16_t>(random() % (kSize + 1)),
        std::memory_order_relaxed);
    // An index that moves by little.
    guest->Store16({available + kAvailIdx}, static_cast<uint16_t>(random() % 4),
                   std::memory_order_release);
  };
  ServeAScribbler<FakeDriverQueue>(kSize, kFeatures, scribble);
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
    while ((*queue)->Pop(&chain) == Virtqueue::PopResult::kChain) {
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
