// Messages in a form that no wire revision shows through.
//
// The codec turns bytes into these and back; nothing outside it knows field
// offsets. Where revisions differ in meaning, RevisionPolicy is asked.
// Source: virtio-msg-messages, sections 2 to 5.

#ifndef VMSG_DEVICES_VIRTIO_MSG_MESSAGE_H_
#define VMSG_DEVICES_VIRTIO_MSG_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <variant>

#include "devices/virtio/queue/virtqueue.h"

namespace vmsg::msg {

// Common header, without msg_size: the codec checks and computes that.
struct Header {
  bool is_response = false;
  bool is_bus = false;
  uint8_t msg_id = 0;
  uint32_t dev_num = 0;  // 16 bits on today's wires
  uint16_t token = 0;
};

// `count` little-endian 32-bit words inside a message buffer; valid as long as
// that buffer.
class FeatureWords {
 public:
  FeatureWords() = default;
  explicit FeatureWords(std::span<const std::byte> bytes) : bytes_(bytes) {}
  uint32_t size() const { return static_cast<uint32_t>(bytes_.size() / 4); }
  // REQUIRES: i < size().
  uint32_t operator[](uint32_t i) const {
    const std::byte* p = bytes_.data() + size_t{4} * i;
    return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8 |
           static_cast<uint32_t>(p[2]) << 16 |
           static_cast<uint32_t>(p[3]) << 24;
  }

 private:
  std::span<const std::byte> bytes_;
};

// --- What a driver sends. ---

struct GetDeviceInfo {};
struct GetDeviceFeatures {
  uint32_t block_index = 0;
  uint32_t num_blocks = 0;
};
struct SetDriverFeatures {
  uint32_t block_index = 0;
  FeatureWords words;
};
struct GetConfig {
  uint32_t offset = 0;
  uint32_t length = 0;
};
struct SetConfig {
  uint32_t generation = 0;
  uint32_t offset = 0;
  std::span<const std::byte> data;  // views the received message
};
struct GetDeviceStatus {};
struct SetDeviceStatus {
  uint32_t status = 0;
  // Bits 8 to 31 have no meaning and are ignored (O-32).
  uint8_t bits() const { return static_cast<uint8_t>(status); }
  bool is_reset() const { return bits() == 0; }
};
struct GetVqueue {
  uint32_t index = 0;
};
struct SetVqueue {
  uint32_t index = 0;
  // What becomes of the queue's enable state, and which fields are to be left
  // as they are. Revision 2025 has neither: always enable, keep nothing.
  enum class Enable : uint8_t { kEnable, kDisable, kKeep };
  Enable enable = Enable::kEnable;
  bool keep_size = false;
  bool keep_desc = false;
  bool keep_driver = false;
  bool keep_device = false;
  virtio::QueueConfig config;
};
struct ResetVqueue {
  uint32_t index = 0;
};
struct GetShm {
  uint32_t index = 0;
};
struct EventAvail {
  uint32_t index = 0;
  uint32_t next_offset = 0;  // bits 30 to 0
  bool next_wrap = false;
};
struct GetDevices {
  uint32_t offset = 0;
  uint32_t count = 0;
};
struct Ping {
  uint32_t data = 0;
};
struct PingResponse {
  uint32_t data = 0;
};

using DriverMessage =
    std::variant<GetDeviceInfo, GetDeviceFeatures, SetDriverFeatures, GetConfig,
                 SetConfig, GetDeviceStatus, SetDeviceStatus, GetVqueue,
                 SetVqueue, ResetVqueue, GetShm, EventAvail, GetDevices, Ping,
                 PingResponse>;

// --- What a device sends. ---

struct DeviceInfoResponse {
  uint32_t device_id = 0;
  uint32_t vendor_id = 0;
  uint32_t num_feature_bits = 0;
  uint32_t config_size = 0;
  uint32_t max_virtqueues = 0;
  uint32_t admin_vq_start = 0;
  uint32_t admin_vq_count = 0;
};
struct VqueueResponse {
  uint32_t index = 0;
  uint32_t max_size = 0;
  bool enabled = false;
  virtio::QueueConfig config;
};
struct ShmResponse {
  uint32_t index = 0;
  uint64_t length = 0;
  uint64_t address = 0;
};
struct ConfigEvent {
  uint32_t status = 0;
  uint32_t generation = 0;
  uint32_t offset = 0;
  uint32_t length = 0;
};
enum class DeviceBusState : uint16_t { kReady = 1, kRemoved = 2 };

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_MESSAGE_H_
