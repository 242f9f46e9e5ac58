// The rate limit of virtio-rng, on a clock that the test moves.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <limits>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "devices/virtio/little_endian.h"
#include "devices/virtio/rng/device.h"
#include "devices/virtio/rng/device_fixture.h"

namespace vmsg::virtio {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr RngOptions kLimit = {.max_bytes_per_period = 100,
                               .period = seconds(1)};

class RngLimitTest : public RngDeviceFixture {
 protected:
  RngLimitTest() { Create(kLimit); }
};

TEST_F(RngLimitTest, RequestBeyondTheBudgetIsFilledAsFarAsItGoes) {
  Activate();
  Request(150);
  EXPECT_EQ(Used(), 100);
  EXPECT_EQ(memory_.Read({kOut.value + 100}, 50), std::vector<std::byte>(50));
}

TEST_F(RngLimitTest, RequestThatFindsNoBudgetWaitsForTheNextPeriod) {
  Activate();
  Request(100);
  Request(30);
  EXPECT_EQ(Used(), 100);
  EXPECT_EQ(Used(), -1);
  loop_.AdvanceTime(milliseconds(999));
  EXPECT_EQ(Used(), -1);
  loop_.AdvanceTime(milliseconds(1));
  EXPECT_EQ(Used(), 30);
  EXPECT_EQ(notifier_.used(0), 2u);
}

TEST_F(RngLimitTest, DriverNeedNotKickWhileTheBudgetIsUsedUp) {
  Activate();
  Request(100);
  Add(10);
  EXPECT_TRUE(driver_.ShouldKick());
  device_->QueueNotify(0);
  Add(10);
  EXPECT_FALSE(driver_.ShouldKick());
  loop_.AdvanceTime(seconds(1));
  EXPECT_EQ(driver_.UsedIdx(), 3);
  Add(10);
  EXPECT_TRUE(driver_.ShouldKick());
}

TEST_F(RngLimitTest, UnusedBudgetDoesNotCarryOver) {
  Activate();
  Request(10);
  EXPECT_EQ(Used(), 10);
  loop_.AdvanceTime(seconds(5));
  Request(500);
  EXPECT_EQ(Used(), 100);
  Request(1);
  EXPECT_EQ(Used(), -1);
}

TEST_F(RngLimitTest, LongRunNeverExceedsTheLimit) {
  Activate();
  uint64_t given = 0;
  for (int step = 0; step < 100; ++step) {
    for (uint32_t i = driver_.outstanding(); i < kSize; ++i) Request(7);
    loop_.AdvanceTime(milliseconds(100));
    for (int64_t used; (used = Used()) >= 0;) given += used;
  }
  EXPECT_EQ(given, 10 * 100u + 100) << "ten periods and the one begun";
}

TEST_F(RngLimitTest, FailingSourceUsesUpTheBudgetToo) {
  source_.fail = true;
  Activate();
  Request(60);
  Request(60);
  Request(60);
  EXPECT_EQ(Used(), 0);
  EXPECT_EQ(Used(), 0);
  EXPECT_EQ(Used(), -1) << "the guest can't spin on the failure";
  loop_.AdvanceTime(seconds(1));
  EXPECT_EQ(Used(), 0);
}

TEST_F(RngLimitTest, ResetDoesNotRefillTheBudget) {
  Activate();
  Request(100);
  EXPECT_EQ(Used(), 100);
  Reset();
  driver_.StartAt(0);
  Activate();
  Request(10);
  EXPECT_EQ(driver_.UsedIdx(), 0);
  loop_.AdvanceTime(seconds(1));
  EXPECT_EQ(driver_.UsedIdx(), 1);
}

TEST_F(RngLimitTest, ResetWhileARequestWaitsForThePeriodForgetsIt) {
  Activate();
  Request(100);
  Request(10);
  Reset();
  notifier_.Forbid();
  loop_.AdvanceTime(seconds(10));
  EXPECT_EQ(driver_.UsedIdx(), 1);
  EXPECT_EQ(notifier_.forbidden_calls(), 0u);
  EXPECT_EQ(source_.fills, 1u);
}

TEST_F(RngLimitTest, QuiesceDoesNotWaitForThePeriod) {
  Activate();
  Request(100);
  Request(10);
  int done = 0;
  device_->Quiesce([&done] { ++done; });
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 1);
  loop_.AdvanceTime(seconds(10));
  EXPECT_EQ(driver_.UsedIdx(), 1) << "nothing is taken while quiesced";
  device_->Resume();
  device_->QueueNotify(0);
  EXPECT_EQ(driver_.UsedIdx(), 2);
}

TEST_F(RngLimitTest, ForcedRemovalDoesNotWaitForThePeriod) {
  Activate();
  Request(100);
  Request(10);
  EXPECT_EQ(Used(), 100);
  device_->FailRequests();
  EXPECT_EQ(Used(), 0);
}

TEST_F(RngLimitTest, RemoveWhileARequestWaitsForThePeriod) {
  Activate();
  Request(100);
  Request(10);
  int done = 0;
  device_->Remove([&] {
    device_ = nullptr;
    ++done;
  });
  loop_.AdvanceTime(seconds(10));
  EXPECT_EQ(done, 1);
  EXPECT_EQ(driver_.UsedIdx(), 1);
}

// --- State. ---

class RngStateTest : public RngLimitTest {
 protected:
  // How many bytes the device gives at once.
  int64_t GivesNow() {
    Request(1000);
    return Used();
  }
};

TEST_F(RngStateTest, BudgetAndPeriodGoOnInTheRestoredDevice) {
  Activate();
  Request(60);
  loop_.AdvanceTime(milliseconds(400));
  device_->Quiesce([] {});
  loop_.RunUntilIdle();
  const SavedState state = device_->Save();
  const auto position = device_->queue_positions()[0];
  EXPECT_EQ(position, (Virtqueue::Position{1, 1}));

  Create(kLimit);
  ASSERT_TRUE(device_->Restore(state).ok());
  driver_.StartAt(0);
  Activate();
  EXPECT_EQ(GivesNow(), 40);
  EXPECT_EQ(GivesNow(), -1);
  loop_.AdvanceTime(milliseconds(599));
  EXPECT_EQ(Used(), -1);
  loop_.AdvanceTime(milliseconds(1));
  EXPECT_EQ(Used(), 100);
}

TEST_F(RngStateTest, LayoutIsVersionOne) {
  Activate();
  Request(60);
  loop_.AdvanceTime(milliseconds(400));
  Reset();
  const SavedState state = device_->Save();
  EXPECT_EQ(state.version, 1u);
  ASSERT_EQ(state.bytes.size(), 16u);
  const std::span<const std::byte> bytes(state.bytes);
  EXPECT_EQ(LoadLittle<uint64_t>(bytes.subspan<0, 8>()), 40u);
  EXPECT_EQ(LoadLittle<uint64_t>(bytes.subspan<8, 8>()), 600'000'000u);
}

TEST_F(RngStateTest, LimitOfTheNewDeviceRules) {
  SavedState state = {.version = 1, .bytes = std::vector<std::byte>(16)};
  const std::span<std::byte> bytes(state.bytes);
  StoreLittle<uint64_t>(5000, bytes.subspan<0, 8>());
  StoreLittle<uint64_t>(std::numeric_limits<uint64_t>::max(),
                        bytes.subspan<8, 8>());
  ASSERT_TRUE(device_->Restore(state).ok());
  Activate();
  EXPECT_EQ(GivesNow(), 100);
  EXPECT_EQ(GivesNow(), -1);
  loop_.AdvanceTime(seconds(1));
  EXPECT_EQ(Used(), 100);
}

TEST_F(RngStateTest, WhatIsNoStateOfThisDeviceIsRefusedAndChangesNothing) {
  const SavedState good = device_->Save();
  SavedState bad = good;
  bad.version = 2;
  EXPECT_EQ(device_->Restore(bad).code(), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.bytes.pop_back();
  EXPECT_EQ(device_->Restore(bad).code(), absl::StatusCode::kInvalidArgument);
  Activate();
  EXPECT_EQ(GivesNow(), 100);
}

// --- Options. ---

TEST(RngOptionsTest, LimitNeedsAPeriod) {
  vmm::ManualEventLoop loop;
  FakeEntropySource::Control control;
  const auto create = [&](uint64_t bytes, vmm::Duration period) {
    return RngDevice::Create({.max_bytes_per_period = bytes, .period = period},
                             std::make_unique<FakeEntropySource>(&control),
                             &loop)
        .status();
  };
  EXPECT_TRUE(create(1, vmm::Duration(1)).ok());
  EXPECT_TRUE(create(1, RngOptions::kMaxPeriod).ok());
  EXPECT_TRUE(create(0, vmm::Duration(0)).ok());
  for (const vmm::Duration period :
       {vmm::Duration(0), vmm::Duration(-1),
        RngOptions::kMaxPeriod + vmm::Duration(1), vmm::Duration::max()}) {
    const absl::Status status = create(1, period);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("period"));
  }
}

}  // namespace
}  // namespace vmsg::virtio
