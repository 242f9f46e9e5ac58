// TwoThreads: two pieces of work that run at the same time, and how long it
// takes until both are done.

#ifndef VMSG_BENCHMARKS_TWO_THREADS_H_
#define VMSG_BENCHMARKS_TWO_THREADS_H_

#include <sched.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>

#include "absl/functional/function_ref.h"

namespace vmsg::bench {

// How a side waits for the other one: it looks again and again, and gives the
// processor away now and then, so that it goes on also where the other side
// needs this processor. The same for everything that is compared.
class Backoff {
 public:
  void Wait() {
    constexpr uint32_t kLooks = 128;
    if (++looks_ % kLooks == 0) {
      sched_yield();
    } else {
      Pause();
    }
  }

 private:
  static void Pause() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#endif
  }

  uint32_t looks_ = 0;
};

// Each thread has a processor of its own where there are two: on a single one
// it would be the scheduler that is measured. The calling thread goes back to
// the processors that it had when this ends.
//
// Threads: one.
class TwoThreads {
 public:
  using Work = absl::FunctionRef<void()>;

  TwoThreads();
  ~TwoThreads();

  // Runs `here` on the calling thread and `there` on the other, both from the
  // moment when both are ready.
  std::chrono::nanoseconds Run(Work here, Work there);

 private:
  enum class Phase : uint8_t { kIdle, kCalled, kReady, kGo, kDone, kEnd };

  void TakeProcessors();
  void ThreadMain();
  void Await(Phase phase) const;

  std::atomic<Phase> phase_{Phase::kIdle};
  const Work* there_ = nullptr;  // handed over by phase_
  std::thread thread_;
  cpu_set_t allowed_;  // of the calling thread
};

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_TWO_THREADS_H_
