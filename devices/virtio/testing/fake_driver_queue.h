// FakeDriverQueue: the driver side of a split virtqueue.

#ifndef VMSG_DEVICES_VIRTIO_TESTING_FAKE_DRIVER_QUEUE_H_
#define VMSG_DEVICES_VIRTIO_TESTING_FAKE_DRIVER_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "devices/virtio/queue/virtqueue_layout.h"
#include "devices/virtio/testing/fake_driver.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::virtio {

// Contracts and threads are those of FakeDriver.
class FakeDriverQueue final : public FakeDriver {
 public:
  // Places the three areas from `base` (a multiple of 16), BytesNeeded(size)
  // bytes in all, and clears them. `size` is a power of two. The rest is as
  // FakeDriver says.
  FakeDriverQueue(const vmm::GuestMemory* memory, vmm::GuestAddress base,
                  uint32_t size, bool event_idx = false,
                  vmm::DmaTranslator* translator = nullptr);

  static uint64_t BytesNeeded(uint32_t size);

  // Lets both indices begin at `index` instead of 0, as in a queue that has
  // been running, or restored. Before anything else.
  void StartAt(uint16_t index);

  std::optional<uint16_t> Add(std::span<const Buffer> buffers) override;
  std::optional<uint16_t> AddIndirect(vmm::GuestAddress table,
                                      std::span<const Buffer> buffers) override;
  bool ShouldKick() override;
  std::optional<Used> TakeUsed() override;
  bool EnableInterrupts() override;
  void DisableInterrupts() override;

  // --- Raw words. ---

  void WriteRaw(vmm::GuestAddress table, uint64_t index,
                const RawDescriptor& descriptor) override;
  void PublishRaw(const RawDescriptor& descriptor) override;

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

  void Free(uint16_t head);

  std::vector<uint16_t> next_;  // links of free and of outstanding chains
  std::vector<Outstanding> chains_;
  uint16_t free_head_ = 0;
  uint32_t free_count_ = 0;
  uint16_t avail_idx_ = 0;
  uint16_t kicked_idx_ = 0;
  uint16_t used_idx_ = 0;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_TESTING_FAKE_DRIVER_QUEUE_H_
