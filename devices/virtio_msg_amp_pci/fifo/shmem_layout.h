// Where things are in a FIFO window of layout `shmem-v1`.
// Source: amp-pci-device, 3.2.
//
//   window 0x1000  the region: 8 KiB, from which all offsets count
//   region 0       header: 64 bytes, the device's
//          ...     two queue heads, two arrays of elements: see ShmemPlacement
//
//   queue  0       magic, u16
//   head   2       status, u16: state in the low 5 bits, bit 15 "debuggable"
//          4       tail, u16: next element that this side writes
//          6       head, u16: next element that this side reads

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SHMEM_LAYOUT_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SHMEM_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace vmsg::amp {

inline constexpr size_t kShmemWindowBytes = 0x4000;
inline constexpr size_t kShmemRegion = 0x1000;
inline constexpr size_t kShmemRegionBytes = 0x2000;

inline constexpr uint16_t kShmemHeaderMagic = 0x4C4F;
inline constexpr uint16_t kShmemHeaderBytes = 64;
inline constexpr uint16_t kShmemVersion = 1;
inline constexpr uint16_t kShmemElementBytes = 64;

// As it is in memory, on a little-endian machine.
struct ShmemHeader {
  uint16_t magic = 0;
  uint16_t length = kShmemHeaderBytes;
  uint16_t version = kShmemVersion;
  uint16_t features = 0;
  uint8_t num_notif = 0;
  uint8_t num_vq_notif_per_device = 0;
  uint16_t num_queue_elements = 0;
  uint16_t size_queue_elements = kShmemElementBytes;
  uint16_t reserved = 0;
  uint64_t dev_notif_offset = 0;
  uint64_t dev_queue_head_offset = 0;
  uint64_t dev_queue_elements_offset = 0;
  uint64_t drv_notif_offset = 0;
  uint64_t drv_queue_head_offset = 0;
  uint64_t drv_queue_elements_offset = 0;
};
static_assert(sizeof(ShmemHeader) == kShmemHeaderBytes);
static_assert(offsetof(ShmemHeader, num_queue_elements) == 10);
static_assert(offsetof(ShmemHeader, dev_notif_offset) == 16);
static_assert(offsetof(ShmemHeader, drv_queue_elements_offset) == 56);

inline constexpr uint16_t kShmemQueueMagic = 0x514F;
inline constexpr size_t kShmemQueueStatus = 2;
inline constexpr size_t kShmemQueueTail = 4;
inline constexpr size_t kShmemQueueHead = 6;
inline constexpr size_t kShmemQueueHeadBytes = 8;

inline constexpr uint16_t kShmemStateMask = 0x1F;
enum class ShmemState : uint8_t {
  kInit = 0,
  kReady = 1,
  kRun = 2,
  kShutdown = 3,
  kPeerDead = 4,
};

// Offsets in the region.
struct ShmemPlacement {
  uint16_t elements = 0;
  uint16_t dev_head = 0;
  uint16_t drv_head = 0;
  uint16_t dev_elements = 0;
  uint16_t drv_elements = 0;
};

// Each queue head and each element has a cache line of its own, and no head
// shares a pair of lines (which some processors fetch together) with the other
// side's.
inline constexpr ShmemPlacement kShmemSpread = {.elements = 62,
                                                .dev_head = 64,
                                                .drv_head = 8064,
                                                .dev_elements = 128,
                                                .drv_elements = 4096};
// The usual placement of other devices, for drivers that count on it.
inline constexpr ShmemPlacement kShmemPacked = {.elements = 63,
                                                .dev_head = 64,
                                                .drv_head = 72,
                                                .dev_elements = 80,
                                                .drv_elements = 4112};

// What ShmemFifo relies on: heads can be stored as one word, elements copied by
// words, and all is in the region.
constexpr bool IsSound(const ShmemPlacement& at) {
  const size_t array = size_t{at.elements} * kShmemElementBytes;
  return at.elements >= 2 && at.dev_head % 8 == 0 && at.drv_head % 8 == 0 &&
         at.dev_elements % 8 == 0 && at.drv_elements % 8 == 0 &&
         at.dev_head >= kShmemHeaderBytes &&
         at.dev_elements + array <= at.drv_elements &&
         at.dev_elements >= at.dev_head + kShmemQueueHeadBytes &&
         at.drv_elements + array <= kShmemRegionBytes &&
         at.drv_head + kShmemQueueHeadBytes <= kShmemRegionBytes;
}
static_assert(IsSound(kShmemSpread) && IsSound(kShmemPacked));
static_assert(kShmemSpread.dev_elements + 62 * 64 == kShmemSpread.drv_elements);
static_assert(kShmemSpread.drv_elements + 62 * 64 == kShmemSpread.drv_head);
static_assert(kShmemSpread.drv_head % 128 == 0);

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SHMEM_LAYOUT_H_
