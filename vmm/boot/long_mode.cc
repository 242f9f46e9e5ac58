#include "vmm/boot/long_mode.h"

#include <array>
#include <bit>
#include <cstddef>
#include <span>

#include "absl/strings/str_format.h"

namespace vmsg::vmm {
namespace {

static_assert(std::endian::native == std::endian::little,
              "tables are written as the host keeps integers");

constexpr uint64_t kPageBytes = 0x1000;
constexpr size_t kTableEntries = 512;
constexpr uint64_t kLargePageBytes = uint64_t{2} << 20;
constexpr uint64_t kDirectoryCount =
    kIdentityMapBytes / (kLargePageBytes * kTableEntries);
// PML4 and PDPT, then the directories.
static_assert(kBootTables.value + (2 + kDirectoryCount) * kPageBytes <=
              kBootGdt.value);

// Page table entries: Intel SDM volume 3, 4.5.
constexpr uint64_t kPresent = 1 << 0;
constexpr uint64_t kWritable = 1 << 1;
constexpr uint64_t kWriteThrough = 1 << 3;
constexpr uint64_t kCacheDisable = 1 << 4;
constexpr uint64_t kLargePage = 1 << 7;

// Control registers and EFER: Intel SDM volume 3, 2.5 and 2.2.1.
constexpr uint64_t kCr0 = 1u << 0 |    // PE: protected mode
                          1u << 1 |    // MP
                          1u << 4 |    // ET
                          1u << 5 |    // NE
                          1u << 16 |   // WP
                          1u << 31;    // PG
constexpr uint64_t kCr4 = 1u << 5 |    // PAE
                          1u << 9 |    // OSFXSR
                          1u << 10;    // OSXMMEXCPT
constexpr uint64_t kEfer = 1u << 8 |   // LME
                           1u << 10 |  // LMA
                           1u << 11;   // NXE

// Descriptors: Intel SDM volume 3, 3.4.5, 5.8.1 and 7.2.3. All are flat.
constexpr uint64_t kCodeDescriptor = 0x00AF9B000000FFFF;
constexpr uint64_t kDataDescriptor = 0x00CF93000000FFFF;
constexpr uint16_t kCodeSelector = 0x08;
constexpr uint16_t kDataSelector = 0x10;
constexpr uint16_t kTaskSelector = 0x18;
constexpr size_t kGdtEntries = 5;  // the TSS's takes two

constexpr uint64_t kTssOffset = 0x80;  // in the page of the GDT
constexpr size_t kTssBytes = 104;      // a 64-bit TSS
constexpr size_t kTssIoMapOffset = 102;
constexpr uint8_t kBusyTssType = 11;  // as LTR leaves it

using Table = std::array<uint64_t, kTableEntries>;

DmaResult WriteTable(GuestAddress at, std::span<const uint64_t> entries,
                     DmaSpace* memory) {
  return memory->Write(at, std::as_bytes(entries));
}

DmaResult WritePageTables(DmaSpace* memory) {
  const uint64_t pdpt = kBootTables.value + kPageBytes;
  const uint64_t directories = pdpt + kPageBytes;

  Table table = {};
  table[0] = pdpt | kPresent | kWritable;
  DmaResult result = WriteTable(kBootTables, table, memory);

  table = {};
  for (uint64_t i = 0; i < kDirectoryCount; ++i) {
    table[i] = (directories + i * kPageBytes) | kPresent | kWritable;
  }
  if (result == DmaResult::kOk) result = WriteTable({pdpt}, table, memory);

  uint64_t page = 0;
  for (uint64_t i = 0; i < kDirectoryCount && result == DmaResult::kOk; ++i) {
    for (uint64_t& entry : table) {
      entry = page | kPresent | kWritable | kLargePage;
      if (page >= kDeviceHole.value) entry |= kCacheDisable | kWriteThrough;
      page += kLargePageBytes;
    }
    result = WriteTable({directories + i * kPageBytes}, table, memory);
  }
  return result;
}

DmaResult WriteGdtAndTss(DmaSpace* memory) {
  constexpr uint64_t tss = kBootGdt.value + kTssOffset;
  static_assert(tss < 0x1000000, "fits the low 24 base bits");
  constexpr std::array<uint64_t, kGdtEntries> gdt = {
      0, kCodeDescriptor, kDataDescriptor,
      // Present, type, base and limit.
      uint64_t{1} << 47 | uint64_t{kBusyTssType} << 40 | tss << 16 |
          (kTssBytes - 1),
      0};
  const DmaResult result = WriteTable(kBootGdt, gdt, memory);
  if (result != DmaResult::kOk) return result;

  std::array<std::byte, kTssBytes> bytes = {};
  bytes[kTssIoMapOffset] = std::byte{kTssBytes};  // at the limit: no bitmap
  return memory->Write({tss}, bytes);
}

SegmentState FlatSegment(uint16_t selector) {
  return {.selector = selector,
          .limit = 0xFFFFFFFF,
          .present = true,
          .code_or_data = true,
          .page_granular = true};
}

}  // namespace

absl::StatusOr<GuestAddress> WriteBootInfo(BootInfo info,
                                           std::string_view command_line,
                                           DmaSpace* memory) {
  if (command_line.size() > kMaxCommandLineBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the command line has %d bytes, more than %d",
                        command_line.size(), kMaxCommandLineBytes));
  }
  info.magic = BootInfo::kMagic;
  info.version = BootInfo::kVersion;
  info.size = sizeof(BootInfo);
  info.reserved = 0;
  info.command_line =
      command_line.empty() ? 0 : kBootInfo.value + sizeof(BootInfo);
  info.command_line_bytes = command_line.size();

  DmaResult result =
      memory->Write(kBootInfo, std::as_bytes(std::span(&info, 1)));
  if (result == DmaResult::kOk && !command_line.empty()) {
    result = memory->Write({info.command_line},
                           std::as_bytes(std::span(command_line)));
  }
  if (result != DmaResult::kOk) {
    return absl::OutOfRangeError(absl::StrFormat(
        "no writable RAM for the boot information at %#x", kBootInfo.value));
  }
  return kBootInfo;
}

absl::StatusOr<CpuState> SetUpLongMode(GuestAddress entry,
                                       GuestAddress boot_info,
                                       DmaSpace* memory) {
  if (entry.value >= kIdentityMapBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "entry point %#x is not in the first 4 GiB", entry.value));
  }
  const GuestRange low = {kBootTables, kBootStackTop.value - kBootTables.value};
  DmaResult result = memory->Check(low, /*writable=*/true);
  if (result == DmaResult::kOk) result = WritePageTables(memory);
  if (result == DmaResult::kOk) result = WriteGdtAndTss(memory);
  if (result != DmaResult::kOk) {
    return absl::OutOfRangeError(absl::StrFormat(
        "no writable RAM for page tables and stack at [%#x, +%#x)",
        low.start.value, low.size));
  }

  CpuState state;
  state.rip = entry.value;
  state.rsp = kBootStackTop.value;
  state.rdi = boot_info.value;
  state.cr0 = kCr0;
  state.cr3 = kBootTables.value;
  state.cr4 = kCr4;
  state.efer = kEfer;
  state.cs = FlatSegment(kCodeSelector);
  state.cs.type = 11;  // execute, read, accessed
  state.cs.long_mode_code = true;
  state.data = FlatSegment(kDataSelector);
  state.data.type = 3;  // read, write, accessed
  state.data.default_32bit = true;
  state.tr = {.selector = kTaskSelector,
              .base = kBootGdt.value + kTssOffset,
              .limit = kTssBytes - 1,
              .type = kBusyTssType,
              .present = true};
  state.gdt = {.base = kBootGdt.value,
               .limit = kGdtEntries * sizeof(uint64_t) - 1};
  return state;
}

}  // namespace vmsg::vmm
