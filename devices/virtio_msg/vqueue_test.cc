// Virtqueues over the wire: settings, start, notifications, reset of a queue.
// Source: virtio-msg-messages, 4.8 to 4.10, 4.13, 4.14, 6.8.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;
using virtio::DummyOptions;
using virtio::FakeDriverQueue;

constexpr uint16_t kDev = 5;
constexpr uint32_t kRingReset = 1u << (virtio::kFeatureRingReset - 32);
constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};

struct Settings {
  uint32_t max_size, size;
  uint64_t desc, driver, device;
  friend bool operator==(const Settings&, const Settings&) = default;
};

Settings Get(BusHarness* harness, uint32_t index) {
  const Received got = harness->Ask(GetVqueueRequest(kDev, index));
  EXPECT_EQ(got.msg_size(), 48);
  EXPECT_EQ(got.u32(0), index);
  EXPECT_EQ(got.u32(12), 0u);  // reserved
  return {got.u32(4), got.u32(8), got.u64(16), got.u64(24), got.u64(32)};
}

Settings Placed(uint32_t index, uint32_t size = 8) {
  const virtio::QueueConfig place = BusHarness::QueuePlace(kDev, index, size);
  return {64, size, place.desc.value, place.driver.value, place.device.value};
}

constexpr Settings kUnconfigured = {64, 0, 0, 0, 0};

// Puts an echo of four bytes on the queue.
uint16_t AddEcho(FakeDriverQueue* queue) {
  const std::array<FakeDriverQueue::Buffer, 2> buffers = {
      FakeDriverQueue::Buffer{{0x80000}, 4, false},
      FakeDriverQueue::Buffer{{0x81000}, 4, true}};
  const std::optional<uint16_t> head = queue->Add(buffers);
  EXPECT_TRUE(head.has_value());
  return head.value_or(0);
}

size_t CountUsed(const std::vector<Received>& all, uint32_t queue) {
  return static_cast<size_t>(
      std::count_if(all.begin(), all.end(), [&](const Received& m) {
        return m.is_used_event() && m.dev() == kDev && m.u32(0) == queue;
      }));
}

// The queue that BusHarness::Start() configures.
FakeDriverQueue MakeQueue(BusHarness* harness, uint32_t index) {
  return FakeDriverQueue(&harness->memory(),
                         BusHarness::QueuePlace(kDev, index).desc, 8);
}

// --- Settings. ---

TEST(VqueueTest, UnconfiguredQueueHasAMaximumAndNothingElse) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  harness.PlugDummy(kDev);
  EXPECT_EQ(Get(&harness, 0), kUnconfigured);
  EXPECT_EQ(Get(&harness, 1), kUnconfigured);
}

// O-18.
TEST(VqueueTest, QueueThatDoesNotExistIsAllZero) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1");
  harness.PlugDummy(kDev);
  for (const uint32_t index : {2u, 0xFFFFu, 0x10000u, 0xFFFFFFFFu}) {
    EXPECT_EQ(Get(&harness, index), (Settings{0, 0, 0, 0, 0}));
  }
}

TEST(VqueueTest, SettingsComeBack) {
  BusHarness harness;
  harness.DriverBreaks("DRV-VQ-1");
  harness.PlugDummy(kDev);
  harness.Negotiate(kDev);
  EXPECT_EQ(harness.Ask(BusHarness::SetVqueueFor(kDev, 1)).msg_size(), 8);
  EXPECT_EQ(Get(&harness, 1), Placed(1));
  EXPECT_EQ(Get(&harness, 0), kUnconfigured);
}

// 6.6: queues are enabled only after FEATURES_OK.
TEST(VqueueTest, SettingsBeforeFeaturesOkChangeNothing) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-INIT-2 DRV-VQ-1");
  harness.PlugDummy(kDev);
  harness.Ask(SetStatusRequest(kDev, 3));
  EXPECT_EQ(harness.Ask(BusHarness::SetVqueueFor(kDev, 0)).msg_size(), 8);
  EXPECT_EQ(Get(&harness, 0), kUnconfigured);
}

// O-20: before DRIVER_OK it replaces the settings.
TEST(VqueueTest, SettingsBeforeDriverOkAreReplaced) {
  BusHarness harness;
  harness.DriverBreaks("DRV-VQ-1");
  harness.PlugDummy(kDev);
  harness.Negotiate(kDev);
  harness.Ask(BusHarness::SetVqueueFor(kDev, 0, 8));
  harness.Ask(BusHarness::SetVqueueFor(kDev, 0, 16));
  EXPECT_EQ(Get(&harness, 0), Placed(0, 16));
}

// O-19: no change, the normal empty answer.
TEST(VqueueTest, UnusableSettingsChangeNothing) {
  BusHarness harness;
  harness.DriverBreaks("DRV-VQ-1 DRV-VQ-2 DRV-VQ-3 DRV-GDI-1 DRV-SVQ-2");
  harness.PlugDummy(kDev);
  harness.Negotiate(kDev);
  harness.Ask(BusHarness::SetVqueueFor(kDev, 0));
  const Settings good = Placed(0);
  const std::vector<Bytes> bad = {
      SetVqueueRequest(kDev, 0, 0, good.desc, good.driver, good.device),
      SetVqueueRequest(kDev, 0, 7, good.desc, good.driver, good.device),
      SetVqueueRequest(kDev, 0, 128, good.desc, good.driver, good.device),
      SetVqueueRequest(kDev, 0, 0x80000000, good.desc, good.driver,
                       good.device),
      SetVqueueRequest(kDev, 0, 8, good.desc + 8, good.driver, good.device),
      SetVqueueRequest(kDev, 0, 8, good.desc, good.driver + 1, good.device),
      SetVqueueRequest(kDev, 0, 8, good.desc, good.driver, good.device + 2),
      SetVqueueRequest(kDev, 0, 8, BusHarness::kMemoryBytes, good.driver,
                       good.device),
      SetVqueueRequest(kDev, 0, 8, 0xFFFFFFFFFFFFFFF0, good.driver,
                       good.device),
      SetVqueueRequest(kDev, 2, 8, good.desc, good.driver, good.device),
      SetVqueueRequest(kDev, 0x10000, 8, good.desc, good.driver, good.device),
  };
  for (const Bytes& request : bad) {
    EXPECT_EQ(harness.Ask(request).msg_size(), 8);
    EXPECT_EQ(Get(&harness, 0), good);
  }
}

// O-20 departs from DEV-RTVQ-1: a running queue is left alone.
TEST(VqueueTest, RunningQueueKeepsItsSettings) {
  BusHarness harness;
  harness.DriverBreaks("DRV-VQ-1");
  harness.PlugDummy(kDev);
  harness.Start(kDev);
  harness.Ask(BusHarness::SetVqueueFor(kDev, 0, 16));
  EXPECT_EQ(Get(&harness, 0), Placed(0));
}

// 6.8: queues may be configured after DRIVER_OK as well.
TEST(VqueueTest, QueueConfiguredAfterDriverOkRuns) {
  BusHarness harness;
  harness.DriverBreaks("DRV-VQ-1");
  harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 1);
  FakeDriverQueue queue = MakeQueue(&harness, 1);
  AddEcho(&queue);
  harness.Ask(BusHarness::SetVqueueFor(kDev, 1));
  EXPECT_EQ(Get(&harness, 1), Placed(1));
  EXPECT_TRUE(queue.TakeUsed().has_value());
}

TEST(VqueueTest, QueueOfABrokenDeviceIsNotConfigured) {
  BusHarness harness;
  harness.DriverBreaks("DRV-VQ-1");
  DummyDevice* const device = harness.PlugDummy(kDev);
  harness.Start(kDev, 1);
  device->Break("test");
  harness.Ask(BusHarness::SetVqueueFor(kDev, 1));
  EXPECT_EQ(Get(&harness, 1), kUnconfigured);
}

// --- EVENT_AVAIL and EVENT_USED. ---

TEST(NotificationTest, EventAvailStartsWorkAndEventUsedTellsItsEnd) {
  BusHarness harness;
  harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 2);
  FakeDriverQueue queue = MakeQueue(&harness, 1);
  const uint16_t head = AddEcho(&queue);
  const std::vector<Received> got = harness.Send(AvailEvent(kDev, 1));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].type(), 0);
  EXPECT_EQ(got[0].id(), 0x42);
  EXPECT_EQ(got[0].dev(), kDev);
  EXPECT_EQ(got[0].token(), 0);
  EXPECT_EQ(got[0].msg_size(), 12);
  EXPECT_EQ(got[0].u32(0), 1u);
  EXPECT_EQ(queue.TakeUsed(), (FakeDriverQueue::Used{head, 4}));
}

// 6.7: no I/O before DRIVER_OK; from then on the device works on its queues,
// without another notification.
TEST(NotificationTest, BuffersOfBeforeDriverOkAreFoundThere) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-3 DRV-INIT-4 DRV-VQ-1");
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Negotiate(kDev);
  harness.Ask(BusHarness::SetVqueueFor(kDev, 0));
  FakeDriverQueue queue = MakeQueue(&harness, 0);
  AddEcho(&queue);
  EXPECT_TRUE(harness.Send(AvailEvent(kDev, 0)).empty());
  EXPECT_EQ(device->stats().taken, 0u);
  const std::vector<Received> got = harness.Send(SetStatusRequest(kDev, 15));
  EXPECT_EQ(CountUsed(got, 0), 1u);
  EXPECT_TRUE(queue.TakeUsed().has_value());
}

// O-25.
TEST(NotificationTest, BadIndexIsIgnored) {
  BusHarness harness;
  harness.DriverBreaks("DRV-FINAL-3 DRV-NOTIF-2");
  harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 1);
  for (const uint32_t index : {1u, 2u, 63u, 64u, 0x10000u, 0xFFFFFFFFu}) {
    EXPECT_TRUE(harness.Send(AvailEvent(kDev, index)).empty());
  }
  EXPECT_EQ(harness.counters().malformed.value(), 0u);
}

TEST(NotificationTest, UsedBuffersOfOneBatchMakeOneEvent) {
  BusHarness harness;
  harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 1);
  FakeDriverQueue queue = MakeQueue(&harness, 0);
  for (int i = 0; i < 4; ++i) AddEcho(&queue);
  harness.link().set_room(0);
  EXPECT_TRUE(harness.Send(AvailEvent(kDev, 0)).empty());
  harness.link().set_room(100);
  harness.link().Service();
  EXPECT_EQ(CountUsed(harness.link().Take(), 0), 1u);
  for (int i = 0; i < 4; ++i) EXPECT_TRUE(queue.TakeUsed().has_value());
}

TEST(NotificationTest, ResetDropsEventsThatWait) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 1);
  FakeDriverQueue queue = MakeQueue(&harness, 0);
  AddEcho(&queue);
  harness.link().set_room(0);
  harness.Send(AvailEvent(kDev, 0));
  EXPECT_EQ(device->stats().completed, 1u);
  harness.Send(SetStatusRequest(kDev, 0));
  harness.link().set_room(100);
  harness.link().Service();
  harness.loop().RunUntilIdle();
  const std::vector<Received> got = harness.link().Take();
  EXPECT_EQ(CountUsed(got, 0), 0u);
  EXPECT_EQ(got.size(), 1u);  // the answer
}

// A broken ring breaks its device and nothing else.
TEST(NotificationTest, RingThatTheGuestBreaksNeedsAReset) {
  BusHarness harness;
  harness.PlugDummy(kDev, kInstant);
  harness.PlugDummy(6, kInstant);
  harness.Start(kDev, 1);
  FakeDriverQueue queue = MakeQueue(&harness, 0);
  queue.SetAvailIdx(1000);
  const std::vector<Received> got = harness.Send(AvailEvent(kDev, 0));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_TRUE(got[0].is_config_event());
  EXPECT_EQ(got[0].u32(0), 15u | 64u);
  harness.Start(6);
  EXPECT_EQ(harness.Status(6), 15u);
}

// --- RESET_VQUEUE: 4.10. ---

TEST(ResetVqueueTest, QueueIsQuietAndUnconfiguredAfterTheAnswer) {
  BusHarness harness;
  DummyDevice* const device =
      harness.PlugDummy(kDev, {.max_transition_delay = {}});
  harness.Start(kDev, 2, 0, 1 | kRingReset);
  FakeDriverQueue queue = MakeQueue(&harness, 0);
  AddEcho(&queue);
  device->HoldTransitions(true);
  EXPECT_TRUE(
      harness.Send({AvailEvent(kDev, 0), ResetVqueueRequest(kDev, 0)}).empty());
  device->HoldTransitions(false);
  const std::vector<Received> got = harness.RunFor({});
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].id(), 0x0B);
  EXPECT_EQ(got[0].msg_size(), 8);
  const uint16_t used = queue.UsedIdx();
  harness.RunFor(std::chrono::seconds(1));
  EXPECT_EQ(queue.UsedIdx(), used);
  EXPECT_EQ(Get(&harness, 0), kUnconfigured);
  EXPECT_EQ(Get(&harness, 1), Placed(1));
}

// What waits for room is of the old queue. That of the other one stays.
TEST(ResetVqueueTest, EventOfTheQueueThatWaitsForRoomIsDropped) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 2, 0, 1 | kRingReset);
  FakeDriverQueue first = MakeQueue(&harness, 0);
  FakeDriverQueue second = MakeQueue(&harness, 1);
  AddEcho(&first);
  AddEcho(&second);
  harness.link().set_room(0);
  harness.Send({AvailEvent(kDev, 0), AvailEvent(kDev, 1)});
  EXPECT_EQ(device->stats().completed, 2u);
  harness.Send(ResetVqueueRequest(kDev, 0));
  harness.link().set_room(100);
  harness.link().Service();
  harness.loop().RunUntilIdle();
  const std::vector<Received> got = harness.link().Take();
  EXPECT_EQ(CountUsed(got, 0), 0u);
  EXPECT_EQ(CountUsed(got, 1), 1u);
  EXPECT_EQ(got.size(), 2u);  // and the answer
}

TEST(ResetVqueueTest, QueueCanBeConfiguredAgainAndRuns) {
  BusHarness harness;
  harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 1, 0, 1 | kRingReset);
  harness.Ask(ResetVqueueRequest(kDev, 0));
  harness.Ask(BusHarness::SetVqueueFor(kDev, 0));
  EXPECT_EQ(Get(&harness, 0), Placed(0));
  FakeDriverQueue queue = MakeQueue(&harness, 0);
  AddEcho(&queue);
  EXPECT_EQ(CountUsed(harness.Send(AvailEvent(kDev, 0)), 0), 1u);
}

// The notification of new buffers waits for the requests before it.
TEST(ResetVqueueTest, EventAvailBehindWaitingRequestsIsNotLost) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-3");
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 1, 0, 1 | kRingReset);
  FakeDriverQueue queue = MakeQueue(&harness, 0);
  AddEcho(&queue);
  device->HoldTransitions(true);
  EXPECT_TRUE(
      harness
          .Send({ResetVqueueRequest(kDev, 0), BusHarness::SetVqueueFor(kDev, 0),
                 AvailEvent(kDev, 0)})
          .empty());
  device->HoldTransitions(false);
  EXPECT_EQ(CountUsed(harness.RunFor({}), 0), 1u);
  EXPECT_TRUE(queue.TakeUsed().has_value());
}

// O-21 departs from DEV-RVQ-1: without the feature, no change.
TEST(ResetVqueueTest, WithoutRingResetNothingChanges) {
  BusHarness harness;
  harness.DriverBreaks("DRV-RVQ-1");
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 1, 0, 1);
  device->HoldTransitions(true);
  EXPECT_EQ(harness.Ask(ResetVqueueRequest(kDev, 0)).msg_size(), 8);
  EXPECT_EQ(Get(&harness, 0), Placed(0));
}

TEST(ResetVqueueTest, BeforeDriverOkTheSettingsGo) {
  BusHarness harness;
  harness.DriverBreaks("DRV-VQ-1");
  harness.PlugDummy(kDev);
  harness.Negotiate(kDev, 0, 1 | kRingReset);
  harness.Ask(BusHarness::SetVqueueFor(kDev, 0));
  EXPECT_EQ(harness.Ask(ResetVqueueRequest(kDev, 0)).msg_size(), 8);
  EXPECT_EQ(Get(&harness, 0), kUnconfigured);
}

// 6.4.
TEST(ResetVqueueTest, QueueThatDoesNotExistOrDoesNotRunGivesAnEmptyAnswer) {
  BusHarness harness;
  harness.DriverBreaks("DRV-GDI-1");
  DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 1, 0, 1 | kRingReset);
  device->HoldTransitions(true);
  for (const uint32_t index : {1u, 2u, 0x10000u, 0xFFFFFFFFu}) {
    EXPECT_EQ(harness.Ask(ResetVqueueRequest(kDev, index)).msg_size(), 8);
  }
}

// A driver that tears down sends it after status 0 (amp-pci-device, 4).
TEST(ResetVqueueTest, AfterStatusZeroNothingHappens) {
  BusHarness harness;
  harness.DriverBreaks("DRV-RVQ-1");
  harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 2, 0, 1 | kRingReset);
  harness.Ask(SetStatusRequest(kDev, 0));
  EXPECT_EQ(harness.Ask(ResetVqueueRequest(kDev, 0)).msg_size(), 8);
  EXPECT_EQ(harness.Ask(ResetVqueueRequest(kDev, 1)).msg_size(), 8);
}

}  // namespace
}  // namespace vmsg::msg
