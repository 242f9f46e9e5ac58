// What the tests of driver rows have in common: guest/driver on a FIFO whose
// other end is a FakeDevice, which keeps each message that the driver sends.

#ifndef VMSG_TESTS_CONFORMANCE_DRIVER_FIXTURE_H_
#define VMSG_TESTS_CONFORMANCE_DRIVER_FIXTURE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/rng.h"
#include "guest/driver/testing/fake_device.h"
#include "guest/driver/testing/fake_platform.h"
#include "guest/driver/testing/virtio_device_fixture.h"
#include "guest/driver/virtio_device.h"

namespace vmsg::guest {

constexpr uint64_t FeatureBit(uint32_t bit) { return uint64_t{1} << bit; }

class DriverFixture : public VirtioDeviceTest {
 protected:
  static constexpr uint16_t kDev = 5;

  void Probe() { ASSERT_EQ(device_.Probe(&bus_, kDev), Error::kNone); }
  void Negotiate(const Features& supported = {}) {
    Probe();
    ASSERT_EQ(device_.Negotiate(supported, {}), Error::kNone);
  }
  Error SetUpQueue(uint32_t wanted = 16, uint16_t index = 0) {
    return device_.SetUpQueue(index, wanted, 0, platform_.dma_arena(), &queue_);
  }
  void Start(const Features& supported = {}) {
    Negotiate(supported);
    ASSERT_EQ(SetUpQueue(), Error::kNone);
    ASSERT_EQ(device_.Start(), Error::kNone);
  }
  // Puts one buffer on the queue and notifies.
  Error AddAndNotify() {
    const QueueBuffer buffer = {FakePlatform::kArenaAddress, 1, true};
    if (queue_->Add(std::span(&buffer, 1), 0) != Error::kNone) {
      return Error::kQueueFull;
    }
    queue_->Publish();
    return device_.Notify(0, *queue_);
  }

  // What the driver sent with this transport id; all of it with -1.
  std::vector<MessageBytes> Sent(int id = -1) const {
    return id < 0 ? fake_.received()
                  : fake_.received_of(false, static_cast<uint8_t>(id));
  }
  // One of everything a driver does, all of which succeeds.
  void DoEverything() {
    fake_.offered = FeatureBit(32) | FeatureBit(40);
    fake_.config.resize(32);
    uint32_t present;
    ASSERT_EQ(bus_.Enumerate(&present), Error::kNone);
    ASSERT_EQ(bus_.Ping(1), Error::kNone);
    Start(Features::Of(kFeatureRingReset));
    ASSERT_EQ(AddAndNotify(), Error::kNone);
    ASSERT_EQ(SetUpQueue(8), Error::kNone);
    std::array<std::byte, 32> data;
    ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
    ASSERT_EQ(device_.WriteConfig(0, data), Error::kNone);
    SharedMemoryInfo shm;
    ASSERT_EQ(device_.GetSharedMemory(0, &shm), Error::kNotFound);
    uint32_t status;
    ASSERT_EQ(device_.ReadStatus(&status), Error::kNone);
    ASSERT_EQ(device_.Reset(), Error::kNone);
  }
};

}  // namespace vmsg::guest

#endif  // VMSG_TESTS_CONFORMANCE_DRIVER_FIXTURE_H_
