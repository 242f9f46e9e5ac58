// Random storms of hot-plug on a whole function, in each layout: the same model
// of a driver as in //devices/virtio_msg:storm_test, but behind a real FIFO
// that overflows now and then, with DMA and resets of the function. Source:
// amp-pci-device, 4.

#include <array>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <random>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_join.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/monitor/rows.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "devices/virtio_msg/testing/driver_port.h"
#include "devices/virtio_msg/testing/single_buffer_driver.h"
#include "devices/virtio_msg/testing/wire.h"
#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/layout_driver.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "gtest/gtest.h"
#include "vmm/base/guest_address.h"

namespace vmsg::amp {
namespace {

using std::chrono::milliseconds;
using virtio::DummyDevice;

constexpr uint32_t kFifo = 1;  // not the first, whose number is that of nothing

// The driver's end of the FIFO.
class FifoPort final : public msg::DriverPort {
 public:
  explicit FifoPort(AmpMachine* machine) : driver_(machine, kFifo) {}

  // A driver that was just loaded.
  void Attach() {
    unsent_.clear();
    deaf_turns_ = 0;
    floods_owed_ = 0;
    driver_.Attach();
  }

  // Asks more than the device can answer while the driver does not look, for so
  // many turns: both queues are full.
  void Flood(int deaf_turns) {
    for (int i = 0; i < 130; ++i) {
      unsent_.push_back(msg::PingRequest(0, kFloodToken));
      ++floods_owed_;
    }
    deaf_turns_ = deaf_turns;
  }
  // Answers to floods that have not come.
  uint64_t floods_owed() const { return floods_owed_; }

  void Enqueue(Bytes message) override {
    unsent_.push_back(std::move(message));
  }
  std::vector<msg::Received> Take() override {
    std::vector<msg::Received> taken;
    if (deaf_turns_ > 0) {
      --deaf_turns_;
      return taken;
    }
    for (Bytes& packet : driver_.TakeAll()) {
      packet.resize(SizeOf(packet));
      msg::Received message(std::move(packet));
      if (message.is_bus() && message.is_response() &&
          message.token() == kFloodToken) {
        --floods_owed_;
      } else {
        taken.push_back(std::move(message));
      }
    }
    return taken;
  }

  // Puts what fits on the driver queue.
  void Send() {
    bool any = false;
    while (!unsent_.empty() && driver_.Put(unsent_.front())) {
      unsent_.pop_front();
      any = true;
    }
    if (any) driver_.Ring();
  }

 private:
  // The model counts up from 1, and has the last one for PINGs of its own.
  static constexpr uint16_t kFloodToken = 0xFFFE;

  LayoutDriver driver_;
  std::deque<Bytes> unsent_;
  int deaf_turns_ = 0;
  uint64_t floods_owed_ = 0;
};

class Storm {
 public:
  Storm(FifoLayout layout, uint64_t seed)
      : random_(seed),
        m_({.num_fifos = 2,
            .fifo_layout = layout,
            .ping = {.interval = milliseconds(seed % 2 * 20),
                     .timeout = milliseconds(150)}}),
        bus_(m_.device->bus(kFifo)),
        port_(&m_),
        driver_(seed + 1, &port_, &m_.loop.clock()) {
    m_.DriverMayBreakAnything(kFifo);  // see ExpectNoOtherViolations()
    driver_.EnableIo(&m_.memory, {AmpMachine::kRam.value + 0x80000});
    // Some devices are there before the driver is.
    for (uint32_t slot = 0; slot < 4; ++slot) Plug(slot);
    StartDriver();
  }

  void Step() {
    const auto slot = static_cast<uint32_t>(random_() % kSlots);
    switch (random_() % 20) {
      case 0:
      case 1:
      case 2:
        if (bus_->slot_report(slot).state == control::PlugState::kGone) {
          Plug(slot);
        }
        break;
      case 3:
      case 4:
        Unplug(slot, /*forced=*/false);
        break;
      case 5:
        Unplug(slot, /*forced=*/true);
        break;
      case 6:
        // Some 3.5 ms each: at times longer than events wait for a reaction.
        if (random_() % 4 == 0) {
          port_.Flood(random_() % 8 == 0 ? 100 : 3);
        }
        break;
      case 7:
        if (random_() % 20 == 0) ResetFunction();
        break;
      case 8:
        if (devices_[slot] != nullptr) {
          devices_[slot]->ChangeConfig(4, Bytes(2));
        }
        break;
      default:
        driver_.DoSomething();
    }
    Turn(milliseconds(random_() % 8));
  }

  // Lets everything come to rest.
  void Settle() {
    for (int i = 0; i < 25'000; ++i) Turn(milliseconds(1));
    // It may be at a PING now.
    for (int i = 0; i < 100 && !driver_.idle(); ++i) Turn(milliseconds(1));
  }

  void ExpectAtRest() {
    EXPECT_TRUE(driver_.errors().empty()) << driver_.errors().front();
    EXPECT_EQ(driver_.overwritten(), 0u);
    EXPECT_TRUE(driver_.idle());
    EXPECT_EQ(port_.floods_owed(), 0u) << "answers were lost";
    EXPECT_EQ(Count("malformed"), 0u);
    EXPECT_EQ(Count("breaks"), 0u);
    EXPECT_EQ(gone_, unplugged_);
    ExpectNoOtherViolations();
    for (uint32_t slot = 0; slot < kSlots; ++slot) {
      const control::SlotReport report = bus_->slot_report(slot);
      if (driver_.live(slot)) {
        EXPECT_EQ(report.state, control::PlugState::kPresent) << slot;
        EXPECT_EQ(report.driver_status, 15u) << slot;
      } else {
        EXPECT_EQ(report.state, control::PlugState::kGone) << slot;
      }
    }
  }

  // What the driver may be blamed for: as drivers in the field it resets queues
  // of a device that it leaves, whether or not it has negotiated that, and it
  // notifies queues that are not set up, or not there at all.
  void ExpectNoOtherViolations() {
    const msg::WireMonitor& monitor = *m_.device->wire_monitor(kFifo);
    EXPECT_EQ(monitor.violations(), Violations(msg::Row::kDrvRvq1) +
                                        Violations(msg::Row::kDrvFinal3) +
                                        Violations(msg::Row::kDrvNotif2))
        << monitor.Summary() << "\n"
        << absl::StrJoin(m_.log.lines, "\n");
  }

  uint64_t Violations(msg::Row row) {
    return m_.device->wire_monitor(kFifo)->count(row);
  }
  uint64_t Count(std::string_view name) {
    for (const control::NamedCount& count : bus_->bus_report().counters) {
      if (count.name == name) return count.value;
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
  }
  const msg::SingleBufferDriver& driver() const { return driver_; }
  uint64_t unplugged() const { return unplugged_; }
  uint64_t resets() const { return resets_; }
  control::DriverHealth driver_health() {
    return bus_->bus_report().driver_health;
  }

 private:
  // Few, so that slots are used again and again.
  static constexpr uint32_t kSlots = 8;

  void StartDriver() {
    m_.guest->Start();
    port_.Attach();
    driver_.Start();
  }

  void ResetFunction() {
    ++resets_;
    m_.device->Reset();
    driver_.Restart();
    StartDriver();
  }

  void Turn(vmm::Duration time) {
    port_.Send();
    m_.loop.AdvanceTime(time);
    driver_.Run();
    port_.Send();
    m_.loop.RunUntilIdle();
  }

  void Plug(uint32_t slot) {
    auto device = std::make_unique<DummyDevice>(
        virtio::DummyOptions{
            .seed = random_(),
            .max_work_delay = milliseconds(random_() % 100),
            .max_transition_delay = milliseconds(random_() % 30)},
        &m_.loop);
    DummyDevice* const plugged = device.get();
    const absl::Status status =
        bus_->Plug(slot, ++generation_,
                   std::make_unique<VirtioPluggable>(std::move(device)));
    ASSERT_TRUE(status.ok()) << status;
    devices_[slot] = plugged;
    generations_[slot] = generation_;
  }

  void Unplug(uint32_t slot, bool forced) {
    const absl::Status status =
        bus_->Unplug(slot, generations_[slot],
                     {.forced = forced, .deadline = milliseconds(2000)},
                     [this] { ++gone_; });
    if (!status.ok()) return;
    devices_[slot] = nullptr;
    ++unplugged_;
  }

  std::mt19937_64 random_;
  AmpMachine m_;
  control::HotplugBus* const bus_;
  FifoPort port_;
  msg::SingleBufferDriver driver_;
  std::array<DummyDevice*, kSlots> devices_ = {};
  std::array<uint64_t, kSlots> generations_ = {};
  uint64_t generation_ = 0;
  uint64_t resets_ = 0;
  uint64_t unplugged_ = 0;
  uint64_t gone_ = 0;
};

class HotplugStormTest
    : public testing::TestWithParam<std::tuple<FifoLayout, uint64_t>> {};

TEST_P(HotplugStormTest, DriverAndFunctionAgreeWhenItIsOver) {
  const auto& [layout, seed] = GetParam();
  Storm storm(layout, seed);
  for (int i = 0; i < 3000; ++i) storm.Step();
  storm.Settle();
  storm.ExpectAtRest();
  // The storm was one.
  EXPECT_GT(storm.driver().probes(), 50u);
  EXPECT_GT(storm.driver().tear_downs(), 20u);
  EXPECT_GT(storm.Violations(msg::Row::kDrvRvq1), 10u);
  EXPECT_GT(storm.Violations(msg::Row::kDrvFinal3), 10u);
  EXPECT_GT(storm.unplugged(), 50u);
  EXPECT_GT(storm.resets(), 0u);
  EXPECT_GT(storm.Count("full_rechecks"), 0u) << "the device queue was full";
  EXPECT_GT(storm.driver().io_done(), 100u);
  EXPECT_GT(storm.driver().io_done_late(), 20u);
  if (seed % 2 != 0) {
    EXPECT_GT(storm.driver().pings_answered(), 20u);
    EXPECT_NE(storm.driver_health(), control::DriverHealth::kUnresponsive);
  } else {
    EXPECT_EQ(storm.driver().pings_answered(), 0u);
  }
}

INSTANTIATE_TEST_SUITE_P(Layouts, HotplugStormTest,
                         testing::Combine(testing::ValuesIn(kAllLayouts),
                                          testing::Range<uint64_t>(1, 5)),
                         [](const auto& test) {
                           return LayoutTestName(std::get<0>(test.param)) +
                                  "Seed" +
                                  std::to_string(std::get<1>(test.param));
                         });

}  // namespace
}  // namespace vmsg::amp
