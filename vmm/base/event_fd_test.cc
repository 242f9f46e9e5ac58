#include "vmm/base/event_fd.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <thread>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

bool Readable(const EventFd& event) {
  pollfd entry = {.fd = event.fd(), .events = POLLIN, .revents = 0};
  return poll(&entry, 1, 0) == 1;
}

TEST(EventFdTest, IsReadableFromSignalToDrain) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  EXPECT_FALSE(Readable(event));
  event.Signal();
  EXPECT_TRUE(Readable(event));
  EXPECT_EQ(event.Drain(), 1u);
  EXPECT_FALSE(Readable(event));
}

TEST(EventFdTest, DrainWithoutSignalReturnsZeroAtOnce) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  EXPECT_EQ(event.Drain(), 0u);
}

TEST(EventFdTest, SignalsBeforeADrainMerge) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  for (int i = 0; i < 5; ++i) event.Signal();
  EXPECT_EQ(event.Drain(), 5u);
  EXPECT_EQ(event.Drain(), 0u);
}

TEST(EventFdTest, SignalAtTheMaximumDoesNotBlock) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  const uint64_t maximum = UINT64_MAX - 1;
  ASSERT_EQ(write(event.fd(), &maximum, sizeof(maximum)),
            static_cast<ssize_t>(sizeof(maximum)));
  event.Signal();
  EXPECT_EQ(event.Drain(), maximum);
}

TEST(EventFdTest, CountsSignalsOfAllThreads) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&event] {
      for (int n = 0; n < 100; ++n) event.Signal();
    });
  }
  uint64_t total = 0;
  while (total < 300) total += event.Drain();
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(total, 300u);
  EXPECT_EQ(event.Drain(), 0u);
}

TEST(EventFdTest, IsNotInheritedByPrograms) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  EXPECT_NE(fcntl(event.fd(), F_GETFD) & FD_CLOEXEC, 0);
}

TEST(EventFdTest, MovingKeepsTheCount) {
  ASSERT_OK_AND_ASSIGN(EventFd event, EventFd::Create());
  event.Signal();
  const EventFd moved = std::move(event);
  EXPECT_EQ(moved.Drain(), 1u);
}

TEST(EventFdTest, CreateReportsThatNoDescriptorIsLeft) {
  rlimit saved;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &saved), 0);
  const rlimit none = {.rlim_cur = 0, .rlim_max = saved.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const auto event = EventFd::Create();
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &saved), 0);
  EXPECT_THAT(event, StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(EventFdDeathTest, UseAfterMoveIsABug) {
  ASSERT_OK_AND_ASSIGN(EventFd event, EventFd::Create());
  const EventFd moved = std::move(event);
  EXPECT_DEATH(event.Signal(), "write to an eventfd");
}

}  // namespace
}  // namespace vmsg::vmm
