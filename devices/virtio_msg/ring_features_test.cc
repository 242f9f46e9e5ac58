// Ring formats and their features as a driver negotiates and uses them over the
// bus: RING_PACKED, IN_ORDER and NOTIFICATION_DATA.

#include <gtest/gtest.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "vmm/base/log.h"

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;
using virtio::DummyOptions;
using virtio::FakeDriverQueue;
using virtio::FakePackedDriverQueue;

constexpr uint16_t kDev = 5;
constexpr uint32_t High(uint32_t feature) { return 1u << (feature - 32); }
constexpr uint32_t kVersion1 = High(virtio::kFeatureVersion1);
constexpr uint32_t kPacked = High(virtio::kFeatureRingPacked);
constexpr uint32_t kInOrder = High(virtio::kFeatureInOrder);
constexpr uint32_t kData = High(virtio::kFeatureNotificationData);
constexpr uint32_t kWrapBit = 0x80000000;
constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};

class RememberingLogSink final : public vmm::LogSink {
 public:
  void Write(const vmm::LogRecord& record) override {
    lines.emplace_back(record.message);
  }
  std::vector<std::string> lines;
};

// A driver's way to DRIVER_OK with queue 0 as `config` says.
void StartWith(BusHarness* harness, uint32_t high_features,
               const virtio::QueueConfig& config) {
  harness->Negotiate(kDev, 0, high_features);
  harness->Ask(GetVqueueRequest(kDev, 0));
  harness->Ask(SetVqueueRequest(kDev, 0, config.size, config.desc.value,
                                config.driver.value, config.device.value));
  harness->Ask(GetVqueueRequest(kDev, 0));
  ASSERT_EQ(harness->Ask(SetStatusRequest(kDev, 15)).u32(0), 15u);
}

template <typename Driver>
std::optional<uint16_t> AddEcho(Driver* queue) {
  return queue->Add(std::vector<FakeDriverQueue::Buffer>{{{0x80000}, 4, false},
                                                         {{0x81000}, 4, true}});
}

TEST(RingPackedTest, DriverMayHaveAPackedQueueOfAnySize) {
  BusHarness harness;
  harness.PlugDummy(kDev, kInstant);
  FakePackedDriverQueue queue(&harness.memory(),
                              BusHarness::QueuePlace(kDev, 0).desc, 5);
  StartWith(&harness, kVersion1 | kPacked, queue.config());
  for (int i = 0; i < 20; ++i) {
    const std::optional<uint16_t> id = AddEcho(&queue);
    ASSERT_TRUE(id.has_value());
    const std::vector<Received> got = harness.Send(AvailEvent(kDev, 0));
    ASSERT_EQ(got.size(), 1u);
    EXPECT_TRUE(got[0].is_used_event());
    EXPECT_EQ(queue.TakeUsed(), (FakeDriverQueue::Used{*id, 4}));
  }
}

TEST(RingPackedTest, WithoutItTheSizeIsAPowerOfTwo) {
  BusHarness harness;
  harness.DriverBreaks("DRV-VQ-1");
  harness.PlugDummy(kDev, kInstant);
  harness.Negotiate(kDev);
  harness.Ask(SetVqueueRequest(kDev, 0, 5, 0x1000, 0x2000, 0x3000));
  EXPECT_EQ(harness.Ask(GetVqueueRequest(kDev, 0)).u32(8), 0u);
}

TEST(RingPackedTest, QueueThatIsResetStartsWithWrapCountersOfOne) {
  BusHarness harness;
  harness.PlugDummy(kDev, kInstant);
  const vmm::GuestAddress base = BusHarness::QueuePlace(kDev, 0).desc;
  FakePackedDriverQueue first(&harness.memory(), base, 3);
  StartWith(&harness, kVersion1 | kPacked | High(virtio::kFeatureRingReset),
            first.config());
  // Leaves it in the second turn.
  for (int i = 0; i < 2; ++i) {
    AddEcho(&first);
    harness.Send(AvailEvent(kDev, 0));
    EXPECT_TRUE(first.TakeUsed().has_value());
  }
  harness.Ask(ResetVqueueRequest(kDev, 0));
  FakePackedDriverQueue second(&harness.memory(), base, 3);
  const virtio::QueueConfig& config = second.config();
  const std::optional<uint16_t> id = AddEcho(&second);
  harness.Ask(GetVqueueRequest(kDev, 0));
  harness.Ask(SetVqueueRequest(kDev, 0, config.size, config.desc.value,
                               config.driver.value, config.device.value));
  harness.RunFor(vmm::Duration(0));
  EXPECT_EQ(second.TakeUsed(), (FakeDriverQueue::Used{*id, 4}));
}

// Requests of one device end after delays of their own.
template <typename Driver>
void ExpectUsedInOrder(uint32_t high_features, bool in_order) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(
      kDev,
      {.max_work_delay = vmm::Duration(1'000'000), .max_transition_delay = {}});
  Driver queue(&harness.memory(), BusHarness::QueuePlace(kDev, 0).desc, 16);
  StartWith(&harness, kVersion1 | high_features, queue.config());
  std::vector<uint16_t> added;
  std::vector<uint16_t> used;
  for (int round = 0; round < 20; ++round) {
    while (const std::optional<uint16_t> id = AddEcho(&queue)) {
      added.push_back(*id);
    }
    harness.Send(AvailEvent(kDev, 0));
    harness.RunFor(vmm::Duration(10'000'000));
    while (const auto got = queue.TakeUsed()) {
      used.push_back(static_cast<uint16_t>(got->id));
    }
  }
  EXPECT_EQ(device->stats().completed, added.size());
  ASSERT_EQ(used.size(), added.size());
  EXPECT_EQ(used == added, in_order);
}

TEST(InOrderTest, BuffersAreUsedInTheOrderInWhichTheyWereMadeAvailable) {
  ExpectUsedInOrder<FakeDriverQueue>(kInOrder, true);
  ExpectUsedInOrder<FakePackedDriverQueue>(kPacked | kInOrder, true);
}

TEST(InOrderTest, WithoutItTheyAreUsedAsTheDeviceEnds) {
  ExpectUsedInOrder<FakeDriverQueue>(0, false);
  ExpectUsedInOrder<FakePackedDriverQueue>(kPacked, false);
}

// O-24, and 4.13.
TEST(NotificationDataTest, PositionIsAHintThatIsNotBelieved) {
  struct Case {
    uint32_t features;
    uint32_t position;
    bool fits;
    std::string_view broken = "";  // row
  };
  constexpr Case kCases[] = {
      // The available index.
      {kData, 1, true},
      {kData, 0, true, "DRV-NOTIF-3"},  // not the true one
      {kData, 0xffff, true},
      {kData, 0x10000, false, "DRV-NOTIF-3"},
      {kData, kWrapBit | 1, false},
      {kData, 0xffffffff, false, "DRV-NOTIF-3"},
      // A descriptor and a wrap counter.
      {kData | kPacked, kWrapBit | 2, true},
      {kData | kPacked, 7, true},  // nor this
      {kData | kPacked, kWrapBit | 8, false, "DRV-NOTIF-3"},
      {kData | kPacked, 0x7fffffff, false, "DRV-NOTIF-3"},
      // The value means nothing.
      {0, 0xffffffff, true, "DRV-NOTIF-4"},
      {kPacked, 0xffffffff, true, "DRV-NOTIF-4"},
  };
  for (const Case& c : kCases) {
    SCOPED_TRACE(c.position);
    RememberingLogSink log;
    BusHarness harness({}, &log);
    harness.DriverBreaks(c.broken);
    DummyDevice* const device = harness.PlugDummy(kDev, kInstant);
    const vmm::GuestAddress base = BusHarness::QueuePlace(kDev, 0).desc;
    std::optional<FakeDriverQueue> split;
    std::optional<FakePackedDriverQueue> packed;
    if ((c.features & kPacked) != 0) {
      packed.emplace(&harness.memory(), base, 8);
      StartWith(&harness, kVersion1 | c.features, packed->config());
      AddEcho(&*packed);
    } else {
      split.emplace(&harness.memory(), base, 8);
      StartWith(&harness, kVersion1 | c.features, split->config());
      AddEcho(&*split);
    }
    harness.Send(AvailEvent(kDev, 0, c.position));
    EXPECT_EQ(device->stats().completed, 1u) << "the queue is what counts";
    EXPECT_EQ(log.lines.empty(), c.fits);
  }
}

TEST(NotificationDataTest, BadPositionsDoNotFillTheLog) {
  RememberingLogSink log;
  BusHarness harness({}, &log);
  harness.DriverBreaks("DRV-NOTIF-3");
  harness.PlugDummy(kDev, kInstant);
  harness.Start(kDev, 1, 0, kVersion1 | kData);
  for (int i = 0; i < 1000; ++i) {
    harness.Send(AvailEvent(kDev, 0, 0x10000));
  }
  EXPECT_GE(log.lines.size(), 1u);
  EXPECT_LE(log.lines.size(), 20u);
}

}  // namespace
}  // namespace vmsg::msg
