// TestMemory: a guest's memory for tests of queues and devices.

#ifndef VMSG_DEVICES_VIRTIO_TESTING_TEST_MEMORY_H_
#define VMSG_DEVICES_VIRTIO_TESTING_TEST_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "vmm/base/guest_address.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::virtio {

// 1 MiB of RAM at kRam, 64 KiB that DMA may only read at kReadOnly, and a hole
// everywhere else. Places of a usual test: queue areas from kRam, buffers from
// kBuffers.
//
// Threads: memory() any, as GuestMemory says; the rest one.
class TestMemory {
 public:
  static constexpr vmm::GuestAddress kRam{0x100000};
  static constexpr uint64_t kRamBytes = 0x100000;
  static constexpr vmm::GuestAddress kBuffers{0x180000};
  static constexpr vmm::GuestAddress kReadOnly{0x300000};
  static constexpr uint64_t kReadOnlyBytes = 0x10000;
  static constexpr vmm::GuestAddress kHole{0x400000};

  TestMemory();

  vmm::GuestMemory* memory() { return &memory_; }
  // The device's, and behind a gate that is open at first.
  vmm::DmaSpace* dma() { return &dma_; }
  vmm::DmaGate* gate() { return &gate_; }

  // Takes the RAM away while others use it.
  void RemoveRam();

  // As the guest does it: past the gate.
  void Write(vmm::GuestAddress to, const std::vector<std::byte>& bytes);
  std::vector<std::byte> Read(vmm::GuestAddress from, size_t length);

 private:
  vmm::GuestMemory memory_;
  vmm::DmaGate gate_;
  vmm::DmaSpace dma_;
  vmm::DmaSpace guest_;
};

// `length` bytes that count up from `first`.
std::vector<std::byte> CountingBytes(size_t length, uint8_t first = 0);

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_TESTING_TEST_MEMORY_H_
