// KvmMmioBus: the guest-physical address space of a KVM guest.

#ifndef VMSG_VMM_KVM_KVM_MMIO_BUS_H_
#define VMSG_VMM_KVM_KVM_MMIO_BUS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/counter.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::vmm {

// MmioBus on KVM: memory is a memory slot, a doorbell an ioeventfd, a handler
// gets what traps to user space.
//
// Everything placed, RAM included, is also in a table of the bus's own, which
// answers what traps. It finds all overlaps before KVM is asked, and it closes
// the gap in which KVM moves a slot or an ioeventfd: an access of another vCPU
// in that moment traps and finds the memory, or the doorbell, in the table. So
// a move is atomic for the guest, except that code can't run from moving
// memory.
//
// For I/O ports use DispatchPioBus as it is: every port access traps.
//
// Threads: any, for all methods. Placing (SetBase) takes a lock of the bus that
// is never held while a handler runs.
class KvmMmioBus final : public MmioBus {
 public:
  // `vm` is borrowed and outlives the bus. The places that KVM itself takes
  // (KvmVm::kIoApic and so on) are occupied from the start.
  static absl::StatusOr<std::unique_ptr<KvmMmioBus>> Create(KvmVm* vm);

  // Also ends the mappings of guest memory.
  ~KvmMmioBus() override;

  // Makes the guest's memory what `memory` says now: a memory slot for each new
  // region, and none for those that are gone. Call it before the vCPUs start,
  // and after each change of `memory`. Ranges are multiples of 4096. Regions
  // marked read-only are ROM to the guest: writes go nowhere and are counted in
  // rom_writes().
  //
  //   InvalidArgument    a region is not page-aligned.
  //   AlreadyExists      a region overlaps something on the bus; both are
  //   named. ResourceExhausted  no memory slot left.
  // On error the guest has some of the new regions and not others; another
  // call, after the cause is gone, goes on from there.
  absl::Status SyncGuestMemory(const GuestMemory& memory);

  absl::StatusOr<std::unique_ptr<MmioMapping>> MapHandler(
      std::string name, uint64_t size_bytes, IoHandler* handler) override;

  // ResourceExhausted when the VM's memory slots are used up. The memory is
  // uncached for nobody: guest and host see each other's stores as two
  // processors do. A place must be a multiple of 4096. Writes to read-only
  // backing go nowhere, as with SyncGuestMemory.
  absl::StatusOr<std::unique_ptr<MmioMapping>> MapMemory(
      std::string name, std::shared_ptr<const MemoryBacking> backing,
      uint64_t offset, uint64_t size_bytes) override;

  // An ioeventfd without data match: the write leaves guest mode, never the
  // kernel, and is no exit in KvmVcpu's counts. Its SetBase returns
  // ResourceExhausted when the VM's ioeventfds (about a thousand) are used up.
  // InvalidArgument for a width other than 4.
  absl::StatusOr<std::unique_ptr<MmioMapping>> MapDoorbell(
      std::string name, uint32_t width_bytes, const EventFd* doorbell) override;

  // A trapped access, as DispatchMmioBus::Read and Write; KvmVcpu calls them.
  bool Read(GuestAddress address, std::span<std::byte> data) {
    return table_.Read(address, data);
  }
  bool Write(GuestAddress address, std::span<const std::byte> data) {
    return table_.Write(address, data);
  }

  const Counter& unclaimed() const { return table_.unclaimed(); }
  const Counter& rom_writes() const { return rom_writes_; }

 private:
  class Mapping;
  class RomHandler;
  class ReservedHandler;

  struct GuestRegion {
    MemoryRegion region;
    std::unique_ptr<MmioMapping> mapping;
  };

  explicit KvmMmioBus(KvmVm* vm);
  absl::Status Reserve();
  absl::StatusOr<std::unique_ptr<MmioMapping>> MapBacking(
      std::string name, std::shared_ptr<const MemoryBacking> backing,
      uint64_t offset, uint64_t size_bytes, bool read_only);

  KvmVm* const vm_;
  DispatchMmioBus table_;
  Counter rom_writes_;

  // Keeps table_ and KVM in step: held by each SetBase. A leaf, but for the
  // table's own lock.
  Mutex placement_;

  const std::unique_ptr<ReservedHandler> reserved_handler_;
  std::vector<std::unique_ptr<MmioMapping>> reserved_;  // constant after Create

  Mutex guest_memory_mutex_;  // taken before placement_
  std::vector<GuestRegion> guest_memory_ ABSL_GUARDED_BY(guest_memory_mutex_);
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_KVM_KVM_MMIO_BUS_H_
