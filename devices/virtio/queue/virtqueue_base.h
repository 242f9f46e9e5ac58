// VirtqueueBase: what split and packed rings have in common.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_BASE_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_BASE_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {

// Checks buffers, keeps the account of what is owed, puts completions in order
// (VIRTIO_F_IN_ORDER) and uses the storage of chains again. How chains lie in
// guest memory is the business of the ring. Each DMA may fail at any time,
// since the memory map changes under a running queue: that breaks the queue.
class VirtqueueBase : public Virtqueue {
 public:
  uint16_t index() const final { return index_; }
  uint32_t size() const final { return size_; }
  QueueFault fault() const final { return fault_; }
  uint32_t owed() const final { return owed_; }

 protected:
  // What the driver is told of a chain.
  struct UsedChain {
    uint16_t id = 0;
    uint16_t descriptors = 0;
    uint32_t written = 0;
  };

  // REQUIRES: CheckQueueConfig said OK for `config`.
  VirtqueueBase(uint16_t index, const QueueConfig& config,
                const Features& features, vmm::DmaSpace* dma);

  // Can't wrap for the rings, which lay in guest memory once; for an indirect
  // table it may, and the access that follows is then checked like any other.
  static vmm::GuestAddress At(vmm::GuestAddress start, uint64_t offset) {
    return {start.value + offset};
  }

  bool broken() const { return fault_ != QueueFault::kNone; }
  // Keeps the first fault. Gives false, for `return Break(...)`.
  bool Break(QueueFault fault) {
    if (!broken()) fault_ = fault;
    return false;
  }
  // True for kOk; else the queue is broken by it.
  bool RingAccess(vmm::DmaResult result) {
    return result == vmm::DmaResult::kOk || BreakOnDma(result);
  }

  // --- Taking a chain: Start, then segments, then Owe or Drop. ---

  // Makes `chain` empty, and not valid.
  static void Clear(DescriptorChain* chain) {
    chain->valid_ = false;
    chain->segments_.clear();
    chain->readable_count_ = 0;
    chain->readable_bytes_ = 0;
    chain->writable_bytes_ = 0;
  }
  // Gives a cleared chain its storage.
  void TakeStorage(DescriptorChain* chain);
  // Copies a descriptor of the ring, or of an indirect table. These three
  // return false when they broke the queue.
  bool ReadDescriptor(vmm::GuestAddress table, uint64_t index, bool indirect,
                      DescriptorBytes* bytes) {
    const vmm::DmaResult result =
        dma_->Read(At(table, kDescriptorBytes * index), *bytes);
    return result == vmm::DmaResult::kOk || BreakOnDescriptor(result, indirect);
  }
  bool AddSegment(const Segment& buffer, bool writable, DescriptorChain* chain);
  // `flags` are those of the descriptor that names the table.
  bool CheckIndirect(const Segment& table, uint16_t flags);
  // The chain is whole.
  void Owe(uint16_t id, uint16_t descriptors, DescriptorChain* chain);
  // It is not: the queue is broken.
  void RecycleStorage(DescriptorChain* chain);

  // --- Giving chains back. ---

  // Takes back a chain that the device completes; true when `*used` is what
  // the ring has to publish now, and then what NextInOrder() gives, until that
  // gives false. False also on a broken queue.
  bool TakeBack(DescriptorChain* chain, uint32_t written, UsedChain* used);
  bool NextInOrder(UsedChain* used) { return in_order_ && NextCompleted(used); }

  // Chains taken that the driver has not seen again.
  uint32_t unpublished() const { return owed_ + held_back_; }

  // Constant.
  const uint32_t size_;
  const vmm::GuestAddress desc_;
  const vmm::GuestAddress driver_;
  const vmm::GuestAddress device_;
  const bool event_idx_;
  vmm::DmaSpace* const dma_;

 private:
  struct Turn {
    UsedChain used;
    bool completed = false;
  };

  bool BreakOnDma(vmm::DmaResult result);
  bool BreakOnDescriptor(vmm::DmaResult result, bool indirect);
  bool HoldBack(const DescriptorChain& chain, const UsedChain& used);
  bool NextCompleted(UsedChain* used);
  uint16_t TurnAfter(uint16_t turn) const {
    return turn + 1u == size_ ? uint16_t{0} : static_cast<uint16_t>(turn + 1);
  }

  const uint16_t index_;
  const bool indirect_;
  const bool in_order_;

  QueueFault fault_ = QueueFault::kNone;
  uint32_t owed_ = 0;
  uint64_t owed_segments_ = 0;

  // With VIRTIO_F_IN_ORDER: chains by the order in which they were taken,
  // modulo the size, as no more than that are unpublished.
  std::vector<Turn> turns_;
  uint16_t next_turn_ = 0;  // of the next chain to take
  uint16_t due_turn_ = 0;   // of the next chain to publish
  uint32_t held_back_ = 0;  // completed before their turn

  // Storage of chains that came back, and how many segments it has room for
  // beside that of the chains owed: a short chain may have the storage of a
  // long one.
  std::vector<std::vector<Segment>> spare_;
  uint64_t spare_capacity_ = 0;
  uint64_t owed_capacity_ = 0;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_BASE_H_
