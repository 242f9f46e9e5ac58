// The input of message_bus_fuzz_test, shared with what makes its seeds.

#ifndef VMSG_DEVICES_VIRTIO_MSG_MESSAGE_BUS_FUZZ_INPUT_H_
#define VMSG_DEVICES_VIRTIO_MSG_MESSAGE_BUS_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>

namespace vmsg::msg::fuzz {

// An input is a sequence of operations. Each is one byte, Op modulo kNumOps,
// and its arguments; one whose arguments are cut off ends the input.
enum Op : uint8_t {
  kMessage,   // u8 n, u8[n]: a message; its token is replaced, see below
  kTime,      // u8: milliseconds
  kPlug,      // u8: slot
  kUnplug,    // u8: slot in bits 0 to 4, bit 7 forced
  kRoom,      // u8: 0 to 6, or no limit
  kHold,      // u8: slot in bits 0 to 4, bit 7 hold or let go
  kResetAll,  // the driver is a new one; no argument
  kDevice,    // u8: slot in bits 0 to 4, bits 5 to 7 what it does
  kMemory,    // le16 offset / 2, le16 value: guest memory changes
  kService,   // the link is served; no argument
  kNumOps,
};

// So that tokens tell requests apart whatever the input holds, the target puts
// a running number into bytes 4 and 5 of each message of 8 bytes or more. An
// answer to a PING keeps its own, unless its data is kRightAnswer: it then gets
// token and data of the last PING that the driver received.
inline constexpr uint32_t kRightAnswer = 0xFFFFFFFF;
inline constexpr size_t kMaxMessage = 96;  // above the 64 of the bus
// Bounds the time of one input.
inline constexpr int kMaxOps = 400;

}  // namespace vmsg::msg::fuzz

#endif  // VMSG_DEVICES_VIRTIO_MSG_MESSAGE_BUS_FUZZ_INPUT_H_
