// RawPackedQueue: a packed virtqueue whose every word can be written at will.
// Source: virtio 1.2, 2.8.

#ifndef VMSG_GUEST_ADVERSARY_RAW_PACKED_QUEUE_H_
#define VMSG_GUEST_ADVERSARY_RAW_PACKED_QUEUE_H_

#include <cstddef>
#include <cstdint>

#include "guest/adversary/raw_queue.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {

// Lies in the memory of a RawQueue, which has room for it, and is set up by the
// same settings. Nothing is checked and nothing remembered but the next places.
//
// Threads: one, but for the words of the ring and of the event areas, which a
// second one may overwrite.
class RawPackedQueue {
 public:
  static constexpr uint32_t kSize = RawQueue::kSize;
  static constexpr uint16_t kAvailable = 1 << 7;
  static constexpr uint16_t kUsed = 1 << 15;
  // Of an event area.
  static constexpr uint16_t kEnable = 0;
  static constexpr uint16_t kDisable = 1;
  static constexpr uint16_t kAtPosition = 2;
  static constexpr uint16_t kReserved = 3;

  // Borrowed.
  explicit RawPackedQueue(RawQueue* memory) : memory_(memory) {}

  // An empty queue, all zero.
  void Clear() {
    memory_->Clear();
    offer_ = take_ = {};
  }

  struct Entry {
    uint64_t address = 0;
    uint32_t bytes = 0;
    uint16_t id = 0;
    uint16_t flags = 0;  // NEXT, WRITE, INDIRECT of RawQueue
  };
  // Writes `entry` to a place with its flags as they are.
  void Write(uint32_t place, const Entry& entry) {
    Put(place_bytes(place), entry);
  }
  // Of the indirect table, which has the same form.
  void Indirect(uint32_t index, const Entry& entry) {
    Put(memory_->table_bytes() + 16 * size_t{index}, entry);
  }
  // Where Offer() writes, and the flags that make it available there.
  uint32_t place() const { return offer_.place; }
  uint16_t available() const { return offer_.wrap ? kAvailable : kUsed; }
  // Makes it available at the next place, and goes on.
  void Offer(Entry entry) {
    entry.flags = static_cast<uint16_t>(entry.flags | available());
    Write(offer_.place, entry);
    offer_.Advance();
  }
  // The next used descriptor; false when there is none. After a chain of
  // several, their places are for Pass().
  bool Take(RawQueue::Used* used) {
    const std::byte* const from = memory_->descriptor_bytes(take_.place);
    const uint16_t flags = LoadAcquire<uint16_t>(from + 14);
    const uint16_t done = take_.wrap ? kAvailable | kUsed : 0;
    if ((flags & (kAvailable | kUsed)) != done) return false;
    *used = {LoadRelaxed<uint16_t>(from + 12), LoadRelaxed<uint32_t>(from + 8)};
    take_.Advance();
    return true;
  }
  void Pass(uint32_t places) {
    for (uint32_t i = 0; i < places; ++i) take_.Advance();
  }

  // The event areas: of the driver, of the device.
  void SetDriverEvent(uint16_t position, uint16_t flags) {
    SetEvent(memory_->available_bytes(), position, flags);
  }
  void SetDeviceEvent(uint16_t position, uint16_t flags) {
    SetEvent(memory_->used_bytes(), position, flags);
  }
  // Where a second writer writes.
  std::byte* place_bytes(uint32_t place) {
    return memory_->descriptor_bytes(place % kSize);
  }

 private:
  struct Cursor {
    uint32_t place = 0;
    bool wrap = true;

    void Advance() {
      place = (place + 1) % kSize;
      if (place == 0) wrap = !wrap;
    }
  };

  static void Put(std::byte* to, const Entry& entry) {
    StoreRelaxed<uint64_t>(to, entry.address);
    StoreRelaxed<uint32_t>(to + 8, entry.bytes);
    StoreRelaxed<uint16_t>(to + 12, entry.id);
    StoreRelease<uint16_t>(to + 14, entry.flags);
  }
  static void SetEvent(std::byte* area, uint16_t position, uint16_t flags) {
    StoreRelaxed<uint16_t>(area, position);
    StoreRelease<uint16_t>(area + 2, flags);
  }

  RawQueue* const memory_;
  Cursor offer_;
  Cursor take_;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_ADVERSARY_RAW_PACKED_QUEUE_H_
