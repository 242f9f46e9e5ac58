// A link without room loses nothing, and memory stays bounded. Source:
// amp-pci-device, 4: "A full device queue must lose nothing".

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/message_link.h"
#include "devices/virtio_msg/outbox.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/fake_link.h"
#include "devices/virtio_msg/testing/wire.h"
#include "devices/virtio_msg/used_levels.h"
#include "gtest/gtest.h"
#include "vmm/base/counter.h"

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;
using virtio::DummyOptions;

constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};

// Takes `room` messages at a time until nothing comes any more.
std::vector<Received> Drain(BusHarness* harness, size_t room) {
  std::vector<Received> all;
  harness->link().set_room(room);
  while (true) {
    harness->link().Service();
    harness->loop().RunUntilIdle();
    std::vector<Received> got = harness->link().Take();
    if (got.empty()) return all;
    EXPECT_LE(got.size(), room);
    all.insert(all.end(), got.begin(), got.end());
  }
}

TEST(FullLinkTest, LosesNoAnswerAndRecovers) {
  for (const size_t room : {1u, 2u, 7u}) {
    BusHarness harness;
    DummyDevice* const slow = harness.PlugDummy(1, kInstant);
    harness.PlugDummy(2, kInstant);
    harness.Enumerate();
    harness.link().set_room(0);
    slow->HoldTransitions(true);
    std::vector<Bytes> requests;
    for (uint16_t i = 0; i < 60; i += 3) {
      requests.push_back(GetStatusRequest(2, i));
      requests.push_back(SetStatusRequest(1, 0, i + 1));
      requests.push_back(PingRequest(i, i + 2));
    }
    EXPECT_TRUE(harness.Send(requests).empty());
    EXPECT_FALSE(harness.bus().CanAccept());
    slow->HoldTransitions(false);
    harness.RunFor({});
    const std::vector<Received> got = Drain(&harness, room);
    EXPECT_EQ(got.size(), 60u);
    EXPECT_EQ(harness.link().waiting(), 0u);
    EXPECT_TRUE(harness.bus().CanAccept());
    // Exactly one each, and in order per device number.
    std::map<std::pair<bool, uint16_t>, std::vector<uint16_t>> tokens;
    for (const Received& answer : got) {
      EXPECT_TRUE(answer.is_response());
      tokens[{answer.is_bus(), answer.dev()}].push_back(answer.token());
    }
    for (const auto& [number, list] : tokens) {
      EXPECT_EQ(list.size(), 20u);
      EXPECT_TRUE(std::is_sorted(list.begin(), list.end()));
      EXPECT_EQ(std::adjacent_find(list.begin(), list.end()), list.end());
    }
  }
}

TEST(FullLinkTest, TakesNoRequestWhileAnAnswerIsOwed) {
  BusHarness harness;
  harness.link().set_room(0);
  for (uint16_t i = 0; i < 10; ++i) harness.link().Enqueue(PingRequest(i));
  EXPECT_FALSE(harness.link().Service());
  EXPECT_EQ(harness.link().waiting(), 9u);
  EXPECT_EQ(harness.counters().received.value(), 1u);
  harness.link().set_room(1);
  harness.link().Service();
  EXPECT_EQ(harness.link().waiting(), 8u);
  EXPECT_EQ(harness.link().Take().size(), 1u);
}

TEST(FullLinkTest, EventsAreLevels) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(3, kInstant);
  harness.Start(3, 2);
  virtio::FakeDriverQueue queue(&harness.memory(),
                                BusHarness::QueuePlace(3, 0).desc, 8);
  const std::array<virtio::FakeDriverQueue::Buffer, 1> buffers = {
      virtio::FakeDriverQueue::Buffer{{0x80000}, 4, true}};
  harness.link().set_room(0);
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(queue.Add(buffers).has_value());
    harness.Send(AvailEvent(3, 0));
    ASSERT_TRUE(queue.TakeUsed().has_value());
    device->ChangeConfig(4, Bytes(1));
  }
  EXPECT_TRUE(harness.bus().CanAccept());
  const std::vector<Received> got = Drain(&harness, 10);
  ASSERT_EQ(got.size(), 2u);
  EXPECT_TRUE(got[0].is_config_event());
  EXPECT_TRUE(got[1].is_used_event());
}

TEST(FullLinkTest, FlushTellsWhetherSomethingWaitsForRoom) {
  BusHarness harness;
  DummyDevice* const device = harness.PlugDummy(3, kInstant);
  harness.Start(3);
  EXPECT_TRUE(harness.link().Service());
  harness.link().set_room(0);
  device->ChangeConfig(4, Bytes(1));
  harness.RunFor({});
  EXPECT_FALSE(harness.link().Service());
  EXPECT_GT(harness.counters().send_refused.value(), 0u);
  harness.link().set_room(1);
  EXPECT_TRUE(harness.link().Service());
  EXPECT_EQ(harness.link().Take().size(), 1u);
}

// With room for one message at a time, devices take turns.
TEST(FullLinkTest, NoDeviceWaitsBehindABusierOne) {
  BusHarness harness;
  std::vector<DummyDevice*> devices;
  for (uint16_t slot = 0; slot < 4; ++slot) {
    devices.push_back(harness.PlugDummy(slot, kInstant));
    harness.Start(slot);
  }
  harness.link().set_room(0);
  std::map<uint16_t, int> events;
  for (int i = 0; i < 40; ++i) {
    for (DummyDevice* device : devices) device->ChangeConfig(4, Bytes(1));
    harness.RunFor({});
    harness.link().set_room(1);
    harness.link().Service();
    for (const Received& event : harness.link().Take()) ++events[event.dev()];
    harness.link().set_room(0);
  }
  ASSERT_EQ(events.size(), 4u);
  for (const auto& [slot, count] : events) EXPECT_EQ(count, 10) << slot;
}

// A device that raises the events of many queues again and again leaves no
// queue behind.
TEST(UsedLevelsTest, QueuesTakeTurnsWhenThereIsLittleRoom) {
  class OneAtATime final : public MessageLink {
   public:
    bool TrySend(std::span<const std::byte> message) override {
      if (room == 0) return false;
      --room;
      last = Received(Bytes(message.begin(), message.end())).u32(0);
      return true;
    }
    uint64_t Unread() override { return 0; }
    void RequestService() override {}
    int room = 0;
    uint32_t last = 0;
  };
  OneAtATime link;
  vmm::OwnedCounter counter;
  Outbox outbox(&link, {&counter, &counter, &counter});
  constexpr uint32_t kQueues = 130;  // three words
  UsedLevels levels(kQueues);
  std::map<uint32_t, int> sent;
  for (uint32_t i = 0; i < 3 * kQueues; ++i) {
    for (uint32_t queue = 0; queue < kQueues; ++queue) levels.Raise(queue);
    link.room = 1;
    EXPECT_FALSE(levels.Send(7, &outbox));
    ++sent[link.last];
  }
  EXPECT_EQ(sent.size(), kQueues);
  for (const auto& [queue, count] : sent) EXPECT_EQ(count, 3) << queue;
}

TEST(UsedLevelsTest, RaiseTellsWhetherTheLevelIsNew) {
  UsedLevels levels(65);
  EXPECT_FALSE(levels.Any());
  EXPECT_TRUE(levels.Raise(64));
  EXPECT_FALSE(levels.Raise(64));
  EXPECT_TRUE(levels.Any());
  levels.Clear(64);
  EXPECT_FALSE(levels.Any());
  EXPECT_TRUE(levels.Raise(64));
  levels.Clear();
  EXPECT_FALSE(levels.Any());
}

}  // namespace
}  // namespace vmsg::msg
