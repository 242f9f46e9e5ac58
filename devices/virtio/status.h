// Bits of the device status field. Source: virtio 1.2, 2.1.

#ifndef VMSG_DEVICES_VIRTIO_STATUS_H_
#define VMSG_DEVICES_VIRTIO_STATUS_H_

#include <cstdint>

namespace vmsg::virtio {

// Set by the driver, in this order.
inline constexpr uint8_t kStatusAcknowledge = 1;
inline constexpr uint8_t kStatusDriver = 2;
inline constexpr uint8_t kStatusFeaturesOk = 8;  // cleared by the device: no
inline constexpr uint8_t kStatusDriverOk = 4;
// The driver has given up on the device.
inline constexpr uint8_t kStatusFailed = 128;

// Set by the device: only a reset helps.
inline constexpr uint8_t kStatusNeedsReset = 64;

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_STATUS_H_
