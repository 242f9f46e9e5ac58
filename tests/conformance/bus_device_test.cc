// Rows about bus messages: enumeration, PING, hot-plug.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::msg {
namespace {

using std::chrono::seconds;
using virtio::DummyOptions;

constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};

class BusDeviceConformance : public testing::Test {
 protected:
  // The whole bitmap.
  uint32_t Present() { return harness_.Ask(GetDevicesRequest(0, 32)).u32(6); }

  BusHarness harness_;
};

TEST_F(BusDeviceConformance, BUS_MSG_1_UsesTheMessagesOfTheDraft) {
  harness_.PlugDummy(3);
  EXPECT_EQ(harness_.Ask(Hex("02 02 00 00 01 00 0c 00 00 00 20 00")).bytes(),
            Hex("03 02 00 00 01 00 12 00 00 00 20 00 00 00 08 00 00 00"));
  harness_.PlugDummy(4, kInstant);
  std::vector<Received> got = harness_.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].bytes(), Hex("02 40 00 00 00 00 0c 00 04 00 01 00"));
  EXPECT_OK(harness_.bus().Unplug(4, {}, [] {}));
  got = harness_.RunFor(seconds(1));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].bytes(), Hex("02 40 00 00 00 00 0c 00 04 00 02 00"));
  // Health is asked for by PING.
  BusHarness asks({.ping = {.interval = seconds(1), .ask_first = true}});
  asks.Enumerate();
  got = asks.RunFor(seconds(2));  // in the first it was busy
  ASSERT_EQ(got.size(), 1u);
  Bytes ping = got[0].bytes();
  ASSERT_EQ(ping.size(), 12u);
  std::fill(ping.begin() + 4, ping.begin() + 6, std::byte{0});  // token
  std::fill(ping.begin() + 8, ping.end(), std::byte{0});        // its data
  EXPECT_EQ(ping, Hex("02 03 00 00 00 00 0c 00 00 00 00 00"));
}

TEST_F(BusDeviceConformance, BUS_DEVNUM_3_DriverCanFindEveryDevice) {
  uint32_t expected = 0;
  for (const uint32_t slot : {0u, 1u, 7u, 8u, 30u, 31u}) {
    harness_.PlugDummy(slot);
    expected |= 1u << slot;
  }
  EXPECT_EQ(Present(), expected);
}

TEST_F(BusDeviceConformance, BUS_DISC_1_OnlyDevicesThatAreThereAreShown) {
  harness_.PlugDummy(2, kInstant);
  harness_.PlugDummy(9, kInstant);
  EXPECT_EQ(Present(), 1u << 2 | 1u << 9);
  EXPECT_OK(harness_.bus().Unplug(2, {}, [] {}));
  harness_.RunFor(seconds(1));
  EXPECT_EQ(Present(), 1u << 9);
  for (uint16_t dev = 0; dev < 32; ++dev) {
    const bool shown = (Present() >> dev & 1) != 0;
    EXPECT_EQ(harness_.Ask(GetDeviceInfoRequest(dev)).u32(0) != 0, shown);
  }
}

// --- GET_DEVICES. ---

TEST_F(BusDeviceConformance, BUS_ENUM_1_WindowIsTheOneAskedFor) {
  for (uint16_t offset = 0; offset < 32; offset += 8) {
    for (uint16_t count = 0; offset + count <= 32; count += 8) {
      const Received got = harness_.Ask(GetDevicesRequest(offset, count));
      EXPECT_EQ(got.u16(0), offset);
      EXPECT_EQ(got.u16(2), count);
    }
  }
}

TEST_F(BusDeviceConformance, BUS_ENUM_2_WindowEndsWithTheBus) {
  harness_.PlugDummy(31);
  const Received got = harness_.Ask(GetDevicesRequest(8, 0xFFF8));
  EXPECT_EQ(got.u16(0), 8);
  EXPECT_EQ(got.u16(2), 24);
  EXPECT_EQ(got.msg_size(), 17);
  EXPECT_EQ(got.u8(8), 0x80);
}

TEST_F(BusDeviceConformance, BUS_ENUM_3_OnlyMultiplesOfEightAreTaken) {
  harness_.DriverBreaks("BUS-ENUM-3");
  uint64_t dropped = 0;
  for (uint16_t odd = 1; odd < 8; ++odd) {
    EXPECT_TRUE(harness_.Send(GetDevicesRequest(odd, 8)).empty());
    EXPECT_TRUE(harness_.Send(GetDevicesRequest(8, odd)).empty());
    dropped += 2;
  }
  EXPECT_EQ(harness_.counters().malformed.value(), dropped);
}

TEST_F(BusDeviceConformance, BUS_ENUM_4_BitmapHasABitForEachNumber) {
  harness_.PlugDummy(8);
  harness_.PlugDummy(17);
  for (uint16_t count = 0; count <= 32; count += 8) {
    EXPECT_EQ(harness_.Ask(GetDevicesRequest(0, count)).bytes().size(),
              14u + count / 8);
  }
  const Received got = harness_.Ask(GetDevicesRequest(8, 16));
  EXPECT_EQ(got.u8(6), 0x01);
  EXPECT_EQ(got.u8(7), 0x02);
}

TEST_F(BusDeviceConformance, BUS_ENUM_5_NextOffsetIsZeroOrFurtherOn) {
  harness_.PlugDummy(31);
  for (const uint16_t offset : {0, 8, 24, 32, 64, 0xFFF8}) {
    for (const uint16_t count : {0, 8, 32}) {
      const Received got = harness_.Ask(GetDevicesRequest(offset, count));
      const uint32_t next = got.u16(4);
      EXPECT_EQ(next % 8, 0u);
      EXPECT_TRUE(next == 0 || next >= uint32_t{got.u16(0)} + got.u16(2));
    }
  }
}

TEST_F(BusDeviceConformance, BUS_ENUM_7_BitmapIsOfTheWindowInTheAnswer) {
  harness_.PlugDummy(24);
  const Received got = harness_.Ask(GetDevicesRequest(24, 64));
  EXPECT_EQ(got.u16(0), 24);
  EXPECT_EQ(got.u16(2), 8);
  EXPECT_EQ(got.bytes().size(), 15u);
  EXPECT_EQ(got.u8(6), 0x01);
}

TEST_F(BusDeviceConformance, FACT_ENUM_1_BitNIsNumberOffsetPlusN) {
  for (uint16_t dev = 0; dev < 32; ++dev) {
    BusHarness harness;
    harness.PlugDummy(dev);
    const auto offset = static_cast<uint16_t>(dev / 8 * 8);
    EXPECT_EQ(harness.Ask(GetDevicesRequest(offset, 8)).u8(6), 1 << dev % 8);
    EXPECT_EQ(harness.Ask(GetDevicesRequest(0, 32)).u32(6), 1u << dev);
  }
}

// --- PING. ---

TEST_F(BusDeviceConformance, BUS_PING_1_DataComesBackUnchanged) {
  for (const uint32_t data : {0u, 0x12345678u, 0x80000001u, 0xFFFFFFFFu}) {
    const std::vector<Received> got = harness_.Send(PingRequest(data));
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].type(), 3);
    EXPECT_EQ(got[0].msg_size(), 12);
    EXPECT_EQ(got[0].u32(0), data);
  }
}

// --- EVENT_DEVICE. ---

TEST_F(BusDeviceConformance, BUS_PLUG_1_ReadyAndRemovedAreSent) {
  harness_.Enumerate();
  harness_.PlugDummy(6, kInstant);
  std::vector<Received> got = harness_.RunFor(seconds(1));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].is_device_event());
  EXPECT_EQ(got[0].u16(0), 6);
  EXPECT_EQ(got[0].u16(2), 1);
  bool gone = false;
  EXPECT_OK(harness_.bus().Unplug(6, {}, [&gone] { gone = true; }));
  got = harness_.RunFor(seconds(1));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].u16(0), 6);
  EXPECT_EQ(got[0].u16(2), 2);
  EXPECT_TRUE(gone);
}

TEST_F(BusDeviceConformance, FACT_EVDEV_1_StatesAreOneAndTwoAlone) {
  harness_.Enumerate();
  std::vector<uint16_t> states;
  for (int i = 0; i < 3; ++i) {
    harness_.PlugDummy(1, kInstant);
    for (const Received& m : harness_.RunFor(seconds(1))) {
      ASSERT_EQ(m.msg_size(), 12);
      states.push_back(m.u16(2));
    }
    EXPECT_OK(harness_.bus().Unplug(1, {}, [] {}));
    for (const Received& m : harness_.RunFor(seconds(1))) {
      states.push_back(m.u16(2));
    }
  }
  EXPECT_EQ(states, (std::vector<uint16_t>{1, 2, 1, 2, 1, 2}));
}

}  // namespace
}  // namespace vmsg::msg
