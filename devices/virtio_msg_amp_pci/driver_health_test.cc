// PING as a health check on the whole function, in each layout: where the
// verdict shows, and when nobody is asked.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/message_bus_types.h"
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
using control::DriverHealth;
using control::Health;
using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::Contains;
using ::testing::SizeIs;

constexpr seconds kInterval{10};
constexpr seconds kTimeout{1};

std::vector<Bytes> Pings(const std::vector<Bytes>& packets) {
  std::vector<Bytes> pings;
  for (const Bytes& packet : packets) {
    if (TypeOf(packet) == 0x02 && IdOf(packet) == 0x03) pings.push_back(packet);
  }
  return pings;
}

Bytes AnswerTo(const Bytes& ping) {
  Bytes answer(ping.begin(), ping.begin() + SizeOf(ping));
  answer[0] = std::byte{0x03};
  return answer;
}

class DriverHealthTest : public testing::TestWithParam<FifoLayout> {
 protected:
  explicit DriverHealthTest(uint32_t misses = 3)
      : m_{{.fifo_layout = GetParam(),
            .ping = {.interval = kInterval,
                     .timeout = kTimeout,
                     .misses = misses}}} {
    m_.guest->Start();
    m_.loop.RunUntilIdle();
    auto device = std::make_unique<virtio::DummyDevice>(
        virtio::DummyOptions{.max_work_delay = {}, .max_transition_delay = {}},
        &m_.loop);
    device_ = device.get();
    EXPECT_THAT(
        bus_->Plug(2, 1, std::make_unique<VirtioPluggable>(std::move(device))),
        vmm::IsOk());
    bus_->Observe(
        [this](uint32_t slot, const control::SlotReport& report) {
          EXPECT_EQ(slot, 2u);
          slot_health_.push_back(report.health);
        },
        [this](const control::BusReport& report) {
          driver_health_.push_back(report.driver_health);
        });
    driver_.Attach();
    driver_.Ask(RawGetDevices(1));
  }

  DriverHealth health() { return bus_->bus_report().driver_health; }
  uint64_t count(const std::string& name) {
    for (const control::NamedCount& count : bus_->bus_report().counters) {
      if (count.name == name) return count.value;
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
  }

  std::vector<Bytes> RunFor(vmm::Duration time) {
    m_.loop.AdvanceTime(time);
    return driver_.TakeAll();
  }
  void Prove() {
    const std::vector<Bytes> back = Pings(driver_.Ask(RawPing(1, 1)));
    ASSERT_THAT(back, SizeIs(1));
    driver_.Ask(AnswerTo(back[0]));
    ASSERT_EQ(health(), DriverHealth::kAnswers);
  }
  // Takes the PINGs and answers none.
  void FallSilent() {
    for (int i = 0; i < 3; ++i) {
      for (Bytes& ping : Pings(RunFor(kInterval + kTimeout))) {
        unanswered_.push_back(std::move(ping));
      }
    }
    ASSERT_EQ(health(), DriverHealth::kUnresponsive);
  }
  // Indices and state words that cannot be.
  void SpoilWindow() {
    std::byte* const window = m_.guest->window(0);
    std::fill(window + 0x1040, window + 0x3000, std::byte{0xEE});
  }
  void BreakFifo() {
    SpoilWindow();
    m_.guest->Ring(0);
    m_.loop.RunUntilIdle();
    ASSERT_EQ(bus_->bus_report().state, BusState::kBroken);
  }

  AmpMachine m_;
  control::HotplugBus* const bus_ = m_.device->bus(0);
  virtio::DummyDevice* device_ = nullptr;
  LayoutDriver driver_{&m_};
  std::vector<Bytes> unanswered_;
  std::vector<Health> slot_health_;
  std::vector<DriverHealth> driver_health_;
};

INSTANTIATE_TEST_SUITE_P(Layouts, DriverHealthTest,
                         testing::ValuesIn(kAllLayouts),
                         [](const auto& layout) {
                           return LayoutTestName(layout.param);
                         });

TEST_P(DriverHealthTest, VerdictShowsInReportsOfBusAndSlots) {
  EXPECT_EQ(health(), DriverHealth::kUnknown);
  ASSERT_NO_FATAL_FAILURE(Prove());
  EXPECT_THAT(driver_health_, Contains(DriverHealth::kAnswers));
  const uint64_t interrupts = m_.interrupts.count(0);
  ASSERT_NO_FATAL_FAILURE(FallSilent());
  EXPECT_EQ(m_.interrupts.count(0), interrupts + 3) << "one for each PING";
  EXPECT_EQ(driver_health_.back(), DriverHealth::kUnresponsive);
  EXPECT_EQ(slot_health_.back(), Health::kUnresponsive);
  EXPECT_EQ(bus_->slot_report(2).health, Health::kUnresponsive);
  EXPECT_EQ(bus_->slot_report(2).health_reason,
            "the driver has left 3 PINGs in a row without an answer");
  EXPECT_EQ(bus_->bus_report().state, BusState::kRunning);
  EXPECT_EQ(count("pings_sent"), 4u);
  EXPECT_EQ(count("pings_answered"), 1u);
  EXPECT_EQ(count("pings_missed"), 3u);
  EXPECT_EQ(m_.device->bus(1)->bus_report().driver_health,
            DriverHealth::kUnknown);

  // It comes back to life.
  for (const Bytes& ping : unanswered_) driver_.Send(AnswerTo(ping));
  m_.loop.RunUntilIdle();
  EXPECT_EQ(driver_health_.back(), DriverHealth::kAnswers);
  EXPECT_EQ(slot_health_.back(), Health::kOk);
  EXPECT_EQ(count("pings_unexpected"), 2u) << "too late, but for the last";
}

// A second PING would be found together with the first and overwrite it.
TEST_P(DriverHealthTest, DriverThatTakesNothingIsInterruptedOnceAndMissesAll) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  const uint64_t interrupts = m_.interrupts.count(0);
  m_.loop.AdvanceTime(3 * (kInterval + kTimeout));
  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
  EXPECT_EQ(m_.interrupts.count(0), interrupts + 1);
  EXPECT_EQ(count("pings_sent"), 2u);
  EXPECT_EQ(count("pings_missed"), 3u);

  // It comes back to life, too late for the one that it finds.
  const std::vector<Bytes> found = Pings(driver_.TakeAll());
  ASSERT_THAT(found, SizeIs(1));
  driver_.Send(AnswerTo(found[0]));
  m_.loop.RunUntilIdle();
  EXPECT_EQ(count("pings_unexpected"), 1u);
  const std::vector<Bytes> next = Pings(RunFor(kInterval + kTimeout));
  ASSERT_THAT(next, SizeIs(1));
  driver_.Send(AnswerTo(next[0]));
  m_.loop.RunUntilIdle();
  EXPECT_EQ(health(), DriverHealth::kAnswers);
  EXPECT_EQ(slot_health_.back(), Health::kOk);
}

TEST_P(DriverHealthTest, NobodyIsAskedWhileBusMasteringIsOff) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  const uint64_t sent = count("pings_sent");
  m_.guest->SetBusMaster(false);
  m_.loop.AdvanceTime(100 * kInterval);
  EXPECT_EQ(count("pings_sent"), sent);
  EXPECT_EQ(count("pings_missed"), 0u);
  EXPECT_EQ(health(), DriverHealth::kUnknown);
}

TEST_P(DriverHealthTest, NobodyIsAskedBeforeADriverIsThere) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  ASSERT_NO_FATAL_FAILURE(FallSilent());
  const uint64_t sent = count("pings_sent");
  m_.device->Reset();
  m_.guest->Start();
  m_.loop.AdvanceTime(100 * kInterval);
  EXPECT_EQ(count("pings_sent"), sent);
  EXPECT_EQ(health(), DriverHealth::kUnknown);
  EXPECT_EQ(bus_->slot_report(2).health, Health::kOk);
  // It attaches, and is silent: nothing is known about it.
  driver_.Attach();
  m_.loop.AdvanceTime(100 * kInterval);
  EXPECT_EQ(count("pings_sent"), sent);
  ASSERT_NO_FATAL_FAILURE(Prove());
}

TEST_P(DriverHealthTest, BrokenFifoIsNoSilence) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  ASSERT_NO_FATAL_FAILURE(BreakFifo());
  m_.loop.AdvanceTime(100 * kInterval);
  EXPECT_EQ(count("pings_missed"), 0u);
  EXPECT_EQ(health(), DriverHealth::kAnswers);
  bus_->ResetBus();
  EXPECT_EQ(health(), DriverHealth::kUnknown);
}

// As many requests as may wait for a device keep the channel from reading.
TEST_P(DriverHealthTest, DriverOfADeviceThatHangsIsNotBlamedForIt) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  const std::vector<Bytes> pings = Pings(RunFor(kInterval));
  ASSERT_THAT(pings, SizeIs(1));
  device_->HoldTransitions(true);
  for (uint16_t i = 0; i < msg::MessageBusOptions::kMaxDeferred; ++i) {
    ASSERT_TRUE(driver_.Put(RawSetStatus(2, i, 0)));
  }
  driver_.Ring();
  m_.loop.RunUntilIdle();
  driver_.Send(AnswerTo(pings[0]));
  EXPECT_TRUE(RunFor(20 * (kInterval + kTimeout)).empty());
  EXPECT_EQ(count("pings_missed"), 0u);
  EXPECT_EQ(health(), DriverHealth::kAnswers);
  device_->HoldTransitions(false);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(count("pings_answered"), 2u);
  EXPECT_THAT(Pings(RunFor(2 * kInterval)), SizeIs(1))
      << "it was busy at first";
  FallSilent();
}

// A single miss is the verdict here.
class DriverHealthOneMissTest : public DriverHealthTest {
 protected:
  DriverHealthOneMissTest() : DriverHealthTest(1) {}

  void LeaveAPingOutstanding() {
    ASSERT_NO_FATAL_FAILURE(Prove());
    ASSERT_THAT(Pings(RunFor(kInterval)), SizeIs(1));
  }
};

INSTANTIATE_TEST_SUITE_P(Layouts, DriverHealthOneMissTest,
                         testing::ValuesIn(kAllLayouts),
                         [](const auto& layout) {
                           return LayoutTestName(layout.param);
                         });

TEST_P(DriverHealthOneMissTest, SilenceIsOne) {
  ASSERT_NO_FATAL_FAILURE(LeaveAPingOutstanding());
  m_.loop.AdvanceTime(kTimeout);
  EXPECT_EQ(count("pings_missed"), 1u);
  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
}

TEST_P(DriverHealthOneMissTest, FifoThatBreaksBeforeTheAnswerIsNone) {
  ASSERT_NO_FATAL_FAILURE(LeaveAPingOutstanding());
  ASSERT_NO_FATAL_FAILURE(BreakFifo());
  m_.loop.AdvanceTime(100 * kInterval);
  EXPECT_EQ(count("pings_missed"), 0u);
  EXPECT_EQ(health(), DriverHealth::kAnswers);
  EXPECT_EQ(slot_health_.back(), Health::kOk);
  bus_->ResetBus();
  EXPECT_EQ(health(), DriverHealth::kUnknown);
  m_.loop.AdvanceTime(100 * kInterval);
  EXPECT_EQ(count("pings_missed"), 0u);
}

// Nobody rang, so that the end of the wait is what finds it.
TEST_P(DriverHealthOneMissTest, FifoThatIsFoundBrokenAtTheEndOfTheWaitIsNone) {
  ASSERT_NO_FATAL_FAILURE(LeaveAPingOutstanding());
  SpoilWindow();
  m_.loop.AdvanceTime(kTimeout);
  EXPECT_EQ(bus_->bus_report().state, BusState::kBroken);
  EXPECT_EQ(count("pings_missed"), 0u);
  EXPECT_EQ(health(), DriverHealth::kAnswers);
}

// A late turn of a busy loop.
TEST_P(DriverHealthOneMissTest, AnswerThatIsOnTheQueueAtTheEndOfTheWaitIsOne) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  const std::vector<Bytes> pings = Pings(RunFor(kInterval));
  ASSERT_THAT(pings, SizeIs(1));
  ASSERT_TRUE(driver_.Put(AnswerTo(pings[0])));
  m_.loop.AdvanceTime(kTimeout);
  EXPECT_EQ(count("pings_missed"), 0u);
  EXPECT_EQ(count("pings_answered"), 2u);
  EXPECT_EQ(health(), DriverHealth::kAnswers);
}

TEST_P(DriverHealthTest, DriverThatDrainsNothingIsUnresponsive) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  while (driver_.Put(RawPing(1, 1))) {
  }
  driver_.Ring();
  m_.loop.RunUntilIdle();
  while (driver_.Put(RawPing(2, 2))) {
  }
  driver_.Ring();
  m_.loop.AdvanceTime(4 * (kInterval + kTimeout));
  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
  EXPECT_EQ(count("pings_sent"), 1u);
  driver_.TakeAll();
  m_.loop.AdvanceTime(milliseconds(50));
  EXPECT_EQ(health(), DriverHealth::kAnswers);
}

}  // namespace
}  // namespace vmsg::amp
