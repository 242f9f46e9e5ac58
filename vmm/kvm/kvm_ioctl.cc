#include "vmm/kvm/kvm_ioctl.h"

#include <sys/ioctl.h>

#include <cerrno>
#include <string>
#include <system_error>

#include "absl/strings/str_format.h"

namespace vmsg::vmm {

int KvmIoctl(int fd, unsigned long request, const void* argument) {
  for (;;) {
    const int result = ioctl(fd, request, argument);
    if (result >= 0) return result;
    if (errno != EINTR) return -errno;
  }
}

int KvmIoctl(int fd, unsigned long request, uint64_t argument) {
  return KvmIoctl(fd, request, reinterpret_cast<const void*>(argument));
}

absl::Status KvmStatus(std::string_view what, int error) {
  const std::string text =
      absl::StrFormat("%s: %s (errno %d)", std::string(what),
                      std::generic_category().message(error), error);
  switch (error) {
    case EEXIST:
      return absl::AlreadyExistsError(text);
    case ENOMEM:
    case ENOSPC:
    case EMFILE:
    case ENFILE:
      return absl::ResourceExhaustedError(text);
    default:
      return absl::InternalError(text);
  }
}

}  // namespace vmsg::vmm
