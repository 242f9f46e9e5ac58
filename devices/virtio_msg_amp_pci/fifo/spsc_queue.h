// The two ends of one queue page of layout `spsc`. Head and tail are on cache
// lines of their own. Source: amp-pci-device, 3.1.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_QUEUE_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_QUEUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "devices/virtio_msg_amp_pci/fifo/packet_queue.h"
#include "devices/virtio_msg_amp_pci/fifo/spsc_layout.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {

// `page` is a queue page, 64-byte aligned.
struct SpscPlace {
  std::byte* page;

  static constexpr uint32_t slots() { return kSpscSlots; }
  std::byte* slot(uint32_t index) const {
    return page + kSpscPackets + size_t{index} * kSpscPacketBytes;
  }
  uint32_t LoadWritten() const { return Load(kSpscHead); }
  uint32_t LoadTaken() const { return Load(kSpscTail); }
  void StoreWritten(uint32_t index) const { Store(kSpscHead, index); }
  void StoreTaken(uint32_t index) const { Store(kSpscTail, index); }

 private:
  uint32_t Load(size_t at) const {
    return vmm::LoadShared<uint32_t>(page + at, std::memory_order_acquire);
  }
  void Store(size_t at, uint32_t index) const {
    vmm::StoreShared<uint32_t>(page + at, index, std::memory_order_release);
  }
};

using SpscConsumer = PacketConsumer<SpscPlace>;
using SpscProducer = PacketProducer<SpscPlace>;

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_QUEUE_H_
