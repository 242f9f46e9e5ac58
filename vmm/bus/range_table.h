// RangeTable: which handler, memory or doorbell is at which address. Shared by
// DispatchMmioBus and DispatchPioBus; internal to this package.

#ifndef VMSG_VMM_BUS_RANGE_TABLE_H_
#define VMSG_VMM_BUS_RANGE_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::vmm {

// Threads: any. One lock, held for a lookup or a change and never over a call
// of a handler. A call in progress is counted at its entry, so that the entry's
// owner can wait for it.
class RangeTable {
 public:
  enum class Kind : uint8_t { kHandler, kMemory, kDoorbell };

  // Constant but for the last three, which the table guards.
  struct Entry {
    std::string name;
    Kind kind = Kind::kHandler;
    uint64_t size = 0;             // bytes, not 0
    uint64_t alignment = 1;        // of the base; a power of two
    IoHandler* handler = nullptr;  // kHandler
    std::shared_ptr<const MemoryBacking> backing;  // kMemory
    uint64_t backing_offset = 0;                   // kMemory
    const EventFd* doorbell = nullptr;             // kDoorbell

    std::optional<GuestAddress> base;
    uint32_t calls = 0;  // in progress
    bool leaving = false;
  };

  // Addresses go from 0 to `last`; an access in one piece has at most
  // `max_width` bytes.
  RangeTable(uint64_t last, size_t max_width);
  RangeTable(const RangeTable&) = delete;
  RangeTable& operator=(const RangeTable&) = delete;

  // As MmioMapping::SetBase.
  absl::Status Place(Entry* entry, std::optional<GuestAddress> base);

  // Takes the entry out and waits for its calls in progress. Our own bug
  // (CHECK): called from within one of them.
  void Withdraw(Entry* entry);

  // How much of an access found somebody.
  struct Outcome {
    bool claimed = false;    // at least one byte
    bool unclaimed = false;  // at least one byte
  };
  Outcome Read(GuestAddress address, std::span<std::byte> data);
  Outcome Write(GuestAddress address, std::span<const std::byte> data);

  // The memory entry that holds the whole range: its bytes there, and the hold.
  std::byte* FindMemory(GuestRange range,
                        std::shared_ptr<const MemoryBacking>* hold);

 private:
  class Call;

  absl::Status CheckFreeLocked(const Entry& entry, GuestRange range) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::vector<Entry*>& ListOf(const Entry& entry)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return entry.kind == Kind::kDoorbell ? doorbells_ : ranges_;
  }
  void TakeOutLocked(Entry* entry) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t last_;
  const size_t max_width_;
  Mutex mutex_;
  CondVar call_ended_;
  // Placed entries by base. Neither list has overlaps in itself; a doorbell may
  // lie inside a handler.
  std::vector<Entry*> ranges_ ABSL_GUARDED_BY(mutex_);
  std::vector<Entry*> doorbells_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BUS_RANGE_TABLE_H_
