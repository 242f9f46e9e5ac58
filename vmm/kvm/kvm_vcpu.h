// KvmVcpu: one virtual processor and the thread that runs it.

#ifndef VMSG_VMM_KVM_KVM_VCPU_H_
#define VMSG_VMM_KVM_KVM_VCPU_H_

#include <pthread.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/counter.h"
#include "vmm/base/mutex.h"
#include "vmm/base/unique_fd.h"
#include "vmm/boot/cpu_state.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/kvm/kvm_mmio_bus.h"
#include "vmm/kvm/kvm_vm.h"

struct kvm_run;

namespace vmsg::vmm {

class SavedVcpuState;

// Why KVM_RUN came back to user space.
enum class VcpuExit : uint8_t {
  kMmioRead,
  kMmioWrite,
  kPortRead,
  kPortWrite,
  kInterrupted,  // a kick, or an application processor that still waits
  kShutdown,
  kInternalError,
  kFailedEntry,
  kOther,
};
inline constexpr size_t kVcpuExitCount = 9;

// "mmio_read" and so on.
std::string_view VcpuExitName(VcpuExit exit);

// How a run ended.
struct VcpuEnd {
  enum class Reason : uint8_t {
    kStopped,        // Stop() was called; Start() goes on where it was
    kTripleFault,    // the guest's own doing: real hardware would reset
    kInternalError,  // KVM can't go on: an instruction it can't emulate, mostly
    kFailedEntry,    // the processor refused the guest's state
    kUnhandledExit,  // an exit that this package does not know
    kHostError,      // KVM_RUN failed
  };
  Reason reason = Reason::kStopped;
  // For all but kStopped: what happened, with a dump of the registers; several
  // lines, for people.
  std::string detail;
};

// "stopped", "triple fault" and so on.
std::string_view VcpuEndReasonName(VcpuEnd::Reason reason);

// State machine:
//
//   Create -> idle --Start()--> running --(Stop(), or the guest ends)--> ended
//              ^                   ^                                       |
//              |                   +--------------- Start() ---------------+
//              +-- Reset(), SetState() are allowed in idle and ended
//
// Signals. To get a thread out of the guest the kernel needs a signal, but no
// handler: the vCPU thread has all signals blocked (but those that its own
// faults raise), and gives KVM a mask (KVM_SET_SIGNAL_MASK) that lets
// `kick_signal` through while the guest runs. The kernel then returns from
// KVM_RUN with the signal pending and blocked again; the thread takes it with
// sigtimedwait(2). It is never delivered, so its disposition in the process
// does not matter and is not touched, and the embedder may use the same number
// for its own threads.
//
// Threads: methods from any thread, unless they say otherwise.
//
// Members are grouped by who may touch them; there is one object per vCPU.
// NOLINTNEXTLINE(clang-analyzer-optin.performance.Padding)
class KvmVcpu {
 public:
  struct Options {
    // 0 is the boot processor; others wait for the guest's INIT and SIPI. Also
    // the local APIC id, so at most 254.
    uint32_t id = 0;
    // How many the VM has, for CPUID: one package with a core for each. More
    // than the id.
    uint32_t vcpus = 1;
    // 0: SIGRTMIN.
    int kick_signal = 0;
  };

  // `vm`, `mmio` and `pio` are borrowed and outlive the vCPU. CPUID is what KVM
  // supports, with the APIC id and the topology put in.
  //   InvalidArgument    the id is too large, or not below `vcpus`.
  //   AlreadyExists      the VM has a vCPU with this id.
  //   ResourceExhausted  no descriptor or memory left.
  //   Internal           the kernel refused; the call is named.
  static absl::StatusOr<std::unique_ptr<KvmVcpu>> Create(const Options& options,
                                                         KvmVm* vm,
                                                         KvmMmioBus* mmio,
                                                         DispatchPioBus* pio);

  KvmVcpu(const KvmVcpu&) = delete;
  KvmVcpu& operator=(const KvmVcpu&) = delete;
  // Stops and joins. Not on the vCPU's own thread.
  ~KvmVcpu();

  // Registers to begin with; what `state` does not name stays. The vCPU is
  // ready to run: no longer halted, no longer waiting for a SIPI.
  //   FailedPrecondition  running.
  //   Internal            the kernel refused.
  absl::Status SetState(const CpuState& state);

  // Back to the state after creation (registers, FPU, MSRs, local APIC, pending
  // events), for a guest reboot; SetState follows. Errors as SetState.
  absl::Status Reset();

  // Called on the vCPU thread as its last act, with no lock held and before
  // Wait() returns; it, too, is destroyed there. Post on to where the news is
  // wanted. It must not call Start(), Wait() or the destructor.
  using EndCallback = absl::AnyInvocable<void(const VcpuEnd& end)>;

  // Starts a thread named "vcpu<id>" that runs the guest until Stop() or until
  // it ends by itself. `on_end` may be null.
  //   FailedPrecondition  running already.
  //   ResourceExhausted   no thread to be had; the state is unchanged.
  absl::Status Start(EndCallback on_end = nullptr);

  // Asks the thread to leave the guest, also from HLT, and to end. Returns at
  // once; idempotent; without effect unless running. Also from a handler on the
  // vCPU thread itself, where the access that called it is completed first.
  void Stop();

  // Waits until the run has ended, and says how. Returns at once when it has
  // already, or never began (kStopped). Not on the vCPU thread.
  VcpuEnd Wait();

  bool running() const;

  // Exits so far, over all runs. HLT, doorbells and memory are none.
  uint64_t exits(VcpuExit exit) const {
    return exits_[static_cast<size_t>(exit)].value();
  }
  uint64_t total_exits() const;

  // The general and control registers as text, for diagnosis.
  // FailedPrecondition while running.
  absl::StatusOr<std::string> DumpRegisters() const;

  uint32_t id() const { return id_; }

 private:
  enum class Phase : uint8_t { kIdle, kRunning, kEnded };

  KvmVcpu(uint32_t id, int kick_signal, KvmVm* vm, KvmMmioBus* mmio,
          DispatchPioBus* pio);

  absl::Status Open(uint32_t vcpus);
  absl::Status RequireNotRunningLocked() const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void JoinLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // On the vCPU thread.
  void ThreadMain();
  VcpuEnd RunGuest();
  std::optional<VcpuEnd> HandleExit();
  void HandleMmio();
  void HandlePort();
  void TakeKick() const;
  void CountExit(VcpuExit exit) { exits_[static_cast<size_t>(exit)].Add(); }
  std::string InternalErrorText() const;
  VcpuEnd EndWith(VcpuEnd::Reason reason, const std::string& what) const;

  const uint32_t id_;
  const int kick_signal_;
  KvmVm* const vm_;
  KvmMmioBus* const mmio_;
  DispatchPioBus* const pio_;

  // Set by Create, constant after.
  UniqueFd fd_;
  size_t run_size_ = 0;
  kvm_run* run_ = nullptr;  // shared with the kernel; the vCPU thread's
  std::unique_ptr<SavedVcpuState> initial_;  // what Reset() restores

  // Written by the thread that runs the guest, read by any.
  std::array<OwnedCounter, kVcpuExitCount> exits_;
  EndCallback on_end_;  // the vCPU thread's while running
  std::atomic<bool> stop_requested_{false};

  // Guards what follows, and the registers while no thread runs the guest.
  mutable Mutex mutex_;
  CondVar ended_;
  Phase phase_ ABSL_GUARDED_BY(mutex_) = Phase::kIdle;
  bool has_thread_ ABSL_GUARDED_BY(mutex_) = false;  // thread_ is not joined
  pthread_t thread_ ABSL_GUARDED_BY(mutex_) = {};
  VcpuEnd end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_KVM_KVM_VCPU_H_
