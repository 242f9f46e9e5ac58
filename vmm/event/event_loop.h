// EventLoop: where everything that owns state runs.
//
// A FIFO, its message bus, the virtio devices on it and their queues live on
// one loop and take no lock (docs/locking.md). Other threads reach them by
// Post() or by a WakeSource, and in no other way.

#ifndef VMSG_VMM_EVENT_EVENT_LOOP_H_
#define VMSG_VMM_EVENT_EVENT_LOOP_H_

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "vmm/base/clock.h"
#include "vmm/base/event_fd.h"

namespace vmsg::vmm {

// What a watched descriptor is ready for; a mask.
enum class FdEvents : uint32_t {
  kNone = 0,
  kReadable = 1u << 0,
  kWritable = 1u << 1,
};
constexpr FdEvents operator|(FdEvents a, FdEvents b) {
  return static_cast<FdEvents>(static_cast<uint32_t>(a) |
                               static_cast<uint32_t>(b));
}
constexpr bool Has(FdEvents set, FdEvents bit) {
  return (static_cast<uint32_t>(set) & static_cast<uint32_t>(bit)) != 0;
}

// A registration of a descriptor. Destroying it ends the watch: when the
// destructor returns, its callback will not run again, also when the
// destruction happens inside that very callback (the callback object then lives
// until it returns) or inside the callback of another descriptor that became
// ready in the same round.
//
// Threads: the loop's own.
class FdWatch {
 public:
  FdWatch() = default;
  FdWatch(const FdWatch&) = delete;
  FdWatch& operator=(const FdWatch&) = delete;
  virtual ~FdWatch() = default;

  // Replaces the set of events. kNone pauses the watch. Errors and hang-ups of
  // the descriptor are reported to a watch that is not paused, as both
  // readable and writable, so that the next call on the descriptor shows them.
  virtual void SetEvents(FdEvents events) = 0;
};

// A one-shot timer that can be armed again and again without allocating.
//
// Threads: the loop's own.
class Timer {
 public:
  Timer() = default;
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  // Cancels. Allowed inside the timer's own callback.
  virtual ~Timer() = default;

  // Fires once, `delay` from now or later, never earlier, and never inside this
  // call even for a delay of 0 or less. Arming an armed timer moves it.
  virtual void Arm(Duration delay) = 0;

  // After it returns the callback will not run until the next Arm(), also when
  // the timer was already due in this round of the loop.
  virtual void Cancel() = 0;

  virtual bool armed() const = 0;
};

// A level that any thread can raise to have a callback run on the loop: the
// data path's alternative to Post().
class WakeSource {
 public:
  WakeSource() = default;
  WakeSource(const WakeSource&) = delete;
  WakeSource& operator=(const WakeSource&) = delete;
  // Loop thread only. After it returns the callback will not run again. Raisers
  // on other threads must be gone before.
  virtual ~WakeSource() = default;

  // Runs the callback on the loop soon; signals that come before it starts
  // merge into one run. What the signalling thread wrote before is visible to
  // that run. A signal during the callback gives another run.
  //
  // On the loop's own thread the run comes before the loop next waits, and
  // costs no system call. From another thread it costs at most one write(2),
  // and none when a wake-up of the loop is already under way.
  //
  // Threads: any. Does not block or allocate. After the loop stopped: no
  // effect.
  virtual void Signal() = 0;
};

// One thread's worth of event handling.
//
// Order in a round: ready descriptors, due timers, then wake sources and posted
// closures in the order in which they came. What these queue runs in the next
// round, so descriptors get their turn.
class EventLoop {
 public:
  using Closure = absl::AnyInvocable<void()>;
  using FdCallback = absl::AnyInvocable<void(FdEvents)>;

  EventLoop() = default;
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;
  virtual ~EventLoop() = default;

  // Runs `closure` once on the loop thread, in order of posting per posting
  // thread. Returns true when it was taken: it then either runs, or, when the
  // loop stops first, is destroyed on the thread that runs or destroys the
  // loop. Returns false after the loop has stopped: `closure` is destroyed in
  // the call, without running.
  //
  // Threads: any. Does not block; allocates.
  virtual bool Post(Closure closure) = 0;

  // True on the thread that is inside this loop's Run (or, while nobody runs
  // the loop, on any thread: set-up before the start and tear-down after the
  // end count as inside).
  virtual bool IsInLoopThread() const = 0;

  // --- The loop's own thread only, from here on. ---

  // Calls `callback` whenever `fd` is ready for one of `events`
  // (level-triggered). `fd` is borrowed and stays open until the watch is gone.
  //
  // Returns:
  //   InvalidArgument     `fd` cannot be watched (a regular file, not open).
  //   AlreadyExists       `fd` is watched on this loop.
  //   ResourceExhausted   the kernel refused for want of memory or watches.
  virtual absl::StatusOr<std::unique_ptr<FdWatch>> Watch(
      int fd, FdEvents events, FdCallback callback) = 0;

  // Calls `callback` after `event` was signalled: signals that come before it
  // starts merge into one call, a signal during the call gives another one. Can
  // call once without a signal when the watch begins, or resumes after a pause.
  // `event` is borrowed, stays open until the watch is gone, and nobody else
  // waits for it or drains it meanwhile. Errors as for Watch().
  //
  // The data path's way to wait for a doorbell: a loop that can do without
  // reading the count overrides this and saves a system call a doorbell.
  virtual absl::StatusOr<std::unique_ptr<FdWatch>> WatchEventFd(
      const EventFd* event, Closure callback) {
    return Watch(event->fd(), FdEvents::kReadable,
                 [event, c = std::move(callback)](FdEvents) mutable {
                   event->Drain();
                   c();
                 });
  }

  // Never null.
  virtual std::unique_ptr<Timer> CreateTimer(Closure callback) = 0;
  virtual std::unique_ptr<WakeSource> CreateWakeSource(Closure callback) = 0;

  // The clock that timers go by. Any thread.
  virtual const Clock& clock() const = 0;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_EVENT_EVENT_LOOP_H_
