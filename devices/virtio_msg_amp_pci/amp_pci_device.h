// AmpPciDevice: the virtio-msg-amp-pci function.
// Source: amp-pci-device (the whole document).

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_PCI_DEVICE_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_PCI_DEVICE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/virtio_msg/message_bus_types.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "devices/virtio_msg_amp_pci/amp_layout.h"
#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo_counters.h"
#include "vmm/base/counter.h"
#include "vmm/base/log.h"
#include "vmm/control/hotplug_bus.h"
#include "vmm/event/event_loop.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci_device.h"

namespace vmsg::amp {

struct AmpPciOptions {
  std::string id = "amp0";  // unique in the VM; letters, digits, '-', '_', '.'
  uint32_t num_fifos = kDefaultFifos;  // kMinFifos to kMaxFifos
  FifoLayout fifo_layout = FifoLayout::kSpsc;
  uint16_t subsystem_vendor_id = kDefaultSubsystemVendorId;
  uint16_t subsystem_id = kDefaultSubsystemId;
  // Packets that one wake-up takes off a driver queue before other sources of
  // the loop get their turn.
  uint32_t max_packets_per_wakeup = 64;
  // Judges the driver of each FIFO by what it sends; see wire_monitor().
  bool wire_monitor = false;
  // PING as a health check of the driver of each FIFO; off by default.
  msg::PingOptions ping = {};
  // What the addresses mean that drivers give to devices of this function: to
  // an IOMMU it is one requester. All devices then offer
  // VIRTIO_F_ACCESS_PLATFORM, and their drivers' addresses are this
  // translator's. Borrowed, outlives the device; asked on every loop. Null:
  // addresses are guest-physical, and the feature is not offered.
  vmm::DmaTranslator* translator = nullptr;
  // With a translator: a driver that does not accept the feature works too,
  // with guest-physical addresses that no translator sees. That lets whoever
  // writes the driver's side reach all of guest memory, so by default such a
  // driver is refused (FEATURES_OK stays clear).
  bool allow_untranslated = false;
};

// One PCI function with num_fifos FIFOs, each with a message bus of its own.
//
// Threads: PciDevice's methods and trapped accesses as PciDevice says. All
// message and virtio work runs on the FIFO's loop; a vCPU thread only signals.
//
// Life: Create; add to a PciHostBridge; run the loops and the guest; stop the
// vCPUs; unplug the devices where their back ends want an orderly end; stop the
// loops; Disconnect (or remove it from the bridge, or destroy that); destroy.
// Disconnect() checks that no loop runs, or that it is on the thread of each: a
// loop that raised an interrupt meanwhile would find its route gone.
class AmpPciDevice : public vmm::PciDevice {
 public:
  // `loops` has one entry, for all FIFOs, or one per FIFO; the loops, `memory`
  // (the guest's RAM as devices see it) and `log_sink` (may be null) are
  // borrowed and outlive the device. The loops need not run yet; Create and
  // destruction happen while they do not run, or on a thread where
  // IsInLoopThread() of each is true.
  //   InvalidArgument    a field out of range; names it.
  //   ResourceExhausted  descriptors or memory.
  static absl::StatusOr<std::unique_ptr<AmpPciDevice>> Create(
      const AmpPciOptions& options, vmm::GuestMemory* memory,
      std::vector<vmm::EventLoop*> loops, vmm::LogSink* log_sink);

  virtual uint32_t num_fifos() const = 0;

  // The bus on FIFO `n` for the control plane. Lives as long as the device.
  virtual control::HotplugBus* bus(uint32_t n) = 0;

  // Any thread.
  virtual const FifoCounters& fifo_counters(uint32_t n) const = 0;
  // Null unless AmpPciOptions::wire_monitor. Lives as long as the device; any
  // thread, as far as WireMonitor says so.
  virtual const msg::WireMonitor* wire_monitor(uint32_t n) const = 0;
  // Interrupt messages of vector `n` that the controller accepted. Any thread.
  virtual uint64_t interrupts_delivered(uint32_t n) const = 0;
  // Accesses to BAR 0 that hit no register, or were not 32 bits wide. Any
  // thread.
  virtual const vmm::Counter& bad_accesses() const = 0;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_AMP_PCI_DEVICE_H_
