// The life of virtio_device.h, step by step, on a clock that the test moves.

#include "devices/virtio/testing/dummy_device.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/fake_notifier.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::virtio {
namespace {

using Buffer = FakeDriverQueue::Buffer;
using State = DummyDevice::State;
using std::chrono::milliseconds;

constexpr uint32_t kSize = 16;
constexpr vmm::GuestAddress kIn = TestMemory::kBuffers;
constexpr vmm::GuestAddress kOut{TestMemory::kBuffers.value + 0x1000};

class DummyDeviceTest : public ::testing::Test {
 protected:
  DummyDeviceTest()
      : device_(std::make_unique<DummyDevice>(DummyOptions(), &loop_)),
        driver_(memory_.memory(), TestMemory::kRam, kSize) {
    device_->SetConfigNotifier(&notifier_);
    memory_.Write(kIn, CountingBytes(64));
  }

  std::unique_ptr<Virtqueue> NewQueue() {
    return *CreateVirtqueue(0, driver_.config(), kSize, {kFeatureVersion1},
                            memory_.dma());
  }
  std::vector<std::unique_ptr<Virtqueue>> Queues() {
    std::vector<std::unique_ptr<Virtqueue>> queues;
    queues.push_back(NewQueue());
    queues.push_back(nullptr);
    return queues;
  }
  DeviceContext Context() {
    return {.loop = &loop_,
            .dma = memory_.dma(),
            .notifier = &notifier_,
            .features = {kFeatureVersion1}};
  }
  void StartActivation(std::optional<absl::Status>* result) {
    device_->Activate(Context(), Queues(), [result](absl::Status status) {
      *result = std::move(status);
    });
  }
  void Activate() {
    std::optional<absl::Status> result;
    StartActivation(&result);
    Settle();
    ASSERT_TRUE(result.has_value() && result->ok());
    ASSERT_EQ(device_->state(), State::kActive);
  }
  void AddRequest() {
    ASSERT_TRUE(driver_.Add(std::vector<Buffer>{{kIn, 8}, {kOut, 8, true}})
                    .has_value());
    device_->QueueNotify(0);
  }
  // Longer than any delay.
  void Settle() { loop_.AdvanceTime(milliseconds(10)); }
  VirtioDevice::Completion CountTo(int* count) {
    return [count] { ++*count; };
  }

  vmm::ManualEventLoop loop_;
  TestMemory memory_;
  FakeNotifier notifier_;
  std::unique_ptr<DummyDevice> device_;
  FakeDriverQueue driver_;
};

TEST_F(DummyDeviceTest, ActivationEndsLater) {
  std::optional<absl::Status> result;
  StartActivation(&result);
  EXPECT_FALSE(result.has_value());
  EXPECT_EQ(device_->state(), State::kActivating);
  Settle();
  ASSERT_TRUE(result.has_value());
  EXPECT_TRUE(result->ok());
}

TEST_F(DummyDeviceTest, FailedActivationDropsItsQueuesAndCanBeTriedAgain) {
  device_->FailNextActivation(absl::UnavailableError("no back end"));
  std::optional<absl::Status> result;
  StartActivation(&result);
  Settle();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(device_->state(), State::kInactive);
  Activate();
}

TEST_F(DummyDeviceTest, RequestIsEchoedLater) {
  Activate();
  AddRequest();
  EXPECT_EQ(driver_.UsedIdx(), 0);
  EXPECT_EQ(device_->in_flight(), 1u);
  Settle();
  const auto used = driver_.TakeUsed();
  ASSERT_TRUE(used.has_value());
  EXPECT_EQ(used->length, 8u);
  EXPECT_EQ(memory_.Read(kOut, 8), CountingBytes(8));
  EXPECT_EQ(notifier_.used(0), 1u);
}

TEST_F(DummyDeviceTest, RequestsEndOutOfOrder) {
  Activate();
  std::vector<uint32_t> given;
  for (int i = 0; i < 8; ++i) {
    given.push_back(
        *driver_.Add(std::vector<Buffer>{{kIn, 8}, {kOut, 8, true}}));
  }
  device_->QueueNotify(0);
  Settle();
  std::vector<uint32_t> returned;
  while (const auto used = driver_.TakeUsed()) returned.push_back(used->id);
  EXPECT_EQ(returned.size(), given.size());
  EXPECT_NE(returned, given);
}

TEST(DummyDeviceSeedTest, SameSeedGivesTheSameRun) {
  const auto order = [](uint64_t seed) {
    vmm::ManualEventLoop loop;
    DummyDevice device(DummyOptions{.seed = seed}, &loop);
    std::vector<int64_t> ends;
    for (int i = 0; i < 5; ++i) {
      bool done = false;
      const auto start = loop.fake_clock().Now();
      device.Reset([&done] { done = true; });
      while (!done) loop.AdvanceTime(std::chrono::microseconds(1));
      ends.push_back((loop.fake_clock().Now() - start).count());
    }
    return ends;
  };
  EXPECT_EQ(order(5), order(5));
  EXPECT_NE(order(5), order(6));
}

TEST_F(DummyDeviceTest, FailingBackEndAnswersAndIsReported) {
  Activate();
  device_->SetBackendFailing(true);
  AddRequest();
  Settle();
  EXPECT_EQ(driver_.TakeUsed()->length, 0u);
  device_->SetBackendFailing(false);
  AddRequest();
  Settle();
  EXPECT_EQ(driver_.TakeUsed()->length, 8u);
  ASSERT_EQ(notifier_.health().size(), 2u);
  EXPECT_FALSE(notifier_.health()[0].healthy);
  EXPECT_TRUE(notifier_.health()[1].healthy);
}

TEST_F(DummyDeviceTest, QuiesceWaitsForWhatWasTaken) {
  Activate();
  AddRequest();
  int done = 0;
  device_->Quiesce(CountTo(&done));
  AddRequest();
  EXPECT_EQ(done, 0);
  Settle();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(device_->state(), State::kQuiesced);
  EXPECT_EQ(device_->in_flight(), 0u);
  EXPECT_EQ(driver_.UsedIdx(), 1) << "the second one was not taken";
  EXPECT_EQ(device_->queue_positions()[0], (Virtqueue::Position{1, 1}));
  EXPECT_EQ(device_->queue_positions()[1], std::nullopt);

  device_->Resume();
  device_->QueueNotify(0);
  Settle();
  EXPECT_EQ(driver_.UsedIdx(), 2);
}

TEST_F(DummyDeviceTest, ResetDropsWorkOfBefore) {
  Activate();
  AddRequest();
  int done = 0;
  device_->Reset(CountTo(&done));
  EXPECT_EQ(done, 0);
  notifier_.Forbid();
  Settle();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(device_->state(), State::kInactive);
  EXPECT_EQ(driver_.UsedIdx(), 0);
  EXPECT_EQ(notifier_.forbidden_calls(), 0u);
  EXPECT_EQ(device_->stats().dropped, 1u);
}

TEST_F(DummyDeviceTest, WorkOfBeforeAResetEndsAfterItUnseen) {
  // The reset is quick here, the back end slow.
  device_ = std::make_unique<DummyDevice>(
      DummyOptions{.max_work_delay = std::chrono::hours(10),
                   .max_transition_delay = vmm::Duration(0)},
      &loop_);
  Activate();
  AddRequest();
  int done = 0;
  device_->Reset(CountTo(&done));
  loop_.RunUntilIdle();
  ASSERT_EQ(done, 1);
  EXPECT_EQ(device_->in_flight(), 1u);
  driver_.StartAt(0);
  Activate();
  const std::vector<std::byte> before =
      memory_.Read(TestMemory::kRam, TestMemory::kRamBytes);
  loop_.AdvanceTime(std::chrono::hours(11));
  EXPECT_EQ(device_->stats().dropped, 1u);
  EXPECT_EQ(device_->in_flight(), 0u);
  EXPECT_TRUE(memory_.Read(TestMemory::kRam, TestMemory::kRamBytes) == before);
}

TEST_F(DummyDeviceTest, ResetOvertakesActivation) {
  std::optional<absl::Status> activated;
  StartActivation(&activated);
  int done = 0;
  device_->Reset(CountTo(&done));
  Settle();
  EXPECT_FALSE(activated.has_value());
  EXPECT_EQ(done, 1);
  EXPECT_EQ(device_->stats().activations, 0u);
  Activate();
}

TEST_F(DummyDeviceTest, ResetOvertakesQuiesceAndQueueReset) {
  Activate();
  int overtaken = 0;
  int done = 0;
  device_->Quiesce(CountTo(&overtaken));
  device_->Reset(CountTo(&done));
  Settle();
  Activate();
  device_->ResetQueue(0, CountTo(&overtaken));
  device_->Reset(CountTo(&done));
  Settle();
  EXPECT_EQ(overtaken, 0);
  EXPECT_EQ(done, 2);
}

TEST_F(DummyDeviceTest, RemoveOvertakesReset) {
  Activate();
  AddRequest();
  int overtaken = 0;
  device_->Reset(CountTo(&overtaken));
  device_->Remove([this] { device_ = nullptr; });
  ASSERT_NE(device_, nullptr);
  Settle();
  EXPECT_EQ(device_, nullptr) << "it may be destroyed in the completion";
  EXPECT_EQ(overtaken, 0);
}

TEST_F(DummyDeviceTest, TransitionMayBeHeldForAsLongAsATestLikes) {
  Activate();
  device_->HoldTransitions(true);
  int done = 0;
  device_->Reset(CountTo(&done));
  loop_.AdvanceTime(std::chrono::hours(1));
  EXPECT_EQ(done, 0);
  device_->HoldTransitions(false);
  Settle();
  EXPECT_EQ(done, 1);
}

TEST_F(DummyDeviceTest, QueueResetLeavesTheDeviceActive) {
  Activate();
  AddRequest();
  int done = 0;
  device_->ResetQueue(0, CountTo(&done));
  Settle();
  EXPECT_EQ(done, 1);
  EXPECT_EQ(driver_.UsedIdx(), 0);
  FakeDriverQueue again(memory_.memory(), TestMemory::kRam, kSize);
  device_->ActivateQueue(NewQueue());
  again.Add(std::vector<Buffer>{{kIn, 8}, {kOut, 8, true}});
  device_->QueueNotify(0);
  Settle();
  EXPECT_EQ(again.TakeUsed()->length, 8u);
}

TEST_F(DummyDeviceTest, FailRequestsAnswersOldAndNewWithoutTheBackEnd) {
  Activate();
  AddRequest();
  device_->FailRequests();
  EXPECT_EQ(driver_.TakeUsed()->length, 0u) << "at once";
  AddRequest();
  loop_.RunUntilIdle();
  EXPECT_EQ(driver_.TakeUsed()->length, 0u);
  Settle();
  EXPECT_EQ(driver_.TakeUsed(), std::nullopt);
  EXPECT_EQ(driver_.bad_used(), 0u);
}

TEST_F(DummyDeviceTest, GuestFaultAsksForAResetOnce) {
  Activate();
  driver_.SetAvailIdx(1000);
  device_->QueueNotify(0);
  device_->QueueNotify(0);
  Settle();
  ASSERT_EQ(notifier_.needs_reset().size(), 1u);
  EXPECT_EQ(notifier_.needs_reset()[0],
            QueueFaultName(QueueFault::kTooManyAvailable));
}

TEST_F(DummyDeviceTest, BrokenDeviceStopsUsingItsQueues) {
  Activate();
  AddRequest();
  device_->Break("test");
  AddRequest();
  Settle();
  EXPECT_EQ(driver_.UsedIdx(), 0);
  EXPECT_EQ(notifier_.needs_reset().size(), 1u);
}

TEST_F(DummyDeviceTest, OwnChangeOfConfigurationIsAnnounced) {
  Activate();
  device_->ChangeConfig(6, CountingBytes(3, 9));
  EXPECT_EQ(notifier_.config_changes(),
            (std::vector<FakeNotifier::ConfigChange>{{6, 3}}));
  std::vector<std::byte> read(3);
  device_->ReadConfig(6, read);
  EXPECT_EQ(read, CountingBytes(3, 9));
}

TEST_F(DummyDeviceTest, OwnChangeOfConfigurationIsAnnouncedWhileInactive) {
  device_->ChangeConfig(6, CountingBytes(3, 9));
  EXPECT_EQ(notifier_.config_changes(),
            (std::vector<FakeNotifier::ConfigChange>{{6, 3}}));
}

TEST_F(DummyDeviceTest, DriverMayNotWriteTheFirstBytesOfTheConfiguration) {
  const auto bytes = CountingBytes(4, 1);
  EXPECT_FALSE(device_->WriteConfig(2, bytes));
  EXPECT_TRUE(device_->WriteConfig(4, bytes));
  std::vector<std::byte> all(8);
  device_->ReadConfig(0, all);
  EXPECT_EQ(std::vector<std::byte>(all.begin(), all.begin() + 4),
            std::vector<std::byte>(4));
  EXPECT_EQ(std::vector<std::byte>(all.begin() + 4, all.end()), bytes);
}

TEST_F(DummyDeviceTest, FeaturesWithoutARequiredOneAreNotAccepted) {
  EXPECT_TRUE(device_->AcceptFeatures({kFeatureVersion1}));
  EXPECT_FALSE(device_->AcceptFeatures({kFeatureEventIdx}));
}

TEST_F(DummyDeviceTest, ResetTakesBackWhatTheDriverWrote) {
  int resets = 0;
  device_->ChangeConfig(8, CountingBytes(1, 9));
  device_->WriteConfig(4, CountingBytes(5, 1));
  device_->Reset(CountTo(&resets));
  Settle();
  std::vector<std::byte> config(16);
  device_->ReadConfig(0, config);
  std::vector<std::byte> expected(16);
  expected[8] = std::byte{9};
  EXPECT_EQ(config, expected);
  ASSERT_EQ(notifier_.config_changes().size(), 2u);
  EXPECT_EQ(notifier_.config_changes()[1].offset, 4u);
  EXPECT_EQ(notifier_.config_changes()[1].length, 12u);
  // Nothing to take back, nothing to tell.
  device_->Reset(CountTo(&resets));
  Settle();
  EXPECT_EQ(notifier_.config_changes().size(), 2u);
}

TEST_F(DummyDeviceTest, SavedStateIsRestored) {
  device_->WriteConfig(4, CountingBytes(4, 1));
  const SavedState state = device_->Save();
  DummyDevice other(DummyOptions(), &loop_);
  ASSERT_TRUE(other.Restore(state).ok());
  EXPECT_EQ(other.Save().bytes, state.bytes);
  EXPECT_EQ(other.Restore({.version = 2, .bytes = state.bytes}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(other.Restore({.version = 1}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(other.Save().bytes, state.bytes);
}

using DummyDeviceDeathTest = DummyDeviceTest;

TEST_F(DummyDeviceDeathTest, CallsThatTheLifeDoesNotAllowAbort) {
  int done = 0;
  EXPECT_DEATH(device_->Quiesce(CountTo(&done)), "state_");
  EXPECT_DEATH(device_->Resume(), "state_");
  device_->Remove(CountTo(&done));
  EXPECT_DEATH(device_->Reset(CountTo(&done)), "state_");
}

}  // namespace
}  // namespace vmsg::virtio
