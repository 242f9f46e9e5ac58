// Where a guest's RAM lies, and the map of it that its kernel is given.

#ifndef VMSG_VMM_BOOT_RAM_LAYOUT_H_
#define VMSG_VMM_BOOT_RAM_LAYOUT_H_

#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"

namespace vmsg::vmm {

inline constexpr uint64_t kMinRamBytes = uint64_t{4} << 20;
inline constexpr uint64_t kMaxRamBytes = uint64_t{64} << 30;
inline constexpr GuestAddress kHighRam{uint64_t{4} << 30};

// ACPI tables are put here, in what a PC calls its BIOS area, where a kernel
// without any other hint looks for the RSDP (ACPI 6.4, 5.2.5.1). It is RAM to
// the loader, and not to the guest.
inline constexpr GuestRange kAcpiArea{{0xE0000}, 0x20000};

// RAM from 0 up to kDeviceHole (vmm/boot/long_mode.h), and what is left from
// 4 GiB up. Either may be used as one region of a GuestMemory.
struct RamLayout {
  GuestRange low;
  GuestRange high;  // empty when all of it is below the hole

  uint64_t bytes() const { return low.size + high.size; }
};

// A pure function. InvalidArgument: not a multiple of 4096, less than
// kMinRamBytes or more than kMaxRamBytes.
absl::StatusOr<RamLayout> ComputeRamLayout(uint64_t ram_bytes);

// ACPI 6.4, table 15.2, and Linux Documentation/arch/x86/zero-page.rst.
enum class MemoryMapType : uint32_t { kRam = 1, kReserved = 2, kAcpi = 3 };

struct MemoryMapEntry {
  GuestRange range;
  MemoryMapType type = MemoryMapType::kRam;

  friend bool operator==(const MemoryMapEntry&,
                         const MemoryMapEntry&) = default;
};

// The map for the guest's kernel, sorted, without overlaps: RAM less the range
// from 640 KiB to 1 MiB; kAcpiArea; and `reserved`, places above all of the low
// RAM and outside the high RAM that are in use by devices and are not in any
// window of a host bridge (the ECAM). A pure function. `reserved` is sorted and
// does not overlap (checked).
std::vector<MemoryMapEntry> ComputeMemoryMap(
    const RamLayout& ram, std::span<const GuestRange> reserved);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BOOT_RAM_LAYOUT_H_
