// The two sides on two threads: a driver that keeps the rules, and one that
// scribbles. For ThreadSanitizer and AddressSanitizer above all.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>

#include "devices/virtio/little_endian.h"
#include "devices/virtio/queue/race_harness.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {
namespace {

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
  const auto scribble = [](vmm::DmaSpace* guest,
                           const FakePackedDriverQueue& driver,
                           std::mt19937_64* generator) {
    std::mt19937_64& random = *generator;
    const uint64_t ring = driver.config().desc.value;
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
    guest->Write({ring + kDescriptorBytes * (random() % kSize)},
                 EncodePackedDescriptor(descriptor));
    // Flags alone, under the eyes of the device.
    guest->Store16(
        {ring + kDescriptorBytes * (random() % kSize) + kPackedFlags},
        static_cast<uint16_t>(random() % 8 | kDescFlagAvail),
        std::memory_order_release);
    if (random() % 16 == 0) {
      std::array<std::byte, 8> noise;
      StoreLittle<uint64_t>(random(), noise);
      guest->Write(
          {ring + random() % FakePackedDriverQueue::BytesNeeded(kSize)}, noise);
    }
  };
  ServeAScribbler<FakePackedDriverQueue>(kSize, kFeatures, scribble);
}

}  // namespace
}  // namespace vmsg::virtio
