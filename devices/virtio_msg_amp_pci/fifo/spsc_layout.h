// Where things are in a FIFO window of layout `spsc`.
// Source: amp-pci-device, 3.1.
//
//   window 0x0000  reserved
//          0x1000  driver queue: the driver produces, the device consumes
//          0x2000  device queue: the device produces, the driver consumes
//          0x3000  reserved
//
//   queue  0x00    head, u32: next packet to write; the producer stores it
//   page   0x40    tail, u32: next packet to read; the consumer stores it
//          0x80    62 packets of 64 bytes, of which 61 hold something at most

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_LAYOUT_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace vmsg::amp {

inline constexpr size_t kSpscWindowBytes = 0x4000;
inline constexpr size_t kSpscDriverQueue = 0x1000;
inline constexpr size_t kSpscDeviceQueue = 0x2000;

inline constexpr size_t kSpscPageBytes = 0x1000;
inline constexpr size_t kSpscHead = 0x00;
inline constexpr size_t kSpscTail = 0x40;
inline constexpr size_t kSpscPackets = 0x80;
inline constexpr size_t kSpscPacketBytes = 64;
inline constexpr uint32_t kSpscSlots = 62;
inline constexpr uint32_t kSpscCapacity = kSpscSlots - 1;

static_assert(kSpscSlots == (kSpscPageBytes - kSpscPackets) / kSpscPacketBytes);
static_assert(kSpscPackets + kSpscSlots * kSpscPacketBytes == kSpscPageBytes);
static_assert(kSpscDriverQueue + kSpscPageBytes == kSpscDeviceQueue);
static_assert(kSpscDeviceQueue + 2 * kSpscPageBytes == kSpscWindowBytes);
// Each index, and each packet, has a cache line of its own.
static_assert(kSpscTail - kSpscHead >= 64 && kSpscPackets - kSpscTail >= 64);
static_assert(kSpscPackets % 64 == 0 && kSpscPacketBytes == 64);

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_LAYOUT_H_
