// The contract of WakeSource.

#include <atomic>
#include <memory>
#include <thread>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/event/event_loop.h"
#include "vmm/event/event_loop_contract_fixture.h"

namespace vmsg::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class WakeSourceTest : public EventLoopContractTest {};

VMSG_FOR_EACH_EVENT_LOOP(WakeSourceTest);

TEST_P(WakeSourceTest, ASignalRunsTheCallbackOnceAndNotInsideSignal) {
  const auto source = loop().CreateWakeSource(Note("woken"));
  EXPECT_EQ(RunOnce(), 0);
  source->Signal();
  EXPECT_THAT(TakeJournal(), IsEmpty());
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("woken"));
  EXPECT_EQ(RunOnce(), 0);
}

TEST_P(WakeSourceTest, SignalsBeforeTheRunMerge) {
  const auto source = loop().CreateWakeSource(Note("woken"));
  for (int i = 0; i < 5; ++i) source->Signal();
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(RunOnce(), 0);
  source->Signal();
  EXPECT_EQ(RunOnce(), 1);
}

TEST_P(WakeSourceTest, ASignalDuringTheCallbackGivesAnotherRun) {
  int runs = 0;
  std::unique_ptr<WakeSource> source;
  source = loop().CreateWakeSource([&] {
    if (++runs < 3) source->Signal();
  });
  source->Signal();
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(RunOnce(), 0);
}

TEST_P(WakeSourceTest, SignalsAndPostsRunInTheOrderInWhichTheyCame) {
  const auto x = loop().CreateWakeSource(Note("x"));
  const auto y = loop().CreateWakeSource(Note("y"));
  loop().Post(Note("a"));
  y->Signal();
  loop().Post(Note("b"));
  x->Signal();
  y->Signal();
  loop().Post(Note("c"));
  EXPECT_EQ(RunOnce(), 5);
  EXPECT_THAT(TakeJournal(), ElementsAre("a", "y", "b", "x", "c"));
}

// Only the signal orders the two threads in this direction, and ThreadSanitizer
// looks at it.
TEST_P(WakeSourceTest, WhatTheSignallingThreadWroteIsVisibleToTheRun) {
  constexpr int kLast = 100;
  int written = 0;
  std::atomic<int> seen = 0;
  const auto source = loop().CreateWakeSource(
      [&] { seen.store(written, std::memory_order_release); });
  std::thread signaller([&] {
    for (int n = 1; n <= kLast; ++n) {
      written = n;
      source->Signal();
      while (seen.load(std::memory_order_acquire) != n) {
        std::this_thread::yield();
      }
    }
  });
  while (seen.load(std::memory_order_relaxed) != kLast) {
    RunOnce();
    std::this_thread::yield();
  }
  signaller.join();
}

TEST_P(WakeSourceTest, WhatWasWrittenBeforeAMergedSignalIsVisibleToTheRun) {
  int written = 0;
  int seen = 0;
  std::atomic<bool> merged = false;
  const auto source = loop().CreateWakeSource([&] { seen = written; });
  source->Signal();
  std::thread signaller([&] {
    written = 1;
    source->Signal();
    merged.store(true, std::memory_order_relaxed);  // Orders nothing.
  });
  while (!merged.load(std::memory_order_relaxed)) std::this_thread::yield();
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(seen, 1);
  signaller.join();
}

TEST_P(WakeSourceTest, ASourceMayBeDestroyedInItsOwnCallback) {
  Sentinel sentinel;
  const std::weak_ptr<bool> alive = sentinel.Watch();
  std::unique_ptr<WakeSource> source;
  source = loop().CreateWakeSource([&, hold = sentinel.Hold()] {
    source.reset();
    EXPECT_TRUE(*hold);
    journal_.push_back("woken");
  });
  source->Signal();
  RunUntilIdle();
  EXPECT_THAT(TakeJournal(), ElementsAre("woken"));
  EXPECT_TRUE(alive.expired());
}

TEST_P(WakeSourceTest,
       ASourceSignalledThenDestroyedInItsCallbackIsNotRunAgain) {
  std::unique_ptr<WakeSource> source;
  source = loop().CreateWakeSource([&] {
    journal_.push_back("woken");
    source->Signal();
    source.reset();
  });
  source->Signal();
  RunUntilIdle();
  EXPECT_THAT(TakeJournal(), ElementsAre("woken"));
}

TEST_P(WakeSourceTest, ASourceDestroyedWhileSignalledDoesNotRun) {
  Sentinel sentinel;
  const std::weak_ptr<bool> alive = sentinel.Watch();
  auto source = loop().CreateWakeSource(
      [this, hold = sentinel.Hold()] { journal_.push_back("woken"); });
  source->Signal();
  source.reset();
  EXPECT_TRUE(alive.expired());
  EXPECT_EQ(RunOnce(), 0);
  EXPECT_THAT(TakeJournal(), IsEmpty());
}

TEST_P(WakeSourceTest, ASourceDestroyedEarlierInItsRoundDoesNotRun) {
  auto source = loop().CreateWakeSource(Note("woken"));
  loop().Post([&] { source.reset(); });
  source->Signal();
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), IsEmpty());
}

TEST_P(WakeSourceTest, ASignalAfterStopHasNoEffect) {
  const auto source = loop().CreateWakeSource(Note("woken"));
  Stop();
  source->Signal();
  source->Signal();
  RunOnce();
  EXPECT_THAT(TakeJournal(), IsEmpty());
}

TEST_P(WakeSourceTest, ASourceSignalledBeforeStopIsLetGo) {
  auto source = loop().CreateWakeSource(Note("woken"));
  source->Signal();
  Stop();
  RunOnce();
  source->Signal();
  source.reset();
  EXPECT_THAT(TakeJournal(), IsEmpty());
}

}  // namespace
}  // namespace vmsg::vmm
