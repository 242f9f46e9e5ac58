#include "vmm/event/epoll_event_loop.h"

#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_fd.h"
#include "vmm/event/event_loop.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using std::chrono::hours;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::minutes;

constexpr Duration kNoLimit = Duration(-1);

class EpollEventLoopTest : public ::testing::Test {
 protected:
  EpollEventLoopTest() : loop_(*EpollEventLoop::Create()) {}

  const std::unique_ptr<EpollEventLoop> loop_;
};

// A loop that runs on a thread of its own until the end of the scope.
class RunningLoop {
 public:
  explicit RunningLoop(EpollEventLoop* loop)
      : loop_(loop), thread_([loop] { loop->Run(); }) {}
  ~RunningLoop() {
    loop_->Stop();
    thread_.join();
  }

 private:
  EpollEventLoop* const loop_;
  std::thread thread_;
};

TEST_F(EpollEventLoopTest, CreateReportsThatNoDescriptorIsLeft) {
  rlimit saved;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &saved), 0);
  const rlimit none = {.rlim_cur = 0, .rlim_max = saved.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto loop = EpollEventLoop::Create();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &saved), 0);
  EXPECT_THAT(loop, StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST_F(EpollEventLoopTest, RunReturnsAtOnceWhenStoppedBefore) {
  bool destroyed = false;
  struct AtEnd {
    bool* flag;
    explicit AtEnd(bool* f) : flag(f) {}
    AtEnd(AtEnd&& other) noexcept : flag(std::exchange(other.flag, nullptr)) {}
    ~AtEnd() {
      if (flag != nullptr) *flag = true;
    }
  };
  ASSERT_TRUE(loop_->Post([end = AtEnd(&destroyed)] { ADD_FAILURE(); }));
  loop_->Stop();
  loop_->Run();
  EXPECT_TRUE(destroyed);
  loop_->Run();
}

TEST_F(EpollEventLoopTest, StopFromAnotherThreadEndsAWaitingRun) {
  std::thread stopper([this] {
    std::this_thread::sleep_for(milliseconds(20));
    loop_->Stop();
  });
  loop_->Run();
  stopper.join();
  EXPECT_FALSE(loop_->Post([] {}));
}

TEST_F(EpollEventLoopTest, StopInACallbackEndsTheRunAfterThatRound) {
  int ran = 0;
  loop_->Post([&] {
    ++ran;
    loop_->Stop();
  });
  loop_->Post([&] { ++ran; });
  loop_->Run();
  EXPECT_EQ(ran, 2);
}

TEST_F(EpollEventLoopTest, RunOnceWaitsNoLongerThanItMay) {
  const SteadyClock clock;
  const MonotonicTime start = clock.Now();
  EXPECT_EQ(loop_->RunOnce(milliseconds(20)), 0);
  EXPECT_GE(clock.Now() - start, milliseconds(20));
  EXPECT_EQ(loop_->RunOnce(Duration::zero()), 0);
}

TEST_F(EpollEventLoopTest, ATimerEndsAWaitAndNeverFiresEarly) {
  const SteadyClock clock;
  MonotonicTime fired;
  const auto timer = loop_->CreateTimer([&] { fired = clock.Now(); });
  // Delays that are no multiple of what any timeout is counted in.
  for (const Duration delay :
       {Duration(1), Duration(microseconds(137)), Duration(1'234'567)}) {
    const MonotonicTime armed = clock.Now();
    fired = MonotonicTime();
    timer->Arm(delay);
    while (fired == MonotonicTime()) loop_->RunOnce(kNoLimit);
    EXPECT_GE(fired - armed, delay);
  }
}

TEST_F(EpollEventLoopTest, ATimerCostsOneWait) {
  int fired = 0;
  const auto timer = loop_->CreateTimer([&] { ++fired; });
  timer->Arm(milliseconds(5));
  EXPECT_EQ(loop_->RunOnce(kNoLimit), 1);
  EXPECT_EQ(loop_->stats().waits, 1u);
}

TEST_F(EpollEventLoopTest, ADistantTimerDoesNotKeepRunOnce) {
  const auto timer = loop_->CreateTimer([] { ADD_FAILURE(); });
  timer->Arm(Duration::max());
  EXPECT_EQ(loop_->RunOnce(milliseconds(1)), 0);
}

TEST_F(EpollEventLoopTest, ADoorbellCostsOneWaitNoReadAndNoWakeupWrite) {
  ASSERT_OK_AND_ASSIGN(const EventFd doorbell, EventFd::Create());
  int rings = 0;
  const auto watch = loop_->WatchEventFd(&doorbell, [&] { ++rings; });
  ASSERT_OK(watch);
  for (int i = 0; i < 10; ++i) {
    doorbell.Signal();
    EXPECT_EQ(loop_->RunOnce(kNoLimit), 1);
  }
  EXPECT_EQ(rings, 10);
  EXPECT_EQ(loop_->stats().waits, 10u);
  EXPECT_EQ(loop_->stats().wakeup_writes, 0u);
  EXPECT_EQ(doorbell.Drain(), 10u) << "the count was read meanwhile";
}

TEST_F(EpollEventLoopTest, WhatACallbackQueuesRunsBeforeTheNextWait) {
  ASSERT_OK_AND_ASSIGN(const EventFd doorbell, EventFd::Create());
  int ran = 0;
  const auto source = loop_->CreateWakeSource([&] { ++ran; });
  const auto posting = loop_->CreateWakeSource([&] {
    source->Signal();
    loop_->Post([&] { ++ran; });
  });
  const auto watch =
      loop_->Watch(doorbell.fd(), FdEvents::kReadable, [&](FdEvents) {
        doorbell.Drain();
        posting->Signal();
      });
  ASSERT_OK(watch);
  doorbell.Signal();
  EXPECT_EQ(loop_->RunOnce(kNoLimit), 2);
  // Without limit: it would wait for ever if it waited.
  EXPECT_EQ(loop_->RunOnce(kNoLimit), 2);
  EXPECT_EQ(ran, 2);
  EXPECT_EQ(loop_->stats().wakeup_writes, 0u);
}

TEST_F(EpollEventLoopTest, SignalsToALoopThatDoesNotWaitCostNoWrite) {
  const auto source = loop_->CreateWakeSource([] {});
  std::thread([&] {
    source->Signal();
    loop_->Post([] {});
  }).join();
  EXPECT_EQ(loop_->RunOnce(kNoLimit), 2);
  EXPECT_EQ(loop_->stats().wakeup_writes, 0u);
}

TEST_F(EpollEventLoopTest, ASignalWakesAWaitingLoop) {
  std::atomic<int> runs = 0;
  const auto source = loop_->CreateWakeSource([&] { ++runs; });
  {
    const RunningLoop running(loop_.get());
    for (int n = 1; n <= 200; ++n) {
      source->Signal();
      while (runs != n) std::this_thread::yield();
    }
  }
  // And one write of Stop().
  EXPECT_LE(loop_->stats().wakeup_writes, 201u);
}

// Each wait of the loop is ended by one write at most, however many threads
// find it waiting at once.
TEST_F(EpollEventLoopTest, WakeupsOfSeveralThreadsCoalesce) {
  constexpr int kThreads = 3;
  constexpr int kSignals = 2000;
  std::atomic<int> closures = 0;
  std::atomic<int> runs = 0;
  const auto source = loop_->CreateWakeSource([&] { ++runs; });
  {
    const RunningLoop running(loop_.get());
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.emplace_back([&] {
        for (int n = 0; n < kSignals; ++n) {
          source->Signal();
          ASSERT_TRUE(loop_->Post([&] { ++closures; }));
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    while (closures != kThreads * kSignals) std::this_thread::yield();
  }
  EXPECT_GE(runs, 1);
  const EpollEventLoop::Stats stats = loop_->stats();
  EXPECT_LE(stats.wakeup_writes, stats.waits);
}

TEST_F(EpollEventLoopTest, PostsThatRaceStopRunOrAreDestroyed) {
  struct Token {
    explicit Token(std::atomic<int>* c) : count(c) { ++*count; }
    Token(Token&& other) noexcept
        : count(std::exchange(other.count, nullptr)) {}
    ~Token() {
      if (count != nullptr) --*count;
    }
    std::atomic<int>* count;
  };
  std::atomic<int> alive = 0;
  std::atomic<int> ran = 0;
  int taken = 0;
  std::thread runner([&] { loop_->Run(); });
  std::thread poster([&] {
    while (loop_->Post([&, token = Token(&alive)] { ++ran; })) ++taken;
  });
  while (ran < 100) std::this_thread::yield();
  loop_->Stop();
  runner.join();
  poster.join();
  EXPECT_EQ(alive, 0);
  EXPECT_LE(ran, taken);
}

TEST_F(EpollEventLoopTest, MoreDescriptorsThanARoundTakesAllGetTheirTurn) {
  constexpr size_t kCount = 150;
  std::vector<EventFd> events;
  std::vector<int> calls(kCount, 0);
  std::vector<std::unique_ptr<FdWatch>> watches;
  for (size_t i = 0; i < kCount; ++i) {
    ASSERT_OK_AND_ASSIGN(EventFd event, EventFd::Create());
    event.Signal();
    events.push_back(std::move(event));
    ASSERT_OK_AND_ASSIGN(auto watch,
                         loop_->Watch(events.back().fd(), FdEvents::kReadable,
                                      [&calls, i](FdEvents) { ++calls[i]; }));
    watches.push_back(std::move(watch));
  }
  // Nobody reads: all stay ready, and none may starve.
  for (int round = 0; round < 3; ++round) loop_->RunOnce(Duration::zero());
  for (size_t i = 0; i < kCount; ++i) EXPECT_GE(calls[i], 1) << i;
}

TEST_F(EpollEventLoopTest, WatchesAndTimersAreUsableAfterTheRun) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  std::unique_ptr<FdWatch> watch;
  std::unique_ptr<Timer> timer;
  {
    const RunningLoop running(loop_.get());
    std::atomic<bool> ready = false;
    loop_->Post([&] {
      watch = *loop_->Watch(event.fd(), FdEvents::kReadable, [](FdEvents) {});
      timer = loop_->CreateTimer([] {});
      timer->Arm(hours(1));
      ready = true;
    });
    while (!ready) std::this_thread::yield();
  }
  EXPECT_TRUE(timer->armed());
  watch->SetEvents(FdEvents::kNone);
}

using EpollEventLoopDeathTest = EpollEventLoopTest;

TEST_F(EpollEventLoopDeathTest, UseFromAnotherThreadIsABug) {
  const auto timer = loop_->CreateTimer([] {});
  loop_->Post([&] {
    std::thread([&] {
      EXPECT_DEATH(timer->Arm(minutes(1)), "IsInLoopThread");
      EXPECT_DEATH(loop_->CreateTimer([] {}), "IsInLoopThread");
      EXPECT_DEATH(loop_->CreateWakeSource([] {}), "IsInLoopThread");
      EXPECT_DEATH((void)loop_->Watch(0, FdEvents::kReadable, [](FdEvents) {}),
                   "IsInLoopThread");
    }).join();
  });
  EXPECT_EQ(loop_->RunOnce(Duration::zero()), 1);
}

}  // namespace
}  // namespace vmsg::vmm
