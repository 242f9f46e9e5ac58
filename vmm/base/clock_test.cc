#include "vmm/base/clock.h"

#include <time.h>

#include <chrono>

#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

MonotonicTime KernelTime() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return MonotonicTime(std::chrono::seconds(now.tv_sec) +
                       std::chrono::nanoseconds(now.tv_nsec));
}

// Kernel timeouts are computed from it, so it has to be the kernel's own clock.
TEST(SteadyClockTest, IsTheMonotonicClockOfTheKernel) {
  const SteadyClock clock;
  const MonotonicTime before = KernelTime();
  const MonotonicTime now = clock.Now();
  const MonotonicTime after = KernelTime();
  EXPECT_LE(before, now);
  EXPECT_LE(now, after);
}

}  // namespace
}  // namespace vmsg::vmm
