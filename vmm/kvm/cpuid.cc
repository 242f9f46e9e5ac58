#include "vmm/kvm/cpuid.h"

#include <algorithm>
#include <bit>

namespace vmsg::vmm {
namespace {

constexpr uint32_t kLeafMax = 0;
constexpr uint32_t kLeafFeatures = 1;
constexpr uint32_t kLeafCaches = 4;
constexpr uint32_t kLeafTopology = 0xB;
constexpr uint32_t kLeafTopologyV2 = 0x1F;
constexpr uint32_t kLeafExtendedFeatures = 0x80000001;
constexpr uint32_t kLeafSizes = 0x80000008;
constexpr uint32_t kLeafAmdCaches = 0x8000001D;
constexpr uint32_t kLeafAmdApicId = 0x8000001E;

constexpr uint32_t kTscDeadlineTimer = 1u << 24;  // leaf 1, ECX
constexpr uint32_t kHypervisor = 1u << 31;
constexpr uint32_t kHtt = 1u << 28;        // leaf 1, EDX
constexpr uint32_t kCmpLegacy = 1u << 1;   // leaf 0x80000001, ECX
constexpr uint32_t kCacheTypeMask = 0x1F;  // leaf 4, EAX
constexpr uint32_t kLastLevel = 3;

constexpr uint32_t Bits(uint32_t value, int shift, int width) {
  return (value & ((1u << width) - 1)) << shift;
}

// Puts `value` into `width` bits from `shift` on.
void SetBits(uint32_t* word, int shift, int width, uint32_t value) {
  *word = (*word & ~Bits(~0u, shift, width)) | Bits(value, shift, width);
}

// Ids are as wide as the count of processors needs.
int IdBits(uint32_t vcpus) {
  return static_cast<int>(std::bit_width(vcpus - 1));
}

uint32_t CoresSharing(uint32_t cache_level, uint32_t ids) {
  return cache_level >= kLastLevel ? ids : 1;
}

// Of AMD's kind: leaf 0, EBX, begins "AuthenticAMD" or "HygonGenuine".
bool IsAmd(const std::vector<CpuidEntry>& entries) {
  constexpr uint32_t kAuth = 0x68747541;
  constexpr uint32_t kHygo = 0x6F677948;
  return std::any_of(entries.begin(), entries.end(),
                     [](const CpuidEntry& entry) {
                       return entry.function == kLeafMax &&
                              (entry.ebx == kAuth || entry.ebx == kHygo);
                     });
}

void PatchEntry(const CpuTopology& topology, bool tsc_deadline, bool amd,
                CpuidEntry* entry) {
  const uint32_t ids = 1u << IdBits(topology.vcpus);
  const bool several = topology.vcpus > 1;
  const uint32_t cache_level = entry->eax >> 5 & 7;
  const bool is_cache = (entry->eax & kCacheTypeMask) != 0;
  switch (entry->function) {
    case kLeafFeatures:
      SetBits(&entry->ebx, 24, 8, topology.apic_id);
      SetBits(&entry->ebx, 16, 8, std::min(ids, 255u));
      entry->ecx |= kHypervisor;
      if (tsc_deadline) entry->ecx |= kTscDeadlineTimer;
      entry->edx = several ? entry->edx | kHtt : entry->edx & ~kHtt;
      break;
    case kLeafCaches:
      if (!is_cache) break;
      SetBits(&entry->eax, 14, 12, CoresSharing(cache_level, ids) - 1);
      SetBits(&entry->eax, 26, 6, std::min(ids - 1, 63u));
      break;
    case kLeafExtendedFeatures:
      // HTT above means cores.
      if (!amd) break;
      entry->ecx = several ? entry->ecx | kCmpLegacy : entry->ecx & ~kCmpLegacy;
      break;
    case kLeafSizes:
      if (!amd) break;
      SetBits(&entry->ecx, 0, 8, topology.vcpus - 1);
      SetBits(&entry->ecx, 12, 4,
              static_cast<uint32_t>(IdBits(topology.vcpus)));
      break;
    case kLeafAmdCaches:
      if (!is_cache) break;
      SetBits(&entry->eax, 14, 12,
              CoresSharing(cache_level, topology.vcpus) - 1);
      break;
    case kLeafAmdApicId:
      entry->eax = topology.apic_id;
      entry->ebx = topology.apic_id & 0xFF;  // core id; one thread
      entry->ecx = 0;                        // node 0 of 1
      break;
    default:
      break;
  }
}

// A level of threads, one of cores, and the end.
void AppendTopology(const CpuTopology& topology,
                    std::vector<CpuidEntry>* entries) {
  constexpr uint32_t kThreads = 1;
  constexpr uint32_t kCores = 2;
  CpuidEntry entry;
  entry.function = kLeafTopology;
  entry.index_matters = true;
  entry.edx = topology.apic_id;
  entry.ebx = 1;
  entry.ecx = kThreads << 8;
  entries->push_back(entry);
  entry.index = 1;
  entry.eax = static_cast<uint32_t>(IdBits(topology.vcpus));
  entry.ebx = topology.vcpus;
  entry.ecx = kCores << 8 | 1;
  entries->push_back(entry);
  entry.index = 2;
  entry.eax = entry.ebx = 0;
  entry.ecx = 2;
  entries->push_back(entry);
}

}  // namespace

void PatchCpuid(const CpuTopology& topology, bool tsc_deadline,
                std::vector<CpuidEntry>* entries) {
  uint32_t max_leaf = 0;
  for (const CpuidEntry& entry : *entries) {
    if (entry.function == kLeafMax) max_leaf = entry.eax;
  }
  std::erase_if(*entries, [](const CpuidEntry& entry) {
    return entry.function == kLeafTopology || entry.function == kLeafTopologyV2;
  });
  const bool amd = IsAmd(*entries);
  for (CpuidEntry& entry : *entries) {
    PatchEntry(topology, tsc_deadline, amd, &entry);
  }
  if (max_leaf >= kLeafTopology) AppendTopology(topology, entries);
}

}  // namespace vmsg::vmm
