// Zeroes in a window that another party uses at the same time.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_CLEAR_SHARED_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_CLEAR_SHARED_H_

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {

namespace clear_shared_internal {

inline constexpr size_t kClearedAtOnce = 64;

// Unrolled, as copying of packets is: most of a window is cleared by this.
template <size_t... kWord>
inline void ClearLine(std::byte* line, std::index_sequence<kWord...>) {
  (vmm::StoreShared<uint64_t>(line + 8 * kWord, 0, std::memory_order_relaxed),
   ...);
}

}  // namespace clear_shared_internal

// Of [from, to), by relaxed stores.
inline void ClearShared(std::byte* from, const std::byte* to) {
  using clear_shared_internal::kClearedAtOnce;
  static constexpr std::array<std::byte, kClearedAtOnce> kZeroes = {};
  while (from != to) {
    const size_t line_left =
        kClearedAtOnce - reinterpret_cast<uintptr_t>(from) % kClearedAtOnce;
    const size_t size = std::min(line_left, static_cast<size_t>(to - from));
    if (size == kClearedAtOnce) {
      clear_shared_internal::ClearLine(
          from, std::make_index_sequence<kClearedAtOnce / 8>());
    } else {
      vmm::CopyToShared(from, std::span(kZeroes).first(size));
    }
    from += size;
  }
}

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_CLEAR_SHARED_H_
