// ioctl(2) on KVM's descriptors with errors as absl::Status. Internal to
// vmm/kvm.

#ifndef VMSG_VMM_KVM_KVM_IOCTL_H_
#define VMSG_VMM_KVM_KVM_IOCTL_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"

namespace vmsg::vmm {

// Returns what the kernel returned, or -errno. Repeats a call that a signal
// interrupted; not for KVM_RUN.
int KvmIoctl(int fd, unsigned long request, const void* argument);
int KvmIoctl(int fd, unsigned long request, uint64_t argument = 0);

// The status for `error` (an errno, positive) of `what`, in the codes that this
// package promises: AlreadyExists for EEXIST, ResourceExhausted where memory,
// descriptors or slots ran out, Internal for all else. Never NotFound or
// Unavailable: those say that KVM could not be opened.
absl::Status KvmStatus(std::string_view what, int error);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_KVM_KVM_IOCTL_H_
