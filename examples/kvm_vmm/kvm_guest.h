// KvmGuest: one vCPU on /dev/kvm that runs an ELF image.

#ifndef VMSG_EXAMPLES_KVM_VMM_KVM_GUEST_H_
#define VMSG_EXAMPLES_KVM_VMM_KVM_GUEST_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "examples/kvm_vmm/guest_runner.h"

namespace vmsg::example {

// Beside what GuestRunner offers, the guest has a serial port at 0x3F8 with
// interrupt 4, and a power switch: a byte written to port 0x501 ends the run, 0
// meaning well.
//
// Errors: those of vmm::KvmVm::Create, see there for "can't be opened".
absl::StatusOr<std::unique_ptr<GuestRunner>> CreateKvmGuest(
    const std::string& kernel_path, uint64_t memory_bytes,
    GuestRunner::ConsoleOutput console);

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_KVM_GUEST_H_
