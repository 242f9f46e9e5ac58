// The ways out of BROKEN, in each layout: reset of the function, the operator,
// and the handshake where there is one. Source: amp-pci-device, 3.1.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/layout_driver.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::amp {
namespace {

using control::BusState;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

class BrokenFifoTest : public testing::TestWithParam<FifoLayout> {
 protected:
  BrokenFifoTest() {
    m_.guest->Start();
    m_.loop.RunUntilIdle();
    EXPECT_THAT(
        bus_->Plug(0, 1,
                   std::make_unique<VirtioPluggable>(
                       std::make_unique<virtio::DummyDevice>(
                           virtio::DummyOptions{.max_work_delay = {},
                                                .max_transition_delay = {}},
                           &m_.loop))),
        vmm::IsOk());
    bus_->Observe(nullptr, [this](const control::BusReport& report) {
      states_.push_back(report.state);
    });
    driver_.Attach();
    other_.Attach();
    driver_.Ask(RawGetDevices(1));
    driver_.Ask(RawGetDeviceInfo(0, 3));
    driver_.Ask(RawSetStatus(0, 2, 3));
    EXPECT_EQ(bus_->slot_report(0).driver_status, 3u);
  }

  bool handshake() const { return GetParam() != FifoLayout::kSpsc; }
  BusState state() { return bus_->bus_report().state; }

  // Everything behind the header that some layouts have is overwritten, in the
  // middle of traffic.
  void Break() {
    driver_.Put(RawPing(100, 1));
    std::byte* const window = m_.guest->window(0);
    std::fill(window + 0x1040, window + 0x3000, std::byte{0xEE});
    m_.guest->Ring(0);
    m_.loop.RunUntilIdle();
    ASSERT_EQ(state(), BusState::kBroken);
    ASSERT_THAT(bus_->bus_report().fault, Not(IsEmpty()));
    ASSERT_EQ(states_.back(), BusState::kBroken);
  }

  void ExpectAsGoodAsNew() {
    EXPECT_EQ(state(), BusState::kRunning);
    EXPECT_THAT(bus_->bus_report().fault, IsEmpty());
    EXPECT_EQ(states_.back(), BusState::kRunning);
    EXPECT_EQ(bus_->slot_report(0).driver_status, 0u) << "devices are reset";
    EXPECT_THAT(driver_.TakeAll(), IsEmpty()) << "nothing of before";
    for (uint16_t token = 1; token < 200; ++token) {
      std::vector<uint16_t> answers;
      for (const Bytes& packet : driver_.Ask(RawPing(token, token))) {
        if (TypeOf(packet) == 0x03) answers.push_back(TokenOf(packet));
      }
      ASSERT_EQ(answers, std::vector<uint16_t>{token});
    }
    EXPECT_EQ(m_.device->fifo_counters(0).breaks.value(), 1u);
  }

  AmpMachine m_{{.num_fifos = 2, .fifo_layout = GetParam()}};
  control::HotplugBus* const bus_ = m_.device->bus(0);
  LayoutDriver driver_{&m_, 0};
  LayoutDriver other_{&m_, 1};
  std::vector<BusState> states_;
};

INSTANTIATE_TEST_SUITE_P(Layouts, BrokenFifoTest,
                         testing::ValuesIn(kAllLayouts),
                         [](const auto& layout) {
                           return LayoutTestName(layout.param);
                         });

TEST_P(BrokenFifoTest, OthersGoOnAndItIsLeftAlone) {
  ASSERT_NO_FATAL_FAILURE(Break());
  std::byte* const window = m_.guest->window(0);
  const Bytes before(window, window + 0x4000);
  const uint64_t interrupts = m_.interrupts.count(0);
  for (int i = 0; i < 10; ++i) {
    m_.guest->Ring(0);
    m_.loop.AdvanceTime(std::chrono::seconds(1));
    EXPECT_THAT(other_.Ask(RawPing(7, 7)), SizeIs(1));
  }
  EXPECT_EQ(m_.interrupts.count(0), interrupts);
  EXPECT_EQ(state(), BusState::kBroken);
  // A layout with a handshake shows INIT, once, and nothing else.
  const Bytes after(window, window + 0x4000);
  size_t changed = 0;
  for (size_t i = 0; i < before.size(); ++i) changed += before[i] != after[i];
  EXPECT_LE(changed, handshake() ? 72u : 0u);
}

TEST_P(BrokenFifoTest, FunctionResetIsAWayOut) {
  ASSERT_NO_FATAL_FAILURE(Break());
  m_.device->Reset();
  m_.guest->Start();
  m_.loop.RunUntilIdle();
  driver_.Attach();
  ExpectAsGoodAsNew();
}

TEST_P(BrokenFifoTest, OperatorIsAWayOut) {
  ASSERT_NO_FATAL_FAILURE(Break());
  bus_->ResetBus();
  m_.loop.RunUntilIdle();
  driver_.Attach();
  ExpectAsGoodAsNew();
  EXPECT_THAT(other_.Ask(RawPing(7, 7)), SizeIs(1)) << "untouched";
}

TEST_P(BrokenFifoTest, HandshakeIsAWayOutWhereThereIsOne) {
  ASSERT_NO_FATAL_FAILURE(Break());
  if (!handshake()) {
    // A driver that finds good indices again changes nothing: the device can't
    // know that they are.
    std::byte* const window = m_.guest->window(0);
    std::fill(window + 0x1000, window + 0x3000, std::byte{0});
    driver_.Begin();
    driver_.Send(RawPing(1, 1));
    m_.loop.AdvanceTime(std::chrono::seconds(1));
    EXPECT_EQ(state(), BusState::kBroken);
    EXPECT_THAT(driver_.TakeAll(), IsEmpty());
    return;
  }
  m_.loop.AdvanceTime(std::chrono::milliseconds(100));
  driver_.Attach();
  ExpectAsGoodAsNew();
}

// The next driver's handshake clears the indices; without one they stay wrong.
TEST_P(BrokenFifoTest, BusMasteringOffIsOneOnlyWhereDriversShakeHands) {
  ASSERT_NO_FATAL_FAILURE(Break());
  m_.guest->SetBusMaster(false);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(bus_->slot_report(0).driver_status, 0u) << "devices are reset";
  m_.guest->SetBusMaster(true);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(state(), handshake() ? BusState::kWaiting : BusState::kBroken);
  if (!handshake()) {
    m_.device->Reset();
    m_.guest->Start();
    m_.loop.RunUntilIdle();
  }
  driver_.Attach();
  EXPECT_EQ(state(), BusState::kRunning);
}

}  // namespace
}  // namespace vmsg::amp
