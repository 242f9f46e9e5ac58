// PackedVirtqueue: the device side of a packed ring. Source: virtio 1.2, 2.8.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_PACKED_VIRTQUEUE_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_PACKED_VIRTQUEUE_H_

#include <atomic>
#include <cstdint>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_base.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {

// Two cursors go round the ring, each with the wrap counter that says what
// flags mean "available" and "used" there. Between them lie, in any order, the
// places of chains that the driver waits for: the used cursor never comes past
// the other one, so a used descriptor overwrites only what was read before.
class PackedVirtqueue final : public VirtqueueBase {
 public:
  // REQUIRES: CheckQueueConfig said OK for `config`; both slots are below its
  // size.
  PackedVirtqueue(uint16_t index, const QueueConfig& config,
                  const Features& features, vmm::DmaSpace* dma,
                  PackedCursor start);

  PopResult Pop(DescriptorChain* chain) override;
  void Complete(DescriptorChain chain, uint32_t written) override;
  bool ShouldNotify() override;
  bool EnableNotifications() override;
  void DisableNotifications() override;
  Position position() const override {
    return {avail_.Encode(), used_.Encode()};
  }

 private:
  // These return false when they broke the queue. Loads the flags at avail_,
  bool LoadFlags(std::memory_order order, uint16_t* flags);
  // takes the chain that starts there and whose first flags are `flags`,
  bool ReadChain(uint16_t flags, DescriptorChain* chain);
  // takes the buffers of an indirect table,
  bool ReadTable(const Segment& table, DescriptorChain* chain);
  // writes the next used descriptor,
  bool Publish(const UsedChain& used);
  // and sets our word of event suppression, if it has not this value already.
  bool SetEventFlags(uint16_t flags, std::memory_order order);

  PackedCursor avail_;  // next descriptor to take
  PackedCursor used_;   // next descriptor to write
  // Descriptors between them: those of chains that are not published.
  uint32_t taken_ = 0;
  // Descriptors that used_ has passed since ShouldNotify() was last asked; can
  // exceed two turns of the ring.
  uint64_t unannounced_ = 0;
  uint32_t event_flags_;  // as last written; else no value of them
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_PACKED_VIRTQUEUE_H_
