// Rows about the configuration space, its generation count and EVENT_CONFIG.

#include <cstdint>
#include <set>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;

constexpr uint16_t kDev = 5;

// A started device that the driver knows, with 96 bytes of configuration.
class DeviceConfigConformance : public testing::Test {
 protected:
  DeviceConfigConformance()
      : device_(harness_.PlugDummy(
            kDev, {.config_size = 96, .max_transition_delay = {}})) {
    harness_.Start(kDev);
  }

  Received Read(uint32_t offset, uint32_t length) {
    return harness_.Ask(GetConfigRequest(kDev, offset, length));
  }
  uint32_t Generation() { return Read(0, 1).u32(0); }
  // What the driver is told of now.
  std::vector<Received> Events() { return harness_.RunFor({}); }

  BusHarness harness_;
  DummyDevice* const device_;
};

// --- The generation count. ---

TEST_F(DeviceConfigConformance, DEV_GEN_1_CountGoesUpBeforeTheChangeIsSeen) {
  const uint32_t before = Generation();
  device_->ChangeConfig(8, Hex("aa"));
  // Nothing was sent since: the first look finds both, and comes first.
  harness_.bus().Receive(GetConfigRequest(kDev, 8, 1));
  const std::vector<Received> first = harness_.link().Take();
  ASSERT_EQ(first.size(), 1u);
  EXPECT_EQ(first[0].u8(12), 0xAA);
  EXPECT_EQ(first[0].u32(0), before + 1);
  // Before DRIVER_OK, too.
  harness_.Ask(SetStatusRequest(kDev, 0));
  device_->ChangeConfig(8, Hex("bb"));
  EXPECT_EQ(Read(8, 1).u32(0), before + 2);
  harness_.Negotiate(kDev);
  device_->ChangeConfig(8, Hex("cc"));
  EXPECT_EQ(Read(8, 1).u32(0), before + 3);
}

TEST_F(DeviceConfigConformance, DEV_GEN_2_NoTwoEventsWithDataShareACount) {
  std::set<uint32_t> counts;
  for (uint8_t i = 0; i < 20; ++i) {
    device_->ChangeConfig(i, Bytes(1, std::byte{i}));
    for (const Received& event : Events()) {
      ASSERT_TRUE(event.is_config_event());
      if (event.msg_size() == 24) continue;
      EXPECT_TRUE(counts.insert(event.u32(4)).second);
    }
    if (i != 10) continue;
    // A change of status alone sends no data again.
    device_->Break("test");
    const std::vector<Received> events = Events();
    ASSERT_EQ(events.size(), 1u);
    EXPECT_EQ(events[0].msg_size(), 24);
  }
  EXPECT_EQ(counts.size(), 20u);
}

TEST_F(DeviceConfigConformance, DEV_GEN_3_LargeChangeIsAnnouncedWithoutData) {
  const uint32_t before = Generation();
  device_->ChangeConfig(0, Bytes(40, std::byte{1}));
  std::vector<Received> got = Events();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].msg_size(), 64);
  EXPECT_EQ(got[0].u32(12), 40u);
  device_->ChangeConfig(0, Bytes(41, std::byte{2}));
  got = Events();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].msg_size(), 24);
  EXPECT_EQ(got[0].u32(4), before + 2);
  EXPECT_EQ(got[0].u32(12), 0u);
}

TEST_F(DeviceConfigConformance, DEV_GEN_4_LargeChangeCanBeRead) {
  device_->ChangeConfig(0, Bytes(96, std::byte{0x5A}));
  const std::vector<Received> got = Events();
  ASSERT_EQ(got.size(), 1u);
  for (const uint32_t offset : {0u, 32u, 64u}) {
    const Received part = Read(offset, 32);
    EXPECT_EQ(part.u32(0), got[0].u32(4));
    for (size_t i = 0; i < 32; ++i) EXPECT_EQ(part.u8(12 + i), 0x5A);
  }
}

TEST_F(DeviceConfigConformance, DEV_GEN_5_StaleWriteChangesNothing) {
  harness_.DriverBreaks("DRV-GEN-1");
  const uint32_t before = Generation();
  device_->ChangeConfig(8, Hex("11"));
  for (const uint32_t stale : {before, before + 2, ~before}) {
    EXPECT_EQ(harness_.Ask(SetConfigRequest(kDev, stale, 8, {0x22})).u32(8),
              0u);
    EXPECT_EQ(Read(8, 1).u8(12), 0x11);
  }
  EXPECT_EQ(harness_.Ask(SetConfigRequest(kDev, before + 1, 8, {0x22})).u32(8),
            1u);
  EXPECT_EQ(Read(8, 1).u8(12), 0x22);
}

TEST_F(DeviceConfigConformance, FACT_GEN_1_ResetKeepsTheCount) {
  device_->ChangeConfig(8, Hex("11"));
  device_->ChangeConfig(8, Hex("12"));
  const uint32_t before = Generation();
  EXPECT_NE(before, 0u);
  harness_.Ask(SetStatusRequest(kDev, 0));
  EXPECT_EQ(Generation(), before);
}

// --- GET_CONFIG and SET_CONFIG. ---

TEST_F(DeviceConfigConformance, DEV_CFG_2_RejectionIsLengthZeroInTheAnswer) {
  const uint32_t before = Generation();
  device_->ChangeConfig(8, Hex("11"));
  const Received answer =
      harness_.Ask(SetConfigRequest(kDev, before, 8, {1, 2, 3}));
  EXPECT_EQ(answer.msg_size(), 20);
  EXPECT_EQ(answer.u32(0), before + 1);
  EXPECT_EQ(answer.u32(8), 0u);
}

TEST_F(DeviceConfigConformance, DEV_CFG_3_DataComesWithTheCurrentCount) {
  harness_.DriverBreaks("DRV-INFO-2");
  const uint32_t first = Generation();
  for (uint8_t i = 1; i <= 5; ++i) {
    device_->ChangeConfig(4, Bytes(1, std::byte{i}));
    const std::vector<Received> events = Events();
    ASSERT_EQ(events.size(), 1u);
    const Received got = Read(4, 1);
    EXPECT_EQ(got.u32(0), events[0].u32(4));
    EXPECT_EQ(got.u32(0), first + i);
    EXPECT_EQ(got.u8(12), i);
  }
  // Without data, too.
  EXPECT_EQ(Read(96, 1).u32(0), first + 5);
}

// O-13 departs from the echo of the length.
TEST_F(DeviceConfigConformance, FACT_GC_1_EchoesUnlessTheRangeDoesNotFit) {
  harness_.DriverBreaks("DRV-INFO-2");
  for (const uint32_t length : {0u, 1u, 44u}) {
    const Received got = Read(3, length);
    EXPECT_EQ(got.u32(4), 3u);
    EXPECT_EQ(got.u32(8), length);
    EXPECT_EQ(got.msg_size(), 20 + length);
  }
  struct Range {
    uint32_t offset;
    uint32_t length;
  };
  for (const Range range :
       {Range{3, 45}, Range{95, 2}, Range{96, 1}, Range{97, 0},
        Range{0xFFFFFFFF, 1}, Range{1, 0xFFFFFFFF}}) {
    const Received got = Read(range.offset, range.length);
    EXPECT_EQ(got.u32(4), range.offset);
    EXPECT_EQ(got.u32(8), 0u);
    EXPECT_EQ(got.msg_size(), 20);
  }
}

TEST_F(DeviceConfigConformance, FACT_SC_1_AnswerTellsOffsetCountAndLength) {
  harness_.DriverBreaks("DRV-INFO-2");
  const uint32_t generation = Generation();
  Received answer =
      harness_.Ask(SetConfigRequest(kDev, generation, 90, {1, 2, 3}));
  EXPECT_EQ(answer.u32(0), generation);
  EXPECT_EQ(answer.u32(4), 90u);
  EXPECT_EQ(answer.u32(8), 3u);
  // Refused: the end of the space, and bytes that are read-only.
  answer = harness_.Ask(SetConfigRequest(kDev, generation, 94, {1, 2, 3}));
  EXPECT_EQ(answer.u32(0), generation);
  EXPECT_EQ(answer.u32(4), 94u);
  EXPECT_EQ(answer.u32(8), 0u);
  EXPECT_EQ(Read(94, 2).u16(12), 0);
  answer = harness_.Ask(SetConfigRequest(kDev, generation, 0, {1}));
  EXPECT_EQ(answer.u32(8), 0u);
  EXPECT_EQ(answer.msg_size(), 20);
}

// --- EVENT_CONFIG. ---

// amp-pci-device, 4, departs: changes that wait are merged into one event.
TEST_F(DeviceConfigConformance, DEV_NOTIF_1_ChangesAreAnnouncedMerged) {
  device_->ChangeConfig(8, Hex("11"));
  ASSERT_EQ(Events().size(), 1u);
  device_->ChangeConfig(20, Hex("22"));
  device_->ChangeConfig(10, Hex("33"));
  device_->Break("test");
  const std::vector<Received> got = Events();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].u32(0), 79u);
  EXPECT_EQ(got[0].u32(8), 10u);
  EXPECT_EQ(got[0].u32(12), 11u);
  EXPECT_EQ(got[0].u8(16), 0x33);
  EXPECT_EQ(got[0].u8(26), 0x22);
  // None for what the driver did itself (O-15, O-28).
  const uint32_t generation = Generation();
  EXPECT_EQ(harness_.Send(SetConfigRequest(kDev, generation, 8, {1})).size(),
            1u);
  EXPECT_EQ(harness_.Send(SetStatusRequest(kDev, 15)).size(), 1u);
}

TEST_F(DeviceConfigConformance, DEV_NOTIF_2_EventCarriesTheNewCount) {
  const uint32_t before = Generation();
  device_->ChangeConfig(8, Hex("11"));
  std::vector<Received> got = Events();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].u32(4), before + 1);
  device_->ChangeConfig(8, Hex("12"));
  device_->ChangeConfig(8, Hex("13"));
  got = Events();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].u32(4), before + 3);
  EXPECT_EQ(Generation(), before + 3);
}

TEST_F(DeviceConfigConformance, DEV_NOTIF_3_EventCarriesTheChangedData) {
  const uint32_t before = Generation();
  device_->ChangeConfig(6, Hex("de ad be ef"));
  const std::vector<Received> got = Events();
  ASSERT_EQ(got.size(), 1u);
  Bytes expected =
      Hex("00 40 05 00 00 00 1c 00 0f 00 00 00 00 00 00 00"
          "06 00 00 00 04 00 00 00 de ad be ef");
  expected[12] = static_cast<std::byte>(before + 1);
  EXPECT_EQ(got[0].bytes(), expected);
}

// O-16 departs: a strict peer takes a length without data for a mistake.
TEST_F(DeviceConfigConformance, DEV_NOTIF_4_EventWithoutDataNamesNoRange) {
  device_->ChangeConfig(10, Bytes(60, std::byte{1}));
  const std::vector<Received> got = Events();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].msg_size(), 24);
  EXPECT_EQ(got[0].u32(8), 0u);
  EXPECT_EQ(got[0].u32(12), 0u);
}

TEST_F(DeviceConfigConformance, FACT_EC_1_LengthZeroMeansReadItYourself) {
  device_->ChangeConfig(0, Bytes(96, std::byte{0x77}));
  const std::vector<Received> got = Events();
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].u32(12), 0u);
  EXPECT_EQ(got[0].bytes().size(), 24u);
  EXPECT_EQ(Read(95, 1).u8(12), 0x77);
}

}  // namespace
}  // namespace vmsg::msg
