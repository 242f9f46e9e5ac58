// PciHostBridge: one PCI segment with one bus, reached through ECAM and through
// ports 0xCF8 and 0xCFC.

#ifndef VMSG_VMM_PCI_PCI_HOST_BRIDGE_H_
#define VMSG_VMM_PCI_PCI_HOST_BRIDGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/interrupt/interrupt_controller.h"
#include "vmm/pci/pci_device.h"

namespace vmsg::vmm {

// Threads: config accesses from any vCPU thread. Everything else from one
// control thread; Add and AssignBars before the guest runs, ResetAll while it
// is stopped, Remove at any time, but not on a vCPU thread, and as far as
// Disconnect() of the function allows it.
class PciHostBridge {
 public:
  struct Options {
    // ECAM for bus 0: 1 MiB there. nullopt: none.
    std::optional<GuestAddress> ecam = std::nullopt;
    // Where AssignBars puts memory BARs. Below 4 GiB.
    GuestRange window_32bit = {};
    // For 64-bit BARs; when empty, they go below 4 GiB too. Not in the last 4
    // GiB of the address space, where an address looks like a sizing probe.
    GuestRange window_64bit = {};
  };

  // `mmio`, `pio` (may be null: no port access) and `interrupts` are borrowed
  // and outlive the bridge. The bridge itself answers at 00:00.0 as a host
  // bridge, with the ids of the generic PCI Express host bridge that QEMU has
  // and guests know (0x1B36, 0x0008).
  //   InvalidArgument  a window wraps or reaches past its limit.
  // Other errors are those of mapping.
  static absl::StatusOr<std::unique_ptr<PciHostBridge>> Create(
      const Options& options, MmioBus* mmio, PioBus* pio,
      InterruptController* interrupts);

  PciHostBridge(const PciHostBridge&) = delete;
  PciHostBridge& operator=(const PciHostBridge&) = delete;
  // Disconnects the functions.
  ~PciHostBridge();

  // Puts `device` (borrowed; it outlives the bridge, or Remove comes first) at
  // `where`, or at the first free device number, and connects it.
  //   AlreadyExists      the place, or the id, is taken.
  //   ResourceExhausted  no free place.
  //   InvalidArgument    a bus other than 0, device over 31, function over 7,
  //                      or function above 0 where there is no function 0.
  // Other errors are those of PciDevice::Connect. After an error the device is
  // not there.
  absl::StatusOr<PciAddress> Add(PciDevice* device,
                                 std::optional<PciAddress> where = {});
  // Takes it out, waits for config accesses in progress, disconnects it.
  //   NotFound            it is not there.
  //   FailedPrecondition  it is function 0 and others of its device are there,
  //                       which a guest could not find any more.
  absl::Status Remove(PciDevice* device);

  // What firmware does: gives every BAR an address in the windows, largest
  // first, and turns memory decoding on, bus mastering not.
  //   ResourceExhausted   the windows are too small; names the BAR. Nothing has
  //                       changed.
  //   FailedPrecondition  the bus refused a place that is inside a window;
  //   names
  //                       the function, which is left without decoding.
  absl::Status AssignBars();

  // Resets every function (guest reboot); vCPUs are stopped. Addresses that
  // AssignBars gave are given again; its FailedPrecondition applies.
  absl::Status ResetAll();

  // A config access by address, as ECAM and the ports do it. Absent functions,
  // and offsets from 256 on, read all ones. The header of function 0 tells a
  // guest when there are others.
  uint32_t ReadConfig(PciAddress address, uint16_t offset, uint8_t width);
  void WriteConfig(PciAddress address, uint16_t offset, uint8_t width,
                   uint32_t value);

 private:
  class EcamHandler;
  class PortHandler;
  class BridgeFunction;
  class Access;

  static constexpr size_t kSlots = 256;  // device << 3 | function

  struct Slot {
    PciDevice* device = nullptr;
    uint32_t accesses = 0;  // in progress
  };
  struct Assigned {
    PciDevice* device;
    PciBarInfo bar;
    uint64_t address;
  };

  PciHostBridge(const Options& options, MmioBus* mmio,
                InterruptController* interrupts);

  std::vector<PciDevice*> Devices() const;
  std::optional<size_t> SlotOf(const PciDevice* device) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasSiblings(size_t slot) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  absl::StatusOr<PciAddress> ChoosePlace(const PciDevice& device,
                                         std::optional<PciAddress> where) const;
  void TakeOut(size_t slot);
  // Writes what AssignBars decided into the functions.
  absl::Status ProgramBars();

  const Options options_;
  MmioBus* const mmio_;
  InterruptController* const interrupts_;
  std::vector<Assigned> assigned_;  // control thread

  mutable Mutex mutex_;  // never held while a function's method runs
  CondVar access_ended_;
  std::array<Slot, kSlots> slots_ ABSL_GUARDED_BY(mutex_) = {};

  std::unique_ptr<BridgeFunction> self_;
  // Before the mappings, so that they outlive them.
  std::unique_ptr<EcamHandler> ecam_handler_;
  std::unique_ptr<PortHandler> port_handler_;
  std::unique_ptr<MmioMapping> ecam_mapping_;
  std::unique_ptr<MmioMapping> port_mapping_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_PCI_HOST_BRIDGE_H_
