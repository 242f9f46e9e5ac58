// Loads a Linux kernel for x86-64, with initramfs and command line.

#ifndef VMSG_VMM_BOOT_LINUX_LOADER_H_
#define VMSG_VMM_BOOT_LINUX_LOADER_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/boot/cpu_state.h"
#include "vmm/boot/ram_layout.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::vmm {

// How a file starts, by what it contains.
enum class KernelKind : uint8_t {
  kUnknown,  // neither of the formats
  kBzImage,  // Linux's own format: 64-bit boot protocol
  kPvh,      // ELF with a PVH entry point, as vmlinux has
  kElf,      // any other ELF: a bare-metal guest (elf_loader.h, long_mode.h)
};

KernelKind IdentifyKernel(std::span<const std::byte> file);

struct LinuxBoot {
  std::string command_line = {};
  std::vector<MemoryMapEntry> map = {};  // of ComputeMemoryMap
  GuestAddress rsdp = {};                // of WriteAcpiTables; 0: none
};

// Copies `kernel` (a bzImage or a PVH ELF) and `initrd` (may be empty) into RAM
// and writes what the boot protocol wants; returns the state of the boot
// processor. The kernel goes below the device hole, the initramfs as high below
// it as the kernel allows. Low RAM below kFreeRam (long_mode.h) is used for
// page tables, GDT, parameters and command line; kAcpiArea is left alone.
//
// For a bzImage: 64-bit mode at its 64-bit entry point, RSI with the boot
// parameters, selectors 0x10 and 0x18. For PVH: 32-bit protected mode without
// paging, EBX with the start info (Xen, public/arch-x86/hvm/start_info.h).
//
// Errors name the field or the part:
//   InvalidArgument  not a kernel, or one that can't be started this way;
//                    truncated; the command line is longer than the kernel
//                    takes, or has a 0 in it.
//   OutOfRange       kernel and initramfs do not fit into RAM.
//   Internal         memory went away during the copy.
// RAM may be partly written on error. Call again for a reboot.
absl::StatusOr<CpuState> LoadLinux(std::span<const std::byte> kernel,
                                   std::span<const std::byte> initrd,
                                   const LinuxBoot& boot, DmaSpace* memory);

// Where an initramfs of `bytes` goes: page-aligned, the last one that ends at
// or below `end` and begins at or above `lowest`. A pure function.
//   OutOfRange  no room.
absl::StatusOr<GuestAddress> PlaceInitrd(uint64_t bytes, GuestAddress lowest,
                                         GuestAddress end);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BOOT_LINUX_LOADER_H_
