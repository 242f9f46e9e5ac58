// What is the same for both ring formats is tested with both: a fixture whose
// parameter is the ring.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FIXTURE_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/fake_driver.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::virtio {

struct Ring {
  bool packed = false;
  uint32_t size = 8;
  bool event_idx = false;
};

inline std::string RingName(const ::testing::TestParamInfo<Ring>& info) {
  return std::string(info.param.packed ? "Packed" : "Split") +
         std::to_string(info.param.size) +
         (info.param.event_idx ? "EventIdx" : "");
}

class VirtqueueFixture : public ::testing::TestWithParam<Ring> {
 protected:
  using Buffer = FakeDriver::Buffer;
  using PopResult = Virtqueue::PopResult;
  using Used = FakeDriver::Used;

  static bool packed() { return GetParam().packed; }
  static uint32_t size() { return GetParam().size; }

  // The features of the ring itself.
  static Features RingFeatures() {
    Features features = {kFeatureVersion1};
    if (packed()) features.Set(kFeatureRingPacked);
    if (GetParam().event_idx) features.Set(kFeatureEventIdx);
    return features;
  }

  // A new driver, in memory that is cleared, and a new queue with these
  // features beside the ring's own.
  void Start(const Features& features) {
    if (packed()) {
      driver_ = std::make_unique<FakePackedDriverQueue>(
          memory_.memory(), TestMemory::kRam, size(), GetParam().event_idx);
    } else {
      driver_ = std::make_unique<FakeDriverQueue>(
          memory_.memory(), TestMemory::kRam, size(), GetParam().event_idx);
    }
    features_ = RingFeatures() | features;
    CreateQueue(std::nullopt);
  }
  // The queue anew, with the same driver.
  void CreateQueue(std::optional<Virtqueue::Position> position) {
    queue_ = *CreateVirtqueue(0, driver_->config(), size(), features_,
                              memory_.dma(), position);
  }

  // A chain of `count` writable buffers of one length.
  uint16_t AddWritable(uint32_t length = 16, size_t count = 1) {
    return *driver_->Add(
        std::vector<Buffer>(count, Buffer{TestMemory::kBuffers, length, true}));
  }
  void Add(const std::vector<Buffer>& buffers) {
    ASSERT_TRUE(driver_->Add(buffers).has_value());
  }
  DescriptorChain Pop() {
    DescriptorChain chain;
    EXPECT_EQ(queue_->Pop(&chain), PopResult::kChain);
    return chain;
  }
  void Serve(uint32_t count, uint32_t written = 0) {
    for (uint32_t i = 0; i < count; ++i) {
      DescriptorChain chain;
      ASSERT_EQ(queue_->Pop(&chain), PopResult::kChain);
      queue_->Complete(std::move(chain), written);
    }
  }

  // For what only one of the formats has.
  FakeDriverQueue& split_driver() {
    return dynamic_cast<FakeDriverQueue&>(*driver_);
  }
  FakePackedDriverQueue& packed_driver() {
    return dynamic_cast<FakePackedDriverQueue&>(*driver_);
  }

  TestMemory memory_;
  std::unique_ptr<FakeDriver> driver_;
  std::unique_ptr<Virtqueue> queue_;

 private:
  Features features_;
};

// A queue with indirect descriptors, for drivers that break the rules.
class VirtqueueFaultFixture : public VirtqueueFixture {
 protected:
  static constexpr vmm::GuestAddress kBuffer = TestMemory::kBuffers;
  static constexpr vmm::GuestAddress kTable{TestMemory::kBuffers.value +
                                            0x8000};
  static constexpr vmm::GuestAddress kRamEnd{TestMemory::kRam.value +
                                             TestMemory::kRamBytes};

  VirtqueueFaultFixture() { Start({kFeatureIndirectDesc}); }

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

  void PublishIndirect(uint32_t bytes, uint16_t more_flags = 0) {
    driver_->PublishRaw(
        {kTable.value, bytes,
         static_cast<uint16_t>(kDescFlagIndirect | more_flags)});
  }
  void AddRegion(vmm::GuestAddress start, uint64_t bytes,
                 bool read_only = false) {
    auto backing = vmm::MemoryBacking::CreateAnonymous(bytes, "region");
    ASSERT_TRUE(backing.ok());
    ASSERT_TRUE(memory_.memory()
                    ->Add({.range = {start, bytes},
                           .read_only = read_only,
                           .backing = *std::move(backing)})
                    .ok());
  }
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FIXTURE_H_
