// SplitQueue: the driver side of a split virtqueue. Source: virtio 1.2, 2.7.

#ifndef VMSG_GUEST_DRIVER_VIRTQUEUE_H_
#define VMSG_GUEST_DRIVER_VIRTQUEUE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/arena.h"
#include "guest/driver/error.h"

namespace vmsg::guest {

// One buffer of a chain.
struct QueueBuffer {
  uint64_t address = 0;  // guest-physical
  uint32_t bytes = 0;    // not 0
  bool device_writes = false;
};

// A chain that came back.
struct UsedChain {
  uint64_t cookie = 0;   // as given to Add
  uint32_t written = 0;  // bytes, at most what the chain let the device write
};

struct SplitQueueOptions {
  uint32_t size = 0;         // descriptors: a power of two, 1 to 32768
  bool event_index = false;  // VIRTIO_F_EVENT_IDX was negotiated
  // Buffers of an indirect table, one table for each descriptor; 0: none, also
  // when VIRTIO_F_INDIRECT_DESC was not negotiated. Chains of two to this many
  // buffers then take one descriptor.
  uint32_t indirect_buffers = 0;
};

// The used ring is written by a device that is not trusted: each value is read
// once and checked against private records of what the device has; the first
// lie breaks the queue for good (until the device is reset and the queue is
// created anew). Nothing here rings a doorbell or waits.
//
// Threads: one.
class SplitQueue {
 public:
  SplitQueue() = default;
  SplitQueue(const SplitQueue&) = delete;
  SplitQueue& operator=(const SplitQueue&) = delete;

  // Arena bytes that Create takes at most.
  static uint64_t ArenaBytes(const SplitQueueOptions& options);

  // Lays out an empty queue in `arena`; one of before is forgotten.
  //   kInvalidArgument  the size.
  //   kNoMemory         the arena is used up; there is no queue.
  Error Create(const SplitQueueOptions& options, Arena* arena);

  uint32_t size() const { return size_; }  // 0: not created
  // Guest-physical: descriptor, driver (available) and device (used) area.
  uint64_t desc_address() const { return desc_.address; }
  uint64_t driver_address() const { return driver_.address; }
  uint64_t device_address() const { return device_.address; }

  // Adds a chain: the buffers the device reads, then those it writes. It is the
  // device's until Take returns `cookie`; the device sees it after Publish().
  //   kInvalidArgument  empty, a buffer of length 0, read after written, or 4
  //                     GiB and more to write.
  //   kQueueFull        not enough free descriptors; nothing was added.
  //   kQueueBroken
  Error Add(std::span<const QueueBuffer> buffers, uint64_t cookie);

  // Shows the device what was added since. True when it wants EVENT_AVAIL for
  // it. Includes the barrier that virtio 1.2, 2.7.13.4 needs.
  bool Publish();

  // Takes the next chain that came back.
  //   kNotFound     none.
  //   kQueueBroken  the device lied, now or before.
  // While interrupts are enabled, the chain after the last one taken raises
  // one: take until kNotFound before sleeping.
  Error Take(UsedChain* chain);

  // Whether the device is to send EVENT_USED; a hint. Enabled at first. After
  // enabling, take until kNotFound.
  void EnableInterrupts(bool on);

  // Chains that the device has.
  uint32_t outstanding() const { return outstanding_; }
  bool broken() const { return broken_; }
  // Position for VIRTIO_F_NOTIFICATION_DATA: what Publish showed last.
  uint16_t published_index() const { return published_; }

 private:
  // Private record of a descriptor; of a chain, when it is its head.
  struct Record {
    uint64_t cookie = 0;
    uint32_t writable = 0;
    uint16_t next = 0;   // in its chain, or in the free list
    uint16_t count = 0;  // descriptors of the chain; 0: no head
  };

  Error Break();
  void WriteDescriptor(std::byte* where, const QueueBuffer& buffer,
                       uint16_t extra_flags, uint16_t next);
  void AddIndirect(std::span<const QueueBuffer> buffers, uint16_t head);
  void AddDirect(std::span<const QueueBuffer> buffers, uint16_t head);
  void WriteUsedEvent();

  uint32_t size_ = 0;
  bool event_index_ = false;
  uint32_t indirect_buffers_ = 0;
  DmaMemory desc_;
  DmaMemory driver_;
  DmaMemory device_;
  DmaMemory indirect_;
  Record* records_ = nullptr;

  uint16_t free_head_ = 0;
  uint32_t free_count_ = 0;
  uint32_t outstanding_ = 0;
  uint16_t added_ = 0;      // available index, with what is not published yet
  uint16_t published_ = 0;  // available index that the device sees
  uint16_t taken_ = 0;      // used index up to which we have taken
  bool interrupts_ = true;
  bool broken_ = false;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_VIRTQUEUE_H_
