// EVENT_DEVICE and its pacing. Source: amp-pci-device, 4: "Existing Linux
// drivers keep a single buffer for bus messages".

#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/event_pacer.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"
#include "vmm/testing/manual_event_loop.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::msg {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using virtio::DummyOptions;
using Announcement = EventPacer::Announcement;

constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};
constexpr milliseconds kPacing{100};

Announcement Ready(uint32_t slot) { return {slot, DeviceBusState::kReady}; }
Announcement Removed(uint32_t slot) { return {slot, DeviceBusState::kRemoved}; }

// --- The pacer alone. ---

class EventPacerTest : public testing::Test {
 protected:
  // Sends what is next, if anything.
  std::optional<Announcement> Send() {
    const std::optional<Announcement> next = pacer_.Next();
    if (next.has_value()) pacer_.Sent(*next, news_);
    return next;
  }

  vmm::ManualEventLoop loop_;
  int may_send_ = 0;
  bool news_ = true;
  bool taken_ = true;
  EventPacer pacer_{&loop_, kPacing, [this] { return taken_; },
                    [this] { ++may_send_; }};
};

TEST_F(EventPacerTest, OneIsOutstandingUntilTheTimeIsOver) {
  pacer_.OweReady(1);
  pacer_.OweReady(2);
  EXPECT_EQ(Send(), Ready(1));
  EXPECT_EQ(Send(), std::nullopt);
  loop_.AdvanceTime(kPacing - milliseconds(1));
  EXPECT_EQ(Send(), std::nullopt);
  EXPECT_EQ(may_send_, 0);
  loop_.AdvanceTime(milliseconds(1));
  EXPECT_EQ(may_send_, 1);
  EXPECT_EQ(Send(), Ready(2));
}

TEST_F(EventPacerTest, TimeOfADriverThatIsLateCountsFromWhenItHasTakenIt) {
  pacer_.OweReady(1);
  pacer_.OweReady(2);
  taken_ = false;
  EXPECT_EQ(Send(), Ready(1));
  loop_.AdvanceTime(seconds(10));
  EXPECT_EQ(may_send_, 0);
  loop_.AdvanceTime(kPacing - milliseconds(1));
  taken_ = true;
  // All that is known: it was within the last period.
  loop_.AdvanceTime(kPacing);
  EXPECT_EQ(may_send_, 0);
  loop_.AdvanceTime(milliseconds(1));
  EXPECT_EQ(may_send_, 1);
  EXPECT_EQ(Send(), Ready(2));
  // The next one is in time again.
  pacer_.OweReady(3);
  loop_.AdvanceTime(kPacing);
  EXPECT_EQ(Send(), Ready(3));
}

TEST_F(EventPacerTest, PingThatIsNotTakenKeepsTheEventBack) {
  taken_ = false;
  pacer_.OwePing();
  pacer_.PingSent();
  pacer_.OweReady(1);
  loop_.AdvanceTime(seconds(10));
  EXPECT_EQ(Send(), std::nullopt);
  taken_ = true;
  loop_.AdvanceTime(2 * kPacing);
  EXPECT_EQ(Send(), Ready(1));
}

TEST_F(EventPacerTest, LateDriverThatReactsLetsTheNextOneGo) {
  pacer_.OweReady(1);
  pacer_.OweReady(2);
  taken_ = false;
  EXPECT_EQ(Send(), Ready(1));
  loop_.AdvanceTime(seconds(1));
  pacer_.DriverReacted(1, DeviceBusState::kReady);
  taken_ = true;
  EXPECT_EQ(Send(), Ready(2));
  pacer_.OweReady(3);
  loop_.AdvanceTime(kPacing);
  EXPECT_EQ(Send(), Ready(3)) << "late was the one before";
}

TEST_F(EventPacerTest, ReactionLetsTheNextOneGo) {
  pacer_.OweReady(1);
  pacer_.OweRemoved(2);
  EXPECT_EQ(Send(), Ready(1));
  pacer_.DriverReacted(2, DeviceBusState::kReady);    // another slot
  pacer_.DriverReacted(1, DeviceBusState::kRemoved);  // another event
  EXPECT_EQ(Send(), std::nullopt);
  pacer_.DriverReacted(1, DeviceBusState::kReady);
  EXPECT_EQ(Send(), Removed(2));
  // The time counts from the last event, not from the first.
  loop_.AdvanceTime(kPacing - milliseconds(1));
  EXPECT_TRUE(pacer_.outstanding());
}

TEST_F(EventPacerTest, WhatWasNoNewsHasNoReaction) {
  pacer_.OweReady(1);
  pacer_.OweReady(2);
  news_ = false;
  EXPECT_EQ(Send(), Ready(1));
  pacer_.DriverReacted(1, DeviceBusState::kReady);
  EXPECT_EQ(Send(), std::nullopt);
  loop_.AdvanceTime(kPacing);
  news_ = true;
  EXPECT_EQ(Send(), Ready(2));
  pacer_.Listed(1);  // another slot
  pacer_.DriverReacted(2, DeviceBusState::kReady);
  EXPECT_FALSE(pacer_.outstanding());
}

TEST_F(EventPacerTest, RemovedOfASlotGoesBeforeItsReady) {
  pacer_.OweReady(3);
  pacer_.OweRemoved(3);
  EXPECT_EQ(Send(), Removed(3));
  EXPECT_FALSE(pacer_.removed_owed(3));
  loop_.AdvanceTime(kPacing);
  EXPECT_EQ(Send(), Ready(3));
}

TEST_F(EventPacerTest, SlotsTakeTurns) {
  pacer_.OweReady(30);
  pacer_.OweReady(31);
  pacer_.OweReady(0);
  EXPECT_EQ(Send(), Ready(0));
  pacer_.OweReady(0);
  for (const uint32_t slot : {30u, 31u, 0u}) {
    loop_.AdvanceTime(kPacing);
    EXPECT_EQ(Send(), Ready(slot));
  }
}

TEST_F(EventPacerTest, NothingOwedCallsNobody) {
  pacer_.OweReady(1);
  Send();
  pacer_.OweReady(2);
  pacer_.CancelReady(2);
  loop_.AdvanceTime(seconds(1));
  EXPECT_EQ(may_send_, 0);
  EXPECT_EQ(Send(), std::nullopt);
}

TEST_F(EventPacerTest, ResetForgetsEverything) {
  pacer_.OweReady(1);
  pacer_.OweRemoved(2);
  Send();
  pacer_.Reset();
  EXPECT_FALSE(pacer_.outstanding());
  EXPECT_EQ(Send(), std::nullopt);
  pacer_.OweReady(4);
  EXPECT_EQ(Send(), Ready(4));
}

// --- Over the bus. ---

std::vector<Announcement> DeviceEvents(const std::vector<Received>& all) {
  std::vector<Announcement> events;
  for (const Received& m : all) {
    if (!m.is_device_event()) continue;
    events.push_back({m.u16(0), static_cast<DeviceBusState>(m.u16(2))});
  }
  return events;
}

TEST(AnnounceTest, OneEventAtATimeWithoutReaction) {
  BusHarness harness({.announce_pacing = kPacing});
  harness.Enumerate();
  for (uint32_t slot = 0; slot < 3; ++slot) harness.PlugDummy(slot, kInstant);
  EXPECT_EQ(DeviceEvents(harness.RunFor({})),
            std::vector<Announcement>{Ready(0)});
  EXPECT_TRUE(harness.RunFor(kPacing - milliseconds(1)).empty());
  EXPECT_EQ(DeviceEvents(harness.RunFor(milliseconds(1))),
            std::vector<Announcement>{Ready(1)});
  EXPECT_EQ(DeviceEvents(harness.RunFor(kPacing)),
            std::vector<Announcement>{Ready(2)});
  EXPECT_TRUE(harness.RunFor(seconds(10)).empty());
}

TEST(AnnounceTest, DriverThatDoesNotRunFindsOneEvent) {
  BusHarness harness({.announce_pacing = kPacing});
  harness.Enumerate();
  for (uint32_t slot = 0; slot < 3; ++slot) harness.PlugDummy(slot, kInstant);
  harness.loop().AdvanceTime(seconds(10));
  // Other traffic behind the event does not hide that it was taken.
  EXPECT_EQ(DeviceEvents(harness.RunFor({})),
            std::vector<Announcement>{Ready(0)});
  for (uint16_t token = 1; token < 6; ++token) {
    harness.link().Enqueue(PingRequest(token));
    harness.link().Service();
    harness.loop().AdvanceTime(kPacing / 2);
  }
  EXPECT_EQ(DeviceEvents(harness.link().Take()),
            std::vector<Announcement>{Ready(1)});
}

TEST(AnnounceTest, ProbeOfTheAnnouncedDeviceBringsTheNextEvent) {
  BusHarness harness;
  harness.Enumerate();
  for (uint32_t slot = 0; slot < 3; ++slot) harness.PlugDummy(slot, kInstant);
  harness.RunFor({});
  // Another message, and a probe of another device, are no reaction.
  EXPECT_TRUE(DeviceEvents(harness.Send(PingRequest(1))).empty());
  EXPECT_TRUE(DeviceEvents(harness.Send(GetStatusRequest(0))).empty());
  EXPECT_EQ(DeviceEvents(harness.Send(GetDeviceInfoRequest(0))),
            std::vector<Announcement>{Ready(1)});
}

TEST(AnnounceTest, TearDownOfTheRemovedDeviceBringsTheNextEvent) {
  BusHarness harness;
  harness.PlugDummy(1, kInstant);
  harness.PlugDummy(2, kInstant);
  harness.Enumerate();
  harness.Start(1);
  harness.Start(2);
  EXPECT_OK(harness.bus().Unplug(1, {}, [] {}));
  EXPECT_OK(harness.bus().Unplug(2, {}, [] {}));
  EXPECT_EQ(DeviceEvents(harness.RunFor({})),
            std::vector<Announcement>{Removed(1)});
  EXPECT_TRUE(DeviceEvents(harness.Send(SetStatusRequest(1, 15))).empty());
  EXPECT_EQ(DeviceEvents(harness.Send(SetStatusRequest(1, 0))),
            std::vector<Announcement>{Removed(2)});
}

// A driver resets a device at the start of a probe as well.
TEST(AnnounceTest, ResetByAProbeIsNoReactionToRemoved) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  harness.PlugDummy(1, kInstant);
  harness.PlugDummy(2, kInstant);
  harness.Enumerate();
  harness.Ask(SetStatusRequest(1, 1));
  EXPECT_OK(harness.bus().Unplug(1, {}, [] {}));
  EXPECT_OK(harness.bus().Unplug(2, {}, [] {}));
  EXPECT_EQ(DeviceEvents(harness.RunFor({})),
            std::vector<Announcement>{Removed(1)});
  EXPECT_TRUE(DeviceEvents(harness.Send(SetStatusRequest(1, 0))).empty());
  EXPECT_EQ(DeviceEvents(harness.RunFor(kPacing)),
            std::vector<Announcement>{Removed(2)});
}

// Nor is a probe that an enumeration may have led to a reaction to READY.
TEST(AnnounceTest, ProbeAfterAnEnumerationIsNoReactionToReady) {
  BusHarness harness;
  harness.Enumerate();
  harness.PlugDummy(1, kInstant);
  EXPECT_EQ(DeviceEvents(harness.RunFor({})),
            std::vector<Announcement>{Ready(1)});
  harness.Enumerate();
  harness.PlugDummy(2, kInstant);
  EXPECT_TRUE(DeviceEvents(harness.Send(GetDeviceInfoRequest(1))).empty());
  EXPECT_EQ(DeviceEvents(harness.RunFor(kPacing)),
            std::vector<Announcement>{Ready(2)});
}

TEST(AnnounceTest, ReactionToADeviceThatHasGoneAgainCounts) {
  BusHarness harness;
  harness.Enumerate();
  harness.PlugDummy(1, kInstant);
  harness.RunFor({});
  EXPECT_OK(harness.bus().Unplug(1, {}, [] {}));
  EXPECT_TRUE(harness.RunFor({}).empty());
  EXPECT_EQ(DeviceEvents(harness.Send(GetDeviceInfoRequest(1))),
            std::vector<Announcement>{Removed(1)});
}

TEST(AnnounceTest, EventWithoutRoomIsSentWhenThereIsSome) {
  BusHarness harness;
  harness.Enumerate();
  harness.link().set_room(0);
  harness.PlugDummy(1, kInstant);
  harness.RunFor(seconds(1));
  EXPECT_EQ(harness.bus().status(1).state, SlotState::kPendingAnnounce);
  harness.link().set_room(1);
  harness.link().Service();
  EXPECT_EQ(DeviceEvents(harness.link().Take()),
            std::vector<Announcement>{Ready(1)});
}

}  // namespace
}  // namespace vmsg::msg
