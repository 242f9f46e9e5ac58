// FakePackedDriverQueue: the driver side of a packed virtqueue, for tests and
// fuzzers of the device side. What FakeDriverQueue is for split ones.

#ifndef VMSG_DEVICES_VIRTIO_TESTING_FAKE_PACKED_DRIVER_QUEUE_H_
#define VMSG_DEVICES_VIRTIO_TESTING_FAKE_PACKED_DRIVER_QUEUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::virtio {

// Threads: one, which may be another than the device's: the two sides then run
// against each other as driver and device do.
class FakePackedDriverQueue {
 public:
  using Buffer = FakeDriverQueue::Buffer;
  using Used = FakeDriverQueue::Used;

  // As FakeDriverQueue; `size` need not be a power of two.
  FakePackedDriverQueue(const vmm::GuestMemory* memory, vmm::GuestAddress base,
                        uint32_t size, bool event_idx = false,
                        vmm::DmaTranslator* translator = nullptr);
  FakePackedDriverQueue(const FakePackedDriverQueue&) = delete;
  FakePackedDriverQueue& operator=(const FakePackedDriverQueue&) = delete;

  static uint64_t BytesNeeded(uint32_t size);

  // Lets both cursors begin at `cursor`, as in a queue that has been running,
  // or restored. Before anything else.
  void StartAt(PackedCursor cursor);

  const QueueConfig& config() const { return config_; }

  // --- A correct driver. ---

  // Makes a chain available; returns its id. nullopt when there are not enough
  // free descriptors. Ids are handed out in a circle, so that they are not
  // those of the places.
  std::optional<uint16_t> Add(std::span<const Buffer> buffers);
  // The same through an indirect table at `table`; uses one descriptor.
  std::optional<uint16_t> AddIndirect(vmm::GuestAddress table,
                                      std::span<const Buffer> buffers);

  // Whether the device has to be notified of what was added since the last
  // call. virtio 1.2, 2.8.10.
  bool ShouldKick();

  // The next used descriptor; those of its chain are free again. nullopt: none
  // yet, or an id that is not owed (the device's mistake, see bad_used()). The
  // length is 0 where the device says that it means nothing.
  std::optional<Used> TakeUsed();
  uint64_t bad_used() const { return bad_used_; }
  // Chains made available and not taken back.
  uint32_t outstanding() const { return outstanding_; }

  // Asks for an interrupt at the next used descriptor. True: there is one
  // already.
  bool EnableInterrupts();
  // For drivers that poll.
  void DisableInterrupts();

  // --- Raw words. ---

  void WriteDescriptor(uint16_t slot, const PackedDescriptor& descriptor);
  void WriteDescriptorAt(vmm::GuestAddress table, uint64_t index,
                         const PackedDescriptor& descriptor);
  PackedDescriptor ReadDescriptor(uint16_t slot);
  // Writes the next descriptor, whose flags say that it is available, beside
  // those given. It is not counted as a chain.
  void Publish(PackedDescriptor descriptor);
  // Where the next descriptor goes.
  PackedCursor avail() const { return avail_; }
  // The driver's event suppression.
  void SetEvent(uint16_t position, uint16_t flags);
  // The device's.
  uint16_t DeviceEventPosition();
  uint16_t DeviceEventFlags();

 private:
  struct Chain {
    bool owed = false;
    uint16_t descriptors = 0;
  };

  uint16_t Load(vmm::GuestAddress area, uint64_t offset,
                std::memory_order order);
  void Store(vmm::GuestAddress area, uint64_t offset, uint16_t value,
             std::memory_order order);
  void StoreFlags(uint16_t slot, uint16_t flags);
  bool NextIsUsed(std::memory_order order);
  uint16_t TakeId(uint16_t descriptors);

  vmm::DmaSpace dma_;
  QueueConfig config_;
  const bool event_idx_;
  std::vector<Chain> chains_;  // by id
  uint16_t next_id_;
  uint32_t free_count_;
  uint32_t outstanding_ = 0;
  PackedCursor avail_;
  PackedCursor used_;
  // Places that avail_ has passed since ShouldKick() was last asked.
  uint64_t unannounced_ = 0;
  uint64_t bad_used_ = 0;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_TESTING_FAKE_PACKED_DRIVER_QUEUE_H_
