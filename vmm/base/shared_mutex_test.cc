#include "vmm/base/shared_mutex.h"

#include <atomic>
#include <chrono>
#include <optional>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

struct Guarded {
  SharedMutex mutex;
  int a ABSL_GUARDED_BY(mutex) = 0;
  int b ABSL_GUARDED_BY(mutex) = 0;
};

TEST(SharedMutexTest, KeepsWritersFromReadersAndFromEachOther) {
  constexpr int kRounds = 5000;
  Guarded guarded;
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i) {
    threads.emplace_back([&guarded] {
      for (int n = 0; n < kRounds; ++n) {
        ExclusiveLock lock(&guarded.mutex);
        ++guarded.a;
        ++guarded.b;
      }
    });
    threads.emplace_back([&guarded] {
      for (int n = 0; n < kRounds; ++n) {
        SharedLock lock(&guarded.mutex);
        EXPECT_EQ(guarded.a, guarded.b);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  SharedLock lock(&guarded.mutex);
  EXPECT_EQ(guarded.a, 2 * kRounds);
}

TEST(SharedMutexTest, TwoThreadsShareItAtTheSameTime) {
  Guarded guarded;
  SharedLock mine(&guarded.mutex);
  std::thread other([&guarded] {
    SharedLock lock(&guarded.mutex);
    EXPECT_EQ(guarded.a, 0);
  });
  other.join();
}

// Else readers that come again and again could keep a writer out for ever.
TEST(SharedMutexTest, WriterThatWaitsKeepsNewReadersOut) {
  using std::chrono::milliseconds;
  Guarded guarded;
  std::atomic<bool> stop{false};
  std::atomic<int> reads{0};
  std::optional<SharedLock> first(&guarded.mutex);
  std::thread reader([&] {
    while (!stop.load()) {
      SharedLock lock(&guarded.mutex);
      ++reads;
      if (guarded.a != 0) break;
    }
  });
  while (reads.load() == 0) std::this_thread::yield();
  std::thread writer([&] {
    ExclusiveLock lock(&guarded.mutex);
    guarded.a = 1;
  });
  // The reader comes to a stop, though the lock is shared.
  bool stopped = false;
  for (int i = 0; i < 200 && !stopped; ++i) {
    const int before = reads.load();
    std::this_thread::sleep_for(milliseconds(50));
    stopped = reads.load() == before;
  }
  EXPECT_TRUE(stopped);
  stop.store(!stopped);
  first.reset();
  writer.join();
  reader.join();
  SharedLock lock(&guarded.mutex);
  EXPECT_EQ(guarded.a, 1);
}

// Else some virtual processors that change a table could stop the device loop
// that looks into it.
TEST(SharedMutexTest, WritersThatComeAgainAndAgainLetReadersIn) {
  Guarded guarded;
  std::atomic<bool> stop{false};
  std::atomic<int> turns{0};
  std::vector<std::thread> writers;
  for (int i = 0; i < 4; ++i) {
    writers.emplace_back([&] {
      while (!stop.load()) {
        ++turns;
        ExclusiveLock lock(&guarded.mutex);
        // So that the others are waiting already.
        for (int step = 0; step < 5; ++step) std::this_thread::yield();
        guarded.a = guarded.b = guarded.a + 1;
      }
    });
  }
  while (turns.load() < 20) std::this_thread::yield();
  for (int i = 0; i < 20; ++i) {
    SharedLock lock(&guarded.mutex);
    EXPECT_EQ(guarded.a, guarded.b);
  }
  stop.store(true);
  for (std::thread& writer : writers) writer.join();
}

}  // namespace
}  // namespace vmsg::vmm
