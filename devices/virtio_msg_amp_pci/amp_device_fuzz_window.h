// The words and packets of a FIFO window in each layout, for
// amp_device_fuzz_test, which writes what it likes to them.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_DEVICE_FUZZ_WINDOW_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_DEVICE_FUZZ_WINDOW_H_

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo/shmem_layout.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp::fuzz {

// Knows the places; believes nothing that the window says of itself.
class Window {
 public:
  // Words by number; layout spsc has only the first four.
  enum Word : uint32_t {
    kDriverPut,   // next packet that the driver writes
    kDeviceTook,  // next one of those that the device reads
    kDevicePut,
    kDriverTook,
    kDriverStatus,
    kDriverMagic,
    kDeviceStatus,
    kDeviceMagic,
  };

  Window(std::byte* window, FifoLayout layout)
      : window_(window), layout_(layout) {}

  uint32_t words() const { return shmem() ? 8 : 4; }
  uint32_t slots() const { return shmem() ? placement().elements : 62; }

  uint32_t Load(Word word) const {
    return shmem()
               ? vmm::LoadShared<uint16_t>(At(word), std::memory_order_acquire)
               : vmm::LoadShared<uint32_t>(At(word), std::memory_order_acquire);
  }
  void Store(Word word, uint32_t value) const {
    if (shmem()) {
      vmm::StoreShared<uint16_t>(At(word), static_cast<uint16_t>(value),
                                 std::memory_order_release);
    } else {
      vmm::StoreShared<uint32_t>(At(word), value, std::memory_order_release);
    }
  }
  // Of the driver queue. REQUIRES: slot < slots().
  std::byte* DriverPacket(uint32_t slot) const {
    const size_t first =
        shmem() ? kShmemRegion + placement().drv_elements : size_t{0x1080};
    return window_ + first + size_t{64} * slot;
  }

 private:
  bool shmem() const { return layout_ != FifoLayout::kSpsc; }
  const ShmemPlacement& placement() const {
    return layout_ == FifoLayout::kShmemV1Packed ? kShmemPacked : kShmemSpread;
  }

  std::byte* At(Word word) const {
    constexpr std::array<size_t, 4> kSpsc = {
        RawGuest::kDriverHead, RawGuest::kDriverTail, RawGuest::kDeviceHead,
        RawGuest::kDeviceTail};
    if (!shmem()) return window_ + kSpsc[word % kSpsc.size()];
    std::byte* const driver = window_ + kShmemRegion + placement().drv_head;
    std::byte* const device = window_ + kShmemRegion + placement().dev_head;
    switch (word) {
      case kDriverPut:
        return driver + kShmemQueueTail;
      case kDeviceTook:
        return device + kShmemQueueHead;
      case kDevicePut:
        return device + kShmemQueueTail;
      case kDriverTook:
        return driver + kShmemQueueHead;
      case kDriverStatus:
        return driver + kShmemQueueStatus;
      case kDriverMagic:
        return driver;
      case kDeviceStatus:
        return device + kShmemQueueStatus;
      case kDeviceMagic:
        break;
    }
    return device;
  }

  std::byte* const window_;
  const FifoLayout layout_;
};

}  // namespace vmsg::amp::fuzz

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_DEVICE_FUZZ_WINDOW_H_
