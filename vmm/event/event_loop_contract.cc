// The contract of EventLoop: threads and posting.

#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/event_fd.h"
#include "vmm/event/event_loop.h"
#include "vmm/event/event_loop_contract_fixture.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class EventLoopTest : public EventLoopContractTest {};

VMSG_FOR_EACH_EVENT_LOOP(EventLoopTest);

// --- The loop's thread ---

TEST_P(EventLoopTest, EveryThreadIsInsideWhileNobodyRunsTheLoop) {
  EXPECT_TRUE(loop().IsInLoopThread());
  std::thread([this] { EXPECT_TRUE(loop().IsInLoopThread()); }).join();
  RunOnce();
  std::thread([this] { EXPECT_TRUE(loop().IsInLoopThread()); }).join();
}

TEST_P(EventLoopTest, OnlyTheRunningThreadIsInsideDuringARound) {
  bool ran = false;
  loop().Post([&] {
    EXPECT_TRUE(loop().IsInLoopThread());
    std::thread([this] { EXPECT_FALSE(loop().IsInLoopThread()); }).join();
    ran = true;
  });
  RunOnce();
  EXPECT_TRUE(ran);
}

TEST_P(EventLoopTest, GoesByTheInjectedClock) {
  EXPECT_EQ(&loop().clock(), &clock());
}

// --- Posting ---

TEST_P(EventLoopTest, APostedClosureRunsOnceAndNotInsidePost) {
  EXPECT_TRUE(loop().Post(Note("a")));
  EXPECT_THAT(TakeJournal(), IsEmpty());
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("a"));
  EXPECT_EQ(RunOnce(), 0);
  EXPECT_THAT(TakeJournal(), IsEmpty());
}

TEST_P(EventLoopTest, PostsOfOneThreadRunInOrder) {
  loop().Post(Note("a"));
  loop().Post(Note("b"));
  loop().Post(Note("c"));
  EXPECT_EQ(RunOnce(), 3);
  EXPECT_THAT(TakeJournal(), ElementsAre("a", "b", "c"));
}

TEST_P(EventLoopTest, WhatAClosurePostsRunsInTheNextRound) {
  loop().Post([this] {
    journal_.push_back("a");
    loop().Post(Note("b"));
  });
  loop().Post(Note("c"));
  EXPECT_EQ(RunOnce(), 2);
  EXPECT_THAT(TakeJournal(), ElementsAre("a", "c"));
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("b"));
}

TEST_P(EventLoopTest, EachThreadsPostsRunInItsOrder) {
  constexpr int kThreads = 3;
  constexpr int kPosts = 500;
  std::vector<int> last(kThreads, -1);
  int ran = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int n = 0; n < kPosts; ++n) {
        ASSERT_TRUE(loop().Post([&, t, n] {
          EXPECT_EQ(last[t], n - 1);
          last[t] = n;
          ++ran;
        }));
      }
    });
  }
  while (ran < kThreads * kPosts) RunOnce();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(RunOnce(), 0);
  EXPECT_THAT(last, ElementsAre(kPosts - 1, kPosts - 1, kPosts - 1));
}

TEST_P(EventLoopTest, AClosureIsDestroyedAfterItRan) {
  Sentinel sentinel;
  const std::weak_ptr<bool> alive = sentinel.Watch();
  loop().Post([hold = sentinel.Hold()] { EXPECT_TRUE(*hold); });
  EXPECT_FALSE(alive.expired());
  RunOnce();
  EXPECT_TRUE(alive.expired());
}

TEST_P(EventLoopTest, PostAfterStopReturnsFalseAndDestroysTheClosure) {
  Stop();
  Sentinel sentinel;
  const std::weak_ptr<bool> alive = sentinel.Watch();
  EXPECT_FALSE(loop().Post(
      [this, hold = sentinel.Hold()] { journal_.push_back("ran"); }));
  EXPECT_TRUE(alive.expired());
  RunOnce();
  EXPECT_THAT(TakeJournal(), IsEmpty());
}

TEST_P(EventLoopTest, ClosuresQueuedAtStopAreDestroyedWithoutRunning) {
  Sentinel sentinel;
  const std::weak_ptr<bool> alive = sentinel.Watch();
  EXPECT_TRUE(loop().Post(
      [this, hold = sentinel.Hold()] { journal_.push_back("ran"); }));
  Stop();
  EXPECT_EQ(RunOnce(), 0);
  EXPECT_TRUE(alive.expired());
  EXPECT_THAT(TakeJournal(), IsEmpty());
}

TEST_P(EventLoopTest, StopInsideARoundLetsThatRoundFinish) {
  loop().Post([this] {
    Stop();
    EXPECT_FALSE(loop().Post(Note("late")));
  });
  loop().Post(Note("same round"));
  EXPECT_EQ(RunOnce(), 2);
  EXPECT_THAT(TakeJournal(), ElementsAre("same round"));
  EXPECT_EQ(RunOnce(), 0);
}

TEST_P(EventLoopTest, StoppingTwiceIsAllowed) {
  Stop();
  Stop();
  EXPECT_FALSE(loop().Post([] {}));
}

TEST_P(EventLoopTest, ClosuresStillQueuedAreDestroyedWithTheLoop) {
  Sentinel sentinel;
  const std::weak_ptr<bool> alive = sentinel.Watch();
  loop().Post([hold = sentinel.Hold()] {});
  DestroyLoop();
  EXPECT_TRUE(alive.expired());
}

TEST_P(EventLoopTest, ADroppedClosureMayOwnWhatBelongsToTheLoop) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  std::shared_ptr<FdWatch> watch =
      *loop().Watch(event.fd(), FdEvents::kReadable, [](FdEvents) {});
  std::shared_ptr<Timer> timer = loop().CreateTimer([] {});
  std::shared_ptr<WakeSource> before = loop().CreateWakeSource([] {});
  std::shared_ptr<WakeSource> after = loop().CreateWakeSource([] {});
  timer->Arm(seconds(1));
  before->Signal();
  loop().Post([watch = std::move(watch), timer = std::move(timer),
               before = std::move(before), after] {});
  after->Signal();
  after.reset();
  DestroyLoop();  // Checks that nothing is left, and the sanitizers do.
}

}  // namespace
}  // namespace vmsg::vmm
