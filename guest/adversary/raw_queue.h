// RawQueue: a split virtqueue whose every word can be written at will.
// Source: virtio 1.2, 2.7.

#ifndef VMSG_GUEST_ADVERSARY_RAW_QUEUE_H_
#define VMSG_GUEST_ADVERSARY_RAW_QUEUE_H_

#include <cstddef>
#include <cstdint>

#include "guest/driver/arena.h"
#include "guest/driver/message.h"

namespace vmsg::guest {

// Nothing is checked and nothing remembered but where the next entries are.
//
// Threads: one, but for Descriptor and the words of the rings, which a second
// one may overwrite.
class RawQueue {
 public:
  static constexpr uint32_t kSize = 8;
  static constexpr uint16_t kNext = 1;
  static constexpr uint16_t kWrite = 2;
  static constexpr uint16_t kIndirect = 4;
  // Of the buffer and of the indirect table.
  static constexpr uint32_t kBufferBytes = 4096;
  static constexpr uint64_t kArenaBytes = 3 * 4096 + 64;

  // Takes its memory; once.
  bool Create(Arena* arena);
  // An empty queue, all zero.
  void Clear();

  uint64_t desc() const { return desc_.address; }
  uint64_t driver() const { return driver_.address; }
  uint64_t device() const { return device_.address; }
  uint64_t buffer() const { return buffer_.address; }
  uint64_t table() const { return table_.address; }
  // What SET_VQUEUE needs, for queue 0.
  Vqueue settings() const {
    return {
        .size = kSize, .desc = desc(), .driver = driver(), .device = device()};
  }

  struct Entry {
    uint64_t address = 0;
    uint32_t bytes = 0;
    uint16_t flags = 0;
    uint16_t next = 0;
  };
  void Descriptor(uint32_t index, const Entry& entry) {
    Write(desc_.data + 16 * size_t{index}, entry);
  }
  // Of the indirect table: up to kBufferBytes / 16.
  void Indirect(uint32_t index, const Entry& entry) {
    Write(table_.data + 16 * size_t{index}, entry);
  }

  // Makes the chain at `head` available.
  void Offer(uint16_t head);
  // Goes on counting from `index` in the available ring, whatever was before.
  void SetAvailableIndex(uint16_t index);
  uint16_t available_index() const { return available_; }
  void SetAvailableFlags(uint16_t flags);
  void SetUsedIndex(uint16_t index);
  void SetUsedFlags(uint16_t flags);
  // Where a second writer writes.
  std::byte* descriptor_bytes(uint32_t index) {
    return desc_.data + 16 * size_t{index};
  }
  std::byte* available_bytes() { return driver_.data; }
  std::byte* used_bytes() { return device_.data; }
  std::byte* buffer_bytes() { return buffer_.data; }
  std::byte* table_bytes() { return table_.data; }

  // The next chain that came back; false when there is none.
  struct Used {
    uint32_t id = 0;
    uint32_t written = 0;
  };
  bool Take(Used* used);

 private:
  static void Write(std::byte* where, const Entry& entry);

  DmaMemory desc_;
  DmaMemory driver_;
  DmaMemory device_;
  DmaMemory buffer_;
  DmaMemory table_;
  uint16_t available_ = 0;
  uint16_t taken_ = 0;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_ADVERSARY_RAW_QUEUE_H_
