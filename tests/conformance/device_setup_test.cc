// Rows about a device's identity, its features and its status.

#include <chrono>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;
using virtio::DummyOptions;

constexpr uint16_t kDev = 5;
constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};

// --- GET_DEVICE_INFO. ---

TEST(DeviceSetupConformance, DEV_GDI_1_AnswersWhileInactive) {
  BusHarness harness;
  harness.PlugDummy(kDev, {.device_id = 4});
  const std::vector<Received> got = harness.Send(GetDeviceInfoRequest(kDev));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].u32(0), 4u);
}

TEST(DeviceSetupConformance, DEV_GDI_2_InfoAgreesWithTheOtherMessages) {
  BusHarness harness({.vendor_id = 0xBEEF});
  harness.DriverBreaks("DRV-INFO-2 DRV-GDI-1");
  harness.PlugDummy(kDev, {.device_id = 4,
                           .num_queues = 3,
                           .offered = {28, 32, 70},
                           .config_size = 20});
  const Received info = harness.Ask(GetDeviceInfoRequest(kDev));
  EXPECT_EQ(info.u32(0), 4u);
  EXPECT_EQ(info.u32(4), 0xBEEFu);
  EXPECT_EQ(info.u32(8), 96u);
  EXPECT_EQ(harness.Ask(GetDeviceFeaturesRequest(kDev, 2, 1)).u32(8), 1u << 6);
  EXPECT_EQ(harness.Ask(GetDeviceFeaturesRequest(kDev, 3, 1)).u32(8), 0u);
  EXPECT_EQ(info.u32(12), 20u);
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 19, 1)).u32(8), 1u);
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 20, 1)).u32(8), 0u);
  EXPECT_EQ(info.u32(16), 3u);
  EXPECT_NE(harness.Ask(GetVqueueRequest(kDev, 2)).u32(4), 0u);
  EXPECT_EQ(harness.Ask(GetVqueueRequest(kDev, 3)).u32(4), 0u);
  EXPECT_EQ(info.u32(20), 0u);  // no administration queues
  // And they do not change.
  harness.Start(kDev, 1, 1u << 28);
  EXPECT_EQ(harness.Ask(GetDeviceInfoRequest(kDev)).bytes(), info.bytes());
}

// What comes before anything else works; what comes later is not refused on
// that ground (O-22).
TEST(DeviceSetupConformance, FACT_GDI_1_InfoNeedsNoMessageBeforeIt) {
  BusHarness harness;
  harness.PlugDummy(kDev, {.device_id = 4});
  EXPECT_EQ(harness.Ask(GetDeviceInfoRequest(kDev)).u32(0), 4u);
  EXPECT_EQ(harness.Status(kDev), 0u);
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 1)).u32(0), 1u);
}

TEST(DeviceSetupConformance, FACT_GDI_2_FeatureCountIsAMultipleOf32) {
  for (const uint32_t bit : {0u, 33u, 64u, 95u, 96u, 127u}) {
    BusHarness harness;
    harness.PlugDummy(kDev, {.offered = {32, bit}});
    const uint32_t count = harness.Ask(GetDeviceInfoRequest(kDev)).u32(8);
    EXPECT_EQ(count % 32, 0u) << bit;
    EXPECT_GT(count, bit);
    EXPECT_LE(count, 128u);
  }
}

// --- Features. ---

TEST(DeviceSetupConformance, DEV_FEATBLK_1_BlocksPastTheEndAreZero) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  harness.PlugDummy(kDev, {.offered = {0, 31, 32, 63}});
  for (const uint32_t block : {2u, 3u, 4u, 100u, 0xFFFFFFFEu}) {
    const Received got = harness.Ask(GetDeviceFeaturesRequest(kDev, block, 4));
    EXPECT_EQ(got.msg_size(), 32);
    for (size_t i = 0; i < 4; ++i) EXPECT_EQ(got.u32(8 + 4 * i), 0u) << block;
  }
  // A window across the end.
  const Received across = harness.Ask(GetDeviceFeaturesRequest(kDev, 1, 3));
  EXPECT_EQ(across.u32(8), 0x80000001u);
  EXPECT_EQ(across.u32(12), 0u);
  EXPECT_EQ(across.u32(16), 0u);
}

// O-12: what does not fit the message is left out, and num_blocks says so.
TEST(DeviceSetupConformance, FACT_GDF_1_EchoesUnlessTheMessageIsTooSmall) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  harness.PlugDummy(kDev);
  for (const uint32_t blocks : {0u, 1u, 2u, 12u}) {
    const Received got = harness.Ask(GetDeviceFeaturesRequest(kDev, 7, blocks));
    EXPECT_EQ(got.u32(0), 7u);
    EXPECT_EQ(got.u32(4), blocks);
    EXPECT_EQ(got.msg_size(), 16 + 4 * blocks);
  }
  for (const uint32_t blocks : {13u, 0x40000000u, 0xFFFFFFFFu}) {
    const Received got = harness.Ask(GetDeviceFeaturesRequest(kDev, 7, blocks));
    EXPECT_EQ(got.u32(0), 7u);
    EXPECT_EQ(got.u32(4), 12u);
    EXPECT_EQ(got.msg_size(), 64);
  }
}

TEST(DeviceSetupConformance, DEV_FEAT_2_DeviceWorksWithTheAcknowledgedSet) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1");
  DummyDevice* const device =
      harness.PlugDummy(kDev, {.offered = {28, 29, 32}, .required = {28, 32}});
  harness.Ask(SetStatusRequest(kDev, 3));
  // The later write of a block replaces the earlier one, bits taken back
  // included; a block that is not named keeps its bits.
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {1u << 28, 1}));
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {1u << 29}));
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), 3u);
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {1u << 28}));
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), 11u);
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 15)).u32(0), 15u);
  EXPECT_EQ(device->features(), (virtio::Features{28, 32}));
}

TEST(DeviceSetupConformance, DEV_FEAT_3_VerdictIsFeaturesOkInTheAnswer) {
  for (const bool good : {true, false}) {
    BusHarness harness;
    harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1");
    harness.PlugDummy(kDev, {.offered = {32}});
    harness.Ask(SetStatusRequest(kDev, 3));
    harness.Ask(SetDriverFeaturesRequest(kDev, 0, {good ? 0u : 1u, 1}));
    EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), good ? 11u : 3u);
    EXPECT_EQ(harness.Status(kDev), good ? 11u : 3u);
  }
}

// O-9 departs: GET_DEVICE_FEATURES always tells what is offered.
TEST(DeviceSetupConformance, DEV_SDF_2_OfferedSetIsReportedAfterNegotiation) {
  BusHarness harness;
  harness.PlugDummy(kDev, {.offered = {28, 29, 32}});
  harness.Negotiate(kDev, 1u << 28);
  const Received got = harness.Ask(GetDeviceFeaturesRequest(kDev, 0, 2));
  EXPECT_EQ(got.u32(8), 3u << 28);
  EXPECT_EQ(got.u32(12), 1u);
}

TEST(DeviceSetupConformance, DEV_SDF_3_UnsupportedSetLeavesFeaturesOkClear) {
  struct Case {
    uint32_t block;
    uint32_t word;
  };
  for (const Case c : {Case{0, 1}, Case{1, 3}, Case{1, 0}, Case{2, 1},
                       Case{4, 1}, Case{70, 1}, Case{0xFFFFFFFF, 1}}) {
    BusHarness harness;
    // Without VERSION_1 it is refused too.
    harness.DriverBreaks(c.word != 0 ? "DRV-FEAT-2" : "");
    harness.PlugDummy(kDev, {.offered = {28, 32}});
    harness.Ask(GetDeviceInfoRequest(kDev));
    harness.Ask(SetStatusRequest(kDev, 3));
    harness.Ask(GetDeviceFeaturesRequest(kDev, 0, 4));
    harness.Ask(SetDriverFeaturesRequest(kDev, 1, {1}));
    harness.Ask(SetDriverFeaturesRequest(kDev, c.block, {c.word}));
    EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), 3u) << c.block;
  }
}

TEST(DeviceSetupConformance, FACT_SDF_1_AnswerIsTheBareHeader) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1 DRV-STATUS-2");
  harness.PlugDummy(kDev);
  for (const uint32_t word : {1u, 2u}) {  // taken or not
    EXPECT_EQ(harness.Ask(SetDriverFeaturesRequest(kDev, 1, {word})).bytes(),
              Hex("01 04 05 00 34 12 08 00"));
  }
}

// --- Status. ---

TEST(DeviceSetupConformance, DEV_STATUS_1_StatusZeroForgetsTheSetUp) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Start(kDev, 2);
  const uint32_t before = harness.Ask(GetConfigRequest(kDev, 4, 1)).u32(0);
  ASSERT_EQ(harness.Ask(SetConfigRequest(kDev, before, 4, {0x11})).u32(8), 1u);
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 0)).u32(0), 0u);
  EXPECT_EQ(device->state(), DummyDevice::State::kInactive);
  EXPECT_EQ(harness.Status(kDev), 0u);
  for (const uint32_t index : {0u, 1u}) {
    const Received queue = harness.Ask(GetVqueueRequest(kDev, index));
    EXPECT_EQ(queue.u32(8), 0u);
    EXPECT_EQ(queue.u64(16) | queue.u64(24) | queue.u64(32), 0u);
  }
  // What was written to the configuration, and who had seen it can tell.
  const Received config = harness.Ask(GetConfigRequest(kDev, 4, 1));
  EXPECT_EQ(config.u8(12), 0);
  EXPECT_NE(config.u32(0), before);
  // The features, too: without VERSION_1 the next set-up is refused.
  harness.Ask(SetStatusRequest(kDev, 3));
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), 3u);
}

TEST(DeviceSetupConformance, DEV_STATUS_2_ReportsEachStepOfTheStatus) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1 DRV-STATUS-2");
  harness.PlugDummy(kDev);
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {0, 1}));
  for (const uint32_t status : {1u, 3u, 11u, 15u, 143u}) {
    EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, status)).u32(0), status);
    EXPECT_EQ(harness.Status(kDev), status);
  }
}

TEST(DeviceSetupConformance, DEV_GDS_1_ReportsWhatTheDeviceSetItself) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1");
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Ask(SetStatusRequest(kDev, 3));
  harness.Ask(SetStatusRequest(kDev, 11));  // refused: no VERSION_1
  EXPECT_EQ(harness.Status(kDev), 3u);
  harness.Start(kDev);
  device->Break("test");
  EXPECT_EQ(harness.Status(kDev), 79u);
}

TEST(DeviceSetupConformance, DEV_SDS_1_RefusalShowsInTheAnswer) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1");
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Ask(SetStatusRequest(kDev, 3));
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), 3u);
  harness.Negotiate(kDev);
  device->FailNextActivation(absl::InternalError("test"));
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 15)).u32(0), 75u);
}

TEST(DeviceSetupConformance, DEV_SDS_2_AnswerHoldsTheResult) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1 DRV-FEAT-3 DRV-STATUS-2");
  DummyDevice* const device = harness.PlugDummy(kDev);
  // Bits that are not the driver's to set, or not yet, or not to clear.
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 64)).u32(0), 0u);
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 5)).u32(0), 1u);
  harness.Ask(SetDriverFeaturesRequest(kDev, 1, {1}));
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), 11u);
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 1)).u32(0), 11u);
  // The answer waits until the device is what it says.
  device->HoldTransitions(true);
  EXPECT_TRUE(harness.Send(SetStatusRequest(kDev, 15)).empty());
  device->HoldTransitions(false);
  const std::vector<Received> got = harness.RunFor(std::chrono::seconds(1));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].u32(0), 15u);
  EXPECT_EQ(device->state(), DummyDevice::State::kActive);
}

TEST(DeviceSetupConformance, DEV_RESET_2_UnrecoverableErrorAsksForAReset) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev);
  device->Break("test");
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].is_config_event());
  EXPECT_EQ(got[0].u32(0), 79u);
  EXPECT_EQ(got[0].u32(8), 0u);  // a change of status alone
  EXPECT_EQ(got[0].u32(12), 0u);
}

}  // namespace
}  // namespace vmsg::msg
