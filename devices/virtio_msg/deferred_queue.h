// DeferredQueue: the requests of one device number that wait for their answer.

#ifndef VMSG_DEVICES_VIRTIO_MSG_DEFERRED_QUEUE_H_
#define VMSG_DEVICES_VIRTIO_MSG_DEFERRED_QUEUE_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "devices/virtio_msg/codec.h"
#include "vmm/base/check.h"

namespace vmsg::msg {

// First in, first out, of whole messages in their wire form. Its storage is
// taken once, so that a guest makes nobody allocate.
//
// Threads: the loop's.
class DeferredQueue {
 public:
  static constexpr uint32_t kCapacity = 8;

  // Takes the storage; before the first Push().
  void Reserve() {
    if (entries_ == nullptr) entries_ = std::make_unique<Entries>();
  }

  bool empty() const { return size_ == 0; }
  bool full() const { return size_ == kCapacity; }
  uint32_t size() const { return size_; }

  // REQUIRES: !full().
  void Push(std::span<const std::byte> message) {
    VMSG_CHECK(entries_ != nullptr && !full(), "no room for a request");
    Entry& entry = (*entries_)[(first_ + size_) % kCapacity];
    entry.size = std::min(message.size(), entry.bytes.size());
    std::copy_n(message.begin(), entry.size, entry.bytes.begin());
    ++size_;
  }
  // Valid until Pop() or Clear(). REQUIRES: !empty().
  std::span<const std::byte> front() const {
    VMSG_CHECK(!empty());
    const Entry& entry = (*entries_)[first_];
    return std::span(entry.bytes).first(entry.size);
  }
  // REQUIRES: !empty().
  void Pop() {
    VMSG_CHECK(!empty());
    first_ = (first_ + 1) % kCapacity;
    --size_;
  }
  void Clear() { size_ = 0; }

 private:
  struct Entry {
    size_t size = 0;
    std::array<std::byte, kMaxMessageBytes> bytes;
  };
  using Entries = std::array<Entry, kCapacity>;

  std::unique_ptr<Entries> entries_;
  uint32_t first_ = 0;
  uint32_t size_ = 0;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_DEFERRED_QUEUE_H_
