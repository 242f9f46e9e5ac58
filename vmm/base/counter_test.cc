#include "vmm/base/counter.h"

#include <cstdint>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

TEST(CounterTest, StartsAtZeroAndAdds) {
  Counter counter;
  EXPECT_EQ(counter.value(), 0u);
  counter.Add();
  counter.Add(41);
  EXPECT_EQ(counter.value(), 42u);
}

TEST(CounterTest, WrapsAtTheEnd) {
  Counter counter;
  counter.Add(UINT64_MAX);
  counter.Add(2);
  EXPECT_EQ(counter.value(), 1u);
}

TEST(CounterTest, LosesNoAddOfAnyThread) {
  Counter counter;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&counter] {
      for (int n = 0; n < 10000; ++n) counter.Add();
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(counter.value(), 30000u);
}

TEST(OwnedCounterTest, OtherThreadsSeeItGrow) {
  OwnedCounter counter;
  std::thread owner([&counter] {
    for (int n = 0; n < 10000; ++n) counter.Add();
  });
  uint64_t last = 0;
  while (last < 10000) {
    const uint64_t now = counter.value();
    ASSERT_GE(now, last);
    last = now;
  }
  owner.join();
  EXPECT_EQ(counter.value(), 10000u);
}

}  // namespace
}  // namespace vmsg::vmm
