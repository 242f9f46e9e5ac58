// SplitVirtqueue: the device side of a split ring. Source: virtio 1.2, 2.7.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_SPLIT_VIRTQUEUE_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_SPLIT_VIRTQUEUE_H_

#include <atomic>
#include <cstdint>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_base.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {

// Indices run freely from 0 to 65535 and are reduced by the size, a power of
// two, only where they meet the ring.
class SplitVirtqueue final : public VirtqueueBase {
 public:
  // REQUIRES: CheckQueueConfig said OK for `config`.
  SplitVirtqueue(uint16_t index, const QueueConfig& config,
                 const Features& features, vmm::DmaSpace* dma,
                 Position position);

  PopResult Pop(DescriptorChain* chain) override;
  void Complete(DescriptorChain chain, uint32_t written) override;
  bool ShouldNotify() override;
  bool EnableNotifications() override;
  void DisableNotifications() override;
  Position position() const override { return {next_avail_, next_used_}; }

 private:
  // Where descriptors come from: the queue's own table, or an indirect one.
  struct Table {
    vmm::GuestAddress start;
    uint32_t entries = 0;
    bool indirect = false;
  };

  bool LoadAvail(uint64_t offset, std::memory_order order, uint16_t* value);
  bool StoreUsed(uint64_t offset, uint16_t value, std::memory_order order);
  // These return false when they broke the queue: looks at the available index,
  bool RefreshAvail(std::memory_order order);
  // takes the chain that starts at `head`,
  bool ReadChain(uint16_t head, DescriptorChain* chain);
  // enters the table that `descriptor` names,
  bool EnterIndirect(const Descriptor& descriptor, Table* table);
  // and writes the next used entry.
  bool Publish(const UsedChain& used);

  uint16_t next_avail_;  // next entry of the available ring to take
  uint16_t avail_seen_;  // the driver's index when it was last looked at
  uint16_t next_used_;   // next entry of the used ring to fill
  // Entries published since ShouldNotify() was last asked; can exceed 65535.
  uint64_t unannounced_ = 0;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_SPLIT_VIRTQUEUE_H_
