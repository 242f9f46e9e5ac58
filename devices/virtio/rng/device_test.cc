// Requests, faults and the life of virtio-rng. The limit has tests of its own
// in device_limit_test.cc.

#include "devices/virtio/rng/device.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/rng/device_fixture.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"

namespace vmsg::virtio {
namespace {

class RngDeviceTest : public RngDeviceFixture {};

TEST_F(RngDeviceTest, DescribesItself) {
  // virtio 1.2, 5.4: device 4, one queue, no configuration, no features.
  EXPECT_EQ(device_->device_id(), 4u);
  ASSERT_EQ(device_->queues().size(), 1u);
  EXPECT_EQ(device_->queues()[0].max_size, 256u);
  EXPECT_EQ(device_->config_size(), 0u);
  EXPECT_EQ(device_->shared_memory(0), std::nullopt);
  EXPECT_EQ(device_->offered_features(),
            Features({kFeatureVersion1, kFeatureIndirectDesc, kFeatureEventIdx,
                      kFeatureRingPacked, kFeatureInOrder,
                      kFeatureNotificationData, kFeatureRingReset}));
  EXPECT_TRUE(device_->AcceptFeatures({kFeatureVersion1}));
  EXPECT_FALSE(device_->AcceptFeatures({kFeatureEventIdx}));
}

TEST_F(RngDeviceTest, PackedQueueIsServedInOrder) {
  FakePackedDriverQueue driver(memory_.memory(), TestMemory::kRam, 7,
                               /*event_idx=*/true);
  Features features = Negotiated();
  features.Set(kFeatureRingPacked);
  features.Set(kFeatureInOrder);
  ActivateWith(
      *CreateVirtqueue(0, driver.config(), 256, features, memory_.dma()),
      features);
  for (uint32_t round = 0; round < 10; ++round) {
    std::vector<uint16_t> ids;
    for (int i = 0; i < 3; ++i) {
      ids.push_back(*driver.Add(
          std::vector<Buffer>{{kOut, 8, true}, {{kOut.value + 64}, 8, true}}));
    }
    device_->QueueNotify(0);
    loop_.RunUntilIdle();
    for (uint16_t id : ids) {
      EXPECT_EQ(driver.TakeUsed(), (FakePackedDriverQueue::Used{id, 16}));
    }
  }
}

TEST_F(RngDeviceTest, RequestIsFilledAndToldToTheDriver) {
  Activate();
  Request(100);
  EXPECT_EQ(Used(), 100);
  EXPECT_EQ(memory_.Read(kOut, 100), Entropy(0, 100));
  EXPECT_EQ(memory_.Read({kOut.value + 100}, 1), std::vector<std::byte>(1));
  EXPECT_EQ(notifier_.used(0), 1u);
}

TEST_F(RngDeviceTest, RequestsBeforeActivationAreServedAfterIt) {
  Add(10);
  Add(20);
  Activate();
  EXPECT_EQ(Used(), 10);
  EXPECT_EQ(Used(), 20);
  EXPECT_EQ(notifier_.used(0), 1u) << "one notification for the batch";
}

TEST_F(RngDeviceTest, SeveralBuffersAreFilledOneAfterTheOther) {
  Activate();
  driver_.Add(std::vector<Buffer>{{kOut, 10, true},
                                  {{kOut.value + 0x100}, 20, true},
                                  {{kOut.value + 0x200}, 30, true}});
  device_->QueueNotify(0);
  EXPECT_EQ(Used(), 60);
  EXPECT_EQ(memory_.Read(kOut, 10), Entropy(0, 10));
  EXPECT_EQ(memory_.Read({kOut.value + 0x100}, 20), Entropy(10, 20));
  EXPECT_EQ(memory_.Read({kOut.value + 0x200}, 30), Entropy(30, 30));
}

TEST_F(RngDeviceTest, RequestGetsNoMoreThanTheMaximum) {
  Activate();
  Request(RngOptions::kMaxRequestBytes + 1);
  EXPECT_EQ(Used(), RngOptions::kMaxRequestBytes);
}

TEST_F(RngDeviceTest, ReadableBuffersGetNothing) {
  Activate();
  driver_.Add(std::vector<Buffer>{{kOut, 16}});
  driver_.Add(std::vector<Buffer>{{kOut, 16}, {kOut, 16, true}});
  device_->QueueNotify(0);
  EXPECT_EQ(Used(), 0);
  EXPECT_EQ(Used(), 16);
  EXPECT_EQ(device_->stats().failed, 1u);
}

TEST_F(RngDeviceTest, DigestIsOverTheBytesInOrderOfCompletion) {
  Activate();
  EXPECT_EQ(device_->stats().digest, 0xcbf29ce484222325u);
  Request(3);
  Request(4);
  uint64_t expected = 0xcbf29ce484222325;
  for (std::byte byte : Entropy(0, 7)) {
    expected = (expected ^ static_cast<uint8_t>(byte)) * 0x100000001b3;
  }
  EXPECT_EQ(device_->stats().requests, 2u);
  EXPECT_EQ(device_->stats().bytes, 7u);
  EXPECT_EQ(device_->stats().digest, expected);
}

TEST_F(RngDeviceTest, LongQueueIsServedOverSeveralTurns) {
  Activate();
  for (uint32_t i = 0; i < kSize; ++i) Add(RngOptions::kMaxRequestBytes / 4);
  device_->QueueNotify(0);
  EXPECT_EQ(driver_.UsedIdx(), 4) << "then the loop has its turn";
  for (int i = 0; i < 100; ++i) device_->QueueNotify(0);
  EXPECT_EQ(driver_.UsedIdx(), 4) << "whatever the driver says";
  loop_.RunUntilIdle();
  EXPECT_EQ(driver_.UsedIdx(), kSize);
}

TEST_F(RngDeviceTest, ChainsOfManyBuffersAreServedOverSeveralTurns) {
  constexpr uint32_t kChains = 256;
  const vmm::GuestAddress table{kOut.value + 0x1000};
  FakeDriverQueue driver(memory_.memory(), TestMemory::kRam, kChains,
                         /*event_idx=*/false);
  const Features features = {kFeatureVersion1, kFeatureIndirectDesc};
  ActivateWith(
      *CreateVirtqueue(0, driver.config(), kChains, features, memory_.dma()),
      features);
  const std::vector<Buffer> buffers(kChains, Buffer{kOut, 8});
  for (uint32_t i = 0; i < kChains; ++i) {
    ASSERT_TRUE(driver.AddIndirect(table, buffers).has_value());
  }
  device_->QueueNotify(0);
  EXPECT_EQ(driver.UsedIdx(), 4) << "1024 buffers, then the loop has its turn";
  loop_.RunUntilIdle();
  EXPECT_EQ(driver.UsedIdx(), kChains);
}

TEST_F(RngDeviceTest, ManyShortTurnsOfADriverAreOneLongOne) {
  // It adds a chain before each notification of one turn.
  Activate();
  for (uint32_t i = 0; i < 1000; ++i) {
    driver_.Add(std::vector<Buffer>{{kOut, 1, true}});
    device_->QueueNotify(0);
    driver_.TakeUsed();
  }
  EXPECT_LT(device_->stats().requests, 65u);
  const uint64_t before = device_->stats().requests;
  loop_.RunUntilIdle();
  EXPECT_EQ(device_->stats().requests, before + kSize) << "the queue was full";
}

TEST_F(RngDeviceTest, DriverIsAskedForAKickOnlyWhenIdle) {
  Activate();
  Add(1);
  EXPECT_TRUE(driver_.ShouldKick());
  device_->QueueNotify(0);
  source_.hold = true;
  Add(1);
  EXPECT_TRUE(driver_.ShouldKick());
  device_->QueueNotify(0);
  Add(1);
  EXPECT_FALSE(driver_.ShouldKick()) << "it is at work";
  source_.hold = false;
  source_.Release();
  EXPECT_EQ(driver_.UsedIdx(), 3);
  Add(1);
  EXPECT_TRUE(driver_.ShouldKick());
}

// --- A source that takes its time, or fails. ---

TEST_F(RngDeviceTest, SlowSourceIsAskedForOneRequestAtATime) {
  source_.hold = true;
  Activate();
  Request(10);
  Request(20);
  EXPECT_EQ(source_.fills, 1u);
  EXPECT_EQ(driver_.UsedIdx(), 0);
  source_.Release();
  EXPECT_EQ(Used(), 10);
  EXPECT_EQ(source_.fills, 2u);
  source_.Release();
  EXPECT_EQ(Used(), 20);
  EXPECT_EQ(notifier_.used(0), 2u);
}

TEST_F(RngDeviceTest, FailingSourceAnswersWithZeroBytesAndIsReportedOnce) {
  source_.fail = true;
  Activate();
  Request(10);
  Request(10);
  EXPECT_EQ(Used(), 0);
  EXPECT_EQ(Used(), 0);
  EXPECT_EQ(memory_.Read(kOut, 10), std::vector<std::byte>(10));
  ASSERT_EQ(notifier_.health().size(), 1u);
  EXPECT_FALSE(notifier_.health()[0].healthy);
  EXPECT_EQ(device_->stats().failed, 2u);
  EXPECT_EQ(device_->stats().bytes, 0u);
  EXPECT_TRUE(notifier_.needs_reset().empty());

  source_.fail = false;
  Request(10);
  Request(10);
  EXPECT_EQ(Used(), 10);
  ASSERT_EQ(notifier_.health().size(), 2u);
  EXPECT_TRUE(notifier_.health()[1].healthy);
}

TEST_F(RngDeviceTest, SourceThatStillFailsAfterAResetIsReportedAgain) {
  source_.fail = true;
  Activate();
  Request(10);
  driver_.TakeUsed();
  Reset();
  driver_.StartAt(0);
  Activate();
  Request(10);
  ASSERT_EQ(notifier_.health().size(), 2u);
  EXPECT_FALSE(notifier_.health()[1].healthy);
}

// --- Guest faults. ---

TEST_F(RngDeviceTest, QueueFaultAsksForAResetOnceAndStopsWork) {
  Activate();
  Add(10);
  driver_.WriteDescriptor(5, {kOut.value, 0});
  driver_.Publish(5);
  device_->QueueNotify(0);
  device_->QueueNotify(0);
  loop_.RunUntilIdle();
  ASSERT_EQ(notifier_.needs_reset().size(), 1u);
  EXPECT_EQ(notifier_.needs_reset()[0],
            QueueFaultName(QueueFault::kZeroLength));
  EXPECT_EQ(Used(), 10) << "what came before it was served";
  EXPECT_EQ(notifier_.used(0), 1u);
}

TEST_F(RngDeviceTest, FaultFoundByLookingWhetherToNotifyIsReportedAtOnce) {
  // What the driver of a packed ring wants is in memory of its own here.
  const vmm::GuestRange wishes = {.start = {0x10000000}, .size = 0x1000};
  ASSERT_TRUE(memory_.memory()
                  ->Add({.range = wishes,
                         .backing = *vmm::MemoryBacking::CreateAnonymous(
                             wishes.size, "wishes")})
                  .ok());
  FakePackedDriverQueue driver(memory_.memory(), TestMemory::kRam, kSize,
                               /*event_idx=*/true);
  QueueConfig config = driver.config();
  config.driver = wishes.start;
  Features features = Negotiated();
  features.Set(kFeatureRingPacked);
  ActivateWith(*CreateVirtqueue(0, config, kSize, features, memory_.dma()),
               features);
  ASSERT_TRUE(memory_.memory()->Remove(wishes).ok());
  driver.Add(std::vector<Buffer>{{kOut, 8, true}});
  device_->QueueNotify(0);
  EXPECT_TRUE(driver.TakeUsed().has_value());
  EXPECT_EQ(notifier_.used(0), 1u);
  ASSERT_EQ(notifier_.needs_reset().size(), 1u);
  EXPECT_EQ(notifier_.needs_reset()[0],
            QueueFaultName(QueueFault::kRingOutsideMemory));
}

TEST_F(RngDeviceTest, BufferThatGoesAwayInTheMiddleAsksForAReset) {
  source_.hold = true;
  Activate();
  Request(10);
  memory_.RemoveRam();
  source_.Release();
  ASSERT_EQ(notifier_.needs_reset().size(), 1u);
  EXPECT_EQ(device_->stats().bytes, 0u);
  device_->QueueNotify(0);
  loop_.RunUntilIdle();
  EXPECT_EQ(notifier_.needs_reset().size(), 1u);
}

TEST_F(RngDeviceTest, QueueThatGoesAwayUnderAFailedRequestAsksForAReset) {
  source_.hold = true;
  Activate();
  Request(10);
  source_.fail = true;
  memory_.RemoveRam();
  source_.Release();
  ASSERT_EQ(notifier_.needs_reset().size(), 1u);
  EXPECT_EQ(notifier_.needs_reset()[0],
            QueueFaultName(QueueFault::kRingOutsideMemory));
  EXPECT_EQ(device_->stats().failed, 0u) << "the driver was not told";
}

TEST_F(RngDeviceTest, BrokenDeviceCanBeQuiescedAndWorksAfterAReset) {
  Activate();
  driver_.SetAvailIdx(1000);
  device_->QueueNotify(0);
  ASSERT_EQ(notifier_.needs_reset().size(), 1u);
  int done = 0;
  device_->Quiesce([&done] { ++done; });
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 1);
  Reset();
  driver_.StartAt(0);
  Activate();
  Request(5);
  EXPECT_EQ(Used(), 5);
}

// --- Life. ---

TEST_F(RngDeviceTest, NotifyOfAQueueThatIsNotThereIsIgnored) {
  device_->QueueNotify(0);
  std::vector<std::unique_ptr<Virtqueue>> none(1);
  device_->Activate(
      {.loop = &loop_, .dma = memory_.dma(), .notifier = &notifier_},
      std::move(none), [](absl::Status) {});
  loop_.RunUntilIdle();
  device_->QueueNotify(0);
  device_->FailRequests();
  loop_.RunUntilIdle();
  EXPECT_EQ(notifier_.used(), 0u);
}

TEST_F(RngDeviceTest, QueueConfiguredLaterIsServed) {
  std::vector<std::unique_ptr<Virtqueue>> none(1);
  device_->Activate(
      {.loop = &loop_, .dma = memory_.dma(), .notifier = &notifier_},
      std::move(none), [](absl::Status) {});
  loop_.RunUntilIdle();
  Add(7);
  device_->ActivateQueue(NewQueue());
  loop_.RunUntilIdle();
  EXPECT_EQ(Used(), 7);
}

TEST_F(RngDeviceTest, QuiesceWaitsForTheRequestInWorkOnly) {
  source_.hold = true;
  Activate();
  Request(10);
  Request(20);
  int done = 0;
  device_->Quiesce([&done] { ++done; });
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 0);
  source_.Release();
  EXPECT_EQ(done, 0) << "never inside";
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(Used(), 10);
  EXPECT_EQ(notifier_.used(0), 1u);
  device_->QueueNotify(0);
  EXPECT_EQ(source_.fills, 1u) << "nothing is taken while quiesced";
  EXPECT_EQ(device_->queue_positions()[0], (Virtqueue::Position{1, 1}));

  device_->Resume();
  device_->QueueNotify(0);
  source_.Release();
  EXPECT_EQ(Used(), 20);
}

TEST_F(RngDeviceTest, ResetDropsTheRequestInWork) {
  source_.hold = true;
  Activate();
  Request(10);
  Reset();
  notifier_.Forbid();
  const auto before = memory_.Read(TestMemory::kRam, TestMemory::kRamBytes);
  source_.Release();
  loop_.RunUntilIdle();
  EXPECT_TRUE(memory_.Read(TestMemory::kRam, TestMemory::kRamBytes) == before);
  EXPECT_EQ(notifier_.forbidden_calls(), 0u);
  EXPECT_EQ(device_->stats().bytes, 0u);
}

TEST_F(RngDeviceTest, AnswerOfBeforeAResetIsNotTakenForTheNewRequest) {
  source_.hold = true;
  Activate();
  Request(10);
  Reset();
  driver_.StartAt(0);
  Activate();
  Request(20);
  EXPECT_EQ(source_.fills, 1u) << "the source is still busy";
  source_.Release();
  EXPECT_EQ(Used(), -1);
  EXPECT_EQ(source_.fills, 2u);
  source_.Release();
  EXPECT_EQ(driver_.UsedIdx(), 1);
  EXPECT_EQ(memory_.Read(kOut, 20), Entropy(10, 20));
}

TEST_F(RngDeviceTest, ResetOvertakesActivationAndQuiesce) {
  int overtaken = 0;
  StartActivation([&overtaken](absl::Status) { ++overtaken; });
  Reset();
  source_.hold = true;
  Activate();
  Request(10);
  device_->Quiesce([&overtaken] { ++overtaken; });
  Reset();
  source_.Release();
  loop_.RunUntilIdle();
  EXPECT_EQ(overtaken, 0);
}

TEST_F(RngDeviceTest, QueueResetDropsItsRequestAndKeepsTheDevice) {
  source_.hold = true;
  Activate();
  Request(10);
  int done = 0;
  device_->ResetQueue(0, [&done] { ++done; });
  EXPECT_EQ(done, 0);
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 1);
  source_.hold = false;
  source_.Release();
  EXPECT_EQ(driver_.UsedIdx(), 0);

  FakeDriverQueue again(memory_.memory(), TestMemory::kRam, kSize, true);
  device_->ActivateQueue(NewQueue());
  again.Add(std::vector<Buffer>{{kOut, 6, true}});
  device_->QueueNotify(0);
  EXPECT_EQ(again.TakeUsed()->length, 6u);
}

TEST_F(RngDeviceTest, ForcedRemovalAnswersOldAndNewRequestsWithoutTheSource) {
  source_.hold = true;
  Activate();
  Request(10);
  Request(20);
  device_->FailRequests();
  EXPECT_EQ(Used(), 0);
  EXPECT_EQ(Used(), 0);
  EXPECT_GE(notifier_.used(0), 1u);
  Request(30);
  EXPECT_EQ(Used(), 0);
  EXPECT_EQ(source_.fills, 1u);
  source_.Release();
  EXPECT_EQ(Used(), -1);
  EXPECT_EQ(driver_.bad_used(), 0u);
  EXPECT_EQ(memory_.Read(kOut, 30), std::vector<std::byte>(30));
}

TEST_F(RngDeviceTest, ForcedRemovalEndsAQuiesceThatWaitsForTheSource) {
  source_.hold = true;
  Activate();
  Request(10);
  int done = 0;
  device_->Quiesce([&done] { ++done; });
  device_->FailRequests();
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(Used(), 0);
}

TEST_F(RngDeviceTest, RemoveOvertakesResetAndLetsGoOfTheSource) {
  source_.hold = true;
  Activate();
  Request(10);
  int overtaken = 0;
  device_->Reset([&overtaken] { ++overtaken; });
  bool removed = false;
  device_->Remove([this, &removed] {
    EXPECT_TRUE(source_.destroyed) << "host resources go first";
    device_ = nullptr;
    removed = true;
  });
  EXPECT_FALSE(removed);
  loop_.RunUntilIdle();
  EXPECT_TRUE(removed);
  EXPECT_EQ(overtaken, 0);
}

TEST_F(RngDeviceTest, DeviceDestroyedWithoutRemoveLeavesNothingBehind) {
  source_.hold = true;
  Activate();
  Request(10);
  int done = 0;
  device_->Reset([&done] { ++done; });
  device_ = nullptr;
  EXPECT_TRUE(source_.destroyed);
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 0);
}

using RngDeviceDeathTest = RngDeviceTest;

TEST_F(RngDeviceDeathTest, CallsThatTheLifeDoesNotAllowAbort) {
  EXPECT_DEATH(device_->Quiesce([] {}), "state_");
  EXPECT_DEATH(device_->Resume(), "state_");
  device_->Remove([] {});
  EXPECT_DEATH(device_->Reset([] {}), "state_");
}

}  // namespace
}  // namespace vmsg::virtio
