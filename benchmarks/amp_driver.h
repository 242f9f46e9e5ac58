// AmpDriver: a virtio-msg-amp-pci function with the driver side on its FIFOs,
// as a guest would bring it up, without a guest.

#ifndef VMSG_BENCHMARKS_AMP_DRIVER_H_
#define VMSG_BENCHMARKS_AMP_DRIVER_H_

#include <array>
#include <cstdint>
#include <memory>

#include "absl/functional/function_ref.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "guest/driver/amp_function.h"
#include "guest/driver/fifo.h"
#include "guest/driver/testing/in_process_platform.h"
#include "guest/driver/window_fifo.h"
#include "vmm/event/event_loop.h"
#include "vmm/interrupt/interrupt_controller.h"
#include "vmm/pci/pci_host_bridge.h"

namespace vmsg::bench {

// PCI, BARs and MSI-X are the real ones, opened by guest/driver through ECAM.
// The FIFOs are reached through BAR 1 as the bus has mapped it. Failing to get
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
  // Sees the handshake of every FIFO through, in a layout that has one.
  // `run_loop` lets the loop do what it has to; on the thread of both sides.
  void Join(absl::FunctionRef<void()> run_loop);

  // For n below the function's number of FIFOs. Attached.
  guest::Fifo& fifo(uint32_t n = 0) { return *fifos_[n]; }
  void RingDoorbell(uint32_t n = 0) {
    platform_->WriteMmio(function_.doorbell_address(n), 4, 1);
  }

 private:
  std::unique_ptr<guest::InProcessPlatform> platform_;
  std::unique_ptr<amp::AmpPciDevice> device_;
  std::unique_ptr<vmm::PciHostBridge> bridge_;
  guest::AmpFunction function_;
  std::array<guest::WindowFifo, guest::AmpFunction::kMaxFifos> windows_;
  std::array<guest::Fifo*, guest::AmpFunction::kMaxFifos> fifos_ = {};
};

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_AMP_DRIVER_H_
