// PciFunction: the base class that implements configuration space, BARs and
// MSI-X, so that a device describes itself and handles its registers.

#ifndef VMSG_VMM_PCI_PCI_FUNCTION_H_
#define VMSG_VMM_PCI_PCI_FUNCTION_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "vmm/base/counter.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/memory/dma_space.h"
#include "vmm/pci/msix_table.h"
#include "vmm/pci/pci_bar.h"
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
// MmioMapping::SetBase (which never waits) and never over the virtual hooks or
// an interrupt.
//
// Order. What a config write means for DMA, MSI-X and the hooks is applied
// after the lock is released, one change at a time and in the order in which
// the registers changed, and before the write returns. So the last hook call
// agrees with the register, and a quick off and on shows as both. A hook, or an
// interrupt sink, may write this function's config itself: that change is
// applied when the outer one is through.
//
// BARs. While memory decoding is on, each BAR with a non-zero address is mapped
// there, with its doorbells. A write of all ones (a sizing probe) reads back
// the size mask and leaves the mapping where it is until an address is written.
// When the bus refuses a move, the register goes back to the address where the
// mapping stays; when it refuses a BAR as decoding is turned on, the decode bit
// stays off. bar_refusals() counts both. A 64-bit BAR that is moved while
// decoding is on is at a mix of both addresses between the two writes, as on
// hardware.
//
// A doorbell write can reach the handler even where doorbells bypass it: while
// the BAR moves, and with a width other than 4. The handler signals the EventFd
// for each 4-byte write that it gets, and so loses none.
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
  // True when the doorbells of this function are served by the bus without the
  // handler; false when the handler has to signal the EventFds, because this
  // bus has no doorbells. Valid while connected.
  bool doorbells_bypass_handler() const { return doorbells_bypass_.load(); }

  const Counter& bar_refusals() const { return bar_refusals_; }

 protected:
  // `bars` and `msix` describe BARs with distinct indices. Our own bug (CHECK):
  // sizes that are no powers of two, overlapping indices, vectors out of range,
  // table and pending array that overlap or do not fit. Also destroying a
  // function that is connected.
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
  struct Bar;
  // What a config write means outside of the registers.
  struct Change {
    std::optional<bool> bus_master = std::nullopt;
    std::optional<uint16_t> message_control = std::nullopt;  // of MSI-X
  };

  void ResetRegistersLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<Change> WriteWordLocked(uint16_t word, uint32_t value,
                                        uint32_t byte_mask)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::optional<Change> WriteCommandLocked(uint32_t command)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteBarLocked(Bar& bar, bool high, uint32_t value, uint32_t byte_mask)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint64_t BarAddressLocked(const Bar& bar) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SetBarAddressLocked(Bar& bar, uint64_t address)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Brings the mapping in line with the registers; false when refused.
  bool PlaceBarLocked(Bar& bar) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool DecodingLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Applies queued changes in order, up to number `until`; releases the lock
  // meanwhile.
  void ApplyChangesLocked(uint64_t until) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Apply(const Change& change);

  const std::string id_;
  const PciIdentity identity_;
  const MsixLayout msix_layout_;
  MsixTable msix_;
  const std::unique_ptr<MsixBar> msix_bar_;
  std::vector<PciBarInfo> bar_infos_;  // by index; constant after construction
  DmaGate dma_gate_;
  std::atomic<bool> doorbells_bypass_{false};
  Counter bar_refusals_;

  mutable Mutex mutex_;
  std::vector<Bar> bars_ ABSL_GUARDED_BY(mutex_);  // as bar_infos_
  std::array<uint32_t, 64> registers_ ABSL_GUARDED_BY(mutex_) = {};
  bool connected_ ABSL_GUARDED_BY(mutex_) = false;

  // At most one change for each thread that is in WriteConfig, plus nested
  // ones.
  std::deque<Change> changes_ ABSL_GUARDED_BY(mutex_);
  uint64_t queued_ ABSL_GUARDED_BY(mutex_) = 0;   // number of the newest change
  uint64_t applied_ ABSL_GUARDED_BY(mutex_) = 0;  // and of the last applied one
  uint64_t nested_ ABSL_GUARDED_BY(mutex_) = 0;   // the newest queued by a hook
  std::optional<std::thread::id> applier_ ABSL_GUARDED_BY(mutex_);
  CondVar change_applied_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_PCI_FUNCTION_H_
