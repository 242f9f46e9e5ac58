// FakeDriverQueue: the driver side of a split virtqueue, for tests, fuzzers and
// benchmarks of the device side.
//
// It makes correct chains, and, by its raw functions, anything else that a
// guest can put into memory.

#ifndef VMSG_DEVICES_VIRTIO_TESTING_FAKE_DRIVER_QUEUE_H_
#define VMSG_DEVICES_VIRTIO_TESTING_FAKE_DRIVER_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::virtio {

// Threads: one, which may be another than the device's: the two sides then run
// against each other as driver and device do.
class FakeDriverQueue {
 public:
  struct Buffer {
    vmm::GuestAddress address;
    uint32_t length = 0;
    bool writable = false;
  };
  struct Used {
    uint32_t id = 0;
    uint32_t length = 0;
    friend bool operator==(const Used&, const Used&) = default;
  };

  // Places the three areas from `base` (a multiple of 16), BytesNeeded(size)
  // bytes in all, and clears them. `memory` is borrowed and outlives the queue.
  // `size` is a power of two. All memory must be there: a failed access is the
  // test's own mistake and aborts. With a translator (borrowed likewise) all
  // addresses are its IOVAs.
  FakeDriverQueue(const vmm::GuestMemory* memory, vmm::GuestAddress base,
                  uint32_t size, bool event_idx = false,
                  vmm::DmaTranslator* translator = nullptr);
  FakeDriverQueue(const FakeDriverQueue&) = delete;
  FakeDriverQueue& operator=(const FakeDriverQueue&) = delete;

  static uint64_t BytesNeeded(uint32_t size);

  // Lets both indices begin at `index` instead of 0, as in a queue that has
  // been running, or restored. Before anything else.
  void StartAt(uint16_t index);

  const QueueConfig& config() const { return config_; }

  // --- A correct driver. ---

  // Puts a chain into the descriptor table and makes it available; returns its
  // head. nullopt when there are not enough free descriptors.
  std::optional<uint16_t> Add(std::span<const Buffer> buffers);
  // The same through an indirect table at `table`; uses one descriptor.
  std::optional<uint16_t> AddIndirect(vmm::GuestAddress table,
                                      std::span<const Buffer> buffers);

  // Whether the device has to be notified of what was added since the last
  // call. virtio 1.2, 2.7.13.4.
  bool ShouldKick();

  // The next used entry; its descriptors are free again. nullopt: none yet, or
  // an id that is not owed (the device's mistake, see bad_used()).
  std::optional<Used> TakeUsed();
  uint64_t bad_used() const { return bad_used_; }
  // Chains made available and not taken back.
  uint32_t outstanding() const { return outstanding_; }

  // Asks for an interrupt at the next used entry. True: there is one already.
  bool EnableInterrupts();
  // For drivers that poll.
  void DisableInterrupts();

  // --- Raw words. ---

  void WriteDescriptor(uint16_t index, const Descriptor& descriptor);
  void WriteDescriptorAt(vmm::GuestAddress table, uint64_t index,
                         const Descriptor& descriptor);
  void SetAvailEntry(uint16_t slot, uint16_t head);
  void SetAvailIdx(uint16_t idx);
  uint16_t avail_idx() const { return avail_idx_; }
  void SetAvailFlags(uint16_t flags);
  void SetUsedEvent(uint16_t event);
  // Puts `head` into the next available entry and publishes it.
  void Publish(uint16_t head);

  uint16_t UsedIdx();
  uint16_t UsedFlags();
  uint16_t AvailEvent();
  Used UsedEntry(uint16_t slot);

 private:
  struct Outstanding {
    bool owed = false;
    uint16_t descriptors = 0;
  };

  uint16_t Load(vmm::GuestAddress area, uint64_t offset,
                std::memory_order order);
  void Store(vmm::GuestAddress area, uint64_t offset, uint16_t value,
             std::memory_order order);
  void Free(uint16_t head);

  vmm::DmaSpace dma_;
  QueueConfig config_;
  const bool event_idx_;
  std::vector<uint16_t> next_;  // links of free and of outstanding chains
  std::vector<Outstanding> chains_;
  uint16_t free_head_ = 0;
  uint32_t free_count_ = 0;
  uint32_t outstanding_ = 0;
  uint16_t avail_idx_ = 0;
  uint16_t kicked_idx_ = 0;
  uint16_t used_idx_ = 0;
  uint64_t bad_used_ = 0;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_TESTING_FAKE_DRIVER_QUEUE_H_
