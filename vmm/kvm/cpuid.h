// The CPUID of a guest's processors: what KVM supports, with the topology of
// the guest put in. Internal to vmm/kvm; pure functions of plain data.

#ifndef VMSG_VMM_KVM_CPUID_H_
#define VMSG_VMM_KVM_CPUID_H_

#include <cstdint>
#include <vector>

namespace vmsg::vmm {

struct CpuidEntry {
  uint32_t function = 0;
  uint32_t index = 0;  // the value of ECX, where it matters
  bool index_matters = false;
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;

  friend bool operator==(const CpuidEntry&, const CpuidEntry&) = default;
};

struct CpuTopology {
  uint32_t apic_id = 0;  // below `vcpus`
  // One package of cores with one thread each, all sharing the last cache.
  uint32_t vcpus = 1;
};

// Rewrites what tells a guest which processor it is and how many there are:
// leaves 1, 4, 0xB (made where the processor's leaves reach that far, and 0x1F
// taken away), 0x80000001, 0x80000008, 0x8000001D and 0x8000001E. The sources
// are Intel SDM volume 2, CPUID, and AMD APM volume 3, appendix E; neither's
// leaves are made where the processor does not have them. Also sets the
// hypervisor bit, and, if `tsc_deadline`, that of this timer of the local APIC.
void PatchCpuid(const CpuTopology& topology, bool tsc_deadline,
                std::vector<CpuidEntry>* entries);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_KVM_CPUID_H_
