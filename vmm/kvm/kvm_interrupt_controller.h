// KvmInterruptController: message-signalled interrupts through irqfd.

#ifndef VMSG_VMM_KVM_KVM_INTERRUPT_CONTROLLER_H_
#define VMSG_VMM_KVM_KVM_INTERRUPT_CONTROLLER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/mutex.h"
#include "vmm/interrupt/interrupt_controller.h"
#include "vmm/kvm/kvm_vm.h"

namespace vmsg::vmm {

// Each route is an eventfd bound to an interrupt number of the VM (a GSI, 24
// and up; 0 to 23 are the pins of PIC and I/O APIC) and an entry for that
// number in the VM's routing table. A trigger is one write to the eventfd: the
// kernel delivers, no vCPU is stopped for it.
//
// The kernel takes the routing table as a whole, so the controller owns it: one
// controller per VM, and nobody else calls KVM_SET_GSI_ROUTING.
//
// Requester ids are passed on where the kernel takes them
// (KvmVm::Limits::msi_requester_id), else they have no effect.
//
// Threads: any.
class KvmInterruptController final : public InterruptController {
 public:
  // An MSI on x86 is a write to this 1 MiB of the address space (Intel SDM
  // volume 3, 11.11.1); Update() of a route refuses any other address with
  // InvalidArgument. The upper half of the address is 0: no 32-bit APIC ids.
  static constexpr uint64_t kMsiBase = 0xFEE00000;
  static constexpr uint64_t kMsiSize = 0x100000;

  // `vm` is borrowed and outlives the controller.
  explicit KvmInterruptController(KvmVm* vm);
  // All routes are gone.
  ~KvmInterruptController() override;

  // ResourceExhausted also when the VM's routes (KvmVm::Limits::gsi_routes,
  // less 40 for the pins) are used up.
  //
  // Of the route: Update() with the message that it has makes no system call;
  // another one replaces the VM's table (some milliseconds at worst), errors:
  // InvalidArgument (address), Internal (the kernel refused; old message
  // stays). Trigger() is one system call and returns OK, or FailedPrecondition
  // before the first Update(); never Unavailable, for the kernel merges
  // triggers that come faster than it delivers, as an interrupt request
  // register does.
  absl::StatusOr<std::unique_ptr<MsiRoute>> CreateMsiRoute() override;

  // Times that the routing table was replaced; for tests and measurements.
  uint64_t table_updates() const;

 private:
  class Route;

  // Adds the route's message (or replaces it) in the kernel's table.
  absl::Status SetMessage(uint32_t gsi, const MsiMessage& message);
  void Release(uint32_t gsi);
  absl::Status WriteTableLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  KvmVm* const vm_;
  const uint32_t max_msi_routes_;

  mutable Mutex mutex_;  // a leaf; held across KVM_SET_GSI_ROUTING
  struct Entry {
    bool in_use = false;
    std::optional<MsiMessage> message;
  };
  std::vector<Entry> entries_ ABSL_GUARDED_BY(mutex_);  // by gsi - 24
  uint64_t table_updates_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_KVM_KVM_INTERRUPT_CONTROLLER_H_
