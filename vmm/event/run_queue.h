// RunQueue: the posted closures and raised wake sources of one EventLoop, for
// those who implement one.

#ifndef VMSG_VMM_EVENT_RUN_QUEUE_H_
#define VMSG_VMM_EVENT_RUN_QUEUE_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "vmm/base/counter.h"
#include "vmm/base/event_fd.h"
#include "vmm/event/event_loop.h"

namespace vmsg::vmm {

// Implements the contracts of EventLoop::Post and WakeSource, and the protocol
// by which a loop goes to sleep without missing one: a pusher writes to the
// wake-up descriptor only when it finds the loop about to wait, and only the
// first one does.
//
// A lock-free list that every thread pushes to and the loop takes as a whole.
class RunQueue {
 public:
  // `loop` and `wakeup` are borrowed and outlive the queue. `wakeup` may be
  // null for a loop that never calls BeginWait().
  RunQueue(const EventLoop* loop, const EventFd* wakeup);
  RunQueue(const RunQueue&) = delete;
  RunQueue& operator=(const RunQueue&) = delete;
  // Drops what is queued. REQUIRES: no wake source is left after that.
  ~RunQueue();

  // --- Any thread. ---

  bool Post(EventLoop::Closure closure);

  // From now on nothing is taken; ends a wait of the loop.
  void Close();
  bool closed() const {
    return (head_.load(std::memory_order_acquire) & kClosed) != 0;
  }

  // Writes to the wake-up descriptor so far.
  uint64_t wakeup_writes() const { return wakeup_writes_.value(); }

  // --- The loop's thread. ---

  std::unique_ptr<WakeSource> CreateWakeSource(EventLoop::Closure callback);

  // Call before a wait that can block. True: who pushes from now on wakes the
  // loop; call EndWait() after the wait. False: something is queued or the
  // queue is closed; do not block.
  bool BeginWait();
  void EndWait() { waiting_.store(false, std::memory_order_relaxed); }

  // Runs what is queued now, in the order of pushing; what that pushes is left
  // for the next call. Returns how many callbacks ran.
  int RunBatch();

  // Destroys what is queued without running it. REQUIRES: closed.
  void DropAll();

 private:
  struct Item;
  struct PostedItem;
  struct WakeItem;
  class WakeHandle;

  // Bit 0 of head_; items are aligned to more.
  static constexpr uintptr_t kClosed = 1;

  bool Push(Item* item);
  void Wake();
  // What is queued, oldest first.
  Item* TakeAll();

  const EventLoop* const loop_;
  const EventFd* const wakeup_;
  std::atomic<uintptr_t> head_{0};  // the newest Item, and kClosed
  std::atomic<bool> waiting_{false};
  Counter wakeup_writes_;
  int wake_sources_ = 0;  // loop's thread
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_EVENT_RUN_QUEUE_H_
