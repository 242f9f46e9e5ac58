// Both ring formats behind a translator: rings, tables and buffers are at
// addresses that mean something to it alone, and their pages lie in guest
// memory in the reverse order.

#include <gtest/gtest.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/iova_map.h"

namespace vmsg::virtio {
namespace {

using Buffer = FakeDriverQueue::Buffer;
using PopResult = Virtqueue::PopResult;
using Used = FakeDriverQueue::Used;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = TestMemory::kRamBytes / kPage;
// Rings of more than a page each.
constexpr uint32_t kSize = 1024;

constexpr vmm::GuestAddress kIova{0x7f0000000000};
constexpr uint64_t kBufferPage = 128;
constexpr uint64_t kTablePage = 64;
// Beside what the queue uses, and mapped by single tests.
constexpr vmm::GuestAddress kElsewhere{0x10000};

constexpr vmm::GuestAddress PageAt(uint64_t page, uint64_t offset = 0) {
  return {kIova.value + kPage * page + offset};
}

template <typename Driver>
class TranslatedVirtqueueTest : public ::testing::Test {
 protected:
  static constexpr bool kPacked = std::is_same_v<Driver, FakePackedDriverQueue>;

  TranslatedVirtqueueTest() {
    for (uint64_t page = 0; page < kPages; ++page) {
      MapPage(page);
      MustMap(&driver_map_,
              {.iova = {PageAt(page), kPage}, .physical = Physical(page)});
    }
    driver_.emplace(memory_.memory(), kIova, kSize, /*event_idx=*/true,
                    &driver_map_);
    Create();
  }

  static void MustMap(vmm::IovaMap* map, const vmm::IovaMap::Mapping& mapping) {
    const absl::Status status = map->Map(mapping);
    ASSERT_TRUE(status.ok()) << status;
  }
  static vmm::GuestAddress Physical(uint64_t page) {
    return {TestMemory::kRam.value + kPage * (kPages - 1 - page)};
  }
  // For the device; the driver's addresses are the processor's business.
  struct Rights {
    bool readable = true;
    bool writable = true;
  };
  void MapPage(uint64_t page) { MapPage(page, Rights()); }
  void MapPage(uint64_t page, const Rights& rights) {
    MustMap(&map_, {.iova = {PageAt(page), kPage},
                    .physical = Physical(page),
                    .readable = rights.readable,
                    .writable = rights.writable});
  }
  void UnmapPages(uint64_t page, uint64_t count = 1) {
    const absl::Status status = map_.Unmap({PageAt(page), kPage * count});
    ASSERT_TRUE(status.ok()) << status;
  }
  // Pages from where an area begins.
  static uint64_t PageOf(vmm::GuestAddress area) {
    return (area.value - kIova.value) / kPage;
  }
  static uint64_t PagesOf(uint64_t bytes) {
    return (bytes + kPage - 1) / kPage;
  }

  absl::Status TryCreate() {
    Features features = {kFeatureVersion1, kFeatureIndirectDesc,
                         kFeatureEventIdx, kFeatureAccessPlatform};
    if (kPacked) features.Set(kFeatureRingPacked);
    absl::StatusOr<std::unique_ptr<Virtqueue>> made =
        CreateVirtqueue(0, driver_->config(), kSize, features, &dma_);
    if (made.ok()) queue_ = *std::move(made);
    return made.status();
  }
  void Create() { ASSERT_TRUE(TryCreate().ok()); }

  void ExpectPopBreaks(QueueFault fault) {
    DescriptorChain chain;
    EXPECT_EQ(queue_->Pop(&chain), PopResult::kBroken);
    EXPECT_EQ(queue_->fault(), fault) << QueueFaultName(queue_->fault());
    EXPECT_FALSE(chain.valid());
  }
  void ExpectBufferBreaks(const Buffer& buffer, QueueFault fault) {
    ASSERT_TRUE(driver_->Add(std::vector<Buffer>{buffer}).has_value());
    ExpectPopBreaks(fault);
  }

  TestMemory memory_;
  vmm::IovaMap driver_map_;
  vmm::IovaMap map_;
  vmm::DmaSpace dma_{memory_.memory(), memory_.gate(), &map_};
  vmm::DmaSpace driver_memory_{memory_.memory(), nullptr, &driver_map_};
  std::optional<Driver> driver_;
  std::unique_ptr<Virtqueue> queue_;
};

using Drivers = ::testing::Types<FakeDriverQueue, FakePackedDriverQueue>;

class DriverNames {
 public:
  template <typename Driver>
  static std::string GetName(int) {
    return std::is_same_v<Driver, FakeDriverQueue> ? "Split" : "Packed";
  }
};

TYPED_TEST_SUITE(TranslatedVirtqueueTest, Drivers, DriverNames);

// --- What works. ---

TYPED_TEST(TranslatedVirtqueueTest, ChainsGoAroundRingsThatAreInPieces) {
  const std::vector<std::byte> request = CountingBytes(100, 7);
  const std::vector<std::byte> answer = CountingBytes(5000, 9);
  // Both across pages.
  const vmm::GuestAddress out = PageAt(kBufferPage, kPage - 50);
  const vmm::GuestAddress in = PageAt(kBufferPage + 2, 100);
  ASSERT_EQ(this->driver_memory_.Write(out, request), vmm::DmaResult::kOk);
  // Past the end of the ring.
  for (uint32_t i = 0; i < 2 * kSize; ++i) {
    const std::vector<Buffer> buffers = {{out, 100}, {in, 5000, true}};
    const bool indirect = i % 3 == 0;
    // Its entries are on two pages.
    const std::optional<uint16_t> id =
        indirect ? this->driver_->AddIndirect(
                       PageAt(kTablePage, kPage - kDescriptorBytes), buffers)
                 : this->driver_->Add(buffers);
    ASSERT_TRUE(id.has_value());
    DescriptorChain chain;
    ASSERT_EQ(this->queue_->Pop(&chain), PopResult::kChain)
        << i << ": " << QueueFaultName(this->queue_->fault());
    std::vector<std::byte> got(100);
    size_t copied = 0;
    ASSERT_EQ(chain.Read(&this->dma_, 0, got, &copied), vmm::DmaResult::kOk);
    ASSERT_EQ(got, request);
    ASSERT_EQ(chain.Write(&this->dma_, 0, answer, &copied),
              vmm::DmaResult::kOk);
    this->queue_->Complete(std::move(chain), 5000);
    ASSERT_EQ(this->driver_->TakeUsed(), (Used{*id, 5000}));
  }
  std::vector<std::byte> got(5000);
  ASSERT_EQ(this->driver_memory_.Read(in, got), vmm::DmaResult::kOk);
  EXPECT_EQ(got, answer);
}

TYPED_TEST(TranslatedVirtqueueTest, NotificationsAreSuppressedThroughIt) {
  DescriptorChain chain;
  EXPECT_EQ(this->queue_->Pop(&chain), PopResult::kEmpty);
  EXPECT_FALSE(this->queue_->EnableNotifications());
  EXPECT_FALSE(this->driver_->EnableInterrupts());
  this->driver_->Add(std::vector<Buffer>{{PageAt(kBufferPage), 8, true}});
  EXPECT_TRUE(this->driver_->ShouldKick());
  ASSERT_EQ(this->queue_->Pop(&chain), PopResult::kChain);
  this->queue_->Complete(std::move(chain), 8);
  EXPECT_TRUE(this->queue_->ShouldNotify());
  EXPECT_TRUE(this->driver_->TakeUsed().has_value());
}

// --- Rings. ---

TYPED_TEST(TranslatedVirtqueueTest, RingThatIsNotMappedIsRefused) {
  const QueueConfig config = this->driver_->config();
  for (const vmm::GuestAddress area :
       {config.desc, config.driver, config.device}) {
    const uint64_t page = this->PageOf(area);
    this->UnmapPages(page);
    EXPECT_EQ(this->TryCreate().code(), absl::StatusCode::kInvalidArgument);
    this->MapPage(page);
    EXPECT_TRUE(this->TryCreate().ok());
  }
}

TYPED_TEST(TranslatedVirtqueueTest, RingTakesTheRightsThatItsUseTakes) {
  // Each area on a page of its own.
  QueueConfig config;
  config.size = 16;
  struct Area {
    vmm::GuestAddress QueueConfig::*start;
    bool read;
    bool written;
  };
  const std::array<Area, 3> areas = {
      Area{&QueueConfig::desc, true, this->kPacked},
      Area{&QueueConfig::driver, true, false},
      Area{&QueueConfig::device, false, true}};
  for (size_t i = 0; i < areas.size(); ++i) config.*areas[i].start = PageAt(i);
  Features features = {kFeatureVersion1};
  if (this->kPacked) features.Set(kFeatureRingPacked);
  const auto fits = [&] {
    return CheckQueueConfig(config, kSize, features, &this->dma_).ok();
  };
  for (uint64_t page = 0; page < areas.size(); ++page) {
    this->UnmapPages(page);
    this->MapPage(page, {.writable = false});
    EXPECT_EQ(fits(), !areas[page].written) << page;
    this->UnmapPages(page);
    this->MapPage(page, {.readable = false});
    EXPECT_EQ(fits(), !areas[page].read) << page;
    this->UnmapPages(page);
    this->MapPage(page);
    EXPECT_TRUE(fits());
  }
}

TYPED_TEST(TranslatedVirtqueueTest, RingAtItsGuestPhysicalAddressIsRefused) {
  QueueConfig config = this->driver_->config();
  const auto physical = [this](vmm::GuestAddress area) {
    return this->Physical(this->PageOf(area));
  };
  config = {.size = 16,
            .desc = physical(config.desc),
            .driver = physical(config.driver),
            .device = physical(config.device)};
  EXPECT_FALSE(
      CheckQueueConfig(config, kSize, {kFeatureVersion1}, &this->dma_).ok());
}

TYPED_TEST(TranslatedVirtqueueTest, RingThatIsUnmappedInUseBreaksTheQueue) {
  this->driver_->Add(std::vector<Buffer>{{PageAt(kBufferPage), 8, true}});
  this->UnmapPages(this->PageOf(this->driver_->config().desc));
  this->ExpectPopBreaks(QueueFault::kRingOutsideMemory);
  // For good.
  this->MapPage(this->PageOf(this->driver_->config().desc));
  this->ExpectPopBreaks(QueueFault::kRingOutsideMemory);
  this->Create();
  DescriptorChain chain;
  EXPECT_EQ(this->queue_->Pop(&chain), PopResult::kChain);
}

TYPED_TEST(TranslatedVirtqueueTest, UsedPartThatIsUnmappedBreaksTheQueue) {
  this->driver_->Add(std::vector<Buffer>{{PageAt(kBufferPage), 8, true}});
  DescriptorChain chain;
  ASSERT_EQ(this->queue_->Pop(&chain), PopResult::kChain);
  // Of a packed ring it is where the descriptors are.
  this->UnmapPages(this->PageOf(this->kPacked
                                    ? this->driver_->config().desc
                                    : this->driver_->config().device));
  this->queue_->Complete(std::move(chain), 8);
  EXPECT_EQ(this->queue_->fault(), QueueFault::kRingOutsideMemory);
  EXPECT_FALSE(this->queue_->ShouldNotify());
  EXPECT_FALSE(this->driver_->TakeUsed().has_value());
}

TYPED_TEST(TranslatedVirtqueueTest, RingThatBecomesReadOnlyBreaksTheQueue) {
  this->driver_->Add(std::vector<Buffer>{{PageAt(kBufferPage), 8, true}});
  DescriptorChain chain;
  ASSERT_EQ(this->queue_->Pop(&chain), PopResult::kChain);
  const uint64_t page =
      this->PageOf(this->kPacked ? this->driver_->config().desc
                                 : this->driver_->config().device);
  this->UnmapPages(page);
  this->MapPage(page, {.writable = false});
  this->queue_->Complete(std::move(chain), 8);
  EXPECT_EQ(this->queue_->fault(), QueueFault::kRingOutsideMemory);
  EXPECT_FALSE(this->driver_->TakeUsed().has_value());
}

TYPED_TEST(TranslatedVirtqueueTest, SuppressionThatIsUnmappedBreaksTheQueue) {
  const QueueConfig config = this->driver_->config();
  const uint64_t device_end =
      config.device.value + (this->kPacked ? 0 : AvailEventOffset(kSize));
  this->UnmapPages(this->PageOf({device_end}));
  // A fault is for Pop() to report.
  EXPECT_TRUE(this->queue_->EnableNotifications());
  this->ExpectPopBreaks(QueueFault::kRingOutsideMemory);
}

// --- Buffers and tables. ---

TYPED_TEST(TranslatedVirtqueueTest, BufferThatIsNotMappedBreaksTheQueue) {
  this->UnmapPages(kBufferPage);
  this->ExpectBufferBreaks({PageAt(kBufferPage), 8, true},
                           QueueFault::kBufferOutsideMemory);
}

TYPED_TEST(TranslatedVirtqueueTest, BufferThatIsMappedInPartBreaksTheQueue) {
  this->UnmapPages(kBufferPage + 1);
  this->ExpectBufferBreaks({PageAt(kBufferPage), kPage + 1},
                           QueueFault::kBufferOutsideMemory);
}

TYPED_TEST(TranslatedVirtqueueTest, BufferAtAPhysicalAddressBreaksTheQueue) {
  this->ExpectBufferBreaks({TestMemory::kBuffers, 8},
                           QueueFault::kBufferOutsideMemory);
}

TYPED_TEST(TranslatedVirtqueueTest, BufferThatWrapsBreaksTheQueue) {
  this->MustMap(&this->map_, {.iova = {{UINT64_MAX - (kPage - 1)}, kPage},
                              .physical = TestMemory::kBuffers});
  this->MustMap(&this->map_,
                {.iova = {{0}, kPage}, .physical = TestMemory::kBuffers});
  this->ExpectBufferBreaks({{UINT64_MAX - 7}, 9},
                           QueueFault::kBufferOutsideMemory);
}

TYPED_TEST(TranslatedVirtqueueTest, BufferWithoutPermissionBreaksTheQueue) {
  this->MustMap(&this->map_, {.iova = {kElsewhere, kPage},
                              .physical = TestMemory::kBuffers,
                              .writable = false});
  this->ExpectBufferBreaks({kElsewhere, 8, true}, QueueFault::kBufferReadOnly);
}

TYPED_TEST(TranslatedVirtqueueTest, BufferThatIsNotReadableBreaksTheQueue) {
  this->MustMap(&this->map_, {.iova = {kElsewhere, kPage},
                              .physical = TestMemory::kBuffers,
                              .readable = false});
  this->ExpectBufferBreaks({kElsewhere, 8}, QueueFault::kBufferOutsideMemory);
}

TYPED_TEST(TranslatedVirtqueueTest, MappingToReadOnlyMemoryIsReadOnly) {
  this->MustMap(&this->map_, {.iova = {kElsewhere, kPage},
                              .physical = TestMemory::kReadOnly});
  this->ExpectBufferBreaks({kElsewhere, 8, true}, QueueFault::kBufferReadOnly);
}

TYPED_TEST(TranslatedVirtqueueTest, MappingToNoMemoryIsOutside) {
  this->MustMap(&this->map_,
                {.iova = {kElsewhere, kPage}, .physical = TestMemory::kHole});
  this->ExpectBufferBreaks({kElsewhere, 8}, QueueFault::kBufferOutsideMemory);
}

TYPED_TEST(TranslatedVirtqueueTest, TableThatIsNotMappedBreaksTheQueue) {
  ASSERT_TRUE(this->driver_
                  ->AddIndirect(PageAt(kTablePage),
                                std::vector<Buffer>{{PageAt(kBufferPage), 8}})
                  .has_value());
  this->UnmapPages(kTablePage);
  this->ExpectPopBreaks(QueueFault::kBufferOutsideMemory);
}

TYPED_TEST(TranslatedVirtqueueTest, TableThatIsMappedInPartBreaksTheQueue) {
  const std::vector<Buffer> buffers(2, Buffer{PageAt(kBufferPage), 8});
  ASSERT_TRUE(
      this->driver_
          ->AddIndirect(PageAt(kTablePage, kPage - kDescriptorBytes), buffers)
          .has_value());
  this->UnmapPages(kTablePage + 1);
  this->ExpectPopBreaks(QueueFault::kBufferOutsideMemory);
}

// --- In flight. ---

TYPED_TEST(TranslatedVirtqueueTest, BufferThatIsUnmappedInFlightIsNotTouched) {
  const vmm::GuestAddress buffer = PageAt(kBufferPage, kPage - 8);
  ASSERT_TRUE(
      this->driver_->Add(std::vector<Buffer>{{buffer, 16, true}}).has_value());
  DescriptorChain chain;
  ASSERT_EQ(this->queue_->Pop(&chain), PopResult::kChain);
  this->UnmapPages(kBufferPage + 1);
  size_t copied = 7;
  EXPECT_EQ(chain.Write(&this->dma_, 0, CountingBytes(16, 1), &copied),
            vmm::DmaResult::kOutside);
  EXPECT_EQ(copied, 0u);
  std::vector<std::byte> bytes(16);
  ASSERT_EQ(this->driver_memory_.Read(buffer, bytes), vmm::DmaResult::kOk);
  EXPECT_EQ(bytes, std::vector<std::byte>(16));
  // What is there can be used.
  EXPECT_EQ(chain.Write(&this->dma_, 0, CountingBytes(8, 1), &copied),
            vmm::DmaResult::kOk);
  this->queue_->Complete(std::move(chain), 8);
  EXPECT_EQ(this->queue_->fault(), QueueFault::kNone);
}

TYPED_TEST(TranslatedVirtqueueTest, WhatLiesFarBehindIsFoundByTheTransfer) {
  constexpr uint64_t kPieces = vmm::DmaSpace::kMaxCheckedPieces;
  this->UnmapPages(kBufferPage + kPieces);
  ASSERT_TRUE(
      this->driver_
          ->Add(std::vector<Buffer>{
              {PageAt(kBufferPage), static_cast<uint32_t>(kPage * 64), true}})
          .has_value());
  DescriptorChain chain;
  ASSERT_EQ(this->queue_->Pop(&chain), PopResult::kChain);
  size_t copied = 0;
  EXPECT_EQ(
      chain.Write(&this->dma_, 0, std::vector<std::byte>(kPage * 64), &copied),
      vmm::DmaResult::kOutside);
  EXPECT_EQ(chain.Write(&this->dma_, 0, std::vector<std::byte>(kPage * kPieces),
                        &copied),
            vmm::DmaResult::kOk);
}

}  // namespace
}  // namespace vmsg::virtio
