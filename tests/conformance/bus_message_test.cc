// Rows about how a bus carries messages: routing, limits, order, errors and
// notifications.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/features.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"
#include "tests/conformance/transport_requests.h"
#include "vmm/base/log.h"

namespace vmsg::msg {
namespace {

using std::chrono::seconds;
using virtio::DummyDevice;
using virtio::DummyOptions;
using virtio::FakeDriverQueue;

class CountingLogSink final : public vmm::LogSink {
 public:
  void Write(const vmm::LogRecord&) override { ++lines; }
  uint32_t lines = 0;
};

constexpr uint16_t kDev = 5;
constexpr uint32_t kRingReset = 1u << (virtio::kFeatureRingReset - 32);
constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};

Bytes With(Bytes message, size_t at, uint8_t value) {
  message.at(at) = static_cast<std::byte>(value);
  return message;
}

Bytes SetConfigOf(size_t bytes) {
  Payload payload;
  payload.U32(0).U32(8).U32(static_cast<uint32_t>(bytes));
  for (size_t i = 0; i < bytes; ++i) payload.Data({0x5A});
  return Message(0, 0x06, kDev, payload);
}

void AddEcho(FakeDriverQueue* queue) {
  const std::array<FakeDriverQueue::Buffer, 2> buffers = {
      FakeDriverQueue::Buffer{{0x80000}, 4, false},
      FakeDriverQueue::Buffer{{0x81000}, 4, true}};
  EXPECT_TRUE(queue->Add(buffers).has_value());
}

FakeDriverQueue QueueOf(BusHarness* harness, uint32_t index) {
  return FakeDriverQueue(&harness->memory(),
                         BusHarness::QueuePlace(kDev, index).desc, 8);
}

// --- Routing. ---

TEST(BusMessageConformance, BUS_FWD_1_MessagesReachTheNumberInTheHeader) {
  BusHarness harness;
  harness.PlugDummy(0, {.device_id = 100});
  harness.PlugDummy(3, {.device_id = 103});
  harness.Enumerate();
  harness.PlugDummy(7, {.device_id = 107});
  harness.RunFor({});                         // 7 was announced,
  harness.PlugDummy(31, {.device_id = 131});  // 31 was not
  for (const uint16_t dev : {31, 0, 7, 3}) {
    EXPECT_EQ(harness.Ask(GetDeviceInfoRequest(dev)).u32(0), 100u + dev);
  }
  harness.Ask(SetStatusRequest(7, 1));
  EXPECT_EQ(harness.Status(7), 1u);
  EXPECT_EQ(harness.Status(3), 0u);
}

// Whatever the payload holds, it is for the device to judge.
TEST(BusMessageConformance, BUS_FWD_2_ValuesAreForTheDeviceToJudge) {
  BusHarness harness;
  harness.DriverBreaks(
      "DRV-HDR-6 DRV-INIT-1 DRV-FEAT-1 DRV-FEAT-4 DRV-VQ-3 DRV-STATUS-2 "
      "DRV-FINAL-1 DRV-RVQ-1 FACT-SVQ-1");
  harness.PlugDummy(kDev, kInstant);
  harness.Enumerate();
  for (const uint8_t id : {0x03, 0x05, 0x07, 0x08, 0x09, 0x0A, 0x0B, 0x0C}) {
    Payload payload;
    for (int i = 0; i < 5; ++i) payload.U64(~uint64_t{0});
    const std::vector<Received> got =
        harness.Send(Message(0, id, kDev, payload));
    ASSERT_EQ(got.size(), 1u) << int{id};
    EXPECT_EQ(got[0].id(), id);
  }
}

TEST(BusMessageConformance, BUS_FWD_3_PayloadArrivesAsItWasSent) {
  BusHarness harness;
  harness.DriverBreaks("DRV-GEN-1 DRV-INIT-1");
  DummyDevice* const device = harness.PlugDummy(kDev, {.config_size = 48});
  Bytes sent(44);
  for (size_t i = 0; i < sent.size(); ++i) {
    sent[i] = static_cast<std::byte>(37 * i + 11);
  }
  Bytes message = SetConfigOf(40);
  std::copy(sent.begin(), sent.begin() + 40, message.begin() + 20);
  EXPECT_EQ(harness.Ask(message).u32(8), 40u);
  Bytes arrived(40);
  device->ReadConfig(8, arrived);
  EXPECT_EQ(arrived, Bytes(sent.begin(), sent.begin() + 40));
}

TEST(BusMessageConformance, BUS_DEVNUM_1_NumberHasOneDevice) {
  BusHarness harness;
  harness.PlugDummy(kDev, {.device_id = 1});
  DummyOptions other;
  other.device_id = 2;
  EXPECT_EQ(
      harness.bus()
          .Plug(kDev, 9, std::make_unique<DummyDevice>(other, &harness.loop()))
          .code(),
      absl::StatusCode::kAlreadyExists);
  EXPECT_EQ(harness.Ask(GetDeviceInfoRequest(kDev)).u32(0), 1u);
}

// The bus's policy for empty slots departs: it answers in their place, so that
// no driver waits for ever. No device hears of it.
TEST(BusMessageConformance, BUS_DEVNUM_2_EmptySlotsAreAnsweredForByTheBus) {
  BusHarness harness;
  harness.DriverBreaks("DRV-HDR-5 DRV-RVQ-1");
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev);
  for (const TransportRequest& request : TransportRequests(6)) {
    const std::vector<Received> got = harness.Send(request.bytes);
    ASSERT_EQ(got.size(), 1u);
    EXPECT_EQ(got[0].dev(), 6);
    // Neutral: of what does not echo the request everything is zero.
    const size_t echoed = got[0].id() == 0x03 ? 8 : got[0].id() == 0x06 ? 8 : 4;
    const bool echoes = got[0].id() == 0x03 || got[0].id() == 0x05 ||
                        got[0].id() == 0x06 || got[0].id() == 0x09 ||
                        got[0].id() == 0x0C;
    for (size_t p = echoes ? echoed : 0; p + 8 < got[0].bytes().size(); ++p) {
      if (got[0].id() == 0x05 && p < 8) continue;  // echoed offset
      EXPECT_EQ(got[0].u8(p), 0) << int{got[0].id()} << " " << p;
    }
  }
  EXPECT_TRUE(harness.Send(AvailEvent(6, 0)).empty());
  // Numbers that the bus does not have are dropped.
  for (const uint16_t dev : {32, 255, 0xFFFF}) {
    for (const TransportRequest& request : TransportRequests(dev)) {
      EXPECT_TRUE(harness.Send(request.bytes).empty());
    }
  }
  EXPECT_EQ(harness.counters().unknown_device.value(), 33u);
  EXPECT_EQ(harness.Status(kDev), 15u);
  EXPECT_EQ(device->stats().resets, 1u);  // Start()'s own
}

// --- Limits. ---

TEST(BusMessageConformance, BUS_PARAM_1_LimitHoldsFromTheFirstMessageOn) {
  for (const bool fits : {true, false}) {
    BusHarness harness({.max_message_bytes = 48});
    harness.DriverBreaks(fits ? "DRV-GEN-1 DRV-INIT-1" : "DRV-LIMIT-1");
    harness.PlugDummy(kDev, {.config_size = 64});
    const std::vector<Received> got = harness.Send(SetConfigOf(fits ? 28 : 29));
    EXPECT_EQ(!got.empty() && got[0].is_response(), fits);
    EXPECT_EQ(harness.counters().malformed.value(), fits ? 0u : 1u);
  }
}

TEST(BusMessageConformance, BUS_PARAM_2_LimitIsTheSameBothWays) {
  for (const uint32_t limit : {48u, 64u, 100u, 264u}) {
    BusHarness harness({.max_message_bytes = limit});
    harness.DriverBreaks("DRV-LIMIT-1 DRV-GEN-1 DRV-INIT-1");
    harness.PlugDummy(kDev, {.config_size = 512});
    harness.Enumerate();
    EXPECT_EQ(harness.Send(SetConfigOf(limit - 20)).size(), 1u);
    EXPECT_TRUE(harness.Send(SetConfigOf(limit - 19)).empty());
    EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 0, limit - 20)).msg_size(),
              limit);
    EXPECT_EQ(harness.Ask(GetConfigRequest(kDev, 0, limit - 19)).msg_size(),
              20);
  }
}

TEST(BusMessageConformance, BUS_SIZE_1_AdvertisesEnoughForEveryMessage) {
  EXPECT_GE(MessageBusOptions().max_message_bytes, 48u);  // O-1
  EXPECT_DEATH(BusHarness({.max_message_bytes = 47}), "max_message_bytes");
}

TEST(BusMessageConformance, BUS_SIZE_2_AdvertisesAtMost264Bytes) {
  EXPECT_LE(MessageBusOptions().max_message_bytes, 264u);
  EXPECT_DEATH(BusHarness({.max_message_bytes = 265}), "max_message_bytes");
}

TEST(BusMessageConformance, BUS_REV_2_WhatTheRevisionLacksIsNotForwarded) {
  BusHarness harness;
  harness.DriverBreaks("DRV-LIMIT-2");
  DummyDevice* const device = harness.PlugDummy(0, kInstant);
  harness.Start(0);
  uint64_t dropped = 0;
  for (const uint8_t type : {0, 2}) {
    for (const uint8_t id : {0x0D, 0x20, 0x3F, 0x43, 0x7F, 0x80, 0xBF, 0xFF}) {
      EXPECT_TRUE(
          harness.Send(Message(type, id, 0, Payload().U64(0).U64(0))).empty());
      EXPECT_EQ(harness.counters().malformed.value(), ++dropped);
    }
  }
  EXPECT_EQ(device->stats().resets, 1u);
  EXPECT_EQ(harness.Status(0), 15u);
}

// --- Errors. ---

std::vector<Bytes> BadHeaders() {
  const Bytes ping = PingRequest(1);
  return {Bytes(),
          Bytes(ping.begin(), ping.begin() + 7),
          With(ping, 6, 7),
          With(ping, 6, 13),
          With(ping, 7, 1),
          With(ping, 1, 0x00),
          With(ping, 1, 0x04),
          With(ping, 1, 0x41),
          With(ping, 1, 0x80),
          With(ping, 1, 0x40),
          With(ping, 2, 1),
          With(GetDevicesRequest(0, 8), 0, 3),
          With(GetStatusRequest(kDev), 1, 0x01),
          With(GetStatusRequest(kDev), 1, 0xC0)};
}

TEST(BusMessageConformance, BUS_ERR_2_BadHeadersAndIdsAreInvalid) {
  BusHarness harness;
  harness.DriverBreaks(
      "DRV-LIMIT-1 DRV-LIMIT-2 DRV-HDR-3 FACT-HDR-2 BUS-HDR-2");
  uint64_t dropped = 0;
  for (const Bytes& message : BadHeaders()) {
    harness.Send(message);
    EXPECT_EQ(harness.counters().malformed.value(), ++dropped);
  }
}

TEST(BusMessageConformance, BUS_ERR_3_InvalidMessagesCauseNoTraffic) {
  BusHarness harness;
  harness.DriverBreaks(
      "DRV-LIMIT-1 DRV-LIMIT-2 DRV-HDR-3 FACT-HDR-2 BUS-HDR-2");
  harness.PlugDummy(kDev);
  EXPECT_TRUE(harness.Send(BadHeaders()).empty());
  EXPECT_TRUE(harness.RunFor(seconds(10)).empty());
  EXPECT_EQ(harness.counters().answered.value(), 0u);
}

TEST(BusMessageConformance, BUS_ERR_5_EventsAreNeverAnswered) {
  BusHarness harness;
  harness.DriverBreaks(
      "DRV-LIMIT-2 DRV-HDR-3 DRV-HDR-5 DRV-FINAL-3 DRV-NOTIF-2 FACT-HDR-2");
  harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev);
  std::vector<Bytes> events = {AvailEvent(kDev, 1),
                               AvailEvent(kDev, 0xFFFFFFFF),
                               AvailEvent(6, 0),
                               AvailEvent(32, 0),
                               AvailEvent(0xFFFF, 0),
                               With(AvailEvent(kDev, 0), 0, 1),
                               With(AvailEvent(kDev, 0), 6, 12),
                               With(AvailEvent(kDev, 0), 6, 40),
                               Message(0, 0x40, kDev, Payload().U64(0)),
                               Message(0, 0x42, kDev, Payload().U32(0)),
                               Message(2, 0x40, 0, Payload().U32(0)),
                               Message(0, 0xC0, kDev, Payload().U32(0))};
  EXPECT_TRUE(harness.Send(events).empty());
}

// --- The header. ---

TEST(BusMessageConformance, BUS_HDR_2_BusMessagesHaveNumberZero) {
  BusHarness harness;
  harness.DriverBreaks("BUS-HDR-2");
  EXPECT_EQ(harness.Ask(GetDevicesRequest(0, 32)).dev(), 0);
  EXPECT_EQ(harness.Ask(PingRequest(1)).dev(), 0);
  harness.PlugDummy(kDev);
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].dev(), 0);
  EXPECT_TRUE(harness.Send(With(PingRequest(1), 2, kDev)).empty());
}

TEST(BusMessageConformance, BUS_HDR_3_NumberOfATransportMessageStays) {
  BusHarness harness;
  for (uint16_t dev = 0; dev < 32; ++dev) {
    harness.PlugDummy(dev, {.device_id = 200u + dev});
    const Received info = harness.Ask(GetDeviceInfoRequest(dev));
    EXPECT_EQ(info.dev(), dev);
    EXPECT_EQ(info.u32(0), 200u + dev);
  }
}

TEST(BusMessageConformance, BUS_HDR_4_BusMessagesHaveReservedBitsZero) {
  BusHarness harness;
  harness.DriverBreaks("BUS-HDR-4");
  EXPECT_EQ(harness.Ask(With(PingRequest(1), 0, 0xFE)).type(), 3);
  EXPECT_EQ(harness.Ask(With(GetDevicesRequest(0, 8), 0, 0xFE)).type(), 3);
  harness.PlugDummy(kDev);
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].type(), 2);
}

TEST(BusMessageConformance, BUS_HDR_5_ReservedBitsDoNotMatterOnTheWay) {
  BusHarness harness;
  harness.DriverBreaks("DRV-HDR-1");
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev);
  FakeDriverQueue queue = QueueOf(&harness, 0);
  AddEcho(&queue);
  harness.Send(With(AvailEvent(kDev, 0), 0, 0xFC));
  EXPECT_EQ(device->stats().completed, 1u);
  EXPECT_EQ(harness.Ask(With(GetStatusRequest(kDev), 0, 0xA8)).u32(0), 15u);
}

TEST(BusMessageConformance, BUS_HDR_9_EqualTokensInFlightAreNoMatter) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  DummyDevice* const slow = harness.PlugDummy(kDev, kInstant);
  harness.PlugDummy(6, kInstant);
  harness.Enumerate();
  slow->HoldTransitions(true);
  std::vector<Received> got =
      harness.Send({SetStatusRequest(kDev, 0, 7), GetStatusRequest(kDev, 7),
                    SetStatusRequest(6, 1, 7), PingRequest(0x77, 7)});
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].dev(), 6);
  EXPECT_EQ(got[0].token(), 7);
  EXPECT_EQ(got[1].token(), 7);
  slow->HoldTransitions(false);
  got = harness.RunFor(seconds(1));
  ASSERT_EQ(got.size(), 2u);
  EXPECT_EQ(got[0].id(), 0x08);
  EXPECT_EQ(got[0].token(), 7);
  EXPECT_EQ(got[1].id(), 0x07);
  EXPECT_EQ(got[1].token(), 7);
}

// --- Order. ---

TEST(BusMessageConformance, BUS_ORD_1_AnswersKeepTheOrderPerNumber) {
  BusHarness harness;
  DummyDevice* const slow = harness.PlugDummy(kDev, kInstant);
  harness.Enumerate();
  slow->HoldTransitions(true);
  std::vector<Bytes> requests = {SetStatusRequest(kDev, 0, 1)};
  for (uint16_t token = 2; token <= 7; ++token) {
    requests.push_back(GetDeviceInfoRequest(kDev, token));
  }
  EXPECT_TRUE(harness.Send(requests).empty());
  slow->HoldTransitions(false);
  const std::vector<Received> got = harness.RunFor(seconds(1));
  ASSERT_EQ(got.size(), 7u);
  for (uint16_t i = 0; i < 7; ++i) EXPECT_EQ(got[i].token(), i + 1);
}

TEST(BusMessageConformance, BUS_ORD_2_EachRequestHasOneAnswer) {
  BusHarness harness;
  harness.DriverBreaks("DRV-FINAL-3");
  for (uint16_t dev = 0; dev < 4; ++dev) harness.PlugDummy(dev);
  harness.Enumerate();
  std::map<uint16_t, int> answers;
  const auto count = [&answers](const std::vector<Received>& all) {
    for (const Received& m : all) {
      EXPECT_TRUE(m.is_response());
      ++answers[m.token()];
    }
  };
  for (uint16_t token = 1; token <= 300; ++token) {
    // One in seven takes time; events between them get nothing.
    const auto dev = static_cast<uint16_t>(token % 5);  // 4 is empty
    count(harness.Send(token % 7 == 0 ? SetStatusRequest(dev, 0, token)
                                      : GetStatusRequest(dev, token)));
    count(harness.Send(AvailEvent(dev, 0)));
  }
  count(harness.RunFor(seconds(1)));
  EXPECT_EQ(answers.size(), 300u);
  for (const auto& [token, times] : answers) EXPECT_EQ(times, 1) << token;
}

// --- Notifications. ---

TEST(BusMessageConformance, BUS_NOTIF_2_EventAvailIsRelayed) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 2);
  FakeDriverQueue queue = QueueOf(&harness, 1);
  AddEcho(&queue);
  harness.Send(AvailEvent(kDev, 1));
  EXPECT_EQ(device->stats().completed, 1u);
}

TEST(BusMessageConformance, BUS_NOTIF_3_EventAvailOfABusyDeviceIsKept) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 2, 0, 1 | kRingReset);
  device->HoldTransitions(true);
  FakeDriverQueue queue = QueueOf(&harness, 0);
  AddEcho(&queue);
  harness.Send({ResetVqueueRequest(kDev, 1), AvailEvent(kDev, 0)});
  EXPECT_EQ(device->stats().taken, 0u);
  device->HoldTransitions(false);
  harness.RunFor(seconds(1));
  EXPECT_EQ(device->stats().completed, 1u);
}

TEST(BusMessageConformance, BUS_NOTIF_4_EventsWaitForRoomOnTheLink) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev);
  FakeDriverQueue queue = QueueOf(&harness, 0);
  harness.link().set_room(0);
  AddEcho(&queue);
  harness.Send(AvailEvent(kDev, 0));
  device->ChangeConfig(4, Hex("01"));
  EXPECT_TRUE(harness.RunFor(seconds(1)).empty());
  harness.link().set_room(8);
  harness.link().Service();
  bool used = false;
  bool config = false;
  for (const Received& m : harness.link().Take()) {
    used |= m.is_used_event();
    config |= m.is_config_event();
  }
  EXPECT_TRUE(used);
  EXPECT_TRUE(config);
}

TEST(BusMessageConformance, BUS_NOTIF_5_NothingPollsForNotifications) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev);
  FakeDriverQueue queue = QueueOf(&harness, 0);
  AddEcho(&queue);
  const uint64_t asked = harness.link().services_requested();
  EXPECT_TRUE(harness.RunFor(seconds(60)).empty());
  EXPECT_EQ(device->stats().taken, 0u);
  EXPECT_EQ(harness.link().services_requested(), asked);
  harness.Send(AvailEvent(kDev, 0));
  EXPECT_EQ(device->stats().completed, 1u);
}

// The row binds a bus that turns EVENT_AVAIL into a signal. Here it stays a
// message, and the position in it reaches the device side, which says what it
// thinks of it.
TEST(BusMessageConformance, BUS_EA_1_PositionInEventAvailArrives) {
  constexpr uint32_t kBits = 1u << (virtio::kFeatureNotificationData - 32) |
                             1u << (virtio::kFeatureRingPacked - 32);
  constexpr uint32_t kSize = 8;
  CountingLogSink log;
  BusHarness harness({}, &log);
  harness.DriverBreaks("DRV-NOTIF-3");
  harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 1, 0, 1 | kBits);
  harness.Send(AvailEvent(kDev, 0, kSize - 1));
  EXPECT_EQ(log.lines, 0u);
  harness.Send(AvailEvent(kDev, 0, kSize));
  EXPECT_EQ(log.lines, 1u);
}

}  // namespace
}  // namespace vmsg::msg
