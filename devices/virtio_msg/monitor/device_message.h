// What a device sent, as the driver reads it.

#ifndef VMSG_DEVICES_VIRTIO_MSG_MONITOR_DEVICE_MESSAGE_H_
#define VMSG_DEVICES_VIRTIO_MSG_MONITOR_DEVICE_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

#include "devices/virtio_msg/message.h"

namespace vmsg::msg {

struct FeaturesAnswer {
  uint32_t block_index = 0;
  FeatureWords words;
};
// GET_CONFIG and SET_CONFIG.
struct ConfigAnswer {
  uint32_t generation = 0;
  uint32_t length = 0;
};
// GET_DEVICE_STATUS and SET_DEVICE_STATUS.
struct StatusAnswer {
  uint32_t status = 0;
};
struct VqueueAnswer {
  uint32_t index = 0;
  uint32_t max_size = 0;
  uint32_t cur_size = 0;
};
// Without a payload, or with one that says nothing about the driver.
struct OtherAnswer {};
struct ConfigChanged {
  uint32_t status = 0;
  uint32_t generation = 0;
  bool has_data = false;
};
struct DevicesAnswer {
  uint32_t offset = 0;
  std::span<const std::byte> bitmap;  // views the message
};
struct DeviceStateEvent {
  uint32_t device_number = 0;
  uint32_t state = 0;  // DeviceBusState, or another value
};

// Ping: a request of the device. std::monostate: nothing that concerns the
// monitor (EVENT_USED, the answer to a PING).
using DeviceMessage =
    std::variant<std::monostate, DeviceInfoResponse, FeaturesAnswer,
                 ConfigAnswer, StatusAnswer, VqueueAnswer, OtherAnswer,
                 ConfigChanged, DevicesAnswer, DeviceStateEvent, Ping>;

// Decodes what the device's side sent. False, and the results mean nothing,
// when `bytes` hold no whole message. The result views `bytes`. Neither
// allocates nor blocks; any thread. Source: virtio-msg-messages, 4 and 5.
bool DecodeFromDevice(std::span<const std::byte> bytes, Header* header,
                      DeviceMessage* message);

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_MONITOR_DEVICE_MESSAGE_H_
