// Requests whose answer takes time. Source: amp-pci-device, 4: "One slow
// answer"; virtio-msg-messages, 6.1.

#include <chrono>
#include <cstdint>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg/deferred_queue.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;
using virtio::DummyOptions;

constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};

TEST(DeferralTest, OneSlowResetHoldsUpNobodyElse) {
  BusHarness harness;
  DummyDevice* const slow = harness.PlugDummy(1, kInstant);
  harness.PlugDummy(2, kInstant);
  harness.Enumerate();
  slow->HoldTransitions(true);
  const std::vector<Received> got =
      harness.Send({SetStatusRequest(1, 0, 1), GetStatusRequest(1, 2),
                    GetStatusRequest(2, 3), PingRequest(4, 4),
                    SetStatusRequest(2, 0, 5), GetDevicesRequest(0, 32)});
  ASSERT_EQ(got.size(), 4u);
  EXPECT_EQ(got[0].token(), 3);
  EXPECT_EQ(got[1].token(), 4);
  EXPECT_TRUE(got[2].is_bus());
  EXPECT_EQ(got[3].token(), 5);
  harness.Start(2);
  EXPECT_EQ(harness.Status(2), 15u);
}

TEST(DeferralTest, AnswersOfOneDeviceKeepTheirOrder) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  DummyDevice* const slow = harness.PlugDummy(1, kInstant);
  harness.Enumerate();
  slow->HoldTransitions(true);
  EXPECT_TRUE(harness
                  .Send({SetStatusRequest(1, 0, 1), SetStatusRequest(1, 1, 2),
                         GetConfigRequest(1, 0, 4, 3), GetStatusRequest(1, 4),
                         SetStatusRequest(1, 0, 5), GetStatusRequest(1, 6)})
                  .empty());
  slow->HoldTransitions(false);
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 6u);
  for (uint16_t i = 0; i < 6; ++i) EXPECT_EQ(got[i].token(), i + 1);
  EXPECT_EQ(got[1].u32(0), 1u);
  EXPECT_EQ(got[3].u32(0), 1u);
  EXPECT_EQ(got[4].u32(0), 0u);
  EXPECT_EQ(got[5].u32(0), 0u);
  EXPECT_EQ(harness.counters().deferred.value(), 6u);
}

TEST(DeferralTest, NinthRequestOfABusyDeviceStaysOnTheDriverQueue) {
  BusHarness harness;
  DummyDevice* const slow = harness.PlugDummy(1, kInstant);
  harness.Enumerate();
  slow->HoldTransitions(true);
  std::vector<Bytes> requests = {SetStatusRequest(1, 0, 1)};
  for (uint16_t i = 2; i <= 12; ++i) requests.push_back(GetStatusRequest(1, i));
  EXPECT_TRUE(harness.Send(requests).empty());
  EXPECT_FALSE(harness.bus().CanAccept());
  EXPECT_EQ(harness.link().waiting(), 12u - MessageBusOptions::kMaxDeferred);
  slow->HoldTransitions(false);
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 12u);
  for (uint16_t i = 0; i < 12; ++i) EXPECT_EQ(got[i].token(), i + 1);
  EXPECT_TRUE(harness.bus().CanAccept());
}

// The bound is one per device number: many slow devices do not add up.
TEST(DeferralTest, SlowDevicesDoNotShareTheBound) {
  BusHarness harness;
  std::vector<DummyDevice*> devices;
  std::vector<Bytes> requests;
  for (uint16_t slot = 0; slot < MessageBusOptions::kSlots; ++slot) {
    devices.push_back(harness.PlugDummy(slot, kInstant));
    devices.back()->HoldTransitions(true);
    requests.push_back(SetStatusRequest(slot, 0, slot));
  }
  harness.Enumerate();
  EXPECT_TRUE(harness.Send(requests).empty());
  EXPECT_TRUE(harness.bus().CanAccept());
  for (DummyDevice* device : devices) device->HoldTransitions(false);
  EXPECT_EQ(harness.RunFor({}).size(), 32u);
}

TEST(DeferralTest, EventAvailOfABusyDeviceTakesNoPlace) {
  BusHarness harness;
  harness.DriverBreaks("DRV-FINAL-3");
  DummyDevice* const slow = harness.PlugDummy(1, kInstant);
  harness.Enumerate();
  slow->HoldTransitions(true);
  harness.Send(SetStatusRequest(1, 0));
  for (int i = 0; i < 100; ++i) harness.Send(AvailEvent(1, 0));
  EXPECT_TRUE(harness.bus().CanAccept());
  EXPECT_EQ(harness.link().waiting(), 0u);
}

TEST(DeferralTest, BusDestroyedWithWorkUnderWayLetsGoOfAll) {
  BusHarness harness;
  DummyDevice* const slow = harness.PlugDummy(1, kInstant);
  harness.Enumerate();
  slow->HoldTransitions(true);
  harness.Send({SetStatusRequest(1, 0), GetStatusRequest(1)});
  harness.DestroyBus();
  harness.loop().AdvanceTime(std::chrono::seconds(1));
}

TEST(DeferredQueueTest, IsFirstInFirstOutAcrossItsEnd) {
  DeferredQueue queue;
  queue.Reserve();
  uint8_t in = 0;
  uint8_t out = 0;
  for (int round = 0; round < 5; ++round) {
    while (!queue.full()) {
      queue.Push(Bytes(8u + in % 3, std::byte{in}));
      ++in;
    }
    EXPECT_EQ(queue.size(), DeferredQueue::kCapacity);
    for (int i = 0; i < 5; ++i) {
      ASSERT_EQ(queue.front().size(), 8u + out % 3);
      EXPECT_EQ(queue.front()[7], std::byte{out});
      queue.Pop();
      ++out;
    }
  }
  queue.Clear();
  EXPECT_TRUE(queue.empty());
}

}  // namespace
}  // namespace vmsg::msg
