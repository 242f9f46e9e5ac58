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

// Inside it, what the translator gives stays true.
class Use {
 public:
  explicit Use(DmaTranslator* translator) : translator_(translator) {
    translator_->BeginUse();
  }
  Use(const Use&) = delete;
  Use& operator=(const Use&) = delete;
  ~Use() { translator_->EndUse(); }

 private:
  DmaTranslator* const translator_;
};

constexpr uint64_t kWordBytes = sizeof(uint16_t);

}  // namespace

DmaSpace::DmaSpace(const GuestMemory* memory, const DmaGate* gate,
                   DmaTranslator* translator)
    : memory_(memory), gate_(gate), translator_(translator) {
  Refresh();
}

void DmaSpace::Refresh() {
  // Read before the snapshot, which is then at least as new.
  const uint64_t version = memory_->version();
  if (version == version_) return;
  map_ = memory_->Snapshot();
  version_ = version;
  if (translator_ == nullptr) plain_version_ = version;
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

// --- Without a translator. ---

DmaResult DmaSpace::CheckPlain(GuestRange range, bool writable) {
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
  if (!PlainAndCurrent()) [[unlikely]] {
    Refresh();
    if (translator_ != nullptr) {
      return CheckTranslated(range, writable);
    }
  }
  return CheckPlain(range, writable);
}

template <typename Copy>
DmaResult DmaSpace::Transfer(GuestRange range, bool writable, Copy copy) {
  uint64_t done = 0;
  do {
    // All that is left, again for each piece: the gate or the map may have
    // changed since the last one.
    if (!GateOpen()) return DmaResult::kDisabled;
    if (!PlainAndCurrent()) [[unlikely]] {
      Refresh();
      if (translator_ != nullptr) {
        return TransferTranslated(range, writable, copy);
      }
    }
    const GuestAddress start = {range.start.value + done};
    const DmaResult result =
        CheckPlain({.start = start, .size = range.size - done}, writable);
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

template <typename Access>
DmaResult DmaSpace::AccessWord(GuestAddress address, bool writable,
                               Access access) {
  if (!GateOpen()) return DmaResult::kDisabled;
  if (!PlainAndCurrent()) [[unlikely]] {
    Refresh();
    if (translator_ != nullptr) {
      return AccessTranslatedWord(address, writable, access);
    }
  }
  const DmaResult result =
      CheckPlain({.start = address, .size = kWordBytes}, writable);
  if (result != DmaResult::kOk) return result;
  const MemoryRegion* const region = Lookup(address);
  if (address.value % kWordBytes != 0 ||
      BytesLeft(*region, address) < kWordBytes) {
    return DmaResult::kOutside;
  }
  if (writable) memory_->NoteWrite({.start = address, .size = kWordBytes});
  access(HostAddress(*region, address));
  return DmaResult::kOk;
}

DmaSpace::Pinned DmaSpace::Pin(GuestRange range, bool writable) {
  if (!GateOpen()) return {.result = DmaResult::kDisabled};
  Refresh();
  if (translator_ != nullptr) return PinTranslated(range, writable);
  const DmaResult result = CheckPlain(range, writable);
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

// --- With a translator. What it gives is looked up like any address: whatever
// it says, only memory of the map is reached. ---

DmaSpace::Piece DmaSpace::Translate(GuestRange range, bool writable) {
  const DmaTranslation found = translator_->Translate(range, writable);
  if (found.result != DmaResult::kOk) return {.result = found.result};
  const GuestAddress physical = found.range.start;
  const MemoryRegion* const region = Lookup(physical);
  if (region == nullptr || found.range.size == 0) return {};
  if (writable && region->read_only) return {.result = DmaResult::kReadOnly};
  return {.result = DmaResult::kOk,
          .physical = {.start = physical,
                       .size = std::min({range.size, found.range.size,
                                         BytesLeft(*region, physical)})},
          .region = region};
}

template <typename Visit>
DmaResult DmaSpace::ForEachPiece(GuestRange range, bool writable, uint32_t max,
                                 Visit visit) {
  while (range.size != 0 && max-- != 0) {
    const Piece piece = Translate(range, writable);
    if (piece.result != DmaResult::kOk) return piece.result;
    visit(piece);
    range.start.value += piece.physical.size;
    range.size -= piece.physical.size;
  }
  return DmaResult::kOk;
}

DmaResult DmaSpace::CheckTranslated(GuestRange range, bool writable) {
  if (!range.IsValid()) return DmaResult::kOutside;
  const Use use(translator_);
  return ForEachPiece(range, writable, kMaxCheckedPieces, [](const Piece&) {});
}

template <typename Copy>
DmaResult DmaSpace::TransferTranslated(GuestRange range, bool writable,
                                       Copy copy) {
  if (!range.IsValid()) return DmaResult::kOutside;
  // A use for each kMaxCopyBytes, so that nobody who takes a mapping away waits
  // for more.
  const auto part_at = [range](uint64_t done) {
    return GuestRange{.start = {range.start.value + done},
                      .size = std::min(range.size - done, kMaxCopyBytes)};
  };
  // To its end, before the first byte moves. CopyTranslated() does it for a
  // short one.
  for (uint64_t done = 0; range.size > kMaxCopyBytes && done != range.size;) {
    const GuestRange part = part_at(done);
    const Use use(translator_);
    const DmaResult result =
        ForEachPiece(part, writable, UINT32_MAX, [](const Piece&) {});
    if (result != DmaResult::kOk) return result;
    done += part.size;
  }
  for (uint64_t done = 0; done != range.size;) {
    if (!GateOpen()) return DmaResult::kDisabled;
    Refresh();
    const GuestRange part = part_at(done);
    const Use use(translator_);
    const DmaResult result = CopyTranslated(part, writable, done, copy);
    if (result != DmaResult::kOk) return result;
    done += part.size;
  }
  return DmaResult::kOk;
}

// A range of at most kMaxCopyBytes, in a use: all of it or nothing.
template <typename Copy>
DmaResult DmaSpace::CopyTranslated(GuestRange range, bool writable,
                                   uint64_t offset, Copy copy) {
  const auto move = [&](const Piece& piece) {
    if (writable) memory_->NoteWrite(piece.physical);
    copy(HostAddress(*piece.region, piece.physical.start), offset,
         piece.physical.size);
    offset += piece.physical.size;
  };
  // Nearly always it is one piece, which is asked for once.
  const Piece first = Translate(range, writable);
  if (first.result != DmaResult::kOk) return first.result;
  const GuestRange rest = {.start = {range.start.value + first.physical.size},
                           .size = range.size - first.physical.size};
  if (const DmaResult result =
          ForEachPiece(rest, writable, UINT32_MAX, [](const Piece&) {});
      result != DmaResult::kOk) {
    return result;
  }
  move(first);
  return ForEachPiece(rest, writable, UINT32_MAX, move);
}

template <typename Access>
DmaResult DmaSpace::AccessTranslatedWord(GuestAddress address, bool writable,
                                         Access access) {
  const GuestRange range = {.start = address, .size = kWordBytes};
  if (!range.IsValid()) return DmaResult::kOutside;
  const Use use(translator_);
  const Piece piece = Translate(range, writable);
  if (piece.result != DmaResult::kOk) return piece.result;
  if (address.value % kWordBytes != 0 ||
      piece.physical.start.value % kWordBytes != 0 ||
      piece.physical.size < kWordBytes) {
    return DmaResult::kOutside;
  }
  if (writable) memory_->NoteWrite(piece.physical);
  access(HostAddress(*piece.region, piece.physical.start));
  return DmaResult::kOk;
}

DmaSpace::Pinned DmaSpace::PinTranslated(GuestRange range, bool writable) {
  // An empty range is where its first byte would be.
  const GuestRange asked = {.start = range.start,
                            .size = std::max<uint64_t>(range.size, 1)};
  if (!asked.IsValid()) return {.result = DmaResult::kOutside};
  const Use use(translator_);
  const Piece piece = Translate(asked, writable);
  if (piece.result != DmaResult::kOk) return {.result = piece.result};
  if (piece.physical.size < asked.size) {
    return {.result = DmaResult::kOutside};
  }
  if (writable && range.size != 0) memory_->NoteWrite(piece.physical);
  return {.result = DmaResult::kOk,
          .data = HostAddress(*piece.region, piece.physical.start),
          .hold = piece.region->backing,
          .mapping = translator_->Hold(asked)};
}

// --- Accesses. ---

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

DmaResult DmaSpace::Load16(GuestAddress address, std::memory_order order,
                           uint16_t* value) {
  return AccessWord(address, /*writable=*/false, [=](const std::byte* shared) {
    *value = LittleEndian(LoadShared<uint16_t>(shared, order));
  });
}

DmaResult DmaSpace::Store16(GuestAddress address, uint16_t value,
                            std::memory_order order) {
  return AccessWord(address, /*writable=*/true, [=](std::byte* shared) {
    StoreShared<uint16_t>(shared, LittleEndian(value), order);
  });
}

}  // namespace vmsg::vmm
