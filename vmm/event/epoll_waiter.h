// EpollWaiter: epoll_wait(2) with a timeout of nanoseconds.

#ifndef VMSG_VMM_EVENT_EPOLL_WAITER_H_
#define VMSG_VMM_EVENT_EPOLL_WAITER_H_

#include <sys/epoll.h>

#include <span>

#include "vmm/base/clock.h"

namespace vmsg::vmm {

// Uses epoll_pwait2(2), and epoll_wait(2) where the kernel (before 5.11) or a
// system call filter refuses that; then timeouts are rounded up to
// milliseconds.
//
// Threads: one.
class EpollWaiter {
 public:
  // Longer waits end after this and report nothing: below the limits of both
  // calls, and one wake-up an hour costs nothing.
  static constexpr Duration kMaxWait = std::chrono::hours(1);

  explicit EpollWaiter(bool use_pwait2 = true) : use_pwait2_(use_pwait2) {}

  // Waits for events of `epoll_fd`, at most `timeout` (negative: without limit)
  // and, unless an event or a signal ends the wait or kMaxWait cuts it, not
  // less. Returns how many were stored in `events`.
  int Wait(int epoll_fd, std::span<epoll_event> events, Duration timeout);

 private:
  bool use_pwait2_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_EVENT_EPOLL_WAITER_H_
