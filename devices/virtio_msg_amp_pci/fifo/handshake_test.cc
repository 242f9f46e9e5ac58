// Layout `shmem-v1` with the device's end and the driver's end of this project,
// in every order of their steps.

#include <array>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo/fifo_traffic.h"
#include "gtest/gtest.h"
#include "guest/driver/fifo.h"
#include "guest/driver/shmem_fifo.h"

namespace vmsg::amp {
namespace {

class HandshakeTest : public testing::TestWithParam<FifoLayout> {
 protected:
  void Create() {
    device_ = CreateDeviceFifo(GetParam(), window_->bytes.data());
    driver_ = std::make_unique<guest::ShmemFifo>(window_->bytes.data());
  }
  // One step of the device. True when it noticed that a driver left.
  bool StepDevice() { return device_->Poll() && device_->Step(); }

  // Takes both to RUN from wherever they are.
  void Finish() {
    for (int i = 0; i < 8; ++i) {
      StepDevice();
      driver_->Step();
    }
    ASSERT_EQ(device_->state(), FifoState::kRunning);
    ASSERT_EQ(driver_->state(), guest::FifoState::kRunning);
  }

  // More than a queue full each way, in order and complete.
  void ExpectTraffic(uint32_t seed) {
    uint32_t there = 0;
    uint32_t back = 0;
    for (uint32_t i = 0; i < 150; ++i) {
      std::array<std::byte, 64> message = {};
      const uint32_t number = seed + i;
      std::memcpy(message.data(), &number, sizeof(number));
      ASSERT_TRUE(driver_->Send(message));
      driver_->CommitSent();
      Packet request;
      while (device_->Receive(&request)) {
        ASSERT_EQ(NumberOf(request), seed + there++);
        ASSERT_TRUE(device_->Send(request.bytes));
      }
      device_->CommitReceived();
      device_->CommitSent();
      guest::Packet answer;
      while (driver_->Receive(&answer)) {
        ASSERT_EQ(NumberOf(answer), seed + back++);
      }
      driver_->CommitReceived();
    }
    EXPECT_EQ(back, 150u);
    ASSERT_FALSE(device_->Poll());
  }

  const std::unique_ptr<TestWindow> window_ = std::make_unique<TestWindow>();
  std::unique_ptr<DeviceFifo> device_;
  std::unique_ptr<guest::ShmemFifo> driver_;
};

INSTANTIATE_TEST_SUITE_P(Placements, HandshakeTest,
                         testing::Values(FifoLayout::kShmemV1,
                                         FifoLayout::kShmemV1Packed),
                         [](const auto& param) {
                           return param.param == FifoLayout::kShmemV1
                                      ? "Spread"
                                      : "Packed";
                         });

// Each bit of `order` says whose step is next.
TEST_P(HandshakeTest, EveryOrderOfTenStepsEndsInRun) {
  for (uint32_t order = 0; order < 1u << 10; ++order) {
    Create();
    ASSERT_TRUE(driver_->Attach());
    for (int i = 0; i < 10; ++i) {
      if ((order >> i & 1) != 0) {
        ASSERT_FALSE(StepDevice()) << order;
      } else {
        driver_->Step();
      }
    }
    ASSERT_NO_FATAL_FAILURE(Finish()) << order;
    ASSERT_NO_FATAL_FAILURE(ExpectTraffic(order)) << order;
  }
}

// The driver attaches anew after any part of the first handshake and traffic.
TEST_P(HandshakeTest, EveryOrderOfARestartEndsInRunWithNothingOfBefore) {
  for (uint32_t order = 0; order < 1u << 10; ++order) {
    Create();
    ASSERT_TRUE(driver_->Attach());
    ASSERT_NO_FATAL_FAILURE(Finish());
    ASSERT_NO_FATAL_FAILURE(ExpectTraffic(1000));
    // Left on both queues.
    const std::array<std::byte, 64> old = {std::byte{0xFF}};
    ASSERT_TRUE(driver_->Send(old));
    driver_->CommitSent();
    ASSERT_TRUE(device_->Send(old));
    device_->CommitSent();

    if ((order & 1) != 0) driver_->Detach();
    driver_ = std::make_unique<guest::ShmemFifo>(window_->bytes.data());
    int left = 0;
    if ((order & 2) != 0) left += StepDevice() ? 1 : 0;
    ASSERT_TRUE(driver_->Attach());
    for (int i = 2; i < 10; ++i) {
      if ((order >> i & 1) != 0) {
        left += StepDevice() ? 1 : 0;
      } else {
        driver_->Step();
      }
    }
    for (int i = 0; i < 8; ++i) {
      left += StepDevice() ? 1 : 0;
      driver_->Step();
    }
    ASSERT_NO_FATAL_FAILURE(Finish()) << order;
    ASSERT_EQ(left, 1) << order;
    ASSERT_NO_FATAL_FAILURE(ExpectTraffic(order)) << order;
  }
}

// The device starts over (bus mastering, or a function reset) at any point; the
// driver notices, attaches, and both agree.
TEST_P(HandshakeTest, DeviceThatStartsOverIsNoticedAndJoinedAgain) {
  for (const bool reset : {false, true}) {
    Create();
    ASSERT_TRUE(driver_->Attach());
    ASSERT_NO_FATAL_FAILURE(Finish());
    ASSERT_NO_FATAL_FAILURE(ExpectTraffic(1));
    if (reset) {
      device_->Reset();
    } else {
      device_->DropDriver(device_->DriverLeft());
    }
    guest::Packet packet;
    while (driver_->Receive(&packet)) {
    }
    EXPECT_EQ(driver_->state(), guest::FifoState::kBroken);
    ASSERT_TRUE(driver_->Attach());
    ASSERT_NO_FATAL_FAILURE(Finish());
    ASSERT_NO_FATAL_FAILURE(ExpectTraffic(7));
  }
}

TEST_P(HandshakeTest, ShutdownOfTheDeviceIsNoticedAndNotJoined) {
  Create();
  ASSERT_TRUE(driver_->Attach());
  ASSERT_NO_FATAL_FAILURE(Finish());
  device_->Shutdown();
  guest::Packet packet;
  EXPECT_FALSE(driver_->Receive(&packet));
  EXPECT_EQ(driver_->fault(), guest::FifoFault::kDeviceShutDown);
  ASSERT_TRUE(driver_->Attach());
  driver_->Step();
  EXPECT_EQ(driver_->fault(), guest::FifoFault::kDeviceShutDown);
}

}  // namespace
}  // namespace vmsg::amp
