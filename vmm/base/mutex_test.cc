#include "vmm/base/mutex.h"

#include <chrono>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

struct Guarded {
  Mutex mutex;
  CondVar changed;
  int value ABSL_GUARDED_BY(mutex) = 0;
};

TEST(MutexTest, KeepsThreadsApart) {
  Guarded guarded;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&guarded] {
      for (int n = 0; n < 10000; ++n) {
        MutexLock lock(&guarded.mutex);
        ++guarded.value;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  MutexLock lock(&guarded.mutex);
  EXPECT_EQ(guarded.value, 30000);
}

TEST(CondVarTest, WaitReturnsAfterNotifyWithTheLockHeld) {
  Guarded guarded;
  std::thread other([&guarded] {
    MutexLock lock(&guarded.mutex);
    guarded.value = 1;
    guarded.changed.NotifyOne();
    while (guarded.value != 2) guarded.changed.Wait(&guarded.mutex);
    guarded.value = 3;
  });
  {
    MutexLock lock(&guarded.mutex);
    while (guarded.value != 1) guarded.changed.Wait(&guarded.mutex);
    guarded.value = 2;
    guarded.changed.NotifyAll();
  }
  other.join();
  MutexLock lock(&guarded.mutex);
  EXPECT_EQ(guarded.value, 3);
}

TEST(CondVarTest, WaitForGivesUpAfterTheTimeoutWithTheLockHeld) {
  Guarded guarded;
  const auto start = std::chrono::steady_clock::now();
  {
    MutexLock lock(&guarded.mutex);
    // A spurious wake would return true; the timeout ends the loop.
    while (guarded.changed.WaitFor(&guarded.mutex,
                                   std::chrono::milliseconds(20))) {
    }
    ++guarded.value;
  }
  EXPECT_GE(std::chrono::steady_clock::now() - start,
            std::chrono::milliseconds(20));
}

TEST(CondVarTest, WaitForReturnsTrueWhenNotified) {
  Guarded guarded;
  std::thread other([&guarded] {
    MutexLock lock(&guarded.mutex);
    guarded.value = 1;
    guarded.changed.NotifyAll();
  });
  {
    MutexLock lock(&guarded.mutex);
    while (guarded.value != 1) {
      ASSERT_TRUE(
          guarded.changed.WaitFor(&guarded.mutex, std::chrono::minutes(5)));
    }
  }
  other.join();
}

}  // namespace
}  // namespace vmsg::vmm
