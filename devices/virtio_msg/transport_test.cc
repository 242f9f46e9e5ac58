// The transport's messages about identity, features, configuration and shared
// memory, over the wire.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/acked_features.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;
using virtio::DummyOptions;

constexpr uint16_t kDev = 5;

uint32_t AckAndAskForFeaturesOk(BusHarness* harness) {
  harness->Ask(SetStatusRequest(kDev, 3));
  return harness->Ask(SetStatusRequest(kDev, 11)).u32(0);
}

// --- GET_DEVICE_INFO: virtio-msg-messages, 4.1. ---

TEST(GetDeviceInfoTest, DescribesTheDevice) {
  BusHarness harness({.vendor_id = 0xCAFE});
  harness.PlugDummy(kDev, {.device_id = 4, .num_queues = 3, .config_size = 24});
  const Received info = harness.Ask(GetDeviceInfoRequest(kDev));
  EXPECT_EQ(info.msg_size(), 32);
  EXPECT_EQ(info.u32(0), 4u);
  EXPECT_EQ(info.u32(4), 0xCAFEu);
  EXPECT_EQ(info.u32(8), 64u);
  EXPECT_EQ(info.u32(12), 24u);
  EXPECT_EQ(info.u32(16), 3u);
  EXPECT_EQ(info.u16(20), 0);  // no administration queues
  EXPECT_EQ(info.u16(22), 0);
}

// The number of feature bits is a multiple of 32 that holds them all.
TEST(GetDeviceInfoTest, FeatureCountCoversTheHighestOfferedBit) {
  BusHarness harness;
  harness.PlugDummy(0, {.offered = {virtio::kFeatureVersion1, 64}});
  harness.PlugDummy(1, {.offered = {virtio::kFeatureVersion1, 127}});
  harness.PlugDummy(2, {.offered = {}, .required = {}});
  EXPECT_EQ(harness.Ask(GetDeviceInfoRequest(0)).u32(8), 96u);
  EXPECT_EQ(harness.Ask(GetDeviceInfoRequest(1)).u32(8), 128u);
  EXPECT_EQ(harness.Ask(GetDeviceInfoRequest(2)).u32(8), 64u);
}

// O-22: the device answers other messages too before it is initialized.
TEST(GetDeviceInfoTest, IsAnsweredInEveryState) {
  BusHarness harness;
  harness.PlugDummy(kDev, {.device_id = 9});
  EXPECT_EQ(harness.Ask(GetDeviceInfoRequest(kDev)).u32(0), 9u);
  harness.Start(kDev);
  EXPECT_EQ(harness.Ask(GetDeviceInfoRequest(kDev)).u32(0), 9u);
}

// --- GET_DEVICE_FEATURES: 4.2. ---

TEST(GetDeviceFeaturesTest, OffersWhatTheDeviceOffers) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  harness.PlugDummy(kDev, {.offered = {0, 28, 32, 40}});
  const Received both = harness.Ask(GetDeviceFeaturesRequest(kDev, 0, 2));
  EXPECT_EQ(both.msg_size(), 24);
  EXPECT_EQ(both.u32(0), 0u);
  EXPECT_EQ(both.u32(4), 2u);
  EXPECT_EQ(both.u32(8), 1u | 1u << 28);
  EXPECT_EQ(both.u32(12), 1u | 1u << 8);
  const Received second = harness.Ask(GetDeviceFeaturesRequest(kDev, 1, 1));
  EXPECT_EQ(second.u32(8), 1u | 1u << 8);
}

// O-34, and what this transport does not do.
TEST(GetDeviceFeaturesTest, DoesNotOfferWhatTheTransportCanNotCarry) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-2 DRV-STATUS-2");
  harness.PlugDummy(
      kDev,
      {.offered = {virtio::kFeatureVersion1, virtio::kFeatureNotifConfigData,
                   virtio::kFeatureAdminVq, virtio::kFeatureRingReset}});
  EXPECT_EQ(harness.Ask(GetDeviceFeaturesRequest(kDev, 1, 1)).u32(8),
            1u | 1u << (virtio::kFeatureRingReset - 32));
  // Nor does it accept them.
  harness.Ask(SetDriverFeaturesRequest(
      kDev, 1, {1u | 1u << (virtio::kFeatureNotifConfigData - 32)}));
  EXPECT_EQ(AckAndAskForFeaturesOk(&harness), 3u);
}

TEST(GetDeviceFeaturesTest, BlocksPastTheEndAreZero) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  harness.PlugDummy(kDev, {.offered = {0, 32}});
  for (const uint32_t block : {4u, 1000u, 0x7FFFFFFFu, 0xFFFFFFFFu}) {
    const Received got = harness.Ask(GetDeviceFeaturesRequest(kDev, block, 3));
    EXPECT_EQ(got.u32(0), block);
    EXPECT_EQ(got.u32(4), 3u);
    EXPECT_EQ(got.u32(8), 0u);
    EXPECT_EQ(got.u32(12), 0u);
    EXPECT_EQ(got.u32(16), 0u);
  }
}

// O-12 departs from the echo: as many as fit, and the answer says so.
TEST(GetDeviceFeaturesTest, ReturnsAsManyBlocksAsFit) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  harness.PlugDummy(kDev);
  for (const uint32_t count : {13u, 100u, 0x40000000u, 0xFFFFFFFFu}) {
    const Received got = harness.Ask(GetDeviceFeaturesRequest(kDev, 0, count));
    EXPECT_EQ(got.msg_size(), 64);
    EXPECT_EQ(got.u32(4), 12u);
  }
  EXPECT_EQ(harness.Ask(GetDeviceFeaturesRequest(kDev, 0, 12)).u32(4), 12u);
  const Received none = harness.Ask(GetDeviceFeaturesRequest(kDev, 0, 0));
  EXPECT_EQ(none.msg_size(), 16);
  EXPECT_EQ(none.u32(4), 0u);
}

// O-9 departs from DEV-SDF-2: always the offered set.
TEST(GetDeviceFeaturesTest, ReportsTheOfferedSetAfterNegotiation) {
  BusHarness harness;
  harness.PlugDummy(kDev, {.offered = {28, 32, 40}});
  harness.Start(kDev, 1, 0, 1);
  const Received got = harness.Ask(GetDeviceFeaturesRequest(kDev, 0, 2));
  EXPECT_EQ(got.u32(8), 1u << 28);
  EXPECT_EQ(got.u32(12), 1u | 1u << 8);
}

// --- SET_DRIVER_FEATURES: 4.3, 6.6. ---

TEST(SetDriverFeaturesTest, AnswerIsEmptyAndTheVerdictIsFeaturesOk) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1 DRV-STATUS-2");
  harness.PlugDummy(kDev);
  const Received answer =
      harness.Ask(SetDriverFeaturesRequest(kDev, 0, {0, 1}));
  EXPECT_EQ(answer.msg_size(), 8);
  EXPECT_EQ(AckAndAskForFeaturesOk(&harness), 11u);
}

// O-11: blocks that the message does not name keep their value.
TEST(SetDriverFeaturesTest, UnnamedBlocksKeepTheirValue) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1 DRV-STATUS-2");
  harness.PlugDummy(kDev, {.offered = {28, 32}, .required = {28, 32}});
  harness.Ask(SetDriverFeaturesRequest(kDev, 1, {1}));
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {1u << 28}));
  EXPECT_EQ(AckAndAskForFeaturesOk(&harness), 11u);
}

// 4.3: the acknowledged set is made equal to the data.
TEST(SetDriverFeaturesTest, LaterWriteReplacesTheBlock) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1 DRV-STATUS-2");
  harness.PlugDummy(kDev, {.offered = {28, 32}});
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {0xFFFFFFFF, 1}));
  harness.Ask(SetStatusRequest(kDev, 3));
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), 3u);
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {1u << 28}));
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), 11u);
}

// 6.4: a bit that is not offered makes FEATURES_OK fail, wherever it is.
TEST(SetDriverFeaturesTest, BitThatIsNotOfferedIsRefused) {
  for (const uint32_t block : {0u, 1u, 3u, 4u, 67u, 68u, 0xFFFFFFFFu}) {
    BusHarness harness;
    harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-2 DRV-STATUS-2");
    harness.PlugDummy(kDev, {.offered = {28, 32}});
    harness.Ask(GetDeviceFeaturesRequest(kDev, 0, 4));
    harness.Ask(SetDriverFeaturesRequest(kDev, 1, {1}));
    EXPECT_EQ(harness.Ask(SetDriverFeaturesRequest(kDev, block, {1u << 7 | 1}))
                  .msg_size(),
              8);
    EXPECT_EQ(AckAndAskForFeaturesOk(&harness), 3u) << block;
  }
}

// A note of DEV-FEAT-2: which of 2^32 blocks have a bit is not remembered.
TEST(SetDriverFeaturesTest, BitFarPastTheEndStaysUntilTheReset) {
  for (const uint32_t block : {67u, 68u, 0xFFFFFFFFu}) {
    BusHarness harness;
    harness.DriverBreaks("DRV-FEAT-2");
    harness.PlugDummy(kDev, {.offered = {28, 32}});
    harness.Ask(GetDeviceInfoRequest(kDev));
    harness.Ask(SetStatusRequest(kDev, 3));
    harness.Ask(GetDeviceFeaturesRequest(kDev, 0, 4));
    harness.Ask(SetDriverFeaturesRequest(kDev, 1, {1}));
    harness.Ask(SetDriverFeaturesRequest(kDev, block, {1}));
    harness.Ask(SetDriverFeaturesRequest(kDev, block, {0}));
    const bool far = block >= 68;
    EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), far ? 3u : 11u)
        << block;
    harness.Ask(SetStatusRequest(kDev, 0));
    harness.Negotiate(kDev);
  }
}

TEST(SetDriverFeaturesTest, ZeroBlocksPastTheEndAreNoBits) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1 DRV-STATUS-2");
  harness.PlugDummy(kDev);
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {0, 1, 0, 0, 0, 0}));
  harness.Ask(SetDriverFeaturesRequest(kDev, 0xFFFFFFFF, {0, 0}));
  EXPECT_EQ(AckAndAskForFeaturesOk(&harness), 11u);
}

// O-11: after FEATURES_OK ignored, with the normal answer.
TEST(SetDriverFeaturesTest, IsIgnoredAfterFeaturesOk) {
  BusHarness harness;
  harness.DriverBreaks("DRV-FEAT-3");
  DummyDevice* const device =
      harness.PlugDummy(kDev, {.offered = {28, 32, 40}});
  harness.Negotiate(kDev, 0, 1);
  EXPECT_EQ(harness.Ask(SetDriverFeaturesRequest(kDev, 0, {1u << 28, 1u << 8}))
                .msg_size(),
            8);
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 15)).u32(0), 15u);
  EXPECT_EQ(device->state(), DummyDevice::State::kActive);
}

TEST(AckedFeaturesTest, BlocksUpToTheLastIndexAreTracked) {
  const Bytes words = Payload().U32(0).U32(5).bytes();
  AckedFeatures acked;
  // Block 2^32 - 1, then 2^32, which has no index of its own: no wrap to 0.
  acked.Write(0xFFFFFFFF, FeatureWords(words));
  EXPECT_TRUE(acked.HasUnknown());
  EXPECT_EQ(acked.known(), virtio::Features{});
}

TEST(AckedFeaturesTest, ClearingABlockPastTheEndTakesItsBitsBack) {
  const Bytes set = Payload().U32(1).bytes();
  const Bytes clear = Payload().U32(0).bytes();
  AckedFeatures acked;
  for (uint32_t block = 4; block < 68; ++block) {
    acked.Write(block, FeatureWords(set));
    EXPECT_TRUE(acked.HasUnknown()) << block;
    acked.Write(block, FeatureWords(clear));
    EXPECT_FALSE(acked.HasUnknown()) << block;
  }
}

TEST(AckedFeaturesTest, ABitFarPastTheEndStays) {
  const Bytes set = Payload().U32(1).bytes();
  const Bytes clear = Payload().U32(0).bytes();
  for (const uint32_t block : {68u, 0x40000001u, 0xFFFFFFFFu}) {
    AckedFeatures acked;
    acked.Write(block, FeatureWords(set));
    acked.Write(block, FeatureWords(clear));
    EXPECT_TRUE(acked.HasUnknown()) << block;
  }
}

// --- GET_CONFIG: 4.4. ---

TEST(GetConfigTest, ReturnsTheBytesAndTheGeneration) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  DummyDevice* const device = harness.PlugDummy(kDev);
  device->ChangeConfig(0, Hex("00 11 22 33 44 55 66 77"));
  const Received got = harness.Ask(GetConfigRequest(kDev, 2, 4));
  EXPECT_EQ(got.msg_size(), 24);
  EXPECT_EQ(got.u32(4), 2u);
  EXPECT_EQ(got.u32(8), 4u);
  EXPECT_EQ(got.u32(12), 0x55443322u);
}

// O-13 departs from FACT-GC-1: length 0, offset echoed, current generation.
TEST(GetConfigTest, RangePastTheEndIsRefused) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  harness.PlugDummy(kDev, {.config_size = 16});
  struct Range {
    uint32_t offset, length;
  };
  for (const Range range :
       {Range{0, 17}, Range{16, 1}, Range{15, 2}, Range{17, 0},
        Range{0xFFFFFFFF, 1}, Range{0xFFFFFFFF, 0xFFFFFFFF},
        Range{1, 0xFFFFFFFF}, Range{0x80000000, 0x80000000}}) {
    const Received got =
        harness.Ask(GetConfigRequest(kDev, range.offset, range.length));
    EXPECT_EQ(got.msg_size(), 20) << range.offset << " " << range.length;
    EXPECT_EQ(got.u32(4), range.offset);
    EXPECT_EQ(got.u32(8), 0u);
  }
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 0, 16)).u32(8), 16u);
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 16, 0)).u32(8), 0u);
}

TEST(GetConfigTest, LengthAboveTheMaximumMessageIsRefused) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  harness.PlugDummy(kDev, {.config_size = 256});
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 0, 44)).msg_size(), 64);
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 0, 45)).msg_size(), 20);
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 0, 256)).msg_size(), 20);
}

// --- SET_CONFIG: 4.5. ---

TEST(SetConfigTest, AppliesAndAnswersWithTheLength) {
  BusHarness harness;
  harness.DriverBreaks("DRV-GEN-1 DRV-INIT-1");
  harness.PlugDummy(kDev);
  const Received answer =
      harness.Ask(SetConfigRequest(kDev, 0, 6, {0xAA, 0xBB}));
  EXPECT_EQ(answer.msg_size(), 20);
  EXPECT_EQ(answer.u32(4), 6u);
  EXPECT_EQ(answer.u32(8), 2u);
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 6, 2)).u16(12), 0xBBAA);
}

// O-15: no event for the driver's own bytes, and the count stays, so that a
// driver which keeps the count of its last GET_CONFIG can write on.
TEST(SetConfigTest, OwnWriteNeitherAdvancesTheCountNorCausesAnEvent) {
  BusHarness harness;
  harness.PlugDummy(kDev, {.max_transition_delay = {}});
  harness.Start(kDev);
  const uint32_t generation = harness.Ask(GetConfigRequest(kDev, 4, 1)).u32(0);
  for (uint8_t i = 0; i < 4; ++i) {
    const std::vector<Received> got =
        harness.Send(SetConfigRequest(kDev, generation, 4u + i, {i}));
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].u32(0), generation);
    EXPECT_EQ(got[0].u32(8), 1u);
  }
}

// 4.5, 6.5: a mismatch means rejection; nothing is written.
TEST(SetConfigTest, StaleGenerationIsRejectedWithTheCurrentOne) {
  BusHarness harness;
  harness.DriverBreaks("DRV-GEN-1 DRV-GEN-2");
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Start(kDev);
  const uint32_t old = harness.Ask(GetConfigRequest(kDev, 0, 1)).u32(0);
  device->ChangeConfig(8, Hex("01"));
  for (const uint32_t generation : {old, old + 2, ~old}) {
    const Received answer =
        harness.Ask(SetConfigRequest(kDev, generation, 8, {7}));
    EXPECT_EQ(answer.msg_size(), 20);
    EXPECT_EQ(answer.u32(0), old + 1);
    EXPECT_EQ(answer.u32(4), 8u);
    EXPECT_EQ(answer.u32(8), 0u);
  }
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 8, 1)).u8(12), 1);
  EXPECT_EQ(harness.Ask(SetConfigRequest(kDev, old + 1, 8, {7})).u32(8), 1u);
}

// O-14.
TEST(SetConfigTest, LengthZeroChangesNothing) {
  BusHarness harness;
  harness.DriverBreaks("DRV-GEN-1 DRV-INIT-1");
  harness.PlugDummy(kDev);
  EXPECT_EQ(harness.Ask(SetConfigRequest(kDev, 0, 4, {})).u32(8), 0u);
}

TEST(SetConfigTest, RangePastTheEndOrRefusedByTheDeviceIsRejectedWhole) {
  BusHarness harness;
  harness.DriverBreaks("DRV-GEN-1 DRV-INIT-1");
  harness.PlugDummy(kDev, {.config_size = 16});
  for (const uint32_t offset : {15u, 16u, 17u, 0xFFFFFFFFu, 0u,
                                DummyDevice::kReadOnlyConfigBytes - 1}) {
    const Received answer =
        harness.Ask(SetConfigRequest(kDev, 0, offset, {1, 2}));
    EXPECT_EQ(answer.u32(4), offset);
    EXPECT_EQ(answer.u32(8), 0u) << offset;
  }
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 15, 1)).u8(12), 0);
}

// --- GET_SHM: 4.11. ---

TEST(GetShmTest, DescribesTheRegionsThatExist) {
  BusHarness harness;
  harness.PlugDummy(kDev, {.shared_memory = virtio::SharedMemoryRegion{
                               .address = {0xC0000000}, .length = 0x10000}});
  const Received region = harness.Ask(GetShmRequest(kDev, 0));
  EXPECT_EQ(region.u32(0), 0u);
  EXPECT_EQ(region.u32(4), 0x10000u);
  EXPECT_EQ(region.u32(8), 0xC0000000u);
  // 256 is not region 0.
  for (const uint32_t index : {1u, 255u, 256u, 0xFFFFFF00u}) {
    const Received none = harness.Ask(GetShmRequest(kDev, index));
    EXPECT_EQ(none.u32(0), index);
    EXPECT_EQ(none.u32(4), 0u);
    EXPECT_EQ(none.u32(8), 0u);
  }
}

// --- EVENT_CONFIG: 4.12, 6.5. ---

std::vector<Received> ConfigEvents(const std::vector<Received>& all) {
  std::vector<Received> events;
  std::copy_if(all.begin(), all.end(), std::back_inserter(events),
               [](const Received& m) { return m.is_config_event(); });
  return events;
}

TEST(EventConfigTest, CarriesStatusGenerationAndTheChangedBytes) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Start(kDev);
  const uint32_t before = harness.Ask(GetConfigRequest(kDev, 0, 1)).u32(0);
  device->ChangeConfig(6, Hex("01 02"));
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].type(), 0);
  EXPECT_EQ(got[0].id(), 0x40);
  EXPECT_EQ(got[0].dev(), kDev);
  EXPECT_EQ(got[0].token(), 0);
  EXPECT_EQ(got[0].msg_size(), 26);
  EXPECT_EQ(got[0].u32(0), 15u);
  EXPECT_EQ(got[0].u32(4), before + 1);
  EXPECT_EQ(got[0].u32(8), 6u);
  EXPECT_EQ(got[0].u32(12), 2u);
  EXPECT_EQ(got[0].u16(16), 0x0201);
  // 6.5: before the change can be seen.
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 6, 2)).u32(0), before + 1);
}

// amp-pci-device, 4, departs from DEV-NOTIF-1: several changes, one event.
TEST(EventConfigTest, ChangesThatWaitMergeIntoTheEnclosingRange) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Start(kDev);
  const uint32_t before = harness.Ask(GetConfigRequest(kDev, 0, 1)).u32(0);
  device->ChangeConfig(12, Hex("cc"));
  device->ChangeConfig(5, Hex("55"));
  device->ChangeConfig(8, Hex("88"));
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].u32(4), before + 3);
  EXPECT_EQ(got[0].u32(8), 5u);
  EXPECT_EQ(got[0].u32(12), 8u);
  EXPECT_EQ(got[0].u8(16), 0x55);
  EXPECT_EQ(got[0].u8(23), 0xCC);
}

// DEV-GEN-3, O-16 (departs from DEV-NOTIF-4): without data, length 0.
TEST(EventConfigTest, ChangeThatDoesNotFitHasNoData) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev, {.config_size = 64});
  harness.Start(kDev);
  device->ChangeConfig(4, Bytes(40, std::byte{1}));
  std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].msg_size(), 64);
  EXPECT_EQ(got[0].u32(12), 40u);
  device->ChangeConfig(4, Bytes(41, std::byte{2}));
  got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].msg_size(), 24);
  EXPECT_EQ(got[0].u32(8), 0u);
  EXPECT_EQ(got[0].u32(12), 0u);
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 44, 1)).u8(12), 2);
}

// 4.12: a status change alone leaves the generation as it is.
TEST(EventConfigTest, NeedsResetIsToldOnceUntilTheReset) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Start(kDev);
  const uint32_t generation = harness.Ask(GetConfigRequest(kDev, 0, 1)).u32(0);
  device->Break("test");
  device->Break("again");
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].msg_size(), 24);
  EXPECT_EQ(got[0].u32(0), 15u | 64u);
  EXPECT_EQ(got[0].u32(4), generation);
  EXPECT_EQ(got[0].u32(8), 0u);
  EXPECT_EQ(got[0].u32(12), 0u);
  EXPECT_EQ(harness.Status(kDev), 15u | 64u);
  EXPECT_EQ(harness.bus().status(kDev).health, SlotHealth::kNeedsReset);
  EXPECT_EQ(harness.bus().status(kDev).health_reason, "test");

  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 0)).u32(0), 0u);
  EXPECT_EQ(harness.bus().status(kDev).health, SlotHealth::kOk);
  harness.Start(kDev);
  device->Break("second");
  EXPECT_EQ(ConfigEvents(harness.RunFor({})).size(), 1u);
}

// FACT-GEN-1: the count survives a reset.
TEST(EventConfigTest, ResetDoesNotResetTheGeneration) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Start(kDev);
  device->ChangeConfig(4, Hex("01"));
  device->ChangeConfig(4, Hex("02"));
  const uint32_t before = harness.Ask(GetConfigRequest(kDev, 0, 1)).u32(0);
  EXPECT_GE(before, 2u);
  harness.Ask(SetStatusRequest(kDev, 0));
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 0, 1)).u32(0), before);
}

TEST(BackendHealthTest, IsForTheOperatorAloneAndOutlivesAReset) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Start(kDev);
  device->SetBackendFailing(true);
  EXPECT_TRUE(harness.RunFor({}).empty());
  EXPECT_EQ(harness.bus().status(kDev).health, SlotHealth::kBackendFailed);
  EXPECT_EQ(harness.bus().status(kDev).health_reason, "dummy back end failed");
  EXPECT_EQ(harness.Status(kDev), 15u);
  device->SetBackendFailing(false);
  EXPECT_EQ(harness.bus().status(kDev).health, SlotHealth::kOk);
  EXPECT_EQ(harness.bus().status(kDev).health_reason, "");
}

// --- Other maximum message sizes: section 3. ---

class MaximumTest : public testing::TestWithParam<uint32_t> {};

TEST_P(MaximumTest, EveryAnswerAndEventStaysWithinIt) {
  const uint32_t max = GetParam();
  BusHarness harness({.max_message_bytes = max});
  DummyDevice* const device = harness.PlugDummy(kDev, {.config_size = 512});
  harness.Start(kDev);
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 0, max - 20)).msg_size(), max);
  EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 0, max - 19)).msg_size(), 20);
  const Received features =
      harness.Ask(GetDeviceFeaturesRequest(kDev, 0, 0xFFFF));
  EXPECT_EQ(features.u32(4), (max - 16) / 4);
  EXPECT_LE(features.msg_size(), max);
  EXPECT_EQ(harness.Ask(GetVqueueRequest(kDev, 0)).msg_size(), 48);
  EXPECT_EQ(harness.Ask(GetDevicesRequest(0, 32)).u16(2), 32);
  device->ChangeConfig(4, Bytes(max - 24));
  device->ChangeConfig(4, Bytes(max - 24));
  const std::vector<Received> events = harness.RunFor({});
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].msg_size(), max);
}

INSTANTIATE_TEST_SUITE_P(Sizes, MaximumTest, testing::Values(48, 52, 64, 264));

}  // namespace
}  // namespace vmsg::msg
