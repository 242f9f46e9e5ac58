// Starting a bare-metal guest in 64-bit long mode, without firmware and without
// a real-mode or protected-mode step.

#ifndef VMSG_VMM_BOOT_LONG_MODE_H_
#define VMSG_VMM_BOOT_LONG_MODE_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/boot/boot_info.h"
#include "vmm/boot/cpu_state.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::vmm {

// The state in which the guest gets its first instruction:
//
//   RIP          the entry point
//   RDI          address of a BootInfo, or 0
//   RSP          kBootStackTop, a multiple of 16 (an entry point written in C
//   is
//                reached by a call from a stub, or is declared naked)
//   other GPRs   0; RFLAGS 2: interrupts off, direction up
//   CPL 0, CS selector 0x08 (64-bit code), DS ES FS GS SS 0x10 (flat data),
//   TR 0x18 (a 64-bit TSS with no stacks and no I/O bitmap)
//   CR0          PE MP ET NE WP AM PG
//   CR4          PAE OSFXSR OSXMMEXCPT: SSE works, x87 exceptions are native
//   EFER         LME LMA NXE
//   CR3          kBootTables: addresses are mapped to themselves
//   IDT          empty: any exception before the guest loads its own is a
//   triple
//                fault, which the VMM reports with the registers
//   local APIC   at 0xFEE00000, enabled in IA32_APIC_BASE; its spurious vector
//                register disables it in software, as after reset
//   8259 PICs    as after reset: nothing masked, vectors from 0 up, and wired
//   to
//                the boot processor. A guest that uses the I/O APIC masks them
//                (0xFF to ports 0x21 and 0xA1) before it turns interrupts on,
//                or an edge on a line is taken twice, once as an exception
//                vector
//
// The first 4 GiB are mapped in 2 MiB pages, present, writable and executable.
// Those from kDeviceHole up have PCD and PWT set: PCI windows, ECAM, I/O APIC
// and local APIC are there. RAM above 4 GiB is not mapped; the guest extends
// the tables, which are its own from now on, as is everything else in RAM.
//
// Places in low RAM (all below kFreeRam, where images are loaded):
//   0x0000   not used
//   0x1000   PML4, PDPT, four page directories
//   0x7000   GDT and TSS
//   0x8000   BootInfo, and behind it the command line
//   0x10000  the stack grows down from kBootStackTop to here
inline constexpr GuestAddress kBootTables{0x1000};
inline constexpr GuestAddress kBootGdt{0x7000};
inline constexpr GuestAddress kBootInfo{0x8000};
inline constexpr GuestRange kBootStack{{0x10000}, 0x70000};
inline constexpr GuestAddress kBootStackTop{0x80000};
inline constexpr GuestAddress kFreeRam{0x100000};
inline constexpr GuestAddress kDeviceHole{0xC0000000};
inline constexpr uint64_t kIdentityMapBytes = uint64_t{4} << 30;

// From kBootInfo to the end of its page range, less BootInfo itself.
inline constexpr uint64_t kMaxCommandLineBytes = 0x1000 - sizeof(BootInfo);

// Writes BootInfo (magic, version, size and the command line's place are filled
// in here) and `command_line` at kBootInfo; returns its address, for RDI.
//   InvalidArgument  the command line is longer than kMaxCommandLineBytes.
//   OutOfRange       `memory` has no writable RAM there.
absl::StatusOr<GuestAddress> WriteBootInfo(BootInfo info,
                                           std::string_view command_line,
                                           DmaSpace* memory);

// Writes page tables, GDT and TSS into low RAM, and returns the state above for
// a start at `entry`, with `boot_info` in RDI.
//   InvalidArgument  `entry` is not below kIdentityMapBytes.
//   OutOfRange       `memory` has no writable RAM at [0x1000, kBootStackTop).
// Not fully written on error. Call again for a reboot: the guest may have
// changed the tables.
absl::StatusOr<CpuState> SetUpLongMode(GuestAddress entry,
                                       GuestAddress boot_info,
                                       DmaSpace* memory);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BOOT_LONG_MODE_H_
