#include "vmm/pci/msix_table.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <optional>
#include <utility>

#include "vmm/base/check.h"
#include "vmm/base/counter.h"

namespace vmsg::vmm {

namespace {

// PCI Local Bus 3.0, 6.8.2.9: bit 0 of vector control; the rest is reserved.
constexpr uint32_t kVectorMask = 1;
// 6.8.2.7: messages are dword-aligned.
constexpr uint32_t kAddressLowMask = ~uint32_t{3};

constexpr size_t kEntryBytes = sizeof(MsixTableEntry);
constexpr size_t kPendingBytes = MsixTable::kMaxVectors / 8;

template <typename Entry>  // MsixTableEntry, const or not
auto& Field(Entry& entry, size_t index) {
  switch (index) {
    case 0:
      return entry.address_low;
    case 1:
      return entry.address_high;
    case 2:
      return entry.data;
    default:
      return entry.vector_control;
  }
}

// Vector::state, a mask.
constexpr uint32_t kHeld = 1;     // triggers become pending
constexpr uint32_t kPending = 2;  // only with kHeld
constexpr uint32_t kRefused = 4;  // the route has no message to send

}  // namespace

// Exactly once. `state` changes in three ways, each one atomic step:
//   T  a trigger adds kPending, by compare-and-swap from a state with kHeld;
//   H  a change under the lock adds kHeld;
//   O  a change under the lock takes kHeld and kPending away, by exchange.
// A trigger whose load finds no kHeld goes through itself and leaves no bit.
// Any other one ends in a T, which lies before some O or before none. The first
// O after it reads its kPending, since only an O clears it, and delivers once;
// a second trigger before that O finds the bit set and merges with the first.
// Until there is an O, the bit waits. A T can't slip in after the O that should
// have seen it: the O takes kHeld away, so the compare-and-swap fails and the
// trigger looks again. T releases and O acquires, so that a packet written
// before the trigger is there for the guest that the un-masker interrupts;
// hence also a merging trigger does its T. One line each: vectors have owners
// on different threads.
struct alignas(64) MsixTable::Vector {
  std::atomic<uint32_t> state{kHeld};
  // Set while the vector is held and nobody triggers (see Connect, Disconnect).
  std::unique_ptr<MsiRoute> route;
  std::optional<MsiMessage> pushed;  // what the route has; guarded by mutex_

  OwnedCounter triggers;  // the owner's; un-maskers count the others too
  Counter delivered;
  Counter failed;
  Counter merged;

  void Send() {
    if (route->Trigger().ok()) {
      delivered.Add();
    } else {
      failed.Add();
    }
  }
};

namespace {

template <typename T>
std::vector<std::unique_ptr<T>> MakeMany(uint32_t count) {
  std::vector<std::unique_ptr<T>> made(count);
  for (auto& one : made) one = std::make_unique<T>();
  return made;
}

}  // namespace

MsixTable::MsixTable(uint32_t vectors)
    : vectors_(MakeMany<Vector>(vectors)),
      entries_(vectors, MsixTableEntry{.vector_control = kVectorMask}) {
  VMSG_CHECK(vectors >= 1 && vectors <= kMaxVectors);
}

MsixTable::~MsixTable() = default;

absl::Status MsixTable::Connect(InterruptController* controller,
                                uint16_t requester_id) {
  std::vector<std::unique_ptr<MsiRoute>> routes;
  for (uint32_t i = 0; i < size(); ++i) {
    absl::StatusOr<std::unique_ptr<MsiRoute>> route =
        controller->CreateMsiRoute();
    if (!route.ok()) return route.status();
    routes.push_back(*std::move(route));
  }
  uint64_t due = 0;
  {
    MutexLock lock(&mutex_);
    requester_id_ = requester_id;
    for (uint32_t i = 0; i < size(); ++i) {
      VMSG_CHECK(vectors_[i]->route == nullptr, "connected already");
      vectors_[i]->route = std::move(routes[i]);
      vectors_[i]->pushed.reset();
    }
    due = UpdateHeldLocked();
  }
  Deliver(due);
  return absl::OkStatus();
}

void MsixTable::Disconnect() {
  std::vector<std::unique_ptr<MsiRoute>> gone;
  MutexLock lock(&mutex_);
  for (const std::unique_ptr<Vector>& vector : vectors_) {
    vector->state.fetch_or(kHeld, std::memory_order_acq_rel);
    gone.push_back(std::move(vector->route));
  }
}

void MsixTable::Trigger(uint32_t index) {
  VMSG_CHECK(index < size());
  Vector& vector = *vectors_[index];
  vector.triggers.Add();
  uint32_t state = vector.state.load(std::memory_order_acquire);
  while ((state & kHeld) != 0) {
    if (vector.state.compare_exchange_weak(state, state | kPending,
                                           std::memory_order_release,
                                           std::memory_order_acquire)) {
      if ((state & kPending) != 0) vector.merged.Add();
      return;
    }
  }
  if ((state & kRefused) != 0) {
    vector.failed.Add();
    return;
  }
  vector.Send();
}

bool MsixTable::PushMessageLocked(uint32_t index) {
  const MsixTableEntry& entry = entries_[index];
  Vector& vector = *vectors_[index];
  const MsiMessage message = {
      .address = uint64_t{entry.address_high} << 32 | entry.address_low,
      .data = entry.data,
      .requester_id = requester_id_};
  if (vector.pushed == message) return true;
  if (!vector.route->Update(message).ok()) return false;
  vector.pushed = message;
  return true;
}

uint64_t MsixTable::UpdateHeldLocked() {
  const bool all_held = !enabled_ || function_masked_ || !bus_master_;
  uint64_t due = 0;
  for (uint32_t i = 0; i < size(); ++i) {
    Vector& vector = *vectors_[i];
    if (all_held || vector.route == nullptr ||
        (entries_[i].vector_control & kVectorMask) != 0) {
      vector.state.fetch_or(kHeld, std::memory_order_acq_rel);
      continue;
    }
    const uint32_t open = PushMessageLocked(i) ? 0 : kRefused;
    const uint32_t before =
        vector.state.exchange(open, std::memory_order_acq_rel);
    if ((before & kPending) == 0) continue;
    if (open == kRefused) {
      vector.failed.Add();
    } else {
      due |= uint64_t{1} << i;
    }
  }
  return due;
}

void MsixTable::Deliver(uint64_t due) {
  for (; due != 0; due &= due - 1) {
    vectors_[static_cast<size_t>(std::countr_zero(due))]->Send();
  }
}

void MsixTable::ReadTable(uint64_t offset, std::span<std::byte> data) const {
  std::fill(data.begin(), data.end(), std::byte{0});
  const uint64_t end = size() * kEntryBytes;
  if (offset >= end) return;
  MutexLock lock(&mutex_);
  for (size_t i = 0; i < data.size() && offset + i < end; ++i) {
    const uint64_t at = offset + i;
    const uint32_t field =
        Field(entries_[at / kEntryBytes], at % kEntryBytes / 4);
    data[i] = static_cast<std::byte>(field >> (8 * (at % 4)));
  }
}

void MsixTable::WriteTable(uint64_t offset, std::span<const std::byte> data) {
  const uint64_t end = size() * kEntryBytes;
  if (offset >= end) return;
  uint64_t due = 0;
  {
    MutexLock lock(&mutex_);
    for (size_t i = 0; i < data.size() && offset + i < end; ++i) {
      const uint64_t at = offset + i;
      MsixTableEntry& entry = entries_[at / kEntryBytes];
      uint32_t& field = Field(entry, at % kEntryBytes / 4);
      const unsigned shift = 8 * (at % 4);
      field = (field & ~(uint32_t{0xFF} << shift)) |
              std::to_integer<uint32_t>(data[i]) << shift;
      entry.address_low &= kAddressLowMask;
      entry.vector_control &= kVectorMask;
    }
    due = UpdateHeldLocked();
  }
  Deliver(due);
}

void MsixTable::ReadPending(uint64_t offset, std::span<std::byte> data) const {
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = std::byte{0};
    if (offset >= kPendingBytes || i >= kPendingBytes - offset) continue;
    for (uint32_t bit = 0; bit < 8; ++bit) {
      const uint64_t index = 8 * (offset + i) + bit;
      if (index >= size()) break;
      const uint32_t state =
          vectors_[index]->state.load(std::memory_order_acquire);
      if ((state & kPending) != 0) data[i] |= std::byte{1} << bit;
    }
  }
}

void MsixTable::SetControl(bool enabled, bool function_masked) {
  uint64_t due = 0;
  {
    MutexLock lock(&mutex_);
    enabled_ = enabled;
    function_masked_ = function_masked;
    due = UpdateHeldLocked();
  }
  Deliver(due);
}

void MsixTable::SetBusMaster(bool enabled) {
  uint64_t due = 0;
  {
    MutexLock lock(&mutex_);
    bus_master_ = enabled;
    due = UpdateHeldLocked();
  }
  Deliver(due);
}

void MsixTable::Reset() {
  MutexLock lock(&mutex_);
  enabled_ = false;
  function_masked_ = false;
  for (MsixTableEntry& entry : entries_) {
    entry = {.vector_control = kVectorMask};
  }
  for (const std::unique_ptr<Vector>& vector : vectors_) {
    vector->state.exchange(kHeld, std::memory_order_acq_rel);
  }
}

MsixTable::Stats MsixTable::stats(uint32_t index) const {
  VMSG_CHECK(index < size());
  const Vector& vector = *vectors_[index];
  return {.triggers = vector.triggers.value(),
          .delivered = vector.delivered.value(),
          .failed = vector.failed.value(),
          .merged = vector.merged.value()};
}

}  // namespace vmsg::vmm
