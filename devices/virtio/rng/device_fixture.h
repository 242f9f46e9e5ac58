// What the tests of RngDevice share: one device, its driver, its source.

#ifndef VMSG_DEVICES_VIRTIO_RNG_DEVICE_FIXTURE_H_
#define VMSG_DEVICES_VIRTIO_RNG_DEVICE_FIXTURE_H_

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/rng/device.h"
#include "devices/virtio/rng/fake_entropy_source.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/fake_notifier.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::virtio {

class RngDeviceFixture : public ::testing::Test {
 protected:
  using Buffer = FakeDriverQueue::Buffer;

  static constexpr uint32_t kSize = 16;
  static constexpr vmm::GuestAddress kOut = TestMemory::kBuffers;

  RngDeviceFixture()
      : driver_(memory_.memory(), TestMemory::kRam, kSize,
                /*event_idx=*/true) {
    Create({});
  }

  void Create(const RngOptions& options) {
    device_ = nullptr;
    source_ = {};
    device_ = *RngDevice::Create(
        options, std::make_unique<FakeEntropySource>(&source_), &loop_);
  }

  Features Negotiated() const {
    return {kFeatureVersion1, kFeatureIndirectDesc, kFeatureEventIdx,
            kFeatureRingReset};
  }
  std::unique_ptr<Virtqueue> NewQueue() {
    return *CreateVirtqueue(0, driver_.config(), kSize, Negotiated(),
                            memory_.dma());
  }
  void StartActivation(VirtioDevice::StatusCompletion done) {
    StartActivation(NewQueue(), Negotiated(), std::move(done));
  }
  void StartActivation(std::unique_ptr<Virtqueue> queue,
                       const Features& features,
                       VirtioDevice::StatusCompletion done) {
    std::vector<std::unique_ptr<Virtqueue>> queues;
    queues.push_back(std::move(queue));
    device_->Activate({.loop = &loop_,
                       .dma = memory_.dma(),
                       .notifier = &notifier_,
                       .features = features},
                      std::move(queues), std::move(done));
  }
  // With a queue other than that of driver_.
  void ActivateWith(std::unique_ptr<Virtqueue> queue,
                    const Features& features) {
    StartActivation(std::move(queue), features,
                    [](absl::Status status) { EXPECT_TRUE(status.ok()); });
    loop_.RunUntilIdle();
  }
  void Activate() {
    int done = 0;
    StartActivation([&done](absl::Status status) {
      EXPECT_TRUE(status.ok());
      ++done;
    });
    EXPECT_EQ(done, 0) << "never inside the call";
    loop_.RunUntilIdle();
    ASSERT_EQ(done, 1);
    device_->QueueNotify(0);
  }
  void Reset() {
    int done = 0;
    device_->Reset([&done] { ++done; });
    EXPECT_EQ(done, 0) << "never inside the call";
    loop_.RunUntilIdle();
    ASSERT_EQ(done, 1);
  }

  // A request of one writable buffer.
  void Add(uint32_t length, vmm::GuestAddress where = kOut) {
    ASSERT_TRUE(
        driver_.Add(std::vector<Buffer>{{where, length, true}}).has_value());
  }
  void Request(uint32_t length) {
    Add(length);
    device_->QueueNotify(0);
  }
  // Length of the next used entry, or -1. Asks for an interrupt at the one
  // after it.
  int64_t Used() {
    const auto used = driver_.TakeUsed();
    driver_.EnableInterrupts();
    return used.has_value() ? int64_t{used->length} : -1;
  }
  // What the fake source gives from its byte `first` on.
  static std::vector<std::byte> Entropy(uint64_t first, size_t length) {
    std::vector<std::byte> bytes(length);
    for (size_t i = 0; i < length; ++i) {
      bytes[i] = FakeEntropySource::ByteAt(first + i);
    }
    return bytes;
  }

  vmm::ManualEventLoop loop_;
  TestMemory memory_;
  FakeNotifier notifier_;
  FakeDriverQueue driver_;
  FakeEntropySource::Control source_;
  std::unique_ptr<RngDevice> device_;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_RNG_DEVICE_FIXTURE_H_
