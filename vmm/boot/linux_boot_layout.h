// Offsets and values of Linux's boot structures on x86-64, and the places that
// we give them in low RAM.

#ifndef VMSG_VMM_BOOT_LINUX_BOOT_LAYOUT_H_
#define VMSG_VMM_BOOT_LINUX_BOOT_LAYOUT_H_

#include <cstddef>
#include <cstdint>

#include "vmm/base/guest_address.h"

namespace vmsg::vmm::linux_boot {

// Linux Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header". Offsets
// in the file and, as the header is copied to its own place there, in the boot
// parameters.
inline constexpr uint64_t kSetupHeaderOffset = 0x1F1;  // setup_sects
inline constexpr uint64_t kSysSizeOffset = 0x1F4;
inline constexpr uint64_t kVideoModeOffset = 0x1FA;
inline constexpr uint64_t kBootFlagOffset = 0x1FE;
inline constexpr uint64_t kJumpOffset = 0x200;
inline constexpr uint64_t kHeaderMagicOffset = 0x202;
inline constexpr uint64_t kVersionOffset = 0x206;
inline constexpr uint64_t kLoaderTypeOffset = 0x210;
inline constexpr uint64_t kLoadFlagsOffset = 0x211;
inline constexpr uint64_t kCode32StartOffset = 0x214;
inline constexpr uint64_t kInitrdAddressOffset = 0x218;
inline constexpr uint64_t kInitrdSizeOffset = 0x21C;
inline constexpr uint64_t kCommandLineOffset = 0x228;
inline constexpr uint64_t kInitrdMaxOffset = 0x22C;
inline constexpr uint64_t kAlignmentOffset = 0x230;
inline constexpr uint64_t kRelocatableOffset = 0x234;
inline constexpr uint64_t kXLoadFlagsOffset = 0x236;
inline constexpr uint64_t kCommandLineSizeOffset = 0x238;
inline constexpr uint64_t kPreferredAddressOffset = 0x258;
inline constexpr uint64_t kInitSizeOffset = 0x260;
inline constexpr uint64_t kHeaderEnd = 0x264;  // of protocol 2.12

inline constexpr uint16_t kBootFlag = 0xAA55;
inline constexpr uint32_t kHeaderMagic = 0x53726448;  // "HdrS"
inline constexpr uint16_t kMinProtocol = 0x020C;
inline constexpr uint8_t kLoadedHigh = 0x01;
inline constexpr uint16_t kXKernel64 = 0x0001;
inline constexpr uint8_t kUnknownLoader = 0xFF;
inline constexpr uint16_t kVideoNormal = 0xFFFF;
inline constexpr uint64_t kDefaultSetupSectors = 4;
inline constexpr uint64_t kSectorBytes = 512;
inline constexpr uint64_t kParagraphBytes = 16;
// "64-bit Boot Protocol": the entry point, from the load address.
inline constexpr uint64_t kEntry64Offset = 0x200;

// Linux Documentation/arch/x86/zero-page.rst.
inline constexpr uint64_t kBootParamsBytes = 4096;
inline constexpr uint64_t kAcpiRsdpOffset = 0x070;
inline constexpr uint64_t kMapCountOffset = 0x1E8;
inline constexpr uint64_t kMapOffset = 0x2D0;
inline constexpr uint64_t kMapEntryBytes = 20;
inline constexpr size_t kMaxMapEntries = 128;
// Up to what follows the header in the zero page.
inline constexpr uint64_t kMaxSetupHeaderBytes = 0x290 - kSetupHeaderOffset;

// Xen's public/arch-x86/hvm/start_info.h, and public/elfnote.h.
inline constexpr uint32_t kPvhMagic = 0x336EC578;
inline constexpr uint32_t kPvhVersion = 1;
inline constexpr uint64_t kPvhStartInfoBytes = 56;
inline constexpr uint64_t kPvhModuleBytes = 32;
inline constexpr uint64_t kPvhMapEntryBytes = 24;
inline constexpr uint32_t kPvhEntryNote = 18;  // XEN_ELFNOTE_PHYS32_ENTRY

// Our places; page tables and the page of the GDT are as in long_mode.h.
inline constexpr GuestAddress kGdt{0x7200};
inline constexpr GuestAddress kParams{0x8000};  // boot parameters or start info
inline constexpr GuestAddress kPvhModules{0x8040};
inline constexpr GuestAddress kPvhMap{0x8100};
inline constexpr GuestAddress kCommandLine{0x9000};
inline constexpr uint64_t kCommandLineRoom = 0x7000;

// A kernel that does not say takes what COMMAND_LINE_SIZE is on x86, less 1.
inline constexpr uint64_t kCommandLineMax = 2047;

}  // namespace vmsg::vmm::linux_boot

#endif  // VMSG_VMM_BOOT_LINUX_BOOT_LAYOUT_H_
