// The source of time, injected everywhere so that tests own it.

#ifndef VMSG_VMM_BASE_CLOCK_H_
#define VMSG_VMM_BASE_CLOCK_H_

#include <chrono>

namespace vmsg::vmm {

// Time since an arbitrary start that never goes back.
using MonotonicTime = std::chrono::time_point<std::chrono::steady_clock,
                                              std::chrono::nanoseconds>;
using Duration = std::chrono::nanoseconds;

// Threads: implementations are safe from any thread and do not block.
class Clock {
 public:
  Clock() = default;
  Clock(const Clock&) = delete;
  Clock& operator=(const Clock&) = delete;
  virtual ~Clock() = default;

  virtual MonotonicTime Now() const = 0;
};

// CLOCK_MONOTONIC.
class SteadyClock final : public Clock {
 public:
  MonotonicTime Now() const override {
    return std::chrono::steady_clock::now();
  }
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BASE_CLOCK_H_
