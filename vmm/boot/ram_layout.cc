#include "vmm/boot/ram_layout.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "vmm/base/check.h"
#include "vmm/boot/long_mode.h"

namespace vmsg::vmm {
namespace {

constexpr uint64_t kPageBytes = 4096;
// The video memory and ROMs of a PC; nothing of ours but kAcpiArea.
constexpr uint64_t kLegacyHole = 0xA0000;
constexpr uint64_t kLegacyHoleEnd = 0x100000;

}  // namespace

absl::StatusOr<RamLayout> ComputeRamLayout(uint64_t ram_bytes) {
  if (ram_bytes % kPageBytes != 0 || ram_bytes < kMinRamBytes ||
      ram_bytes > kMaxRamBytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%d bytes of RAM are not a multiple of %d from %d MiB to %d GiB",
        ram_bytes, kPageBytes, kMinRamBytes >> 20, kMaxRamBytes >> 30));
  }
  RamLayout layout;
  layout.low = {{0}, std::min(ram_bytes, kDeviceHole.value)};
  layout.high = {kHighRam, ram_bytes - layout.low.size};
  return layout;
}

std::vector<MemoryMapEntry> ComputeMemoryMap(
    const RamLayout& ram, std::span<const GuestRange> reserved) {
  std::vector<MemoryMapEntry> map = {
      {{{0}, kLegacyHole}, MemoryMapType::kRam},
      {kAcpiArea, MemoryMapType::kAcpi},
      {{{kLegacyHoleEnd}, ram.low.size - kLegacyHoleEnd}, MemoryMapType::kRam},
  };
  for (const GuestRange& range : reserved) {
    map.push_back({range, MemoryMapType::kReserved});
  }
  if (ram.high.size != 0) map.push_back({ram.high, MemoryMapType::kRam});
  std::sort(map.begin(), map.end(),
            [](const MemoryMapEntry& a, const MemoryMapEntry& b) {
              return a.range.start < b.range.start;
            });
  for (size_t i = 1; i < map.size(); ++i) {
    VMSG_CHECK(!map[i - 1].range.Overlaps(map[i].range),
               "the embedder reserves RAM, or a place twice");
  }
  return map;
}

}  // namespace vmsg::vmm
