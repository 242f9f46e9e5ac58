// What a virtqueue promises in either format.

#include "guest/driver/virtqueue.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <optional>
#include <random>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/any_virtqueue.h"
#include "guest/driver/testing/virtqueue_fixture.h"

namespace vmsg::guest {
namespace {

class VirtqueueTest : public VirtqueueFixture,
                      public testing::WithParamInterface<RingFormat> {
 protected:
  VirtqueueTest() : VirtqueueFixture(GetParam()) {}

  // More than the indices of a split ring have values, many rounds of a packed
  // one.
  const uint32_t kManyChains = GetParam() == RingFormat::kSplit ? 66000 : 3000;
};

INSTANTIATE_TEST_SUITE_P(Formats, VirtqueueTest,
                         testing::Values(RingFormat::kSplit,
                                         RingFormat::kPacked),
                         RingTestName);

constexpr std::array<QueueBuffer, 3> kThreeBuffers = {
    QueueBuffer{0x1000, 16, false}, QueueBuffer{0x2000, 512, true},
    QueueBuffer{0x3000, 1, true}};

void ExpectThreeBuffers(const FakeRing::Chain& chain) {
  ASSERT_EQ(chain.buffers.size(), 3u);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(chain.buffers[i].address, kThreeBuffers[i].address);
    EXPECT_EQ(chain.buffers[i].bytes, kThreeBuffers[i].bytes);
    EXPECT_EQ(chain.buffers[i].device_writes, kThreeBuffers[i].device_writes);
  }
}

TEST_P(VirtqueueTest, RefusesSizesThatNoQueueCanHave) {
  for (const uint32_t size : {0u, 32769u, 65536u, UINT32_MAX}) {
    EXPECT_EQ(queue_->Create({.size = size}, &arena_), Error::kInvalidArgument);
  }
  EXPECT_EQ(queue_->size(), 0u);
}

TEST_P(VirtqueueTest, ReportsAnArenaThatIsTooSmall) {
  // Each part in turn is the one that does not fit.
  const QueueOptions options = {.size = 16, .indirect_buffers = 2};
  for (uint64_t bytes = 0;; bytes += 16) {
    ASSERT_LE(bytes, Virtqueue::ArenaBytes(options));
    Arena small({memory_.data(), bytes}, kBase);
    const Error error = queue_->Create(options, &small);
    if (error == Error::kNone) break;
    EXPECT_EQ(error, Error::kNoMemory);
    EXPECT_EQ(queue_->size(), 0u);
    EXPECT_EQ(Add(1), Error::kInvalidArgument);
    EXPECT_FALSE(queue_->Publish());
    queue_->EnableInterrupts(false);
    ExpectNothing();
  }
  EXPECT_EQ(queue_->size(), 16u);
}

TEST_P(VirtqueueTest, ChainIsShownOnlyByPublish) {
  Create({.size = kSize});
  ASSERT_EQ(queue_->Add(kThreeBuffers, 42), Error::kNone);
  ASSERT_EQ(Add(43), Error::kNone);
  EXPECT_FALSE(device_->Pop().has_value());
  EXPECT_TRUE(queue_->Publish());
  const FakeRing::Chain chain = Pop();
  ExpectThreeBuffers(chain);
  EXPECT_EQ(chain.descriptors, 3u);
  EXPECT_EQ(Pop().buffers.size(), 1u);
  EXPECT_FALSE(device_->Pop().has_value());
  EXPECT_EQ(queue_->outstanding(), 2u);
}

TEST_P(VirtqueueTest, IndirectChainTakesOneDescriptor) {
  Create({.size = 2, .indirect_buffers = 3});
  ASSERT_EQ(queue_->Add(kThreeBuffers, 1), Error::kNone);
  ASSERT_EQ(queue_->Add(kThreeBuffers, 2), Error::kNone);
  EXPECT_EQ(queue_->Add(kThreeBuffers, 3), Error::kQueueFull);
  queue_->Publish();
  for (const uint64_t cookie : {1u, 2u}) {
    const FakeRing::Chain chain = Pop();
    EXPECT_TRUE(chain.indirect);
    EXPECT_EQ(chain.descriptors, 1u);
    ExpectThreeBuffers(chain);
    device_->Push(chain, 513);
    ExpectTaken(cookie, 513);
  }
}

TEST_P(VirtqueueTest, EachIndirectChainHasATableOfItsOwn) {
  Create({.size = 4, .indirect_buffers = 2});
  for (uint32_t i = 0; i < 4; ++i) {
    const std::array<QueueBuffer, 2> two = {QueueBuffer{0x1000 + i, 1, false},
                                            QueueBuffer{0x2000 + i, 1, true}};
    ASSERT_EQ(queue_->Add(two, i), Error::kNone);
  }
  queue_->Publish();
  for (uint32_t i = 0; i < 4; ++i) {
    const FakeRing::Chain chain = Pop();
    ASSERT_EQ(chain.buffers.size(), 2u);
    EXPECT_EQ(chain.buffers[0].address, 0x1000 + i);
    EXPECT_EQ(chain.buffers[1].address, 0x2000 + i);
  }
}

TEST_P(VirtqueueTest, ChainsThatNeedNoTableOrDoNotFitOneGoDirect) {
  Create({.size = kSize, .indirect_buffers = 2});
  ASSERT_EQ(Add(1, /*buffers=*/3), Error::kNone);
  ASSERT_EQ(Add(2, /*buffers=*/1), Error::kNone);
  ASSERT_EQ(Add(3, /*buffers=*/2), Error::kNone);
  queue_->Publish();
  const FakeRing::Chain longer = Pop();
  EXPECT_FALSE(longer.indirect);
  EXPECT_EQ(longer.descriptors, 3u);
  EXPECT_FALSE(Pop().indirect);
  EXPECT_TRUE(Pop().indirect);
}

TEST_P(VirtqueueTest, RefusesChainsThatNoDeviceMayGet) {
  Create({.size = kSize});
  EXPECT_EQ(queue_->Add({}, 0), Error::kInvalidArgument);
  const std::array<QueueBuffer, 1> empty = {QueueBuffer{0x1000, 0, true}};
  EXPECT_EQ(queue_->Add(empty, 0), Error::kInvalidArgument);
  const std::array<QueueBuffer, 2> order = {QueueBuffer{0x1000, 1, true},
                                            QueueBuffer{0x2000, 1, false}};
  EXPECT_EQ(queue_->Add(order, 0), Error::kInvalidArgument);
  const std::array<QueueBuffer, 2> huge = {
      QueueBuffer{0x1000, UINT32_MAX, true}, QueueBuffer{0x2000, 1, true}};
  EXPECT_EQ(queue_->Add(huge, 0), Error::kInvalidArgument);
  // virtio 1.2, 2.7.5.2: at most 4 GiB in all.
  const std::array<QueueBuffer, 3> long_chain = {
      QueueBuffer{0x1000, UINT32_MAX, false}, QueueBuffer{0x2000, 1, false},
      QueueBuffer{0x3000, 1, true}};
  EXPECT_EQ(queue_->Add(long_chain, 0), Error::kInvalidArgument);
  EXPECT_EQ(Add(0, kSize + 1), Error::kQueueFull);
  EXPECT_EQ(queue_->outstanding(), 0u);
  EXPECT_EQ(queue_->Add(std::span(long_chain).first(2), 0), Error::kNone);
  EXPECT_EQ(Add(0, kSize - 2), Error::kNone);
}

TEST_P(VirtqueueTest, DescriptorsComeBackAndAreUsedAgain) {
  Create({.size = kSize});
  // Of lengths that end a round of the ring in every way.
  for (uint32_t i = 0; i < kManyChains; ++i) {
    AddAndPublish(i, 1 + i % kSize);
    const std::optional<FakeRing::Chain> chain = device_->Pop();
    ASSERT_TRUE(chain.has_value() && chain->buffers.size() == 1 + i % kSize);
    device_->Push(*chain, 64);
    UsedChain used;
    ASSERT_EQ(queue_->Take(&used), Error::kNone);
    ASSERT_TRUE(used.cookie == i && used.written == 64);
    ASSERT_EQ(queue_->Take(&used), Error::kNotFound);
  }
}

TEST_P(VirtqueueTest, ChainsComeBackInTheOrderOfTheDevice) {
  Create({.size = 4});
  for (int round = 0; round < 5; ++round) {
    for (uint64_t i = 0; i < 4; ++i) ASSERT_EQ(Add(i), Error::kNone);
    EXPECT_EQ(Add(4), Error::kQueueFull);
    queue_->Publish();
    const std::array<FakeRing::Chain, 4> chains = {Pop(), Pop(), Pop(), Pop()};
    const std::array<uint32_t, 4> order = {2, 0, 3, 1};
    for (const uint32_t i : order) device_->Push(chains[i], i);
    for (const uint32_t i : order) ExpectTaken(i, i);
    ExpectNothing();
  }
}

TEST_P(VirtqueueTest, OutOfOrderChainsOfManyLengthsKeepTheirRecords) {
  Create({.size = 16, .indirect_buffers = 4});
  std::mt19937 random(1);
  std::deque<FakeRing::Chain> at_device;
  uint64_t next_cookie = 0;
  std::map<uint16_t, uint64_t> cookies;  // by id
  for (int i = 0; i < 5000; ++i) {
    const uint32_t buffers = 1 + random() % 6;
    const Error error = Add(next_cookie, buffers);
    if (error == Error::kNone) {
      queue_->Publish();
      at_device.push_back(Pop());
      ASSERT_EQ(at_device.back().buffers.size(), buffers);
      // No id is used twice at a time.
      ASSERT_TRUE(cookies.emplace(at_device.back().id, next_cookie).second);
      ++next_cookie;
      if (random() % 2 == 0) continue;
    } else {
      ASSERT_EQ(error, Error::kQueueFull);
    }
    if (at_device.empty()) continue;
    const size_t pick = random() % at_device.size();
    const FakeRing::Chain chain = at_device[pick];
    at_device.erase(at_device.begin() + static_cast<long>(pick));
    device_->Push(chain, static_cast<uint32_t>(pick));
    ExpectTaken(cookies.at(chain.id), static_cast<uint32_t>(pick));
    cookies.erase(chain.id);
  }
  EXPECT_GT(next_cookie, 1000u);
}

// --- VIRTIO_F_IN_ORDER: virtio 1.2, 2.7.9 and 2.8.8. ---

TEST_P(VirtqueueTest, InOrderBatchGivesItsChainsBackOneByOne) {
  Create({.size = kSize, .in_order = true});
  for (uint64_t round = 0; round < 20; ++round) {
    for (const uint32_t buffers : {2u, 1u, 3u}) AddAndPublish(buffers, buffers);
    const std::array<FakeRing::Chain, 3> chains = {Pop(), Pop(), Pop()};
    device_->PushBatch(chains, 7);
    ExpectTaken(2, 200);  // used completely
    ExpectTaken(1, 100);
    ExpectTaken(3, 7);
    ExpectNothing();
    AddAndPublish(9);
    device_->Push(Pop(), 1);
    ExpectTaken(9, 1);
  }
}

TEST_P(VirtqueueTest, InOrderChainsMayAlsoComeOneByOne) {
  Create({.size = 4, .in_order = true});
  for (uint64_t i = 0; i < 3; ++i) AddAndPublish(i);
  for (uint64_t i = 0; i < 100; ++i) {
    device_->Push(Pop(), 5);
    ExpectTaken(i, 5);
    AddAndPublish(i + 3);
  }
}

TEST_P(VirtqueueTest, InOrderElderThatComesAfterABatchBreaks) {
  Create({.size = kSize, .in_order = true});
  for (uint64_t i = 0; i < 3; ++i) AddAndPublish(i);
  const std::array<FakeRing::Chain, 3> chains = {Pop(), Pop(), Pop()};
  device_->PushBatch(std::span(chains).first(2), 1);
  ExpectTaken(0, 100);
  ExpectTaken(1, 1);
  device_->Push(chains[0], 1);
  ExpectBroken(QueueFault::kUnknownChain);
}

// --- Notifications and interrupts. ---

TEST_P(VirtqueueTest, NotificationIsWantedUnlessTheDeviceSaysNo) {
  Create({.size = kSize});
  ASSERT_EQ(Add(1), Error::kNone);
  EXPECT_TRUE(queue_->Publish());
  EXPECT_FALSE(queue_->Publish());  // nothing new
  device_->AskForNotifications(false);
  ASSERT_EQ(Add(2), Error::kNone);
  EXPECT_FALSE(queue_->Publish());
  device_->AskForNotifications(true);
  ASSERT_EQ(Add(3), Error::kNone);
  EXPECT_TRUE(queue_->Publish());
}

TEST_P(VirtqueueTest, NotificationIsWantedWhenThePlaceOfTheEventIsPassed) {
  Create({.size = kSize, .event_index = true});
  uint32_t shown = 0;
  std::mt19937 random(7);
  while (shown < kManyChains) {
    // From one that was passed to one that is not reached.
    const uint32_t count = 1 + random() % kSize;
    const uint32_t event = shown + random() % (count + 4) - 2;
    if (event > shown + count) continue;  // before the beginning
    device_->AskForNotificationAt(event);
    for (uint32_t n = 0; n < count; ++n) ASSERT_EQ(Add(n), Error::kNone);
    const bool passed = event - shown < count;
    ASSERT_EQ(queue_->Publish(), passed)
        << "event " << event << " of " << shown << " and " << count;
    shown += count;
    for (uint32_t n = 0; n < count; ++n) {
      device_->Push(device_->Pop().value(), 1);
      UsedChain used;
      ASSERT_EQ(queue_->Take(&used), Error::kNone);
    }
  }
}

TEST_P(VirtqueueTest, InterruptsFollowTheDriversWish) {
  Create({.size = kSize});
  for (const bool on : {true, false, true}) {
    queue_->EnableInterrupts(on);
    AddAndPublish(1);
    device_->Push(Pop(), 1);
    EXPECT_EQ(device_->WantsInterrupt(), on);
    ExpectTaken(1, 1);
    EXPECT_FALSE(device_->WantsInterrupt());
  }
}

TEST_P(VirtqueueTest, WithTheEventIndexTheChainAfterTheLastTakenInterrupts) {
  Create({.size = kSize, .event_index = true});
  for (int round = 0; round < 50; ++round) {
    for (uint64_t i = 0; i < 3; ++i) AddAndPublish(i, 1 + i % 2);
    device_->Push(Pop(), 1);
    EXPECT_TRUE(device_->WantsInterrupt());
    device_->Push(Pop(), 1);
    EXPECT_FALSE(device_->WantsInterrupt());  // nobody has looked yet
    ExpectTaken(0, 1);
    ExpectTaken(1, 1);
    device_->Push(Pop(), 1);
    EXPECT_TRUE(device_->WantsInterrupt());
    ExpectTaken(2, 1);
    ExpectNothing();

    queue_->EnableInterrupts(false);
    AddAndPublish(3);
    device_->Push(Pop(), 1);
    EXPECT_FALSE(device_->WantsInterrupt());
    ExpectTaken(3, 1);
    queue_->EnableInterrupts(true);
  }
}

TEST_P(VirtqueueTest, BatchIsOneStepOfTheEventIndex) {
  Create({.size = kSize, .event_index = true, .in_order = true});
  for (int round = 0; round < 50; ++round) {
    for (uint64_t i = 0; i < 3; ++i) AddAndPublish(i);
    const std::array<FakeRing::Chain, 3> chains = {Pop(), Pop(), Pop()};
    device_->PushBatch(chains, 1);
    EXPECT_TRUE(device_->WantsInterrupt());
    for (uint64_t i = 0; i < 3; ++i) ExpectTaken(i, i < 2 ? 100 : 1);
    AddAndPublish(3);
    device_->Push(Pop(), 1);
    EXPECT_TRUE(device_->WantsInterrupt());
    ExpectTaken(3, 1);
  }
}

// --- A device that lies. ---

TEST_P(VirtqueueTest, ChainThatWasNotPublishedCannotComeBack) {
  Create({.size = kSize});
  AddAndPublish(1);
  const FakeRing::Chain shown = Pop();
  ASSERT_EQ(Add(2), Error::kNone);
  device_->PushId(shown.id + 1u, 1);
  ExpectBroken(QueueFault::kUnpublishedChain);
}

TEST_P(VirtqueueTest, UsedIdPastTheQueueBreaks) {
  Create({.size = kSize});
  AddAndPublish(1);
  device_->PushId(kSize, 1);
  ExpectBroken(QueueFault::kUnknownChain);
}

TEST_P(VirtqueueTest, UsedIdThatIsNoChainBreaks) {
  Create({.size = kSize});
  AddAndPublish(1, /*buffers=*/2);
  device_->PushId(Pop().id + 1u, 1);
  ExpectBroken(QueueFault::kUnknownChain);
}

TEST_P(VirtqueueTest, ChainThatComesBackTwiceBreaks) {
  Create({.size = kSize});
  AddAndPublish(1);
  AddAndPublish(2);
  const FakeRing::Chain chain = Pop();
  device_->Push(chain, 1);
  device_->Push(chain, 1);
  ExpectTaken(1, 1);
  ExpectBroken(QueueFault::kUnknownChain);
}

TEST_P(VirtqueueTest, MoreWrittenThanTheChainHoldsBreaks) {
  Create({.size = kSize});
  AddAndPublish(1, /*buffers=*/2);
  device_->Push(Pop(), 201);
  ExpectBroken(QueueFault::kTooMuchWritten);
}

TEST_P(VirtqueueTest, WritingToAChainThatIsOnlyReadBreaks) {
  Create({.size = kSize});
  ASSERT_EQ(queue_->Add(std::span(kThreeBuffers).first(1), 1), Error::kNone);
  queue_->Publish();
  device_->Push(Pop(), 1);
  ExpectBroken(QueueFault::kTooMuchWritten);
}

TEST_P(VirtqueueTest, DescriptorsThatTheDeviceChangesDoNotMisleadTheDriver) {
  Create({.size = kSize});
  AddAndPublish(1, /*buffers=*/3);
  const FakeRing::Chain chain = Pop();
  std::memset(At(queue_->areas().descriptors), 0x55, 16 * kSize);
  device_->Push(chain, 64);
  ExpectTaken(1, 64);
  // All descriptors are free again.
  for (uint64_t i = 0; i < kSize; ++i) ASSERT_EQ(Add(i), Error::kNone);
  EXPECT_EQ(Add(9), Error::kQueueFull);
}

TEST_P(VirtqueueTest, CreateMakesABrokenQueueGoodAgain) {
  Create({.size = kSize});
  AddAndPublish(1);
  device_->PushId(kSize, 1);
  ExpectBroken(QueueFault::kUnknownChain);
  Create({.size = kSize});
  EXPECT_EQ(queue_->fault(), QueueFault::kNone);
  ExpectNothing();
  AddAndPublish(1);
  device_->Push(Pop(), 1);
  ExpectTaken(1, 1);
}

// A device that writes anything anywhere in what it shares with the driver.
TEST_P(VirtqueueTest, RandomWritesOfTheDeviceGiveEachChainBackAtMostOnce) {
  uint32_t taken = 0;
  uint32_t broken = 0;
  for (uint32_t seed = 0; seed < 500; ++seed) {
    std::mt19937 random(seed);
    const QueueOptions options = {
        .size = kSize,
        .event_index = random() % 2 == 0,
        .in_order = random() % 2 == 0,
        .indirect_buffers = static_cast<uint32_t>(random() % 3)};
    Create(options);
    std::vector<bool> out;  // by cookie
    bool astray = false;    // what the device reads is no chain any more
    for (int step = 0; step < 200 && !queue_->broken(); ++step) {
      switch (random() % 8) {
        case 0:
        case 1:
          if (Add(out.size(), 1 + random() % 3) == Error::kNone) {
            out.push_back(true);
          }
          break;
        case 2:
          queue_->Publish();
          break;
        case 3:
          if (astray) break;
          if (const auto chain = device_->Pop()) device_->Push(*chain, 1);
          break;
        case 4:
          if (random() % 8 == 0) device_->PushId(random() % 9, random() % 400);
          break;
        case 5: {
          if (random() % 8 != 0) break;
          const bool ring = random() % 2 == 0;
          const uint64_t area =
              ring ? queue_->areas().descriptors : queue_->areas().device;
          Store<uint16_t>(area + 2 * (random() % (ring ? 64 : 2)),
                          static_cast<uint16_t>(random()));
          if (ring) astray = true;
          break;
        }
        default: {
          UsedChain used;
          if (queue_->Take(&used) != Error::kNone) break;
          ++taken;
          ASSERT_LT(used.cookie, out.size());
          ASSERT_TRUE(out[used.cookie]);
          out[used.cookie] = false;
          ASSERT_LE(used.written, 300u);
        }
      }
      ASSERT_EQ(queue_->outstanding(), static_cast<uint32_t>(std::count(
                                           out.begin(), out.end(), true)));
    }
    broken += queue_->broken() ? 1 : 0;
  }
  EXPECT_GT(taken, 500u);
  EXPECT_GT(broken, 50u);
}

}  // namespace
}  // namespace vmsg::guest
