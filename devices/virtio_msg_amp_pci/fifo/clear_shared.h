// Zeroes in a window that another party uses at the same time.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_CLEAR_SHARED_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_CLEAR_SHARED_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {

// Of [from, to), by relaxed stores.
inline void ClearShared(std::byte* from, const std::byte* to) {
  static constexpr std::array<std::byte, 64> kZeroes = {};
  while (from != to) {
    const size_t size =
        std::min(kZeroes.size(), static_cast<size_t>(to - from));
    vmm::CopyToShared(from, std::span(kZeroes).first(size));
    from += size;
  }
}

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_CLEAR_SHARED_H_
