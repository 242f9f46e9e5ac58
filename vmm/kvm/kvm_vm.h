// KvmVm: one virtual machine of /dev/kvm, with the kernel's interrupt
// controllers.

#ifndef VMSG_VMM_KVM_KVM_VM_H_
#define VMSG_VMM_KVM_KVM_VM_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/mutex.h"
#include "vmm/base/unique_fd.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::vmm {

// Owns the VM's descriptor, its numbers of memory slots and the state of its
// interrupt chips. Memory, devices and processors are added by KvmMmioBus,
// KvmInterruptController and KvmVcpu, all of which the VM outlives.
//
// It starts no thread, installs no signal handler and holds no global state;
// a process may have several.
//
// Threads: any, unless a method says otherwise.
class KvmVm {
 public:
  struct Options {
    std::string device = "/dev/kvm";
    // The kernel's i8254 timer, which a Linux guest without a TSC deadline
    // timer calibrates with. Not needed by a guest that uses the local APIC's.
    bool with_pit = false;
  };

  // What this host's KVM allows, read once at creation.
  struct Limits {
    uint32_t memory_slots = 0;
    uint32_t gsi_routes = 0;
    uint32_t vcpus = 0;
    // Whether an MSI route carries the requester id.
    bool msi_requester_id = false;
  };

  // Guest-physical places that KVM or the processor itself takes, below 4 GiB.
  // KvmMmioBus refuses to place anything there.
  static constexpr GuestRange kIoApic{{0xFEC00000}, 0x1000};
  static constexpr GuestRange kLocalApic{{0xFEE00000}, 0x1000};
  // Identity-map page and three TSS pages that some processors need to run real
  // mode.
  static constexpr GuestRange kInternal{{0xFEFFC000}, 0x4000};

  // Opens `options.device` and makes a VM with in-kernel PIC, I/O APIC and
  // local APICs. Two kinds of failure, told apart by code:
  //
  //   KVM cannot be opened, so that another way to run is in order
  //   (CannotBeOpened() is true):
  //     NotFound     the path does not exist.
  //     Unavailable  no permission, no such device, or in exclusive use.
  //
  //   KVM is there and does not do its work; falling back would hide a fault:
  //     Unimplemented      not a KVM (wrong API version), or it lacks what this
  //                        package needs; the text names the capability.
  //     ResourceExhausted  no descriptor or memory left.
  //     Internal           any other failure, with the call and its errno.
  static absl::StatusOr<std::unique_ptr<KvmVm>> Create(const Options& options);

  // True for the first kind.
  static bool CannotBeOpened(const absl::Status& status);

  KvmVm(const KvmVm&) = delete;
  KvmVm& operator=(const KvmVm&) = delete;
  ~KvmVm();

  const Limits& limits() const { return limits_; }

  // Puts PIC, I/O APIC and PIT back to their state at power-on, for a guest
  // reboot. Memory, MSI routes and vCPUs stay as they are (KvmVcpu::Reset). All
  // vCPUs are stopped. Internal: the kernel refused; reset is incomplete.
  absl::Status Reset();

  // Sets the level of pin `gsi` (0 to 23) of the I/O APIC, and of the PICs for
  // 0 to 15: how a legacy device of the VMM's own (a serial port) interrupts. A
  // rising edge is what an edge-triggered entry takes; a level is held until it
  // is set low. One system call.
  //   InvalidArgument  no such pin.
  //   Internal         the kernel refused.
  absl::Status SetIrqLine(uint32_t gsi, bool high);

  // For the other parts of this package. ----------------------------------

  // Of the VM, and of /dev/kvm itself. Borrowed.
  int fd() const { return vm_.get(); }
  int system_fd() const { return system_.get(); }

  // KVM_CHECK_EXTENSION for this VM: 0 when absent.
  int CheckExtension(int capability) const;

  // A number for a memory slot, until it is released.
  // ResourceExhausted: limits().memory_slots are in use.
  absl::StatusOr<uint32_t> AllocateSlot();
  void ReleaseSlot(uint32_t slot);
  // For a slot that the kernel, out of memory, did not delete: its number is
  // not given out again, and its memory stays mapped until the VM is gone.
  void AbandonSlot(std::shared_ptr<const MemoryBacking> backing);

 private:
  struct ChipState;  // as saved at creation

  KvmVm();
  absl::Status Open(const Options& options);
  absl::Status CheckCapabilities();
  absl::Status CreateVm(const Options& options);
  absl::Status SaveChips();

  Mutex mutex_;
  // Released numbers, used first; and the lowest number never used.
  std::vector<uint32_t> free_slots_ ABSL_GUARDED_BY(mutex_);
  uint32_t next_slot_ ABSL_GUARDED_BY(mutex_) = 0;
  // Before vm_, so that the guest's address space goes first.
  std::vector<std::shared_ptr<const MemoryBacking>> abandoned_
      ABSL_GUARDED_BY(mutex_);

  // Set by Create, constant after.
  UniqueFd system_;
  UniqueFd vm_;
  Limits limits_;
  bool with_pit_ = false;
  std::unique_ptr<ChipState> chips_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_KVM_KVM_VM_H_
