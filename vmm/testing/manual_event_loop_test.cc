#include "vmm/testing/manual_event_loop.h"

#include <chrono>
#include <memory>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_fd.h"
#include "vmm/testing/fake_clock.h"
#include "vmm/testing/status_matchers.h"

// What it shares with the real loop is in vmm/event/*_contract.cc.

namespace vmsg::vmm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;

TEST(ManualEventLoopTest, RunUntilIdleFollowsChainsToTheirEnd) {
  ManualEventLoop loop;
  std::vector<int> ran;
  loop.Post([&] {
    ran.push_back(1);
    loop.Post([&] {
      ran.push_back(2);
      loop.Post([&] { ran.push_back(3); });
    });
  });
  EXPECT_EQ(loop.RunUntilIdle(), 3);
  EXPECT_THAT(ran, ElementsAre(1, 2, 3));
  EXPECT_EQ(loop.RunUntilIdle(), 0);
}

TEST(ManualEventLoopTest, EachTimerSeesItsOwnTime) {
  ManualEventLoop loop;
  const MonotonicTime start = loop.clock().Now();
  std::vector<Duration> fired;
  std::unique_ptr<Timer> periodic;
  periodic = loop.CreateTimer([&] {
    fired.push_back(loop.clock().Now() - start);
    periodic->Arm(milliseconds(40));
  });
  periodic->Arm(milliseconds(40));
  loop.AdvanceTime(milliseconds(100));
  EXPECT_THAT(fired, ElementsAre(milliseconds(40), milliseconds(80)));
  EXPECT_EQ(loop.clock().Now() - start, milliseconds(100));
  loop.AdvanceTime(milliseconds(20));
  EXPECT_THAT(fired, ElementsAre(milliseconds(40), milliseconds(80),
                                 milliseconds(120)));
}

TEST(ManualEventLoopTest, AdvanceTimeRunsWhatWasPendingBeforeTimePasses) {
  ManualEventLoop loop;
  const MonotonicTime start = loop.clock().Now();
  Duration ran_at = Duration(-1);
  loop.Post([&] { ran_at = loop.clock().Now() - start; });
  loop.AdvanceTime(seconds(1));
  EXPECT_EQ(ran_at, Duration::zero());
}

TEST(ManualEventLoopTest, TimeDoesNotPassByItself) {
  ManualEventLoop loop;
  bool fired = false;
  const auto timer = loop.CreateTimer([&] { fired = true; });
  timer->Arm(Duration(1));
  loop.RunUntilIdle();
  EXPECT_FALSE(fired);
}

TEST(ManualEventLoopTest, SeveralLoopsCanShareAClock) {
  FakeClock clock;
  ManualEventLoop a(&clock);
  ManualEventLoop b(&clock);
  bool fired = false;
  const auto timer = b.CreateTimer([&] { fired = true; });
  timer->Arm(seconds(1));
  a.AdvanceTime(seconds(1));
  EXPECT_FALSE(fired);
  b.RunUntilIdle();
  EXPECT_TRUE(fired);
}

TEST(ManualEventLoopTest, AdvanceTimeEndsOnAStoppedLoop) {
  ManualEventLoop loop;
  std::unique_ptr<Timer> timer;
  int fired = 0;
  timer = loop.CreateTimer([&] {
    ++fired;
    timer->Arm(seconds(1));
    loop.Stop();
  });
  timer->Arm(seconds(1));
  loop.AdvanceTime(seconds(10));
  EXPECT_EQ(fired, 1);
}

TEST(ManualEventLoopDeathTest, ALoopThatNeverGetsIdleIsReported) {
  ManualEventLoop loop;
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  event.Signal();
  const auto watch = loop.Watch(event.fd(), FdEvents::kReadable, [](FdEvents) {
    // Forgets to drain.
  });
  ASSERT_OK(watch);
  EXPECT_DEATH(loop.RunUntilIdle(), "never gets idle");
}

}  // namespace
}  // namespace vmsg::vmm
