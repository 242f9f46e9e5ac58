#include "vmm/control/device_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "vmm/base/log.h"
#include "vmm/control/fake_hotplug_bus.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = DeviceEvent::Kind;
using absl::StatusCode;

constexpr uint32_t kDriverOk = 4;

// What a Reply brought.
template <typename T>
struct Answer {
  bool arrived = false;
  OperationStatus status;
  T value;

  Reply<T> Take() {
    return [this](OperationStatus s, T v) {
      arrived = true;
      status = std::move(s);
      value = std::move(v);
    };
  }
};

class RememberingLogSink final : public vmm::LogSink {
 public:
  void Write(const vmm::LogRecord& record) override {
    lines.emplace_back(record.message);
  }
  std::vector<std::string> lines;
};

// One loop plays control loop and FIFO loops: the order of posts is what the
// manager relies on, and it is the same.
class DeviceManagerTest : public testing::Test {
 protected:
  DeviceManagerTest() {
    auto manager =
        DeviceManager::Create(&loop_, {&bus0_, &bus1_}, {&factory_}, &log_);
    manager_ = std::move(*manager);
    loop_.RunUntilIdle();
  }

  static AttachRequest Request(std::string id = "") {
    AttachRequest request;
    request.id = std::move(id);
    request.config = {"test.Fake", "good"};
    return request;
  }
  static DetachRequest Removal(std::string id) {
    DetachRequest request;
    request.id = std::move(id);
    return request;
  }

  Answer<DeviceRecord> Attach(AttachRequest request) {
    Answer<DeviceRecord> answer;
    manager_->Attach(std::move(request), answer.Take());
    loop_.RunUntilIdle();
    return answer;
  }
  Answer<DeviceRecord> Detach(DetachRequest request) {
    Answer<DeviceRecord> answer;
    manager_->Detach(std::move(request), answer.Take());
    loop_.RunUntilIdle();
    return answer;
  }
  Answer<DeviceRecord> Get(std::string id) {
    Answer<DeviceRecord> answer;
    manager_->Get(std::move(id), answer.Take());
    loop_.RunUntilIdle();
    return answer;
  }
  std::vector<std::string> Ids() {
    Answer<DeviceList> answer;
    manager_->List(answer.Take());
    loop_.RunUntilIdle();
    std::vector<std::string> ids;
    for (const DeviceRecord& record : answer.value.devices) {
      ids.push_back(record.id);
    }
    return ids;
  }

  RememberingLogSink log_;
  vmm::ManualEventLoop loop_;
  FakeHotplugBus bus0_{{"amp0", 0}, &loop_};
  FakeHotplugBus bus1_{{"amp0", 1}, &loop_};
  FakeFactory factory_;
  std::unique_ptr<DeviceManager> manager_;
};

TEST_F(DeviceManagerTest, AttachTakesTheLowestFreePlaceAndMakesAnId) {
  const Answer<DeviceRecord> first = Attach(Request());
  ASSERT_TRUE(first.status.ok()) << first.status.message;
  EXPECT_EQ(first.value.id, "fake-1");
  EXPECT_EQ(first.value.place, (Place{"amp0", 0, 0}));
  EXPECT_EQ(first.value.state, PlugState::kPendingAnnounce);
  EXPECT_EQ(Attach(Request()).value.place, (Place{"amp0", 0, 1}));
}

TEST_F(DeviceManagerTest, AttachGoesToThePlaceThatIsNamed) {
  AttachRequest request = Request("disk");
  request.place = {"amp0", 1, 3};
  EXPECT_EQ(Attach(request).value.place, (Place{"amp0", 1, 3}));
}

TEST_F(DeviceManagerTest, AttachToATakenSlotSaysWhoHoldsIt) {
  AttachRequest request = Request("first");
  request.place = {"amp0", 0, 2};
  ASSERT_TRUE(Attach(request).status.ok());
  request.id = "second";
  const Answer<DeviceRecord> answer = Attach(request);
  EXPECT_EQ(answer.status.code, StatusCode::kAlreadyExists);
  EXPECT_THAT(answer.status.message, HasSubstr("place.slot"));
  EXPECT_THAT(answer.status.message, HasSubstr("\"first\""));
  EXPECT_THAT(Ids(), ElementsAre("first"));
}

TEST_F(DeviceManagerTest, AttachWithATakenIdIsRefused) {
  ASSERT_TRUE(Attach(Request("a")).status.ok());
  const Answer<DeviceRecord> answer = Attach(Request("a"));
  EXPECT_EQ(answer.status.code, StatusCode::kAlreadyExists);
  EXPECT_THAT(answer.status.message, HasSubstr("id:"));
}

TEST_F(DeviceManagerTest, WrongFieldsAreNamed) {
  const auto refusal = [&](auto change) {
    AttachRequest request = Request("x");
    change(&request);
    const Answer<DeviceRecord> answer = Attach(request);
    EXPECT_EQ(answer.status.code, StatusCode::kInvalidArgument);
    return answer.status.message;
  };
  EXPECT_THAT(refusal([](auto* r) { r->id = "has space"; }),
              HasSubstr("id: must be"));
  EXPECT_THAT(refusal([](auto* r) { r->id = std::string(65, 'a'); }),
              HasSubstr("id: must be"));
  EXPECT_THAT(refusal([](auto* r) { r->id = "-x"; }), HasSubstr("id: must be"));
  EXPECT_THAT(refusal([](auto* r) { r->config.type_name = "test.No"; }),
              HasSubstr("device.kind: nothing here makes a test.No"));
  EXPECT_THAT(refusal([](auto* r) { r->config.type_name = ""; }),
              HasSubstr("device.kind: must be set"));
  EXPECT_THAT(refusal([](auto* r) { r->config.bytes = "bad"; }),
              HasSubstr("device.fake.bytes"));
  EXPECT_THAT(refusal([](auto* r) { r->place.function = "amp9"; }),
              HasSubstr("place.function: no function \"amp9\"; known: amp0"));
  EXPECT_THAT(refusal([](auto* r) { r->place.fifo = 2; }),
              HasSubstr("place.fifo: no FIFO 2"));
  EXPECT_THAT(refusal([](auto* r) { r->place.slot = 4; }),
              HasSubstr("place.slot: no slot 4"));
  EXPECT_THAT(refusal([](auto* r) { r->wait_timeout = vmm::Duration(-1); }),
              HasSubstr("wait_timeout: must be 0 to 1 hour"));
  EXPECT_THAT(refusal([](auto* r) { r->wait_timeout = std::chrono::hours(2); }),
              HasSubstr("wait_timeout"));
  EXPECT_THAT(refusal([](auto* r) { r->request_id = std::string(65, 'r'); }),
              HasSubstr("request_id"));
  EXPECT_THAT(Ids(), IsEmpty());
  EXPECT_EQ(factory_.created, 0);
}

TEST_F(DeviceManagerTest, NoFreeSlotIsResourceExhausted) {
  for (int i = 0; i < 8; ++i) ASSERT_TRUE(Attach(Request()).status.ok());
  EXPECT_EQ(Attach(Request()).status.code, StatusCode::kResourceExhausted);
  EXPECT_EQ(Ids().size(), 8u);
}

TEST_F(DeviceManagerTest, AttachThatFailsLeavesNoTrace) {
  std::vector<Kind> events;
  manager_->Watch("", [&](const DeviceEvent& e) { events.push_back(e.kind); });

  AttachRequest no_backend = Request("x");
  no_backend.config.bytes = "fails";
  EXPECT_EQ(Attach(no_backend).status.code, StatusCode::kUnavailable);

  bus0_.RefuseNextPlug(absl::InternalError("bus says no"));
  const Answer<DeviceRecord> refused = Attach(Request("x"));
  EXPECT_EQ(refused.status.code, StatusCode::kInternal);
  EXPECT_EQ(refused.status.message, "bus says no");

  EXPECT_THAT(Ids(), IsEmpty());
  EXPECT_EQ(factory_.live, 0);
  EXPECT_THAT(events, ElementsAre(Kind::kSynced));
  EXPECT_TRUE(Attach(Request("x")).status.ok());
}

TEST_F(DeviceManagerTest, ValidateOnlyTellsThePlaceAndChangesNothing) {
  AttachRequest request = Request("x");
  request.validate_only = true;
  const Answer<DeviceRecord> answer = Attach(request);
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.value.place, (Place{"amp0", 0, 0}));
  EXPECT_EQ(answer.value.generation, 0u);
  EXPECT_THAT(Ids(), IsEmpty());
  EXPECT_EQ(factory_.created, 0);
}

TEST_F(DeviceManagerTest, AttachWaitsUntilTheDriverIsReady) {
  AttachRequest request = Request("x");
  request.wait_timeout = std::chrono::seconds(5);
  Answer<DeviceRecord> answer;
  manager_->Attach(request, answer.Take());
  loop_.RunUntilIdle();
  bus0_.DriverWrites(0, 3);
  loop_.RunUntilIdle();
  EXPECT_FALSE(answer.arrived);
  bus0_.DriverWrites(0, 15);
  loop_.RunUntilIdle();
  ASSERT_TRUE(answer.arrived);
  EXPECT_TRUE(answer.status.ok());
  EXPECT_TRUE(answer.value.driver_ok());
  EXPECT_EQ(answer.value.state, PlugState::kPresent);
}

TEST_F(DeviceManagerTest, AttachThatWaitsTooLongIsOkWithThePresentState) {
  AttachRequest request = Request("x");
  request.wait_timeout = std::chrono::seconds(5);
  Answer<DeviceRecord> answer;
  manager_->Attach(request, answer.Take());
  loop_.RunUntilIdle();
  loop_.AdvanceTime(std::chrono::milliseconds(4999));
  EXPECT_FALSE(answer.arrived);
  loop_.AdvanceTime(std::chrono::milliseconds(1));
  ASSERT_TRUE(answer.arrived);
  EXPECT_TRUE(answer.status.ok());
  EXPECT_FALSE(answer.value.driver_ok());
  EXPECT_THAT(Ids(), ElementsAre("x"));
}

TEST_F(DeviceManagerTest, AttachThatWaitsIsAbortedByADetach) {
  AttachRequest request = Request("x");
  request.wait_timeout = std::chrono::seconds(5);
  Answer<DeviceRecord> answer;
  manager_->Attach(request, answer.Take());
  loop_.RunUntilIdle();
  ASSERT_TRUE(Detach(Removal("x")).status.ok());
  bus0_.DriverLetsGo(0);
  loop_.RunUntilIdle();
  ASSERT_TRUE(answer.arrived);
  EXPECT_EQ(answer.status.code, StatusCode::kAborted);
}

TEST_F(DeviceManagerTest, DetachGoesThroughRemovingToGone) {
  const uint64_t generation = Attach(Request("x")).value.generation;
  bus0_.DriverWrites(0, 15);
  loop_.RunUntilIdle();
  const Answer<DeviceRecord> answer = Detach(Removal("x"));
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.value.state, PlugState::kRemoving);
  EXPECT_EQ(Get("x").value.state, PlugState::kRemoving);
  bus0_.DriverLetsGo(0);
  loop_.RunUntilIdle();
  EXPECT_EQ(Get("x").status.code, StatusCode::kNotFound);
  EXPECT_EQ(factory_.live, 0);
  // The place and the id are free again, the generation is not.
  EXPECT_GT(Attach(Request("x")).value.generation, generation);
}

TEST_F(DeviceManagerTest, DetachWaitsUntilTheDeviceIsGone) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  DetachRequest request = Removal("x");
  request.wait_timeout = std::chrono::seconds(5);
  Answer<DeviceRecord> answer;
  manager_->Detach(request, answer.Take());
  loop_.RunUntilIdle();
  EXPECT_FALSE(answer.arrived);
  bus0_.DriverLetsGo(0);
  loop_.RunUntilIdle();
  ASSERT_TRUE(answer.arrived);
  EXPECT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.value.state, PlugState::kGone);
}

TEST_F(DeviceManagerTest, DetachThatWaitsIsNotAnsweredByDriverOk) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  DetachRequest request = Removal("x");
  request.wait_timeout = std::chrono::seconds(5);
  Answer<DeviceRecord> answer;
  manager_->Detach(request, answer.Take());
  loop_.RunUntilIdle();
  bus0_.DriverWrites(0, 15);  // it was about to when it was told
  loop_.RunUntilIdle();
  EXPECT_FALSE(answer.arrived);
  bus0_.DriverLetsGo(0);
  loop_.RunUntilIdle();
  ASSERT_TRUE(answer.arrived);
  EXPECT_EQ(answer.value.state, PlugState::kGone);
}

TEST_F(DeviceManagerTest, SecondDetachSaysRemovingUnlessItForces) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  ASSERT_TRUE(Detach(Removal("x")).status.ok());
  const Answer<DeviceRecord> second = Detach(Removal("x"));
  EXPECT_EQ(second.status.code, StatusCode::kFailedPrecondition);
  EXPECT_THAT(second.status.message, HasSubstr("REMOVING"));

  DetachRequest forced = Removal("x");
  forced.options.forced = true;
  EXPECT_TRUE(Detach(forced).status.ok());
  EXPECT_TRUE(bus0_.last_removal_was_forced());
  EXPECT_EQ(Detach(forced).status.code, StatusCode::kFailedPrecondition);
}

TEST_F(DeviceManagerTest, DetachOfAnUnknownDeviceIsNotFound) {
  const Answer<DeviceRecord> answer = Detach(Removal("nobody"));
  EXPECT_EQ(answer.status.code, StatusCode::kNotFound);
  EXPECT_THAT(answer.status.message, HasSubstr("id: no device \"nobody\""));
}

TEST_F(DeviceManagerTest, DetachOfAnotherGenerationIsRefused) {
  const uint64_t generation = Attach(Request("x")).value.generation;
  DetachRequest request = Removal("x");
  request.generation = generation + 1;
  EXPECT_EQ(Detach(request).status.code, StatusCode::kFailedPrecondition);
  request.generation = generation;
  EXPECT_TRUE(Detach(request).status.ok());
}

TEST_F(DeviceManagerTest, DetachWithoutAnyTimeIsRefused) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  DetachRequest request = Removal("x");
  request.options.deadline = vmm::Duration(0);
  const Answer<DeviceRecord> answer = Detach(request);
  EXPECT_EQ(answer.status.code, StatusCode::kInvalidArgument);
  EXPECT_THAT(answer.status.message, HasSubstr("deadline"));
  EXPECT_EQ(Get("x").value.state, PlugState::kPendingAnnounce);
}

TEST_F(DeviceManagerTest, WrongFieldsOfADetachAreNamedAndChangeNothing) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  DetachRequest long_id = Removal("x");
  long_id.request_id = std::string(65, 'r');
  Answer<DeviceRecord> answer = Detach(long_id);
  EXPECT_EQ(answer.status.code, StatusCode::kInvalidArgument);
  EXPECT_THAT(answer.status.message, HasSubstr("request_id"));
  DetachRequest bad_wait = Removal("x");
  bad_wait.wait_timeout = vmm::Duration(-1);
  answer = Detach(bad_wait);
  EXPECT_EQ(answer.status.code, StatusCode::kInvalidArgument);
  EXPECT_THAT(answer.status.message, HasSubstr("wait_timeout"));
  EXPECT_EQ(Get("x").value.state, PlugState::kPendingAnnounce);
}

TEST_F(DeviceManagerTest, DetachThatOnlyValidatesLeavesTheDevice) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  DetachRequest request = Removal("x");
  request.validate_only = true;
  const Answer<DeviceRecord> answer = Detach(request);
  ASSERT_TRUE(answer.status.ok());
  EXPECT_EQ(answer.value.id, "x");
  EXPECT_EQ(Get("x").value.state, PlugState::kPendingAnnounce);
  EXPECT_TRUE(Detach(Removal("x")).status.ok()) << "not REMOVING";
}

TEST_F(DeviceManagerTest, DeviceThatIsOnItsWayToTheBusCannotBeDetached) {
  Answer<DeviceRecord> attached;
  Answer<DeviceRecord> detached;
  manager_->Attach(Request("x"), attached.Take());
  manager_->Detach(Removal("x"), detached.Take());
  loop_.RunUntilIdle();
  EXPECT_TRUE(attached.status.ok());
  EXPECT_EQ(detached.status.code, StatusCode::kFailedPrecondition);
  EXPECT_THAT(detached.status.message, HasSubstr("ATTACHING"));
  EXPECT_EQ(Get("x").value.state, PlugState::kPendingAnnounce);
}

TEST_F(DeviceManagerTest, DetachThatTheBusRefusesMayBeTriedAgain) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  bus0_.RefuseNextUnplug(absl::InternalError("bus says no"));
  const Answer<DeviceRecord> refused = Detach(Removal("x"));
  EXPECT_EQ(refused.status.code, StatusCode::kInternal);
  EXPECT_EQ(refused.status.message, "bus says no");
  EXPECT_EQ(Get("x").value.state, PlugState::kPendingAnnounce);
  EXPECT_TRUE(Detach(Removal("x")).status.ok());
}

TEST_F(DeviceManagerTest, ForcedDetachThatComesTooLateIsAnsweredAsGone) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  ASSERT_TRUE(Detach(Removal("x")).status.ok());
  DetachRequest forced = Removal("x");
  forced.options.forced = true;
  Answer<DeviceRecord> answer;
  manager_->Detach(forced, answer.Take());
  bus0_.DriverLetsGo(0);  // its news waits behind the request
  loop_.RunUntilIdle();
  ASSERT_TRUE(answer.arrived);
  EXPECT_TRUE(answer.status.ok()) << answer.status.message;
  EXPECT_EQ(answer.value.state, PlugState::kGone);
  EXPECT_THAT(Ids(), IsEmpty());
}

TEST_F(DeviceManagerTest, LateAnswerOfADetachDoesNotTouchTheNextDevice) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  ASSERT_TRUE(Detach(Removal("x")).status.ok());
  DetachRequest forced = Removal("x");
  forced.options.forced = true;
  Answer<DeviceRecord> late;
  Answer<DeviceRecord> next;
  manager_->Detach(forced, late.Take());
  bus0_.DriverLetsGo(0);
  manager_->Attach(Request("x"), next.Take());
  loop_.RunUntilIdle();
  EXPECT_EQ(late.value.state, PlugState::kGone);
  ASSERT_TRUE(next.status.ok()) << next.status.message;
  EXPECT_EQ(Get("x").value.state, PlugState::kPendingAnnounce);
  EXPECT_TRUE(Detach(Removal("x")).status.ok()) << "not REMOVING";
}

TEST_F(DeviceManagerTest, RepeatedDetachGetsTheFirstAnswer) {
  ASSERT_TRUE(Attach(Request("x")).status.ok());
  DetachRequest request = Removal("x");
  request.request_id = "r1";
  ASSERT_TRUE(Detach(request).status.ok());
  const Answer<DeviceRecord> again = Detach(request);
  EXPECT_TRUE(again.status.ok()) << again.status.message;
  EXPECT_EQ(again.value.state, PlugState::kRemoving);
}

TEST_F(DeviceManagerTest, RepeatedRequestGetsTheFirstAnswer) {
  AttachRequest request = Request();
  request.request_id = "r1";
  const Answer<DeviceRecord> first = Attach(request);
  const Answer<DeviceRecord> again = Attach(request);
  EXPECT_TRUE(again.status.ok());
  EXPECT_EQ(again.value.generation, first.value.generation);
  EXPECT_EQ(factory_.created, 1);
}

TEST_F(DeviceManagerTest, RequestRepeatedWhileItWaitsIsAnsweredWithIt) {
  AttachRequest request = Request("x");
  request.request_id = "r1";
  request.wait_timeout = std::chrono::seconds(5);
  Answer<DeviceRecord> first;
  Answer<DeviceRecord> again;
  manager_->Attach(request, first.Take());
  manager_->Attach(request, again.Take());
  loop_.RunUntilIdle();
  EXPECT_FALSE(again.arrived);
  bus0_.DriverWrites(0, kDriverOk);
  loop_.RunUntilIdle();
  EXPECT_TRUE(first.arrived);
  EXPECT_TRUE(again.arrived);
  EXPECT_EQ(factory_.created, 1);
}

TEST_F(DeviceManagerTest, RequestThatFailedMayBeTriedAgain) {
  AttachRequest request = Request("x");
  request.request_id = "r1";
  bus0_.RefuseNextPlug(absl::InternalError("bus says no"));
  EXPECT_FALSE(Attach(request).status.ok());
  EXPECT_TRUE(Attach(request).status.ok());
}

TEST_F(DeviceManagerTest, OldestAnswersAreForgotten) {
  const auto attach = [&](size_t number) {
    AttachRequest request = Request();
    request.request_id = "r" + std::to_string(number);
    return Attach(request);
  };
  for (size_t i = 0; i <= DeviceManager::kRememberedRequests; ++i) {
    const Answer<DeviceRecord> answer = attach(i);
    ASSERT_TRUE(answer.status.ok());
    ASSERT_TRUE(Detach(Removal(answer.value.id)).status.ok());
    bus0_.DriverLetsGo(answer.value.place.slot);
    loop_.RunUntilIdle();
  }
  const int created = factory_.created;
  EXPECT_TRUE(attach(DeviceManager::kRememberedRequests).status.ok());
  EXPECT_TRUE(attach(1).status.ok());
  EXPECT_EQ(factory_.created, created) << "answered from memory";
  EXPECT_TRUE(attach(0).status.ok());
  EXPECT_EQ(factory_.created, created + 1) << "taken for a new one";
}

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
  manager_->Attach(Request("y"), next.Take());
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

TEST_F(DeviceManagerTest, DestructionAnswersWhoWaits) {
  AttachRequest request = Request("x");
  request.wait_timeout = std::chrono::hours(1);
  request.request_id = "r1";
  Answer<DeviceRecord> answer;
  manager_->Attach(request, answer.Take());
  loop_.RunUntilIdle();
  manager_.reset();
  ASSERT_TRUE(answer.arrived);
  EXPECT_EQ(answer.status.code, StatusCode::kUnavailable);
  // Reports that come now find nobody, and that is fine.
  bus0_.DriverWrites(0, 15);
  loop_.RunUntilIdle();
}

TEST_F(DeviceManagerTest, TwoBusesWithOneIdAreRefused) {
  FakeHotplugBus twin({"amp0", 0}, &loop_);
  EXPECT_EQ(DeviceManager::Create(&loop_, {&bus0_, &twin}, {}, nullptr)
                .status()
                .code(),
            StatusCode::kInvalidArgument);
}

TEST_F(DeviceManagerTest, TwoFactoriesForOneTypeAreRefused) {
  FakeFactory twin;
  EXPECT_EQ(DeviceManager::Create(&loop_, {}, {&factory_, &twin}, nullptr)
                .status()
                .code(),
            StatusCode::kInvalidArgument);
}

// Control loop, a loop per FIFO, and callers, each on a thread of its own.
TEST(DeviceManagerThreadsTest, AttachAndDetachFromManyThreads) {
  std::vector<std::unique_ptr<vmm::EpollEventLoop>> loops;
  for (int i = 0; i < 3; ++i) {
    loops.push_back(std::move(*vmm::EpollEventLoop::Create()));
  }
  FakeHotplugBus bus0({"amp0", 0}, loops[1].get());
  FakeHotplugBus bus1({"amp0", 1}, loops[2].get());
  FakeFactory factory;
  auto manager = std::move(*DeviceManager::Create(
      loops[0].get(), {&bus0, &bus1}, {&factory}, nullptr));
  std::vector<std::thread> threads;
  for (auto& loop : loops) threads.emplace_back([&loop] { loop->Run(); });

  constexpr int kCallers = 4;
  constexpr int kRounds = 50;
  std::atomic<int> attached = 0;
  std::atomic<int> answers = 0;
  std::vector<std::thread> callers;
  for (int caller = 0; caller < kCallers; ++caller) {
    callers.emplace_back([&] {
      for (int round = 0; round < kRounds; ++round) {
        AttachRequest request;
        request.config = {"test.Fake", "good"};
        manager->Attach(std::move(request),
                        [&](OperationStatus status, const DeviceRecord&) {
                          if (status.ok()) ++attached;
                          ++answers;
                        });
        manager->ListFifos(
            "", [&](OperationStatus, const std::vector<FifoRecord>&) {
              ++answers;
            });
      }
    });
  }
  for (std::thread& caller : callers) caller.join();
  while (answers.load() < 2 * kCallers * kRounds) std::this_thread::yield();
  EXPECT_EQ(attached.load(), 8);  // the slots of both buses

  loops[0]->Post([&] {
    manager.reset();
    loops[0]->Stop();
  });
  threads[0].join();
  loops[1]->Stop();
  loops[2]->Stop();
  threads[1].join();
  threads[2].join();
}

}  // namespace
}  // namespace vmsg::control
