// Enumeration, PING, routing and the policy for empty slots. The transport's
// messages are in transport_test.cc, what takes time in deferral_test.cc, a
// full link in full_link_test.cc, hot-plug in hotplug_test.cc.

#include "devices/virtio_msg/message_bus.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"
#include "vmm/base/log.h"

namespace vmsg::msg {
namespace {

// --- GET_DEVICES: virtio-msg-messages, 5.1; amp-pci-device, 4. ---

TEST(GetDevicesTest, AnswersExactlyTheRangeAskedFor) {
  BusHarness harness;
  for (const uint32_t slot : {0u, 2u, 5u, 31u}) harness.PlugDummy(slot);
  const Received all = harness.Ask(GetDevicesRequest(0, 32));
  EXPECT_EQ(all.type(), 3);
  EXPECT_EQ(all.dev(), 0);
  EXPECT_EQ(all.token(), kTestToken);
  EXPECT_EQ(all.msg_size(), 18);
  EXPECT_EQ(all.u16(0), 0);
  EXPECT_EQ(all.u16(2), 32);
  EXPECT_EQ(all.u16(4), 0);  // next_offset: nothing follows
  EXPECT_EQ(all.u32(6), 1u | 1u << 2 | 1u << 5 | 1u << 31);

  const Received middle = harness.Ask(GetDevicesRequest(24, 8));
  EXPECT_EQ(middle.msg_size(), 15);
  EXPECT_EQ(middle.u16(0), 24);
  EXPECT_EQ(middle.u16(2), 8);
  EXPECT_EQ(middle.u16(4), 0);
  EXPECT_EQ(middle.u8(6), 0x80);
}

TEST(GetDevicesTest, ClipsTheRangeAtTheEndOfTheBus) {
  BusHarness harness;
  harness.PlugDummy(16);
  const Received across = harness.Ask(GetDevicesRequest(16, 0xFFF8));
  EXPECT_EQ(across.u16(0), 16);
  EXPECT_EQ(across.u16(2), 16);
  EXPECT_EQ(across.u16(4), 0);
  EXPECT_EQ(across.u16(6), 1);
  for (const uint16_t offset : {32, 64, 0xFFF8}) {
    const Received past = harness.Ask(GetDevicesRequest(offset, 8));
    EXPECT_EQ(past.msg_size(), 14);
    EXPECT_EQ(past.u16(0), offset);
    EXPECT_EQ(past.u16(2), 0);
    EXPECT_EQ(past.u16(4), 0);
  }
}

// O-23.
TEST(GetDevicesTest, CountZeroGivesAnEmptyBitmap) {
  BusHarness harness;
  harness.PlugDummy(0);
  const Received answer = harness.Ask(GetDevicesRequest(0, 0));
  EXPECT_EQ(answer.msg_size(), 14);
  EXPECT_EQ(answer.u16(2), 0);
}

TEST(GetDevicesTest, UnalignedRangeIsDroppedAndCounted) {
  BusHarness harness;
  harness.DriverBreaks("BUS-ENUM-3");
  EXPECT_TRUE(harness.Send(GetDevicesRequest(4, 8)).empty());
  EXPECT_TRUE(harness.Send(GetDevicesRequest(0, 9)).empty());
  EXPECT_EQ(harness.counters().malformed.value(), 2u);
  EXPECT_EQ(harness.counters().answered.value(), 0u);
}

// --- PING: virtio-msg-messages, 5.2. ---

TEST(PingTest, DataAndTokenComeBackUnchanged) {
  BusHarness harness;
  for (const uint32_t data : {0u, 1u, 0x12345678u, 0xFFFFFFFFu}) {
    const std::vector<Received> got = harness.Send(PingRequest(data, 0xBEEF));
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].type(), 3);
    EXPECT_EQ(got[0].id(), 3);
    EXPECT_EQ(got[0].token(), 0xBEEF);
    EXPECT_EQ(got[0].u32(0), data);
  }
}

TEST(PingTest, AnswerOfTheDriverGivesNoAnswer) {
  BusHarness harness;
  harness.DriverBreaks("BUS-PING-1");
  EXPECT_TRUE(harness.Send(Message(3, 0x03, 0, Payload().U32(7))).empty());
  EXPECT_EQ(harness.counters().malformed.value(), 0u);
}

// --- Routing. ---

// virtio-msg-messages, 2.3: 0 is also an ordinary device number.
TEST(RoutingTest, ClassBitTellsBusFromDeviceZero) {
  BusHarness harness;
  harness.PlugDummy(0, {.device_id = 77});
  const Received info = harness.Ask(GetDeviceInfoRequest(0));
  EXPECT_EQ(info.type(), 1);
  EXPECT_EQ(info.u32(0), 77u);
  const Received devices = harness.Ask(GetDevicesRequest(0, 8));
  EXPECT_EQ(devices.type(), 3);
  EXPECT_EQ(devices.u8(6), 1);
}

TEST(RoutingTest, AnswerCarriesDeviceNumberAndToken) {
  BusHarness harness;
  harness.PlugDummy(3, {.device_id = 33});
  harness.PlugDummy(4, {.device_id = 44});
  const std::vector<Received> got =
      harness.Send({GetDeviceInfoRequest(4, 1), GetDeviceInfoRequest(3, 2)});
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].dev(), 4);
  EXPECT_EQ(got[0].token(), 1);
  EXPECT_EQ(got[0].u32(0), 44u);
  EXPECT_EQ(got[1].dev(), 3);
  EXPECT_EQ(got[1].token(), 2);
  EXPECT_EQ(got[1].u32(0), 33u);
}

// amp-pci-device, 4: a device number of 32 or more is dropped.
TEST(RoutingTest, DeviceNumberOfThirtyTwoOrMoreIsDroppedAndCounted) {
  BusHarness harness;
  harness.DriverBreaks("DRV-HDR-5");
  for (const uint16_t dev : {32, 33, 0x100, 0xFFFF}) {
    EXPECT_TRUE(harness.Send(GetDeviceInfoRequest(dev)).empty());
  }
  EXPECT_EQ(harness.counters().unknown_device.value(), 4u);
  EXPECT_EQ(harness.counters().malformed.value(), 0u);
  EXPECT_FALSE(harness.Send(GetDeviceInfoRequest(31)).empty());
}

// virtio-msg-messages, 6.2: discarded without any traffic.
TEST(RoutingTest, MalformedMessagesAreDroppedAndCounted) {
  BusHarness harness;
  harness.DriverBreaks("DRV-LIMIT-2 DRV-HDR-3 FACT-HDR-2 BUS-HDR-2");
  harness.PlugDummy(5);
  EXPECT_TRUE(harness.Send(Bytes(3)).empty());             // too short
  EXPECT_TRUE(harness.Send(Message(0, 0x0D, 5)).empty());  // unknown id
  EXPECT_TRUE(harness.Send(Message(1, 0x02, 5)).empty());  // a response
  EXPECT_TRUE(harness.Send(Message(0, 0x05, 5)).empty());  // short payload
  EXPECT_TRUE(harness.Send(Message(2, 0x03, 5)).empty());  // bus, number
  EXPECT_TRUE(harness.Send(Message(0, 0x80, 5)).empty());  // implementation
  EXPECT_EQ(harness.counters().received.value(), 6u);
  EXPECT_EQ(harness.counters().malformed.value(), 6u);
  EXPECT_EQ(harness.counters().answered.value(), 0u);
  EXPECT_FALSE(harness.bus().driver_seen());
}

class CountingSink final : public vmm::LogSink {
 public:
  void Write(const vmm::LogRecord&) override { ++lines; }
  int lines = 0;
};

// amp-pci-device, 4: counted, logged at a limited rate.
TEST(RoutingTest, MalformedMessagesAreLoggedAtALimitedRate) {
  CountingSink sink;
  BusHarness harness({}, &sink);
  harness.DriverBreaks("DRV-LIMIT-2 DRV-HDR-5");
  for (int i = 0; i < 1000; ++i) {
    harness.link().Enqueue(Message(0, 0x0D, 5));
    harness.link().Enqueue(GetStatusRequest(99));
  }
  harness.link().Service();
  EXPECT_EQ(harness.counters().malformed.value(), 1000u);
  EXPECT_GT(sink.lines, 0);
  EXPECT_LE(sink.lines, static_cast<int>(vmm::Logger::kGuestBurst));
}

TEST(RoutingTest, FirstValidMessageShowsTheDriver) {
  BusHarness harness;
  EXPECT_FALSE(harness.bus().driver_seen());
  harness.Send(PingRequest(1));
  EXPECT_TRUE(harness.bus().driver_seen());
}

// --- Empty slots: amp-pci-device, 4. ---

struct NeutralCase {
  std::string_view name;
  Bytes request;
  Bytes answer;
  std::string_view broken = "";  // rows
};

class EmptySlotTest : public testing::TestWithParam<NeutralCase> {};

TEST_P(EmptySlotTest, AnswersNeutrally) {
  BusHarness harness;
  harness.DriverBreaks(GetParam().broken);
  const std::vector<Received> got = harness.Send(GetParam().request);
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].bytes(), GetParam().answer);
  EXPECT_EQ(harness.counters().malformed.value(), 0u);
}

Bytes Response(uint8_t id, const Payload& payload = {}) {
  return Message(1, id, 7, payload);
}

INSTANTIATE_TEST_SUITE_P(
    AllRequests, EmptySlotTest,
    testing::Values(
        NeutralCase{"GetDeviceInfo", GetDeviceInfoRequest(7),
                    Response(0x02, Payload().U64(0).U64(0).U64(0))},
        NeutralCase{"GetDeviceFeatures", GetDeviceFeaturesRequest(7, 0, 2),
                    Response(0x03, Payload().U32(0).U32(2).U64(0)),
                    "DRV-INIT-1"},
        NeutralCase{"SetDriverFeatures", SetDriverFeaturesRequest(7, 0, {1}),
                    Response(0x04), "DRV-INIT-1 DRV-FEAT-1 DRV-STATUS-2"},
        NeutralCase{"GetConfig", GetConfigRequest(7, 4, 8),
                    Response(0x05, Payload().U32(0).U32(4).U32(0)),
                    "DRV-INIT-1"},
        NeutralCase{"SetConfig", SetConfigRequest(7, 0, 4, {1}),
                    Response(0x06, Payload().U32(0).U32(4).U32(0)),
                    "DRV-GEN-1 DRV-INIT-1"},
        NeutralCase{"GetDeviceStatus", GetStatusRequest(7),
                    Response(0x07, Payload().U32(0))},
        NeutralCase{"SetDeviceStatus", SetStatusRequest(7, 1),
                    Response(0x08, Payload().U32(0)), "DRV-INIT-1"},
        NeutralCase{"Reset", SetStatusRequest(7, 0),
                    Response(0x08, Payload().U32(0))},
        NeutralCase{
            "GetVqueue", GetVqueueRequest(7, 3),
            Response(
                0x09,
                Payload().U32(3).U32(0).U32(0).U32(0).U64(0).U64(0).U64(0)),
            "DRV-INIT-1"},
        NeutralCase{"SetVqueue", SetVqueueRequest(7, 0, 8, 0, 0, 0),
                    Response(0x0A), "DRV-INIT-1 DRV-INIT-2 DRV-VQ-1 DRV-VQ-3"},
        NeutralCase{"ResetVqueue", ResetVqueueRequest(7, 0), Response(0x0B),
                    "DRV-RVQ-1"},
        NeutralCase{"GetShm", GetShmRequest(7, 1),
                    Response(0x0C, Payload().U32(1).U32(0).U32(0))}),
    [](const auto& param_info) { return std::string(param_info.param.name); });

// O-12: what fits.
TEST(EmptySlotEventTest, FeatureAnswerStaysWithinTheMaximum) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  const Received answer =
      harness.Ask(GetDeviceFeaturesRequest(7, 0, 0xFFFFFFFF));
  EXPECT_EQ(answer.msg_size(), 64);
  EXPECT_EQ(answer.u32(4), 12u);
}

TEST(EmptySlotEventTest, EventIsDroppedInSilence) {
  BusHarness harness;
  harness.DriverBreaks("DRV-FINAL-3");
  EXPECT_TRUE(harness.Send(AvailEvent(7, 0)).empty());
  EXPECT_EQ(harness.counters().malformed.value(), 0u);
}

}  // namespace
}  // namespace vmsg::msg
