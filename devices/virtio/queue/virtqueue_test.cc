#include "devices/virtio/queue/virtqueue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"

namespace vmsg::virtio {
namespace {

using ::testing::HasSubstr;

constexpr uint32_t kMaxSize = 16;
const Features kFeatures = {kFeatureVersion1};

vmm::GuestAddress Plus(vmm::GuestAddress address, uint64_t offset) {
  return {address.value + offset};
}

class QueueConfigTest : public ::testing::Test {
 protected:
  QueueConfig GoodConfig() {
    return FakeDriverQueue(memory_.memory(), TestMemory::kRam, kMaxSize)
        .config();
  }
  void ExpectRefused(const QueueConfig& config, const std::string& why) {
    const absl::Status status =
        CheckQueueConfig(config, kMaxSize, kFeatures, memory_.dma());
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), HasSubstr(why));
    EXPECT_FALSE(
        CreateVirtqueue(0, config, kMaxSize, kFeatures, memory_.dma()).ok());
  }

  TestMemory memory_;
};

TEST_F(QueueConfigTest, GoodOneMakesAQueue) {
  const QueueConfig config = GoodConfig();
  EXPECT_TRUE(
      CheckQueueConfig(config, kMaxSize, kFeatures, memory_.dma()).ok());
  auto queue = CreateVirtqueue(3, config, kMaxSize, kFeatures, memory_.dma());
  ASSERT_TRUE(queue.ok());
  EXPECT_EQ((*queue)->index(), 3);
  EXPECT_EQ((*queue)->size(), kMaxSize);
  EXPECT_EQ((*queue)->fault(), QueueFault::kNone);
  EXPECT_EQ((*queue)->owed(), 0u);
  EXPECT_EQ((*queue)->position(), (Virtqueue::Position{0, 0}));
}

TEST_F(QueueConfigTest, SizeIsAPowerOfTwoFromOneToTheMaximum) {
  // virtio 1.2, 2.7: the queue size of a split ring is a power of two.
  QueueConfig config = GoodConfig();
  for (uint32_t size : {1u, 2u, 8u, 16u}) {
    config.size = size;
    EXPECT_TRUE(
        CheckQueueConfig(config, kMaxSize, kFeatures, memory_.dma()).ok());
  }
  for (uint32_t size : {0u, 32u, 0x80000000u, 0xffffffffu}) {
    config.size = size;
    ExpectRefused(config, "not from 1 to 16");
  }
  for (uint32_t size : {3u, 6u, 15u}) {
    config.size = size;
    ExpectRefused(config, "power of two");
  }
}

TEST_F(QueueConfigTest, SizeAbove32768IsRefusedWhateverTheDeviceAllows) {
  QueueConfig config = GoodConfig();
  config.size = 65536;
  EXPECT_EQ(CheckQueueConfig(config, 65536, kFeatures, memory_.dma()).code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(QueueConfigTest, AreasAreAligned) {
  // virtio 1.2, 2.7: 16, 2 and 4 bytes.
  QueueConfig config = GoodConfig();
  config.desc.value += 8;
  ExpectRefused(config, "descriptor area");
  config = GoodConfig();
  config.driver.value += 1;
  ExpectRefused(config, "driver area");
  config.driver.value += 1;
  EXPECT_TRUE(
      CheckQueueConfig(config, kMaxSize, kFeatures, memory_.dma()).ok());
  config.device.value += 2;
  ExpectRefused(config, "device area");
}

TEST_F(QueueConfigTest, AreasLieWhollyInGuestMemory) {
  const vmm::GuestAddress end = Plus(TestMemory::kRam, TestMemory::kRamBytes);
  const auto area_at = [this](vmm::GuestAddress QueueConfig::*area,
                              vmm::GuestAddress place) {
    QueueConfig config = GoodConfig();
    config.*area = place;
    return config;
  };
  // Event words included: virtio 1.2, 2.7.
  const uint64_t driver_bytes = 6 + 2 * kMaxSize;
  const uint64_t device_bytes = 6 + 8 * kMaxSize;
  EXPECT_TRUE(CheckQueueConfig(
                  area_at(&QueueConfig::driver, {end.value - driver_bytes}),
                  kMaxSize, kFeatures, memory_.dma())
                  .ok());
  ExpectRefused(area_at(&QueueConfig::driver, {end.value - driver_bytes + 2}),
                "driver area");
  ExpectRefused(area_at(&QueueConfig::device, {end.value - device_bytes + 2}),
                "device area");
  ExpectRefused(area_at(&QueueConfig::desc, {end.value - 16}),
                "not in guest memory");
  ExpectRefused(area_at(&QueueConfig::desc, TestMemory::kHole),
                "not in guest memory");
  ExpectRefused(area_at(&QueueConfig::desc, {UINT64_MAX - 15}),
                "not in guest memory");
}

TEST_F(QueueConfigTest, AreaThatTheDeviceWritesIsNotInReadOnlyMemory) {
  QueueConfig config = GoodConfig();
  config.device = TestMemory::kReadOnly;
  ExpectRefused(config, "device area");
  ExpectRefused(config, "read-only");
}

TEST_F(QueueConfigTest, AreasThatTheDeviceOnlyReadsMayBeReadOnly) {
  QueueConfig config = GoodConfig();
  config.desc = TestMemory::kReadOnly;
  config.driver = Plus(TestMemory::kReadOnly, 0x1000);
  EXPECT_TRUE(
      CheckQueueConfig(config, kMaxSize, kFeatures, memory_.dma()).ok());
}

TEST_F(QueueConfigTest, PositionAtWhichChainsAreOwedIsRefused) {
  const Virtqueue::Position position = {.next_avail = 3, .next_used = 2};
  EXPECT_EQ(CreateVirtqueue(0, GoodConfig(), kMaxSize, kFeatures, memory_.dma(),
                            position)
                .status()
                .code(),
            absl::StatusCode::kInvalidArgument);
}

TEST_F(QueueConfigTest, NoQueueWhileDmaIsDisabled) {
  const QueueConfig config = GoodConfig();
  memory_.gate()->Set(false);
  ExpectRefused(config, "disabled");
}

const Features kPackedFeatures = {kFeatureVersion1, kFeatureRingPacked};

TEST_F(QueueConfigTest, PackedRingMayHaveAnySizeUpToTheMaximum) {
  // virtio 1.2, 2.8.10.1
  for (uint32_t size : {1u, 3u, 15u, 16u}) {
    const QueueConfig config =
        FakePackedDriverQueue(memory_.memory(), TestMemory::kRam, size)
            .config();
    auto queue =
        CreateVirtqueue(3, config, kMaxSize, kPackedFeatures, memory_.dma());
    ASSERT_TRUE(queue.ok()) << queue.status();
    EXPECT_EQ((*queue)->index(), 3);
    EXPECT_EQ((*queue)->size(), size);
  }
  QueueConfig config = GoodConfig();
  for (uint32_t size : {0u, 17u, 0xffffffffu}) {
    config.size = size;
    EXPECT_EQ(CheckQueueConfig(config, kMaxSize, kPackedFeatures, memory_.dma())
                  .code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST_F(QueueConfigTest, AreasOfAPackedRingAreAlignedAndInMemory) {
  // virtio 1.2, 2.8.10.1: 16, 4 and 4 bytes.
  const vmm::GuestAddress end = Plus(TestMemory::kRam, TestMemory::kRamBytes);
  const QueueConfig good =
      FakePackedDriverQueue(memory_.memory(), TestMemory::kRam, kMaxSize)
          .config();
  const auto check = [&](vmm::GuestAddress QueueConfig::*area,
                         vmm::GuestAddress place) {
    QueueConfig config = good;
    config.*area = place;
    return CheckQueueConfig(config, kMaxSize, kPackedFeatures, memory_.dma())
        .ok();
  };
  EXPECT_FALSE(check(&QueueConfig::desc, Plus(good.desc, 8)));
  EXPECT_TRUE(check(&QueueConfig::desc, {end.value - 16 * kMaxSize}));
  EXPECT_FALSE(check(&QueueConfig::desc, {end.value - 16 * kMaxSize + 16}));
  for (auto area : {&QueueConfig::driver, &QueueConfig::device}) {
    EXPECT_FALSE(check(area, Plus(good.driver, 2)));
    EXPECT_TRUE(check(area, {end.value - 4}));
    EXPECT_FALSE(check(area, end));
  }
  EXPECT_FALSE(check(&QueueConfig::desc, TestMemory::kReadOnly));
  EXPECT_TRUE(check(&QueueConfig::driver, TestMemory::kReadOnly));
  EXPECT_FALSE(check(&QueueConfig::device, TestMemory::kReadOnly));
}

TEST(QueueFaultNameTest, EveryFaultHasItsOwn) {
  std::set<std::string_view> names;
  const auto last = static_cast<uint8_t>(QueueFault::kDmaDisabled);
  for (uint8_t i = 0; i <= last; ++i) {
    names.insert(QueueFaultName(static_cast<QueueFault>(i)));
  }
  EXPECT_EQ(names.size(), last + 1u);
  EXPECT_EQ(names.count("unknown fault"), 0u);
}

// Readable bytes in three pieces, writable ones in two.
class DescriptorChainTest : public ::testing::Test {
 protected:
  static constexpr vmm::GuestAddress kIn = TestMemory::kBuffers;
  static constexpr vmm::GuestAddress kOut{TestMemory::kBuffers.value + 0x1000};

  DescriptorChainTest()
      : driver_(memory_.memory(), TestMemory::kRam, kMaxSize),
        queue_(*CreateVirtqueue(0, driver_.config(), kMaxSize, kFeatures,
                                memory_.dma())) {
    memory_.Write(kIn, CountingBytes(60));
    driver_.Add(
        std::vector<FakeDriverQueue::Buffer>{{kIn, 10},
                                             {Plus(kIn, 10), 1},
                                             {Plus(kIn, 11), 20},
                                             {kOut, 8, true},
                                             {Plus(kOut, 100), 8, true}});
    EXPECT_EQ(queue_->Pop(&chain_), Virtqueue::PopResult::kChain);
  }

  TestMemory memory_;
  FakeDriverQueue driver_;
  std::unique_ptr<Virtqueue> queue_;
  DescriptorChain chain_;
};

TEST_F(DescriptorChainTest, ShowsWhatTheDriverGave) {
  EXPECT_TRUE(chain_.valid());
  EXPECT_EQ(chain_.readable().size(), 3u);
  EXPECT_EQ(chain_.writable().size(), 2u);
  EXPECT_EQ(chain_.readable_bytes(), 31u);
  EXPECT_EQ(chain_.writable_bytes(), 16u);
  EXPECT_EQ(chain_.writable()[1].address, Plus(kOut, 100));
}

TEST_F(DescriptorChainTest, ReadGoesAcrossSegmentsFromAnyOffset) {
  for (size_t offset = 0; offset <= 31; ++offset) {
    std::vector<std::byte> bytes(64);
    size_t copied = 99;
    ASSERT_EQ(chain_.Read(memory_.dma(), offset, bytes, &copied),
              vmm::DmaResult::kOk);
    EXPECT_EQ(copied, 31 - offset);
    bytes.resize(copied);
    EXPECT_EQ(bytes, CountingBytes(copied, static_cast<uint8_t>(offset)));
  }
}

TEST_F(DescriptorChainTest, ReadStopsWhereTheCallerHasNoRoom) {
  std::vector<std::byte> bytes(12);
  size_t copied = 0;
  ASSERT_EQ(chain_.Read(memory_.dma(), 5, bytes, &copied), vmm::DmaResult::kOk);
  EXPECT_EQ(copied, 12u);
  EXPECT_EQ(bytes, CountingBytes(12, 5));
}

TEST_F(DescriptorChainTest, OffsetPastTheEndMovesNothing) {
  std::vector<std::byte> bytes(4);
  size_t copied = 99;
  EXPECT_EQ(chain_.Read(memory_.dma(), UINT64_MAX, bytes, &copied),
            vmm::DmaResult::kOk);
  EXPECT_EQ(copied, 0u);
}

TEST_F(DescriptorChainTest, WriteGoesAcrossSegmentsAndNoFurther) {
  const std::vector<std::byte> bytes = CountingBytes(40, 100);
  size_t copied = 0;
  ASSERT_EQ(chain_.Write(memory_.dma(), 2, bytes, &copied),
            vmm::DmaResult::kOk);
  EXPECT_EQ(copied, 14u);
  EXPECT_EQ(memory_.Read(kOut, 2), std::vector<std::byte>(2));
  EXPECT_EQ(memory_.Read(Plus(kOut, 2), 6), CountingBytes(6, 100));
  EXPECT_EQ(memory_.Read(Plus(kOut, 8), 92), std::vector<std::byte>(92));
  EXPECT_EQ(memory_.Read(Plus(kOut, 100), 8), CountingBytes(8, 106));
  EXPECT_EQ(memory_.Read(Plus(kOut, 108), 8), std::vector<std::byte>(8));
}

TEST_F(DescriptorChainTest, TransferAfterMemoryWentAwayFails) {
  memory_.RemoveRam();
  std::vector<std::byte> bytes(4);
  size_t copied = 99;
  EXPECT_EQ(chain_.Read(memory_.dma(), 0, bytes, &copied),
            vmm::DmaResult::kOutside);
  EXPECT_EQ(copied, 0u);
  EXPECT_EQ(chain_.Write(memory_.dma(), 0, bytes, &copied),
            vmm::DmaResult::kOutside);
}

TEST_F(DescriptorChainTest, MovedFromChainIsEmptyAndNotValid) {
  DescriptorChain other = std::move(chain_);
  EXPECT_TRUE(other.valid());
  EXPECT_EQ(other.readable_bytes(), 31u);
  EXPECT_FALSE(chain_.valid());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(chain_.readable().size() + chain_.writable().size(), 0u);
  EXPECT_EQ(chain_.readable_bytes() + chain_.writable_bytes(), 0u);

  chain_ = std::move(other);
  EXPECT_TRUE(chain_.valid());
  EXPECT_FALSE(other.valid());  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(other.readable().size() + other.writable().size(), 0u);
}

TEST_F(DescriptorChainTest, ChainMayOutliveItsQueue) {
  queue_ = nullptr;
  std::vector<std::byte> bytes(31);
  size_t copied = 0;
  EXPECT_EQ(chain_.Read(memory_.dma(), 0, bytes, &copied), vmm::DmaResult::kOk);
  EXPECT_EQ(bytes, CountingBytes(31));
}

}  // namespace
}  // namespace vmsg::virtio
