// PciFunction: the base class that implements configuration space, BARs and
// MSI-X, so that a device describes itself and handles its registers.

#ifndef VMSG_VMM_PCI_PCI_FUNCTION_H_
#define VMSG_VMM_PCI_PCI_FUNCTION_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "vmm/base/counter.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/msix_table.h"
#include "vmm/pci/pci_device.h"

namespace vmsg::vmm {

struct PciIdentity {
  uint16_t vendor_id = 0xFFFF;
  uint16_t device_id = 0xFFFF;
  uint8_t revision = 0;
  uint8_t class_code = 0;
  uint8_t subclass = 0;
  uint8_t prog_if = 0;
  uint16_t subsystem_vendor_id = 0;
  uint16_t subsystem_id = 0;
};

// A doorbell inside a register BAR: a 4-byte write there signals the EventFd.
struct PciDoorbell {
  uint64_t offset = 0;             // in the BAR
  const EventFd* event = nullptr;  // borrowed, outlives the function's life
};

// One memory BAR: registers (a handler), or memory (a backing), exactly one.
struct PciBar {
  PciBarInfo info;
  IoHandler* handler = nullptr;  // borrowed; typically the device itself
  std::vector<PciDoorbell> doorbells;  // with a handler only
  std::shared_ptr<const MemoryBacking> memory;  // from its start
};

// Where the MSI-X structures are. The named BAR is created by PciFunction and
// holds nothing else.
struct MsixLayout {
  uint8_t bar = 0;
  uint32_t vectors = 1;
  uint32_t table_offset = 0;
  uint32_t pending_offset = 0x800;
  uint64_t bar_size_bytes = 4096;
};

// Threads: as PciDevice. One lock guards the registers; it is held over
// MmioMapping::SetBase (which never waits) and never over the virtual hooks or an
// interrupt.
//
// BARs. While memory decoding is on, each BAR with a non-zero address is mapped
// there. A write of all ones (a sizing probe) reads back the size mask and leaves
// the mapping where it is. When the bus refuses a move, the register goes back
// to its old value, the mapping stays, and bar_refusals() counts.
class PciFunction : public PciDevice {
 public:
  ~PciFunction() override;

  const std::string& id() const override { return id_; }
  absl::Status Connect(PciAddress address, MmioBus* mmio,
                       InterruptController* interrupts) override;
  void Disconnect() override;
  uint32_t ReadConfig(uint16_t offset, uint8_t width) override;
  void WriteConfig(uint16_t offset, uint8_t width, uint32_t value) override;
  std::span<const PciBarInfo> bars() const override { return bar_infos_; }
  void Reset() override;

  MsixTable& msix() { return msix_; }
  // Open while the bus-master bit is set and the function is connected.
  DmaGate* dma_gate() { return &dma_gate_; }
  // True when a doorbell of this function is served by the bus without the
  // handler. When false, the handler has to signal the EventFd itself.
  bool doorbells_bypass_handler() const;

  const Counter& bar_refusals() const { return bar_refusals_; }

 protected:
  // `bars` and `msix` describe BARs with distinct indices. Our own bug (CHECK):
  // sizes that are no powers of two, overlapping indices, vectors out of range,
  // table and pending array that overlap or do not fit.
  PciFunction(std::string id, const PciIdentity& identity,
              std::vector<PciBar> bars, const MsixLayout& msix);

  // The guest switched bus mastering; the gate and the pending interrupts have
  // followed already. Called on the vCPU thread without the lock: post to the
  // loops, do not wait. Not called by Reset(), which calls OnReset().
  virtual void OnBusMasterChanged(bool enabled) = 0;

  // The function is being reset: bring the device's own state to power-on. Same
  // thread rules. The gate is closed already.
  virtual void OnReset() = 0;

 private:
  class MsixBar;
  struct MappedBar;

  void ResetRegistersLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint32_t ReadWordLocked(uint16_t word) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteWordLocked(uint16_t word, uint32_t value, uint32_t byte_mask)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PlaceBarsLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string id_;
  const PciIdentity identity_;
  const MsixLayout msix_layout_;
  MsixTable msix_;
  const std::unique_ptr<MsixBar> msix_bar_;
  std::vector<PciBarInfo> bar_infos_;  // constant after construction
  DmaGate dma_gate_;
  Counter bar_refusals_;

  mutable Mutex mutex_;
  std::vector<MappedBar> bars_ ABSL_GUARDED_BY(mutex_);
  std::array<uint32_t, 64> registers_ ABSL_GUARDED_BY(mutex_) = {};
  bool connected_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_PCI_FUNCTION_H_
