#include "vmm/boot/linux_loader.h"

#include <elf.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>

#include "absl/strings/str_format.h"
#include "vmm/boot/bzimage.h"
#include "vmm/boot/elf_loader.h"
#include "vmm/boot/elf_note.h"
#include "vmm/boot/linux_boot_layout.h"
#include "vmm/boot/long_mode.h"

namespace vmsg::vmm {
namespace {

using namespace linux_boot;  // NOLINT(google-build-using-namespace): ours

static_assert(std::endian::native == std::endian::little,
              "structures are written as the host keeps integers");

constexpr uint64_t kPageBytes = 4096;
constexpr uint64_t kFourGiB = uint64_t{1} << 32;

// boot.rst, "64-bit Boot Protocol": __BOOT_CS and __BOOT_DS. The TSS stays that
// of SetUpLongMode; nothing loads it again.
constexpr uint16_t kCodeSelector = 0x10;
constexpr uint16_t kDataSelector = 0x18;
constexpr std::array<uint64_t, 4> kGdtEntries = {0, 0, 0x00AF9B000000FFFF,
                                                 0x00CF93000000FFFF};

// A structure of the guest's, filled field by field.
template <size_t kBytes>
class Block {
 public:
  template <typename T>
  void Set(uint64_t offset, T value) {
    std::memcpy(bytes_.data() + offset, &value, sizeof(value));
  }
  void Copy(uint64_t offset, std::span<const std::byte> from) {
    std::memcpy(bytes_.data() + offset, from.data(), from.size());
  }
  std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::array<std::byte, kBytes> bytes_ = {};
};

absl::Status Store(GuestAddress at, std::span<const std::byte> bytes,
                   std::string_view what, DmaSpace* memory) {
  if (memory->Write(at, bytes) == DmaResult::kOk) return absl::OkStatus();
  return absl::OutOfRangeError(
      absl::StrFormat("no writable RAM for the %s at [%#x, +%#x)",
                      std::string(what), at.value, bytes.size()));
}

// The end of RAM below the device hole.
GuestAddress LowRamEnd(const LinuxBoot& boot) {
  GuestAddress end{0};
  for (const MemoryMapEntry& entry : boot.map) {
    if (entry.type != MemoryMapType::kRam) continue;
    if (entry.range.start.value >= kFourGiB) continue;
    end.value = std::max(end.value, entry.range.start.value + entry.range.size);
  }
  return end;
}

absl::Status StoreCommandLine(const std::string& line, uint64_t max,
                              DmaSpace* memory) {
  max = std::min(max, kCommandLineRoom - 1);
  if (line.size() > max) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the command line has %d bytes, the kernel takes %d",
                        line.size(), max));
  }
  if (line.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError("the command line has a 0 byte in it");
  }
  return Store(kCommandLine,
               std::as_bytes(std::span(line.c_str(), line.size() + 1)),
               "command line", memory);
}

absl::StatusOr<GuestRange> StoreInitrd(std::span<const std::byte> initrd,
                                       GuestRange kernel, GuestAddress end,
                                       DmaSpace* memory) {
  if (initrd.empty()) return GuestRange{};
  const absl::StatusOr<GuestAddress> at =
      PlaceInitrd(initrd.size(), {kernel.start.value + kernel.size}, end);
  if (!at.ok()) return at.status();
  const absl::Status status = Store(*at, initrd, "initramfs", memory);
  if (!status.ok()) return status;
  return GuestRange{*at, initrd.size()};
}

absl::StatusOr<CpuState> LoadBzImage(std::span<const std::byte> file,
                                     std::span<const std::byte> initrd,
                                     const LinuxBoot& boot, DmaSpace* memory) {
  const absl::StatusOr<BzImage> image = ParseBzImage(file);
  if (!image.ok()) return image.status();
  const GuestAddress ram_end = LowRamEnd(boot);
  const absl::StatusOr<GuestAddress> at =
      PlaceBzImage(*image, kFreeRam, ram_end);
  if (!at.ok()) return at.status();
  absl::Status status =
      Store(*at, file.subspan(image->payload, image->payload_bytes), "kernel",
            memory);
  if (status.ok()) {
    status =
        StoreCommandLine(boot.command_line, image->command_line_max, memory);
  }
  if (!status.ok()) return status;
  const absl::StatusOr<GuestRange> initrd_place =
      StoreInitrd(initrd, {*at, image->needed_bytes},
                  {std::min(ram_end.value, image->initrd_last + 1)}, memory);
  if (!initrd_place.ok()) return initrd_place.status();
  if (boot.map.size() > kMaxMapEntries) {
    return absl::InvalidArgumentError(
        absl::StrFormat("a memory map of %d entries, more than %d",
                        boot.map.size(), kMaxMapEntries));
  }

  Block<kBootParamsBytes> params;
  params.Copy(kSetupHeaderOffset,
              file.subspan(image->setup_header, image->setup_header_bytes));
  params.Set(kAcpiRsdpOffset, boot.rsdp.value);
  params.Set(kVideoModeOffset, kVideoNormal);
  params.Set(kLoaderTypeOffset, kUnknownLoader);
  params.Set(kCode32StartOffset, static_cast<uint32_t>(at->value));
  // All of it is below 4 GiB, so the extension fields stay 0.
  params.Set(kInitrdAddressOffset,
             static_cast<uint32_t>(initrd_place->start.value));
  params.Set(kInitrdSizeOffset, static_cast<uint32_t>(initrd_place->size));
  params.Set(kCommandLineOffset, static_cast<uint32_t>(kCommandLine.value));
  params.Set(kMapCountOffset, static_cast<uint8_t>(boot.map.size()));
  uint64_t entry_offset = kMapOffset;
  for (const MemoryMapEntry& entry : boot.map) {
    params.Set(entry_offset, entry.range.start.value);
    params.Set(entry_offset + 8, entry.range.size);
    params.Set(entry_offset + 16, static_cast<uint32_t>(entry.type));
    entry_offset += kMapEntryBytes;
  }
  status = Store(kParams, params.bytes(), "boot parameters", memory);
  if (!status.ok()) return status;

  absl::StatusOr<CpuState> state =
      SetUpLongMode({at->value + kEntry64Offset}, {0}, memory);
  if (!state.ok()) return state;
  status = Store(kGdt, std::as_bytes(std::span(kGdtEntries)), "GDT", memory);
  if (!status.ok()) return status;
  state->rsi = kParams.value;
  state->cs.selector = kCodeSelector;
  state->data.selector = kDataSelector;
  state->gdt = {.base = kGdt.value,
                .limit = kGdtEntries.size() * sizeof(uint64_t) - 1};
  return state;
}

// The PVH note's content is 4 or 8 bytes.
std::optional<uint64_t> PvhEntry(std::span<const std::byte> file) {
  const auto note = FindElfNote(file, "Xen", kPvhEntryNote);
  if (!note.has_value()) return std::nullopt;
  if (note->size() != 4 && note->size() != 8) return std::nullopt;
  uint64_t entry = 0;
  std::memcpy(&entry, note->data(), note->size());
  return entry;
}

absl::Status StoreStartInfo(GuestRange initrd, const LinuxBoot& boot,
                            DmaSpace* memory) {
  absl::Status status;
  if (initrd.size != 0) {
    Block<kPvhModuleBytes> module;
    module.Set(0, initrd.start.value);
    module.Set(8, initrd.size);
    status = Store(kPvhModules, module.bytes(), "PVH module list", memory);
  }
  uint64_t at = kPvhMap.value;
  for (const MemoryMapEntry& entry : boot.map) {
    Block<kPvhMapEntryBytes> block;
    block.Set(0, entry.range.start.value);
    block.Set(8, entry.range.size);
    block.Set(16, static_cast<uint32_t>(entry.type));
    if (status.ok()) status = Store({at}, block.bytes(), "PVH map", memory);
    at += kPvhMapEntryBytes;
  }
  Block<kPvhStartInfoBytes> info;
  info.Set(0, kPvhMagic);
  info.Set(4, kPvhVersion);
  info.Set(12, uint32_t{initrd.size != 0 ? 1u : 0u});
  info.Set(16, initrd.size != 0 ? kPvhModules.value : uint64_t{0});
  info.Set(24, kCommandLine.value);
  info.Set(32, boot.rsdp.value);
  info.Set(40, kPvhMap.value);
  info.Set(48, static_cast<uint32_t>(boot.map.size()));
  if (status.ok()) status = Store(kParams, info.bytes(), "start info", memory);
  return status;
}

SegmentState FlatSegment32(uint8_t type) {
  return {.limit = 0xFFFFFFFF,
          .type = type,
          .present = true,
          .code_or_data = true,
          .default_32bit = true,
          .page_granular = true};
}

absl::StatusOr<CpuState> LoadPvh(std::span<const std::byte> file,
                                 std::span<const std::byte> initrd,
                                 const LinuxBoot& boot, DmaSpace* memory) {
  const uint64_t entry = PvhEntry(file).value_or(0);
  const GuestAddress ram_end = LowRamEnd(boot);
  const absl::StatusOr<LoadedElf> elf =
      LoadElf(file, {.limit = ram_end, .maps_itself = true}, memory);
  if (!elf.ok()) return elf.status();
  if (!elf->footprint.Contains(GuestAddress{entry})) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "ELF: PVH entry point %#x is outside of what it loads", entry));
  }
  if (kPvhMap.value + boot.map.size() * kPvhMapEntryBytes >
      kCommandLine.value) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "a memory map of %d entries is too long", boot.map.size()));
  }
  absl::Status status =
      StoreCommandLine(boot.command_line, kCommandLineMax, memory);
  if (!status.ok()) return status;
  const absl::StatusOr<GuestRange> initrd_place =
      StoreInitrd(initrd, elf->footprint, ram_end, memory);
  if (!initrd_place.ok()) return initrd_place.status();
  status = StoreStartInfo(*initrd_place, boot, memory);
  if (!status.ok()) return status;

  CpuState state;
  state.rip = entry;
  state.rbx = kParams.value;
  state.cr0 = 0x11;  // PE, ET
  state.cs = FlatSegment32(/*type=*/11);
  state.data = FlatSegment32(/*type=*/3);
  state.tr = {.limit = 0x67, .type = 11, .present = true};
  return state;
}

}  // namespace

KernelKind IdentifyKernel(std::span<const std::byte> file) {
  if (IsBzImage(file)) return KernelKind::kBzImage;
  if (file.size() < SELFMAG || std::memcmp(file.data(), ELFMAG, SELFMAG) != 0) {
    return KernelKind::kUnknown;
  }
  return PvhEntry(file).has_value() ? KernelKind::kPvh : KernelKind::kElf;
}

absl::StatusOr<GuestAddress> PlaceInitrd(uint64_t bytes, GuestAddress lowest,
                                         GuestAddress end) {
  if (bytes <= end.value) {
    const GuestAddress at{(end.value - bytes) & ~(kPageBytes - 1)};
    if (at >= lowest) return at;
  }
  return absl::OutOfRangeError(absl::StrFormat(
      "an initramfs of %d KiB does not fit between the kernel's end at %#x and "
      "%#x",
      (bytes + 1023) / 1024, lowest.value, end.value));
}

absl::StatusOr<CpuState> LoadLinux(std::span<const std::byte> kernel,
                                   std::span<const std::byte> initrd,
                                   const LinuxBoot& boot, DmaSpace* memory) {
  switch (IdentifyKernel(kernel)) {
    case KernelKind::kBzImage:
      return LoadBzImage(kernel, initrd, boot, memory);
    case KernelKind::kPvh:
      return LoadPvh(kernel, initrd, boot, memory);
    case KernelKind::kElf:
      return absl::InvalidArgumentError(
          "ELF: no PVH entry point: this is no Linux kernel with CONFIG_PVH");
    case KernelKind::kUnknown:
      break;
  }
  return absl::InvalidArgumentError(
      "this is neither a bzImage nor an ELF file");
}

}  // namespace vmsg::vmm
