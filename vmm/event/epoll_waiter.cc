#include "vmm/event/epoll_waiter.h"

#include <sys/epoll.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <span>

#include "vmm/base/check.h"

namespace vmsg::vmm {
namespace {

int Milliseconds(Duration timeout) {
  if (timeout < Duration::zero()) return -1;
  return static_cast<int>(
      std::chrono::ceil<std::chrono::milliseconds>(timeout).count());
}

timespec Timespec(Duration timeout) {
  const auto seconds =
      std::chrono::duration_cast<std::chrono::seconds>(timeout);
  return {.tv_sec = static_cast<time_t>(seconds.count()),
          .tv_nsec = static_cast<long>((timeout - seconds).count())};
}

}  // namespace

int EpollWaiter::Wait(int epoll_fd, std::span<epoll_event> events,
                      Duration timeout) {
  timeout = std::min(timeout, kMaxWait);
  const int capacity = static_cast<int>(events.size());
  int count = -1;
  bool done = false;
  if (use_pwait2_ && timeout > Duration::zero()) {
    const timespec limit = Timespec(timeout);
    count = epoll_pwait2(epoll_fd, events.data(), capacity, &limit, nullptr);
    use_pwait2_ = count >= 0 || (errno != ENOSYS && errno != EPERM);
    done = use_pwait2_;
  }
  if (!done) {
    count =
        epoll_wait(epoll_fd, events.data(), capacity, Milliseconds(timeout));
  }
  VMSG_CHECK(count >= 0 || errno == EINTR, "epoll_wait");
  return std::max(count, 0);
}

}  // namespace vmsg::vmm
