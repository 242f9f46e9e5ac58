#include "guest/driver/shmem_header.h"

#include "guest/driver/fifo.h"

namespace vmsg::guest {
namespace {

constexpr uint16_t kVersion = 1;
constexpr uint16_t kFeatureMask = 1;  // the notification areas have a mask
constexpr uint8_t kMaxNotifications = 64;
constexpr uint64_t kHeadBytes = 8;

struct Range {
  uint64_t offset = 0;
  uint64_t bytes = 0;
};

uint64_t Little(std::span<const std::byte> bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) {
    value = value << 8 | static_cast<uint64_t>(bytes[at + i]);
  }
  return value;
}

bool Inside(const Range& range) {
  return range.offset <= kShmemRegionBytes &&
         range.bytes <= kShmemRegionBytes - range.offset;
}

// Both are inside the region.
bool Overlap(const Range& a, const Range& b) {
  return a.offset < b.offset + b.bytes && b.offset < a.offset + a.bytes;
}

ShmemHeaderFault CheckFields(const ShmemHeader& header) {
  if (header.magic != kShmemHeaderMagic) return ShmemHeaderFault::kMagic;
  if (header.length != kShmemHeaderBytes) return ShmemHeaderFault::kLength;
  if (header.version != kVersion) return ShmemHeaderFault::kVersion;
  if ((header.features & ~kFeatureMask) != 0) {
    return ShmemHeaderFault::kUnknownFeature;
  }
  if (header.reserved != 0) return ShmemHeaderFault::kReserved;
  if (header.num_notif > kMaxNotifications) {
    return ShmemHeaderFault::kNotificationCount;
  }
  if (header.num_notif != 0) {
    const uint8_t each = header.num_vq_notif_per_device;
    if (each == 0 || each > 16 || (each & (each - 1)) != 0) {
      return ShmemHeaderFault::kNotificationsPerDevice;
    }
  }
  if (header.num_queue_elements < 2) return ShmemHeaderFault::kElementCount;
  if (header.size_queue_elements == 0) {
    return ShmemHeaderFault::kElementSizeZero;
  }
  if (header.size_queue_elements != kPacketBytes) {
    return ShmemHeaderFault::kElementSizeOther;
  }
  return ShmemHeaderFault::kNone;
}

ShmemHeaderFault CheckNotifications(const Range& area) {
  if (area.offset == 0) return ShmemHeaderFault::kNotificationOffsetZero;
  if (area.offset % 8 != 0) return ShmemHeaderFault::kNotificationMisaligned;
  if (!Inside(area)) return ShmemHeaderFault::kNotificationOutside;
  return ShmemHeaderFault::kNone;
}

ShmemHeaderFault CheckHead(const Range& head) {
  if (head.offset == 0) return ShmemHeaderFault::kHeadOffsetZero;
  if (head.offset % 2 != 0) return ShmemHeaderFault::kHeadMisaligned;
  if (!Inside(head)) return ShmemHeaderFault::kHeadOutside;
  return ShmemHeaderFault::kNone;
}

ShmemHeaderFault CheckElements(const Range& elements) {
  if (elements.offset == 0) return ShmemHeaderFault::kElementsOffsetZero;
  if (!Inside(elements)) return ShmemHeaderFault::kElementsOutside;
  return ShmemHeaderFault::kNone;
}

}  // namespace

ShmemHeader DecodeShmemHeader(
    std::span<const std::byte, kShmemHeaderBytes> bytes) {
  const auto half = [bytes](size_t at) {
    return static_cast<uint16_t>(Little(bytes, at, 2));
  };
  ShmemHeader header;
  header.magic = half(0);
  header.length = half(2);
  header.version = half(4);
  header.features = half(6);
  header.num_notif = static_cast<uint8_t>(bytes[8]);
  header.num_vq_notif_per_device = static_cast<uint8_t>(bytes[9]);
  header.num_queue_elements = half(10);
  header.size_queue_elements = half(12);
  header.reserved = half(14);
  for (size_t i = 0; i < 2; ++i) {
    header.sides[i] = {.notif_offset = Little(bytes, 16 + 24 * i, 8),
                       .queue_head_offset = Little(bytes, 24 + 24 * i, 8),
                       .queue_elements_offset = Little(bytes, 32 + 24 * i, 8)};
  }
  return header;
}

ShmemHeaderFault CheckShmemHeader(const ShmemHeader& header) {
  if (const ShmemHeaderFault fault = CheckFields(header);
      fault != ShmemHeaderFault::kNone) {
    return fault;
  }
  // tx and rx, and where the feature is there, mask.
  const uint64_t arrays = (header.features & kFeatureMask) != 0 ? 3 : 2;
  const uint64_t elements_bytes =
      uint64_t{header.num_queue_elements} * header.size_queue_elements;
  constexpr size_t kMaxRanges = 7;
  Range ranges[kMaxRanges] = {{0, kShmemHeaderBytes}};
  size_t count = 1;
  for (const ShmemHeader::Side& side : header.sides) {
    ShmemHeaderFault fault = ShmemHeaderFault::kNone;
    if (header.num_notif != 0) {
      const Range area = {side.notif_offset, arrays * 8 * header.num_notif};
      fault = CheckNotifications(area);
      if (fault != ShmemHeaderFault::kNone) return fault;
      ranges[count++] = area;
    }
    const Range head = {side.queue_head_offset, kHeadBytes};
    fault = CheckHead(head);
    if (fault != ShmemHeaderFault::kNone) return fault;
    ranges[count++] = head;
    const Range elements = {side.queue_elements_offset, elements_bytes};
    fault = CheckElements(elements);
    if (fault != ShmemHeaderFault::kNone) return fault;
    ranges[count++] = elements;
  }
  for (size_t i = 0; i < count; ++i) {
    for (size_t j = 0; j < i; ++j) {
      if (Overlap(ranges[i], ranges[j])) return ShmemHeaderFault::kOverlap;
    }
  }
  return ShmemHeaderFault::kNone;
}

const char* ShmemHeaderFaultName(ShmemHeaderFault fault) {
  switch (fault) {
    case ShmemHeaderFault::kNone:
      return "none";
    case ShmemHeaderFault::kMagic:
      return "magic";
    case ShmemHeaderFault::kLength:
      return "length";
    case ShmemHeaderFault::kVersion:
      return "version";
    case ShmemHeaderFault::kUnknownFeature:
      return "unknown-feature";
    case ShmemHeaderFault::kReserved:
      return "reserved";
    case ShmemHeaderFault::kNotificationCount:
      return "notification-count";
    case ShmemHeaderFault::kNotificationsPerDevice:
      return "notifications-per-device";
    case ShmemHeaderFault::kElementCount:
      return "element-count";
    case ShmemHeaderFault::kElementSizeZero:
      return "element-size-zero";
    case ShmemHeaderFault::kElementSizeOther:
      return "element-size-other";
    case ShmemHeaderFault::kNotificationOffsetZero:
      return "notification-offset-zero";
    case ShmemHeaderFault::kNotificationMisaligned:
      return "notification-misaligned";
    case ShmemHeaderFault::kNotificationOutside:
      return "notification-outside";
    case ShmemHeaderFault::kHeadOffsetZero:
      return "head-offset-zero";
    case ShmemHeaderFault::kHeadMisaligned:
      return "head-misaligned";
    case ShmemHeaderFault::kHeadOutside:
      return "head-outside";
    case ShmemHeaderFault::kElementsOffsetZero:
      return "elements-offset-zero";
    case ShmemHeaderFault::kElementsOutside:
      return "elements-outside";
    case ShmemHeaderFault::kOverlap:
      return "overlap";
  }
  return "unknown";
}

}  // namespace vmsg::guest
