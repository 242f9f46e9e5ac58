#include "vmm/control/device_manager.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "vmm/control/device_manager_fixture.h"
#include "vmm/control/fake_hotplug_bus.h"
#include "vmm/event/epoll_event_loop.h"

namespace vmsg::control {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Kind = DeviceEvent::Kind;
using absl::StatusCode;

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

TEST_F(DeviceManagerTest, SlotThatWasFreedIsTheLastToBeChosen) {
  std::vector<uint32_t> slots;
  for (int i = 0; i < 7; ++i) {
    const Answer<DeviceRecord> answer = Attach(Request());
    ASSERT_TRUE(answer.status.ok());
    slots.push_back(answer.value.place.slot);
    // Slot 1 stays taken.
    if (slots.back() == 1) continue;
    ASSERT_TRUE(Detach(Removal(answer.value.id)).status.ok());
    bus0_.DriverLetsGo(slots.back());
    loop_.RunUntilIdle();
  }
  EXPECT_THAT(slots, ElementsAre(0, 1, 2, 3, 0, 2, 3));
  // Who names it gets it.
  AttachRequest request = Request();
  request.place.slot = 3;
  EXPECT_EQ(Attach(request).value.place.slot, 3u);
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

TEST_F(DeviceManagerTest, DetachesDoNotPushOutAnswersOfAttaches) {
  const auto repeat_first = [this] {
    AttachRequest request = Request("first");
    request.request_id = "first";
    return Attach(request);
  };
  ASSERT_TRUE(repeat_first().status.ok());
  for (size_t i = 1; i < DeviceManager::kRememberedRequests; ++i) {
    AttachRequest attach = Request("next");
    attach.request_id = "r" + std::to_string(i);
    const Answer<DeviceRecord> answer = Attach(attach);
    ASSERT_TRUE(answer.status.ok());
    DetachRequest detach = Removal("next");
    detach.request_id = attach.request_id;
    ASSERT_TRUE(Detach(detach).status.ok());
    bus0_.DriverLetsGo(answer.value.place.slot);
    loop_.RunUntilIdle();
  }
  const int created = factory_.created;
  EXPECT_TRUE(repeat_first().status.ok());
  EXPECT_EQ(factory_.created, created) << "answered from memory";
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
