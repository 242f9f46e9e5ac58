// What a message costs: no allocation, and notifications from other threads
// that lose nothing. Source: amp-pci-device, 4.

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/message_link.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"
#include "vmm/base/guest_address.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/testing/status_matchers.h"

namespace {

std::atomic<uint64_t> allocations{0};

}  // namespace

// Not inlined: GCC takes the pair that it sees then for a mismatch.
[[gnu::noinline]] void* operator new(size_t size) {
  allocations.fetch_add(1, std::memory_order_relaxed);
  if (void* memory = std::malloc(size)) return memory;
  std::abort();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, size_t) noexcept {
  std::free(memory);
}

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;
using virtio::DummyOptions;
using virtio::FakeDriverQueue;

constexpr uint16_t kDev = 5;

// Keeps the last message and a count, and takes as many as there is room.
class CountingLink final : public MessageLink {
 public:
  bool TrySend(std::span<const std::byte> message) override {
    if (full) return false;
    ++sent;
    last_id = static_cast<uint8_t>(message[1]);
    used_events += last_id == 0x42;
    return true;
  }
  uint64_t Unread() override { return 0; }
  void RequestService() override { service = true; }

  bool full = false;
  bool service = false;
  uint64_t sent = 0;
  uint64_t used_events = 0;
  uint8_t last_id = 0;
};

// A bus on a real loop, with a monitor; no harness, whose link would allocate.
class DataPathTest : public testing::Test {
 protected:
  DataPathTest()
      : loop_(*vmm::EpollEventLoop::Create()),
        dma_(&memory_),
        monitor_({.name = "amp0/fifo0"}, &loop_->clock(), nullptr),
        bus_("amp0/fifo0", {.traffic_observer = &monitor_}, loop_.get(), &dma_,
             &link_, nullptr) {
    auto ram = vmm::MemoryBacking::CreateAnonymous(kBytes, "data_path_ram");
    EXPECT_OK(ram);
    EXPECT_OK(memory_.Add(
        {.range = {vmm::GuestAddress{0}, kBytes}, .backing = *std::move(ram)}));
  }

  DummyDevice* Plug(bool notify_from_thread, uint16_t dev = kDev) {
    auto device = std::make_unique<DummyDevice>(
        DummyOptions{.max_work_delay = {},
                     .max_transition_delay = {},
                     .notify_from_thread = notify_from_thread},
        loop_.get());
    DummyDevice* const result = device.get();
    EXPECT_OK(bus_.Plug(dev, dev, std::move(device)));
    return result;
  }

  // One message, and whatever the loop has to do for its answer.
  void Send(const Bytes& message) {
    bus_.Receive(message);
    bus_.Flush();
  }
  void Ask(const Bytes& message) {
    const uint64_t before = bus_.counters().answered.value();
    Send(message);
    while (bus_.counters().answered.value() == before) Turn();
  }
  void Turn() {
    loop_->RunOnce(vmm::Duration(0));
    if (link_.service) {
      link_.service = false;
      bus_.Flush();
    }
  }
  void Start(uint16_t dev = kDev) {
    Ask(GetDeviceInfoRequest(dev));
    Ask(SetStatusRequest(dev, 3));
    Ask(SetDriverFeaturesRequest(dev, 0, {0, 1}));
    Ask(SetStatusRequest(dev, 11));
    Ask(BusHarness::SetVqueueFor(dev, 0));
    Ask(SetStatusRequest(dev, 15));
  }

  // Allocations of a thousand calls, after some that warm up.
  template <typename Call>
  uint64_t AllocationsOf(Call call) {
    for (int i = 0; i < 100; ++i) call();
    const uint64_t before = allocations.load(std::memory_order_relaxed);
    for (int i = 0; i < 1000; ++i) call();
    return allocations.load(std::memory_order_relaxed) - before;
  }

  static constexpr uint64_t kBytes = BusHarness::kMemoryBytes;
  const std::unique_ptr<vmm::EpollEventLoop> loop_;
  vmm::GuestMemory memory_;
  vmm::DmaSpace dma_;
  CountingLink link_;
  WireMonitor monitor_;
  MessageBus bus_;
};

TEST_F(DataPathTest, TheCounterCounts) {
  const uint64_t before = allocations;
  const auto memory = std::make_unique<int>(1);
  EXPECT_EQ(allocations - before, 1u);
}

TEST_F(DataPathTest, RequestsDoNotAllocate) {
  Plug(false);
  Start();
  for (const Bytes& request :
       {GetConfigRequest(kDev, 0, 8), SetConfigRequest(kDev, 0, 8, {1}),
        GetStatusRequest(kDev), GetVqueueRequest(kDev, 0),
        GetDeviceInfoRequest(kDev), GetDeviceFeaturesRequest(kDev, 0, 2),
        SetStatusRequest(kDev, 15), GetShmRequest(kDev, 0), PingRequest(1),
        GetDevicesRequest(0, 32)}) {
    const uint64_t sent = link_.sent;
    EXPECT_EQ(AllocationsOf([&] { Send(request); }), 0u)
        << static_cast<int>(request[1]);
    EXPECT_EQ(link_.sent - sent, 1100u);
  }
}

TEST_F(DataPathTest, RefusalsDoNotAllocate) {
  Plug(false);
  Start();
  for (const Bytes& request :
       {GetConfigRequest(kDev, 0, 0xFFFFFFFF),
        SetConfigRequest(kDev, 9, 8, {1}), GetVqueueRequest(kDev, 99),
        GetShmRequest(kDev, 99), GetConfigRequest(9, 0, 8),
        Message(0, 0x7F, kDev), GetStatusRequest(999)}) {
    EXPECT_EQ(AllocationsOf([&] { Send(request); }), 0u)
        << static_cast<int>(request[1]);
  }
}

TEST_F(DataPathTest, AnswerWithoutRoomDoesNotAllocate) {
  Plug(false);
  Start();
  const Bytes request = GetConfigRequest(kDev, 0, 8);
  EXPECT_EQ(AllocationsOf([&] {
              link_.full = true;
              Send(request);
              EXPECT_FALSE(bus_.CanAccept());
              link_.full = false;
              EXPECT_TRUE(bus_.Flush());
            }),
            0u);
}

TEST_F(DataPathTest, DeferredRequestDoesNotAllocateOnTheBus) {
  DummyDevice* const device = Plug(false);
  device->HoldTransitions(true);
  Send(SetStatusRequest(kDev, 0));
  const Bytes request = GetStatusRequest(kDev);
  const uint64_t before = allocations;
  for (int i = 0; i < 7; ++i) Send(request);
  EXPECT_EQ(allocations - before, 0u);
}

TEST_F(DataPathTest, NotificationsDoNotAllocate) {
  Plug(false);
  Start();
  FakeDriverQueue queue(&memory_, BusHarness::QueuePlace(kDev, 0).desc, 8);
  const std::array<FakeDriverQueue::Buffer, 1> buffers = {
      FakeDriverQueue::Buffer{{0x80000}, 4, true}};
  const Bytes avail = AvailEvent(kDev, 0);
  const uint64_t used = link_.used_events;
  EXPECT_EQ(AllocationsOf([&] {
              queue.Add(buffers);
              Send(avail);
              while (!queue.TakeUsed().has_value()) Turn();
              Turn();
            }),
            0u);
  EXPECT_EQ(link_.used_events - used, 1100u);
}

// Several devices notify from threads of their own: whenever a buffer is used,
// an EVENT_USED follows it.
TEST_F(DataPathTest, NotificationsOfOtherThreadsAreNeverLost) {
  constexpr int kRounds = 300;
  constexpr uint16_t kDevices = 4;
  std::vector<std::unique_ptr<FakeDriverQueue>> queues;
  for (uint16_t dev = 0; dev < kDevices; ++dev) {
    Plug(true, dev);
    Start(dev);
    queues.push_back(std::make_unique<FakeDriverQueue>(
        &memory_, BusHarness::QueuePlace(dev, 0).desc, 8));
  }
  const std::array<FakeDriverQueue::Buffer, 1> buffers = {
      FakeDriverQueue::Buffer{{0x80000}, 4, true}};
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t before = link_.used_events;
    for (uint16_t dev = 0; dev < kDevices; ++dev) {
      ASSERT_TRUE(queues[dev]->Add(buffers).has_value());
      Send(AvailEvent(dev, 0));
    }
    // Each device owes exactly one event for its one buffer.
    while (link_.used_events < before + kDevices) Turn();
    EXPECT_EQ(link_.used_events, before + kDevices);
    for (auto& queue : queues) EXPECT_TRUE(queue->TakeUsed().has_value());
  }
}

}  // namespace
}  // namespace vmsg::msg
