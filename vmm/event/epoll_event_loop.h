// EpollEventLoop: the EventLoop on epoll(7).

#ifndef VMSG_VMM_EVENT_EPOLL_EVENT_LOOP_H_
#define VMSG_VMM_EVENT_EPOLL_EVENT_LOOP_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "vmm/event/event_loop.h"

namespace vmsg::vmm {

// An embedder that has a loop of its own implements EventLoop on it; one that
// has not runs this one on a thread of its choice. It starts no thread itself.
//
// One doorbell costs one epoll_wait(2) beside what the callback does; timers
// are the timeout of that call and need no descriptor.
//
// Destroy the watches, timers and wake sources of a loop before it, except
// those that closures still queued own.
class EpollEventLoop : public EventLoop {
 public:
  struct Stats {
    uint64_t waits = 0;          // epoll_wait(2) calls
    uint64_t wakeup_writes = 0;  // writes that woke the loop; never read back
  };

  // `clock` is borrowed and outlives the loop; null means CLOCK_MONOTONIC. With
  // a clock that a test moves, Run() is not useful: call RunOnce() after
  // moving.
  //
  // ResourceExhausted: no descriptor left.
  static absl::StatusOr<std::unique_ptr<EpollEventLoop>> Create(
      const Clock* clock = nullptr);

  // Handles events on the calling thread until Stop(). Returns at once when
  // stopped before. A loop runs once; it can't be started again after Stop().
  virtual void Run() = 0;

  // One round: waits at most `max_wait` (0: only looks; negative: without
  // limit) for something to do, does all that is ready, and returns the number
  // of callbacks and closures that ran; 0 also when a wake-up came with nothing
  // left to do. Not inside a callback. For embedders that poll, and tests.
  virtual int RunOnce(Duration max_wait) = 0;

  // Makes Run() return after the round it is in; from then on Post() returns
  // false. Closures still queued are destroyed without running when Run()
  // returns or at the latest with the loop. Safe from any thread, from a signal
  // handler not. Calling it again has no effect.
  virtual void Stop() = 0;

  // Any thread.
  virtual Stats stats() const = 0;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_EVENT_EPOLL_EVENT_LOOP_H_
