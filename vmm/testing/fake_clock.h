// FakeClock: time that only the test moves.

#ifndef VMSG_VMM_TESTING_FAKE_CLOCK_H_
#define VMSG_VMM_TESTING_FAKE_CLOCK_H_

#include <atomic>
#include <chrono>

#include "vmm/base/check.h"
#include "vmm/base/clock.h"

namespace vmsg::vmm {

// Starts at one hour, so that code that subtracts from "now" stays in range and
// code that takes zero for "never" does not pass by luck.
//
// Threads: any.
class FakeClock final : public Clock {
 public:
  MonotonicTime Now() const override {
    return MonotonicTime(Duration(now_ns_.load(std::memory_order_relaxed)));
  }

  // `by` is not negative: the time of a Clock never goes back.
  void Advance(Duration by) {
    VMSG_CHECK(by >= Duration::zero());
    now_ns_.fetch_add(by.count(), std::memory_order_relaxed);
  }

 private:
  std::atomic<Duration::rep> now_ns_{Duration(std::chrono::hours(1)).count()};
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_TESTING_FAKE_CLOCK_H_
