// The registers of a vCPU: set, dumped, saved and restored. Internal to
// vmm/kvm; all of it while the vCPU does not run, or on its own thread.

#ifndef VMSG_VMM_KVM_VCPU_STATE_H_
#define VMSG_VMM_KVM_VCPU_STATE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/boot/cpu_state.h"
#include "vmm/kvm/cpuid.h"
#include "vmm/kvm/kvm_vm.h"

namespace vmsg::vmm {

// Gives the vCPU the CPUID leaves that KVM supports, as PatchCpuid completes
// them, with the TSC deadline timer where KVM has it.
absl::Status SetSupportedCpuid(const KvmVm& vm, int vcpu_fd,
                               const CpuTopology& topology);

// Sets the model-specific registers that an operating system expects firmware
// to have set: memory types (MTRR) on and write-back, fast string operations.
// A processor without one of them is left without.
void SetFirmwareMsrs(int vcpu_fd);

// General registers that `state` does not name become 0; system registers that
// it does not name stay. Makes the vCPU runnable.
absl::Status ApplyCpuState(int vcpu_fd, const CpuState& state);

// General, segment and control registers, a few to a line. Never fails: where
// the kernel refuses, the text says so.
std::string DumpVcpuRegisters(int vcpu_fd);

// All that makes up a vCPU, but for the time stamp counter, which goes on, and
// CPUID, which never changes.
class SavedVcpuState {
 public:
  static absl::StatusOr<std::unique_ptr<SavedVcpuState>> Save(const KvmVm& vm,
                                                              int vcpu_fd);
  SavedVcpuState(const SavedVcpuState&) = delete;
  SavedVcpuState& operator=(const SavedVcpuState&) = delete;
  ~SavedVcpuState();

  absl::Status Restore(int vcpu_fd) const;

 private:
  struct Registers;

  SavedVcpuState();
  absl::Status SaveMsrs(const KvmVm& vm, int vcpu_fd);

  const std::unique_ptr<Registers> registers_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_KVM_VCPU_STATE_H_
