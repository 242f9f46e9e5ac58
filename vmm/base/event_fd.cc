#include "vmm/base/event_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/check.h"
#include "vmm/base/unique_fd.h"

namespace vmsg::vmm {

absl::StatusOr<EventFd> EventFd::Create() {
  UniqueFd fd(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("eventfd: ", std::strerror(errno)));
  }
  return EventFd(std::move(fd));
}

void EventFd::Signal() const {
  const uint64_t one = 1;
  ssize_t written;
  do {
    written = write(fd_.get(), &one, sizeof(one));
  } while (written < 0 && errno == EINTR);
  // EAGAIN: the counter is at its maximum, so a wake-up is under way anyhow.
  VMSG_CHECK(written == sizeof(one) || (written < 0 && errno == EAGAIN),
             "write to an eventfd");
}

uint64_t EventFd::Drain() const {
  uint64_t count = 0;
  ssize_t taken;
  do {
    taken = read(fd_.get(), &count, sizeof(count));
  } while (taken < 0 && errno == EINTR);
  if (taken == sizeof(count)) return count;
  VMSG_CHECK(taken < 0 && errno == EAGAIN, "read from an eventfd");
  return 0;
}

}  // namespace vmsg::vmm
