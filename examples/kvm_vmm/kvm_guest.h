// KvmGuest: vCPUs on /dev/kvm that run a guest image.

#ifndef VMSG_EXAMPLES_KVM_VMM_KVM_GUEST_H_
#define VMSG_EXAMPLES_KVM_VMM_KVM_GUEST_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "examples/kvm_vmm/guest_image.h"
#include "examples/kvm_vmm/guest_runner.h"

namespace vmsg::example {

// Beside what GuestRunner offers, the guest has a serial port at 0x3F8 with
// interrupt 4, the ports of platform_ports.h, and for bare-metal guests a power
// switch: a byte written to port 0x501 ends the run, 0 meaning well.
//
// Errors: those of vmm::KvmVm::Create, see there for "can't be opened". The
// image is read by Start().
absl::StatusOr<std::unique_ptr<GuestRunner>> CreateKvmGuest(
    const GuestImage& image, uint64_t memory_bytes,
    GuestRunner::ConsoleOutput console);

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_KVM_GUEST_H_
