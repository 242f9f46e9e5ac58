// SpscFifo: the device's end of a FIFO window of layout `spsc`.
// Source: amp-pci-device, 3.1. docs: README.md of this folder.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_FIFO_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_FIFO_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo/spsc_queue.h"

namespace vmsg::amp {

// A fault of one queue stops both: the FIFO is one thing to the driver.
//
// The layout has no handshake, so Poll() only makes sure that nobody wrote the
// device's two indices, and a driver that starts anew is not noticed. It starts
// from the indices that it finds, so Restart() is for a cleared window and
// DropDriver() keeps the indices where they are.
//
// Model: tests/model/restart.pml.
class SpscFifo final : public DeviceFifo {
 public:
  // `window` is kSpscWindowBytes, 64-byte aligned; borrowed, outlives this.
  // Clears it.
  explicit SpscFifo(std::byte* window);

  bool Receive(Packet* packet) override {
    if (driver_queue_.Pop(packet)) return true;
    return NoteFault(driver_queue_.fault());
  }
  void CommitReceived() override { driver_queue_.Commit(); }
  bool Send(std::span<const std::byte> message) override;
  bool CommitSent() override { return device_queue_.Commit(); }
  bool HasRoom() override;
  uint32_t Unread() override;
  bool Poll() override;
  bool Step() override { return false; }
  bool has_handshake() const override { return false; }
  void Reset() override;
  void ClearWindow() override;
  void Restart() override;
  uint32_t DriverLeft() override;
  void DropDriver(uint32_t mark) override;
  void Shutdown() override {}

 private:
  // Always false, for callers that have just failed.
  bool NoteFault(FifoFault fault) {
    if (fault != FifoFault::kNone) Break(fault);
    return false;
  }
  void Break(FifoFault fault);

  std::byte* const window_;
  SpscConsumer driver_queue_;
  SpscProducer device_queue_;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_FIFO_H_
