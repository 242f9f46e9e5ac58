#include "vmm/kvm/cpuid.h"

#include <optional>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vmsg::vmm {
namespace {

std::vector<CpuidEntry> Patched(std::vector<CpuidEntry> entries,
                                CpuTopology topology, bool deadline = false) {
  PatchCpuid(topology, deadline, &entries);
  return entries;
}

std::optional<CpuidEntry> Find(const std::vector<CpuidEntry>& entries,
                               uint32_t function, uint32_t index = 0) {
  for (const CpuidEntry& entry : entries) {
    if (entry.function == function && entry.index == index) return entry;
  }
  return std::nullopt;
}

TEST(CpuidTest, FeaturesTellTheIdAndWhetherThereAreOthers) {
  const std::vector<CpuidEntry> host = {
      {.function = 1, .ebx = 0x11223344, .ecx = 1, .edx = 1u << 28 | 1}};
  const CpuidEntry one = *Find(Patched(host, {}), 1);
  EXPECT_EQ(one.ebx, 0x00013344u);
  EXPECT_EQ(one.ecx, 1u << 31 | 1) << "a hypervisor";
  EXPECT_EQ(one.edx, 1u) << "alone";
  const CpuidEntry third =
      *Find(Patched(host, {.apic_id = 2, .vcpus = 3}, true), 1);
  EXPECT_EQ(third.ebx, 0x02043344u) << "ids in powers of two";
  EXPECT_EQ(third.ecx, 1u << 31 | 1u << 24 | 1);
  EXPECT_EQ(third.edx, 1u << 28 | 1);
}

TEST(CpuidTest, TopologyLeafIsMadeAnewWithThreadsAndCores) {
  const std::vector<CpuidEntry> entries =
      Patched({{.function = 0, .eax = 0x1F},
               {.function = 0xB, .index_matters = true, .edx = 77},
               {.function = 0xB, .index = 1, .index_matters = true, .ebx = 9},
               {.function = 0x1F, .index_matters = true, .edx = 77}},
              {.apic_id = 4, .vcpus = 6});
  EXPECT_EQ(*Find(entries, 0xB, 0), (CpuidEntry{.function = 0xB,
                                                .index_matters = true,
                                                .ebx = 1,
                                                .ecx = 0x100,
                                                .edx = 4}));
  EXPECT_EQ(*Find(entries, 0xB, 1), (CpuidEntry{.function = 0xB,
                                                .index = 1,
                                                .index_matters = true,
                                                .eax = 3,
                                                .ebx = 6,
                                                .ecx = 0x201,
                                                .edx = 4}));
  EXPECT_EQ(Find(entries, 0xB, 2)->ecx, 2u) << "level type 0: the end";
  EXPECT_EQ(entries.size(), 4u) << "nothing of the host's is left";
}

TEST(CpuidTest, TopologyLeafIsNotMadeForAProcessorWithoutIt) {
  const std::vector<CpuidEntry> host = {{.function = 0, .eax = 0xA}};
  EXPECT_EQ(Patched(host, {.vcpus = 2}), host);
}

TEST(CpuidTest, IntelCachesAreSharedFromTheThirdLevelOn) {
  const auto cache = [](uint32_t index, uint32_t type, uint32_t level) {
    return CpuidEntry{.function = 4,
                      .index = index,
                      .index_matters = true,
                      .eax = 0xFFFFC000 | level << 5 | type};
  };
  const std::vector<CpuidEntry> entries =
      Patched({cache(0, 1, 1), cache(1, 3, 2), cache(2, 3, 3),
               CpuidEntry{.function = 4, .index = 3}},
              {.vcpus = 4});
  EXPECT_EQ(Find(entries, 4, 0)->eax >> 14, 3u << 12 | 0);
  EXPECT_EQ(Find(entries, 4, 1)->eax >> 14, 3u << 12 | 0);
  EXPECT_EQ(Find(entries, 4, 2)->eax >> 14, 3u << 12 | 3);
  EXPECT_EQ(Find(entries, 4, 3)->eax, 0u) << "the end stays the end";
}

TEST(CpuidTest, AmdLeavesCountCores) {
  const std::vector<CpuidEntry> host = {
      {.function = 0, .eax = 1, .ebx = 0x68747541},
      {.function = 0x80000001, .ecx = 1u << 22},
      {.function = 0x80000008, .eax = 0x3028, .ecx = 0x700F},
      {.function = 0x8000001D, .index_matters = true, .eax = 0x3C063},
      {.function = 0x8000001E, .eax = 9, .ebx = 0x109, .ecx = 0x301}};
  const std::vector<CpuidEntry> two = Patched(host, {.apic_id = 1, .vcpus = 2});
  EXPECT_EQ(Find(two, 0x80000001)->ecx, 1u << 22 | 2);
  EXPECT_EQ(Find(two, 0x80000008)->eax, 0x3028u);
  EXPECT_EQ(Find(two, 0x80000008)->ecx, 0x1001u);
  EXPECT_EQ(Find(two, 0x8000001D)->eax, 1u << 14 | 0x63);
  EXPECT_EQ(*Find(two, 0x8000001E),
            (CpuidEntry{.function = 0x8000001E, .eax = 1, .ebx = 1}));
  EXPECT_EQ(Find(Patched(host, {}), 0x80000008)->ecx, 0u);
  EXPECT_EQ(Find(Patched(host, {}), 0x80000001)->ecx, 1u << 22);
}

TEST(CpuidTest, IntelHasNoAmdBits) {
  const std::vector<CpuidEntry> host = {
      {.function = 0, .eax = 1},
      {.function = 0x80000001, .ecx = 0x121},
      {.function = 0x80000008, .eax = 0x3027}};
  EXPECT_EQ(Patched(host, {.vcpus = 2}), host);
}

TEST(CpuidTest, MostProcessorsHaveIdsOfEightBits) {
  const CpuidEntry last =
      *Find(Patched({{.function = 1}}, {.apic_id = 254, .vcpus = 255}), 1);
  EXPECT_EQ(last.ebx, 0xFEFF0000u);
}

}  // namespace
}  // namespace vmsg::vmm
