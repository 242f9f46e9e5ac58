#include "vmm/testing/fake_clock.h"

#include <chrono>

#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

TEST(FakeClockTest, StandsStillUntilItIsMoved) {
  FakeClock clock;
  const MonotonicTime start = clock.Now();
  EXPECT_GT(start, MonotonicTime());
  EXPECT_EQ(clock.Now(), start);
  clock.Advance(std::chrono::nanoseconds(1));
  EXPECT_EQ(clock.Now() - start, std::chrono::nanoseconds(1));
  clock.Advance(std::chrono::seconds(2));
  EXPECT_EQ(clock.Now() - start, std::chrono::nanoseconds(2'000'000'001));
}

TEST(FakeClockDeathTest, GoingBackIsABug) {
  FakeClock clock;
  EXPECT_DEATH(clock.Advance(std::chrono::nanoseconds(-1)), "by >=");
}

}  // namespace
}  // namespace vmsg::vmm
