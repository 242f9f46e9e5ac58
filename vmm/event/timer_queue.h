// TimerQueue: the timers of one EventLoop, for those who implement one.

#ifndef VMSG_VMM_EVENT_TIMER_QUEUE_H_
#define VMSG_VMM_EVENT_TIMER_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "vmm/base/clock.h"
#include "vmm/event/event_loop.h"

namespace vmsg::vmm {

// Implements the contract of Timer on the loop's clock: a heap by deadline, and
// by order of arming where deadlines are equal. Arm and Cancel cost O(log n)
// and do not allocate.
//
// Threads: the loop's own.
class TimerQueue {
 public:
  // `loop` is borrowed and outlives the queue.
  explicit TimerQueue(const EventLoop* loop) : loop_(loop) {}
  TimerQueue(const TimerQueue&) = delete;
  TimerQueue& operator=(const TimerQueue&) = delete;
  // REQUIRES: no timer is left.
  ~TimerQueue();

  std::unique_ptr<Timer> Create(EventLoop::Closure callback);

  // When the next timer is due, if one is armed.
  std::optional<MonotonicTime> NextDeadline() const;

  // Runs the timers that are due now and were armed before this call; returns
  // how many.
  int RunDue();

 private:
  struct Item;
  class Handle;

  static bool Before(const Item& a, const Item& b);
  void Arm(Item* item, Duration delay);
  void Disarm(Item* item);
  // Put the item at `index` where it belongs, given that only it is misplaced.
  void SiftUp(size_t index);
  void SiftDown(size_t index);
  void Place(size_t index, Item* item);

  const EventLoop* const loop_;
  std::vector<Item*> heap_;     // capacity for every timer that exists
  size_t timers_ = 0;           // that exist, armed or not
  uint64_t next_sequence_ = 0;  // order of arming
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_EVENT_TIMER_QUEUE_H_
