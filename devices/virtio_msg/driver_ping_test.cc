// PING of the device as a health check: when it is sent, what its answer and
// its absence lead to, and who must not notice. Source: amp-pci-device, 4;
// virtio-msg-messages, 5.2.

#include <chrono>
#include <cstdint>
#include <set>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/message_bus_types.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::msg {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;
using virtio::DummyDevice;
using virtio::DummyOptions;

constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};
constexpr seconds kInterval{10};
constexpr milliseconds kTimeout{500};
constexpr PingOptions kPing = {
    .interval = kInterval, .timeout = kTimeout, .misses = 2};
constexpr PingOptions kAskFirst = {
    .interval = kInterval, .timeout = kTimeout, .misses = 2, .ask_first = true};

std::vector<Received> Pings(const std::vector<Received>& all) {
  std::vector<Received> pings;
  for (const Received& m : all) {
    if (m.is_ping()) pings.push_back(m);
  }
  return pings;
}

Bytes AnswerTo(const Received& ping) {
  return PingAnswer(ping.u32(0), ping.token());
}

class DriverPingTest : public testing::Test {
 protected:
  explicit DriverPingTest(const PingOptions& ping = kPing)
      : harness_({.ping = ping}) {
    device_ = harness_.PlugDummy(1, kInstant);
    harness_.Start(1);
  }

  DriverHealth health() { return harness_.bus().driver_health(); }
  SlotHealth slot_health(uint32_t slot = 1) {
    return harness_.bus().status(slot).health;
  }
  const MessageBus::Counters& counters() { return harness_.counters(); }

  // The driver PINGs, is PINGed back, and answers.
  void Prove() {
    const std::vector<Received> back = Pings(harness_.Send(PingRequest(1)));
    ASSERT_EQ(back.size(), 1u);
    EXPECT_TRUE(harness_.Send(AnswerTo(back[0])).empty());
    ASSERT_EQ(health(), DriverHealth::kAnswers);
  }
  // The driver is silent until it counts as unresponsive. Returns the PINGs.
  std::vector<Received> FallSilent() {
    const std::vector<Received> pings =
        Pings(harness_.RunFor(2 * (kInterval + kTimeout)));
    EXPECT_EQ(pings.size(), 2u);
    EXPECT_EQ(health(), DriverHealth::kUnresponsive);
    return pings;
  }

  BusHarness harness_;
  DummyDevice* device_ = nullptr;
};

// --- Who is asked. ---

TEST(DriverPingOptionsTest, AreOffByDefaultAndHaveLimits) {
  EXPECT_EQ(PingOptions().interval, vmm::Duration(0));
  EXPECT_TRUE(IsValid(PingOptions()));
  EXPECT_TRUE(IsValid(kAskFirst));
  EXPECT_FALSE(IsValid(PingOptions{.interval = vmm::Duration(-1)}));
  EXPECT_FALSE(IsValid(PingOptions{.interval = hours(1) + vmm::Duration(1)}));
  EXPECT_FALSE(IsValid(PingOptions{.timeout = vmm::Duration(0)}));
  EXPECT_FALSE(IsValid(PingOptions{.timeout = hours(2)}));
  EXPECT_FALSE(IsValid(PingOptions{.misses = 0}));
  EXPECT_FALSE(IsValid(PingOptions{.misses = 1001}));
}

TEST(DriverPingOffTest, NobodyIsAsked) {
  for (const bool ask_first : {false, true}) {
    BusHarness harness({.ping = {.ask_first = ask_first}});
    harness.PlugDummy(1, kInstant);
    harness.Start(1);
    EXPECT_TRUE(Pings(harness.Send(PingRequest(1))).empty());
    EXPECT_TRUE(harness.RunFor(hours(5)).empty());
    EXPECT_EQ(harness.bus().driver_health(), DriverHealth::kUnknown);
  }
}

TEST_F(DriverPingTest, DriverThatSendsNoPingGetsNone) {
  EXPECT_TRUE(harness_.RunFor(hours(1)).empty());
  EXPECT_EQ(harness_.Send(GetStatusRequest(1)).size(), 1u);
  EXPECT_TRUE(harness_.RunFor(hours(1)).empty());
  EXPECT_EQ(health(), DriverHealth::kUnknown);
}

TEST_F(DriverPingTest, PingOfTheDriverIsReturnedAtOnce) {
  const std::vector<Received> got = harness_.Send(PingRequest(7, 9));
  ASSERT_EQ(got.size(), 2u);
  EXPECT_TRUE(got[0].is_response());
  EXPECT_EQ(got[1].type(), 0x02);
  EXPECT_EQ(got[1].id(), 0x03);
  EXPECT_EQ(got[1].dev(), 0);
  EXPECT_EQ(got[1].msg_size(), 12);
  EXPECT_NE(got[1].token(), 0);
  EXPECT_EQ(health(), DriverHealth::kUnknown);
  EXPECT_TRUE(harness_.Send(AnswerTo(got[1])).empty());
  EXPECT_EQ(health(), DriverHealth::kAnswers);
  EXPECT_EQ(counters().pings_sent.value(), 1u);
  EXPECT_EQ(counters().pings_answered.value(), 1u);
}

TEST_F(DriverPingTest, DriverThatPingsAndNeverAnswersIsNeverJudged) {
  uint64_t asked = 0;
  for (int i = 0; i < 20; ++i) {
    asked += Pings(harness_.Send(PingRequest(1))).size();
    EXPECT_TRUE(harness_.RunFor(10 * kInterval).empty());
  }
  EXPECT_EQ(asked, 20u) << "one for each of its own";
  EXPECT_EQ(health(), DriverHealth::kUnknown);
  EXPECT_EQ(slot_health(), SlotHealth::kOk);
  EXPECT_EQ(counters().pings_missed.value(), 0u);
  EXPECT_EQ(harness_.Status(1), 15u);
}

TEST_F(DriverPingTest, SecondPingOfTheDriverBringsNoSecondOneBack) {
  EXPECT_EQ(Pings(harness_.Send(PingRequest(1))).size(), 1u);
  EXPECT_TRUE(Pings(harness_.Send(PingRequest(2))).empty());
}

TEST_F(DriverPingTest, LateFirstAnswerIsOne) {
  const std::vector<Received> back = Pings(harness_.Send(PingRequest(1)));
  harness_.RunFor(kTimeout * 3);
  harness_.Send(AnswerTo(back.at(0)));
  EXPECT_EQ(health(), DriverHealth::kAnswers);
  EXPECT_EQ(Pings(harness_.RunFor(kInterval)).size(), 1u);
}

TEST_F(DriverPingTest, QuietDriverIsAskedEachInterval) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  for (int i = 0; i < 10; ++i) {
    EXPECT_TRUE(harness_.RunFor(kInterval - milliseconds(1)).empty());
    const std::vector<Received> pings = Pings(harness_.RunFor(milliseconds(1)));
    ASSERT_EQ(pings.size(), 1u);
    harness_.Send(AnswerTo(pings[0]));
  }
  EXPECT_EQ(health(), DriverHealth::kAnswers);
}

TEST_F(DriverPingTest, BusyDriverIsNotAsked) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  for (int i = 0; i < 20; ++i) {
    EXPECT_TRUE(Pings(harness_.Send(GetStatusRequest(1))).empty());
    EXPECT_TRUE(Pings(harness_.RunFor(kInterval / 2)).empty());
  }
  EXPECT_TRUE(Pings(harness_.Send(AvailEvent(1, 0))).empty());
  EXPECT_TRUE(harness_.RunFor(kInterval).empty());
  EXPECT_EQ(Pings(harness_.RunFor(kInterval)).size(), 1u);
}

TEST_F(DriverPingTest, EachPingHasATokenAndDataOfItsOwn) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  std::set<uint16_t> tokens;
  std::set<uint32_t> data;
  for (int i = 0; i < 0xFFFF; ++i) {
    harness_.loop().AdvanceTime(kInterval);
    const std::vector<Received> pings = harness_.link().Take();
    ASSERT_EQ(pings.size(), 1u) << i;
    ASSERT_NE(pings[0].token(), 0);
    tokens.insert(pings[0].token());
    data.insert(pings[0].u32(0));
    ASSERT_TRUE(harness_.Send(AnswerTo(pings[0])).empty());
  }
  EXPECT_EQ(tokens.size(), 0xFFFFu);
  EXPECT_EQ(data.size(), 0xFFFFu);
  EXPECT_EQ(health(), DriverHealth::kAnswers);
}

// --- Silence. ---

TEST_F(DriverPingTest, SilenceMakesADriverUnresponsiveAndItsDevices) {
  harness_.PlugDummy(2, kInstant);
  harness_.Enumerate();
  harness_.RunFor(milliseconds(100));  // the READY of slot 2 is done
  ASSERT_NO_FATAL_FAILURE(Prove());
  std::set<uint32_t> told;
  harness_.bus().SetObserver([&](uint32_t slot) { told.insert(slot); });
  harness_.RunFor(kInterval + kTimeout);  // the first is missed
  EXPECT_EQ(health(), DriverHealth::kAnswers);
  EXPECT_EQ(counters().pings_missed.value(), 1u);
  harness_.RunFor(kInterval + kTimeout - milliseconds(1));
  EXPECT_EQ(slot_health(), SlotHealth::kOk);
  EXPECT_TRUE(told.empty());
  const uint64_t services = harness_.link().services_requested();
  harness_.RunFor(milliseconds(1));

  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
  EXPECT_EQ(counters().pings_missed.value(), 2u);
  EXPECT_EQ(told, (std::set<uint32_t>{1, 2}));
  EXPECT_GT(harness_.link().services_requested(), services);
  EXPECT_EQ(slot_health(1), SlotHealth::kUnresponsive);
  EXPECT_EQ(slot_health(2), SlotHealth::kUnresponsive);
  EXPECT_EQ(harness_.bus().status(1).health_reason,
            "the driver has left 2 PINGs in a row without an answer");
  EXPECT_EQ(slot_health(3), SlotHealth::kOk) << "nothing is there";
  // A verdict only: the device is as it was.
  EXPECT_EQ(harness_.bus().status(1).driver_status, 15u);
  EXPECT_EQ(harness_.bus().status(1).state, SlotState::kPresent);
}

TEST_F(DriverPingTest, WhatTheDeviceHasToSayComesFirst) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  FallSilent();
  device_->Break("a test");
  harness_.RunFor({});
  EXPECT_EQ(slot_health(), SlotHealth::kNeedsReset);
}

TEST_F(DriverPingTest, UnresponsiveDriverIsAskedOn) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  FallSilent();
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(Pings(harness_.RunFor(kInterval + kTimeout)).size(), 1u);
  }
  EXPECT_EQ(counters().pings_missed.value(), 7u);
}

TEST_F(DriverPingTest, AnyValidMessageEndsTheVerdict) {
  for (const Bytes& message : {GetStatusRequest(1), AvailEvent(1, 0),
                               GetDevicesRequest(0, 32), PingRequest(3)}) {
    BusHarness harness({.ping = kPing});
    harness.PlugDummy(1, kInstant);
    harness.Start(1);
    harness.Send(AnswerTo(Pings(harness.Send(PingRequest(1))).at(0)));
    harness.RunFor(2 * (kInterval + kTimeout));
    ASSERT_EQ(harness.bus().driver_health(), DriverHealth::kUnresponsive);
    std::set<uint32_t> told;
    harness.bus().SetObserver([&](uint32_t slot) { told.insert(slot); });
    harness.Send(message);
    EXPECT_EQ(harness.bus().driver_health(), DriverHealth::kAnswers);
    EXPECT_EQ(harness.bus().status(1).health, SlotHealth::kOk);
    EXPECT_EQ(told, std::set<uint32_t>{1});
    // From there it takes as long as before.
    harness.RunFor(2 * kInterval);
    EXPECT_EQ(harness.bus().driver_health(), DriverHealth::kAnswers);
  }
}

TEST_F(DriverPingTest, LateAnswerEndsTheVerdict) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  const std::vector<Received> pings = FallSilent();
  harness_.Send(AnswerTo(pings.at(1)));
  EXPECT_EQ(health(), DriverHealth::kAnswers);
  EXPECT_EQ(slot_health(), SlotHealth::kOk);
}

TEST_F(DriverPingTest, WrongAnswersAreCountedAndAreNoSign) {
  harness_.DriverBreaks("DRV-HDR-3 BUS-PING-1");
  ASSERT_NO_FATAL_FAILURE(Prove());
  const std::vector<Received> pings = FallSilent();
  const uint32_t data = pings.at(1).u32(0);
  const uint16_t token = pings.at(1).token();
  harness_.Send(PingAnswer(data ^ 1, token));
  harness_.Send(PingAnswer(data, token + 1));
  harness_.Send(AnswerTo(pings.at(0)));           // of the one before
  harness_.Send(Message(3, 0x03, 0, {}, token));  // malformed
  EXPECT_EQ(counters().pings_unexpected.value(), 3u);
  EXPECT_EQ(counters().malformed.value(), 1u);
  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
  // One answer counts once.
  harness_.Send({AnswerTo(pings.at(1)), AnswerTo(pings.at(1))});
  EXPECT_EQ(counters().pings_unexpected.value(), 4u);
  EXPECT_EQ(counters().pings_answered.value(), 2u);
}

TEST_F(DriverPingTest, AnswerThatNobodyAskedForProvesNothing) {
  harness_.DriverBreaks("BUS-PING-1");
  harness_.Send(PingAnswer(0, 0));
  harness_.Send(PingAnswer(1, 1));
  EXPECT_EQ(health(), DriverHealth::kUnknown);
  EXPECT_TRUE(harness_.RunFor(hours(1)).empty());
}

TEST_F(DriverPingTest, DriverThatTalksInsteadOfAnsweringIsThere) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  for (int i = 0; i < 10; ++i) {
    ASSERT_EQ(Pings(harness_.RunFor(kInterval)).size(), 1u);
    harness_.Send(GetStatusRequest(1));
    EXPECT_TRUE(Pings(harness_.RunFor(kTimeout)).empty());
  }
  EXPECT_EQ(health(), DriverHealth::kAnswers);
  EXPECT_EQ(counters().pings_missed.value(), 0u);
}

// --- Room. ---

TEST_F(DriverPingTest, DriverThatMakesNoRoomMissesItToo) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  harness_.link().set_room(0);
  harness_.RunFor(2 * (kInterval + kTimeout));
  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
  EXPECT_EQ(counters().pings_sent.value(), 1u) << "that of Prove()";
  harness_.link().set_room(10);
  EXPECT_TRUE(harness_.RunFor(kInterval - milliseconds(1)).empty());
  const std::vector<Received> pings = Pings(harness_.RunFor(milliseconds(1)));
  ASSERT_EQ(pings.size(), 1u);
  harness_.Send(AnswerTo(pings[0]));
  EXPECT_EQ(health(), DriverHealth::kAnswers);
}

// The bus takes no messages then, so it can't hear the driver either.
TEST_F(DriverPingTest, DriverThatTakesNoAnswersMissesIt) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  harness_.link().set_room(0);
  harness_.Send({GetStatusRequest(1), GetStatusRequest(1)});
  EXPECT_FALSE(harness_.bus().CanAccept());
  harness_.RunFor(3 * (kInterval + kTimeout));
  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
  harness_.link().set_room(10);
  harness_.link().Service();
  EXPECT_EQ(harness_.link().Take().size(), 2u);
  EXPECT_EQ(health(), DriverHealth::kAnswers) << "the second was heard now";
}

TEST_F(DriverPingTest, DriverThatTakesNoEventMissesIt) {
  Prove();
  harness_.PlugDummy(2, kInstant);
  harness_.loop().AdvanceTime(3 * (kInterval + kTimeout));
  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
  // It finds the event, and no PING too close to it.
  std::vector<Received> found = harness_.link().Take();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].is_device_event());
  EXPECT_TRUE(harness_.RunFor(milliseconds(100)).empty());
  EXPECT_EQ(Pings(harness_.RunFor(kInterval + kTimeout)).size(), 1u);
}

TEST_F(DriverPingTest, DriverThatTakesNoPingFindsOneAndHasMissedThemAll) {
  Prove();
  harness_.loop().AdvanceTime(4 * (kInterval + kTimeout));
  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
  const std::vector<Received> found = harness_.link().Take();
  ASSERT_EQ(found.size(), 1u);
  EXPECT_TRUE(found[0].is_ping());
  // Its answer is too late, that to the next one is not.
  harness_.Send(AnswerTo(found[0]));
  const std::vector<Received> next =
      Pings(harness_.RunFor(kInterval + kTimeout));
  ASSERT_EQ(next.size(), 1u);
  harness_.Send(AnswerTo(next[0]));
  EXPECT_EQ(health(), DriverHealth::kAnswers);
}

TEST_F(DriverPingTest, PingWithoutRoomIsSentWhenThereIsSome) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  harness_.link().set_room(0);
  harness_.RunFor(kInterval + kTimeout - milliseconds(1));
  harness_.link().set_room(1);
  harness_.link().Service();
  const std::vector<Received> pings = Pings(harness_.link().Take());
  ASSERT_EQ(pings.size(), 1u);
  // It has the whole time for the answer.
  harness_.RunFor(kTimeout - milliseconds(1));
  EXPECT_EQ(counters().pings_missed.value(), 0u);
  harness_.RunFor(milliseconds(1));
  EXPECT_EQ(counters().pings_missed.value(), 1u);
}

// --- A device that keeps the bus from reading. ---

class DriverPingHungDeviceTest : public DriverPingTest {
 protected:
  // From here on nothing is read, since as many requests wait as may.
  void Hang() {
    device_->HoldTransitions(true);
    std::vector<Bytes> requests = {SetStatusRequest(1, 0)};
    while (requests.size() < MessageBusOptions::kMaxDeferred) {
      requests.push_back(GetStatusRequest(1));
    }
    EXPECT_TRUE(Pings(harness_.Send(requests)).empty());
    ASSERT_FALSE(harness_.bus().CanAccept());
  }
  std::vector<Received> Recover() {
    device_->HoldTransitions(false);
    std::vector<Received> got = harness_.RunFor({});
    EXPECT_TRUE(harness_.bus().CanAccept());
    return got;
  }
};

TEST_F(DriverPingHungDeviceTest, AnswerThatIsNotReadIsNoMiss) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  const std::vector<Received> pings = Pings(harness_.RunFor(kInterval));
  ASSERT_EQ(pings.size(), 1u);
  ASSERT_NO_FATAL_FAILURE(Hang());
  harness_.Send(AnswerTo(pings[0]));
  EXPECT_TRUE(harness_.RunFor(20 * (kInterval + kTimeout)).empty())
      << "nobody is asked whose answer is not read";
  EXPECT_EQ(counters().pings_answered.value(), 1u) << "that of Prove()";
  EXPECT_EQ(counters().pings_missed.value(), 0u);
  EXPECT_EQ(health(), DriverHealth::kAnswers);
  Recover();
  EXPECT_EQ(counters().pings_answered.value(), 2u);
  EXPECT_EQ(counters().pings_unexpected.value(), 0u);
  EXPECT_EQ(health(), DriverHealth::kAnswers);
}

TEST_F(DriverPingHungDeviceTest, NobodyIsAskedUntilTheBusReadsAgain) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  ASSERT_NO_FATAL_FAILURE(Hang());
  EXPECT_TRUE(harness_.RunFor(20 * (kInterval + kTimeout)).empty());
  EXPECT_EQ(counters().pings_sent.value(), 1u) << "that of Prove()";
  EXPECT_EQ(counters().pings_missed.value(), 0u);
  const std::vector<Received> pings = Pings(Recover());
  ASSERT_EQ(pings.size(), 1u) << "it is due since long";
  harness_.Send(AnswerTo(pings[0]));
  EXPECT_EQ(health(), DriverHealth::kAnswers);
}

TEST_F(DriverPingHungDeviceTest, DriverThatIsSilentEvenThenIsUnresponsive) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  ASSERT_EQ(Pings(harness_.RunFor(kInterval)).size(), 1u);
  ASSERT_NO_FATAL_FAILURE(Hang());
  harness_.RunFor(20 * (kInterval + kTimeout));
  Recover();
  harness_.RunFor(kTimeout);  // the one of before: it was heard since
  EXPECT_EQ(counters().pings_missed.value(), 0u);
  FallSilent();
}

// An answer of another device has no room.
TEST_F(DriverPingHungDeviceTest, DriverThatMakesNoRoomMissesItAllTheSame) {
  DummyDevice* const other = harness_.PlugDummy(2, kInstant);
  harness_.Enumerate();
  harness_.RunFor(milliseconds(100));
  ASSERT_NO_FATAL_FAILURE(Prove());
  harness_.link().set_room(0);
  other->HoldTransitions(true);
  harness_.Send(SetStatusRequest(2, 0));
  ASSERT_NO_FATAL_FAILURE(Hang());
  other->HoldTransitions(false);
  harness_.RunFor(3 * (kInterval + kTimeout));
  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
  // It takes one, and is a driver whose messages are not read again.
  harness_.link().set_room(1);
  const uint64_t missed = counters().pings_missed.value();
  harness_.link().Service();
  EXPECT_EQ(harness_.link().Take().size(), 1u);
  harness_.RunFor(20 * (kInterval + kTimeout));
  EXPECT_EQ(counters().pings_missed.value(), missed);
}

// --- Together with EVENT_DEVICE: one place in the driver for both. ---

TEST_F(DriverPingTest, EventWaitsForTheAnswer) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  const std::vector<Received> pings = Pings(harness_.RunFor(kInterval));
  ASSERT_EQ(pings.size(), 1u);
  harness_.PlugDummy(4, kInstant);
  EXPECT_TRUE(harness_.RunFor(milliseconds(50)).empty());
  const std::vector<Received> got = harness_.Send(AnswerTo(pings[0]));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].is_device_event());
}

TEST_F(DriverPingTest, EventWaitsForAPingWithoutAnswerAsForAnEvent) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  ASSERT_EQ(harness_.RunFor(kInterval).size(), 1u);
  harness_.PlugDummy(4, kInstant);
  EXPECT_TRUE(harness_.RunFor(milliseconds(99)).empty());
  const std::vector<Received> got = harness_.RunFor(milliseconds(1));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].is_device_event());
}

// A driver that PINGs again and again is PINGed back at once, and does not
// answer; the time for an answer is shorter than that between events.
TEST(DriverPingPacingTest, PingsThatFollowOneAnotherLetAnEventHaveItsTurn) {
  BusHarness harness(
      {.ping = {.interval = kInterval, .timeout = milliseconds(20)}});
  harness.PlugDummy(1, kInstant);
  harness.Start(1);
  ASSERT_EQ(Pings(harness.Send(PingRequest(1))).size(), 1u);
  harness.PlugDummy(4, kInstant);
  int events = 0;
  for (int i = 0; i < 50; ++i) {
    harness.Send(PingRequest(7));
    for (const Received& got : harness.RunFor(milliseconds(10))) {
      if (got.is_device_event()) ++events;
    }
  }
  EXPECT_EQ(events, 1);
}

TEST_F(DriverPingTest, PingWaitsForTheReactionToAnEvent) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  harness_.RunFor(kInterval - milliseconds(10));
  harness_.PlugDummy(4, kInstant);
  harness_.PlugDummy(5, kInstant);
  ASSERT_EQ(harness_.RunFor({}).size(), 1u);
  EXPECT_TRUE(harness_.RunFor(milliseconds(99)).empty());
  std::vector<Received> got = harness_.RunFor(milliseconds(1));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].is_ping()) << "it is its turn";
  // The wait was none of the driver's.
  got = harness_.RunFor(kTimeout - milliseconds(1));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].is_device_event());
  EXPECT_EQ(counters().pings_missed.value(), 0u);
}

// --- Drivers that come and go. ---

TEST_F(DriverPingTest, NewDriverHasToShowAnewThatItAnswers) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  const std::vector<Received> pings = FallSilent();
  std::set<uint32_t> told;
  harness_.bus().SetObserver([&](uint32_t slot) { told.insert(slot); });
  harness_.bus().ResetAll();
  EXPECT_EQ(health(), DriverHealth::kUnknown);
  EXPECT_EQ(slot_health(), SlotHealth::kOk);
  EXPECT_TRUE(told.empty()) << "not inside the call";
  EXPECT_TRUE(harness_.RunFor(hours(1)).empty());
  EXPECT_EQ(told, std::set<uint32_t>{1});
  // An answer to the driver before.
  harness_.Send(AnswerTo(pings.at(1)));
  EXPECT_EQ(health(), DriverHealth::kUnknown);
  EXPECT_TRUE(Pings(harness_.RunFor(hours(1))).empty());
  ASSERT_NO_FATAL_FAILURE(Prove());
}

TEST_F(DriverPingTest, ResetForgetsAPingThatIsDue) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  harness_.link().set_room(0);
  harness_.RunFor(kInterval);
  harness_.bus().ResetAll();
  harness_.link().set_room(10);
  EXPECT_TRUE(Pings(harness_.RunFor(hours(1))).empty());
}

TEST_F(DriverPingTest, UnpluggedDeviceLeavesAnUnresponsiveDriver) {
  ASSERT_NO_FATAL_FAILURE(Prove());
  FallSilent();
  bool gone = false;
  EXPECT_OK(
      harness_.bus().Unplug(1, {.forced = true}, [&gone] { gone = true; }));
  harness_.RunFor(seconds(60));
  EXPECT_TRUE(gone);
  harness_.PlugDummy(1, kInstant);
  EXPECT_EQ(slot_health(), SlotHealth::kUnresponsive);
}

// --- An embedder that knows its driver. ---

class DriverPingFirstTest : public DriverPingTest {
 protected:
  DriverPingFirstTest() : DriverPingTest(kAskFirst) {}
};

TEST_F(DriverPingFirstTest, DriverIsAskedWithoutAPingOfItsOwn) {
  EXPECT_TRUE(harness_.RunFor(kInterval).empty()) << "it was busy";
  const std::vector<Received> pings = Pings(harness_.RunFor(kInterval));
  ASSERT_EQ(pings.size(), 1u);
  harness_.Send(AnswerTo(pings[0]));
  EXPECT_EQ(health(), DriverHealth::kAnswers);
}

TEST_F(DriverPingFirstTest, SilenceCountsFromTheFirstOn) {
  harness_.RunFor(3 * kInterval + 2 * kTimeout);
  EXPECT_EQ(health(), DriverHealth::kUnresponsive);
  harness_.Send(GetStatusRequest(1));
  EXPECT_EQ(health(), DriverHealth::kUnknown) << "it has answered none yet";
}

TEST_F(DriverPingFirstTest, WithoutADriverNobodyIsAsked) {
  harness_.bus().ResetAll();
  EXPECT_TRUE(harness_.RunFor(hours(1)).empty());
  EXPECT_EQ(health(), DriverHealth::kUnknown);
  harness_.Send(GetStatusRequest(1));
  EXPECT_FALSE(Pings(harness_.RunFor(3 * kInterval)).empty());
}

}  // namespace
}  // namespace vmsg::msg
