// InProcessGuest: the guest's driver code on a thread of this process, for
// hosts without KVM.

#ifndef VMSG_EXAMPLES_KVM_VMM_IN_PROCESS_GUEST_H_
#define VMSG_EXAMPLES_KVM_VMM_IN_PROCESS_GUEST_H_

#include <cstdint>
#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "examples/kvm_vmm/guest_runner.h"

namespace vmsg::example {

// The devices are the same, and the program, its command line and its console
// are those of the bare-metal guest; there is no processor, so no isolation.
//   InvalidArgument  a word of the command line (guest/payload/protocol.md).
absl::StatusOr<std::unique_ptr<GuestRunner>> CreateInProcessGuest(
    InProcessProgram program, std::string_view command_line,
    uint64_t memory_bytes, GuestRunner::ConsoleOutput console);

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_IN_PROCESS_GUEST_H_
