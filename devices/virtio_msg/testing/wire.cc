#include "devices/virtio_msg/testing/wire.h"

#include <cctype>
#include <string>

namespace vmsg::msg {

Bytes Hex(std::string_view digits) {
  std::string clean;
  for (const char c : digits) {
    if (std::isxdigit(static_cast<unsigned char>(c)) != 0) clean.push_back(c);
  }
  Bytes bytes;
  for (size_t i = 0; i + 1 < clean.size(); i += 2) {
    bytes.push_back(
        static_cast<std::byte>(std::stoul(clean.substr(i, 2), nullptr, 16)));
  }
  return bytes;
}

Payload& Payload::Data(std::initializer_list<uint8_t> bytes) {
  for (const uint8_t byte : bytes) Add(byte, 1);
  return *this;
}

Payload& Payload::Add(uint64_t value, int size) {
  for (int i = 0; i < size; ++i) {
    bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
  return *this;
}

Bytes Message(uint8_t type, uint8_t msg_id, uint16_t dev_num,
              const Payload& payload, uint16_t token) {
  Bytes message = {static_cast<std::byte>(type),
                   static_cast<std::byte>(msg_id)};
  const Payload rest = Payload().U16(dev_num).U16(token).U16(
      static_cast<uint16_t>(8 + payload.bytes().size()));
  message.insert(message.end(), rest.bytes().begin(), rest.bytes().end());
  message.insert(message.end(), payload.bytes().begin(), payload.bytes().end());
  return message;
}

Bytes GetDeviceInfoRequest(uint16_t dev, uint16_t token) {
  return Message(0, 0x02, dev, {}, token);
}
Bytes GetDeviceFeaturesRequest(uint16_t dev, uint32_t block, uint32_t count) {
  return Message(0, 0x03, dev, Payload().U32(block).U32(count));
}
Bytes SetDriverFeaturesRequest(uint16_t dev, uint32_t block,
                               std::initializer_list<uint32_t> words) {
  Payload payload;
  payload.U32(block).U32(static_cast<uint32_t>(words.size()));
  for (const uint32_t word : words) payload.U32(word);
  return Message(0, 0x04, dev, payload);
}
Bytes GetConfigRequest(uint16_t dev, uint32_t offset, uint32_t length,
                       uint16_t token) {
  return Message(0, 0x05, dev, Payload().U32(offset).U32(length), token);
}
Bytes SetConfigRequest(uint16_t dev, uint32_t generation, uint32_t offset,
                       std::initializer_list<uint8_t> data) {
  return Message(0, 0x06, dev,
                 Payload()
                     .U32(generation)
                     .U32(offset)
                     .U32(static_cast<uint32_t>(data.size()))
                     .Data(data));
}
Bytes GetStatusRequest(uint16_t dev, uint16_t token) {
  return Message(0, 0x07, dev, {}, token);
}
Bytes SetStatusRequest(uint16_t dev, uint32_t status, uint16_t token) {
  return Message(0, 0x08, dev, Payload().U32(status), token);
}
Bytes GetVqueueRequest(uint16_t dev, uint32_t index) {
  return Message(0, 0x09, dev, Payload().U32(index));
}
Bytes SetVqueueRequest(uint16_t dev, uint32_t index, uint32_t size,
                       uint64_t desc, uint64_t driver, uint64_t device) {
  return Message(
      0, 0x0A, dev,
      Payload().U32(index).U32(0).U32(size).U32(0).U64(desc).U64(driver).U64(
          device));
}
Bytes ResetVqueueRequest(uint16_t dev, uint32_t index) {
  return Message(0, 0x0B, dev, Payload().U32(index));
}
Bytes GetShmRequest(uint16_t dev, uint32_t index) {
  return Message(0, 0x0C, dev, Payload().U32(index));
}
Bytes AvailEvent(uint16_t dev, uint32_t index, uint32_t next_offset) {
  return Message(0, 0x41, dev, Payload().U32(index).U32(next_offset), 0);
}
Bytes GetDevicesRequest(uint16_t offset, uint16_t count) {
  return Message(2, 0x02, 0, Payload().U16(offset).U16(count));
}
Bytes PingRequest(uint32_t data, uint16_t token) {
  return Message(2, 0x03, 0, Payload().U32(data), token);
}

Bytes PingAnswer(uint32_t data, uint16_t token) {
  return Message(3, 0x03, 0, Payload().U32(data), token);
}

uint64_t Received::Get(size_t offset, size_t size) const {
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) {
    value |= static_cast<uint64_t>(bytes_.at(offset + i)) << (8 * i);
  }
  return value;
}

}  // namespace vmsg::msg
