// FakeDriver: the driver side of a virtqueue of either format, for tests,
// fuzzers and benchmarks of the device side.
//
// It makes correct chains, and, by its raw functions, anything else that a
// guest can put into memory. What only one of the formats has is in
// FakeDriverQueue (split) and FakePackedDriverQueue.

#ifndef VMSG_DEVICES_VIRTIO_TESTING_FAKE_DRIVER_H_
#define VMSG_DEVICES_VIRTIO_TESTING_FAKE_DRIVER_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "devices/virtio/queue/virtqueue.h"
#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::virtio {

// Threads: one, which may be another than the device's: the two sides then run
// against each other as driver and device do.
class FakeDriver {
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
  // What a descriptor of each format has. The rest of it is 0.
  struct RawDescriptor {
    uint64_t address = 0;
    uint32_t length = 0;
    uint16_t flags = 0;
  };

  FakeDriver(const FakeDriver&) = delete;
  FakeDriver& operator=(const FakeDriver&) = delete;
  virtual ~FakeDriver() = default;

  const QueueConfig& config() const { return config_; }

  // --- A correct driver, as far as its buffers are good ones. ---

  // Makes a chain available; returns its id, for a split ring its head. nullopt
  // when there are not enough free descriptors.
  virtual std::optional<uint16_t> Add(std::span<const Buffer> buffers) = 0;
  // The same through an indirect table at `table`; uses one descriptor.
  virtual std::optional<uint16_t> AddIndirect(
      vmm::GuestAddress table, std::span<const Buffer> buffers) = 0;

  // Whether the device has to be notified of what was added since the last
  // call. virtio 1.2, 2.7.13.4 and 2.8.10.
  virtual bool ShouldKick() = 0;

  // The next chain that was used; its descriptors are free again. nullopt: none
  // yet, or an id that is not owed (the device's mistake, see bad_used()).
  virtual std::optional<Used> TakeUsed() = 0;
  uint64_t bad_used() const { return bad_used_; }
  // Chains made available and not taken back.
  uint32_t outstanding() const { return outstanding_; }

  // Asks for an interrupt when the next chain is used. True: one is already.
  virtual bool EnableInterrupts() = 0;
  // For drivers that poll.
  virtual void DisableInterrupts() = 0;

  // --- Raw words. ---

  virtual void WriteRaw(vmm::GuestAddress table, uint64_t index,
                        const RawDescriptor& descriptor) = 0;
  // Makes a chain of this descriptor available, which is not counted: it has a
  // free place, or, where none is left, that of another chain.
  virtual void PublishRaw(const RawDescriptor& descriptor) = 0;

 protected:
  // `memory` is borrowed and outlives the queue, a translator likewise: all
  // addresses are then its IOVAs. All memory must be there: a failed access is
  // the test's own mistake and aborts. Clears `bytes` bytes from config.desc.
  FakeDriver(const vmm::GuestMemory* memory, const QueueConfig& config,
             uint64_t bytes, bool event_idx, vmm::DmaTranslator* translator);

  static vmm::GuestAddress At(vmm::GuestAddress start, uint64_t offset) {
    return {start.value + offset};
  }
  uint16_t Load(vmm::GuestAddress area, uint64_t offset,
                std::memory_order order);
  void Store(vmm::GuestAddress area, uint64_t offset, uint16_t value,
             std::memory_order order);
  void Read(vmm::GuestAddress from, std::span<std::byte> to);
  void Write(vmm::GuestAddress to, std::span<const std::byte> from);

  const QueueConfig config_;
  const bool event_idx_;
  uint32_t outstanding_ = 0;
  uint64_t bad_used_ = 0;

 private:
  vmm::DmaSpace dma_;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_TESTING_FAKE_DRIVER_H_
