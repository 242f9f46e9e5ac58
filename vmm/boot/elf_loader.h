// Loads a static x86-64 ELF executable into guest RAM.

#ifndef VMSG_VMM_BOOT_ELF_LOADER_H_
#define VMSG_VMM_BOOT_ELF_LOADER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/boot/long_mode.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::vmm {

struct ElfLoadOptions {
  // No segment may begin below; what is there belongs to the start-up code.
  GuestAddress lowest = kFreeRam;
  // No segment may reach past this; what the first page tables map as RAM.
  GuestAddress limit = kDeviceHole;
  // Virtual addresses need not be the physical ones: a kernel that maps itself.
  bool maps_itself = false;
};

struct LoadedElf {
  GuestAddress entry;
  // From the first byte of the lowest segment to the last of the highest.
  GuestRange footprint;
};

// More than any linker makes; bounds the work for a hostile file.
inline constexpr uint16_t kMaxElfProgramHeaders = 64;

// Copies each PT_LOAD segment of `image` (a whole file) to its physical address
// and zeroes the rest of it. Everything is checked before the first byte is
// written: on InvalidArgument and OutOfRange `memory` is untouched.
//
// Accepted is ELF64, little-endian, version 1, x86-64, ET_EXEC, System V or GNU
// ABI, with physical equal to virtual addresses (the guest starts with an
// identity map) unless options.maps_itself; the entry point is physical. Each
// error names the field, its value and, for a segment, its index:
//   InvalidArgument  truncated; a header field has another value than the
//                    format or the list above allows; it needs a dynamic linker
//                    or relocation; a segment's file size exceeds its memory
//                    size; its data is not inside the file; segments overlap,
//                    or wrap around; there is nothing to load; the entry point
//                    is not inside an executable segment.
//   OutOfRange       a segment lies below options.lowest, past options.limit,
//   or
//                    not wholly in writable RAM.
//   Internal         memory went away during the copy.
absl::StatusOr<LoadedElf> LoadElf(std::span<const std::byte> image,
                                  const ElfLoadOptions& options,
                                  DmaSpace* memory);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BOOT_ELF_LOADER_H_
