// The input of split_virtqueue_fuzz_test and packed_virtqueue_fuzz_test, shared
// with what makes their seeds.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FUZZ_INPUT_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FUZZ_INPUT_H_

#include <cstddef>
#include <cstdint>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"

namespace vmsg::virtio::fuzz {

// An input:
//    0      u8     features: bit 0 event index, bit 1 indirect descriptors,
//                  bit 2 in order, bit 3 behind a translator
//    1      u8     split: queue size is 2 to the power of this modulo 7;
//                  packed: 1 + this modulo 64
//    2      le16   both positions at the start; packed: bit 15 is the wrap
//                  counter, and the rest is taken modulo the size
//    4      u8     n, number of operations
//    5      u8[n]  operations: low 4 bits what, high 4 bits an argument
//    5 + n  u8[]   image of guest memory from address 0, where the guest sees
//    it
inline constexpr size_t kHeaderBytes = 5;
inline constexpr uint8_t kEventIdx = 1;
inline constexpr uint8_t kIndirect = 2;
inline constexpr uint8_t kInOrder = 4;
inline constexpr uint8_t kTranslated = 8;

enum Op : uint8_t {
  kPop,
  kPopAll,
  kCompleteOldest,  // all it has, or argument bytes if that is less
  kCompleteNewest,
  kCopy,  // reads and writes the newest chain
  kShouldNotify,
  kEnable,
  kDisable,
  kAdvanceAvail,  // split: the guest adds the argument to its index; packed:
                  // it turns the flags of the descriptor named by the argument
                  // into available ones, those of the other turn if they are
  kRotateDesc,    // the guest copies descriptor 0 over one, named by argument
  kReset,         // the queue is made anew where it stood; chains are forgiven
  kGate,          // bus mastering: on if the argument is even
  kNumOps,
};
inline constexpr uint8_t Operation(Op op, uint8_t argument = 0) {
  return static_cast<uint8_t>(op | argument << 4);
}

// Low addresses, so that small numbers in a descriptor mean something.
inline constexpr uint64_t kRamBytes = 0x8000;
inline constexpr uint64_t kReadOnlyStart = 0x8000;
inline constexpr uint64_t kReadOnlyBytes = 0x1000;

// Behind the translator RAM is where it is, but cut into pieces of this size,
// which are no pages, in the reverse order; the rest of the last one stays.
inline constexpr uint64_t kTranslatedPiece = 0x3a8;
// Then, half a page each: read-only memory that may be written as far as the
// translator knows, nothing, RAM to be read, RAM to be written, no memory.
inline constexpr uint64_t kIovaHalfPage = 0x800;
inline constexpr uint64_t kIovaReadOnlyMemory = 0x8000;
inline constexpr uint64_t kIovaToBeRead = 0x9000;
inline constexpr uint64_t kIovaToBeWritten = 0x9800;
inline constexpr uint64_t kIovaOfNoMemory = 0xa000;

// Areas lie one after the other from address 0.
inline QueueConfig ConfigOfSize(uint32_t size) {
  const uint64_t driver = SplitDescBytes(size);
  const uint64_t device = (driver + SplitDriverBytes(size) + 3) / 4 * 4;
  return {.size = size, .desc = {0}, .driver = {driver}, .device = {device}};
}
inline QueueConfig PackedConfigOfSize(uint32_t size) {
  const uint64_t events = kDescriptorBytes * size;
  return {.size = size,
          .desc = {0},
          .driver = {events},
          .device = {events + kPackedEventBytes}};
}

}  // namespace vmsg::virtio::fuzz

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FUZZ_INPUT_H_
