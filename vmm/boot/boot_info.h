// BootInfo: what the VMM tells a bare-metal guest that PCI can't tell it. The
// one structure that both sides of that boundary share.
//
// Freestanding: a guest without an operating system includes this header too.

#ifndef VMSG_VMM_BOOT_BOOT_INFO_H_
#define VMSG_VMM_BOOT_BOOT_INFO_H_

#include <stddef.h>
#include <stdint.h>

namespace vmsg::vmm {

// Little-endian, at a multiple of 8. The guest-physical address of one is in
// RDI when the guest starts; RDI is 0 where there is none.
//
// The guest checks `magic` and uses no field past `size`. Fields are only ever
// added at the end, and then `version` stays; `version` changes when the
// meaning of a field does.
struct BootInfo {
  static constexpr uint32_t kMagic = 0x69424d56;  // "VMBi"
  static constexpr uint32_t kVersion = 1;

  uint32_t magic = 0;
  uint32_t version = 0;
  uint32_t size = 0;  // bytes of this structure that are filled
  uint32_t reserved = 0;

  // RAM is [0, ram_bytes). Below kFreeRam (vmm/boot/long_mode.h) it holds the
  // start-up structures, which the guest leaves alone while it uses them.
  uint64_t ram_bytes = 0;

  // PCI Express enhanced configuration of bus 0, or 0: use ports 0xCF8, 0xCFC.
  uint64_t ecam_base = 0;
  uint64_t ecam_bytes = 0;

  // Where the guest may put memory BARs that nobody has placed.
  uint64_t pci_window_base = 0;
  uint64_t pci_window_bytes = 0;

  // Text for the guest, without a terminating 0; 0 and 0 when there is none.
  uint64_t command_line = 0;
  uint64_t command_line_bytes = 0;
};

static_assert(sizeof(BootInfo) == 72);
static_assert(offsetof(BootInfo, ram_bytes) == 16);
static_assert(offsetof(BootInfo, ecam_base) == 24);
static_assert(offsetof(BootInfo, ecam_bytes) == 32);
static_assert(offsetof(BootInfo, pci_window_base) == 40);
static_assert(offsetof(BootInfo, pci_window_bytes) == 48);
static_assert(offsetof(BootInfo, command_line) == 56);
static_assert(offsetof(BootInfo, command_line_bytes) == 64);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BOOT_BOOT_INFO_H_
