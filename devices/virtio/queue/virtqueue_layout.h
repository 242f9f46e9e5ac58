// The split virtqueue in guest memory. Source: virtio 1.2, 2.7.
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

// Alignment of the three areas. Source: virtio 1.2, 2.7.
inline constexpr uint64_t kSplitDescAlign = 16;
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

inline UsedEntryBytes EncodeUsedEntry(uint32_t id, uint32_t written) {
  UsedEntryBytes bytes = {};
  const std::span<std::byte, kUsedEntryBytes> all(bytes);
  StoreLittle(id, all.subspan<0, 4>());
  StoreLittle(written, all.subspan<4, 4>());
  return bytes;
}

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_LAYOUT_H_
