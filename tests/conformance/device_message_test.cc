// Rows about what a device sends and takes, whatever the message says.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"
#include "tests/conformance/transport_requests.h"

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;
using virtio::DummyOptions;

constexpr uint16_t kDev = 5;
constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};

Bytes With(Bytes message, size_t at, uint8_t value) {
  message.at(at) = static_cast<std::byte>(value);
  return message;
}

Bytes Cut(Bytes message, size_t size) {
  message.resize(size);
  return With(message, 6, static_cast<uint8_t>(size));
}

// --- Limits and revisions. ---

TEST(DeviceMessageConformance, DEV_LIMIT_1_StaysWithinTheMaximum) {
  for (const uint32_t limit : {48u, 64u, 264u}) {
    BusHarness harness({.max_message_bytes = limit});
    DummyDevice* const device = harness.PlugDummy(
        kDev, {.config_size = 256, .max_transition_delay = {}});
    harness.Start(kDev);
    std::vector<Received> got = harness.Send(
        {GetDeviceFeaturesRequest(kDev, 0, 1000),
         GetConfigRequest(kDev, 0, limit - 20), GetConfigRequest(kDev, 0, 256),
         GetVqueueRequest(kDev, 0)});
    ASSERT_EQ(got.size(), 4u);
    device->ChangeConfig(0, Bytes(256));
    for (const Received& event : harness.RunFor({})) got.push_back(event);
    ASSERT_EQ(got.size(), 5u);
    for (const Received& m : got) EXPECT_LE(m.bytes().size(), limit);
    EXPECT_EQ(got[1].bytes().size(), limit);
  }
}

TEST(DeviceMessageConformance, DEV_LIMIT_2_RevisionOneAloneIsEnough) {
  BusHarness harness;
  harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 2);
  EXPECT_EQ(harness.Status(kDev), 15u);
  EXPECT_TRUE(harness.RunFor(std::chrono::seconds(10)).empty());
}

TEST(DeviceMessageConformance, DEV_LIMIT_3_UnsupportedFeatureIsRefused) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-1");
  harness.PlugDummy(kDev, {.offered = {28, 32}});
  harness.Ask(SetStatusRequest(kDev, 3));
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {0, 1u | 1u << 2}));
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 11)).u32(0), 3u);
}

TEST(DeviceMessageConformance, DEV_REV_2_RequestsOfOtherRevisionsAreIgnored) {
  BusHarness harness;
  harness.DriverBreaks("DRV-LIMIT-2");
  harness.PlugDummy(kDev, kInstant);
  uint64_t dropped = 0;
  for (int id = 0x0D; id <= 0x3F; ++id) {
    EXPECT_TRUE(
        harness
            .Send(Message(0, static_cast<uint8_t>(id), kDev, Payload().U64(0)))
            .empty())
        << id;
    EXPECT_EQ(harness.counters().malformed.value(), ++dropped);
  }
  // A request that has an error indication of its own uses it.
  EXPECT_EQ(harness.Ask(GetShmRequest(kDev, 7)).u32(4), 0u);
}

// --- Errors. ---

TEST(DeviceMessageConformance, DEV_ERR_1_MalformedMessagesCauseNoTraffic) {
  BusHarness harness;
  harness.DriverBreaks("DRV-LIMIT-1 DRV-LIMIT-2 DRV-HDR-3 FACT-HDR-2");
  harness.PlugDummy(kDev, kInstant);
  std::vector<Bytes> bad;
  for (const TransportRequest& request : TransportRequests(kDev)) {
    const Bytes& good = request.bytes;
    bad.push_back(Bytes(good.begin(), good.begin() + 7));
    bad.push_back(With(good, 6, 7));
    bad.push_back(With(good, 6, static_cast<uint8_t>(good.size() + 1)));
    bad.push_back(With(good, 7, 1));  // 256 more than there are
    bad.push_back(With(good, 0, 1));  // as if it were an answer
    if (good.size() > 8) bad.push_back(Cut(good, good.size() - 1));
    if (good.size() > 8) bad.push_back(Cut(good, 8));
  }
  bad.push_back(With(SetDriverFeaturesRequest(kDev, 0, {0, 1}), 12, 3));
  bad.push_back(With(SetDriverFeaturesRequest(kDev, 0, {0, 1}), 15, 0x40));
  bad.push_back(With(SetConfigRequest(kDev, 0, 4, {1}), 16, 2));
  bad.push_back(With(SetConfigRequest(kDev, 0, 4, {1}), 19, 0x80));
  bad.push_back(Message(0, 0x40, kDev, Payload().U64(0).U64(0)));
  bad.push_back(Message(0, 0x42, kDev, Payload().U32(0)));
  bad.push_back(Cut(AvailEvent(kDev, 0), 15));
  for (const Bytes& message : bad) {
    EXPECT_TRUE(harness.Send(message).empty()) << testing::PrintToString(
        std::vector<int>(
            reinterpret_cast<const uint8_t*>(message.data()),
            reinterpret_cast<const uint8_t*>(message.data()) + message.size()));
  }
  EXPECT_EQ(harness.counters().malformed.value(), bad.size());
  EXPECT_EQ(harness.Status(kDev), 0u);
}

TEST(DeviceMessageConformance, DEV_ERR_2_RecoveryGoesByResetAndStatus) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev);
  device->Break("test");
  EXPECT_EQ(harness.Status(kDev), 79u);
  // The error does not go away by writing other bits.
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 15)).u32(0), 79u);
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 0)).u32(0), 0u);
  EXPECT_EQ(harness.Ask(GetVqueueRequest(kDev, 0)).u32(8), 0u);
  harness.Start(kDev);
  EXPECT_EQ(harness.Status(kDev), 15u);
}

// --- Bytes. ---

TEST(DeviceMessageConformance, DEV_ENDIAN_1_FieldsAreLittleEndianBothWays) {
  BusHarness harness;
  harness.DriverBreaks("DRV-VQ-1");
  harness.PlugDummy(kDev);
  harness.Negotiate(kDev);
  EXPECT_EQ(harness
                .Ask(Hex("00 0a 05 00 02 01 30 00  01 00 00 00 00 00 00 00"
                         "10 00 00 00 00 00 00 00  40 23 01 00 00 00 00 00"
                         "82 45 02 00 00 00 00 00  c4 67 03 00 00 00 00 00"))
                .bytes(),
            Hex("01 0a 05 00 02 01 08 00"));
  EXPECT_EQ(harness.Ask(Hex("00 09 05 00 04 03 0c 00 01 00 00 00")).bytes(),
            Hex("01 09 05 00 04 03 30 00  01 00 00 00 40 00 00 00"
                "10 00 00 00 00 00 00 00  40 23 01 00 00 00 00 00"
                "82 45 02 00 00 00 00 00  c4 67 03 00 00 00 00 00"));
}

TEST(DeviceMessageConformance, DEV_HDR_1_SendsReservedTypeBitsAsZero) {
  BusHarness harness;
  harness.DriverBreaks("DRV-HDR-1 DRV-INIT-2 DRV-VQ-1 DRV-STATUS-2 DRV-RVQ-1");
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  for (const TransportRequest& request : TransportRequests(kDev)) {
    // Also in the answer to a request that has them set.
    EXPECT_EQ(harness.Ask(request.bytes).type(), 1);
    EXPECT_EQ(harness.Ask(With(request.bytes, 0, 0xFC)).type(), 1);
  }
  harness.Start(kDev);
  device->ChangeConfig(4, Hex("01"));
  const std::vector<Received> events = harness.RunFor({});
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].type(), 0);
}

TEST(DeviceMessageConformance, DEV_HDR_2_IgnoresReservedTypeBits) {
  BusHarness harness;
  harness.DriverBreaks("DRV-HDR-1 DRV-INIT-2 DRV-VQ-1 DRV-STATUS-2 DRV-RVQ-1");
  harness.PlugDummy(kDev, kInstant);
  for (const TransportRequest& request : TransportRequests(kDev)) {
    for (int bit = 2; bit < 8; ++bit) {
      const std::vector<Received> got =
          harness.Send(With(request.bytes, 0, static_cast<uint8_t>(1 << bit)));
      ASSERT_EQ(got.size(), 1u);
      EXPECT_EQ(got[0].msg_size(), request.answer_bytes);
    }
  }
}

TEST(DeviceMessageConformance, DEV_HDR_3_MsgSizeIsHeaderPlusPayload) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-2 DRV-STATUS-2 DRV-RVQ-1");
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  for (const TransportRequest& request : TransportRequests(kDev)) {
    const Received answer = harness.Ask(request.bytes);
    EXPECT_EQ(answer.msg_size(), answer.bytes().size());
    EXPECT_LE(answer.msg_size(), 64);
  }
  harness.Start(kDev);
  device->ChangeConfig(4, Hex("01 02 03"));
  const std::vector<Received> events = harness.RunFor({});
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(events[0].msg_size(), 27);
  EXPECT_EQ(events[0].bytes().size(), 27u);
}

TEST(DeviceMessageConformance, DEV_HDR_4_SendsItsOwnNumber) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-2 DRV-STATUS-2 DRV-RVQ-1");
  for (const uint16_t dev : {0, 5, 31}) {
    DummyDevice* const device = harness.PlugDummy(dev, kInstant);
    for (const TransportRequest& request : TransportRequests(dev)) {
      EXPECT_EQ(harness.Ask(request.bytes).dev(), dev);
    }
    harness.Start(dev);
    device->ChangeConfig(4, Hex("01"));
    const std::vector<Received> events = harness.RunFor({});
    ASSERT_EQ(events.size(), 1u);
    EXPECT_TRUE(events[0].is_config_event());
    EXPECT_EQ(events[0].dev(), dev);
  }
}

TEST(DeviceMessageConformance, DEV_HDR_5_IgnoresPadding) {
  BusHarness harness;
  harness.DriverBreaks(
      "DRV-HDR-6 DRV-INIT-2 DRV-VQ-1 DRV-STATUS-2 DRV-RVQ-1 BUS-HDR-6");
  harness.PlugDummy(kDev, kInstant);
  for (const TransportRequest& request : TransportRequests(kDev)) {
    // After the message, as a packet has it, and inside msg_size (O-26).
    Bytes padded = request.bytes;
    padded.resize(64, std::byte{0xEE});
    const Bytes inside = With(padded, 6, 64);
    for (const Bytes& message : {padded, inside}) {
      const std::vector<Received> got = harness.Send(message);
      ASSERT_EQ(got.size(), 1u);
      EXPECT_EQ(got[0].msg_size(), request.answer_bytes);
    }
  }
  EXPECT_EQ(harness.counters().malformed.value(), 0u);
}

TEST(DeviceMessageConformance, DEV_HDR_6_AddsNoPaddingButZeroes) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-2 DRV-STATUS-2 DRV-RVQ-1");
  harness.PlugDummy(kDev, kInstant);
  for (const TransportRequest& request : TransportRequests(kDev)) {
    EXPECT_EQ(harness.Ask(request.bytes).bytes().size(), request.answer_bytes);
  }
  EXPECT_EQ(harness.Ask(GetVqueueRequest(kDev, 0)).u32(12), 0u);
}

TEST(DeviceMessageConformance, DEV_HDR_7_TokenComesBackAsItWas) {
  BusHarness harness;
  harness.PlugDummy(kDev, kInstant);
  for (const uint16_t token : {0, 1, 0x80FF, 0xFFFF}) {
    EXPECT_EQ(harness.Ask(GetStatusRequest(kDev, token)).token(), token);
    EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 0, token)).token(), token);
  }
}

TEST(DeviceMessageConformance, DEV_HDR_8_MeaningDoesNotDependOnTheToken) {
  BusHarness harness;
  harness.PlugDummy(kDev, {.device_id = 9});
  std::vector<Bytes> requests;
  for (const uint16_t token : {7, 7, 0, 0xFFFF, 7}) {
    requests.push_back(GetDeviceInfoRequest(kDev, token));
  }
  const std::vector<Received> got = harness.Send(requests);
  ASSERT_EQ(got.size(), 5u);
  for (const Received& m : got) EXPECT_EQ(m.u32(0), 9u);
}

TEST(DeviceMessageConformance, ALL_HDR_1_ValuesWithoutMeaningAreIgnored) {
  BusHarness harness;
  harness.DriverBreaks("DRV-HDR-1 DRV-INIT-4 DRV-VQ-1 DRV-STATUS-2 FACT-SVQ-1");
  harness.PlugDummy(kDev, kInstant);
  harness.Negotiate(kDev);
  // Status bits 8 to 31 (O-32).
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, 0xABCDEF0B)).u32(0), 11u);
  EXPECT_EQ(harness.Status(kDev), 11u);
  // Both reserved words of SET_VQUEUE.
  Bytes set = BusHarness::SetVqueueFor(kDev, 0);
  for (size_t i = 0; i < 4; ++i) set[12 + i] = set[20 + i] = std::byte{0xFF};
  harness.Ask(set);
  const Received queue = harness.Ask(GetVqueueRequest(kDev, 0));
  EXPECT_EQ(queue.u32(8), 8u);
  EXPECT_EQ(queue.u32(12), 0u);
  // Type bits, together with an event.
  EXPECT_TRUE(harness.Send(With(AvailEvent(kDev, 0), 0, 0xFC)).empty());
  EXPECT_EQ(harness.counters().malformed.value(), 0u);
}

TEST(DeviceMessageConformance, DEV_CORE_1_AnswersTheWholeSet) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-2 DRV-STATUS-2 DRV-RVQ-1");
  harness.PlugDummy(kDev, kInstant);
  uint8_t id = 0x02;
  for (const TransportRequest& request : TransportRequests(kDev)) {
    const std::vector<Received> got = harness.Send(request.bytes);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].id(), id++);
    EXPECT_TRUE(got[0].is_response());
  }
  EXPECT_EQ(id, 0x0D);
}

// --- Facts. ---

TEST(DeviceMessageConformance, FACT_HDR_1_HeaderHasEightBytesInThisOrder) {
  BusHarness harness;
  harness.PlugDummy(0x1F, {.device_id = 0x0A});
  const Received answer = harness.Ask(Hex("00 02 1f 00 cd ab 08 00"));
  const Bytes& bytes = answer.bytes();
  EXPECT_EQ(Bytes(bytes.begin(), bytes.begin() + 12),
            Hex("01 02 1f 00 cd ab 20 00  0a 00 00 00"));
}

TEST(DeviceMessageConformance, FACT_HDR_2_TypeTellsDirectionAndClass) {
  BusHarness harness;
  harness.DriverBreaks("FACT-HDR-2");
  harness.PlugDummy(0, kInstant);
  // Id 0x02 of number 0 in both spaces.
  const std::vector<Received> got =
      harness.Send({Hex("00 02 00 00 01 00 08 00"),
                    Hex("02 02 00 00 02 00 0c 00 00 00 08 00")});
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].type(), 1);
  EXPECT_EQ(got[0].msg_size(), 32);
  EXPECT_EQ(got[1].type(), 3);
  EXPECT_EQ(got[1].msg_size(), 15);
  // The response bit makes both of them something that nobody asked for.
  EXPECT_TRUE(harness.Send(Hex("01 02 00 00 01 00 08 00")).empty());
  EXPECT_TRUE(harness.Send(Hex("03 02 00 00 02 00 0c 00 00 00 08 00")).empty());
}

TEST(DeviceMessageConformance, FACT_ID_1_OnlyRequestsAreAnswered) {
  BusHarness harness;
  harness.DriverBreaks(
      "DRV-LIMIT-2 DRV-INIT-2 DRV-VQ-3 DRV-STATUS-2 DRV-FINAL-3 DRV-RVQ-1");
  harness.PlugDummy(0, kInstant);
  int answered = 0;
  for (int type : {0, 2}) {
    for (int id = 0; id < 256; ++id) {
      Payload payload;
      for (int i = 0; i < 7; ++i) payload.U64(0);
      const std::vector<Received> got = harness.Send(Message(
          static_cast<uint8_t>(type), static_cast<uint8_t>(id), 0, payload));
      if (got.empty()) continue;
      ASSERT_EQ(got.size(), 1u);
      EXPECT_EQ(got[0].id(), id);
      EXPECT_EQ(id & 0xC0, 0) << id;
      ++answered;
    }
  }
  EXPECT_EQ(answered, 11 + 2);
}

TEST(DeviceMessageConformance, FACT_ID_2_IdsZeroAndOneAreReserved) {
  BusHarness harness;
  harness.DriverBreaks("DRV-LIMIT-2");
  harness.PlugDummy(0, kInstant);
  for (const uint8_t type : {0, 1, 2, 3}) {
    for (const uint8_t id : {0, 1}) {
      EXPECT_TRUE(harness.Send(Message(type, id, 0, Payload().U64(0))).empty());
    }
  }
  EXPECT_EQ(harness.counters().malformed.value(), 8u);
}

// --- GET_SHM. ---

constexpr DummyOptions kWithRegion = {
    .shared_memory =
        virtio::SharedMemoryRegion{.address = {0xC0001000}, .length = 0x23000}};

TEST(DeviceMessageConformance, DEV_SHM_1_MissingRegionHasLengthZero) {
  BusHarness harness;
  harness.PlugDummy(kDev, kWithRegion);
  for (const uint32_t index : {1u, 255u, 256u, 0x80000000u}) {
    EXPECT_EQ(harness.Ask(GetShmRequest(kDev, index)).u32(4), 0u);
  }
}

TEST(DeviceMessageConformance, DEV_SHM_2_RegionIsDescribedAsItIs) {
  BusHarness harness;
  harness.PlugDummy(kDev, kWithRegion);
  const Received region = harness.Ask(GetShmRequest(kDev, 0));
  EXPECT_EQ(region.u32(4), 0x23000u);
  EXPECT_EQ(region.u32(8), 0xC0001000u);
}

TEST(DeviceMessageConformance, FACT_SHM_1_AnswerEchoesTheIndex) {
  BusHarness harness;
  harness.PlugDummy(kDev, kWithRegion);
  for (const uint32_t index : {0u, 1u, 0xFFFFFFFFu}) {
    EXPECT_EQ(harness.Ask(GetShmRequest(kDev, index)).u32(0), index);
  }
}

}  // namespace
}  // namespace vmsg::msg
