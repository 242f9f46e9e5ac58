// Offsets and bits of the configuration space header (type 0) and of the MSI-X
// capability. Source: PCI Local Bus 3.0, 6.1, 6.2 and 6.8.2.

#ifndef VMSG_VMM_PCI_PCI_CONFIG_LAYOUT_H_
#define VMSG_VMM_PCI_PCI_CONFIG_LAYOUT_H_

#include <cstdint>

namespace vmsg::vmm::pci_config {

inline constexpr uint16_t kBytes = 256;

// 6.1, figure 6-1. Byte offsets.
inline constexpr uint16_t kVendorId = 0x00;  // device id: upper half
inline constexpr uint16_t kCommand = 0x04;   // status: upper half
inline constexpr uint16_t kRevision = 0x08;  // class code: upper three bytes
inline constexpr uint16_t kHeaderType = 0x0E;
inline constexpr uint16_t kBar0 = 0x10;
inline constexpr uint16_t kSubsystemVendorId = 0x2C;  // id: upper half
inline constexpr uint16_t kCapabilitiesPointer = 0x34;
inline constexpr uint16_t kInterruptLine = 0x3C;
inline constexpr uint8_t kMaxBars = 6;

// 6.2.2.
inline constexpr uint32_t kCommandMemory = 1u << 1;
inline constexpr uint32_t kCommandBusMaster = 1u << 2;
inline constexpr uint32_t kCommandInterruptDisable = 1u << 10;
// 6.2.3, in the dword at kCommand.
inline constexpr uint32_t kStatusCapabilities = 1u << 20;

// 6.2.1.
inline constexpr uint32_t kMultiFunction = 0x80;

// 6.2.5.1.
inline constexpr uint32_t kBar64Bit = 0x4;
inline constexpr uint32_t kBarPrefetchable = 0x8;
inline constexpr uint64_t kBarMinBytes = 16;
inline constexpr uint64_t kBar32MaxBytes = uint64_t{1} << 31;

// 6.8.2: offsets from the start of the capability.
inline constexpr uint8_t kMsixCapabilityId = 0x11;
inline constexpr uint16_t kMsixTable = 4;
inline constexpr uint16_t kMsixPending = 8;
// 6.8.2.3: message control.
inline constexpr uint16_t kMsixFunctionMask = 1u << 14;
inline constexpr uint16_t kMsixEnable = 1u << 15;

// True for an access that a function serves: 1, 2 or 4 bytes, inside the space,
// inside one dword.
constexpr bool IsServed(uint16_t offset, uint8_t width) {
  return (width == 1 || width == 2 || width == 4) && offset < kBytes &&
         (offset & 3) + width <= 4;
}

// `width` bytes of ones.
constexpr uint32_t Ones(uint8_t width) {
  return width >= 4 ? ~uint32_t{0} : (uint32_t{1} << (8 * width)) - 1;
}

}  // namespace vmsg::vmm::pci_config

#endif  // VMSG_VMM_PCI_PCI_CONFIG_LAYOUT_H_
