// KvmMemorySlot: host memory that a guest reaches without a trap.

#ifndef VMSG_VMM_KVM_KVM_MEMORY_SLOT_H_
#define VMSG_VMM_KVM_KVM_MEMORY_SLOT_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::vmm {

// One memory slot of a VM. KvmMmioBus uses it for RAM and for BAR memory; it
// knows nothing of what else is on the bus.
//
// Threads: any, one at a time for a given slot.
class KvmMemorySlot {
 public:
  // A slot for [offset, offset + size_bytes) of `backing`, placed nowhere. It
  // keeps `backing`. `vm` is borrowed and outlives the slot. A `read_only` slot
  // (also one of read-only backing) is read without a trap, and traps on
  // writes.
  //   InvalidArgument    not multiples of 4096, empty, or past the backing.
  //   ResourceExhausted  the VM has no slot left.
  static absl::StatusOr<std::unique_ptr<KvmMemorySlot>> Create(
      KvmVm* vm, std::string name, std::shared_ptr<const MemoryBacking> backing,
      uint64_t offset, uint64_t size_bytes, bool read_only);

  KvmMemorySlot(const KvmMemorySlot&) = delete;
  KvmMemorySlot& operator=(const KvmMemorySlot&) = delete;
  // Takes the slot out of the guest's address space. Guest accesses to it are
  // over when the destructor returns.
  ~KvmMemorySlot();

  // Puts the slot at `base`, or nowhere. A move is one call into the kernel, in
  // which other vCPUs find the memory at neither place for a moment: their
  // accesses trap and are the bus's to answer. Runs while vCPUs run; waits for
  // the kernel, never for handlers.
  //
  // On error the slot stays where it was:
  //   InvalidArgument    not a multiple of 4096, or would wrap.
  //   AlreadyExists      overlaps another slot, or memory of KVM's own.
  //   ResourceExhausted  the kernel is out of memory.
  //   Internal           any other refusal.
  absl::Status SetBase(std::optional<GuestAddress> base);

  std::optional<GuestAddress> base() const { return base_; }

 private:
  KvmMemorySlot(KvmVm* vm, std::string name,
                std::shared_ptr<const MemoryBacking> backing, uint64_t offset,
                uint64_t size_bytes, bool read_only, uint32_t number);

  // KVM_SET_USER_MEMORY_REGION; a size of 0 deletes.
  absl::Status Set(GuestAddress base, uint64_t size_bytes);

  KvmVm* const vm_;
  const std::string name_;
  const std::shared_ptr<const MemoryBacking> backing_;
  const uint64_t offset_;
  const uint64_t size_bytes_;
  const bool read_only_;
  const uint32_t number_;
  std::optional<GuestAddress> base_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_KVM_KVM_MEMORY_SLOT_H_
