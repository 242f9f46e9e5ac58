// Messages as bytes, for tests: what a driver would send, and a view of what it
// gets. It shares no code with the codec, so that neither hides the other's
// mistakes.

#ifndef VMSG_DEVICES_VIRTIO_MSG_TESTING_WIRE_H_
#define VMSG_DEVICES_VIRTIO_MSG_TESTING_WIRE_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string_view>
#include <vector>

namespace vmsg::msg {

using Bytes = std::vector<std::byte>;

// Bytes from hexadecimal digits; everything else is skipped.
Bytes Hex(std::string_view digits);

// A payload, field by field, little-endian.
class Payload {
 public:
  Payload& U16(uint16_t value) { return Add(value, 2); }
  Payload& U32(uint32_t value) { return Add(value, 4); }
  Payload& U64(uint64_t value) { return Add(value, 8); }
  Payload& Data(std::initializer_list<uint8_t> bytes);
  const Bytes& bytes() const { return bytes_; }

 private:
  Payload& Add(uint64_t value, int size);
  Bytes bytes_;
};

inline constexpr uint16_t kTestToken = 0x1234;

// A whole message with a correct header.
Bytes Message(uint8_t type, uint8_t msg_id, uint16_t dev_num,
              const Payload& payload = {}, uint16_t token = kTestToken);

// Requests and events of a driver. Source: virtio-msg-messages, 4 and 5.
Bytes GetDeviceInfoRequest(uint16_t dev, uint16_t token = kTestToken);
Bytes GetDeviceFeaturesRequest(uint16_t dev, uint32_t block, uint32_t count);
Bytes SetDriverFeaturesRequest(uint16_t dev, uint32_t block,
                               std::initializer_list<uint32_t> words);
Bytes GetConfigRequest(uint16_t dev, uint32_t offset, uint32_t length,
                       uint16_t token = kTestToken);
Bytes SetConfigRequest(uint16_t dev, uint32_t generation, uint32_t offset,
                       std::initializer_list<uint8_t> data);
Bytes GetStatusRequest(uint16_t dev, uint16_t token = kTestToken);
Bytes SetStatusRequest(uint16_t dev, uint32_t status,
                       uint16_t token = kTestToken);
Bytes GetVqueueRequest(uint16_t dev, uint32_t index);
Bytes SetVqueueRequest(uint16_t dev, uint32_t index, uint32_t size,
                       uint64_t desc, uint64_t driver, uint64_t device);
Bytes ResetVqueueRequest(uint16_t dev, uint32_t index);
Bytes GetShmRequest(uint16_t dev, uint32_t index);
Bytes AvailEvent(uint16_t dev, uint32_t index, uint32_t next_offset = 0);
Bytes GetDevicesRequest(uint16_t offset, uint16_t count);
Bytes PingRequest(uint32_t data, uint16_t token = kTestToken);
Bytes PingAnswer(uint32_t data, uint16_t token);

// What the device sent.
class Received {
 public:
  explicit Received(Bytes bytes) : bytes_(std::move(bytes)) {}

  uint8_t type() const { return static_cast<uint8_t>(bytes_.at(0)); }
  uint8_t id() const { return static_cast<uint8_t>(bytes_.at(1)); }
  uint16_t dev() const { return static_cast<uint16_t>(Get(2, 2)); }
  uint16_t token() const { return static_cast<uint16_t>(Get(4, 2)); }
  uint16_t msg_size() const { return static_cast<uint16_t>(Get(6, 2)); }
  // Fields of the payload by their offset P.
  uint16_t u16(size_t p) const { return static_cast<uint16_t>(Get(8 + p, 2)); }
  uint32_t u32(size_t p) const { return static_cast<uint32_t>(Get(8 + p, 4)); }
  uint64_t u64(size_t p) const { return Get(8 + p, 8); }
  uint8_t u8(size_t p) const { return static_cast<uint8_t>(Get(8 + p, 1)); }

  bool is_response() const { return (type() & 1) != 0; }
  bool is_bus() const { return (type() & 2) != 0; }
  bool is_event() const { return (id() & 0x40) != 0; }
  bool is_config_event() const { return !is_bus() && id() == 0x40; }
  bool is_used_event() const { return !is_bus() && id() == 0x42; }
  bool is_device_event() const { return is_bus() && id() == 0x40; }
  bool is_ping() const { return is_bus() && !is_response() && id() == 0x03; }

  const Bytes& bytes() const { return bytes_; }

 private:
  uint64_t Get(size_t offset, size_t size) const;
  Bytes bytes_;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_TESTING_WIRE_H_
