// ACPI tables of a small PC: the static ones come from dsdt.asl, the others are
// made here for the machine at hand. Source: ACPI Specification 6.4.

#ifndef VMSG_VMM_BOOT_ACPI_TABLES_H_
#define VMSG_VMM_BOOT_ACPI_TABLES_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::vmm {

// Fixed hardware that the tables name and that the embedder has to provide, all
// in the port space (4.8.3): event block with status and enable, control, and
// the reset register (4.8.3.6). There is no timer and no general purpose event.
inline constexpr uint16_t kAcpiEventPort = 0x600;    // 4 bytes
inline constexpr uint16_t kAcpiControlPort = 0x604;  // 2 bytes
inline constexpr uint16_t kAcpiResetPort = 0x606;    // 1 byte
inline constexpr uint8_t kAcpiResetValue = 1;
inline constexpr uint8_t kAcpiSleepTypeOff = 5;  // of \_S5 in dsdt.asl
inline constexpr uint32_t kAcpiSciIrq = 9;

struct AcpiMachine {
  uint32_t vcpus = 1;    // local APIC ids 0 to vcpus - 1; 1 to 255
  GuestRange ecam = {};  // of bus 0, below 4 GiB
  GuestRange window_32bit = {};
  GuestRange window_64bit = {};  // may be empty
};

// All tables as they lie in memory from `base` on; the RSDP first.
//   InvalidArgument  vcpus is 0 or above 255, or `base` is no multiple of 64 or
//                    not below 4 GiB.
absl::StatusOr<std::vector<std::byte>> BuildAcpiTables(
    const AcpiMachine& machine, GuestAddress base);

// Writes them at the start of kAcpiArea (vmm/boot/ram_layout.h) and returns the
// place of the RSDP. Errors of BuildAcpiTables, and:
//   OutOfRange  no writable RAM there, or the tables do not fit.
absl::StatusOr<GuestAddress> WriteAcpiTables(const AcpiMachine& machine,
                                             DmaSpace* memory);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BOOT_ACPI_TABLES_H_
