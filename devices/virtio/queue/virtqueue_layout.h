// Virtqueues in guest memory: split (virtio 1.2, 2.7) and packed (2.8).
//
// All fields are little-endian. Structures are described by offsets and never
// overlaid on guest memory: each field is copied out of it once.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_LAYOUT_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_LAYOUT_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "devices/virtio/little_endian.h"

namespace vmsg::virtio {

// Largest queue of either format. Source: virtio 1.2, 2.7 and 2.8.10.1.
inline constexpr uint32_t kMaxQueueSize = 32768;
// Of a chain, in both directions together: 2.7.5.2 and 2.8.16.
inline constexpr uint64_t kMaxChainBytes = uint64_t{1} << 32;

// Alignment of the areas of a split ring; the first is that of both formats.
// Source: virtio 1.2, 2.7 and 2.8.10.1.
inline constexpr uint64_t kDescAlign = 16;
inline constexpr uint64_t kSplitDriverAlign = 2;
inline constexpr uint64_t kSplitDeviceAlign = 4;

// --- Descriptor area: size descriptors. Source: virtio 1.2, 2.7.5. ---
//    0  le64  addr
//    8  le32  len
//   12  le16  flags
//   14  le16  next
inline constexpr uint64_t kDescriptorBytes = 16;

inline constexpr uint16_t kDescFlagNext = 1;
inline constexpr uint16_t kDescFlagWrite = 2;
inline constexpr uint16_t kDescFlagIndirect = 4;

// A descriptor's fields in host byte order.
struct Descriptor {
  uint64_t address = 0;
  uint32_t length = 0;
  uint16_t flags = 0;
  uint16_t next = 0;

  friend bool operator==(const Descriptor&, const Descriptor&) = default;
};
using DescriptorBytes = std::array<std::byte, kDescriptorBytes>;

// --- Driver (available) area. Source: virtio 1.2, 2.7.6. ---
//    0               le16  flags
//    2               le16  idx
//    4               le16  ring[size]
//    4 + 2 * size    le16  used_event, with VIRTIO_F_EVENT_IDX
inline constexpr uint64_t kAvailFlags = 0;
inline constexpr uint64_t kAvailIdx = 2;
inline constexpr uint64_t kAvailRing = 4;
inline constexpr uint64_t kAvailEntryBytes = 2;

inline constexpr uint16_t kAvailFlagNoInterrupt = 1;

constexpr uint64_t UsedEventOffset(uint32_t size) {
  return kAvailRing + kAvailEntryBytes * size;
}

// --- Device (used) area. Source: virtio 1.2, 2.7.8. ---
//    0               le16  flags
//    2               le16  idx
//    4               { le32 id, le32 len }  ring[size]
//    4 + 8 * size    le16  avail_event, with VIRTIO_F_EVENT_IDX
inline constexpr uint64_t kUsedFlags = 0;
inline constexpr uint64_t kUsedIdx = 2;
inline constexpr uint64_t kUsedRing = 4;
inline constexpr uint64_t kUsedEntryBytes = 8;
using UsedEntryBytes = std::array<std::byte, kUsedEntryBytes>;

inline constexpr uint16_t kUsedFlagNoNotify = 1;

constexpr uint64_t AvailEventOffset(uint32_t size) {
  return kUsedRing + kUsedEntryBytes * size;
}

// Lengths of the areas. The event word belongs to its area whether or not
// VIRTIO_F_EVENT_IDX is negotiated. Source: virtio 1.2, 2.7.
constexpr uint64_t SplitDescBytes(uint32_t size) {
  return kDescriptorBytes * size;
}
constexpr uint64_t SplitDriverBytes(uint32_t size) {
  return UsedEventOffset(size) + 2;
}
constexpr uint64_t SplitDeviceBytes(uint32_t size) {
  return AvailEventOffset(size) + 2;
}
static_assert(SplitDriverBytes(256) == 6 + 2 * 256);
static_assert(SplitDeviceBytes(256) == 6 + 8 * 256);

// --- Packed ring: size descriptors. Source: virtio 1.2, 2.8.13. ---
//    0  le64  addr
//    8  le32  len
//   12  le16  id
//   14  le16  flags: those above, and the two of availability
// The same place holds an available descriptor, then a used one: id, length
// written and flags, with the address left alone.
inline constexpr uint64_t kPackedEventAlign = 4;

inline constexpr uint64_t kPackedLength = 8;
inline constexpr uint64_t kPackedFlags = 14;

// Equal to the wrap counter of who made the descriptor available, or used.
// Available: AVAIL is the driver's wrap counter and USED its inverse. Used:
// both are the device's. Source: virtio 1.2, 2.8.1.
inline constexpr uint16_t kDescFlagAvail = 1 << 7;
inline constexpr uint16_t kDescFlagUsed = 1 << 15;

constexpr uint16_t PackedAvailFlags(bool wrap) {
  return wrap ? kDescFlagAvail : kDescFlagUsed;
}
constexpr uint16_t PackedUsedFlags(bool wrap) {
  return wrap ? kDescFlagAvail | kDescFlagUsed : 0;
}
constexpr bool IsPackedAvail(uint16_t flags, bool wrap) {
  return (flags & (kDescFlagAvail | kDescFlagUsed)) == PackedAvailFlags(wrap);
}

// A descriptor's fields in host byte order.
struct PackedDescriptor {
  uint64_t address = 0;
  uint32_t length = 0;
  uint16_t id = 0;
  uint16_t flags = 0;

  friend bool operator==(const PackedDescriptor&,
                         const PackedDescriptor&) = default;
};

// --- Driver and device area of a packed ring: event suppression. ---
//    0  le16  event: slot (15 bits) and wrap counter (bit 15)
//    2  le16  flags: 2 bits
// Source: virtio 1.2, 2.8.14.
inline constexpr uint64_t kEventPosition = 0;
inline constexpr uint64_t kEventFlags = 2;
inline constexpr uint64_t kPackedEventBytes = 4;

inline constexpr uint16_t kEventFlagsMask = 3;
inline constexpr uint16_t kEventEnable = 0;
inline constexpr uint16_t kEventDisable = 1;
inline constexpr uint16_t kEventDesc = 2;  // with VIRTIO_F_EVENT_IDX only

// A place in the ring and the wrap counter there, as the event structure and
// Virtqueue::Position hold it.
struct PackedCursor {
  uint16_t slot = 0;
  bool wrap = true;

  static constexpr PackedCursor Decode(uint16_t word) {
    return {.slot = static_cast<uint16_t>(word & 0x7fff),
            .wrap = (word & 0x8000) != 0};
  }
  constexpr uint16_t Encode() const {
    return static_cast<uint16_t>(slot | (wrap ? 0x8000 : 0));
  }
  // REQUIRES: slot < size, count <= size.
  constexpr void Advance(uint32_t count, uint32_t size) {
    uint32_t next = slot + count;
    if (next >= size) {
      next -= size;
      wrap = !wrap;
    }
    slot = static_cast<uint16_t>(next);
  }
  // Places come back after two turns of the ring: 0 to 2 * size - 1.
  constexpr uint32_t InTwoTurns(uint32_t size) const {
    return wrap ? slot : slot + size;
  }

  friend bool operator==(const PackedCursor&, const PackedCursor&) = default;
};

// --- Bytes and fields. ---

inline Descriptor DecodeDescriptor(const DescriptorBytes& bytes) {
  const std::span<const std::byte, kDescriptorBytes> all(bytes);
  return {.address = LoadLittle<uint64_t>(all.subspan<0, 8>()),
          .length = LoadLittle<uint32_t>(all.subspan<8, 4>()),
          .flags = LoadLittle<uint16_t>(all.subspan<12, 2>()),
          .next = LoadLittle<uint16_t>(all.subspan<14, 2>())};
}

inline DescriptorBytes EncodeDescriptor(const Descriptor& descriptor) {
  DescriptorBytes bytes = {};
  const std::span<std::byte, kDescriptorBytes> all(bytes);
  StoreLittle(descriptor.address, all.subspan<0, 8>());
  StoreLittle(descriptor.length, all.subspan<8, 4>());
  StoreLittle(descriptor.flags, all.subspan<12, 2>());
  StoreLittle(descriptor.next, all.subspan<14, 2>());
  return bytes;
}

inline PackedDescriptor DecodePackedDescriptor(const DescriptorBytes& bytes) {
  const std::span<const std::byte, kDescriptorBytes> all(bytes);
  return {.address = LoadLittle<uint64_t>(all.subspan<0, 8>()),
          .length = LoadLittle<uint32_t>(all.subspan<8, 4>()),
          .id = LoadLittle<uint16_t>(all.subspan<12, 2>()),
          .flags = LoadLittle<uint16_t>(all.subspan<14, 2>())};
}

inline DescriptorBytes EncodePackedDescriptor(
    const PackedDescriptor& descriptor) {
  DescriptorBytes bytes = {};
  const std::span<std::byte, kDescriptorBytes> all(bytes);
  StoreLittle(descriptor.address, all.subspan<0, 8>());
  StoreLittle(descriptor.length, all.subspan<8, 4>());
  StoreLittle(descriptor.id, all.subspan<12, 2>());
  StoreLittle(descriptor.flags, all.subspan<14, 2>());
  return bytes;
}

// What a used descriptor holds between address and flags.
using PackedUsedBytes = std::array<std::byte, 6>;

inline PackedUsedBytes EncodePackedUsed(uint16_t id, uint32_t written) {
  PackedUsedBytes bytes = {};
  const std::span<std::byte, 6> all(bytes);
  StoreLittle(written, all.subspan<0, 4>());
  StoreLittle(id, all.subspan<4, 2>());
  return bytes;
}

inline UsedEntryBytes EncodeUsedEntry(uint32_t id, uint32_t written) {
  UsedEntryBytes bytes = {};
  const std::span<std::byte, kUsedEntryBytes> all(bytes);
  StoreLittle(id, all.subspan<0, 4>());
  StoreLittle(written, all.subspan<4, 4>());
  return bytes;
}

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_LAYOUT_H_
