#include "vmm/interrupt/in_process_interrupt_controller.h"

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

std::unique_ptr<MsiRoute> NewRoute(InProcessInterruptController& controller) {
  return controller.CreateMsiRoute().value();
}

TEST(InProcessInterruptControllerTest, TriggerHandsTheMessageToTheSink) {
  std::vector<MsiMessage> seen;
  InProcessInterruptController controller(
      [&seen](const MsiMessage& message) { seen.push_back(message); });
  const auto route = NewRoute(controller);
  const MsiMessage message = {
      .address = 0xFEE0'1000, .data = 0x41, .requester_id = 0x08};

  ASSERT_TRUE(route->Update(message).ok());
  EXPECT_TRUE(seen.empty());
  ASSERT_TRUE(route->Trigger().ok());
  ASSERT_TRUE(route->Trigger().ok());

  EXPECT_EQ(seen, (std::vector<MsiMessage>{message, message}));
}

TEST(InProcessInterruptControllerTest, TriggerWithoutMessageIsRefused) {
  int calls = 0;
  InProcessInterruptController controller(
      [&calls](const MsiMessage&) { ++calls; });
  const auto route = NewRoute(controller);

  EXPECT_EQ(route->Trigger().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(calls, 0);
}

TEST(InProcessInterruptControllerTest, RoutesKeepTheirOwnMessages) {
  std::vector<uint32_t> data;
  InProcessInterruptController controller(
      [&data](const MsiMessage& message) { data.push_back(message.data); });
  const auto first = NewRoute(controller);
  const auto second = NewRoute(controller);

  ASSERT_TRUE(first->Update({.data = 1}).ok());
  ASSERT_TRUE(second->Update({.data = 2}).ok());
  ASSERT_TRUE(second->Trigger().ok());
  ASSERT_TRUE(first->Trigger().ok());

  EXPECT_EQ(data, (std::vector<uint32_t>{2, 1}));
}

// A sink may raise another interrupt or reprogram the route.
TEST(InProcessInterruptControllerTest, SinkMayUseTheRouteThatCalledIt) {
  MsiRoute* route = nullptr;
  std::vector<uint32_t> data;
  InProcessInterruptController controller([&](const MsiMessage& message) {
    data.push_back(message.data);
    if (message.data == 1) {
      EXPECT_TRUE(route->Update({.data = 2}).ok());
      EXPECT_TRUE(route->Trigger().ok());
    }
  });
  const auto owned = NewRoute(controller);
  route = owned.get();

  ASSERT_TRUE(route->Update({.data = 1}).ok());
  ASSERT_TRUE(route->Trigger().ok());

  EXPECT_EQ(data, (std::vector<uint32_t>{1, 2}));
}

// Address and data of a message always belong together.
TEST(InProcessInterruptControllerTest, RacingUpdateIsSeenWholeOrNotAtAll) {
  constexpr uint32_t kUpdates = 5000;
  std::atomic<uint64_t> torn = 0;
  std::atomic<uint64_t> calls = 0;
  InProcessInterruptController controller([&](const MsiMessage& message) {
    calls.fetch_add(1);
    if (message.address != message.data) torn.fetch_add(1);
  });
  const auto route = NewRoute(controller);
  ASSERT_TRUE(route->Update({.address = 0, .data = 0}).ok());

  std::atomic<bool> done = false;
  std::thread trigger([&] {
    do {
      EXPECT_TRUE(route->Trigger().ok());
    } while (!done.load());
  });
  for (uint32_t i = 1; i <= kUpdates; ++i) {
    EXPECT_TRUE(route->Update({.address = i, .data = i}).ok());
  }
  done.store(true);
  trigger.join();

  EXPECT_EQ(torn.load(), 0u);
  EXPECT_GE(calls.load(), 1u);
}

}  // namespace
}  // namespace vmsg::vmm
