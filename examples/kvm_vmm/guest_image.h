// Puts what the guest runs into its memory.

#ifndef VMSG_EXAMPLES_KVM_VMM_GUEST_IMAGE_H_
#define VMSG_EXAMPLES_KVM_VMM_GUEST_IMAGE_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "vmm/boot/cpu_state.h"
#include "vmm/boot/ram_layout.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::example {

struct GuestImage {
  std::string kernel =
      {};  // Linux (bzImage, or ELF with PVH), or a bare-metal ELF
  std::string initrd = {};  // only for Linux; empty: none
  std::string command_line = {};
  uint32_t vcpus = 1;
};

// Loads it into RAM that lies as `ram` says, with all tables that the kind of
// kernel wants; returns the state of the boot processor. Errors are those of
// vmm/boot, with the file's name.
absl::StatusOr<vmm::CpuState> LoadGuestImage(const GuestImage& image,
                                             const vmm::RamLayout& ram,
                                             vmm::GuestMemory* memory);

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_GUEST_IMAGE_H_
