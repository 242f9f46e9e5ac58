// PciHostBridge: one PCI segment with one bus, reached through ECAM and through
// ports 0xCF8 and 0xCFC.

#ifndef VMSG_VMM_PCI_PCI_HOST_BRIDGE_H_
#define VMSG_VMM_PCI_PCI_HOST_BRIDGE_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/interrupt/interrupt_controller.h"
#include "vmm/pci/pci_device.h"

namespace vmsg::vmm {

// Threads: config accesses from any vCPU thread; Add, AssignBars and ResetAll from the
// control thread, Add and AssignBars before the guest runs.
class PciHostBridge {
 public:
  struct Options {
    // ECAM for bus 0: 1 MiB there. nullopt: none.
    std::optional<GuestAddress> ecam;
    // Where AssignBars puts memory BARs.
    GuestRange window_32bit;
    GuestRange window_64bit;  // may be empty: 64-bit BARs then go below 4 GiB
  };

  // `mmio`, `pio` (may be null: no port access) and `interrupts` are borrowed and
  // outlive the bridge. The bridge itself answers at 00:00.0 as a host bridge.
  // Errors are those of mapping.
  static absl::StatusOr<std::unique_ptr<PciHostBridge>> Create(
      const Options& options, MmioBus* mmio, PioBus* pio,
      InterruptController* interrupts);

  PciHostBridge(const PciHostBridge&) = delete;
  PciHostBridge& operator=(const PciHostBridge&) = delete;
  // Disconnects the functions.
  ~PciHostBridge();

  // Puts `device` (borrowed; it outlives the bridge, or Remove comes first) at
  // `where`, or at the first free device number.
  //   AlreadyExists      the place, or the id, is taken.
  //   ResourceExhausted  no free place.
  //   InvalidArgument    a bus other than 0, device over 31, function over 7,
  //                      or function above 0 where there is no function 0.
  absl::StatusOr<PciAddress> Add(PciDevice* device,
                                 std::optional<PciAddress> where = {});
  // NotFound when it is not there.
  absl::Status Remove(PciDevice* device);

  // What firmware does: gives every BAR an address in the windows, largest
  // first, and turns memory decoding on, bus mastering not.
  //   ResourceExhausted  the windows are too small; names the BAR.
  absl::Status AssignBars();

  // Resets every function (guest reboot); vCPUs are stopped. Addresses that
  // AssignBars gave are given again.
  absl::Status ResetAll();

  // A config access by address, as ECAM and the ports do it. Absent functions
  // read all ones.
  uint32_t ReadConfig(PciAddress address, uint16_t offset, uint8_t width);
  void WriteConfig(PciAddress address, uint16_t offset, uint8_t width,
                   uint32_t value);

 private:
  class EcamHandler;
  class PortHandler;
  class BridgeFunction;

  PciHostBridge(const Options& options, MmioBus* mmio,
                InterruptController* interrupts);

  const Options options_;
  MmioBus* const mmio_;
  InterruptController* const interrupts_;
  // Before the mappings, so that they outlive them.
  std::unique_ptr<EcamHandler> ecam_handler_;
  std::unique_ptr<PortHandler> port_handler_;
  std::unique_ptr<BridgeFunction> self_;
  std::unique_ptr<MmioMapping> ecam_mapping_;
  std::unique_ptr<MmioMapping> address_port_mapping_;
  mutable Mutex mutex_;  // never held while a function's method runs
  std::array<PciDevice*, 256> functions_ ABSL_GUARDED_BY(mutex_) = {};
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_PCI_HOST_BRIDGE_H_
