// The input of monitor_fuzz_test, shared with what makes its seeds.

#ifndef VMSG_DEVICES_VIRTIO_MSG_MONITOR_MONITOR_FUZZ_INPUT_H_
#define VMSG_DEVICES_VIRTIO_MSG_MONITOR_MONITOR_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>

namespace vmsg::msg::fuzz {

// An input is a sequence of operations. Each is one byte, Op modulo kNumOps,
// and its arguments; one whose arguments are cut off ends the input.
enum Op : uint8_t {
  kDriver,  // u8 n, u8[n]: a message of the driver
  kDevice,  // u8 n, u8[n]: a message of the device
  kReset,   // the driver is a new one; no argument
  kNumOps,
};

inline constexpr size_t kMaxMessage = 96;  // above the 64 of the bus

}  // namespace vmsg::msg::fuzz

#endif  // VMSG_DEVICES_VIRTIO_MSG_MONITOR_MONITOR_FUZZ_INPUT_H_
