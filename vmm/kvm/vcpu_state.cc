#include "vmm/kvm/vcpu_state.h"

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <vector>

#include "absl/strings/str_format.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/linux_kvm.h"

namespace vmsg::vmm {
namespace {

// KVM knows a few dozen leaves; this bounds the search for the number.
constexpr uint32_t kMaxCpuidEntries = 4096;

constexpr uint32_t kMsrTsc = 0x10;

// A struct with an array of `count` entries behind it, as the kernel wants it.
template <typename Header, typename Entry>
class Trailing {
 public:
  explicit Trailing(size_t count)
      : bytes_((sizeof(Header) + count * sizeof(Entry) + 7) / 8) {}
  Header* operator->() { return header(); }
  Header* header() { return reinterpret_cast<Header*>(bytes_.data()); }
  Entry* entries() { return reinterpret_cast<Entry*>(header() + 1); }

 private:
  std::vector<uint64_t> bytes_;
};
using CpuidTable = Trailing<kvm_cpuid2, kvm_cpuid_entry2>;
using MsrTable = Trailing<kvm_msrs, kvm_msr_entry>;
using MsrList = Trailing<kvm_msr_list, uint32_t>;

// As firmware leaves them for an operating system. MTRRs: on, all write-back
// (KVM keeps device memory uncached by itself). Intel SDM volume 3, 11.11.2.1,
// and volume 4, table 2-2.
constexpr uint32_t kMsrMiscEnable = 0x1A0;
constexpr uint64_t kFastStrings = 1;
constexpr uint32_t kMsrMtrrDefaultType = 0x2FF;
constexpr uint64_t kMtrrsOnWriteBack = 1u << 11 | 6;

kvm_segment ToKvm(const SegmentState& segment) {
  kvm_segment out = {};
  out.base = segment.base;
  out.limit = segment.limit;
  out.selector = segment.selector;
  out.type = segment.type;
  out.present = segment.present;
  out.dpl = segment.privilege;
  out.db = segment.default_32bit;
  out.s = segment.code_or_data;
  out.l = segment.long_mode_code;
  out.g = segment.page_granular;
  out.unusable = !segment.present;
  return out;
}

kvm_dtable ToKvm(const DescriptorTableState& table) {
  kvm_dtable out = {};
  out.base = table.base;
  out.limit = table.limit;
  return out;
}

CpuidEntry FromKvm(const kvm_cpuid_entry2& from) {
  CpuidEntry entry;
  entry.function = from.function;
  entry.index = from.index;
  entry.index_matters = (from.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0;
  entry.eax = from.eax;
  entry.ebx = from.ebx;
  entry.ecx = from.ecx;
  entry.edx = from.edx;
  return entry;
}

kvm_cpuid_entry2 ToKvm(const CpuidEntry& from) {
  kvm_cpuid_entry2 entry = {};
  entry.function = from.function;
  entry.index = from.index;
  if (from.index_matters) entry.flags = KVM_CPUID_FLAG_SIGNIFCANT_INDEX;
  entry.eax = from.eax;
  entry.ebx = from.ebx;
  entry.ecx = from.ecx;
  entry.edx = from.edx;
  return entry;
}

std::string SegmentText(const char* name, const kvm_segment& segment) {
  return absl::StrFormat("%s %04x base %x limit %x type %d dpl %d%s%s%s\n",
                         name, segment.selector, segment.base, segment.limit,
                         segment.type, segment.dpl, segment.l ? " 64-bit" : "",
                         segment.db ? " 32-bit" : "",
                         segment.present ? "" : " not present");
}

}  // namespace

absl::Status SetSupportedCpuid(const KvmVm& vm, int vcpu_fd,
                               const CpuTopology& topology) {
  const bool tsc_deadline = vm.CheckExtension(KVM_CAP_TSC_DEADLINE_TIMER) > 0;
  for (uint32_t count = 64; count <= kMaxCpuidEntries; count *= 2) {
    CpuidTable supported(count);
    supported->nent = count;
    int result =
        KvmIoctl(vm.system_fd(), KVM_GET_SUPPORTED_CPUID, supported.header());
    if (result == -E2BIG) continue;
    if (result < 0) return KvmStatus("KVM_GET_SUPPORTED_CPUID", -result);
    std::vector<CpuidEntry> entries;
    for (uint32_t i = 0; i < std::min(supported->nent, count); ++i) {
      entries.push_back(FromKvm(supported.entries()[i]));
    }
    PatchCpuid(topology, tsc_deadline, &entries);
    CpuidTable table(entries.size());
    table->nent = static_cast<uint32_t>(entries.size());
    std::transform(entries.begin(), entries.end(), table.entries(),
                   [](const CpuidEntry& entry) { return ToKvm(entry); });
    result = KvmIoctl(vcpu_fd, KVM_SET_CPUID2, table.header());
    if (result < 0) return KvmStatus("KVM_SET_CPUID2", -result);
    return absl::OkStatus();
  }
  return KvmStatus("KVM_GET_SUPPORTED_CPUID", E2BIG);
}

void SetFirmwareMsrs(int vcpu_fd) {
  const auto set = [vcpu_fd](uint32_t index, uint64_t bits) {
    MsrTable msr(1);
    msr->nmsrs = 1;
    *msr.entries() = {};
    msr.entries()->index = index;
    if (KvmIoctl(vcpu_fd, KVM_GET_MSRS, msr.header()) != 1) return;
    msr.entries()->data |= bits;
    // Where the processor has no such register a guest needs no value in it.
    static_cast<void>(KvmIoctl(vcpu_fd, KVM_SET_MSRS, msr.header()));
  };
  set(kMsrMiscEnable, kFastStrings);
  set(kMsrMtrrDefaultType, kMtrrsOnWriteBack);
}

absl::Status ApplyCpuState(int vcpu_fd, const CpuState& state) {
  kvm_sregs sregs = {};
  int result = KvmIoctl(vcpu_fd, KVM_GET_SREGS, &sregs);
  if (result < 0) return KvmStatus("KVM_GET_SREGS", -result);
  sregs.cs = ToKvm(state.cs);
  sregs.ds = sregs.es = sregs.fs = sregs.gs = sregs.ss = ToKvm(state.data);
  sregs.tr = ToKvm(state.tr);
  sregs.ldt = {};
  sregs.ldt.type = 2;
  sregs.ldt.unusable = 1;
  sregs.gdt = ToKvm(state.gdt);
  sregs.idt = ToKvm(state.idt);
  sregs.cr0 = state.cr0;
  sregs.cr3 = state.cr3;
  sregs.cr4 = state.cr4;
  sregs.efer = state.efer;
  result = KvmIoctl(vcpu_fd, KVM_SET_SREGS, &sregs);
  if (result < 0) return KvmStatus("KVM_SET_SREGS", -result);

  kvm_regs regs = {};
  regs.rip = state.rip;
  regs.rsp = state.rsp;
  regs.rflags = state.rflags;
  regs.rdi = state.rdi;
  regs.rsi = state.rsi;
  regs.rbx = state.rbx;
  result = KvmIoctl(vcpu_fd, KVM_SET_REGS, &regs);
  if (result < 0) return KvmStatus("KVM_SET_REGS", -result);

  const kvm_mp_state runnable = {.mp_state = KVM_MP_STATE_RUNNABLE};
  result = KvmIoctl(vcpu_fd, KVM_SET_MP_STATE, &runnable);
  if (result < 0) return KvmStatus("KVM_SET_MP_STATE", -result);
  return absl::OkStatus();
}

std::string DumpVcpuRegisters(int vcpu_fd) {
  kvm_regs r = {};
  kvm_sregs s = {};
  int result = KvmIoctl(vcpu_fd, KVM_GET_REGS, &r);
  if (result == 0) result = KvmIoctl(vcpu_fd, KVM_GET_SREGS, &s);
  if (result < 0) {
    return absl::StrFormat("no registers (errno %d)\n", -result);
  }
  return absl::StrFormat(
             "rip %016x rflags %08x\n"
             "rax %016x rbx %016x rcx %016x rdx %016x\n"
             "rsi %016x rdi %016x rbp %016x rsp %016x\n"
             "r8  %016x r9  %016x r10 %016x r11 %016x\n"
             "r12 %016x r13 %016x r14 %016x r15 %016x\n"
             "cr0 %08x cr2 %016x cr3 %016x cr4 %08x efer %x\n"
             "gdt %x limit %x idt %x limit %x apic base %x\n",
             r.rip, r.rflags, r.rax, r.rbx, r.rcx, r.rdx, r.rsi, r.rdi, r.rbp,
             r.rsp, r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, s.cr0,
             s.cr2, s.cr3, s.cr4, s.efer, s.gdt.base, s.gdt.limit, s.idt.base,
             s.idt.limit, s.apic_base) +
         SegmentText("cs", s.cs) + SegmentText("ss", s.ss) +
         SegmentText("tr", s.tr);
}

struct SavedVcpuState::Registers {
  kvm_regs regs = {};
  kvm_sregs sregs = {};
  kvm_debugregs debugregs = {};
  kvm_lapic_state lapic = {};
  kvm_vcpu_events events = {};
  kvm_mp_state mp_state = {};
  // One or the other: xsave where KVM has it (uint32_t for its alignment).
  std::vector<uint32_t> xsave;
  kvm_fpu fpu = {};
  bool has_xcrs = false;
  kvm_xcrs xcrs = {};
  std::vector<kvm_msr_entry> msrs;
};

SavedVcpuState::SavedVcpuState() : registers_(std::make_unique<Registers>()) {}
SavedVcpuState::~SavedVcpuState() = default;

absl::StatusOr<std::unique_ptr<SavedVcpuState>> SavedVcpuState::Save(
    const KvmVm& vm, int vcpu_fd) {
  std::unique_ptr<SavedVcpuState> saved(new SavedVcpuState);
  Registers& r = *saved->registers_;
  absl::Status status;
  const auto get = [&](const char* name, unsigned long request, void* to) {
    if (!status.ok()) return;
    const int result = KvmIoctl(vcpu_fd, request, to);
    if (result < 0) status = KvmStatus(name, -result);
  };
  get("KVM_GET_REGS", KVM_GET_REGS, &r.regs);
  get("KVM_GET_SREGS", KVM_GET_SREGS, &r.sregs);
  get("KVM_GET_DEBUGREGS", KVM_GET_DEBUGREGS, &r.debugregs);
  get("KVM_GET_LAPIC", KVM_GET_LAPIC, &r.lapic);
  get("KVM_GET_VCPU_EVENTS", KVM_GET_VCPU_EVENTS, &r.events);
  get("KVM_GET_MP_STATE", KVM_GET_MP_STATE, &r.mp_state);

  const int xsave2_bytes = vm.CheckExtension(KVM_CAP_XSAVE2);
  if (xsave2_bytes > 0) {
    r.xsave.resize(
        std::max(static_cast<size_t>(xsave2_bytes), sizeof(kvm_xsave)) /
        sizeof(r.xsave[0]));
    get("KVM_GET_XSAVE2", KVM_GET_XSAVE2, r.xsave.data());
  } else if (vm.CheckExtension(KVM_CAP_XSAVE) > 0) {
    r.xsave.resize(sizeof(kvm_xsave) / sizeof(r.xsave[0]));
    get("KVM_GET_XSAVE", KVM_GET_XSAVE, r.xsave.data());
  } else {
    get("KVM_GET_FPU", KVM_GET_FPU, &r.fpu);
  }
  r.has_xcrs = vm.CheckExtension(KVM_CAP_XCRS) > 0;
  if (r.has_xcrs) get("KVM_GET_XCRS", KVM_GET_XCRS, &r.xcrs);
  if (status.ok()) status = saved->SaveMsrs(vm, vcpu_fd);
  if (!status.ok()) return status;
  return saved;
}

absl::Status SavedVcpuState::SaveMsrs(const KvmVm& vm, int vcpu_fd) {
  MsrList probe(0);
  int result = KvmIoctl(vm.system_fd(), KVM_GET_MSR_INDEX_LIST, probe.header());
  if (result < 0 && result != -E2BIG) {
    return KvmStatus("KVM_GET_MSR_INDEX_LIST", -result);
  }
  const uint32_t count = probe->nmsrs;
  MsrList list(count);
  list->nmsrs = count;
  result = KvmIoctl(vm.system_fd(), KVM_GET_MSR_INDEX_LIST, list.header());
  if (result < 0) return KvmStatus("KVM_GET_MSR_INDEX_LIST", -result);

  // The list is KVM's, not this vCPU's: its CPUID decides what exists. What can
  // be read and written back as it is, can be restored.
  MsrTable one(1);
  for (uint32_t i = 0; i < std::min(list->nmsrs, count); ++i) {
    if (list.entries()[i] == kMsrTsc) continue;
    one->nmsrs = 1;
    *one.entries() = {};
    one.entries()->index = list.entries()[i];
    if (KvmIoctl(vcpu_fd, KVM_GET_MSRS, one.header()) != 1) continue;
    if (KvmIoctl(vcpu_fd, KVM_SET_MSRS, one.header()) != 1) continue;
    registers_->msrs.push_back(*one.entries());
  }
  return absl::OkStatus();
}

absl::Status SavedVcpuState::Restore(int vcpu_fd) const {
  const Registers& r = *registers_;
  absl::Status status;
  const auto set = [&](const char* name, unsigned long request,
                       const void* from) {
    if (!status.ok()) return;
    const int result = KvmIoctl(vcpu_fd, request, from);
    if (result < 0) status = KvmStatus(name, -result);
  };
  // The local APIC after its base address (in the system registers), its
  // timer's MSR after the local APIC.
  set("KVM_SET_SREGS", KVM_SET_SREGS, &r.sregs);
  set("KVM_SET_REGS", KVM_SET_REGS, &r.regs);
  if (r.has_xcrs) set("KVM_SET_XCRS", KVM_SET_XCRS, &r.xcrs);
  if (r.xsave.empty()) {
    set("KVM_SET_FPU", KVM_SET_FPU, &r.fpu);
  } else {
    set("KVM_SET_XSAVE", KVM_SET_XSAVE, r.xsave.data());
  }
  set("KVM_SET_DEBUGREGS", KVM_SET_DEBUGREGS, &r.debugregs);
  set("KVM_SET_LAPIC", KVM_SET_LAPIC, &r.lapic);
  if (!status.ok()) return status;

  MsrTable msrs(r.msrs.size());
  msrs->nmsrs = static_cast<uint32_t>(r.msrs.size());
  std::copy(r.msrs.begin(), r.msrs.end(), msrs.entries());
  const int result = KvmIoctl(vcpu_fd, KVM_SET_MSRS, msrs.header());
  if (result < 0) return KvmStatus("KVM_SET_MSRS", -result);
  if (static_cast<size_t>(result) != r.msrs.size()) {
    return absl::InternalError(
        absl::StrFormat("KVM_SET_MSRS refused MSR %#x = %#x",
                        r.msrs[static_cast<size_t>(result)].index,
                        r.msrs[static_cast<size_t>(result)].data));
  }
  set("KVM_SET_VCPU_EVENTS", KVM_SET_VCPU_EVENTS, &r.events);
  set("KVM_SET_MP_STATE", KVM_SET_MP_STATE, &r.mp_state);
  return status;
}

}  // namespace vmsg::vmm
