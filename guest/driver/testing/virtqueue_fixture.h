// What the tests of virtqueues share: a queue in memory that a test sees, and a
// device at the other side of it.

#ifndef VMSG_GUEST_DRIVER_TESTING_VIRTQUEUE_FIXTURE_H_
#define VMSG_GUEST_DRIVER_TESTING_VIRTQUEUE_FIXTURE_H_

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/any_virtqueue.h"
#include "guest/driver/arena.h"
#include "guest/driver/shared_memory.h"
#include "guest/driver/testing/fake_ring.h"

namespace vmsg::guest {

class VirtqueueFixture : public testing::Test {
 protected:
  static constexpr uint64_t kBase = 0x80000000;
  static constexpr uint32_t kSize = 8;

  explicit VirtqueueFixture(RingFormat format)
      : format_(format), memory_(4 << 20), arena_(memory_, kBase) {
    queue_.Choose(format);
  }

  // Creates the queue and a device for it.
  void Create(const QueueOptions& options) {
    // What an earlier owner left must not show.
    std::memset(memory_.data(), 0xEE, memory_.size());
    arena_.Reset();
    ASSERT_EQ(queue_->Create(options, &arena_), Error::kNone);
    ASSERT_LE(arena_.used(), Virtqueue::ArenaBytes(options));
    device_.emplace(FakeRing::Layout{.packed = format_ == RingFormat::kPacked,
                                     .event_index = options.event_index,
                                     .size = options.size,
                                     .descriptors = queue_->areas().descriptors,
                                     .driver = queue_->areas().driver,
                                     .device = queue_->areas().device},
                    [this](uint64_t address) { return At(address); });
  }

  std::byte* At(uint64_t address) { return memory_.data() + (address - kBase); }
  template <typename T>
  T Load(uint64_t address) {
    return LoadAcquire<T>(At(address));
  }
  template <typename T>
  void Store(uint64_t address, T value) {
    StoreRelease<T>(At(address), value);
  }

  // Chains of `buffers` buffers of 100 bytes that the device writes.
  Error Add(uint64_t cookie, uint32_t buffers = 1) {
    const std::vector<QueueBuffer> chain(buffers, {kBase, 100, true});
    return queue_->Add(chain, cookie);
  }
  void AddAndPublish(uint64_t cookie, uint32_t buffers = 1) {
    ASSERT_EQ(Add(cookie, buffers), Error::kNone);
    queue_->Publish();
  }
  FakeRing::Chain Pop() {
    std::optional<FakeRing::Chain> chain = device_->Pop();
    EXPECT_TRUE(chain.has_value());
    return chain.value_or(FakeRing::Chain());
  }
  // Takes a chain and looks at it.
  void ExpectTaken(uint64_t cookie, uint32_t written) {
    UsedChain chain;
    ASSERT_EQ(queue_->Take(&chain), Error::kNone);
    EXPECT_EQ(chain.cookie, cookie);
    EXPECT_EQ(chain.written, written);
  }
  void ExpectNothing() {
    UsedChain chain;
    EXPECT_EQ(queue_->Take(&chain), Error::kNotFound);
  }
  // The queue breaks at the next look, for this reason, and for good.
  void ExpectBroken(QueueFault fault) {
    UsedChain chain;
    EXPECT_EQ(queue_->Take(&chain), Error::kQueueBroken);
    EXPECT_EQ(queue_->fault(), fault) << QueueFaultName(queue_->fault());
    EXPECT_EQ(queue_->Take(&chain), Error::kQueueBroken);
    EXPECT_EQ(Add(1), Error::kQueueBroken);
    EXPECT_FALSE(queue_->Publish());
    EXPECT_TRUE(queue_->broken());
  }

  const RingFormat format_;
  std::vector<std::byte> memory_;
  Arena arena_;
  AnyVirtqueue queue_;
  std::optional<FakeRing> device_;
};

// For INSTANTIATE_TEST_SUITE_P.
inline std::string RingTestName(
    const testing::TestParamInfo<RingFormat>& format) {
  return format.param == RingFormat::kPacked ? "Packed" : "Split";
}

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_TESTING_VIRTQUEUE_FIXTURE_H_
