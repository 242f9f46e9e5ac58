// The input of endpoint_fuzz_test, shared with what makes its seeds.

#ifndef VMSG_DEVICES_VIRTIO_MSG_ENDPOINT_FUZZ_INPUT_H_
#define VMSG_DEVICES_VIRTIO_MSG_ENDPOINT_FUZZ_INPUT_H_

#include <cstdint>

namespace vmsg::msg::fuzz {

// An input is a sequence of operations. Each is one byte, EndpointOp modulo
// kNumEndpointOps, and its arguments; one whose arguments are cut off ends the
// input. A "number" is one byte: below 200 itself, then powers of two and their
// neighbours, see Number() in the test.
enum EndpointOp : uint8_t {
  kGetInfo,
  kGetFeatures,  // numbers block, count
  kSetFeatures,  // number block, u8 count % 4, a word for each: see kWord...
  kGetConfig,    // numbers offset, length
  kSetConfig,    // u8 added to the generation, number offset, u8 length % 20
  kGetStatus,
  kSetStatus,       // u8 bits 0 to 7, u8 bits 8 to 15
  kGetVqueue,       // number index
  kSetVqueue,       // number index, number size, u8 kArea...
  kResetVqueue,     // number index
  kGetShm,          // number index
  kAvail,           // number index
  kChangeConfig,    // u8 offset % 17, u8 length
  kBreak,           // the device asks for a reset
  kFailActivation,  // the next one
  kNumEndpointOps,
};

// A feature word, one byte: these, or the bit of that number alone.
enum Word : uint8_t { kWordNone = 32, kWordOffered, kWordRequired, kWordAll };

// What is wrong with the areas of a queue: bits 0 and 1 which area, bits 2 and
// 3 what. 0: nothing.
enum Area : uint8_t {
  kAreaUnaligned = 1 << 2,
  kAreaPastTheEnd = 2 << 2,
  kAreaWraps = 3 << 2,
};

// Bounds the time of one input.
inline constexpr int kMaxEndpointOps = 300;

}  // namespace vmsg::msg::fuzz

#endif  // VMSG_DEVICES_VIRTIO_MSG_ENDPOINT_FUZZ_INPUT_H_
