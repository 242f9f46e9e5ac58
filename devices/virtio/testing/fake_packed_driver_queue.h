// FakePackedDriverQueue: the driver side of a packed virtqueue.

#ifndef VMSG_DEVICES_VIRTIO_TESTING_FAKE_PACKED_DRIVER_QUEUE_H_
#define VMSG_DEVICES_VIRTIO_TESTING_FAKE_PACKED_DRIVER_QUEUE_H_

#include <atomic>
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

// Contracts and threads are those of FakeDriver. Ids are handed out in a
// circle, so that they are not those of the places. The length of a used chain
// is 0 where the device says that it means nothing.
class FakePackedDriverQueue final : public FakeDriver {
 public:
  // As FakeDriverQueue; `size` need not be a power of two.
  FakePackedDriverQueue(const vmm::GuestMemory* memory, vmm::GuestAddress base,
                        uint32_t size, bool event_idx = false,
                        vmm::DmaTranslator* translator = nullptr);

  static uint64_t BytesNeeded(uint32_t size);

  // Lets both cursors begin at `cursor`, as in a queue that has been running,
  // or restored. Before anything else.
  void StartAt(PackedCursor cursor);

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

  void StoreFlags(uint16_t slot, uint16_t flags);
  bool NextIsUsed(std::memory_order order);
  uint16_t TakeId(uint16_t descriptors);

  std::vector<Chain> chains_;  // by id
  uint16_t next_id_;
  uint32_t free_count_;
  PackedCursor avail_;
  PackedCursor used_;
  // Places that avail_ has passed since ShouldKick() was last asked.
  uint64_t unannounced_ = 0;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_TESTING_FAKE_PACKED_DRIVER_QUEUE_H_
