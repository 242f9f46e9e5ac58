// VIRTIO_F_ACCESS_PLATFORM over the bus: offered where addresses are
// translated, and what a driver with and without it gets. Source: virtio 1.2,
// 6.1 and 6.2.

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio_msg/message_bus_types.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/log.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/iova_map.h"

namespace vmsg::msg {
namespace {

using virtio::DummyOptions;
using virtio::FakeDriverQueue;

constexpr uint16_t kDev = 5;
constexpr uint32_t High(uint32_t feature) { return 1u << (feature - 32); }
constexpr uint32_t kVersion1 = High(virtio::kFeatureVersion1);
constexpr uint32_t kPlatform = High(virtio::kFeatureAccessPlatform);
constexpr DummyOptions kInstant = {.max_work_delay = {},
                                   .max_transition_delay = {}};
constexpr uint32_t kAckDriver = 3;
constexpr uint32_t kFeaturesOk = 11;
constexpr uint32_t kRunning = 15;
constexpr uint32_t kNeedsReset = 64;

// How far IOVAs are from guest-physical addresses.
constexpr uint64_t kShift = uint64_t{1} << 40;

class RememberingLogSink final : public vmm::LogSink {
 public:
  void Write(const vmm::LogRecord& record) override {
    lines.emplace_back(record.message);
  }
  std::vector<std::string> lines;
};

class AccessPlatformTest : public testing::Test {
 protected:
  // The device's map is another object than the driver's, whose own accesses
  // go on whatever happens to it.
  void Create(bool allow_untranslated = false) {
    MapAll(&map_);
    MapAll(&driver_map_);
    harness_.emplace(
        MessageBusOptions{.translated_dma = &translated_,
                          .allow_untranslated = allow_untranslated},
        &log_);
    // The harness has the memory that the space is to show.
    for (const vmm::MemoryRegion& region :
         harness_->memory().Snapshot()->regions()) {
      ASSERT_TRUE(memory_.Add(region).ok());
    }
    harness_->PlugDummy(kDev, kInstant);
  }
  static void MapAll(vmm::IovaMap* map) {
    ASSERT_TRUE(map->Map({.iova = {{kShift}, BusHarness::kMemoryBytes},
                          .physical = {0}})
                    .ok());
  }
  static virtio::QueueConfig Shifted(virtio::QueueConfig config) {
    config.desc.value += kShift;
    config.driver.value += kShift;
    config.device.value += kShift;
    return config;
  }
  void SetQueue(const virtio::QueueConfig& config) {
    harness_->Ask(GetVqueueRequest(kDev, 0));
    harness_->Ask(SetVqueueRequest(kDev, 0, config.size, config.desc.value,
                                   config.driver.value, config.device.value));
    harness_->Ask(GetVqueueRequest(kDev, 0));
  }
  uint32_t QueueSize() {
    return harness_->Ask(GetVqueueRequest(kDev, 0)).u32(8);
  }
  // Everything up to the write of FEATURES_OK, whose result it gives.
  uint32_t Negotiate(uint32_t high_features) {
    harness_->Ask(GetDeviceInfoRequest(kDev));
    harness_->Ask(SetStatusRequest(kDev, 0));
    harness_->Ask(SetStatusRequest(kDev, kAckDriver));
    harness_->Ask(GetDeviceFeaturesRequest(kDev, 0, 2));
    harness_->Ask(SetDriverFeaturesRequest(kDev, 0, {0, high_features}));
    return harness_->Ask(SetStatusRequest(kDev, kFeaturesOk)).u32(0);
  }
  // The device runs with a queue whose addresses are the translator's.
  std::unique_ptr<FakeDriverQueue> StartTranslated() {
    EXPECT_EQ(Negotiate(kVersion1 | kPlatform), kFeaturesOk);
    auto queue = std::make_unique<FakeDriverQueue>(
        &harness_->memory(),
        vmm::GuestAddress{kShift + BusHarness::QueuePlace(kDev, 0).desc.value},
        8, /*event_idx=*/false, &driver_map_);
    SetQueue(queue->config());
    EXPECT_EQ(harness_->Ask(SetStatusRequest(kDev, kRunning)).u32(0), kRunning);
    return queue;
  }
  // An echo request with its buffers at `shift`, in the driver's own words.
  std::optional<uint16_t> AddEcho(FakeDriverQueue* queue, uint64_t shift) {
    return queue->Add(std::vector<FakeDriverQueue::Buffer>{
        {{shift + 0x80000}, 4, false}, {{shift + 0x81000}, 4, true}});
  }

  RememberingLogSink log_;
  vmm::IovaMap map_;
  vmm::IovaMap driver_map_;
  vmm::GuestMemory memory_;
  vmm::DmaSpace translated_{&memory_, nullptr, &map_};
  std::optional<BusHarness> harness_;
};

TEST_F(AccessPlatformTest, IsOfferedByEachDeviceWhereAddressesAreTranslated) {
  Create();
  harness_->DriverBreaks("DRV-INIT-1");
  EXPECT_NE(
      harness_->Ask(GetDeviceFeaturesRequest(kDev, 1, 1)).u32(8) & kPlatform,
      0u);
}

TEST(AccessPlatformOfferTest, IsNotOfferedWithoutATranslator) {
  BusHarness harness;
  harness.DriverBreaks("DRV-INIT-1 DRV-FEAT-2");
  // Whatever the device says.
  harness.PlugDummy(kDev, {.offered = {virtio::kFeatureVersion1,
                                       virtio::kFeatureAccessPlatform}});
  EXPECT_EQ(harness.Ask(GetDeviceFeaturesRequest(kDev, 1, 1)).u32(8),
            kVersion1);
  // Nor accepted.
  harness.Ask(SetStatusRequest(kDev, kAckDriver));
  harness.Ask(SetDriverFeaturesRequest(kDev, 0, {0, kVersion1 | kPlatform}));
  EXPECT_EQ(harness.Ask(SetStatusRequest(kDev, kFeaturesOk)).u32(0),
            kAckDriver);
}

TEST_F(AccessPlatformTest, DriversAddressesAreTheTranslators) {
  Create();
  const std::unique_ptr<FakeDriverQueue> queue = StartTranslated();
  for (int i = 0; i < 20; ++i) {
    const std::optional<uint16_t> id = AddEcho(queue.get(), kShift);
    ASSERT_TRUE(id.has_value());
    const std::vector<Received> got = harness_->Send(AvailEvent(kDev, 0));
    ASSERT_EQ(got.size(), 1u);
    EXPECT_TRUE(got[0].is_used_event());
    EXPECT_EQ(queue->TakeUsed(), (FakeDriverQueue::Used{*id, 4}));
  }
}

TEST_F(AccessPlatformTest, GuestPhysicalQueueIsUnusable) {
  Create();
  ASSERT_EQ(Negotiate(kVersion1 | kPlatform), kFeaturesOk);
  SetQueue(BusHarness::QueuePlace(kDev, 0));
  EXPECT_EQ(QueueSize(), 0u);
  SetQueue(Shifted(BusHarness::QueuePlace(kDev, 0)));
  EXPECT_EQ(QueueSize(), 8u);
}

TEST_F(AccessPlatformTest, GuestPhysicalBufferNeedsAReset) {
  Create();
  const std::unique_ptr<FakeDriverQueue> queue = StartTranslated();
  ASSERT_TRUE(AddEcho(queue.get(), 0).has_value());
  harness_->Send(AvailEvent(kDev, 0));
  EXPECT_EQ(harness_->Status(kDev), kRunning | kNeedsReset);
}

TEST_F(AccessPlatformTest, DriverWithoutItIsRefusedAndTheOperatorTold) {
  Create();
  harness_->DriverBreaks("DRV-FEAT-4 DRV-FINAL-1");
  EXPECT_EQ(Negotiate(kVersion1), kAckDriver);
  EXPECT_EQ(log_.lines,
            (std::vector<std::string>{
                "refused: a driver without VIRTIO_F_ACCESS_PLATFORM"}));
  // It gets no further, and nothing is done to memory.
  SetQueue(BusHarness::QueuePlace(kDev, 0));
  EXPECT_EQ(harness_->Ask(SetStatusRequest(kDev, kRunning)).u32(0), kAckDriver);
  EXPECT_EQ(QueueSize(), 0u);
  // It may think again.
  harness_->Ask(SetDriverFeaturesRequest(kDev, 1, {kVersion1 | kPlatform}));
  EXPECT_EQ(harness_->Ask(SetStatusRequest(kDev, kFeaturesOk)).u32(0),
            kFeaturesOk);
}

TEST_F(AccessPlatformTest, WhereItIsAllowedADriverMayDoWithout) {
  Create(/*allow_untranslated=*/true);
  ASSERT_EQ(Negotiate(kVersion1), kFeaturesOk);
  FakeDriverQueue queue(&harness_->memory(),
                        BusHarness::QueuePlace(kDev, 0).desc, 8);
  SetQueue(queue.config());
  ASSERT_EQ(harness_->Ask(SetStatusRequest(kDev, kRunning)).u32(0), kRunning);
  const std::optional<uint16_t> id = AddEcho(&queue, 0);
  harness_->Send(AvailEvent(kDev, 0));
  EXPECT_EQ(queue.TakeUsed(), (FakeDriverQueue::Used{*id, 4}));

  // The next driver of the device knows it: what addresses mean is another.
  ASSERT_EQ(Negotiate(kVersion1 | kPlatform), kFeaturesOk);
  SetQueue(BusHarness::QueuePlace(kDev, 1));
  EXPECT_EQ(QueueSize(), 0u);
  SetQueue(Shifted(BusHarness::QueuePlace(kDev, 1)));
  EXPECT_EQ(QueueSize(), 8u);
  EXPECT_EQ(harness_->Ask(SetStatusRequest(kDev, kRunning)).u32(0), kRunning);
}

TEST_F(AccessPlatformTest, QueueThatIsUnmappedBeforeTheStartNeedsAReset) {
  Create();
  ASSERT_EQ(Negotiate(kVersion1 | kPlatform), kFeaturesOk);
  SetQueue(Shifted(BusHarness::QueuePlace(kDev, 0)));
  ASSERT_EQ(QueueSize(), 8u);
  map_.Clear();
  EXPECT_EQ(harness_->Ask(SetStatusRequest(kDev, kRunning)).u32(0),
            kFeaturesOk | kNeedsReset);
}

TEST_F(AccessPlatformTest, QueueThatIsUnmappedInUseNeedsAReset) {
  Create();
  const std::unique_ptr<FakeDriverQueue> queue = StartTranslated();
  map_.Clear();
  ASSERT_TRUE(AddEcho(queue.get(), kShift).has_value());
  harness_->Send(AvailEvent(kDev, 0));
  EXPECT_EQ(harness_->Status(kDev), kRunning | kNeedsReset);
  EXPECT_FALSE(queue->TakeUsed().has_value());
  // A reset mends it, and the mapping.
  MapAll(&map_);
  ASSERT_EQ(Negotiate(kVersion1 | kPlatform), kFeaturesOk);
  SetQueue(queue->config());
  EXPECT_EQ(harness_->Ask(SetStatusRequest(kDev, kRunning)).u32(0), kRunning);
}

}  // namespace
}  // namespace vmsg::msg
