// Counter: an event count that one or more threads bump and any thread reads.

#ifndef VMSG_VMM_BASE_COUNTER_H_
#define VMSG_VMM_BASE_COUNTER_H_

#include <atomic>
#include <cstdint>

namespace vmsg::vmm {

// Wraps at 2^64. Relaxed: a reader sees some recent value, and nothing else is
// ordered by it.
class Counter {
 public:
  void Add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// For counts on a data path that has one owner thread: a plain add instead of a
// locked one. Only the owner calls Add(); any thread reads.
class OwnedCounter {
 public:
  void Add(uint64_t n = 1) {
    value_.store(value_.load(std::memory_order_relaxed) + n,
                 std::memory_order_relaxed);
  }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BASE_COUNTER_H_
