// Random storms of hot-plug, resets and a full link against a model of a driver
// with a single buffer for bus messages, with and without I/O. Source:
// amp-pci-device, 4.

#include <array>
#include <chrono>
#include <cstdint>
#include <random>

#include "absl/status/status.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/fake_link.h"
#include "devices/virtio_msg/testing/single_buffer_driver.h"
#include "gtest/gtest.h"
#include "vmm/base/clock.h"
#include "vmm/testing/fake_clock.h"

namespace vmsg::msg {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using virtio::DummyDevice;
using virtio::DummyOptions;

// In what a plug or an unplug came down: how often.
struct Met {
  uint64_t enumeration = 0;
  uint64_t probe = 0;  // of the device itself; for a plug, of another
  uint64_t reset = 0;  // that the device has not ended
  uint64_t full_queue = 0;
  uint64_t io = 0;  // that the device has not ended
};

class Storm {
 public:
  // Half of them with PINGs in between, which a driver like that may lose, or
  // lose an event by.
  explicit Storm(uint64_t seed)
      : random_(seed),
        monitor_({.name = "amp0/fifo0"}, &clock_, nullptr),
        harness_({.ping = {.interval = milliseconds(seed % 2 * 20),
                           .timeout = milliseconds(150)},
                  .traffic_observer = &monitor_}),
        io_(seed % 4 >= 2),
        driver_(seed + 1, &harness_.link(), &harness_.loop().clock()) {
    monitor_.set_sink([this](const Violation& violation) {
      // Drivers in the field reset the queues of a device that they leave,
      // whether or not they have negotiated that.
      if (violation.row == Row::kDrvRvq1) {
        ++queue_resets_;
        return;
      }
      // And ours notifies queues that are not set up, or not there at all.
      if (violation.row == Row::kDrvFinal3 ||
          violation.row == Row::kDrvNotif2) {
        ++bad_notifications_;
        return;
      }
      ADD_FAILURE() << RowId(violation.row) << ", device " << violation.device
                    << ": " << violation.text;
    });
    if (io_) driver_.EnableIo(&harness_.memory(), {0x80000});
    // Some devices are there before the driver is.
    for (uint32_t slot = 0; slot < 4; ++slot) Plug(slot);
    driver_.Start();
  }

  void Step() {
    const uint32_t slot = static_cast<uint32_t>(random_() % kSlots);
    switch (random_() % 20) {
      case 0:
      case 1:
      case 2:
        if (harness_.bus().status(slot).state == SlotState::kEmpty) Plug(slot);
        break;
      case 3:
      case 4:
        Unplug(slot, /*forced=*/false);
        break;
      case 5:
        Unplug(slot, /*forced=*/true);
        break;
      case 6:
        harness_.link().set_room(random_() % 4);
        break;
      case 7:
        harness_.link().set_room(FakeLink::kUnlimited);
        break;
      case 8:
        if (random_() % 20 == 0) FunctionReset();
        break;
      case 9:
        if (devices_[slot] != nullptr) {
          devices_[slot]->ChangeConfig(4, Bytes(2));
        }
        break;
      case 10:
        // Somebody changes the bus just as the driver looks.
        driver_.Rescan();
        if (harness_.bus().status(slot).state == SlotState::kEmpty) {
          Plug(slot);
        } else {
          Unplug(slot, /*forced=*/random_() % 2 == 0);
        }
        break;
      default:
        driver_.DoSomething();
    }
    Turn(milliseconds(random_() % 8));
  }

  // Lets everything come to rest.
  void Settle() {
    harness_.link().set_room(FakeLink::kUnlimited);
    for (int i = 0; i < 25'000; ++i) Turn(milliseconds(1));
    // It may be at a PING now.
    for (int i = 0; i < 100 && !driver_.idle(); ++i) Turn(milliseconds(1));
  }

  void ExpectAtRest() {
    EXPECT_TRUE(driver_.errors().empty()) << driver_.errors().front();
    EXPECT_EQ(driver_.overwritten(), 0u);
    EXPECT_TRUE(driver_.idle());
    EXPECT_EQ(harness_.counters().malformed.value(), 0u);
    EXPECT_EQ(gone_, unplugged_);
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      const SlotStatus status = harness_.bus().status(slot);
      if (driver_.live(slot)) {
        EXPECT_EQ(status.state, SlotState::kPresent) << slot;
        EXPECT_EQ(status.driver_status, 15u) << slot;
      } else {
        EXPECT_EQ(status.state, SlotState::kEmpty) << slot;
      }
    }
  }

  const SingleBufferDriver& driver() const { return driver_; }
  uint64_t queue_resets() const { return queue_resets_; }
  uint64_t bad_notifications() const { return bad_notifications_; }
  uint64_t unplugged() const { return unplugged_; }
  const Met& plugs() const { return plugs_; }
  const Met& unplugs() const { return unplugs_; }
  DriverHealth driver_health() { return harness_.bus().driver_health(); }

 private:
  // Few, so that slots are used again and again.
  static constexpr uint32_t kSlots = 8;

  void Turn(vmm::Duration time) {
    harness_.link().Service();
    harness_.loop().AdvanceTime(time);
    driver_.Run();
    harness_.link().Service();
    harness_.loop().RunUntilIdle();
  }

  void Plug(uint32_t slot) {
    plugs_.enumeration += driver_.enumerating();
    plugs_.full_queue += harness_.link().full();
    for (uint32_t i = 0; i < kSlots; ++i) {
      const DummyDevice* const other = devices_[i];
      plugs_.probe += driver_.probing(i);
      if (other == nullptr) continue;
      plugs_.reset += other->state() == DummyDevice::State::kResetting;
      plugs_.io += other->in_flight() != 0;
    }
    devices_[slot] = harness_.PlugDummy(
        slot, {.seed = random_(),
               .max_work_delay = milliseconds(random_() % 100),
               .max_transition_delay = milliseconds(random_() % 30)});
  }

  void Unplug(uint32_t slot, bool forced) {
    const DummyDevice* const device = devices_[slot];
    const bool met_reset =
        device != nullptr && device->state() == DummyDevice::State::kResetting;
    const bool met_io = device != nullptr && device->in_flight() != 0;
    const absl::Status status = harness_.bus().Unplug(
        slot,
        {.forced = forced,
         // A driver with I/O lets go before these, or
         // something hangs.
         .deadline = milliseconds(io_ ? 2000 : 200),
         .fail_deadline = milliseconds(io_ ? 20'000 : 100)},
        [this] { ++gone_; });
    if (!status.ok()) return;
    unplugs_.enumeration += driver_.enumerating();
    unplugs_.probe += driver_.probing(slot);
    unplugs_.reset += met_reset;
    unplugs_.full_queue += harness_.link().full();
    unplugs_.io += met_io;
    devices_[slot] = nullptr;
    ++unplugged_;
  }

  void FunctionReset() {
    harness_.link().Clear();
    harness_.bus().ResetAll();
    driver_.Restart();
    driver_.Start();
  }

  std::mt19937_64 random_;
  vmm::FakeClock clock_;
  WireMonitor monitor_;
  uint64_t queue_resets_ = 0;
  uint64_t bad_notifications_ = 0;
  BusHarness harness_;
  const bool io_;
  SingleBufferDriver driver_;
  std::array<DummyDevice*, kSlots> devices_ = {};
  uint64_t unplugged_ = 0;
  uint64_t gone_ = 0;
  Met plugs_;
  Met unplugs_;
};

class StormTest : public testing::TestWithParam<uint64_t> {};

TEST_P(StormTest, DriverAndBusAgreeWhenItIsOver) {
  Storm storm(GetParam());
  for (int i = 0; i < 3000; ++i) storm.Step();
  storm.Settle();
  storm.ExpectAtRest();
  // The storm was one.
  EXPECT_GT(storm.driver().probes(), 50u);
  EXPECT_GT(storm.driver().tear_downs(), 20u);
  EXPECT_GT(storm.queue_resets(), 10u);
  EXPECT_GT(storm.bad_notifications(), 10u);
  EXPECT_GT(storm.unplugged(), 50u);
  // It came down on all that a driver and a device do.
  for (const Met* met : {&storm.plugs(), &storm.unplugs()}) {
    EXPECT_GT(met->enumeration, 10u);
    EXPECT_GT(met->probe, 10u);
    EXPECT_GT(met->reset, 2u);
    EXPECT_GT(met->full_queue, 5u);
    EXPECT_TRUE(met->io > 0 || GetParam() % 4 < 2);
  }
  if (GetParam() % 4 >= 2) {
    EXPECT_GT(storm.driver().io_done(), 100u);
    EXPECT_GT(storm.driver().io_done_late(), 20u);
  }
  if (GetParam() % 2 != 0) {
    EXPECT_GT(storm.driver().pings_answered(), 20u);
    EXPECT_NE(storm.driver_health(), DriverHealth::kUnresponsive);
  } else {
    EXPECT_EQ(storm.driver().pings_answered(), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Seeds, StormTest, testing::Range<uint64_t>(1, 25));

}  // namespace
}  // namespace vmsg::msg
