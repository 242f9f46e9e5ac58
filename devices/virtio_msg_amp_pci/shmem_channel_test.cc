// Layout `shmem-v1` on the whole function: handshake by doorbell and by timer,
// drivers that start anew, bus mastering, reset, removal.

#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "devices/virtio_msg_amp_pci/fifo_channel.h"
#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/driver/shmem_fifo.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {
namespace {

using control::BusState;
using std::chrono::milliseconds;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// In the window, amp-pci-device, 3.2: the placement of this device.
constexpr size_t kDeviceState = 0x1000 + 64 + 2;
constexpr size_t kDriverTail = 0x1000 + 8064 + 4;

class ShmemChannelTest : public testing::Test {
 protected:
  ShmemChannelTest() {
    m_.guest->Start();
    m_.loop.RunUntilIdle();
    driver_ = std::make_unique<guest::ShmemFifo>(m_.guest->window(0));
  }

  uint16_t Half(size_t at) {
    return vmm::LoadShared<uint16_t>(m_.guest->window(0) + at,
                                     std::memory_order_acquire);
  }
  BusState state() { return m_.device->bus(0)->bus_report().state; }

  void Join() {
    ASSERT_TRUE(driver_->Attach());
    for (int i = 0; i < 4; ++i) {
      m_.guest->Ring(0);
      m_.loop.RunUntilIdle();
      driver_->Step();
    }
    ASSERT_EQ(driver_->state(), guest::FifoState::kRunning);
    ASSERT_EQ(state(), BusState::kRunning);
  }
  // Another driver object, as another kernel would have.
  void ReplaceDriver() {
    driver_ = std::make_unique<guest::ShmemFifo>(m_.guest->window(0));
  }
  void Put(uint16_t token) {
    ASSERT_TRUE(driver_->Send(RawPing(token, token)));
    driver_->CommitSent();
  }
  std::vector<uint16_t> TakeTokens() {
    std::vector<uint16_t> tokens;
    guest::Packet packet;
    while (driver_->Receive(&packet)) {
      const Bytes bytes(packet.bytes.begin(), packet.bytes.end());
      if ((TypeOf(bytes) & 1) != 0) tokens.push_back(TokenOf(bytes));
    }
    driver_->CommitReceived();
    return tokens;
  }
  std::vector<uint16_t> Ping(uint16_t token) {
    Put(token);
    m_.guest->Ring(0);
    m_.loop.RunUntilIdle();
    return TakeTokens();
  }

  AmpMachine m_{{.num_fifos = 2, .fifo_layout = FifoLayout::kShmemV1}};
  std::unique_ptr<guest::ShmemFifo> driver_;
};

TEST_F(ShmemChannelTest, WaitsForADriverAndServesIt) {
  std::vector<BusState> states;
  m_.device->bus(0)->Observe(nullptr, [&](const control::BusReport& report) {
    states.push_back(report.state);
  });
  EXPECT_EQ(state(), BusState::kWaiting);
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_EQ(m_.interrupts.count(0), 0u) << "a handshake raises none";
  EXPECT_THAT(Ping(5), ElementsAre(5));
  EXPECT_EQ(m_.interrupts.count(0), 1u);
  EXPECT_THAT(states, Contains(BusState::kRunning));
  EXPECT_EQ(m_.device->bus(1)->bus_report().state, BusState::kWaiting);
}

TEST_F(ShmemChannelTest, JoinsWithoutADoorbellWithinTheLookInterval) {
  ASSERT_TRUE(driver_->Attach());
  ASSERT_TRUE(driver_->Step());
  m_.loop.RunUntilIdle();
  EXPECT_EQ(Half(kDeviceState), 0);
  m_.loop.AdvanceTime(milliseconds(100));
  EXPECT_EQ(Half(kDeviceState), 2);
  ASSERT_TRUE(driver_->Step());
  EXPECT_THAT(Ping(1), ElementsAre(1));
}

TEST_F(ShmemChannelTest, DriverThatRestartsInTheMiddleOfTrafficIsServedAnew) {
  ASSERT_NO_FATAL_FAILURE(Join());
  for (uint16_t token = 1; token < 200; ++token) {
    ASSERT_THAT(Ping(token), ElementsAre(token));
  }
  Put(1000);
  Put(1001);
  EXPECT_TRUE(m_.device->bus(0)->bus_report().driver_seen);

  ReplaceDriver();
  ASSERT_TRUE(driver_->Attach());
  m_.loop.AdvanceTime(milliseconds(100));  // no doorbell
  EXPECT_FALSE(m_.device->bus(0)->bus_report().driver_seen);
  EXPECT_EQ(state(), BusState::kWaiting);
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_THAT(TakeTokens(), IsEmpty());
  EXPECT_THAT(Ping(7), ElementsAre(7));
}

TEST_F(ShmemChannelTest, DriverThatSaysShutdownIsForgotten) {
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_THAT(Ping(1), ElementsAre(1));
  driver_->Detach();
  m_.loop.AdvanceTime(milliseconds(100));
  EXPECT_EQ(state(), BusState::kWaiting);
  EXPECT_FALSE(m_.device->bus(0)->bus_report().driver_seen);
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_THAT(Ping(2), ElementsAre(2));
}

TEST_F(ShmemChannelTest, BusMasteringOffShowsInitBeforeTheWriteReturns) {
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_THAT(Ping(1), ElementsAre(1));
  Put(2);
  m_.guest->SetBusMaster(false);
  EXPECT_EQ(Half(kDeviceState), 0);
  m_.guest->SetBusMaster(true);
  // The new driver is quicker than the loop.
  ReplaceDriver();
  ASSERT_TRUE(driver_->Attach());
  ASSERT_TRUE(driver_->Step());
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_THAT(Ping(3), ElementsAre(3));
}

TEST_F(ShmemChannelTest, NothingIsLookedAtWhileBusMasteringIsOff) {
  m_.guest->SetBusMaster(false);
  m_.loop.RunUntilIdle();
  ASSERT_TRUE(driver_->Attach());
  ASSERT_TRUE(driver_->Step());
  m_.guest->Ring(0);
  m_.loop.AdvanceTime(std::chrono::seconds(1));
  EXPECT_EQ(Half(kDeviceState), 0);
  m_.guest->SetBusMaster(true);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(Half(kDeviceState), 2);
}

TEST_F(ShmemChannelTest, FunctionResetStartsOver) {
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_THAT(Ping(1), ElementsAre(1));
  Put(2);
  m_.device->Reset();
  EXPECT_EQ(Half(kDeviceState), 0);
  EXPECT_EQ(Half(kDriverTail), 0);
  m_.guest->Start();
  ReplaceDriver();
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_THAT(Ping(3), ElementsAre(3));
}

TEST_F(ShmemChannelTest, BrokenFifoIsReportedAndLeftByAHandshake) {
  ASSERT_NO_FATAL_FAILURE(Join());
  vmm::StoreShared<uint16_t>(m_.guest->window(0) + kDriverTail, 62,
                             std::memory_order_release);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(state(), BusState::kBroken);
  EXPECT_THAT(m_.device->bus(0)->bus_report().fault, HasSubstr("past the end"));
  EXPECT_EQ(m_.device->fifo_counters(0).breaks.value(), 1u);
  m_.loop.AdvanceTime(milliseconds(100));
  EXPECT_EQ(Half(kDeviceState), 0);
  EXPECT_EQ(state(), BusState::kBroken);

  ReplaceDriver();
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_EQ(m_.device->bus(0)->bus_report().fault, "");
  EXPECT_THAT(Ping(3), ElementsAre(3));
  EXPECT_EQ(m_.device->fifo_counters(0).breaks.value(), 1u);
}

TEST_F(ShmemChannelTest, OperatorGetsABrokenFifoGoingAgain) {
  ASSERT_NO_FATAL_FAILURE(Join());
  vmm::StoreShared<uint16_t>(m_.guest->window(0) + kDeviceState, 31,
                             std::memory_order_release);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(state(), BusState::kBroken);
  m_.device->bus(0)->ResetBus();
  EXPECT_EQ(state(), BusState::kWaiting);
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_THAT(Ping(3), ElementsAre(3));
}

TEST_F(ShmemChannelTest, FullDeviceQueueLosesNothing) {
  ASSERT_NO_FATAL_FAILURE(Join());
  std::vector<uint16_t> expected;
  for (uint16_t token = 1; token <= 61; ++token) Put(token);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  for (uint16_t token = 62; token <= 122; ++token) Put(token);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  for (uint16_t token = 1; token <= 122; ++token) expected.push_back(token);
  std::vector<uint16_t> tokens = TakeTokens();
  EXPECT_EQ(tokens.size(), 61u);
  m_.loop.AdvanceTime(FifoChannel::kMaxRecheck);
  for (const uint16_t token : TakeTokens()) tokens.push_back(token);
  EXPECT_EQ(tokens, expected);
}

TEST_F(ShmemChannelTest, RemovedFunctionSaysShutdown) {
  ASSERT_NO_FATAL_FAILURE(Join());
  std::byte* const window = m_.guest->window(0);
  m_.device->Disconnect();
  EXPECT_EQ(vmm::LoadShared<uint16_t>(window + kDeviceState,
                                      std::memory_order_acquire),
            3);
}

}  // namespace
}  // namespace vmsg::amp
