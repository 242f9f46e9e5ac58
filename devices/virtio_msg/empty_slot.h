// What a driver hears about a device number that has no device.

#ifndef VMSG_DEVICES_VIRTIO_MSG_EMPTY_SLOT_H_
#define VMSG_DEVICES_VIRTIO_MSG_EMPTY_SLOT_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "devices/virtio_msg/codec.h"
#include "devices/virtio_msg/message.h"

namespace vmsg::msg {

// The neutral answer: "no device here" for GET_DEVICE_INFO, and for the others
// status 0, zero features, length 0, max_size 0 or nothing. A driver waits long
// and blocks a guest thread for each answer, so silence would be worse. Returns
// the size of the answer in `out`; 0 for an event, which has none.
// REQUIRES: `message` is a transport message, and `out` has max_message_bytes.
// Source: amp-pci-device, section 4.
size_t AnswerForEmptySlot(Revision revision, uint32_t max_message_bytes,
                          const Header& header, const DriverMessage& message,
                          std::span<std::byte> out);

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_EMPTY_SLOT_H_
