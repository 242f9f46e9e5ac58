// EventFd: an eventfd(2) used as a doorbell.

#ifndef VMSG_VMM_BASE_EVENT_FD_H_
#define VMSG_VMM_BASE_EVENT_FD_H_

#include <cstdint>

#include "absl/status/statusor.h"
#include "vmm/base/unique_fd.h"

namespace vmsg::vmm {

// A counter in the kernel that wakes whoever watches its descriptor. Signals
// that come before a Drain() merge into one wake-up.
//
// Threads: Signal() and Drain() from any thread at the same time. Neither
// blocks or allocates; each is one system call.
class EventFd {
 public:
  // ResourceExhausted: the process has no descriptor left.
  static absl::StatusOr<EventFd> Create();

  EventFd(EventFd&&) = default;
  EventFd& operator=(EventFd&&) = default;

  // Adds one. When the counter is at its maximum the signal merges with those
  // already there, so nothing is lost.
  void Signal() const;

  // Takes the whole count back to zero and returns it; 0 when nothing was
  // signalled.
  uint64_t Drain() const;

  // Readable while the count is not zero. Borrowed.
  int fd() const { return fd_.get(); }

 private:
  explicit EventFd(UniqueFd fd) : fd_(std::move(fd)) {}

  UniqueFd fd_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BASE_EVENT_FD_H_
