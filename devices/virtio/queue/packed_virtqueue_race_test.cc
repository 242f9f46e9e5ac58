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

#include "devices/virtio/little_endian.h"
#include "devices/virtio/queue/race_harness.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {
namespace {

using PopResult = Virtqueue::PopResult;

constexpr uint32_t kSize = 13;
const Features kFeatures = {kFeatureVersion1, kFeatureRingPacked,
                            kFeatureIndirectDesc, kFeatureEventIdx};

TEST(PackedQueueRaceTest, NoKickOrInterruptIsLostWithTheEventIndex) {
  EchoAcrossThreads<FakePackedDriverQueue>(kSize, kFeatures);
}

TEST(PackedQueueRaceTest, NoKickOrInterruptIsLostWithFlags) {
  EchoAcrossThreads<FakePackedDriverQueue>(
      kSize, {kFeatureVersion1, kFeatureRingPacked});
}

TEST(PackedQueueRaceTest, NoKickOrInterruptIsLostInOrder) {
  Features features = kFeatures;
  features.Set(kFeatureInOrder);
  EchoAcrossThreads<FakePackedDriverQueue>(kSize, features);
}

TEST(PackedQueueRaceTest, WriterThatScribblesOverTheRingHarmsNobodyElse) {
  TestMemory memory;
  FakePackedDriverQueue driver(memory.memory(), TestMemory::kRam, kSize,
                               /*event_idx=*/true);
  std::atomic<bool> stop{false};
  std::thread scribbler([&] {
    vmm::DmaSpace guest(memory.memory());
    std::mt19937_64 random(7);
    const uint64_t ring_bytes = FakePackedDriverQueue::BytesNeeded(kSize);
    const vmm::GuestAddress ring = TestMemory::kRam;
    while (!stop.load(std::memory_order_relaxed)) {
      // A plausible descriptor mostly, so that chains get through, which is
      // available in the first turn of the ring.
      PackedDescriptor descriptor;
      descriptor.address = random() % 16 == 0
                               ? random()
                               : TestMemory::kBuffers.value + random() % 4096;
      descriptor.length = random() % 16 == 0
                              ? static_cast<uint32_t>(random())
                              : 1 + static_cast<uint32_t>(random() % 512);
      descriptor.id = static_cast<uint16_t>(random());
      descriptor.flags = static_cast<uint16_t>(
          random() % 16 == 0
              ? random()
              : random() % 4 | (random() % 4 == 0 ? 0 : kDescFlagAvail));
      const uint64_t at = kDescriptorBytes * (random() % kSize);
      guest.Write({ring.value + at}, EncodePackedDescriptor(descriptor));
      // Flags alone, under the eyes of the device.
      guest.Store16(
          {ring.value + kDescriptorBytes * (random() % kSize) + kPackedFlags},
          static_cast<uint16_t>(random() % 8 | kDescFlagAvail),
          std::memory_order_release);
      if (random() % 16 == 0) {
        std::array<std::byte, 8> noise;
        StoreLittle<uint64_t>(random(), noise);
        guest.Write({ring.value + random() % ring_bytes}, noise);
      }
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

}  // namespace
}  // namespace vmsg::virtio
