// VIRTIO_F_IN_ORDER with both ring formats: whatever order the device completes
// chains in, the driver sees them in the order in which it made them available.
// Source: virtio 1.2, 2.7.9 and 2.8.8.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"

namespace vmsg::virtio {
namespace {

using Buffer = FakeDriverQueue::Buffer;
using PopResult = Virtqueue::PopResult;
using Used = FakeDriverQueue::Used;

constexpr uint32_t kSize = 8;

template <typename Driver>
class InOrderTest : public ::testing::Test {
 protected:
  InOrderTest() : driver_(memory_.memory(), TestMemory::kRam, kSize) {
    Create();
  }

  void Create() {
    Features features = {kFeatureVersion1, kFeatureInOrder};
    if (std::is_same_v<Driver, FakePackedDriverQueue>) {
      features.Set(kFeatureRingPacked);
    }
    queue_ =
        *CreateVirtqueue(0, driver_.config(), kSize, features, memory_.dma());
  }

  uint16_t Add(size_t buffers = 1) {
    return *driver_.Add(
        std::vector<Buffer>(buffers, Buffer{TestMemory::kBuffers, 16, true}));
  }
  // `count` chains of one buffer, that the device holds then.
  std::vector<DescriptorChain> Take(size_t count) {
    std::vector<DescriptorChain> chains(count);
    for (DescriptorChain& chain : chains) {
      ids_.push_back(Add());
      EXPECT_EQ(queue_->Pop(&chain), PopResult::kChain);
    }
    return chains;
  }

  TestMemory memory_;
  Driver driver_;
  std::unique_ptr<Virtqueue> queue_;
  std::vector<uint16_t> ids_;
};

using Drivers = ::testing::Types<FakeDriverQueue, FakePackedDriverQueue>;

class DriverNames {
 public:
  template <typename Driver>
  static std::string GetName(int) {
    return std::is_same_v<Driver, FakeDriverQueue> ? "Split" : "Packed";
  }
};

TYPED_TEST_SUITE(InOrderTest, Drivers, DriverNames);

TYPED_TEST(InOrderTest, ChainCompletedEarlyWaitsForThoseBeforeIt) {
  std::vector<DescriptorChain> chains = this->Take(3);
  this->queue_->Complete(std::move(chains[2]), 3);
  this->queue_->Complete(std::move(chains[1]), 2);
  EXPECT_EQ(this->queue_->owed(), 1u);
  EXPECT_EQ(this->driver_.TakeUsed(), std::nullopt);
  EXPECT_FALSE(this->queue_->ShouldNotify()) << "nothing that can be seen";
  this->queue_->Complete(std::move(chains[0]), 1);
  EXPECT_TRUE(this->queue_->ShouldNotify());
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(this->driver_.TakeUsed(), (Used{this->ids_[i], i + 1}));
  }
}

TYPED_TEST(InOrderTest, ChainCompletedInItsTurnIsSeenAtOnce) {
  std::vector<DescriptorChain> chains = this->Take(2);
  this->queue_->Complete(std::move(chains[0]), 1);
  EXPECT_EQ(this->driver_.TakeUsed(), (Used{this->ids_[0], 1}));
  EXPECT_EQ(this->driver_.TakeUsed(), std::nullopt);
  this->queue_->Complete(std::move(chains[1]), 2);
  EXPECT_EQ(this->driver_.TakeUsed(), (Used{this->ids_[1], 2}));
}

TYPED_TEST(InOrderTest, WaitingEndsAtTheNextChainThatIsOwed) {
  std::vector<DescriptorChain> chains = this->Take(4);
  this->queue_->Complete(std::move(chains[1]), 0);
  this->queue_->Complete(std::move(chains[3]), 0);
  this->queue_->Complete(std::move(chains[0]), 0);
  EXPECT_EQ(this->driver_.TakeUsed(), (Used{this->ids_[0], 0}));
  EXPECT_EQ(this->driver_.TakeUsed(), (Used{this->ids_[1], 0}));
  EXPECT_EQ(this->driver_.TakeUsed(), std::nullopt);
  this->queue_->Complete(std::move(chains[2]), 0);
  EXPECT_EQ(this->driver_.TakeUsed(), (Used{this->ids_[2], 0}));
  EXPECT_EQ(this->driver_.TakeUsed(), (Used{this->ids_[3], 0}));
}

TYPED_TEST(InOrderTest, ChainsThatWaitCountAsAvailable) {
  // Else a driver that lies could have more outstanding than the queue holds.
  std::vector<DescriptorChain> chains = this->Take(kSize);
  for (size_t i = 1; i < kSize; ++i) {
    this->queue_->Complete(std::move(chains[i]), 0);
  }
  EXPECT_EQ(this->queue_->owed(), 1u);
  if constexpr (std::is_same_v<TypeParam, FakeDriverQueue>) {
    this->driver_.Publish(0);
  } else {
    this->driver_.Publish({TestMemory::kBuffers.value, 4});
  }
  DescriptorChain chain;
  EXPECT_EQ(this->queue_->Pop(&chain), PopResult::kBroken);
  EXPECT_EQ(this->queue_->fault(), QueueFault::kTooManyAvailable);
}

TYPED_TEST(InOrderTest, RingThatGoesAwayBreaksTheQueueInTheMiddleOfIt) {
  std::vector<DescriptorChain> chains = this->Take(3);
  this->queue_->Complete(std::move(chains[1]), 0);
  this->memory_.RemoveRam();
  this->queue_->Complete(std::move(chains[0]), 0);
  EXPECT_EQ(this->queue_->fault(), QueueFault::kRingOutsideMemory);
  this->queue_->Complete(std::move(chains[2]), 0);
  EXPECT_EQ(this->queue_->owed(), 0u);
}

TYPED_TEST(InOrderTest, OrderHoldsForManyChainsOfEveryLength) {
  std::mt19937 random(11);
  std::deque<uint16_t> expected;
  std::vector<DescriptorChain> held;
  uint32_t seen = 0;
  while (seen < 5000) {
    const size_t buffers = 1 + random() % 3;
    const auto id = this->driver_.Add(
        std::vector<Buffer>(buffers, Buffer{TestMemory::kBuffers, 4, true}));
    if (id.has_value()) {
      expected.push_back(*id);
      ASSERT_EQ(this->queue_->Pop(&held.emplace_back()), PopResult::kChain);
    }
    if (!held.empty() && (!id.has_value() || random() % 2 == 0)) {
      std::swap(held[random() % held.size()], held.back());
      this->queue_->Complete(std::move(held.back()), 1);
      held.pop_back();
    }
    while (const std::optional<Used> used = this->driver_.TakeUsed()) {
      ASSERT_EQ(used->id, expected.front());
      expected.pop_front();
      ++seen;
    }
    ASSERT_EQ(this->queue_->owed(), held.size());
  }
  EXPECT_EQ(this->driver_.bad_used(), 0u);
  EXPECT_EQ(this->queue_->fault(), QueueFault::kNone);
}

TEST(NotInOrderTest, WithoutTheFeatureTheOrderIsTheDevices) {
  TestMemory memory;
  FakeDriverQueue driver(memory.memory(), TestMemory::kRam, kSize);
  auto queue = *CreateVirtqueue(0, driver.config(), kSize, {kFeatureVersion1},
                                memory.dma());
  std::vector<DescriptorChain> chains(2);
  std::vector<uint16_t> heads;
  for (DescriptorChain& chain : chains) {
    heads.push_back(
        *driver.Add(std::vector<Buffer>{{TestMemory::kBuffers, 4, true}}));
    ASSERT_EQ(queue->Pop(&chain), PopResult::kChain);
  }
  queue->Complete(std::move(chains[1]), 0);
  EXPECT_EQ(driver.TakeUsed(), (Used{heads[1], 0}));
}

}  // namespace
}  // namespace vmsg::virtio
