// What the manager is told by its buses, and tells its watchers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/log.h"
#include "vmm/control/device_manager.h"
#include "vmm/control/device_manager_fixture.h"
#include "vmm/control/fake_hotplug_bus.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Kind = DeviceEvent::Kind;
using absl::StatusCode;

TEST_F(DeviceManagerTest, WatcherSeesWhatIsThereAndEachChangeInOrder) {
  ASSERT_TRUE(Attach(Request("old")).status.ok());
  std::vector<std::pair<Kind, std::string>> events;
  std::vector<uint64_t> sequences;
  const auto watch = manager_->Watch("", [&](const DeviceEvent& event) {
    events.emplace_back(event.kind, event.device.id);
    sequences.push_back(event.sequence);
  });
  loop_.RunUntilIdle();
  ASSERT_TRUE(Attach(Request("new")).status.ok());
  bus0_.DriverWrites(1, 15);
  loop_.RunUntilIdle();
  ASSERT_TRUE(Detach(Removal("new")).status.ok());
  bus0_.DriverLetsGo(1);
  loop_.RunUntilIdle();
  EXPECT_THAT(events, ElementsAre(std::pair(Kind::kExists, "old"),
                                  std::pair(Kind::kSynced, ""),
                                  std::pair(Kind::kAttached, "new"),
                                  std::pair(Kind::kChanged, "new"),
                                  std::pair(Kind::kChanged, "new"),
                                  std::pair(Kind::kGone, "new")));
  EXPECT_TRUE(std::is_sorted(sequences.begin(), sequences.end()));

  bool done = false;
  manager_->Unwatch(watch, [&] { done = true; });
  loop_.RunUntilIdle();
  EXPECT_TRUE(done);
  const size_t before = events.size();
  ASSERT_TRUE(Attach(Request("later")).status.ok());
  EXPECT_EQ(events.size(), before);
}

TEST_F(DeviceManagerTest, WatcherOfOneDeviceSeesOnlyThat) {
  ASSERT_TRUE(Attach(Request("a")).status.ok());
  std::vector<std::string> ids;
  manager_->Watch(
      "b", [&](const DeviceEvent& event) { ids.push_back(event.device.id); });
  loop_.RunUntilIdle();
  ASSERT_TRUE(Attach(Request("b")).status.ok());
  bus0_.DriverWrites(0, 1);
  loop_.RunUntilIdle();
  EXPECT_THAT(ids, ElementsAre("", "b"));
}

TEST_F(DeviceManagerTest, AnyPlaceAvoidsABrokenFifo) {
  bus0_.Break("index out of range");
  loop_.RunUntilIdle();
  EXPECT_EQ(Attach(Request()).value.place, (Place{"amp0", 1, 0}));
  AttachRequest named = Request();
  named.place = {"amp0", 0, {}};
  EXPECT_EQ(Attach(named).value.place, (Place{"amp0", 0, 0}));
}

TEST_F(DeviceManagerTest, FifoThatWasBrokenBeforeTheManagerIsAvoidedToo) {
  bus0_.Break("index out of range");
  manager_.reset();
  manager_ = std::move(
      *DeviceManager::Create(&loop_, {&bus0_, &bus1_}, {&factory_}, &log_));
  loop_.RunUntilIdle();
  EXPECT_EQ(Attach(Request()).value.place, (Place{"amp0", 1, 0}));
}

TEST_F(DeviceManagerTest, FifoThatBreaksAgainAndAgainIsLoggedAtABoundedRate) {
  const auto break_and_recover = [this] {
    bus0_.Break("index out of range");
    loop_.RunUntilIdle();
    bus0_.ResetBus();
    loop_.RunUntilIdle();
  };
  for (int i = 0; i < 100; ++i) break_and_recover();
  ASSERT_EQ(log_.lines.size(), vmm::Logger::kGuestBurst);
  EXPECT_EQ(log_.lines[0], "amp0/fifo0 is BROKEN: index out of range");
  loop_.AdvanceTime(std::chrono::seconds(1));
  break_and_recover();
  ASSERT_EQ(log_.lines.size(), vmm::Logger::kGuestBurst + 1);
  EXPECT_THAT(log_.lines.back(), HasSubstr("amp0/fifo0 is BROKEN"));
  EXPECT_THAT(log_.lines.back(), HasSubstr("96")) << "so many were left out";
  // What an operator does is logged all the same.
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  EXPECT_THAT(log_.lines.back(), HasSubstr("attached x"));
}

TEST_F(DeviceManagerTest, FifosAreListedWithTheirReports) {
  ASSERT_TRUE(Attach(Request("a")).status.ok());
  bus1_.Break("index out of range");
  Answer<std::vector<FifoRecord>> answer;
  manager_->ListFifos("", answer.Take());
  loop_.RunUntilIdle();
  ASSERT_EQ(answer.value.size(), 2u);
  EXPECT_EQ(answer.value[0].devices, 1u);
  EXPECT_EQ(answer.value[0].slots, 4u);
  EXPECT_EQ(answer.value[1].bus.fifo, 1u);
  EXPECT_EQ(answer.value[1].report.state, BusState::kBroken);
  EXPECT_EQ(answer.value[1].report.fault, "index out of range");
}

TEST_F(DeviceManagerTest, FifosOfAnUnknownFunctionAreAnError) {
  Answer<std::vector<FifoRecord>> answer;
  manager_->ListFifos("amp9", answer.Take());
  loop_.RunUntilIdle();
  EXPECT_EQ(answer.status.code, StatusCode::kInvalidArgument);
  EXPECT_THAT(answer.status.message,
              HasSubstr("no function \"amp9\"; known: amp0"));
}

// A control loop that is slow: what the bus says of a device meanwhile merges,
// and what it says last still comes before it is gone.
TEST_F(DeviceManagerTest, LastReportOfADeviceComesBeforeItsEnd) {
  vmm::ManualEventLoop bus_loop;
  FakeHotplugBus bus({"amp1", 0}, &bus_loop);
  manager_ =
      std::move(*DeviceManager::Create(&loop_, {&bus}, {&factory_}, nullptr));
  const auto run_both = [&] {
    while (loop_.RunUntilIdle() + bus_loop.RunUntilIdle() != 0) {
    }
  };
  std::vector<std::pair<Kind, uint32_t>> events;
  manager_->Watch("", [&](const DeviceEvent& event) {
    events.emplace_back(event.kind, event.device.driver_status);
  });
  AttachRequest request = Request("x");
  request.wait_timeout = std::chrono::seconds(5);
  Answer<DeviceRecord> attached;
  manager_->Attach(request, attached.Take());
  run_both();
  Answer<DeviceRecord> detached;
  manager_->Detach(Removal("x"), detached.Take());
  run_both();
  events.clear();

  bus.DriverWrites(0, 1);
  bus.DriverWrites(0, 3);
  bus.DriverWrites(0, 15);
  bus.DriverLetsGo(0);
  run_both();
  EXPECT_THAT(events, ElementsAre(std::pair(Kind::kChanged, 1),
                                  std::pair(Kind::kChanged, 15),
                                  std::pair(Kind::kGone, 15)));
  EXPECT_TRUE(attached.arrived);
  EXPECT_TRUE(attached.status.ok()) << "it had DRIVER_OK";

  // Whoever has the slot next begins from nothing.
  Answer<DeviceRecord> next;
  AttachRequest again = Request("y");
  again.place.slot = 0;
  manager_->Attach(again, next.Take());
  run_both();
  EXPECT_EQ(next.value.place, (Place{"amp1", 0, 0}));
  EXPECT_EQ(Get("y").value.driver_status, 0u);
  bus.DriverWrites(0, 3);
  run_both();
  EXPECT_EQ(Get("y").value.driver_status, 3u);
  manager_.reset();  // before its bus
}

// The bus has begun the removal, and what it had to say before comes after.
TEST_F(DeviceManagerTest, LateReportDoesNotTakeADeviceBackFromRemoving) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  std::vector<std::pair<PlugState, uint32_t>> changes;
  manager_->Watch("x", [&](const DeviceEvent& event) {
    if (event.kind != Kind::kChanged) return;
    changes.emplace_back(event.device.state, event.device.driver_status);
  });
  loop_.RunUntilIdle();
  Answer<DeviceRecord> detached;
  manager_->Detach(Removal("x"), detached.Take());
  bus0_.DriverWrites(0, 1);  // on its way, behind the request
  bus0_.DriverWrites(0, 3);  // waits, and meets the removal
  loop_.RunUntilIdle();
  EXPECT_THAT(changes, ElementsAre(std::pair(PlugState::kPresent, 1),
                                   std::pair(PlugState::kRemoving, 1),
                                   std::pair(PlugState::kRemoving, 3)));
}

TEST_F(DeviceManagerTest, BusWhoseLoopHasStoppedIsUnavailable) {
  vmm::ManualEventLoop bus_loop;
  FakeHotplugBus bus({"amp1", 0}, &bus_loop);
  manager_ =
      std::move(*DeviceManager::Create(&loop_, {&bus}, {&factory_}, nullptr));
  Answer<DeviceRecord> attached;
  manager_->Attach(Request("x"), attached.Take());
  loop_.RunUntilIdle();
  bus_loop.RunUntilIdle();
  loop_.RunUntilIdle();
  ASSERT_TRUE(attached.status.ok());
  bus_loop.Stop();

  EXPECT_EQ(Detach(Removal("x")).status.code, StatusCode::kUnavailable);
  EXPECT_EQ(Detach(Removal("x")).status.code, StatusCode::kUnavailable)
      << "not REMOVING";
  EXPECT_EQ(Attach(Request("y")).status.code, StatusCode::kUnavailable);
  EXPECT_THAT(Ids(), ElementsAre("x"));
  manager_.reset();  // before its bus
}

TEST_F(DeviceManagerTest, BusWhoseLoopStopsWithWorkInItsQueueIsUnavailable) {
  vmm::ManualEventLoop bus_loop;
  FakeHotplugBus bus({"amp1", 0}, &bus_loop);
  manager_ =
      std::move(*DeviceManager::Create(&loop_, {&bus}, {&factory_}, nullptr));
  Answer<DeviceRecord> first;
  manager_->Attach(Request("x"), first.Take());
  loop_.RunUntilIdle();
  bus_loop.RunUntilIdle();
  loop_.RunUntilIdle();
  ASSERT_TRUE(first.status.ok());

  Answer<DeviceRecord> attached;
  Answer<DeviceRecord> detached;
  manager_->Attach(Request("y"), attached.Take());
  manager_->Detach(Removal("x"), detached.Take());
  loop_.RunUntilIdle();
  bus_loop.Stop();
  bus_loop.RunOnce();
  loop_.RunUntilIdle();

  ASSERT_TRUE(attached.arrived);
  EXPECT_EQ(attached.status.code, StatusCode::kUnavailable);
  ASSERT_TRUE(detached.arrived);
  EXPECT_EQ(detached.status.code, StatusCode::kUnavailable);
  EXPECT_THAT(Ids(), ElementsAre("x"));
  EXPECT_EQ(Detach(Removal("x")).status.code, StatusCode::kUnavailable)
      << "not REMOVING";
  EXPECT_EQ(factory_.live, 1);
  manager_.reset();  // before its bus
}

TEST_F(DeviceManagerTest, BusMayGoRightAfterTheManager) {
  auto bus =
      std::make_unique<FakeHotplugBus>(HotplugBus::Id{"amp1", 0}, &loop_);
  manager_ = std::move(
      *DeviceManager::Create(&loop_, {bus.get()}, {&factory_}, nullptr));
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  manager_.reset();
  bus.reset();
  loop_.RunUntilIdle();
}

TEST_F(DeviceManagerTest, BusMayGoAfterAManagerThatHasDoneNothing) {
  auto bus =
      std::make_unique<FakeHotplugBus>(HotplugBus::Id{"amp1", 0}, &loop_);
  manager_ = std::move(
      *DeviceManager::Create(&loop_, {bus.get()}, {&factory_}, nullptr));
  manager_.reset();
  bus.reset();
  loop_.RunUntilIdle();
}

TEST_F(DeviceManagerTest, FloodOfReportsIsAFewTasksAndTheLastStateWins) {
  ASSERT_TRUE(Attach(Request("a")).status.ok());
  ASSERT_TRUE(Attach(Request("b")).status.ok());
  std::vector<DeviceEvent> events;
  manager_->Watch("", [&](const DeviceEvent& event) {
    if (event.kind == Kind::kChanged) events.push_back(event);
  });
  loop_.RunUntilIdle();
  for (int i = 0; i < 1000; ++i) {
    for (const uint32_t status : {0, 1, 3}) {
      bus0_.DriverWrites(0, status);
      bus0_.DriverWrites(1, status);
    }
  }
  bus0_.DriverWrites(1, 11);
  // To the control loop and back; once for the first, once for the rest.
  EXPECT_LE(loop_.RunUntilIdle(), 4);
  EXPECT_EQ(Get("a").value.driver_status, 3u);
  EXPECT_EQ(Get("b").value.driver_status, 11u);
  ASSERT_LE(events.size(), 4u);
  EXPECT_EQ(events.back().device.driver_status, 11u);
}

TEST_F(DeviceManagerTest, FloodOfReportsOfOneBusHoldsUpNoRequestOnAnother) {
  ASSERT_TRUE(Attach(Request("a")).status.ok());
  for (int i = 0; i < 1000; ++i) bus0_.DriverWrites(0, i % 2);
  Answer<DeviceList> answer;
  manager_->List(answer.Take());
  EXPECT_LE(loop_.RunOnce(), 2) << "a parcel of reports, and the request";
  EXPECT_TRUE(answer.arrived);
}

TEST_F(DeviceManagerTest, DriverThatFallsSilentIsAChangeOfEachDevice) {
  ASSERT_TRUE(Attach(Request("a")).status.ok());
  ASSERT_TRUE(Attach(Request("b")).status.ok());
  std::vector<DeviceEvent> events;
  manager_->Watch("b",
                  [&](const DeviceEvent& event) { events.push_back(event); });
  loop_.RunUntilIdle();
  bus0_.FallSilent();
  loop_.RunUntilIdle();
  ASSERT_EQ(events.size(), 3u) << "b exists, synced, changed";
  EXPECT_EQ(events[2].kind, Kind::kChanged);
  EXPECT_EQ(events[2].device.health, Health::kUnresponsive);
  EXPECT_EQ(events[2].device.health_reason, "no answer");
  Answer<std::vector<FifoRecord>> answer;
  manager_->ListFifos("", answer.Take());
  loop_.RunUntilIdle();
  ASSERT_EQ(answer.value.size(), 2u);
  EXPECT_EQ(answer.value[0].report.driver_health, DriverHealth::kUnresponsive);
  EXPECT_EQ(answer.value[1].report.driver_health, DriverHealth::kUnknown);
}

TEST_F(DeviceManagerTest, ResetFifoBringsABrokenOneBack) {
  bus1_.Break("index out of range");
  Answer<FifoRecord> answer;
  manager_->ResetFifo("amp0", 1, answer.Take());
  loop_.RunUntilIdle();
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.value.report.state, BusState::kRunning);
  EXPECT_EQ(bus1_.resets(), 1);
}

TEST_F(DeviceManagerTest, ResetOfAnUnknownFifoNamesTheField) {
  Answer<FifoRecord> answer;
  manager_->ResetFifo("amp0", 7, answer.Take());
  loop_.RunUntilIdle();
  EXPECT_EQ(answer.status.code, StatusCode::kInvalidArgument);
  EXPECT_THAT(answer.status.message, HasSubstr("fifo: no FIFO 7"));
  manager_->ResetFifo("amp7", 0, answer.Take());
  loop_.RunUntilIdle();
  EXPECT_THAT(answer.status.message, HasSubstr("function: no function"));
}

}  // namespace
}  // namespace vmsg::control
