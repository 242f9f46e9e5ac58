#include "vmm/bus/range_table.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "vmm/base/check.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::vmm {

namespace {

using Entry = RangeTable::Entry;

// The calls that this thread is inside of, innermost first.
struct Frame {
  const Entry* entry;
  const Frame* outer;
};
thread_local const Frame* innermost_frame = nullptr;

GuestRange RangeOf(const Entry& entry) { return {*entry.base, entry.size}; }

std::string Describe(const std::string& name, GuestRange range) {
  return absl::StrFormat("%s [0x%x, +0x%x)", name, range.start.value,
                         range.size);
}

// First entry with a base above `address`.
std::vector<Entry*>::const_iterator UpperBound(
    const std::vector<Entry*>& entries, GuestAddress address) {
  return std::upper_bound(
      entries.begin(), entries.end(), address,
      [](GuestAddress a, const Entry* e) { return a < *e->base; });
}

Entry* FindAt(const std::vector<Entry*>& entries, GuestAddress address) {
  const auto after = UpperBound(entries, address);
  if (after == entries.begin()) return nullptr;
  Entry* const entry = *std::prev(after);
  return RangeOf(*entry).Contains(address) ? entry : nullptr;
}

// The first entry other than `self` that shares a byte with `range` and that
// `allowed` does not excuse.
template <typename Allowed>
const Entry* FindConflict(const std::vector<Entry*>& entries, const Entry* self,
                          GuestRange range, Allowed allowed) {
  auto it = UpperBound(entries, range.start);
  if (it != entries.begin()) --it;
  for (; it != entries.end(); ++it) {
    const Entry& other = **it;
    if (*other.base > range.start && !RangeOf(other).Overlaps(range)) break;
    if (&other != self && RangeOf(other).Overlaps(range) && !allowed(other)) {
      return &other;
    }
  }
  return nullptr;
}

// A guest's aligned access is one access here too, and ordered at least as on
// x86: an index that it publishes comes after the data.
template <typename T>
bool LoadWord(std::span<std::byte> to, const std::byte* shared) {
  if (to.size() != sizeof(T) ||
      reinterpret_cast<uintptr_t>(shared) % sizeof(T) != 0) {
    return false;
  }
  const T value = LoadShared<T>(shared, std::memory_order_acquire);
  std::memcpy(to.data(), &value, sizeof(T));
  return true;
}
template <typename T>
bool StoreWord(std::byte* shared, std::span<const std::byte> from) {
  if (from.size() != sizeof(T) ||
      reinterpret_cast<uintptr_t>(shared) % sizeof(T) != 0) {
    return false;
  }
  T value;
  std::memcpy(&value, from.data(), sizeof(T));
  StoreShared<T>(shared, value, std::memory_order_release);
  return true;
}

void ReadMemory(std::span<std::byte> to, const std::byte* shared) {
  if (LoadWord<uint8_t>(to, shared) || LoadWord<uint16_t>(to, shared) ||
      LoadWord<uint32_t>(to, shared) || LoadWord<uint64_t>(to, shared)) {
    return;
  }
  CopyFromShared(to, shared);
}

void WriteMemory(std::byte* shared, std::span<const std::byte> from) {
  if (StoreWord<uint8_t>(shared, from) || StoreWord<uint16_t>(shared, from) ||
      StoreWord<uint32_t>(shared, from) || StoreWord<uint64_t>(shared, from)) {
    return;
  }
  CopyToShared(shared, from);
}

}  // namespace

// One piece of an access: finds who answers for it, and keeps them until the
// end of the scope.
class RangeTable::Call {
 public:
  // `address` with the `left` bytes that follow are still to do. `whole`: it is
  // all of the guest's access, so it may go in one piece.
  Call(RangeTable* table, GuestAddress address, size_t left, bool whole,
       bool write)
      : table_(table) {
    {
      MutexLock lock(&table->mutex_);
      entry_ = whole && write ? FindAt(table->doorbells_, address) : nullptr;
      if (entry_ == nullptr || *entry_->base != address ||
          entry_->size != left) {
        entry_ = FindAt(table->ranges_, address);
      }
      if (entry_ == nullptr) {
        // Up to the next range in one go: what is nowhere now must not be half
        // somewhere because a mapping arrives meanwhile.
        const auto next = UpperBound(table->ranges_, address);
        piece_ = next == table->ranges_.end()
                     ? left
                     : static_cast<size_t>(std::min<uint64_t>(
                           left, (*next)->base->value - address.value));
        return;
      }
      ++entry_->calls;
      offset_ = address.value - entry_->base->value;
    }
    const uint64_t room = entry_->size - offset_;
    if (entry_->kind == Kind::kMemory) {
      piece_ = static_cast<size_t>(std::min<uint64_t>(left, room));
    } else {
      const bool fits = whole && std::has_single_bit(left) &&
                        left <= table->max_width_ && left <= room;
      piece_ = fits ? left : 1;
    }
    frame_ = {entry_, innermost_frame};
    innermost_frame = &frame_;
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;
  ~Call() {
    if (entry_ == nullptr) return;
    innermost_frame = frame_.outer;
    MutexLock lock(&table_->mutex_);
    --entry_->calls;
    if (entry_->calls == 0 && entry_->leaving) table_->call_ended_.NotifyAll();
  }

  const Entry* entry() const { return entry_; }
  uint64_t offset() const { return offset_; }
  // Bytes that this call does; where nobody answers, those that nobody claims.
  size_t piece() const { return piece_; }
  std::byte* memory() const {
    return entry_->backing->data() + entry_->backing_offset + offset_;
  }

 private:
  RangeTable* const table_;
  Entry* entry_ = nullptr;
  uint64_t offset_ = 0;
  size_t piece_ = 0;
  Frame frame_ = {};
};

RangeTable::RangeTable(uint64_t last, size_t max_width)
    : last_(last), max_width_(max_width) {}

absl::Status RangeTable::CheckFreeLocked(const Entry& entry,
                                         GuestRange range) const {
  const bool is_doorbell = entry.kind == Kind::kDoorbell;
  // A doorbell goes wholly inside a handler, or where nothing is: while a BAR
  // moves, handler and doorbells go one after the other.
  const Entry* conflict =
      FindConflict(ranges_, &entry, range, [&](const Entry& other) {
        return is_doorbell && other.kind == Kind::kHandler &&
               RangeOf(other).Contains(range);
      });
  if (conflict == nullptr) {
    conflict = FindConflict(doorbells_, &entry, range, [&](const Entry& other) {
      return entry.kind == Kind::kHandler && range.Contains(RangeOf(other));
    });
  }
  if (conflict == nullptr) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrFormat("%s overlaps %s", Describe(entry.name, range),
                      Describe(conflict->name, RangeOf(*conflict))));
}

void RangeTable::TakeOutLocked(Entry* entry) {
  if (!entry->base.has_value()) return;
  std::vector<Entry*>& list = ListOf(*entry);
  list.erase(std::find(list.begin(), list.end(), entry));
  entry->base.reset();
}

absl::Status RangeTable::Place(Entry* entry, std::optional<GuestAddress> base) {
  MutexLock lock(&mutex_);
  if (!base.has_value()) {
    TakeOutLocked(entry);
    return absl::OkStatus();
  }
  const GuestRange range = {*base, entry->size};
  if (!range.IsValid() || base->value + (entry->size - 1) > last_) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s reaches past the last address, 0x%x",
                        Describe(entry->name, range), last_));
  }
  if ((base->value & (entry->alignment - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s is not aligned to 0x%x",
                        Describe(entry->name, range), entry->alignment));
  }
  if (absl::Status status = CheckFreeLocked(*entry, range); !status.ok()) {
    return status;
  }
  TakeOutLocked(entry);
  std::vector<Entry*>& list = ListOf(*entry);
  list.insert(UpperBound(list, *base), entry);
  entry->base = base;
  return absl::OkStatus();
}

void RangeTable::Withdraw(Entry* entry) {
  for (const Frame* frame = innermost_frame; frame != nullptr;
       frame = frame->outer) {
    VMSG_CHECK(frame->entry != entry,
               "a mapping was destroyed inside its own handler");
  }
  MutexLock lock(&mutex_);
  TakeOutLocked(entry);
  entry->leaving = true;
  while (entry->calls != 0) call_ended_.Wait(&mutex_);
}

RangeTable::Outcome RangeTable::Read(GuestAddress address,
                                     std::span<std::byte> data) {
  Outcome outcome;
  for (size_t done = 0; done < data.size();) {
    const std::span<std::byte> rest = data.subspan(done);
    if (done > last_ - address.value) {  // Past the end of the address space.
      outcome.unclaimed = true;
      std::fill(rest.begin(), rest.end(), std::byte{0xFF});
      break;
    }
    const Call call(this, {address.value + done}, rest.size(), done == 0,
                    /*write=*/false);
    const std::span<std::byte> piece = rest.first(call.piece());
    if (call.entry() == nullptr) {
      std::fill(piece.begin(), piece.end(), std::byte{0xFF});
      outcome.unclaimed = true;
    } else {
      outcome.claimed = true;
      if (call.entry()->kind == Kind::kMemory) {
        ReadMemory(piece, call.memory());
      } else {
        call.entry()->handler->Read(call.offset(), piece);
      }
    }
    done += piece.size();
  }
  return outcome;
}

RangeTable::Outcome RangeTable::Write(GuestAddress address,
                                      std::span<const std::byte> data) {
  Outcome outcome;
  for (size_t done = 0; done < data.size();) {
    const std::span<const std::byte> rest = data.subspan(done);
    if (done > last_ - address.value) {
      outcome.unclaimed = true;
      break;
    }
    const Call call(this, {address.value + done}, rest.size(), done == 0,
                    /*write=*/true);
    const std::span<const std::byte> piece = rest.first(call.piece());
    if (call.entry() == nullptr) {
      outcome.unclaimed = true;
    } else {
      outcome.claimed = true;
      switch (call.entry()->kind) {
        case Kind::kMemory:
          // The host maps a read-only backing so that a store would fault.
          if (!call.entry()->backing->read_only()) {
            WriteMemory(call.memory(), piece);
          }
          break;
        case Kind::kHandler:
          call.entry()->handler->Write(call.offset(), piece);
          break;
        case Kind::kDoorbell:
          call.entry()->doorbell->Signal();
          break;
      }
    }
    done += piece.size();
  }
  return outcome;
}

std::byte* RangeTable::FindMemory(GuestRange range,
                                  std::shared_ptr<const MemoryBacking>* hold) {
  MutexLock lock(&mutex_);
  const Entry* const entry = FindAt(ranges_, range.start);
  if (entry == nullptr || entry->kind != Kind::kMemory ||
      !RangeOf(*entry).Contains(range)) {
    return nullptr;
  }
  *hold = entry->backing;
  return entry->backing->data() + entry->backing_offset +
         (range.start.value - entry->base->value);
}

}  // namespace vmsg::vmm
