// CpuState: the registers an x86-64 processor starts a guest with. Plain data:
// whoever makes it (a boot protocol) and whoever applies it (KvmVcpu) need not
// know each other.

#ifndef VMSG_VMM_BOOT_CPU_STATE_H_
#define VMSG_VMM_BOOT_CPU_STATE_H_

#include <cstdint>

namespace vmsg::vmm {

// A segment register with its hidden part, in the terms of a descriptor (Intel
// SDM volume 3, 3.4.5).
struct SegmentState {
  uint16_t selector = 0;
  uint64_t base = 0;
  uint32_t limit = 0;  // in bytes, after scaling
  uint8_t type = 0;
  uint8_t privilege = 0;  // DPL
  bool present = false;
  bool code_or_data = false;    // S; false: a system segment
  bool long_mode_code = false;  // L
  bool default_32bit = false;   // D/B
  bool page_granular = false;   // G
};

struct DescriptorTableState {
  uint64_t base = 0;
  uint16_t limit = 0;  // size in bytes, less 1
};

struct CpuState {
  uint64_t rip = 0;
  uint64_t rsp = 0;
  uint64_t rflags = 2;  // bit 1 is always set
  // Argument registers; all others start at 0.
  uint64_t rdi = 0;
  uint64_t rsi = 0;
  uint64_t rbx = 0;  // of the PVH start

  uint64_t cr0 = 0;
  uint64_t cr3 = 0;
  uint64_t cr4 = 0;
  uint64_t efer = 0;

  SegmentState cs;
  SegmentState data;  // for DS, ES, FS, GS and SS
  SegmentState tr;
  DescriptorTableState gdt;
  DescriptorTableState idt;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BOOT_CPU_STATE_H_
