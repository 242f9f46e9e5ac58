// The header of a window of layout `shmem-v1`, and what is wrong with one.
// Source: amp-pci-device, 3.2.

#ifndef VMSG_GUEST_DRIVER_SHMEM_HEADER_H_
#define VMSG_GUEST_DRIVER_SHMEM_HEADER_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace vmsg::guest {

// Where the region is in the window; offsets in the header count from there.
inline constexpr size_t kShmemRegion = 0x1000;
inline constexpr size_t kShmemRegionBytes = 0x2000;
inline constexpr size_t kShmemHeaderBytes = 64;
inline constexpr uint16_t kShmemHeaderMagic = 0x4C4F;

struct ShmemHeader {
  uint16_t magic = 0;
  uint16_t length = 0;
  uint16_t version = 0;
  uint16_t features = 0;
  uint8_t num_notif = 0;
  uint8_t num_vq_notif_per_device = 0;
  uint16_t num_queue_elements = 0;
  uint16_t size_queue_elements = 0;
  uint16_t reserved = 0;
  // 0 the device's, 1 the driver's.
  struct Side {
    uint64_t notif_offset = 0;
    uint64_t queue_head_offset = 0;
    uint64_t queue_elements_offset = 0;
  };
  Side sides[2] = {};

  const Side& device() const { return sides[0]; }
  const Side& driver() const { return sides[1]; }
};

enum class ShmemHeaderFault : uint8_t {
  kNone,
  kMagic,                   // not 0x4C4F
  kLength,                  // not 64
  kVersion,                 // not 1
  kUnknownFeature,          // a bit above 0
  kReserved,                // not 0
  kNotificationCount,       // num_notif above 64
  kNotificationsPerDevice,  // not 1, 2, 4, 8 or 16, with num_notif above 0
  kElementCount,            // below 2
  kElementSizeZero,
  kElementSizeOther,  // not a packet of this bus
  kNotificationOffsetZero,
  kNotificationMisaligned,
  kNotificationOutside,  // reaches out of the region
  kHeadOffsetZero,
  kHeadMisaligned,
  kHeadOutside,
  kElementsOffsetZero,
  kElementsOutside,
  kOverlap,  // of two regions, the header one of them
};
// "version", "head-outside" and so on: one word, for logs.
const char* ShmemHeaderFaultName(ShmemHeaderFault fault);

ShmemHeader DecodeShmemHeader(
    std::span<const std::byte, kShmemHeaderBytes> bytes);

// The first fault, in the order of the list. A header without one can be used:
// everything that it names lies in the region, apart from everything else.
ShmemHeaderFault CheckShmemHeader(const ShmemHeader& header);

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_SHMEM_HEADER_H_
