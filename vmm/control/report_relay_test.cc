#include "vmm/control/report_relay.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "vmm/event/epoll_event_loop.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::control {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

SlotReport Report(uint64_t generation, uint32_t status) {
  SlotReport report;
  report.generation = generation;
  report.driver_status = status;
  return report;
}

class ReportRelayTest : public testing::Test {
 protected:
  static constexpr uint32_t kSlots = 4;

  // What one parcel had: generation and status by slot, and the bus's fault.
  struct Arrival {
    std::vector<std::tuple<uint32_t, uint64_t, uint32_t>> slots;
    std::optional<std::string> fault;
  };

  ReportRelayTest()
      : relay_(std::make_shared<ReportRelay>(
            kSlots, &bus_, &control_, [this](const ReportRelay::Parcel& p) {
              Arrival arrival;
              for (uint32_t i = 0; i < p.slots.size(); ++i) {
                if (!p.slots[i].has_value()) continue;
                arrival.slots.emplace_back(i, p.slots[i]->generation,
                                           p.slots[i]->driver_status);
              }
              if (p.bus.has_value()) arrival.fault = p.bus->fault;
              arrivals_.push_back(std::move(arrival));
              return more_;
            })) {}

  // Both loops, until neither has anything to do.
  void RunUntilIdle() {
    while (control_.RunUntilIdle() + bus_.RunUntilIdle() != 0) {
    }
  }

  vmm::ManualEventLoop bus_;
  vmm::ManualEventLoop control_;
  std::vector<Arrival> arrivals_;
  bool more_ = true;
  std::shared_ptr<ReportRelay> relay_;
};

TEST_F(ReportRelayTest, ReportArrivesOnTheControlLoop) {
  relay_->Report(2, Report(7, 15));
  EXPECT_THAT(arrivals_, IsEmpty());
  RunUntilIdle();
  ASSERT_EQ(arrivals_.size(), 1u);
  EXPECT_THAT(arrivals_[0].slots, ElementsAre(std::tuple(2, 7, 15)));
  EXPECT_EQ(arrivals_[0].fault, std::nullopt);
}

TEST_F(ReportRelayTest, LoopsAreLeftAloneWhenNothingIsReported) {
  relay_->Report(2, Report(7, 15));
  RunUntilIdle();
  EXPECT_EQ(bus_.RunUntilIdle() + control_.RunUntilIdle(), 0);
  EXPECT_EQ(arrivals_.size(), 1u) << "no empty parcel";
}

TEST_F(ReportRelayTest, FloodIsOneParcelAndThenTheLastOfEachSlotAndTheBus) {
  for (uint32_t i = 1; i <= 1000; ++i) {
    relay_->Report(1, Report(7, i));
    relay_->Report(3, Report(8, 2 * i));
    BusReport bus;
    bus.fault = std::to_string(i);
    relay_->Report(bus);
  }
  EXPECT_EQ(control_.RunUntilIdle(), 1) << "one task, however many reports";
  RunUntilIdle();
  ASSERT_EQ(arrivals_.size(), 2u);
  EXPECT_THAT(arrivals_[0].slots, ElementsAre(std::tuple(1, 7, 1)));
  EXPECT_THAT(arrivals_[1].slots,
              ElementsAre(std::tuple(1, 7, 1000), std::tuple(3, 8, 2000)));
  EXPECT_EQ(arrivals_[1].fault, "1000");
}

TEST_F(ReportRelayTest, ReportWhileAParcelIsReadIsInTheNextOne) {
  relay_->Report(0, Report(1, 1));
  control_.RunUntilIdle();
  relay_->Report(0, Report(1, 2));
  RunUntilIdle();
  relay_->Report(0, Report(1, 3));
  RunUntilIdle();
  ASSERT_EQ(arrivals_.size(), 3u);
  EXPECT_THAT(arrivals_[1].slots, ElementsAre(std::tuple(0, 1, 2)));
  EXPECT_THAT(arrivals_[2].slots, ElementsAre(std::tuple(0, 1, 3)));
}

TEST_F(ReportRelayTest, WhatWaitsOfADeviceThatGoesIsTakenAndNotSent) {
  relay_->Report(0, Report(1, 1));  // on its way
  relay_->Report(0, Report(1, 2));
  EXPECT_EQ(relay_->Take(0, 9), std::nullopt) << "of another device";
  EXPECT_EQ(relay_->Take(1, 1), std::nullopt);
  const std::optional<SlotReport> last = relay_->Take(0, 1);
  ASSERT_TRUE(last.has_value());
  EXPECT_EQ(last->driver_status, 2u);
  EXPECT_EQ(relay_->Take(0, 1), std::nullopt);
  // The next one on the slot.
  relay_->Report(0, Report(2, 5));
  RunUntilIdle();
  ASSERT_EQ(arrivals_.size(), 2u);
  EXPECT_THAT(arrivals_[0].slots, ElementsAre(std::tuple(0, 1, 1)));
  EXPECT_THAT(arrivals_[1].slots, ElementsAre(std::tuple(0, 2, 5)));
}

TEST_F(ReportRelayTest, NothingIsSentToWhoWantsNoMore) {
  more_ = false;
  relay_->Report(0, Report(1, 1));
  relay_->Report(0, Report(1, 2));
  RunUntilIdle();
  for (int i = 0; i < 10; ++i) relay_->Report(0, Report(1, 3));
  EXPECT_EQ(control_.RunUntilIdle() + bus_.RunUntilIdle(), 0);
  EXPECT_EQ(arrivals_.size(), 1u);
}

TEST_F(ReportRelayTest, ControlLoopThatHasStoppedTakesNothing) {
  control_.Stop();
  for (int i = 0; i < 10; ++i) relay_->Report(0, Report(1, 1));
  EXPECT_EQ(bus_.RunUntilIdle(), 0);
  EXPECT_THAT(arrivals_, IsEmpty());
}

TEST(ReportRelayThreadsTest, LastReportOfAFloodArrives) {
  constexpr uint32_t kRounds = 1000;
  constexpr uint32_t kReports = 100 * kRounds;
  auto bus = std::move(*vmm::EpollEventLoop::Create());
  auto control = std::move(*vmm::EpollEventLoop::Create());
  uint32_t last = 0;
  uint32_t parcels = 0;
  auto relay = std::make_shared<ReportRelay>(
      1, bus.get(), control.get(), [&](const ReportRelay::Parcel& parcel) {
        ++parcels;
        EXPECT_GT(parcel.slots[0]->driver_status, last) << "in order";
        last = parcel.slots[0]->driver_status;
        if (last == kReports) control->Stop();
        return true;
      });
  for (uint32_t round = 0; round < kRounds; ++round) {
    bus->Post([&relay, first = 100 * round] {
      for (uint32_t i = 1; i <= 100; ++i)
        relay->Report(0, Report(1, first + i));
    });
  }
  std::thread bus_thread([&] { bus->Run(); });
  control->Run();
  bus->Stop();
  bus_thread.join();
  EXPECT_EQ(last, kReports);
  EXPECT_LE(parcels, kRounds + 1) << "one a turn of the bus's loop at most";
}

}  // namespace
}  // namespace vmsg::control
