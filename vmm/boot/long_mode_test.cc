#include "vmm/boot/long_mode.h"

#include <array>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kRamBytes = 1 << 20;

class LongModeTest : public ::testing::Test {
 protected:
  void AddRam(uint64_t bytes, bool read_only = false) {
    ASSERT_OK_AND_ASSIGN(auto ram,
                         MemoryBacking::CreateAnonymous(bytes, "long_mode"));
    ASSERT_OK(memory_.Add({.range = {{0}, bytes},
                           .read_only = read_only,
                           .backing = std::move(ram)}));
  }

  uint64_t Read64(uint64_t address) {
    std::array<std::byte, 8> bytes;
    EXPECT_EQ(dma_.Read({address}, bytes), DmaResult::kOk);
    uint64_t value;
    std::memcpy(&value, bytes.data(), sizeof(value));
    return value;
  }

  // What the processor makes of a virtual address: the 2 MiB page's entry.
  uint64_t Walk(const CpuState& state, uint64_t address) {
    const uint64_t pml4e = Read64(state.cr3 + ((address >> 39) & 511) * 8);
    EXPECT_EQ(pml4e & 1, 1u);
    const uint64_t pdpte =
        Read64((pml4e & ~uint64_t{0xFFF}) + ((address >> 30) & 511) * 8);
    EXPECT_EQ(pdpte & 0x81, 1u);
    const uint64_t pde =
        Read64((pdpte & ~uint64_t{0xFFF}) + ((address >> 21) & 511) * 8);
    EXPECT_EQ(pde & 0x83, 0x83u) << "present, writable, 2 MiB";
    return pde;
  }

  GuestMemory memory_;
  DmaSpace dma_{&memory_};
};

constexpr uint64_t kCacheOff = 0x18;  // PCD and PWT
constexpr uint64_t kFrame = ~uint64_t{0x1FFFFF};

TEST_F(LongModeTest, FirstFourGigabytesAreMappedToThemselves) {
  AddRam(kRamBytes);
  ASSERT_OK_AND_ASSIGN(const CpuState state,
                       SetUpLongMode(kFreeRam, {0}, &dma_));
  for (uint64_t page = 0; page < kIdentityMapBytes; page += 2 << 20) {
    ASSERT_EQ(Walk(state, page) & kFrame, page);
  }
  // Nothing behind.
  EXPECT_EQ(Read64(state.cr3 + 8), 0u);
  EXPECT_EQ(Read64(kBootTables.value + 0x1000 + 4 * 8), 0u);
}

TEST_F(LongModeTest, DeviceHoleAndNothingElseIsUncached) {
  AddRam(kRamBytes);
  ASSERT_OK_AND_ASSIGN(const CpuState state,
                       SetUpLongMode(kFreeRam, {0}, &dma_));
  EXPECT_EQ(Walk(state, 0) & kCacheOff, 0u);
  EXPECT_EQ(Walk(state, kDeviceHole.value - 1) & kCacheOff, 0u);
  for (const uint64_t device : {kDeviceHole.value, uint64_t{0xE0000000},
                                uint64_t{0xFEE00000}, uint64_t{0xFFFFFFFF}}) {
    EXPECT_EQ(Walk(state, device) & kCacheOff, kCacheOff);
  }
}

TEST_F(LongModeTest, StateIsThatOfTheContract) {
  AddRam(kRamBytes);
  ASSERT_OK_AND_ASSIGN(const CpuState state,
                       SetUpLongMode({0x123456}, {0x8000}, &dma_));
  EXPECT_EQ(state.rip, 0x123456u);
  EXPECT_EQ(state.rdi, 0x8000u);
  EXPECT_EQ(state.rsi, 0u);
  EXPECT_EQ(state.rsp, kBootStackTop.value);
  EXPECT_EQ(state.rsp % 16, 0u);
  EXPECT_EQ(state.rflags, 2u);
  EXPECT_EQ(state.cr0, 0x80010033u);
  EXPECT_EQ(state.cr3, kBootTables.value);
  EXPECT_EQ(state.cr4, 0x620u);
  EXPECT_EQ(state.efer, 0xD00u);
  EXPECT_TRUE(state.cs.long_mode_code);
  EXPECT_FALSE(state.cs.default_32bit) << "L and D together are reserved";
  EXPECT_EQ(state.idt.limit, 0u);
}

// When the guest reloads a selector it must get what it had.
TEST_F(LongModeTest, DescriptorsSayWhatTheSegmentRegistersHold) {
  AddRam(kRamBytes);
  ASSERT_OK_AND_ASSIGN(const CpuState state,
                       SetUpLongMode(kFreeRam, {0}, &dma_));
  ASSERT_LE(state.tr.selector + 15, state.gdt.limit);
  const auto check = [&](const SegmentState& segment) {
    ASSERT_LE(segment.selector + 7, state.gdt.limit);
    const uint64_t d = Read64(state.gdt.base + segment.selector);
    EXPECT_EQ((d >> 40) & 15, segment.type);
    EXPECT_EQ((d >> 44) & 1, segment.code_or_data);
    EXPECT_EQ((d >> 45) & 3, segment.privilege);
    EXPECT_EQ((d >> 47) & 1, segment.present);
    EXPECT_EQ((d >> 53) & 1, segment.long_mode_code);
    EXPECT_EQ((d >> 54) & 1, segment.default_32bit);
    EXPECT_EQ((d >> 55) & 1, segment.page_granular);
    uint64_t limit = (d & 0xFFFF) | ((d >> 32) & 0xF0000);
    if (segment.page_granular) limit = limit << 12 | 0xFFF;
    EXPECT_EQ(limit, segment.limit);
    EXPECT_EQ(((d >> 16) & 0xFFFFFF) | ((d >> 32) & 0xFF000000), segment.base);
  };
  check(state.cs);
  check(state.data);
  check(state.tr);
  EXPECT_EQ(Read64(state.gdt.base), 0u) << "the null descriptor";
  EXPECT_EQ(Read64(state.gdt.base + state.tr.selector + 8), 0u)
      << "upper half of the TSS's base";
}

TEST_F(LongModeTest, CallAgainRepairsTables) {
  AddRam(kRamBytes);
  ASSERT_OK(SetUpLongMode(kFreeRam, {0}, &dma_));
  const std::array<std::byte, 4096> garbage = {std::byte{0xEE}};
  ASSERT_EQ(dma_.Write(kBootTables, garbage), DmaResult::kOk);
  ASSERT_OK_AND_ASSIGN(const CpuState state,
                       SetUpLongMode(kFreeRam, {0}, &dma_));
  EXPECT_EQ(Walk(state, 0) & kFrame, 0u);
}

TEST_F(LongModeTest, EntryAboveTheMapIsRefused) {
  AddRam(kRamBytes);
  EXPECT_THAT(
      SetUpLongMode({kIdentityMapBytes}, {0}, &dma_),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("0x100000000")));
}

TEST_F(LongModeTest, MissingOrReadOnlyRamIsRefused) {
  EXPECT_THAT(SetUpLongMode(kFreeRam, {0}, &dma_),
              StatusIs(absl::StatusCode::kOutOfRange));
  AddRam(kBootStackTop.value - 0x1000);
  EXPECT_THAT(SetUpLongMode(kFreeRam, {0}, &dma_),
              StatusIs(absl::StatusCode::kOutOfRange));
  ASSERT_OK(memory_.Remove({{0}, kBootStackTop.value - 0x1000}));
  AddRam(kRamBytes, /*read_only=*/true);
  EXPECT_THAT(SetUpLongMode(kFreeRam, {0}, &dma_),
              StatusIs(absl::StatusCode::kOutOfRange));
}

TEST_F(LongModeTest, BootInfoIsCompletedAndFollowedByTheCommandLine) {
  AddRam(kRamBytes);
  const std::string line = "seed=7 quiet";
  ASSERT_OK_AND_ASSIGN(
      const GuestAddress at,
      WriteBootInfo({.ram_bytes = kRamBytes, .ecam_base = 0xE0000000}, line,
                    &dma_));
  BootInfo info;
  ASSERT_EQ(dma_.Read(at, std::as_writable_bytes(std::span(&info, 1))),
            DmaResult::kOk);
  EXPECT_EQ(info.magic, BootInfo::kMagic);
  EXPECT_EQ(info.version, BootInfo::kVersion);
  EXPECT_EQ(info.size, sizeof(BootInfo));
  EXPECT_EQ(info.ram_bytes, kRamBytes);
  EXPECT_EQ(info.ecam_base, 0xE0000000u);
  ASSERT_EQ(info.command_line_bytes, line.size());
  std::string text(line.size(), '\0');
  ASSERT_EQ(
      dma_.Read({info.command_line}, std::as_writable_bytes(std::span(text))),
      DmaResult::kOk);
  EXPECT_EQ(text, line);
}

TEST_F(LongModeTest, CommandLineEndsAtItsLimit) {
  AddRam(kRamBytes);
  EXPECT_OK(WriteBootInfo({}, std::string(kMaxCommandLineBytes, 'x'), &dma_));
  EXPECT_THAT(
      WriteBootInfo({}, std::string(kMaxCommandLineBytes + 1, 'x'), &dma_),
      StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(LongModeTest, NoCommandLineIsNoAddress) {
  AddRam(kRamBytes);
  ASSERT_OK_AND_ASSIGN(const GuestAddress at,
                       WriteBootInfo({.command_line = 1}, "", &dma_));
  EXPECT_EQ(Read64(at.value + offsetof(BootInfo, command_line)), 0u);
  EXPECT_EQ(Read64(at.value + offsetof(BootInfo, command_line_bytes)), 0u);
}

TEST_F(LongModeTest, BootInfoWithoutRamIsRefused) {
  EXPECT_THAT(WriteBootInfo({}, "", &dma_),
              StatusIs(absl::StatusCode::kOutOfRange));
}

}  // namespace
}  // namespace vmsg::vmm
