#include "guest/driver/rng.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/features.h"
#include "guest/driver/testing/fake_device.h"
#include "guest/driver/testing/fake_ring.h"
#include "guest/driver/testing/virtio_device_fixture.h"
#include "guest/driver/virtio_device.h"

namespace vmsg::guest {
namespace {

// In both formats of the ring.
class RngTest : public VirtioDeviceTest,
                public testing::WithParamInterface<bool> {
 protected:
  RngTest() {
    if (GetParam()) fake_.offered |= uint64_t{1} << 34;
    fake_.on_avail = [this](uint32_t queue) { Fill(queue, UINT32_MAX); };
  }

  // Serves every available request with at most `limit` bytes of a counter.
  void Fill(uint32_t queue, uint32_t limit) {
    fake_.ServeQueue(queue, [this, limit](const FakeDevice::Buffers& buffers) {
      EXPECT_EQ(buffers.size(), buffers_of_request_);
      uint32_t written = 0;
      for (const auto& [address, length] : buffers) {
        for (uint32_t i = 0; i < length && written < limit; ++i, ++written) {
          *platform_.At(address + i) = static_cast<std::byte>(handed_out_++);
        }
      }
      return written;
    });
    fake_.SendUsed(queue);
  }

  Error Start(RngOptions options = {}) {
    if (GetParam()) options.features.Set(kFeatureRingPacked);
    if (const Error error = device_.Probe(&bus_, fake_.number);
        error != Error::kNone) {
      return error;
    }
    return rng_.Start(&device_, options, platform_.dma_arena());
  }
  Error Read(size_t bytes) {
    out_.assign(bytes, std::byte{0xEE});
    return rng_.Read(out_, &received_, &requests_);
  }
  // Whether out_ holds the counter from `first` on.
  bool IsCounter(size_t first) {
    for (size_t i = 0; i < out_.size(); ++i) {
      if (out_[i] != static_cast<std::byte>(first + i)) return false;
    }
    return true;
  }

  Rng rng_;
  size_t handed_out_ = 0;
  size_t buffers_of_request_ = 1;
  std::vector<std::byte> out_;
  uint64_t received_ = 0;
  uint32_t requests_ = 0;
};

INSTANTIATE_TEST_SUITE_P(Formats, RngTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& packed) {
                           return packed.param ? "Packed" : "Split";
                         });

TEST_P(RngTest, ReadsInSeveralRequestsInOrderOfCompletion) {
  ASSERT_EQ(Start(), Error::kNone);
  EXPECT_LE(platform_.dma_arena()->used(), Rng::ArenaBytes({}));
  ASSERT_EQ(Read(4096), Error::kNone);
  EXPECT_EQ(received_, 4096u);
  EXPECT_EQ(requests_, 4u);
  EXPECT_TRUE(IsCounter(0));
  ASSERT_EQ(Read(5000), Error::kNone);
  EXPECT_TRUE(IsCounter(4096));
  EXPECT_EQ(handed_out_, 4096u + 5000u);
}

TEST_P(RngTest, AsksForNoByteMoreThanIsMissing) {
  fake_.on_avail = [this](uint32_t queue) { Fill(queue, 100); };
  ASSERT_EQ(Start(), Error::kNone);
  ASSERT_EQ(Read(1025), Error::kNone);
  EXPECT_TRUE(IsCounter(0));
  EXPECT_EQ(handed_out_, 1025u);
}

TEST_P(RngTest, UsesIndirectDescriptorsAndEventIndexWhereOffered) {
  fake_.offered |= uint64_t{1} << 28 | uint64_t{1} << 29;
  ASSERT_EQ(Start(), Error::kNone);
  EXPECT_TRUE(device_.features().Has(kFeatureIndirectDesc));
  EXPECT_TRUE(device_.features().Has(kFeatureEventIdx));
  EXPECT_EQ(device_.features().Has(kFeatureRingPacked), GetParam());
  buffers_of_request_ = 2;  // two halves behind one descriptor
  ASSERT_EQ(Read(1000), Error::kNone);
  EXPECT_TRUE(IsCounter(0));
}

TEST_P(RngTest, FeaturesThatTheUserDoesNotWantAreLeftOut) {
  fake_.offered |= uint64_t{1} << 28 | uint64_t{1} << 29 | uint64_t{1} << 35;
  ASSERT_EQ(Start({.features = kRngFeatures.Without(kFeatureIndirectDesc)
                                   .Without(kFeatureInOrder)}),
            Error::kNone);
  EXPECT_FALSE(device_.features().Has(kFeatureIndirectDesc));
  EXPECT_TRUE(device_.features().Has(kFeatureEventIdx));
  EXPECT_FALSE(device_.features().Has(kFeatureInOrder));
  ASSERT_EQ(Read(1000), Error::kNone);
  EXPECT_TRUE(IsCounter(0));
}

TEST_P(RngTest, BatchesOfADeviceThatKeepsTheOrderAreTakenWhole) {
  fake_.offered |= uint64_t{1} << 35;
  ASSERT_EQ(Start(), Error::kNone);
  EXPECT_TRUE(device_.features().Has(kFeatureInOrder));
  fake_.on_avail = [this](uint32_t queue) {
    std::vector<FakeRing::Chain> chains;
    FakeRing* const ring = fake_.queues.at(queue).ring.get();
    while (const auto chain = ring->Pop()) {
      chains.push_back(*chain);
      for (uint32_t i = 0; i < chain->buffers[0].bytes; ++i) {
        *platform_.At(chain->buffers[0].address + i) =
            static_cast<std::byte>(handed_out_++);
      }
    }
    if (chains.empty()) return;
    ring->PushBatch(chains, chains.back().buffers[0].bytes);
    fake_.SendUsed(queue);
  };
  for (size_t read = 0; read < 10; ++read) {
    ASSERT_EQ(Read(3000), Error::kNone);
    EXPECT_TRUE(IsCounter(3000 * read));
  }
}

TEST_P(RngTest, QueueOfOneDescriptorIsEnough) {
  fake_.queue_max_size = 1;
  ASSERT_EQ(Start(), Error::kNone);
  ASSERT_EQ(Read(4096), Error::kNone);
  EXPECT_TRUE(IsCounter(0));
}

// virtio 1.2, 2.7.5.3.1
TEST_P(RngTest, QueueOfOneDescriptorGetsNoChainOfTwo) {
  fake_.queue_max_size = 1;
  fake_.offered |= uint64_t{1} << 28;
  ASSERT_EQ(Start(), Error::kNone);
  ASSERT_EQ(Read(1000), Error::kNone);  // Fill() counts the buffers
  EXPECT_TRUE(IsCounter(0));
}

TEST_P(RngTest, SleepsUntilTheDeviceAnswers) {
  ASSERT_EQ(Start(), Error::kNone);
  fake_.on_avail = nullptr;
  platform_.on_wait = [this] { Fill(0, UINT32_MAX); };
  ASSERT_EQ(Read(64), Error::kNone);
  EXPECT_EQ(platform_.waits(), 1u);
  EXPECT_TRUE(IsCounter(0));
}

TEST_P(RngTest, EachByteOfProgressExtendsTheTimeLimit) {
  ASSERT_EQ(Start(), Error::kNone);
  fake_.on_avail = nullptr;
  platform_.on_wait = [this] {
    platform_.AdvanceNs(15'000'000);  // below the limit of 20
    Fill(0, 10);
  };
  ASSERT_EQ(Read(100), Error::kNone);
  EXPECT_TRUE(IsCounter(0));
}

TEST_P(RngTest, SilentDeviceTimesOutAndNeedsAReset) {
  ASSERT_EQ(Start(), Error::kNone);
  fake_.on_avail = nullptr;
  EXPECT_EQ(Read(64), Error::kTimeout);
  EXPECT_EQ(received_, 0u);
  EXPECT_EQ(Read(64), Error::kNeedsReset);
  ASSERT_EQ(device_.Reset(), Error::kNone);
  fake_.on_avail = [this](uint32_t queue) { Fill(queue, UINT32_MAX); };
  ASSERT_EQ(rng_.Start(&device_, {}, platform_.dma_arena()), Error::kNone);
  EXPECT_EQ(Read(64), Error::kNone);
}

TEST_P(RngTest, EmptyCompletionIsADeviceError) {
  ASSERT_EQ(Start(), Error::kNone);
  fake_.on_avail = [this](uint32_t queue) { Fill(queue, 0); };
  EXPECT_EQ(Read(64), Error::kDeviceError);
}

TEST_P(RngTest, DeviceThatWritesMoreThanAskedBreaksTheQueue) {
  ASSERT_EQ(Start(), Error::kNone);
  fake_.on_avail = [this](uint32_t queue) {
    fake_.PushUsed(queue, *fake_.PopAvailable(queue), 65);
    fake_.SendUsed(queue);
  };
  EXPECT_EQ(Read(64), Error::kQueueBroken);
  EXPECT_EQ(rng_.queue_fault(), QueueFault::kTooMuchWritten);
}

TEST_P(RngTest, DeviceThatAsksForAResetEndsTheRead) {
  ASSERT_EQ(Start(), Error::kNone);
  fake_.on_avail = [this](uint32_t) {
    fake_.status |= kStatusNeedsReset;
    fake_.SendConfig(0, {}, 0);
  };
  EXPECT_EQ(Read(64), Error::kNeedsReset);
}

TEST_P(RngTest, RefusesOtherDevicesAndOptionsOutOfRange) {
  EXPECT_EQ(Start({.requests = 0}), Error::kInvalidArgument);
  EXPECT_EQ(Start({.requests = Rng::kMaxRequests + 1}),
            Error::kInvalidArgument);
  EXPECT_EQ(Start({.request_bytes = 0}), Error::kInvalidArgument);
  fake_.device_id = 2;
  EXPECT_EQ(Start(), Error::kInvalidArgument);
  EXPECT_EQ(fake_.status, 0u);
}

}  // namespace
}  // namespace vmsg::guest
