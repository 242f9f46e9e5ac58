// Rows about virtqueues: their settings, their life and EVENT_USED.

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"

namespace vmsg::msg {
namespace {

using virtio::DummyDevice;
using virtio::FakeDriverQueue;

constexpr uint16_t kDev = 5;
constexpr uint32_t kVersion1 = 1;
constexpr uint32_t kRingReset = 1u << (virtio::kFeatureRingReset - 32);

class DeviceQueueConformance : public testing::Test {
 protected:
  DeviceQueueConformance()
      : device_(harness_.PlugDummy(
            kDev, {.max_work_delay = {}, .max_transition_delay = {}})) {}

  // The queue that BusHarness::Start() configures.
  FakeDriverQueue Queue(uint32_t index = 0, uint32_t size = 8) {
    return FakeDriverQueue(&harness_.memory(),
                           BusHarness::QueuePlace(kDev, index).desc, size);
  }
  static void AddEcho(FakeDriverQueue* queue) {
    const std::array<FakeDriverQueue::Buffer, 2> buffers = {
        FakeDriverQueue::Buffer{{0x80000}, 4, false},
        FakeDriverQueue::Buffer{{0x81000}, 4, true}};
    EXPECT_TRUE(queue->Add(buffers).has_value());
  }
  Received Get(uint32_t index) {
    return harness_.Ask(GetVqueueRequest(kDev, index));
  }
  uint32_t Size(uint32_t index) { return Get(index).u32(8); }
  std::vector<Received> Notify(uint32_t index) {
    return harness_.Send(AvailEvent(kDev, index));
  }

  BusHarness harness_;
  DummyDevice* const device_;
};

// --- GET_VQUEUE and SET_VQUEUE. ---

TEST_F(DeviceQueueConformance, DEV_VQ_1_MaximumIsTheOneThatIsAccepted) {
  harness_.DriverBreaks("DRV-INIT-1 DRV-VQ-1 DRV-VQ-2");
  EXPECT_EQ(Get(0).u32(4), 64u);
  harness_.Negotiate(kDev);
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 0, 128));
  EXPECT_EQ(Size(0), 0u);
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 0, 64));
  EXPECT_EQ(Size(0), 64u);
}

TEST_F(DeviceQueueConformance, DEV_VQ_2_SettingsAreKept) {
  harness_.DriverBreaks("DRV-VQ-1");
  harness_.Negotiate(kDev);
  harness_.Ask(SetVqueueRequest(kDev, 1, 4, 0x10010, 0x10102, 0x10204));
  const Received queue = Get(1);
  EXPECT_EQ(queue.u32(8), 4u);
  EXPECT_EQ(queue.u64(16), 0x10010u);
  EXPECT_EQ(queue.u64(24), 0x10102u);
  EXPECT_EQ(queue.u64(32), 0x10204u);
}

TEST_F(DeviceQueueConformance, DEV_GVQ_1_SizesAreOfTheQueueAskedFor) {
  harness_.DriverBreaks("DRV-VQ-1 DRV-GDI-1");
  harness_.Negotiate(kDev);
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 1, 16));
  EXPECT_EQ(Get(0).u32(4), 64u);
  EXPECT_EQ(Get(1).u32(4), 64u);
  EXPECT_EQ(Size(0), 0u);
  EXPECT_EQ(Size(1), 16u);
  // O-18: one that does not exist has no size at all.
  EXPECT_EQ(Get(2).u32(4), 0u);
  EXPECT_EQ(Size(2), 0u);
}

TEST_F(DeviceQueueConformance, DEV_GVQ_2_UnconfiguredQueueHasSizeZero) {
  harness_.DriverBreaks("DRV-INIT-1");
  EXPECT_EQ(Size(0), 0u);
  harness_.Start(kDev, 1);
  EXPECT_EQ(Size(0), 8u);
  EXPECT_EQ(Size(1), 0u);
  harness_.Ask(SetStatusRequest(kDev, 0));
  EXPECT_EQ(Size(0), 0u);
}

TEST_F(DeviceQueueConformance, FACT_GVQ_1_EchoesTheIndexAndReservesAWord) {
  harness_.DriverBreaks("DRV-INIT-1");
  for (const uint32_t index : {0u, 1u, 2u, 0xFFFFFFFFu}) {
    const Received queue = Get(index);
    EXPECT_EQ(queue.msg_size(), 48);
    EXPECT_EQ(queue.u32(0), index);
    EXPECT_EQ(queue.u32(12), 0u);
  }
}

TEST_F(DeviceQueueConformance, DEV_SVQ_1_QueueIsInactiveUntilItIsConfigured) {
  harness_.DriverBreaks("DRV-VQ-1 DRV-FINAL-3 DRV-SVQ-2");
  harness_.Start(kDev, 1);
  FakeDriverQueue queue = Queue(1);
  AddEcho(&queue);
  Notify(1);
  EXPECT_EQ(device_->stats().taken, 0u);
  // What can't be honoured configures nothing (O-19).
  harness_.Ask(SetVqueueRequest(kDev, 1, 0, 0x10000, 0x11000, 0x12000));
  harness_.Ask(SetVqueueRequest(kDev, 1, 3, 0x10000, 0x11000, 0x12000));
  harness_.Ask(SetVqueueRequest(kDev, 1, 8, 0x10008, 0x11000, 0x12000));
  harness_.Ask(SetVqueueRequest(kDev, 1, 8, 0x10000, 0x11001, 0x12000));
  harness_.Ask(SetVqueueRequest(kDev, 1, 8, 0x10000, 0x11000, 0x12002));
  harness_.Ask(SetVqueueRequest(kDev, 1, 8, 0xFFFFF0, 0x11000, 0x12000));
  EXPECT_EQ(Size(1), 0u);
  Notify(1);
  EXPECT_EQ(device_->stats().taken, 0u);
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 1));
  EXPECT_EQ(Size(1), 8u);
  Notify(1);
  EXPECT_EQ(device_->stats().completed, 1u);
}

TEST_F(DeviceQueueConformance, FACT_SVQ_2_AnswerIsTheBareHeader) {
  harness_.DriverBreaks("DRV-INIT-1 DRV-INIT-2 DRV-VQ-1 DRV-VQ-3 DRV-GDI-1");
  const Bytes bare = Hex("01 0a 05 00 34 12 08 00");
  // Refused, taken, and for a queue that does not exist: all the same.
  EXPECT_EQ(harness_.Ask(BusHarness::SetVqueueFor(kDev, 0)).bytes(), bare);
  harness_.Negotiate(kDev);
  EXPECT_EQ(harness_.Ask(BusHarness::SetVqueueFor(kDev, 0)).bytes(), bare);
  EXPECT_EQ(harness_.Ask(SetVqueueRequest(kDev, 9, 8, 0, 0, 0)).bytes(), bare);
}

// --- When queues are worked on. ---

TEST_F(DeviceQueueConformance, DEV_FINAL_1_NothingIsProcessedBeforeDriverOk) {
  harness_.DriverBreaks("DRV-INIT-3 DRV-INIT-4 DRV-VQ-1");
  harness_.Negotiate(kDev);
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 0));
  FakeDriverQueue queue = Queue();
  AddEcho(&queue);
  Notify(0);
  harness_.RunFor(std::chrono::seconds(1));
  EXPECT_EQ(device_->stats().taken, 0u);
  EXPECT_EQ(queue.UsedIdx(), 0u);
}

TEST_F(DeviceQueueConformance, DEV_FINAL_2_WorkStartsWithDriverOk) {
  harness_.DriverBreaks("DRV-INIT-3 DRV-VQ-1");
  harness_.Negotiate(kDev);
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 0));
  FakeDriverQueue queue = Queue();
  AddEcho(&queue);  // before DRIVER_OK, and never notified of
  harness_.Ask(SetStatusRequest(kDev, 15));
  harness_.RunFor({});
  EXPECT_EQ(queue.UsedIdx(), 1u);
  AddEcho(&queue);
  Notify(0);
  EXPECT_EQ(queue.UsedIdx(), 2u);
}

TEST_F(DeviceQueueConformance, DEV_NOTIF_5_UsedBuffersAreAnnounced) {
  harness_.Start(kDev, 2);
  for (const uint32_t index : {1u, 0u}) {
    FakeDriverQueue queue = Queue(index);
    AddEcho(&queue);
    const std::vector<Received> got = Notify(index);
    ASSERT_EQ(got.size(), 1u);
    Bytes expected = Hex("00 42 05 00 00 00 0c 00 00 00 00 00");
    expected[8] = static_cast<std::byte>(index);
    EXPECT_EQ(got[0].bytes(), expected);
  }
}

TEST_F(DeviceQueueConformance, DEV_EU_1_SilentOnlyWhereTheDriverAskedForIt) {
  harness_.Start(kDev);
  FakeDriverQueue queue = Queue();
  queue.DisableInterrupts();
  AddEcho(&queue);
  EXPECT_TRUE(Notify(0).empty());
  EXPECT_EQ(queue.UsedIdx(), 1u);
  queue.EnableInterrupts();
  AddEcho(&queue);
  EXPECT_EQ(Notify(0).size(), 1u);
}

// --- Reset. ---

TEST_F(DeviceQueueConformance, DEV_RESET_1_ResetDropsPendingWork) {
  DummyDevice* const slow =
      harness_.PlugDummy(7, {.max_work_delay = std::chrono::seconds(1)});
  harness_.Start(7);
  FakeDriverQueue queue(&harness_.memory(), BusHarness::QueuePlace(7, 0).desc,
                        8);
  AddEcho(&queue);
  harness_.Send(AvailEvent(7, 0));
  ASSERT_EQ(slow->in_flight(), 1u);
  EXPECT_EQ(harness_.Ask(SetStatusRequest(7, 0)).u32(0), 0u);
  EXPECT_TRUE(harness_.RunFor(std::chrono::seconds(5)).empty());
  EXPECT_EQ(queue.UsedIdx(), 0u);
  EXPECT_EQ(slow->state(), DummyDevice::State::kInactive);
  EXPECT_EQ(harness_.Status(7), 0u);
}

// --- RESET_VQUEUE. ---

TEST_F(DeviceQueueConformance, DEV_VQ_3_ResetQueueCanBeConfiguredAgain) {
  harness_.Start(kDev, 2, 0, kVersion1 | kRingReset);
  harness_.Ask(ResetVqueueRequest(kDev, 0));
  const Received queue = Get(0);
  EXPECT_EQ(queue.u32(4), 64u);
  EXPECT_EQ(queue.u32(8), 0u);
  EXPECT_EQ(queue.u64(16) | queue.u64(24) | queue.u64(32), 0u);
  EXPECT_EQ(Size(1), 8u);  // the others go on
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 0, 4));
  EXPECT_EQ(Size(0), 4u);
  FakeDriverQueue again = Queue(0, 4);
  AddEcho(&again);
  Notify(0);
  EXPECT_EQ(again.UsedIdx(), 1u);
}

// O-21 departs: without the feature nothing changes.
TEST_F(DeviceQueueConformance, DEV_RVQ_1_QueueIsResetOnlyWithTheFeature) {
  harness_.DriverBreaks("DRV-FINAL-3 DRV-RVQ-1");
  harness_.Start(kDev);
  EXPECT_EQ(harness_.Ask(ResetVqueueRequest(kDev, 0)).msg_size(), 8);
  EXPECT_EQ(Size(0), 8u);
  FakeDriverQueue queue = Queue();
  AddEcho(&queue);
  Notify(0);
  EXPECT_EQ(queue.UsedIdx(), 1u);
  FakeDriverQueue again = Queue();  // empty
  harness_.Start(kDev, 1, 0, kVersion1 | kRingReset);
  harness_.Ask(ResetVqueueRequest(kDev, 0));
  EXPECT_EQ(Size(0), 0u);
  AddEcho(&again);
  Notify(0);
  EXPECT_EQ(device_->stats().completed, 1u);
}

TEST_F(DeviceQueueConformance, DEV_RTVQ_2_NothingOfTheOldQueueIsProcessed) {
  harness_.DriverBreaks("DRV-INIT-3 DRV-FINAL-3");
  harness_.Start(kDev, 1, 0, kVersion1 | kRingReset);
  FakeDriverQueue old = Queue();
  AddEcho(&old);  // not notified of: left over
  harness_.Ask(ResetVqueueRequest(kDev, 0));
  Notify(0);
  EXPECT_EQ(old.UsedIdx(), 0u);
  // Elsewhere in memory.
  FakeDriverQueue queue(&harness_.memory(), {0x60000}, 8);
  AddEcho(&queue);
  harness_.Ask(SetVqueueRequest(kDev, 0, 8, queue.config().desc.value,
                                queue.config().driver.value,
                                queue.config().device.value));
  Notify(0);
  EXPECT_EQ(queue.UsedIdx(), 1u);
  EXPECT_EQ(old.UsedIdx(), 0u);
}

TEST_F(DeviceQueueConformance, FACT_RVQ_1_AnswerComesWhenTheQueueIsQuiet) {
  harness_.Start(kDev, 1, 0, kVersion1 | kRingReset);
  device_->HoldTransitions(true);
  EXPECT_TRUE(harness_.Send(ResetVqueueRequest(kDev, 0)).empty());
  EXPECT_TRUE(harness_.RunFor(std::chrono::seconds(1)).empty());
  device_->HoldTransitions(false);
  const std::vector<Received> got = harness_.RunFor(std::chrono::seconds(1));
  ASSERT_EQ(got.size(), 1u);
  EXPECT_EQ(got[0].bytes(), Hex("01 0b 05 00 34 12 08 00"));
}

// O-20 departs where the queue is active: it is left alone.
TEST_F(DeviceQueueConformance, DEV_RTVQ_1_OnlyInactiveQueuesTakeNewSettings) {
  harness_.DriverBreaks("DRV-VQ-1");
  harness_.Start(kDev, 1);
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 1, 16));
  EXPECT_EQ(Size(1), 16u);
  harness_.Ask(BusHarness::SetVqueueFor(kDev, 0, 16));
  EXPECT_EQ(Size(0), 8u);
  FakeDriverQueue queue = Queue();
  AddEcho(&queue);
  Notify(0);
  EXPECT_EQ(queue.UsedIdx(), 1u);
}

}  // namespace
}  // namespace vmsg::msg
