// AmpDriver: a virtio-msg-amp-pci function with the driver side on its FIFO 0,
// as a guest would bring it up, without a guest.

#ifndef VMSG_BENCHMARKS_AMP_DRIVER_H_
#define VMSG_BENCHMARKS_AMP_DRIVER_H_

#include <memory>
#include <optional>

#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "guest/driver/amp_function.h"
#include "guest/driver/spsc_fifo.h"
#include "guest/driver/testing/in_process_platform.h"
#include "vmm/event/event_loop.h"
#include "vmm/interrupt/interrupt_controller.h"
#include "vmm/pci/pci_host_bridge.h"

namespace vmsg::bench {

// PCI, BARs and MSI-X are the real ones, opened by guest/driver through ECAM.
// The FIFO is reached through BAR 1 as the bus has mapped it. Failing to get
// there fails a check.
//
// Threads: construction and destruction while the loop does not run. The
// methods are for the driver's thread.
class AmpDriver {
 public:
  // Both borrowed; they outlive this.
  AmpDriver(const amp::AmpPciOptions& options, vmm::EventLoop* loop,
            vmm::InterruptController* interrupts);
  ~AmpDriver();

  amp::AmpPciDevice& device() { return *device_; }
  // Attached.
  guest::Fifo& fifo() { return *fifo_; }
  void RingDoorbell() {
    platform_->WriteMmio(function_.doorbell_address(0), 4, 1);
  }

 private:
  std::unique_ptr<guest::InProcessPlatform> platform_;
  std::unique_ptr<amp::AmpPciDevice> device_;
  std::unique_ptr<vmm::PciHostBridge> bridge_;
  guest::AmpFunction function_;
  std::optional<guest::SpscFifo> fifo_;
};

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_AMP_DRIVER_H_
