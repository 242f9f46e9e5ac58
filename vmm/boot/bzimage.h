// Linux's bzImage: what its header says, and where it goes. Source: Linux
// Documentation/arch/x86/boot.rst, "The Real-Mode Kernel Header" and "64-bit
// Boot Protocol".

#ifndef VMSG_VMM_BOOT_BZIMAGE_H_
#define VMSG_VMM_BOOT_BZIMAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"

namespace vmsg::vmm {

// A checked header. Offsets count from the start of the file.
struct BzImage {
  uint16_t protocol = 0;      // 0x020C and later
  uint64_t setup_header = 0;  // what is copied to the boot parameters
  uint64_t setup_header_bytes = 0;
  uint64_t payload = 0;  // the protected-mode part
  uint64_t payload_bytes = 0;
  bool relocatable = false;
  uint64_t preferred_address = 0;
  uint64_t alignment = 1;     // of another address; a power of two
  uint64_t needed_bytes = 0;  // from the load address, until the kernel runs
  uint64_t command_line_max = 0;  // without the terminating 0
  uint64_t initrd_last = 0;  // highest address of the initramfs's last byte
};

// Whether the file claims to be one: boot sector signature and header magic.
bool IsBzImage(std::span<const std::byte> file);

// Reads nothing outside `file`. InvalidArgument, with the field and its value:
// not a bzImage, truncated, older than protocol 2.12, no 64-bit entry point,
// not loaded high, or fields that contradict each other.
absl::StatusOr<BzImage> ParseBzImage(std::span<const std::byte> file);

// Where `image` goes when `ram` is [0, ram_end): at its preferred address, or,
// when that does not fit and it may be moved, at the lowest possible one from
// `lowest` up. A pure function.
//   OutOfRange  RAM is too small, the text says how much is needed.
absl::StatusOr<GuestAddress> PlaceBzImage(const BzImage& image,
                                          GuestAddress lowest,
                                          GuestAddress ram_end);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BOOT_BZIMAGE_H_
