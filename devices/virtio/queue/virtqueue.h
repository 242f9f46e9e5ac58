// Virtqueue: the device side of one queue, split or packed.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/virtio/features.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {

// Where a queue is; what SET_VQUEUE gave. Source: virtio 1.2, 2.7 and 2.8.
struct QueueConfig {
  uint32_t size = 0;  // descriptors; 0: not configured
  vmm::GuestAddress desc;
  vmm::GuestAddress driver;
  vmm::GuestAddress device;

  friend bool operator==(const QueueConfig&, const QueueConfig&) = default;
};

// One buffer of a chain, copied from the descriptor.
struct Segment {
  vmm::GuestAddress address;
  uint32_t length = 0;  // bytes, not 0
};

class Virtqueue;

// A request of the driver: readable segments, then writable ones. All of them
// lay in guest memory of the right kind when the chain was popped, as far as
// DmaSpace::Check() looks; memory can go away later, so each transfer still has
// a result. The descriptors were copied: the guest can't change a chain that
// the device holds.
//
// Move-only, and owed: it has to go back through Virtqueue::Complete exactly
// once, unless the queue is reset or destroyed first, which forgives it. A
// chain that outlives its queue is harmless.
class DescriptorChain {
 public:
  DescriptorChain() = default;
  DescriptorChain(DescriptorChain&& other) noexcept;
  DescriptorChain& operator=(DescriptorChain&& other) noexcept;
  DescriptorChain(const DescriptorChain&) = delete;
  DescriptorChain& operator=(const DescriptorChain&) = delete;
  ~DescriptorChain() = default;

  // False for a default or moved-from one.
  bool valid() const { return valid_; }

  std::span<const Segment> readable() const {
    return std::span(segments_).first(readable_count_);
  }
  std::span<const Segment> writable() const {
    return std::span(segments_).subspan(readable_count_);
  }
  // Sums of lengths; each is below 2^32 by the check at Pop.
  uint32_t readable_bytes() const { return readable_bytes_; }
  uint32_t writable_bytes() const { return writable_bytes_; }

  // Copies from the readable bytes, starting `offset` bytes in, as many as
  // there are up to to.size(). `*copied` (also on failure, 0) tells how many.
  vmm::DmaResult Read(vmm::DmaSpace* dma, uint64_t offset,
                      std::span<std::byte> to, size_t* copied) const;
  // Copies into the writable bytes likewise.
  vmm::DmaResult Write(vmm::DmaSpace* dma, uint64_t offset,
                       std::span<const std::byte> from, size_t* copied) const;

 private:
  friend class VirtqueueBase;

  std::vector<Segment> segments_;  // storage recycled through the queue
  uint32_t readable_count_ = 0;
  uint32_t readable_bytes_ = 0;
  uint32_t writable_bytes_ = 0;
  uint16_t id_ = 0;           // head descriptor (split) or buffer id (packed)
  uint16_t descriptors_ = 0;  // taken from the ring (packed)
  uint16_t turn_ = 0;         // place in the order of use (in order)
  bool valid_ = false;
};

// What is wrong with a queue. Guest faults all: the queue stays broken until
// its next reset, and the device asks for one (NEEDS_RESET). Behind a
// vmm::DmaTranslator memory is what is mapped, and may be used so.
enum class QueueFault : uint8_t {
  kNone,
  kRingOutsideMemory,    // descriptor, driver or device area not (any more) RAM
  kTooManyAvailable,     // the driver claims more entries than the queue has
  kHeadOutOfRange,       // an available entry, or next, is not below the size
  kNotAvailable,         // a chain goes on where nothing is available (packed)
  kChainTooLong,         // more buffers than the queue size: perhaps a loop
  kZeroLength,           // a descriptor of length 0
  kBufferOutsideMemory,  // address or length leave guest memory
  kBufferReadOnly,       // a writable buffer in read-only memory
  kReadableAfterWritable,
  kTooManyBytes,     // 4 GiB in one direction, or more than that in all
  kTooManySegments,  // in all chains owed: more than kMaxOwedSegments
  kBadIndirect,      // nested, with next (packed: or in a chain), not a
                     // multiple of 16, empty, or not negotiated
  kDmaDisabled,      // bus mastering went off under us; no fault of a ring
};
std::string_view QueueFaultName(QueueFault fault);

// Threads: one, the device's loop. Neither blocks nor, after the first few
// chains, allocates. Every value read from guest memory is read once, checked,
// and used from the copy.
class Virtqueue {
 public:
  // Bounds the memory that a guest can make a queue hold, since each of the
  // chains owed may be as long as the queue (virtio 1.2, 2.7.5.3.1): 16 MiB,
  // and at most twice as much again in storage that is longer than its chain.
  // A queue of at most 1024 can't reach it.
  static constexpr uint32_t kMaxOwedSegments = 1 << 20;

  enum class PopResult : uint8_t { kChain, kEmpty, kBroken };

  Virtqueue() = default;
  Virtqueue(const Virtqueue&) = delete;
  Virtqueue& operator=(const Virtqueue&) = delete;
  virtual ~Virtqueue() = default;

  virtual uint16_t index() const = 0;
  virtual uint32_t size() const = 0;

  // Takes the next available chain into `*chain` (which must not be owed), and
  // leaves it invalid unless it returns kChain. At most size() chains can be
  // owed at once. On kBroken fault() tells why, and every later call gives
  // kBroken too.
  virtual PopResult Pop(DescriptorChain* chain) = 0;

  // Gives a chain back, with the number of bytes written to its writable part,
  // and makes it visible to the driver: at once, or, with VIRTIO_F_IN_ORDER,
  // as soon as all that were popped before it are. `written` above
  // writable_bytes() is our own bug. On a broken queue the chain is dropped;
  // the used ring being gone breaks it here. Source: virtio 1.2, 2.7.9, 2.8.8.
  virtual void Complete(DescriptorChain chain, uint32_t written) = 0;

  // Whether the driver is to be notified of what has become visible to it since
  // the last call. Calling it records that it was asked: it gives false until
  // something more is. Call it after each batch of Complete(), and look at
  // fault() then. What became visible before the queue broke is to be notified,
  // since what the driver wants can't be read any more. The memory barrier
  // between publishing used entries and looking whether the driver wants to
  // know is included. Source: virtio 1.2, 2.7.7.2 and 2.8.10.
  virtual bool ShouldNotify() = 0;

  // Asks the driver for a notification at its next buffer, or tells it that
  // none is needed; a hint to the driver. After EnableNotifications returned
  // true there is something to pop already (a chain, or a fault that it has
  // found): pop, no notification may come for it. On a queue that was broken
  // before it returns false. Source: virtio 1.2, 2.7.10 and 2.8.10.
  virtual bool EnableNotifications() = 0;
  virtual void DisableNotifications() = 0;

  virtual QueueFault fault() const = 0;

  // Chains popped and not completed.
  virtual uint32_t owed() const = 0;

  // Where the queue stands, for saving. Without chains owed, or completed and
  // not visible yet, both places are the same, and only such a queue can be
  // restored.
  struct Position {
    uint16_t next_avail = 0;  // packed: bit 15 is the wrap counter
    uint16_t next_used = 0;   // packed: bit 15 is the wrap counter
    friend bool operator==(const Position&, const Position&) = default;
  };
  virtual Position position() const = 0;
};

// Whether `config` can be a queue of at most `max_size` under `features`: the
// size (1 to 32768; a power of two for split rings), alignment (split: 16, 2,
// 4; packed: 16, 4, 4), and whether all areas lie in guest memory that can be
// used as the device does: it writes the device area (packed: and the
// descriptors, which it also reads), and reads the others.
//   InvalidArgument  names the value; nothing else is returned.
absl::Status CheckQueueConfig(const QueueConfig& config, uint32_t max_size,
                              const Features& features, vmm::DmaSpace* dma);

// A queue of the format that `features` name, at `position`; without one, where
// a queue starts. `dma` is borrowed and outlives the queue. Errors are those of
// CheckQueueConfig; InvalidArgument also for a position that no queue of this
// size can have, or at which chains were owed.
absl::StatusOr<std::unique_ptr<Virtqueue>> CreateVirtqueue(
    uint16_t index, const QueueConfig& config, uint32_t max_size,
    const Features& features, vmm::DmaSpace* dma,
    std::optional<Virtqueue::Position> position = std::nullopt);

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_H_
