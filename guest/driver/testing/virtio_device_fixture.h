// VirtioDeviceTest: a VirtioDevice on a bus whose other end is a FakeDevice,
// with a judge of what the driver sends.

#ifndef VMSG_GUEST_DRIVER_TESTING_VIRTIO_DEVICE_FIXTURE_H_
#define VMSG_GUEST_DRIVER_TESTING_VIRTIO_DEVICE_FIXTURE_H_

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/any_virtqueue.h"
#include "guest/driver/bus.h"
#include "guest/driver/features.h"
#include "guest/driver/spsc_fifo.h"
#include "guest/driver/testing/bytes.h"
#include "guest/driver/testing/driver_judge.h"
#include "guest/driver/testing/fake_device.h"
#include "guest/driver/testing/fake_platform.h"
#include "guest/driver/virtio_device.h"

namespace vmsg::guest {

class VirtioDeviceTest : public testing::Test {
 protected:
  static constexpr uint64_t kTimeoutNs = 20'000'000;

  VirtioDeviceTest()
      : fake_(&platform_),
        fifo_(fake_.window()),
        bus_(&platform_, &fifo_,
             {.doorbell_address = FakeDevice::kDoorbell,
              .interrupt = FakeDevice::kInterrupt,
              .timeout_ns = kTimeoutNs}) {
    EXPECT_TRUE(fifo_.Attach());
  }

  Error Negotiate(Features supported = {}) {
    const Error error = device_.Probe(&bus_, fake_.number);
    return error == Error::kNone ? device_.Negotiate(supported, {}) : error;
  }
  Error SetUpQueue(uint32_t wanted = 16) {
    return device_.SetUpQueue(0, wanted, 0, platform_.dma_arena(), &queue_);
  }

  // Ids of the transport messages sent, in order.
  std::vector<uint64_t> Ids() {
    std::vector<uint64_t> ids;
    for (const MessageBytes& message : fake_.received()) {
      ids.push_back(Field(message, 1, 1));
    }
    return ids;
  }

  FakePlatform platform_;
  FakeDevice fake_;
  DriverJudge judge_{&fake_};
  SpscFifo fifo_;
  Bus bus_;
  AnyVirtqueue queue_;
  VirtioDevice device_;  // before the bus goes
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_TESTING_VIRTIO_DEVICE_FIXTURE_H_
