#include "vmm/event/epoll_waiter.h"

#include <sys/epoll.h>
#include <time.h>

#include <algorithm>
#include <array>
#include <chrono>

#include "gtest/gtest.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/unique_fd.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

// Both system calls: the parameter says whether epoll_pwait2 is used.
class EpollWaiterTest : public ::testing::TestWithParam<bool> {
 protected:
  EpollWaiterTest() : epoll_fd_(epoll_create1(EPOLL_CLOEXEC)) {}

  const UniqueFd epoll_fd_;
  EpollWaiter waiter_{GetParam()};
  std::array<epoll_event, 4> events_;
};

INSTANTIATE_TEST_SUITE_P(Each, EpollWaiterTest, ::testing::Bool(),
                         [](const auto& test) {
                           return test.param ? "Pwait2" : "Milliseconds";
                         });

TEST_P(EpollWaiterTest, NeverReturnsEarly) {
  const SteadyClock clock;
  for (const Duration timeout : {Duration(1), Duration(999'999),
                                 Duration(1'000'001), Duration(2'500'000)}) {
    const MonotonicTime start = clock.Now();
    EXPECT_EQ(waiter_.Wait(epoll_fd_.get(), events_, timeout), 0);
    EXPECT_GE(clock.Now() - start, timeout);
  }
}

TEST_P(EpollWaiterTest, ReturnsEventsForEveryKindOfTimeout) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  epoll_event wanted = {.events = EPOLLIN, .data = {}};
  wanted.data.u64 = 42;
  ASSERT_EQ(epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, event.fd(), &wanted), 0);
  EXPECT_EQ(waiter_.Wait(epoll_fd_.get(), events_, Duration::zero()), 0);
  event.Signal();
  for (const Duration timeout :
       {Duration::zero(), Duration(-1), Duration(1), Duration::max()}) {
    events_[0].data.u64 = 0;
    EXPECT_EQ(waiter_.Wait(epoll_fd_.get(), events_, timeout), 1);
    EXPECT_EQ(events_[0].data.u64, 42u);
  }
}

TEST_P(EpollWaiterTest, SubMillisecondWaitsAreShortWhereTheKernelCan) {
  if (!GetParam()) GTEST_SKIP() << "epoll_wait counts milliseconds";
  epoll_event event;
  const timespec probe = {.tv_sec = 0, .tv_nsec = 1};
  if (epoll_pwait2(epoll_fd_.get(), &event, 1, &probe, nullptr) < 0) {
    GTEST_SKIP() << "no epoll_pwait2";
  }
  // The shortest of many, because this machine may be busy.
  const SteadyClock clock;
  Duration shortest = Duration::max();
  for (int i = 0; i < 100; ++i) {
    const MonotonicTime start = clock.Now();
    waiter_.Wait(epoll_fd_.get(), events_, std::chrono::microseconds(10));
    shortest = std::min(shortest, Duration(clock.Now() - start));
  }
  EXPECT_LT(shortest, std::chrono::milliseconds(1));
}

}  // namespace
}  // namespace vmsg::vmm
