#include "vmm/memory/dma_space.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "vmm/memory/shared_copy.h"

namespace vmsg::vmm {
namespace {

uint16_t LittleEndian(uint16_t value) {
  if constexpr (std::endian::native == std::endian::little) return value;
  return static_cast<uint16_t>(value << 8 | value >> 8);
}

// Host memory of `address`, which is in `region`.
std::byte* HostAddress(const MemoryRegion& region, GuestAddress address) {
  return region.backing->data() + region.backing_offset +
         (address.value - region.range.start.value);
}

// Bytes from `address`, which is in `region`, to its end.
uint64_t BytesLeft(const MemoryRegion& region, GuestAddress address) {
  return region.range.size - (address.value - region.range.start.value);
}

}  // namespace

DmaSpace::DmaSpace(const GuestMemory* memory, const DmaGate* gate)
    : memory_(memory), gate_(gate) {
  Refresh();
}

void DmaSpace::Refresh() {
  // Read before the snapshot, which is then at least as new.
  const uint64_t version = memory_->version();
  if (version == version_) return;
  map_ = memory_->Snapshot();
  version_ = version;
  last_ = nullptr;
}

const MemoryMap& DmaSpace::map() {
  Refresh();
  return *map_;
}

const MemoryRegion* DmaSpace::Lookup(GuestAddress address) {
  if (last_ == nullptr || !last_->range.Contains(address)) {
    last_ = map_->Find(address);
  }
  return last_;
}

DmaResult DmaSpace::CheckMapped(GuestRange range, bool writable) {
  if (!range.IsValid()) return DmaResult::kOutside;
  GuestAddress at = range.start;
  uint64_t left = range.size;
  while (left != 0) {
    const MemoryRegion* const region = Lookup(at);
    if (region == nullptr) return DmaResult::kOutside;
    if (writable && region->read_only) return DmaResult::kReadOnly;
    const uint64_t here = std::min(left, BytesLeft(*region, at));
    left -= here;
    at.value += here;  // May wrap to 0 only when nothing is left.
  }
  return DmaResult::kOk;
}

DmaResult DmaSpace::Check(GuestRange range, bool writable) {
  if (!GateOpen()) return DmaResult::kDisabled;
  Refresh();
  return CheckMapped(range, writable);
}

template <typename Copy>
DmaResult DmaSpace::Transfer(GuestRange range, bool writable, Copy copy) {
  uint64_t done = 0;
  do {
    // All that is left, again for each piece: the gate or the map may have
    // changed since the last one.
    const GuestAddress start = {range.start.value + done};
    const DmaResult result =
        Check({.start = start, .size = range.size - done}, writable);
    if (result != DmaResult::kOk) return result;
    const uint64_t piece = std::min(range.size - done, kMaxCopyBytes);
    if (writable && piece != 0) {
      memory_->NoteWrite({.start = start, .size = piece});
    }
    for (const uint64_t end = done + piece; done != end;) {
      const GuestAddress at = {range.start.value + done};
      const MemoryRegion* const region = Lookup(at);
      const uint64_t here = std::min(end - done, BytesLeft(*region, at));
      copy(HostAddress(*region, at), done, here);
      done += here;
    }
  } while (done != range.size);
  return DmaResult::kOk;
}

DmaResult DmaSpace::Read(GuestAddress from, std::span<std::byte> to) {
  return Transfer({.start = from, .size = to.size()}, /*writable=*/false,
                  [to](const std::byte* shared, uint64_t offset, uint64_t n) {
                    CopyFromShared(to.subspan(offset, n), shared);
                  });
}

DmaResult DmaSpace::Write(GuestAddress to, std::span<const std::byte> from) {
  return Transfer({.start = to, .size = from.size()}, /*writable=*/true,
                  [from](std::byte* shared, uint64_t offset, uint64_t n) {
                    CopyToShared(shared, from.subspan(offset, n));
                  });
}

DmaResult DmaSpace::FindWord(GuestAddress address, bool writable,
                             std::byte** shared) {
  constexpr uint64_t kSize = sizeof(uint16_t);
  const DmaResult result = Check({.start = address, .size = kSize}, writable);
  if (result != DmaResult::kOk) return result;
  const MemoryRegion* const region = Lookup(address);
  if (address.value % kSize != 0 || BytesLeft(*region, address) < kSize) {
    return DmaResult::kOutside;
  }
  *shared = HostAddress(*region, address);
  return DmaResult::kOk;
}

DmaResult DmaSpace::Load16(GuestAddress address, std::memory_order order,
                           uint16_t* value) {
  std::byte* shared = nullptr;
  const DmaResult result = FindWord(address, /*writable=*/false, &shared);
  if (result != DmaResult::kOk) return result;
  *value = LittleEndian(LoadShared<uint16_t>(shared, order));
  return DmaResult::kOk;
}

DmaResult DmaSpace::Store16(GuestAddress address, uint16_t value,
                            std::memory_order order) {
  std::byte* shared = nullptr;
  const DmaResult result = FindWord(address, /*writable=*/true, &shared);
  if (result != DmaResult::kOk) return result;
  memory_->NoteWrite({.start = address, .size = sizeof(value)});
  StoreShared<uint16_t>(shared, LittleEndian(value), order);
  return DmaResult::kOk;
}

DmaSpace::Pinned DmaSpace::Pin(GuestRange range, bool writable) {
  const DmaResult result = Check(range, writable);
  if (result != DmaResult::kOk) return {.result = result};
  const MemoryRegion* const region = Lookup(range.start);
  if (region == nullptr || BytesLeft(*region, range.start) < range.size) {
    return {.result = DmaResult::kOutside};
  }
  if (writable && region->read_only) return {.result = DmaResult::kReadOnly};
  if (writable && range.size != 0) memory_->NoteWrite(range);
  return {.result = DmaResult::kOk,
          .data = HostAddress(*region, range.start),
          .hold = region->backing};
}

}  // namespace vmsg::vmm
