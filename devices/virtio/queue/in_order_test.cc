// VIRTIO_F_IN_ORDER with both ring formats: whatever order the device completes
// chains in, the driver sees them in the order in which it made them available.
// Source: virtio 1.2, 2.7.9 and 2.8.8.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_fixture.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/test_memory.h"

namespace vmsg::virtio {
namespace {

class InOrderTest : public VirtqueueFixture {
 protected:
  InOrderTest() { Start({kFeatureInOrder}); }

  // `count` chains of one buffer, that the device holds then.
  std::vector<DescriptorChain> Take(size_t count) {
    std::vector<DescriptorChain> chains(count);
    for (DescriptorChain& chain : chains) {
      ids_.push_back(AddWritable());
      EXPECT_EQ(queue_->Pop(&chain), PopResult::kChain);
    }
    return chains;
  }

  std::vector<uint16_t> ids_;
};

INSTANTIATE_TEST_SUITE_P(Rings, InOrderTest,
                         ::testing::Values(Ring{.packed = false},
                                           Ring{.packed = true}),
                         RingName);

class InOrderEventTest : public InOrderTest {
 protected:
  // The driver wants to hear of the chain with this number.
  void SetEvent(uint16_t number) {
    if (packed()) {
      packed_driver().SetEvent(
          PackedCursor{.slot = number, .wrap = true}.Encode(), kEventDesc);
    } else {
      split_driver().SetUsedEvent(number);
    }
  }
};

INSTANTIATE_TEST_SUITE_P(
    Rings, InOrderEventTest,
    ::testing::Values(Ring{.packed = false, .event_idx = true},
                      Ring{.packed = true, .event_idx = true}),
    RingName);

TEST_P(InOrderEventTest, EventAmongChainsThatWaitedIsNoticed) {
  for (const uint16_t event : {uint16_t{0}, uint16_t{1}, uint16_t{2}}) {
    Start({kFeatureInOrder});
    SetEvent(event);
    std::vector<DescriptorChain> chains = Take(4);
    queue_->Complete(std::move(chains[2]), 0);
    queue_->Complete(std::move(chains[1]), 0);
    EXPECT_FALSE(queue_->ShouldNotify());
    queue_->Complete(std::move(chains[0]), 0);
    EXPECT_TRUE(queue_->ShouldNotify()) << event;
    queue_->Complete(std::move(chains[3]), 0);
    EXPECT_FALSE(queue_->ShouldNotify()) << event;
  }
}

TEST_P(InOrderEventTest, EventBehindChainsThatWaitedIsNotYetDue) {
  SetEvent(3);
  std::vector<DescriptorChain> chains = Take(4);
  queue_->Complete(std::move(chains[1]), 0);
  queue_->Complete(std::move(chains[2]), 0);
  queue_->Complete(std::move(chains[0]), 0);
  EXPECT_FALSE(queue_->ShouldNotify());
  queue_->Complete(std::move(chains[3]), 0);
  EXPECT_TRUE(queue_->ShouldNotify());
}

TEST_P(InOrderTest, ChainCompletedEarlyWaitsForThoseBeforeIt) {
  std::vector<DescriptorChain> chains = Take(3);
  queue_->Complete(std::move(chains[2]), 3);
  queue_->Complete(std::move(chains[1]), 2);
  EXPECT_EQ(queue_->owed(), 1u);
  EXPECT_EQ(driver_->TakeUsed(), std::nullopt);
  EXPECT_FALSE(queue_->ShouldNotify()) << "nothing that can be seen";
  queue_->Complete(std::move(chains[0]), 1);
  EXPECT_TRUE(queue_->ShouldNotify());
  for (uint32_t i = 0; i < 3; ++i) {
    EXPECT_EQ(driver_->TakeUsed(), (Used{ids_[i], i + 1}));
  }
}

TEST_P(InOrderTest, ChainCompletedInItsTurnIsSeenAtOnce) {
  std::vector<DescriptorChain> chains = Take(2);
  queue_->Complete(std::move(chains[0]), 1);
  EXPECT_EQ(driver_->TakeUsed(), (Used{ids_[0], 1}));
  EXPECT_EQ(driver_->TakeUsed(), std::nullopt);
  queue_->Complete(std::move(chains[1]), 2);
  EXPECT_EQ(driver_->TakeUsed(), (Used{ids_[1], 2}));
}

TEST_P(InOrderTest, WaitingEndsAtTheNextChainThatIsOwed) {
  std::vector<DescriptorChain> chains = Take(4);
  queue_->Complete(std::move(chains[1]), 0);
  queue_->Complete(std::move(chains[3]), 0);
  queue_->Complete(std::move(chains[0]), 0);
  EXPECT_EQ(driver_->TakeUsed(), (Used{ids_[0], 0}));
  EXPECT_EQ(driver_->TakeUsed(), (Used{ids_[1], 0}));
  EXPECT_EQ(driver_->TakeUsed(), std::nullopt);
  queue_->Complete(std::move(chains[2]), 0);
  EXPECT_EQ(driver_->TakeUsed(), (Used{ids_[2], 0}));
  EXPECT_EQ(driver_->TakeUsed(), (Used{ids_[3], 0}));
}

TEST_P(InOrderTest, ChainsThatWaitCountAsAvailable) {
  // Else a driver that lies could have more outstanding than the queue holds.
  std::vector<DescriptorChain> chains = Take(size());
  for (size_t i = 1; i < size(); ++i) {
    queue_->Complete(std::move(chains[i]), 0);
  }
  EXPECT_EQ(queue_->owed(), 1u);
  driver_->PublishRaw({TestMemory::kBuffers.value, 4});
  DescriptorChain chain;
  EXPECT_EQ(queue_->Pop(&chain), PopResult::kBroken);
  EXPECT_EQ(queue_->fault(), QueueFault::kTooManyAvailable);
}

TEST_P(InOrderTest, RingThatGoesAwayBreaksTheQueueInTheMiddleOfIt) {
  std::vector<DescriptorChain> chains = Take(3);
  queue_->Complete(std::move(chains[1]), 0);
  memory_.RemoveRam();
  queue_->Complete(std::move(chains[0]), 0);
  EXPECT_EQ(queue_->fault(), QueueFault::kRingOutsideMemory);
  queue_->Complete(std::move(chains[2]), 0);
  EXPECT_EQ(queue_->owed(), 0u);
}

TEST_P(InOrderTest, OrderHoldsForManyChainsOfEveryLength) {
  std::mt19937 random(11);
  std::deque<uint16_t> expected;
  std::vector<DescriptorChain> held;
  uint32_t seen = 0;
  while (seen < 5000) {
    const size_t buffers = 1 + random() % 3;
    const auto id = driver_->Add(
        std::vector<Buffer>(buffers, Buffer{TestMemory::kBuffers, 4, true}));
    if (id.has_value()) {
      expected.push_back(*id);
      ASSERT_EQ(queue_->Pop(&held.emplace_back()), PopResult::kChain);
    }
    if (!held.empty() && (!id.has_value() || random() % 2 == 0)) {
      std::swap(held[random() % held.size()], held.back());
      queue_->Complete(std::move(held.back()), 1);
      held.pop_back();
    }
    while (const std::optional<Used> used = driver_->TakeUsed()) {
      ASSERT_EQ(used->id, expected.front());
      expected.pop_front();
      ++seen;
    }
    ASSERT_EQ(queue_->owed(), held.size());
  }
  EXPECT_EQ(driver_->bad_used(), 0u);
  EXPECT_EQ(queue_->fault(), QueueFault::kNone);
}

}  // namespace
}  // namespace vmsg::virtio
