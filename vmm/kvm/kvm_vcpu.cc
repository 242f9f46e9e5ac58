#include "vmm/kvm/kvm_vcpu.h"

#include <sys/ioctl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <ctime>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/base/check.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/linux_kvm.h"
#include "vmm/kvm/vcpu_state.h"

namespace vmsg::vmm {
namespace {

// 255 is the broadcast address of local APICs.
constexpr uint32_t kMaxApicId = 254;

// The kernel's own signal set, one bit each; not glibc's.
constexpr size_t kKernelSignals = 64;

// Signals that the thread's own faults raise: blocking them would only turn a
// crash report into a silent death.
constexpr int kFaultSignals[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,
                                 SIGTRAP, SIGABRT, SIGSYS};

bool IsFaultSignal(int signal) {
  return std::find(std::begin(kFaultSignals), std::end(kFaultSignals),
                   signal) != std::end(kFaultSignals);
}

bool CanKick(int signal) {
  return signal > 0 && signal <= static_cast<int>(kKernelSignals) &&
         signal != SIGKILL && signal != SIGSTOP && !IsFaultSignal(signal);
}

// What a vCPU thread blocks outside KVM_RUN.
sigset_t ThreadSignalMask() {
  sigset_t mask;
  sigfillset(&mask);
  for (const int signal : kFaultSignals) sigdelset(&mask, signal);
  return mask;
}

// The same in the kernel's form, but with `kick` let through, for KVM_RUN.
absl::Status SetRunSignalMask(int vcpu_fd, int kick) {
  uint64_t mask = ~uint64_t{0} & ~(uint64_t{1} << (kick - 1));
  for (const int signal : kFaultSignals) mask &= ~(uint64_t{1} << (signal - 1));
  // kvm_signal_mask, with its bytes right behind it.
  struct {
    uint32_t bytes;
    uint8_t mask[sizeof(uint64_t)];
  } request = {.bytes = sizeof(mask), .mask = {}};
  static_assert(sizeof(request) == sizeof(kvm_signal_mask) + sizeof(mask));
  std::memcpy(request.mask, &mask, sizeof(mask));
  const int result = KvmIoctl(vcpu_fd, KVM_SET_SIGNAL_MASK, &request);
  if (result < 0) return KvmStatus("KVM_SET_SIGNAL_MASK", -result);
  return absl::OkStatus();
}

}  // namespace

std::string_view VcpuExitName(VcpuExit exit) {
  switch (exit) {
    case VcpuExit::kMmioRead:
      return "mmio_read";
    case VcpuExit::kMmioWrite:
      return "mmio_write";
    case VcpuExit::kPortRead:
      return "port_read";
    case VcpuExit::kPortWrite:
      return "port_write";
    case VcpuExit::kInterrupted:
      return "interrupted";
    case VcpuExit::kShutdown:
      return "shutdown";
    case VcpuExit::kInternalError:
      return "internal_error";
    case VcpuExit::kFailedEntry:
      return "failed_entry";
    case VcpuExit::kOther:
      return "other";
  }
  return "unknown";
}

std::string_view VcpuEndReasonName(VcpuEnd::Reason reason) {
  switch (reason) {
    case VcpuEnd::Reason::kStopped:
      return "stopped";
    case VcpuEnd::Reason::kTripleFault:
      return "triple fault";
    case VcpuEnd::Reason::kInternalError:
      return "KVM internal error";
    case VcpuEnd::Reason::kFailedEntry:
      return "failed entry";
    case VcpuEnd::Reason::kUnhandledExit:
      return "unhandled exit";
    case VcpuEnd::Reason::kHostError:
      return "host error";
  }
  return "unknown";
}

absl::StatusOr<std::unique_ptr<KvmVcpu>> KvmVcpu::Create(const Options& options,
                                                         KvmVm* vm,
                                                         KvmMmioBus* mmio,
                                                         DispatchPioBus* pio) {
  const int kick = options.kick_signal == 0 ? SIGRTMIN : options.kick_signal;
  if (options.id > kMaxApicId) {
    return absl::InvalidArgumentError(
        absl::StrCat("vcpu", options.id, ": ids end at ", kMaxApicId));
  }
  if (options.id >= options.vcpus || options.vcpus > kMaxApicId + 1) {
    return absl::InvalidArgumentError(absl::StrCat(
        "vcpu", options.id, ": a VM of ", options.vcpus, " has no such one"));
  }
  if (!CanKick(kick)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "vcpu", options.id, ": signal ", kick, " can't be used for kicks"));
  }
  std::unique_ptr<KvmVcpu> vcpu(new KvmVcpu(options.id, kick, vm, mmio, pio));
  const absl::Status status = vcpu->Open(options.vcpus);
  if (!status.ok()) return status;
  return vcpu;
}

KvmVcpu::KvmVcpu(uint32_t id, int kick_signal, KvmVm* vm, KvmMmioBus* mmio,
                 DispatchPioBus* pio)
    : id_(id), kick_signal_(kick_signal), vm_(vm), mmio_(mmio), pio_(pio) {}

absl::Status KvmVcpu::Open(uint32_t vcpus) {
  const int fd = KvmIoctl(vm_->fd(), KVM_CREATE_VCPU, uint64_t{id_});
  if (fd < 0) return KvmStatus(absl::StrCat("KVM_CREATE_VCPU ", id_), -fd);
  fd_.reset(fd);

  const int size = KvmIoctl(vm_->system_fd(), KVM_GET_VCPU_MMAP_SIZE);
  if (size < static_cast<int>(sizeof(kvm_run))) {
    return absl::InternalError(
        absl::StrCat("KVM_GET_VCPU_MMAP_SIZE says ", size));
  }
  run_size_ = static_cast<size_t>(size);
  void* const run =
      mmap(nullptr, run_size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (run == MAP_FAILED) {
    return KvmStatus(absl::StrCat("mapping vcpu", id_), errno);
  }
  run_ = static_cast<kvm_run*>(run);

  absl::Status status =
      SetSupportedCpuid(*vm_, fd, {.apic_id = id_, .vcpus = vcpus});
  if (status.ok()) status = SetRunSignalMask(fd, kick_signal_);
  if (!status.ok()) return status;
  SetFirmwareMsrs(fd);
  auto initial = SavedVcpuState::Save(*vm_, fd);
  if (!initial.ok()) return initial.status();
  initial_ = *std::move(initial);
  return absl::OkStatus();
}

KvmVcpu::~KvmVcpu() {
  Stop();
  Wait();
  if (run_ != nullptr) munmap(run_, run_size_);
}

absl::Status KvmVcpu::RequireNotRunningLocked() const {
  if (phase_ != Phase::kRunning) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat("vcpu", id_, " is running"));
}

absl::Status KvmVcpu::SetState(const CpuState& state) {
  MutexLock lock(&mutex_);
  absl::Status status = RequireNotRunningLocked();
  return status.ok() ? ApplyCpuState(fd_.get(), state) : status;
}

absl::Status KvmVcpu::Reset() {
  MutexLock lock(&mutex_);
  absl::Status status = RequireNotRunningLocked();
  return status.ok() ? initial_->Restore(fd_.get()) : status;
}

absl::StatusOr<std::string> KvmVcpu::DumpRegisters() const {
  MutexLock lock(&mutex_);
  absl::Status status = RequireNotRunningLocked();
  if (!status.ok()) return status;
  return DumpVcpuRegisters(fd_.get());
}

absl::Status KvmVcpu::Start(EndCallback on_end) {
  MutexLock lock(&mutex_);
  absl::Status status = RequireNotRunningLocked();
  if (!status.ok()) return status;
  JoinLocked();

  on_end_ = std::move(on_end);
  stop_requested_.store(false, std::memory_order_relaxed);
  // The new thread inherits the mask, so there is no moment without it.
  const sigset_t mask = ThreadSignalMask();
  sigset_t old_mask;
  VMSG_CHECK(pthread_sigmask(SIG_SETMASK, &mask, &old_mask) == 0);
  const int error = pthread_create(
      &thread_, nullptr,
      [](void* self) -> void* {
        static_cast<KvmVcpu*>(self)->ThreadMain();
        return nullptr;
      },
      this);
  VMSG_CHECK(pthread_sigmask(SIG_SETMASK, &old_mask, nullptr) == 0);
  if (error != 0) {
    on_end_ = nullptr;
    return absl::ResourceExhaustedError(absl::StrCat(
        "vcpu", id_,
        ": creating its thread: ", std::generic_category().message(error)));
  }
  has_thread_ = true;
  phase_ = Phase::kRunning;
  pthread_setname_np(thread_, absl::StrCat("vcpu", id_).c_str());
  return absl::OkStatus();
}

void KvmVcpu::Stop() {
  MutexLock lock(&mutex_);
  if (phase_ != Phase::kRunning) return;
  stop_requested_.store(true, std::memory_order_release);
  // The thread is there: it needs the lock to leave this phase.
  pthread_kill(thread_, kick_signal_);
}

VcpuEnd KvmVcpu::Wait() {
  MutexLock lock(&mutex_);
  VMSG_CHECK(!has_thread_ || !pthread_equal(thread_, pthread_self()),
             "a vCPU thread waits for itself");
  while (phase_ == Phase::kRunning) ended_.Wait(&mutex_);
  JoinLocked();
  return end_;
}

bool KvmVcpu::running() const {
  MutexLock lock(&mutex_);
  return phase_ == Phase::kRunning;
}

uint64_t KvmVcpu::total_exits() const {
  uint64_t total = 0;
  for (const OwnedCounter& counter : exits_) total += counter.value();
  return total;
}

void KvmVcpu::JoinLocked() {
  if (!has_thread_) return;
  // It is past its last use of the lock.
  VMSG_CHECK(pthread_join(thread_, nullptr) == 0);
  has_thread_ = false;
}

void KvmVcpu::ThreadMain() {
  VcpuEnd end = RunGuest();
  if (on_end_ != nullptr) on_end_(end);
  on_end_ =
      nullptr;  // what it holds goes on this thread, before Wait() returns
  MutexLock lock(&mutex_);
  end_ = std::move(end);
  phase_ = Phase::kEnded;
  ended_.NotifyAll();
}

VcpuEnd KvmVcpu::RunGuest() {
  for (;;) {
    // A vCPU never leaves this loop between an access and its completion: that
    // is part of the next KVM_RUN, which a pending kick ends right after.
    if (ioctl(fd_.get(), KVM_RUN, 0) == 0) {
      std::optional<VcpuEnd> end = HandleExit();
      if (end.has_value()) return *std::move(end);
      continue;
    }
    const int error = errno;
    // EAGAIN: a processor was woken by an INIT.
    if (error != EINTR && error != EAGAIN) {
      return EndWith(
          VcpuEnd::Reason::kHostError,
          absl::StrCat("KVM_RUN: ", std::generic_category().message(error)));
    }
    CountExit(VcpuExit::kInterrupted);
    TakeKick();
    if (stop_requested_.load(std::memory_order_acquire)) return VcpuEnd{};
  }
}

// A kick stays pending, as it is blocked outside KVM_RUN: without this the next
// KVM_RUN would end at once.
void KvmVcpu::TakeKick() const {
  sigset_t kick;
  sigemptyset(&kick);
  sigaddset(&kick, kick_signal_);
  const timespec no_wait = {};
  while (sigtimedwait(&kick, nullptr, &no_wait) < 0 && errno == EINTR) {
  }
}

std::optional<VcpuEnd> KvmVcpu::HandleExit() {
  switch (run_->exit_reason) {
    case KVM_EXIT_MMIO:
      HandleMmio();
      return std::nullopt;
    case KVM_EXIT_IO:
      HandlePort();
      return std::nullopt;
    case KVM_EXIT_INTR:
      CountExit(VcpuExit::kInterrupted);
      return std::nullopt;
    case KVM_EXIT_SHUTDOWN:
      CountExit(VcpuExit::kShutdown);
      return EndWith(VcpuEnd::Reason::kTripleFault,
                     "an exception could not be delivered to the guest");
    case KVM_EXIT_INTERNAL_ERROR:
      CountExit(VcpuExit::kInternalError);
      return EndWith(VcpuEnd::Reason::kInternalError, InternalErrorText());
    case KVM_EXIT_FAIL_ENTRY:
      CountExit(VcpuExit::kFailedEntry);
      return EndWith(
          VcpuEnd::Reason::kFailedEntry,
          absl::StrFormat("hardware reason %#x",
                          run_->fail_entry.hardware_entry_failure_reason));
    default:
      CountExit(VcpuExit::kOther);
      return EndWith(VcpuEnd::Reason::kUnhandledExit,
                     absl::StrFormat("exit reason %d", run_->exit_reason));
  }
}

void KvmVcpu::HandleMmio() {
  const GuestAddress address = {run_->mmio.phys_addr};
  const std::span data =
      std::as_writable_bytes(std::span(run_->mmio.data))
          .first(std::min<size_t>(run_->mmio.len, sizeof(run_->mmio.data)));
  if (run_->mmio.is_write) {
    CountExit(VcpuExit::kMmioWrite);
    mmio_->Write(address, data);
  } else {
    CountExit(VcpuExit::kMmioRead);
    mmio_->Read(address, data);
  }
}

void KvmVcpu::HandlePort() {
  // A string instruction brings several units of `size` bytes at once.
  const uint16_t port = run_->io.port;
  const size_t size = run_->io.size;
  const uint64_t offset = run_->io.data_offset;
  const size_t bytes = size * run_->io.count;
  VMSG_CHECK(offset <= run_size_ && bytes <= run_size_ - offset,
             "the kernel's data lies inside its page");
  std::byte* unit = reinterpret_cast<std::byte*>(run_) + offset;
  const bool write = run_->io.direction == KVM_EXIT_IO_OUT;
  CountExit(write ? VcpuExit::kPortWrite : VcpuExit::kPortRead);
  for (const std::byte* end = unit + bytes; unit != end; unit += size) {
    if (write) {
      pio_->Write(port, std::span<const std::byte>(unit, size));
    } else {
      pio_->Read(port, std::span(unit, size));
    }
  }
}

std::string KvmVcpu::InternalErrorText() const {
  std::string text = absl::StrFormat("suberror %d", run_->internal.suberror);
  const size_t count =
      std::min<size_t>(run_->internal.ndata, std::size(run_->internal.data));
  for (size_t i = 0; i < count; ++i) {
    absl::StrAppendFormat(&text, " %#x", run_->internal.data[i]);
  }
  return text;
}

VcpuEnd KvmVcpu::EndWith(VcpuEnd::Reason reason,
                         const std::string& what) const {
  return {.reason = reason,
          .detail = absl::StrCat("vcpu", id_, ": ",
                                 std::string(VcpuEndReasonName(reason)), ": ",
                                 what, "\n", DumpVcpuRegisters(fd_.get()))};
}

}  // namespace vmsg::vmm
