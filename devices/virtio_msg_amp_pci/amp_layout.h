// Numbers of the virtio-msg-amp-pci function. Source: amp-pci-device, 1 to 3.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_LAYOUT_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_LAYOUT_H_

#include <cstdint>

namespace vmsg::amp {

// Section 1.
inline constexpr uint16_t kVendorId = 0x10EE;
inline constexpr uint16_t kDeviceId = 0x9039;
inline constexpr uint8_t kRevisionId = 0x01;
inline constexpr uint8_t kClassCode = 0x08;
inline constexpr uint8_t kSubclass = 0x80;
inline constexpr uint8_t kProgIf = 0x00;
inline constexpr uint16_t kDefaultSubsystemVendorId = 0x1AF4;
inline constexpr uint16_t kDefaultSubsystemId = 0x1100;

// Section 2.
inline constexpr uint8_t kRegisterBar = 0;
inline constexpr uint64_t kRegisterBarBytes = uint64_t{16} * 1024;
inline constexpr uint8_t kFifoBar = 1;
inline constexpr uint8_t kMsixBar = 2;
inline constexpr uint64_t kMsixBarBytes = 4096;
inline constexpr uint32_t kMsixTableOffset = 0x000;
inline constexpr uint32_t kMsixPendingOffset = 0x800;

inline constexpr uint64_t kRegVersion = 0x00;
inline constexpr uint32_t kVersion = 0x00000001;
inline constexpr uint64_t kRegFeatures = 0x04;
inline constexpr uint64_t kRegNotify = 0x20;  // + 4 * n
inline constexpr uint64_t kNotifyStride = 4;

// Section 3.
inline constexpr uint32_t kMinFifos = 1;
inline constexpr uint32_t kMaxFifos = 8;
inline constexpr uint32_t kDefaultFifos = 2;
inline constexpr uint64_t kFifoWindowBytes = uint64_t{16} * 1024;
inline constexpr uint32_t kPacketBytes = 64;

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_LAYOUT_H_
