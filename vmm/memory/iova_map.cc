#include "vmm/memory/iova_map.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::vmm {
namespace {

std::string Text(GuestRange range) {
  return absl::StrCat("[0x", absl::Hex(range.start.value), ",+0x",
                      absl::Hex(range.size), ")");
}

// Last byte of a range that is not empty.
uint64_t Last(GuestRange range) { return range.start.value + (range.size - 1); }

}  // namespace

absl::Status IovaMap::Map(const Mapping& mapping) {
  const GuestRange iova = mapping.iova;
  const std::string what = absl::StrCat("mapping of ", Text(iova));
  if (iova.size == 0 || !iova.IsValid() ||
      !GuestRange{mapping.physical, iova.size}.IsValid()) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " to 0x", absl::Hex(mapping.physical.value),
                     " is empty or passes the end of an address space"));
  }
  if (!mapping.readable && !mapping.writable) {
    return absl::InvalidArgumentError(absl::StrCat(what, " allows nothing"));
  }
  if ((iova.start.value - mapping.physical.value) %
          GuestMemory::kWordAlignment !=
      0) {
    return absl::InvalidArgumentError(
        absl::StrCat(what, " to 0x", absl::Hex(mapping.physical.value),
                     " would have unaligned words"));
  }
  Entry entry = {.iova = std::make_shared<const GuestRange>(iova),
                 .physical = mapping.physical,
                 .readable = mapping.readable,
                 .writable = mapping.writable};

  ExclusiveLock lock(&mutex_);
  if (entries_.size() >= max_mappings_) {
    return absl::ResourceExhaustedError(
        absl::StrCat(what, ": there are ", entries_.size(), " already"));
  }
  const auto after = entries_.upper_bound(Last(iova));
  if (after != entries_.begin()) {
    const GuestRange other = *std::prev(after)->second.iova;
    if (other.Overlaps(iova)) {
      return absl::AlreadyExistsError(
          absl::StrCat(what, " overlaps ", Text(other)));
    }
  }
  entries_.emplace_hint(after, iova.start.value, std::move(entry));
  return absl::OkStatus();
}

absl::Status IovaMap::Unmap(GuestRange iova) {
  if (!iova.IsValid()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "range ", Text(iova), " passes the end of the address space"));
  }
  if (iova.size == 0) return absl::OkStatus();
  Entries removed;  // freed after the lock
  ExclusiveLock lock(&mutex_);
  auto first = entries_.lower_bound(iova.start.value);
  const auto last = entries_.upper_bound(Last(iova));
  // Those that reach in from below and out above.
  for (const auto edge : {first, last}) {
    if (edge == entries_.begin()) continue;
    const GuestRange mapped = *std::prev(edge)->second.iova;
    if (mapped.Overlaps(iova) && !iova.Contains(mapped)) {
      return absl::InvalidArgumentError(absl::StrCat(
          "mapping of ", Text(mapped), " reaches out of ", Text(iova)));
    }
  }
  Erase(first, last, &removed);
  return absl::OkStatus();
}

void IovaMap::Clear() {
  Entries removed;
  ExclusiveLock lock(&mutex_);
  Erase(entries_.begin(), entries_.end(), &removed);
}

void IovaMap::Erase(Entries::iterator first, Entries::iterator last,
                    Entries* removed) {
  leftovers_.erase(
      std::remove_if(leftovers_.begin(), leftovers_.end(),
                     [](const auto& left) { return left.expired(); }),
      leftovers_.end());
  while (first != last) {
    // No use is under way: nobody pins it any more, others let go of it.
    if (first->second.iova.use_count() > 1) {
      leftovers_.push_back(first->second.iova);
    }
    removed->insert(removed->end(), entries_.extract(first++));
  }
}

size_t IovaMap::size() const {
  SharedLock lock(&mutex_);
  return entries_.size();
}

bool IovaMap::pinned(GuestRange iova) const {
  SharedLock lock(&mutex_);
  for (const auto& weak : leftovers_) {
    const std::shared_ptr<const GuestRange> range = weak.lock();
    if (range != nullptr && range->Overlaps(iova)) return true;
  }
  auto at = entries_.upper_bound(iova.start.value);
  if (at != entries_.begin() && std::prev(at)->second.iova->Overlaps(iova)) {
    --at;
  }
  for (; at != entries_.end() && at->second.iova->Overlaps(iova); ++at) {
    if (at->second.iova.use_count() > 1) return true;
  }
  return false;
}

void IovaMap::BeginUse() { mutex_.LockShared(); }
void IovaMap::EndUse() { mutex_.UnlockShared(); }

const IovaMap::Entry* IovaMap::Find(GuestAddress iova) const {
  const auto after = entries_.upper_bound(iova.value);
  if (after == entries_.begin()) return nullptr;
  const Entry& entry = std::prev(after)->second;
  return entry.iova->Contains(iova) ? &entry : nullptr;
}

DmaTranslation IovaMap::Translate(GuestRange iova, bool writable) {
  const Entry* const entry = Find(iova.start);
  if (entry == nullptr) return {.result = DmaResult::kOutside};
  if (writable && !entry->writable) return {.result = DmaResult::kReadOnly};
  if (!writable && !entry->readable) return {.result = DmaResult::kOutside};
  const uint64_t skip = iova.start.value - entry->iova->start.value;
  return {.result = DmaResult::kOk,
          .range = {.start = {entry->physical.value + skip},
                    .size = std::min(iova.size, entry->iova->size - skip)}};
}

std::shared_ptr<const void> IovaMap::Hold(GuestRange iova) {
  const Entry* const entry = Find(iova.start);
  return entry == nullptr ? nullptr : entry->iova;
}

}  // namespace vmsg::vmm
