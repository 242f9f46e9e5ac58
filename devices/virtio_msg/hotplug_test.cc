// Plug and Unplug, and what driver and operator see of them. Source:
// amp-pci-device, 4; virtio-msg-messages, 5.3. Pacing is in announce_test.cc.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/features.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::msg {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using virtio::DummyDevice;
using virtio::DummyOptions;
using virtio::FakeDriverQueue;
using vmm::StatusIs;

constexpr uint16_t kDev = 5;
constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};
constexpr UnplugOptions kGraceful = {.deadline = seconds(10),
                                     .fail_deadline = seconds(5)};
constexpr UnplugOptions kForced = {.forced = true, .fail_deadline = seconds(5)};

// A bus whose driver has enumerated it.
class HotplugTest : public testing::Test {
 protected:
  HotplugTest() { harness_.Enumerate(); }

  absl::Status Unplug(const UnplugOptions& options, uint32_t slot = kDev) {
    return harness_.bus().Unplug(slot, options, [this] { ++gone_; });
  }
  SlotState state(uint32_t slot = kDev) {
    return harness_.bus().status(slot).state;
  }
  static bool IsDeviceEvent(const Received& m, uint16_t dev, uint16_t what) {
    return m.is_device_event() && m.u16(0) == dev && m.u16(2) == what;
  }
  static size_t CountEvents(const std::vector<Received>& all, uint16_t dev,
                            uint16_t what) {
    return static_cast<size_t>(std::count_if(
        all.begin(), all.end(),
        [&](const Received& m) { return IsDeviceEvent(m, dev, what); }));
  }
  bool Listed(uint32_t slot) {
    return (harness_.Ask(GetDevicesRequest(0, 32)).u32(6) >> slot & 1) != 0;
  }

  BusHarness harness_;
  int gone_ = 0;
};

constexpr uint16_t kReady = 1;
constexpr uint16_t kRemoved = 2;

// --- Plug. ---

TEST_F(HotplugTest, PluggedDeviceIsAnnounced) {
  harness_.PlugDummy(kDev);
  EXPECT_EQ(state(), SlotState::kPendingAnnounce);
  const std::vector<Received> got = harness_.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].bytes(), Hex("02 40 00 00 00 00 0c 00 05 00 01 00"));
  EXPECT_EQ(state(), SlotState::kPresent);
  EXPECT_TRUE(Listed(kDev));
}

// A driver that has shown nothing of itself may not be there at all; it finds
// the device when it enumerates.
TEST(HotplugBeforeDriverTest, NothingIsAnnouncedBeforeTheDriverShowsItself) {
  BusHarness harness;
  harness.PlugDummy(1);
  harness.PlugDummy(2);
  EXPECT_TRUE(harness.RunFor(seconds(10)).empty());
  EXPECT_EQ(harness.bus().status(1).state, SlotState::kPendingAnnounce);
  const std::vector<Received> got = harness.Send(GetDevicesRequest(0, 32));
  ASSERT_EQ(got.size(), 1u);  // and no READY for what it shows
  EXPECT_EQ(got[0].u32(6), 6u);
  EXPECT_EQ(harness.bus().status(1).state, SlotState::kPresent);
  EXPECT_TRUE(harness.RunFor(seconds(10)).empty());
}

TEST(HotplugBeforeDriverTest, DriverThatAsksForInfoOnlyIsToldOfTheOthers) {
  BusHarness harness;
  harness.PlugDummy(1);
  harness.PlugDummy(2);
  const std::vector<Received> got = harness.Send(GetDeviceInfoRequest(1));
  ASSERT_EQ(got.size(), 2u);
  EXPECT_TRUE(got[0].is_response());
  EXPECT_TRUE(got[1].is_device_event());
  EXPECT_EQ(got[1].u16(0), 2);
}

TEST_F(HotplugTest, TakenSlotIsRefused) {
  DummyDevice* const first = harness_.PlugDummy(kDev, {.device_id = 1});
  EXPECT_THAT(harness_.bus().Plug(kDev, 99,
                                  std::make_unique<DummyDevice>(
                                      DummyOptions{}, &harness_.loop())),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(first->state(), DummyDevice::State::kInactive);
  EXPECT_EQ(harness_.Ask(GetDeviceInfoRequest(kDev)).u32(0), 1u);
}

TEST_F(HotplugTest, SlotThatDoesNotExistIsRefused) {
  EXPECT_THAT(harness_.bus().Plug(32, 99,
                                  std::make_unique<DummyDevice>(
                                      DummyOptions{}, &harness_.loop())),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(Unplug(kGraceful, 32), StatusIs(absl::StatusCode::kNotFound));
}

// --- Unplug: refusals. ---

TEST_F(HotplugTest, EmptySlotHasNothingToUnplug) {
  EXPECT_THAT(Unplug(kGraceful), StatusIs(absl::StatusCode::kNotFound));
  harness_.RunFor(seconds(1));
  EXPECT_EQ(gone_, 0);
}

TEST_F(HotplugTest, SecondUnplugIsRefusedUnlessItForces) {
  harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev);
  EXPECT_OK(Unplug(kGraceful));
  EXPECT_THAT(Unplug(kGraceful),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_OK(Unplug(kForced));
  EXPECT_THAT(Unplug(kForced), StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(gone_, 0);
  harness_.RunFor(seconds(5));
  EXPECT_EQ(gone_, 2);  // of the two that were accepted
  EXPECT_EQ(state(), SlotState::kEmpty);
}

// --- Unplug: a device that no driver uses. ---

TEST_F(HotplugTest, UnusedDeviceGoesAtOnce) {
  harness_.PlugDummy(kDev, kInstant);
  harness_.RunFor({});
  EXPECT_OK(Unplug(kGraceful));
  EXPECT_EQ(gone_, 0);  // never inside the call
  EXPECT_EQ(state(), SlotState::kRemoving);
  harness_.RunFor({});
  EXPECT_EQ(gone_, 1);
  EXPECT_EQ(state(), SlotState::kEmpty);
  EXPECT_FALSE(Listed(kDev));
}

// REMOVED is owed exactly when the driver may know the device.
TEST_F(HotplugTest, DeviceThatTheDriverNeverMetLeavesInSilence) {
  harness_.link().set_room(0);
  harness_.PlugDummy(kDev, kInstant);
  harness_.RunFor({});
  EXPECT_OK(Unplug(kGraceful));
  harness_.RunFor({});
  EXPECT_EQ(gone_, 1);
  harness_.link().set_room(100);
  harness_.link().Service();
  EXPECT_TRUE(harness_.RunFor(seconds(1)).empty());
}

TEST_F(HotplugTest, RemovedIsOwedOnceReadyWasSent) {
  harness_.PlugDummy(kDev, kInstant);
  EXPECT_EQ(CountEvents(harness_.RunFor({}), kDev, kReady), 1u);
  EXPECT_OK(Unplug(kGraceful));
  EXPECT_EQ(CountEvents(harness_.RunFor(seconds(1)), kDev, kRemoved), 1u);
}

TEST_F(HotplugTest, RemovedIsOwedOnceTheBitWasShown) {
  harness_.link().set_room(0);
  harness_.PlugDummy(kDev, kInstant);
  harness_.Send(GetDevicesRequest(0, 32));  // owed: there is no room
  EXPECT_EQ(state(), SlotState::kPresent);
  EXPECT_OK(Unplug(kGraceful));
  harness_.link().set_room(100);
  harness_.link().Service();
  const std::vector<Received> got = harness_.RunFor(seconds(1));
  ASSERT_EQ(got.size(), 2u);
  EXPECT_TRUE(got[0].is_response());
  EXPECT_EQ(CountEvents(got, kDev, kRemoved), 1u);
}

TEST_F(HotplugTest, WindowThatLeavesTheSlotOutShowsNothing) {
  harness_.link().set_room(0);
  harness_.PlugDummy(kDev, kInstant);
  harness_.Send(GetDevicesRequest(8, 24));
  EXPECT_EQ(state(), SlotState::kPendingAnnounce);
}

TEST_F(HotplugTest, RemovedIsOwedOnceInfoWasAnswered) {
  harness_.link().set_room(0);
  harness_.PlugDummy(kDev, kInstant);
  harness_.Send(GetDeviceInfoRequest(kDev));
  EXPECT_EQ(state(), SlotState::kPresent);
  EXPECT_OK(Unplug(kGraceful));
  harness_.link().set_room(100);
  harness_.link().Service();
  EXPECT_EQ(CountEvents(harness_.RunFor(seconds(1)), kDev, kRemoved), 1u);
}

TEST_F(HotplugTest, RemovedIsOwedOnceADriverWroteItsStatus) {
  harness_.DriverBreaks("DRV-INIT-1");
  harness_.link().set_room(0);
  harness_.PlugDummy(kDev, kInstant);
  harness_.Send(SetStatusRequest(kDev, 1));
  EXPECT_EQ(state(), SlotState::kPresent);
  EXPECT_OK(Unplug(kGraceful));
  harness_.link().set_room(100);
  harness_.link().Service();
  EXPECT_EQ(CountEvents(harness_.RunFor(seconds(1)), kDev, kRemoved), 1u);
}

TEST_F(HotplugTest, ProbeAfterTheRemovalFindsNoDevice) {
  harness_.DriverBreaks("DRV-HDR-5");
  harness_.PlugDummy(kDev, kInstant);
  harness_.RunFor({});
  EXPECT_OK(Unplug(kGraceful));
  EXPECT_EQ(harness_.Ask(GetDeviceInfoRequest(kDev)).u32(0), 0u);
  EXPECT_EQ(harness_.Ask(SetStatusRequest(kDev, 1)).u32(0), 0u);
}

// --- Unplug: graceful. ---

TEST_F(HotplugTest, GracefulRemovalServesUntilStatusZero) {
  harness_.DriverBreaks("DRV-RVQ-1");
  harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev);
  FakeDriverQueue queue(&harness_.memory(),
                        BusHarness::QueuePlace(kDev, 0).desc, 8);
  const std::array<FakeDriverQueue::Buffer, 2> echo = {
      FakeDriverQueue::Buffer{{0x80000}, 4, false},
      FakeDriverQueue::Buffer{{0x81000}, 4, true}};

  EXPECT_OK(Unplug(kGraceful));
  EXPECT_EQ(CountEvents(harness_.RunFor({}), kDev, kRemoved), 1u);
  EXPECT_FALSE(Listed(kDev));
  EXPECT_EQ(harness_.Status(kDev), 15u);
  ASSERT_TRUE(queue.Add(echo).has_value());
  harness_.Send(AvailEvent(kDev, 0));
  const std::optional<FakeDriverQueue::Used> used = queue.TakeUsed();
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->length, 4u);  // served, not failed
  EXPECT_EQ(gone_, 0);
  EXPECT_EQ(state(), SlotState::kRemoving);

  EXPECT_EQ(harness_.Ask(SetStatusRequest(kDev, 0)).u32(0), 0u);
  harness_.RunFor({});
  EXPECT_EQ(gone_, 1);
  EXPECT_EQ(state(), SlotState::kEmpty);
  EXPECT_EQ(harness_.Ask(ResetVqueueRequest(kDev, 0)).msg_size(), 8);
}

TEST_F(HotplugTest, GracefulRemovalFailsRequestsAfterItsDeadline) {
  DummyDevice* const device = harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev);
  EXPECT_OK(Unplug(kGraceful));
  harness_.RunFor(kGraceful.deadline - milliseconds(1));
  EXPECT_FALSE(device->failing());
  harness_.RunFor(milliseconds(1));
  EXPECT_TRUE(device->failing());
  EXPECT_EQ(gone_, 0);
  harness_.RunFor(kGraceful.fail_deadline - milliseconds(1));
  EXPECT_EQ(gone_, 0);
  harness_.RunFor(milliseconds(1));
  EXPECT_EQ(gone_, 1);
}

TEST_F(HotplugTest, StatusZeroEndsTheFailPhaseEarly) {
  harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev);
  EXPECT_OK(Unplug(kGraceful));
  harness_.RunFor(kGraceful.deadline);
  harness_.Send(SetStatusRequest(kDev, 0));
  EXPECT_EQ(gone_, 1);
}

// --- Unplug: forced. ---

TEST_F(HotplugTest, ForcedRemovalFailsOldAndNewRequests) {
  DummyDevice* const device = harness_.PlugDummy(
      kDev, {.max_work_delay = seconds(100), .max_transition_delay = {}});
  harness_.Start(kDev);
  FakeDriverQueue queue(&harness_.memory(),
                        BusHarness::QueuePlace(kDev, 0).desc, 8);
  const std::array<FakeDriverQueue::Buffer, 1> buffers = {
      FakeDriverQueue::Buffer{{0x81000}, 4, true}};
  ASSERT_TRUE(queue.Add(buffers).has_value());
  harness_.Send(AvailEvent(kDev, 0));
  EXPECT_FALSE(queue.TakeUsed().has_value());  // in the back end

  EXPECT_OK(Unplug(kForced));
  EXPECT_TRUE(device->failing());
  const std::vector<Received> got = harness_.RunFor({});
  EXPECT_EQ(CountEvents(got, kDev, kRemoved), 1u);
  EXPECT_EQ(std::count_if(got.begin(), got.end(),
                          [](const Received& m) { return m.is_used_event(); }),
            1);
  std::optional<FakeDriverQueue::Used> used = queue.TakeUsed();
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->length, 0u);

  ASSERT_TRUE(queue.Add(buffers).has_value());
  harness_.Send(AvailEvent(kDev, 0));
  used = queue.TakeUsed();
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->length, 0u);

  harness_.RunFor(kForced.fail_deadline);
  EXPECT_EQ(gone_, 1);
}

// A driver that is about to start the device gets it, failing: no request of
// it may hang.
TEST_F(HotplugTest, DeviceActivatedDuringAForcedRemovalFailsItsRequests) {
  harness_.DriverBreaks("DRV-INIT-3 DRV-VQ-1");
  DummyDevice* const device = harness_.PlugDummy(kDev, kInstant);
  harness_.Negotiate(kDev);
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 0));
  FakeDriverQueue queue(&harness_.memory(),
                        BusHarness::QueuePlace(kDev, 0).desc, 8);
  const std::array<FakeDriverQueue::Buffer, 1> buffers = {
      FakeDriverQueue::Buffer{{0x81000}, 4, true}};
  ASSERT_TRUE(queue.Add(buffers).has_value());
  EXPECT_OK(Unplug(kForced));
  EXPECT_FALSE(device->failing());  // there is nothing to fail yet
  EXPECT_EQ(harness_.Ask(SetStatusRequest(kDev, 15)).u32(0), 15u);
  EXPECT_TRUE(device->failing());
  EXPECT_TRUE(queue.TakeUsed().has_value());
  // A further queue would start with nobody to serve it.
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 1));
  EXPECT_EQ(harness_.Ask(GetVqueueRequest(kDev, 1)).u32(8), 0u);
}

TEST_F(HotplugTest, HungDeviceGoesAtTheSecondDeadline) {
  DummyDevice* const device = harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev);
  device->HoldTransitions(true);
  EXPECT_TRUE(
      harness_.Send({SetStatusRequest(kDev, 0, 7), GetStatusRequest(kDev, 8)})
          .empty());
  EXPECT_OK(Unplug(kForced));
  EXPECT_EQ(CountEvents(harness_.RunFor({}), kDev, kRemoved), 1u);
  // What it still owes is answered as for an empty slot, in order.
  const std::vector<Received> got = harness_.RunFor(kForced.fail_deadline);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].token(), 7);
  EXPECT_EQ(got[0].u32(0), 0u);
  EXPECT_EQ(got[1].token(), 8);
  EXPECT_EQ(got[1].u32(0), 0u);
  EXPECT_EQ(gone_, 0);  // its back end still hangs
  device->HoldTransitions(false);
  harness_.RunFor({});
  EXPECT_EQ(gone_, 1);
}

// --- Reuse of a slot. ---

TEST_F(HotplugTest, SlotIsNotFreeUntilTheDeviceIsGone) {
  DummyDevice* const device = harness_.PlugDummy(kDev, kInstant);
  harness_.RunFor({});
  device->HoldTransitions(true);
  EXPECT_OK(Unplug(kForced));
  harness_.RunFor(seconds(60));
  EXPECT_EQ(state(), SlotState::kRemoving);
  EXPECT_THAT(harness_.bus().Plug(kDev, 99,
                                  std::make_unique<DummyDevice>(
                                      DummyOptions{}, &harness_.loop())),
              StatusIs(absl::StatusCode::kAlreadyExists));
  device->HoldTransitions(false);
  harness_.RunFor({});
  EXPECT_EQ(state(), SlotState::kEmpty);
  harness_.PlugDummy(kDev);
}

TEST_F(HotplugTest, NewDeviceHasItsOwnGenerationAndNothingOfTheOld) {
  DummyDevice* const old = harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev, 2);
  old->Break("old");
  const uint64_t generation = harness_.bus().status(kDev).generation;
  EXPECT_OK(Unplug(kForced));
  harness_.RunFor(seconds(5));
  ASSERT_EQ(gone_, 1);
  harness_.PlugDummy(kDev, {.device_id = 55});
  const SlotStatus status = harness_.bus().status(kDev);
  EXPECT_GT(status.generation, generation);
  EXPECT_EQ(status.driver_status, 0u);
  EXPECT_EQ(status.resets, 0u);
  EXPECT_EQ(status.health, SlotHealth::kOk);
  EXPECT_EQ(harness_.Ask(GetVqueueRequest(kDev, 0)).u32(8), 0u);
}

// A REMOVED that has not been sent yet must not hit the new device: until then
// the driver sees an empty slot.
TEST_F(HotplugTest, NewDeviceIsHiddenUntilRemovedOfTheOldWasSent) {
  harness_.DriverBreaks("DRV-HDR-5");
  harness_.PlugDummy(kDev, kInstant);
  harness_.Ask(GetDeviceInfoRequest(kDev));
  harness_.PlugDummy(6, kInstant);
  EXPECT_EQ(CountEvents(harness_.RunFor({}), 6, kReady), 1u);
  EXPECT_OK(Unplug(kGraceful));
  EXPECT_TRUE(harness_.RunFor({}).empty());  // held back by the pacing
  ASSERT_EQ(gone_, 1);
  harness_.PlugDummy(kDev, {.device_id = 55});

  EXPECT_EQ(harness_.Ask(GetDeviceInfoRequest(kDev)).u32(0), 0u);
  EXPECT_EQ(harness_.Ask(SetStatusRequest(kDev, 1)).u32(0), 0u);
  EXPECT_FALSE(Listed(kDev));
  EXPECT_EQ(state(), SlotState::kPendingAnnounce);

  EXPECT_EQ(CountEvents(harness_.RunFor(milliseconds(100)), kDev, kRemoved),
            1u);
  // What the driver does about the old device does not reach the new one.
  EXPECT_EQ(harness_.Ask(GetDeviceInfoRequest(kDev)).u32(0), 0u);
  EXPECT_EQ(CountEvents(harness_.RunFor(milliseconds(100)), kDev, kReady), 1u);
  EXPECT_EQ(harness_.Ask(GetDeviceInfoRequest(kDev)).u32(0), 55u);
  EXPECT_TRUE(Listed(kDev));
}

// The driver finds the number listed while it still holds the old device, and
// tears that down later: only a READY makes it look again.
TEST_F(HotplugTest, ReadyOfAReusedSlotIsSentEvenIfItWasListed) {
  harness_.PlugDummy(kDev, kInstant);
  harness_.Ask(GetDeviceInfoRequest(kDev));
  EXPECT_OK(Unplug(kGraceful));
  EXPECT_EQ(CountEvents(harness_.RunFor({}), kDev, kRemoved), 1u);
  harness_.RunFor(milliseconds(100));
  harness_.link().set_room(0);
  harness_.PlugDummy(kDev, kInstant);
  harness_.Send(GetDevicesRequest(0, 32));
  EXPECT_EQ(state(), SlotState::kPresent);
  harness_.link().set_room(100);
  harness_.link().Service();
  EXPECT_EQ(CountEvents(harness_.RunFor({}), kDev, kReady), 1u);
}

// One that leaves again before anybody could see it owes nothing of its own.
TEST_F(HotplugTest, HiddenDeviceThatLeavesIsNotAnnounced) {
  harness_.PlugDummy(kDev, kInstant);
  harness_.Ask(GetDeviceInfoRequest(kDev));
  harness_.PlugDummy(6, kInstant);
  harness_.RunFor({});
  EXPECT_OK(Unplug(kGraceful));
  harness_.RunFor({});
  harness_.PlugDummy(kDev, kInstant);
  EXPECT_OK(Unplug(kGraceful));
  const std::vector<Received> got = harness_.RunFor(seconds(1));
  EXPECT_EQ(gone_, 2);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(IsDeviceEvent(got[0], kDev, kRemoved));
}

// --- The observer. ---

TEST_F(HotplugTest, ObserverHearsOfEveryChangeAfterIt) {
  std::vector<std::pair<SlotState, uint32_t>> seen;
  bool inside = false;
  harness_.bus().SetObserver([&](uint32_t slot) {
    EXPECT_EQ(slot, kDev);
    EXPECT_FALSE(inside);
    const SlotStatus status = harness_.bus().status(slot);
    const std::pair<SlotState, uint32_t> now = {status.state,
                                                status.driver_status};
    if (seen.empty() || seen.back() != now) seen.push_back(now);
  });
  inside = true;
  harness_.PlugDummy(kDev, kInstant);
  inside = false;
  harness_.RunFor({});
  harness_.Start(kDev);
  inside = true;
  EXPECT_OK(Unplug(kGraceful));
  inside = false;
  harness_.RunFor({});
  harness_.Ask(SetStatusRequest(kDev, 0));
  harness_.RunFor({});
  const std::vector<std::pair<SlotState, uint32_t>> want = {
      {SlotState::kPendingAnnounce, 0},
      {SlotState::kPresent, 0},
      {SlotState::kPresent, 1},
      {SlotState::kPresent, 3},
      {SlotState::kPresent, 11},
      {SlotState::kPresent, 15},
      {SlotState::kRemoving, 15},
      {SlotState::kRemoving, 0},
      {SlotState::kEmpty, 0}};
  EXPECT_EQ(seen, want);
}

TEST_F(HotplugTest, GoneMayPlugTheNextDevice) {
  harness_.PlugDummy(kDev, kInstant);
  harness_.RunFor({});
  EXPECT_OK(harness_.bus().Unplug(kDev, kForced, [this] {
    EXPECT_EQ(state(), SlotState::kEmpty);
    harness_.PlugDummy(kDev, kInstant);
  }));
  harness_.RunFor(seconds(1));
  EXPECT_EQ(state(), SlotState::kPresent);
}

// --- ResetAll: the driver is a new one (function reset, kexec). ---

TEST_F(HotplugTest, ResetAllResetsDevicesAndForgetsTheDriver) {
  DummyDevice* const device = harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev);
  const uint64_t resets = harness_.bus().status(kDev).resets;
  harness_.bus().ResetAll();
  EXPECT_FALSE(harness_.bus().driver_seen());
  harness_.RunFor({});
  EXPECT_EQ(device->state(), DummyDevice::State::kInactive);
  const SlotStatus status = harness_.bus().status(kDev);
  EXPECT_EQ(status.state, SlotState::kPendingAnnounce);
  EXPECT_EQ(status.driver_status, 0u);
  EXPECT_EQ(status.resets, resets + 1);
  harness_.Start(kDev);
}

TEST_F(HotplugTest, ResetAllDropsAnswersRequestsAndEvents) {
  DummyDevice* const device = harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev);
  harness_.link().set_room(0);
  device->ChangeConfig(4, Bytes(1));
  device->Break("test");
  device->HoldTransitions(true);
  harness_.Send({SetStatusRequest(kDev, 0), GetStatusRequest(kDev),
                 GetStatusRequest(kDev), PingRequest(1)});
  EXPECT_FALSE(harness_.bus().CanAccept());
  harness_.bus().ResetAll();
  EXPECT_TRUE(harness_.bus().CanAccept());
  harness_.link().set_room(100);
  device->HoldTransitions(false);
  EXPECT_TRUE(harness_.RunFor(seconds(1)).empty());
  // The new driver finds everything as at the start.
  harness_.Enumerate();
  harness_.Start(kDev);
}

// Requests of the new driver wait for the reset that it does not know of.
TEST_F(HotplugTest, ResetAllDefersTheNewDriversRequestsUntilDevicesAreReset) {
  DummyDevice* const device = harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev);
  device->HoldTransitions(true);
  harness_.bus().ResetAll();
  std::vector<Received> early =
      harness_.Send({GetDeviceInfoRequest(kDev), GetStatusRequest(kDev)});
  ASSERT_EQ(early.size(), 1u);
  EXPECT_TRUE(IsDeviceEvent(early[0], kDev, kReady));
  EXPECT_EQ(harness_.Send(PingRequest(1)).size(), 1u);
  device->HoldTransitions(false);
  const std::vector<Received> got = harness_.RunFor({});
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[1].u32(0), 0u);
}

TEST_F(HotplugTest, ResetAllReleasesWhatIsBeingRemoved) {
  harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev);
  EXPECT_OK(Unplug(kGraceful));
  harness_.link().set_room(0);
  harness_.bus().ResetAll();
  harness_.RunFor({});
  EXPECT_EQ(gone_, 1);
  EXPECT_EQ(state(), SlotState::kEmpty);
  // Nothing is owed to the new driver.
  harness_.link().set_room(100);
  EXPECT_EQ(harness_.Send(GetDevicesRequest(0, 32)).size(), 1u);
  EXPECT_TRUE(harness_.RunFor(seconds(1)).empty());
}

TEST_F(HotplugTest, ResetAllDuringAResetNeedsNoSecondOne) {
  DummyDevice* const device = harness_.PlugDummy(kDev, kInstant);
  harness_.Start(kDev);
  device->HoldTransitions(true);
  harness_.Send(SetStatusRequest(kDev, 0));
  const uint64_t begun = device->stats().resets;
  harness_.bus().ResetAll();
  harness_.bus().ResetAll();
  EXPECT_EQ(device->stats().resets, begun);
  device->HoldTransitions(false);
  EXPECT_TRUE(harness_.RunFor({}).empty());  // its asker is gone
  harness_.Start(kDev);
}

TEST_F(HotplugTest, ResetAllOvertakesAnActivation) {
  DummyDevice* const device = harness_.PlugDummy(kDev, kInstant);
  harness_.Negotiate(kDev);
  device->HoldTransitions(true);
  harness_.Send(SetStatusRequest(kDev, 15));
  harness_.bus().ResetAll();
  device->HoldTransitions(false);
  EXPECT_TRUE(harness_.RunFor({}).empty());
  EXPECT_EQ(harness_.bus().status(kDev).driver_status, 0u);
  EXPECT_EQ(device->stats().activations, 0u);
}

TEST_F(HotplugTest, ResetAllAnnouncesToTheNewDriverAgain) {
  harness_.PlugDummy(kDev, kInstant);
  harness_.PlugDummy(6, kInstant);
  harness_.RunFor(seconds(1));
  harness_.bus().ResetAll();
  EXPECT_TRUE(harness_.RunFor(seconds(1)).empty());
  harness_.Send(PingRequest(1));  // a driver that does not enumerate
  std::vector<Received> got = harness_.RunFor(seconds(1));
  EXPECT_EQ(CountEvents(got, 6, kReady), 1u);
}

}  // namespace
}  // namespace vmsg::msg
