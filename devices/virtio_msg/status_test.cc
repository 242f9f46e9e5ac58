// The status field and the life of a device behind it, over the wire.
// Sources: virtio 1.2, 2.1 and 3.1.1; virtio-msg-messages, 4.7, 6.6 and 6.7.

#include "absl/status/status.h"

#include <cstdint>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"
#include "vmm/base/guest_address.h"

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;
using virtio::DummyOptions;

constexpr uint16_t kDev = 5;
constexpr uint32_t kAck = 1;
constexpr uint32_t kDriver = 2;
constexpr uint32_t kDriverOk = 4;
constexpr uint32_t kFeaturesOk = 8;
constexpr uint32_t kNeedsReset = 64;
constexpr uint32_t kFailed = 128;

uint32_t Write(BusHarness* harness, uint32_t status) {
  return harness->Ask(SetStatusRequest(kDev, status)).u32(0);
}

TEST(StatusTest, WalksToDriverOk) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1");
  DummyDevice* const device = harness.PlugDummy(kDev);
  EXPECT_EQ(harness.Status(kDev), 0u);
  EXPECT_EQ(Write(&harness, 1), 1u);
  EXPECT_EQ(Write(&harness, 3), 3u);
  harness.Ask(SetDriverFeaturesRequest(kDev, 1, {1}));
  EXPECT_EQ(Write(&harness, 11), 11u);
  EXPECT_EQ(device->state(), DummyDevice::State::kInactive);
  EXPECT_EQ(Write(&harness, 15), 15u);
  EXPECT_EQ(device->state(), DummyDevice::State::kActive);
  EXPECT_EQ(harness.Status(kDev), 15u);
  EXPECT_EQ(harness.bus().status(kDev).driver_status, 15u);
}

// virtio 1.2, 2.1.1: the driver doesn't clear bits; only a reset does.
TEST(StatusTest, BitsAreNotClearedByAWriteWithoutThem) {
  BusHarness harness;
  harness.DriverBreaks("DRV-STATUS-2");
  harness.PlugDummy(kDev);
  harness.Start(kDev);
  EXPECT_EQ(Write(&harness, kAck), 15u);
  EXPECT_EQ(Write(&harness, kDriverOk), 15u);
}

// O-32.
TEST(StatusTest, BitsEightToThirtyOneAreIgnored) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-STATUS-2 DRV-STATUS-3");
  harness.PlugDummy(kDev);
  EXPECT_EQ(Write(&harness, 0xFFFFFF00 | kAck), kAck);
  EXPECT_EQ(Write(&harness, 0x100), 0u);  // a reset
  EXPECT_EQ(harness.bus().status(kDev).resets, 1u);
}

// What is the device's to set, or nobody's: 16 (virtio 1.4), 32, 64.
TEST(StatusTest, BitsThatAreNotTheDriversAreIgnored) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-STATUS-2");
  harness.PlugDummy(kDev);
  EXPECT_EQ(Write(&harness, 16 | 32 | kNeedsReset), 0u);
  EXPECT_EQ(Write(&harness, kAck | 16 | 32 | kNeedsReset), kAck);
  EXPECT_EQ(harness.bus().status(kDev).resets, 0u);
}

TEST(StatusTest, FeaturesOkNeedsDriver) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1 DRV-STATUS-2");
  harness.PlugDummy(kDev);
  harness.Ask(SetDriverFeaturesRequest(kDev, 1, {1}));
  EXPECT_EQ(Write(&harness, kAck | kFeaturesOk), kAck);
  EXPECT_EQ(Write(&harness, kAck | kDriver | kFeaturesOk), 11u);
}

// O-10: always cleared on refusal; the driver may try another set.
TEST(StatusTest, FeaturesOkIsRefusedForASetTheDeviceCanNotWorkWith) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1");
  harness.PlugDummy(kDev, {.offered = {28, 32}, .required = {28, 32}});
  Write(&harness, 3);
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {0, 1}));
  EXPECT_EQ(Write(&harness, 11), 3u);
  EXPECT_EQ(harness.Status(kDev), 3u);
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {1u << 28, 1}));
  EXPECT_EQ(Write(&harness, 11), 11u);
}

// virtio 1.2, 6: a device may refuse a driver without VIRTIO_F_VERSION_1, and
// the legacy interface has no messages.
TEST(StatusTest, FeaturesOkIsRefusedWithoutVersion1) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1");
  harness.PlugDummy(kDev, {.required = {}});
  Write(&harness, 3);
  EXPECT_EQ(Write(&harness, 11), 3u);
  harness.Ask(SetDriverFeaturesRequest(kDev, 1, {1}));
  EXPECT_EQ(Write(&harness, 11), 11u);
}

TEST(StatusTest, DriverOkNeedsFeaturesOk) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1 DRV-FEAT-3 DRV-FINAL-1");
  DummyDevice* const device = harness.PlugDummy(kDev);
  EXPECT_EQ(Write(&harness, kAck | kDriver | kDriverOk), 3u);
  EXPECT_EQ(Write(&harness, 15), 3u);  // VERSION_1 is missing
  EXPECT_EQ(device->stats().activations, 0u);
  harness.Ask(SetDriverFeaturesRequest(kDev, 1, {1}));
  EXPECT_EQ(Write(&harness, 15), 15u);
  EXPECT_EQ(device->stats().activations, 1u);
}

TEST(StatusTest, DriverOkIsActedOnOnce) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Start(kDev);
  EXPECT_EQ(Write(&harness, 15), 15u);
  EXPECT_EQ(device->stats().activations, 1u);
}

TEST(StatusTest, DriverThatFailedCanNotGoOn) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Negotiate(kDev);
  EXPECT_EQ(Write(&harness, 11 | kFailed), 11 | kFailed);
  EXPECT_EQ(Write(&harness, 15 | kFailed), 11 | kFailed);
  EXPECT_EQ(device->stats().activations, 0u);
  EXPECT_EQ(Write(&harness, 0), 0u);
}

// virtio 1.2, 2.1.2: only a reset clears it.
TEST(StatusTest, NeedsResetStaysUntilTheReset) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Start(kDev);
  device->Break("test");
  EXPECT_EQ(Write(&harness, 15), 15 | kNeedsReset);
  EXPECT_EQ(harness.Status(kDev), 15 | kNeedsReset);
  EXPECT_EQ(Write(&harness, 0), 0u);
  harness.Start(kDev);
  EXPECT_EQ(harness.Status(kDev), 15u);
}

// --- Activation. ---

// An activation that fails is the device's own change of status (O-28).
TEST(ActivationTest, FailureAnswersNeedsResetAndSendsEventConfig) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-3 DRV-VQ-1");
  DummyDevice* const device =
      harness.PlugDummy(kDev, {.max_transition_delay = {}});
  harness.Negotiate(kDev);
  harness.Ask(BusHarness::SetVqueueFor(kDev, 0));
  device->FailNextActivation(absl::UnavailableError("no back end"));
  const std::vector<Received> got = harness.Send(SetStatusRequest(kDev, 15));
  ASSERT_EQ(got.size(), 2u);
  EXPECT_TRUE(got[0].is_response());
  EXPECT_EQ(got[0].u32(0), 11 | kNeedsReset);
  EXPECT_TRUE(got[1].is_config_event());
  EXPECT_EQ(got[1].u32(0), 11 | kNeedsReset);
  EXPECT_EQ(harness.bus().status(kDev).health_reason,
            "activation: no back end");
  EXPECT_EQ(Write(&harness, 15), 11 | kNeedsReset);
  harness.Start(kDev);
  EXPECT_EQ(device->stats().activations, 1u);
}

TEST(ActivationTest, QueueWhoseMemoryHasGoneNeedsAReset) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-3 DRV-VQ-1");
  harness.PlugDummy(kDev, {.max_transition_delay = {}});
  harness.Negotiate(kDev);
  harness.Ask(BusHarness::SetVqueueFor(kDev, 0));
  ASSERT_TRUE(harness.memory()
                  .Remove({vmm::GuestAddress{0}, BusHarness::kMemoryBytes})
                  .ok());
  EXPECT_EQ(Write(&harness, 15), 11 | kNeedsReset);
  EXPECT_EQ(harness.bus().status(kDev).health, SlotHealth::kNeedsReset);
}

// virtio-msg-messages, 4.7: the answer tells the true state, so it comes when
// the device works.
TEST(ActivationTest, AnswerComesWhenTheDeviceWorks) {
  BusHarness harness;
  DummyDevice* const device =
      harness.PlugDummy(kDev, {.max_transition_delay = {}});
  harness.Negotiate(kDev);
  device->HoldTransitions(true);
  EXPECT_TRUE(harness.Send(SetStatusRequest(kDev, 15)).empty());
  EXPECT_EQ(harness.bus().status(kDev).driver_status, 11u);
  device->HoldTransitions(false);
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].u32(0), 15u);
}

// --- Reset: virtio-msg-messages, 6.7, O-27. ---

TEST(ResetTest, AnswerComesWhenTheResetIsComplete) {
  BusHarness harness;
  DummyDevice* const device =
      harness.PlugDummy(kDev, {.max_transition_delay = {}});
  harness.Start(kDev);
  device->HoldTransitions(true);
  EXPECT_TRUE(harness.Send(SetStatusRequest(kDev, 0)).empty());
  EXPECT_EQ(device->state(), DummyDevice::State::kResetting);
  device->HoldTransitions(false);
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].u32(0), 0u);
  EXPECT_EQ(harness.bus().status(kDev).resets, 2u);  // one by Start()
}

TEST(ResetTest, ForgetsFeaturesAndQueues) {
  BusHarness harness;
  harness.PlugDummy(kDev);
  harness.Start(kDev, 2);
  Write(&harness, 0);
  const Received queue = harness.Ask(GetVqueueRequest(kDev, 1));
  EXPECT_EQ(queue.u32(8), 0u);
  EXPECT_EQ(queue.u64(16), 0u);
  Write(&harness, 3);
  EXPECT_EQ(Write(&harness, 11), 3u);  // VERSION_1 is no longer acknowledged
}

TEST(ResetTest, IsAllowedInEveryState) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1 DRV-STATUS-2 DRV-FINAL-1");
  DummyDevice* const device = harness.PlugDummy(kDev);
  for (const uint32_t status : {1u, 3u, 11u, 15u}) {
    if (status >= 11) harness.Ask(SetDriverFeaturesRequest(kDev, 1, {1}));
    EXPECT_EQ(Write(&harness, status), status);
    EXPECT_EQ(Write(&harness, 0), 0u);
    EXPECT_EQ(device->state(), DummyDevice::State::kInactive);
  }
  EXPECT_EQ(harness.bus().status(kDev).resets, 4u);
}

// A driver that gave up on a hanging activation gets its device back: status 0
// doesn't wait for what it ends.
TEST(ResetTest, OvertakesAnActivationThatHangs) {
  BusHarness harness;
  DummyDevice* const device =
      harness.PlugDummy(kDev, {.max_transition_delay = {}});
  harness.Negotiate(kDev);
  device->HoldTransitions(true);
  EXPECT_TRUE(harness.Send(SetStatusRequest(kDev, 15, 1)).empty());
  EXPECT_EQ(device->state(), DummyDevice::State::kActivating);
  EXPECT_TRUE(harness.Send(GetStatusRequest(kDev, 2)).empty());
  EXPECT_TRUE(harness.Send(SetStatusRequest(kDev, 0, 3)).empty());
  EXPECT_EQ(device->state(), DummyDevice::State::kResetting);
  device->HoldTransitions(false);
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 3u);
  for (uint16_t i = 0; i < 3; ++i) {
    EXPECT_EQ(got[i].token(), i + 1);
    EXPECT_EQ(got[i].u32(0), 0u);
  }
  EXPECT_EQ(device->stats().activations, 0u);
  harness.Start(kDev);
}

}  // namespace
}  // namespace vmsg::msg
