// RawMessage: 64 bytes that look like a message, or not.

#ifndef VMSG_GUEST_ADVERSARY_RAW_MESSAGE_H_
#define VMSG_GUEST_ADVERSARY_RAW_MESSAGE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/fifo.h"
#include "guest/driver/message.h"

namespace vmsg::guest {

// Any byte can be set to anything. Offsets count from the start of the message;
// what would lie past its end is cut off.
class RawMessage {
 public:
  // Our token; answers are told apart by it.
  static constexpr uint16_t kToken = 0x7A01;

  constexpr RawMessage() = default;
  constexpr RawMessage(uint8_t type, uint8_t id, uint16_t dev_num,
                       uint16_t size) {
    U8(0, type).U8(1, id).U16(2, dev_num).Token(kToken).Size(size);
  }

  constexpr RawMessage& U8(size_t at, uint8_t v) { return Put(at, v, 1); }
  constexpr RawMessage& U16(size_t at, uint16_t v) { return Put(at, v, 2); }
  constexpr RawMessage& U32(size_t at, uint32_t v) { return Put(at, v, 4); }
  constexpr RawMessage& U64(size_t at, uint64_t v) { return Put(at, v, 8); }
  constexpr RawMessage& Type(uint8_t v) { return U8(0, v); }
  constexpr RawMessage& Id(uint8_t v) { return U8(1, v); }
  constexpr RawMessage& Device(uint16_t v) { return U16(2, v); }
  constexpr RawMessage& Token(uint16_t v) { return U16(4, v); }
  constexpr RawMessage& Size(uint16_t v) { return U16(6, v); }
  constexpr RawMessage& Fill(uint8_t v) {
    for (std::byte& b : packet_.bytes) b = std::byte{v};
    return *this;
  }

  constexpr const Packet& packet() const { return packet_; }
  constexpr uint64_t Get(size_t at, size_t bytes) const {
    return Get(packet_, at, bytes);
  }
  static constexpr uint64_t Get(const Packet& packet, size_t at, size_t bytes) {
    uint64_t value = 0;
    for (size_t i = bytes; i-- > 0;) {
      value = value << 8 | static_cast<uint64_t>(packet.bytes[at + i]);
    }
    return value;
  }

 private:
  constexpr RawMessage& Put(size_t at, uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes && at + i < kPacketBytes; ++i) {
      packet_.bytes[at + i] = static_cast<std::byte>(value >> (8 * i));
    }
    return *this;
  }

  Packet packet_;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_ADVERSARY_RAW_MESSAGE_H_
