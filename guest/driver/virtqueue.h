// Virtqueue: the driver side of a virtqueue, whatever the format of its rings.
// Source: virtio 1.2, 2.7 (split) and 2.8 (packed).

#ifndef VMSG_GUEST_DRIVER_VIRTQUEUE_H_
#define VMSG_GUEST_DRIVER_VIRTQUEUE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/arena.h"
#include "guest/driver/chain_table.h"
#include "guest/driver/error.h"

namespace vmsg::guest {

// One buffer of a chain.
struct QueueBuffer {
  uint64_t address = 0;  // for devices, as an arena has it
  uint32_t bytes = 0;    // not 0
  bool device_writes = false;
};

struct QueueOptions {
  uint32_t size = 0;         // descriptors: 1 to 32768; split: a power of two
  bool event_index = false;  // VIRTIO_F_EVENT_IDX was negotiated
  bool in_order = false;     // VIRTIO_F_IN_ORDER was negotiated
  // Buffers of an indirect table, one table for each descriptor; 0: none, also
  // when VIRTIO_F_INDIRECT_DESC was not negotiated. Chains of two to this many
  // buffers then take one descriptor.
  uint32_t indirect_buffers = 0;
};

// Addresses of the three parts of a queue for the device, as SET_VQUEUE has
// them.
struct QueueAreas {
  uint64_t descriptors = 0;
  uint64_t driver = 0;  // available ring, or driver event suppression
  uint64_t device = 0;  // used ring, or device event suppression
};

// What the device writes is not trusted: each value is read once and checked
// against private records of what the device has; the first lie breaks the
// queue for good (until the device is reset and the queue is created anew).
// Whether it wants a notification is only a wish, and where that makes no sense
// it gets one. Nothing here rings a doorbell or waits.
//
// Threads: one.
class Virtqueue {
 public:
  static constexpr uint32_t kMaxSize = 32768;

  Virtqueue(const Virtqueue&) = delete;
  Virtqueue& operator=(const Virtqueue&) = delete;

  // Arena bytes that Create takes at most, in either format.
  static uint64_t ArenaBytes(const QueueOptions& options);

  // Lays out an empty queue in `arena`; one of before is forgotten.
  //   kInvalidArgument  the size.
  //   kNoMemory         the arena is used up; there is no queue.
  Error Create(const QueueOptions& options, Arena* arena);

  uint32_t size() const { return options_.size; }  // 0: not created
  const QueueAreas& areas() const { return areas_; }

  // Adds a chain: the buffers the device reads, then those it writes. It is the
  // device's until Take returns `cookie`; the device sees it after Publish().
  //   kInvalidArgument  empty, a buffer of length 0, read after written, 4 GiB
  //                     and more to write, or more than 4 GiB in all.
  //   kQueueFull        not enough free descriptors; nothing was added.
  //   kQueueBroken
  Error Add(std::span<const QueueBuffer> buffers, uint64_t cookie);

  // Shows the device what was added since. True when it wants EVENT_AVAIL for
  // it. Includes the barrier that virtio 1.2, 2.7.13.4 and 2.8.21.2 need.
  bool Publish();

  // Takes the next chain that came back. With VIRTIO_F_IN_ORDER the device may
  // name the last of several; the others were used completely then.
  //   kNotFound     none.
  //   kQueueBroken  the device lied, now or before: see fault().
  // While interrupts are enabled, the chain after the last one taken raises
  // one: take until kNotFound before sleeping.
  Error Take(UsedChain* chain);

  // Whether the device is to send EVENT_USED; a hint. Enabled at first. After
  // enabling, take until kNotFound.
  void EnableInterrupts(bool on);

  // Chains that the device has.
  uint32_t outstanding() const { return chains_.outstanding(); }
  QueueFault fault() const { return fault_; }
  bool broken() const { return fault_ != QueueFault::kNone; }

  // For VIRTIO_F_NOTIFICATION_DATA: how far Publish has shown the ring, as
  // next_offset of EVENT_AVAIL has it (virtio-msg-messages, 4.13).
  virtual uint32_t position() const = 0;

 protected:
  struct AreaBytes {
    uint64_t driver;
    uint64_t device;
  };

  // Descriptors of both formats have 16 bytes, address and length first, and
  // these flags.
  static constexpr uint64_t kDescriptorBytes = 16;
  static constexpr uint16_t kFlagNext = 1;
  static constexpr uint16_t kFlagWrite = 2;
  static constexpr uint16_t kFlagIndirect = 4;

  Virtqueue() = default;
  ~Virtqueue() = default;

  const QueueOptions& options() const { return options_; }
  // As the processor sees the areas.
  std::byte* descriptor(uint32_t i) const {
    return descriptors_ + kDescriptorBytes * i;
  }
  std::byte* driver_area() const { return driver_; }
  std::byte* device_area() const { return device_; }
  static void WriteBuffer(std::byte* where, const QueueBuffer& buffer);

  ChainTable chains_;

 private:
  // --- What makes a format. ---

  virtual bool SizeIsValid(uint32_t size) const = 0;
  virtual AreaBytes BytesOfAreas(uint32_t size) const = 0;
  // Begins with areas of zeros.
  virtual void Begin() = 0;

  virtual uint32_t free_descriptors() const = 0;
  // Writes the chain `id` into the ring, out of the device's sight, and returns
  // the ids that it owns; takes those after the first. There is room.
  // `indirect`: the one buffer is a table.
  virtual uint16_t Write(uint16_t id, std::span<const QueueBuffer> buffers,
                         bool indirect) = 0;
  // Entry `i` of an indirect table.
  virtual void WriteTableEntry(std::byte* where, const QueueBuffer& buffer,
                               uint16_t i, bool last) = 0;

  // Shows all that was written. True when the device wants to be told.
  virtual bool Show() = 0;

  // Looks at the ring for what the device has used next, and notes it in
  // chains_. With kNone and no chain due there is nothing.
  virtual QueueFault Look() = 0;
  // A chain that took `descriptors` in the ring was given back.
  virtual void Advance(uint16_t descriptors) = 0;

  // Tells the device whether the next chain that it uses is to raise an
  // interrupt.
  virtual void WriteInterruptWish(bool on) = 0;

  QueueOptions options_;
  QueueAreas areas_;
  std::byte* descriptors_ = nullptr;
  std::byte* driver_ = nullptr;
  std::byte* device_ = nullptr;
  DmaMemory tables_;
  QueueFault fault_ = QueueFault::kNone;
  bool interrupts_ = true;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_VIRTQUEUE_H_
