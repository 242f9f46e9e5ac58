#include "vmm/testing/fake_interrupt_controller.h"

#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

using Raised = FakeInterruptController::Raised;

TEST(FakeInterruptControllerTest, RecordsPerRouteAndInOrder) {
  FakeInterruptController fake;
  const auto zero = fake.CreateMsiRoute().value();
  const auto one = fake.CreateMsiRoute().value();
  ASSERT_TRUE(zero->Update({.data = 10}).ok());
  ASSERT_TRUE(one->Update({.data = 11}).ok());

  ASSERT_TRUE(one->Trigger().ok());
  ASSERT_TRUE(zero->Trigger().ok());
  ASSERT_TRUE(zero->Update({.data = 12}).ok());
  ASSERT_TRUE(zero->Trigger().ok());

  EXPECT_EQ(fake.raised(),
            (std::vector<Raised>{
                {1, {.data = 11}}, {0, {.data = 10}}, {0, {.data = 12}}}));
  EXPECT_EQ(fake.raised(0),
            (std::vector<MsiMessage>{{.data = 10}, {.data = 12}}));
  EXPECT_EQ(fake.count(), 3u);
  EXPECT_EQ(fake.count(0), 2u);
  EXPECT_EQ(fake.updates(0), 2u);
  EXPECT_EQ(fake.updates(1), 1u);

  fake.ClearRaised();
  EXPECT_EQ(fake.count(), 0u);
  EXPECT_EQ(fake.count(0), 0u);
}

TEST(FakeInterruptControllerTest, TriggerWithoutMessageIsRefused) {
  FakeInterruptController fake;
  const auto route = fake.CreateMsiRoute().value();

  EXPECT_EQ(route->Trigger().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(fake.count(), 0u);
}

TEST(FakeInterruptControllerTest, FailsWhatItIsToldToAndRecovers) {
  FakeInterruptController fake;
  const auto route = fake.CreateMsiRoute().value();
  ASSERT_TRUE(route->Update({.data = 1}).ok());

  fake.FailUpdates(absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(route->Update({.data = 2}).code(),
            absl::StatusCode::kInvalidArgument);
  fake.FailUpdates(absl::StatusCode::kOk);
  fake.FailTriggers(absl::StatusCode::kUnavailable);
  EXPECT_EQ(route->Trigger().code(), absl::StatusCode::kUnavailable);
  fake.FailTriggers(absl::StatusCode::kOk);
  ASSERT_TRUE(route->Trigger().ok());

  EXPECT_EQ(fake.raised(0), (std::vector<MsiMessage>{{.data = 1}}));
}

TEST(FakeInterruptControllerTest, AllowsSoManyRoutesAndCountsTheLivingOnes) {
  FakeInterruptController fake;
  fake.FailCreateAfter(1);

  auto route = fake.CreateMsiRoute().value();
  EXPECT_EQ(fake.CreateMsiRoute().status().code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(fake.routes_alive(), 1u);
  route.reset();
  EXPECT_EQ(fake.routes_alive(), 0u);
  EXPECT_EQ(fake.routes_created(), 1u);
  fake.FailCreateAfter(std::nullopt);
  EXPECT_TRUE(fake.CreateMsiRoute().ok());
}

TEST(FakeInterruptControllerTest, WaitForCountEndsWithTheLastInterrupt) {
  constexpr int kEach = 200;
  FakeInterruptController fake;
  const auto route = fake.CreateMsiRoute().value();
  ASSERT_TRUE(route->Update({.data = 1}).ok());

  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&] {
      for (int n = 0; n < kEach; ++n) EXPECT_TRUE(route->Trigger().ok());
    });
  }
  EXPECT_TRUE(fake.WaitForCount(0, 2 * kEach, std::chrono::seconds(60)));
  for (std::thread& thread : threads) thread.join();

  EXPECT_EQ(fake.count(0), 2u * kEach);
  EXPECT_FALSE(
      fake.WaitForCount(0, 2 * kEach + 1, std::chrono::milliseconds(1)));
}

}  // namespace
}  // namespace vmsg::vmm
