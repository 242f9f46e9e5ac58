// SplitVirtqueue: the device side of a split ring. Source: virtio 1.2, 2.7.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_SPLIT_VIRTQUEUE_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_SPLIT_VIRTQUEUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {

// Indices run freely from 0 to 65535 and are reduced by the size, a power of
// two, only where they meet the ring. Each DMA may fail at any time, since the
// memory map changes under a running queue: that breaks the queue.
class SplitVirtqueue final : public Virtqueue {
 public:
  // REQUIRES: CheckQueueConfig said OK for `config`.
  SplitVirtqueue(uint16_t index, const QueueConfig& config,
                 const Features& features, vmm::DmaSpace* dma,
                 Position position);

  uint16_t index() const override { return index_; }
  uint32_t size() const override { return size_; }
  PopResult Pop(DescriptorChain* chain) override;
  void Complete(DescriptorChain chain, uint32_t written) override;
  bool ShouldNotify() override;
  bool EnableNotifications() override;
  void DisableNotifications() override;
  QueueFault fault() const override { return fault_; }
  uint32_t owed() const override { return owed_; }
  Position position() const override { return {next_avail_, next_used_}; }

 private:
  // Where descriptors come from: the queue's own table, or an indirect one.
  struct Table {
    vmm::GuestAddress start;
    uint32_t entries = 0;
    bool indirect = false;
  };

  bool broken() const { return fault_ != QueueFault::kNone; }
  void Break(QueueFault fault);
  // True for kOk; else the queue is broken by it.
  bool RingAccess(vmm::DmaResult result);
  bool LoadAvail(uint64_t offset, std::memory_order order, uint16_t* value);
  bool StoreUsed(uint64_t offset, uint16_t value, std::memory_order order);
  // Looks at the available index; false when that broke the queue.
  bool RefreshAvail(std::memory_order order);

  // Both return false when they broke the queue.
  bool ReadChain(uint16_t head, DescriptorChain* chain);
  bool AddSegment(const Descriptor& descriptor, DescriptorChain* chain);
  bool EnterIndirect(const Descriptor& descriptor, Table* table);

  void TakeStorage(DescriptorChain* chain);
  void RecycleStorage(DescriptorChain* chain);

  // Constant.
  const uint16_t index_;
  const uint32_t size_;
  const vmm::GuestAddress desc_;
  const vmm::GuestAddress driver_;
  const vmm::GuestAddress device_;
  const bool indirect_;
  const bool event_idx_;
  vmm::DmaSpace* const dma_;

  QueueFault fault_ = QueueFault::kNone;
  uint16_t next_avail_;  // next entry of the available ring to take
  uint16_t avail_seen_;  // the driver's index when it was last looked at
  uint16_t next_used_;   // next entry of the used ring to fill
  // Completions since ShouldNotify() was last asked; can exceed 65535.
  uint64_t unannounced_ = 0;
  uint32_t owed_ = 0;
  uint64_t owed_segments_ = 0;

  // Storage of chains that came back.
  std::vector<std::vector<Segment>> spare_;
  uint64_t spare_segments_ = 0;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_SPLIT_VIRTQUEUE_H_
