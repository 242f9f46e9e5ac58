// MsixTable: the MSI-X table, pending bits and masks of one function.

#ifndef VMSG_VMM_PCI_MSIX_TABLE_H_
#define VMSG_VMM_PCI_MSIX_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/mutex.h"
#include "vmm/interrupt/interrupt_controller.h"

namespace vmsg::vmm {

// One vector in the table, 16 bytes. Source: PCI Local Bus 3.0, 6.8.2.6.
struct MsixTableEntry {
  uint32_t address_low = 0;
  uint32_t address_high = 0;
  uint32_t data = 0;
  uint32_t vector_control = 0;  // bit 0: mask
};
static_assert(sizeof(MsixTableEntry) == 16);

// Threads. Trigger() from the owner of the vector, lock-free. Everything else
// from vCPU threads, serialized by one lock inside; that lock is never held
// while an interrupt is raised.
//
// A vector is held back while any of these holds: MSI-X disabled, function
// mask, vector mask, bus mastering off. A trigger then sets its pending bit,
// and the change that ends the last reason delivers it. A trigger that races
// such a change is delivered exactly once: either it saw the vector open and
// went through, or it left the pending bit for the un-masker.
//
// The route gets the entry's message before the vector opens, and only when it
// has changed. When the controller refuses a message, the vector opens but
// leads nowhere, as a write to an address where nobody is: its triggers are
// counted as failed, and never go out with the message from before. The next
// change of any mask or entry offers the message again.
class MsixTable {
 public:
  static constexpr uint32_t kMaxVectors = 64;

  // `vectors` is 1 to kMaxVectors.
  explicit MsixTable(uint32_t vectors);
  ~MsixTable();
  MsixTable(const MsixTable&) = delete;
  MsixTable& operator=(const MsixTable&) = delete;

  uint32_t size() const { return static_cast<uint32_t>(vectors_.size()); }

  // Creates one route per vector. On error none is kept.
  absl::Status Connect(InterruptController* controller, uint16_t requester_id);
  // Drops the routes; every vector is held back from then on. No Trigger() and
  // no access may run at the same time.
  void Disconnect();

  // Raises vector `index` (below size()), or leaves it pending. What the owner
  // wrote before is visible to the guest when it sees the interrupt.
  void Trigger(uint32_t index);

  // Accesses to the table, by byte offset, any width and alignment; offsets
  // past the end read 0 and write nothing. The spec asks for 32 or 64-bit
  // aligned accesses; others are served bytewise on the stored value.
  void ReadTable(uint64_t offset, std::span<std::byte> data) const;
  void WriteTable(uint64_t offset, std::span<const std::byte> data);
  // The pending-bit array, read-only for the guest.
  void ReadPending(uint64_t offset, std::span<std::byte> data) const;

  // From the capability's message control and the command register.
  void SetControl(bool enabled, bool function_masked);
  void SetBusMaster(bool enabled);

  // Entries to zero with every vector masked, pending bits clear, disabled. Bus
  // mastering stays as it is. A trigger that comes later is pending again.
  void Reset();

  // When nothing is running, triggers == delivered + failed + merged, plus one
  // while the pending bit is set, plus those that a Reset() dropped.
  struct Stats {
    uint64_t triggers = 0;   // calls of Trigger()
    uint64_t delivered = 0;  // messages that the controller accepted
    uint64_t failed = 0;     // lost: the controller refused the message, or it
                             // refused the address and data in MsiRoute::Update
    uint64_t merged = 0;     // into a pending bit that was set already
  };
  // Of one vector. Any thread.
  Stats stats(uint32_t index) const;

 private:
  struct Vector;

  // Recomputes who is held back; returns a mask of vectors to deliver now,
  // which the caller does after it released the lock.
  uint64_t UpdateHeldLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Returns false when the controller refuses the vector's message.
  bool PushMessageLocked(uint32_t index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Deliver(uint64_t due);

  const std::vector<std::unique_ptr<Vector>> vectors_;

  mutable Mutex mutex_;
  std::vector<MsixTableEntry> entries_ ABSL_GUARDED_BY(mutex_);
  bool enabled_ ABSL_GUARDED_BY(mutex_) = false;
  bool function_masked_ ABSL_GUARDED_BY(mutex_) = false;
  bool bus_master_ ABSL_GUARDED_BY(mutex_) = false;
  uint16_t requester_id_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_MSIX_TABLE_H_
