#include "vmm/pci/pci_function.h"

#include <algorithm>
#include <bit>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/check.h"
#include "vmm/pci/bar_mapping.h"
#include "vmm/pci/pci_config_layout.h"

namespace vmsg::vmm {

namespace {

using namespace pci_config;  // NOLINT(google-build-using-namespace): ours

constexpr uint16_t WordOf(uint16_t offset) { return offset / 4; }

constexpr uint16_t kMsixCapability = 0x40;  // right after the header
constexpr uint32_t kWritableCommand =
    kCommandMemory | kCommandBusMaster | kCommandInterruptDisable;
constexpr uint16_t kWritableMessageControl = kMsixFunctionMask | kMsixEnable;
constexpr uint32_t kInterruptLineMask = 0xFF;
constexpr size_t kMsixEntryBytes = sizeof(MsixTableEntry);
// The pending array comes in 64-bit pieces, and kMaxVectors fits one.
constexpr uint64_t kPendingArrayBytes = 8;

uint32_t BarFlags(const PciBarInfo& info) {
  return (info.is_64bit ? kBar64Bit : 0) |
         (info.prefetchable ? kBarPrefetchable : 0);
}

// Both halves of a 64-bit BAR.
bool TakesIndex(const PciBarInfo& info, uint8_t index) {
  return index == info.index || (info.is_64bit && index == info.index + 1);
}

void CheckBar(const PciBar& bar) {
  const PciBarInfo& info = bar.info;
  VMSG_CHECK(std::has_single_bit(info.size_bytes) &&
             info.size_bytes >= kBarMinBytes);
  VMSG_CHECK(info.is_64bit || info.size_bytes <= kBar32MaxBytes);
  VMSG_CHECK(info.index + (info.is_64bit ? 1 : 0) < kMaxBars);
  VMSG_CHECK((bar.handler != nullptr) != (bar.memory != nullptr));
  VMSG_CHECK(bar.memory == nullptr || bar.doorbells.empty());
  VMSG_CHECK(bar.memory == nullptr || bar.memory->size() >= info.size_bytes);
  for (const PciDoorbell& doorbell : bar.doorbells) {
    VMSG_CHECK(doorbell.event != nullptr);
    VMSG_CHECK(doorbell.offset % 4 == 0 && doorbell.offset < info.size_bytes);
  }
}

void CheckMsix(const MsixLayout& layout) {
  const uint64_t table_end =
      layout.table_offset + uint64_t{layout.vectors} * kMsixEntryBytes;
  const uint64_t pending_end = layout.pending_offset + kPendingArrayBytes;
  VMSG_CHECK(layout.table_offset % 8 == 0 && layout.pending_offset % 8 == 0);
  VMSG_CHECK(table_end <= layout.bar_size_bytes &&
             pending_end <= layout.bar_size_bytes);
  VMSG_CHECK(table_end <= layout.pending_offset ||
             pending_end <= layout.table_offset);
}

}  // namespace

// The registers of the MSI-X BAR. What is neither table nor pending array reads
// 0.
class PciFunction::MsixBar final : public IoHandler {
 public:
  MsixBar(const MsixLayout& layout, MsixTable* table)
      : table_(table),
        table_start_(layout.table_offset),
        table_end_(layout.table_offset + table->size() * kMsixEntryBytes),
        pending_start_(layout.pending_offset),
        pending_end_(layout.pending_offset + kPendingArrayBytes) {}

  void Read(uint64_t offset, std::span<std::byte> data) override {
    std::fill(data.begin(), data.end(), std::byte{0});
    const Part table = Cut(offset, data.size(), table_start_, table_end_);
    if (table.count != 0) {
      table_->ReadTable(table.offset, data.subspan(table.skip, table.count));
    }
    const Part pending = Cut(offset, data.size(), pending_start_, pending_end_);
    if (pending.count != 0) {
      table_->ReadPending(pending.offset,
                          data.subspan(pending.skip, pending.count));
    }
  }

  void Write(uint64_t offset, std::span<const std::byte> data) override {
    const Part table = Cut(offset, data.size(), table_start_, table_end_);
    if (table.count != 0) {
      table_->WriteTable(table.offset, data.subspan(table.skip, table.count));
    }
  }

 private:
  // The part of an access that falls into a region.
  struct Part {
    uint64_t offset;  // in the region
    size_t skip;      // bytes of the access before it
    size_t count;
  };
  static Part Cut(uint64_t offset, size_t size, uint64_t start, uint64_t end) {
    const uint64_t from = std::max(offset, start);
    const uint64_t to = std::min(offset + size, end);
    if (from >= to) return {};
    return {.offset = from - start,
            .skip = static_cast<size_t>(from - offset),
            .count = static_cast<size_t>(to - from)};
  }

  MsixTable* const table_;
  const uint64_t table_start_;
  const uint64_t table_end_;
  const uint64_t pending_start_;
  const uint64_t pending_end_;
};

struct PciFunction::Bar {
  PciBar bar;
  std::unique_ptr<BarMapping> mapping = nullptr;  // null unless connected
  // All ones were written to the lower or upper half, and nothing since.
  std::array<bool, 2> probing = {};

  uint16_t word() const {
    return static_cast<uint16_t>(WordOf(kBar0) + bar.info.index);
  }
};

PciFunction::PciFunction(std::string id, const PciIdentity& identity,
                         std::vector<PciBar> bars, const MsixLayout& msix)
    : id_(std::move(id)),
      identity_(identity),
      msix_layout_(msix),
      msix_(msix.vectors),
      msix_bar_(std::make_unique<MsixBar>(msix, &msix_)) {
  CheckMsix(msix);
  bars.push_back(
      {.info = {.index = msix.bar, .size_bytes = msix.bar_size_bytes},
       .handler = msix_bar_.get()});
  std::sort(bars.begin(), bars.end(), [](const PciBar& a, const PciBar& b) {
    return a.info.index < b.info.index;
  });
  MutexLock lock(&mutex_);
  for (PciBar& bar : bars) {
    CheckBar(bar);
    VMSG_CHECK(
        bar_infos_.empty() || !TakesIndex(bar_infos_.back(), bar.info.index),
        "two BARs with one index");
    bar_infos_.push_back(bar.info);
    bars_.push_back({.bar = std::move(bar)});
  }
  ResetRegistersLocked();
}

PciFunction::~PciFunction() {
  MutexLock lock(&mutex_);
  VMSG_CHECK(!connected_, "a function was destroyed while connected");
}

absl::Status PciFunction::Connect(PciAddress address, MmioBus* mmio,
                                  InterruptController* interrupts) {
  std::vector<PciBar> wanted;
  {
    MutexLock lock(&mutex_);
    VMSG_CHECK(!connected_, "connected already");
    for (const Bar& bar : bars_) wanted.push_back(bar.bar);
  }
  std::vector<std::unique_ptr<BarMapping>> mappings;
  size_t with_doorbells = 0;
  size_t served = 0;
  for (const PciBar& bar : wanted) {
    absl::StatusOr<std::unique_ptr<BarMapping>> mapping = BarMapping::Create(
        absl::StrCat(id_, " bar", bar.info.index), bar, mmio);
    if (!mapping.ok()) return mapping.status();
    if (!bar.doorbells.empty()) ++with_doorbells;
    if ((*mapping)->has_doorbells()) ++served;
    mappings.push_back(*std::move(mapping));
  }
  if (absl::Status status = msix_.Connect(interrupts, address.requester_id());
      !status.ok()) {
    return status;
  }
  doorbells_bypass_.store(served != 0 && served == with_doorbells);
  MutexLock lock(&mutex_);
  for (size_t i = 0; i < bars_.size(); ++i) {
    bars_[i].mapping = std::move(mappings[i]);
  }
  connected_ = true;
  return absl::OkStatus();
}

void PciFunction::Disconnect() {
  std::vector<std::unique_ptr<BarMapping>> leaving;
  {
    MutexLock lock(&mutex_);
    if (!connected_) return;
    connected_ = false;
    for (Bar& bar : bars_) leaving.push_back(std::move(bar.mapping));
    ResetRegistersLocked();
  }
  dma_gate_.Set(false);
  msix_.SetBusMaster(false);
  leaving.clear();  // Waits for handlers, so without the lock.
  msix_.Disconnect();
  msix_.Reset();
}

void PciFunction::Reset() {
  dma_gate_.Set(false);
  msix_.SetBusMaster(false);
  {
    MutexLock lock(&mutex_);
    ResetRegistersLocked();
  }
  msix_.Reset();
  OnReset();
}

void PciFunction::ResetRegistersLocked() {
  registers_ = {};
  const PciIdentity& id = identity_;
  registers_[WordOf(kVendorId)] =
      id.vendor_id | static_cast<uint32_t>(id.device_id) << 16;
  registers_[WordOf(kCommand)] = kStatusCapabilities;
  registers_[WordOf(kRevision)] = id.revision |
                                  static_cast<uint32_t>(id.prog_if) << 8 |
                                  static_cast<uint32_t>(id.subclass) << 16 |
                                  static_cast<uint32_t>(id.class_code) << 24;
  registers_[WordOf(kSubsystemVendorId)] =
      id.subsystem_vendor_id | static_cast<uint32_t>(id.subsystem_id) << 16;
  registers_[WordOf(kCapabilitiesPointer)] = kMsixCapability;
  // Next pointer 0; the table size is given as one less.
  registers_[WordOf(kMsixCapability)] =
      kMsixCapabilityId | (msix_layout_.vectors - 1) << 16;
  registers_[WordOf(kMsixCapability + kMsixTable)] =
      msix_layout_.table_offset | msix_layout_.bar;
  registers_[WordOf(kMsixCapability + kMsixPending)] =
      msix_layout_.pending_offset | msix_layout_.bar;
  for (Bar& bar : bars_) {
    SetBarAddressLocked(bar, 0);
    PlaceBarLocked(bar);
  }
}

uint32_t PciFunction::ReadConfig(uint16_t offset, uint8_t width) {
  if (!IsServed(offset, width)) return Ones(width);
  MutexLock lock(&mutex_);
  return registers_[WordOf(offset)] >> (8 * (offset & 3)) & Ones(width);
}

void PciFunction::WriteConfig(uint16_t offset, uint8_t width, uint32_t value) {
  if (!IsServed(offset, width)) return;
  const int shift = 8 * (offset & 3);
  MutexLock lock(&mutex_);
  std::optional<Change> change =
      WriteWordLocked(WordOf(offset), value << shift, Ones(width) << shift);
  if (!change.has_value()) return;
  changes_.push_back(*change);
  ++queued_;
  if (applier_ == std::this_thread::get_id()) {
    // A hook or a sink of ours wrote: its caller applies this one too.
    nested_ = queued_;
    return;
  }
  ApplyChangesLocked(queued_);
}

std::optional<PciFunction::Change> PciFunction::WriteWordLocked(
    uint16_t word, uint32_t value, uint32_t byte_mask) {
  uint32_t& reg = registers_[word];
  const auto merged = [&](uint32_t writable) {
    const uint32_t mask = byte_mask & writable;
    return (reg & ~mask) | (value & mask);
  };
  switch (word) {
    case WordOf(kCommand):
      // The error bits of the status half are written with one to clear. This
      // function never sets one, so there is nothing to clear.
      return WriteCommandLocked(merged(kWritableCommand));
    case WordOf(kInterruptLine):
      reg = merged(kInterruptLineMask);
      return std::nullopt;
    case WordOf(kMsixCapability): {
      const uint32_t old = reg;
      reg = merged(uint32_t{kWritableMessageControl} << 16);
      if (reg == old) return std::nullopt;
      return Change{.message_control = static_cast<uint16_t>(reg >> 16)};
    }
    default:
      break;
  }
  if (word >= WordOf(kBar0) && word < WordOf(kBar0) + kMaxBars) {
    const auto index = static_cast<uint8_t>(word - WordOf(kBar0));
    for (Bar& bar : bars_) {
      if (!TakesIndex(bar.bar.info, index)) continue;
      WriteBarLocked(bar, index != bar.bar.info.index, value, byte_mask);
    }
  }
  return std::nullopt;
}

std::optional<PciFunction::Change> PciFunction::WriteCommandLocked(
    uint32_t command) {
  uint32_t& reg = registers_[WordOf(kCommand)];
  const uint32_t changed = reg ^ command;
  reg = command;
  if ((changed & kCommandMemory) != 0) {
    bool placed = true;
    for (Bar& bar : bars_) placed &= PlaceBarLocked(bar);
    if (!placed && DecodingLocked()) {
      reg &= ~kCommandMemory;
      for (Bar& bar : bars_) PlaceBarLocked(bar);
    }
  }
  if ((changed & kCommandBusMaster) == 0) return std::nullopt;
  return Change{.bus_master = (command & kCommandBusMaster) != 0};
}

void PciFunction::WriteBarLocked(Bar& bar, bool high, uint32_t value,
                                 uint32_t byte_mask) {
  const PciBarInfo& info = bar.bar.info;
  const uint64_t size_mask = ~(info.size_bytes - 1);
  const auto writable =
      static_cast<uint32_t>(high ? size_mask >> 32 : size_mask);
  uint32_t& reg = registers_[bar.word() + (high ? 1 : 0)];
  reg = (((reg & ~byte_mask) | (value & byte_mask)) & writable) |
        (high ? 0 : BarFlags(info));
  bar.probing[high ? 1 : 0] = (value & byte_mask) == ~uint32_t{0};
  if (!DecodingLocked() || PlaceBarLocked(bar)) return;
  const std::optional<GuestAddress> base = bar.mapping->base();
  SetBarAddressLocked(bar, base.has_value() ? base->value : 0);
}

uint64_t PciFunction::BarAddressLocked(const Bar& bar) const {
  const uint64_t low = registers_[bar.word()] & ~uint32_t{0xF};
  if (!bar.bar.info.is_64bit) return low;
  return low | uint64_t{registers_[bar.word() + 1]} << 32;
}

void PciFunction::SetBarAddressLocked(Bar& bar, uint64_t address) {
  registers_[bar.word()] =
      static_cast<uint32_t>(address) | BarFlags(bar.bar.info);
  if (bar.bar.info.is_64bit) {
    registers_[bar.word() + 1] = static_cast<uint32_t>(address >> 32);
  }
  bar.probing = {};
}

bool PciFunction::PlaceBarLocked(Bar& bar) {
  if (bar.mapping == nullptr) return true;
  std::optional<GuestAddress> base;
  if (DecodingLocked()) {
    if (bar.probing[0] || bar.probing[1]) return true;
    const uint64_t address = BarAddressLocked(bar);
    if (address != 0) base = GuestAddress{address};
  }
  if (bar.mapping->SetBase(base).ok()) return true;
  bar_refusals_.Add();
  return false;
}

bool PciFunction::DecodingLocked() const {
  return (registers_[WordOf(kCommand)] & kCommandMemory) != 0;
}

void PciFunction::ApplyChangesLocked(uint64_t until) {
  while (applied_ < until) {
    if (applier_.has_value()) {
      change_applied_.Wait(&mutex_);
      continue;
    }
    const Change change = changes_.front();
    changes_.pop_front();
    applier_ = std::this_thread::get_id();
    mutex_.Unlock();
    Apply(change);
    mutex_.Lock();
    applier_.reset();
    ++applied_;
    until = std::max(until, nested_);
    change_applied_.NotifyAll();
  }
}

void PciFunction::Apply(const Change& change) {
  if (change.message_control.has_value()) {
    msix_.SetControl((*change.message_control & kMsixEnable) != 0,
                     (*change.message_control & kMsixFunctionMask) != 0);
  }
  if (change.bus_master.has_value()) {
    dma_gate_.Set(*change.bus_master);
    msix_.SetBusMaster(*change.bus_master);
    OnBusMasterChanged(*change.bus_master);
  }
}

}  // namespace vmsg::vmm
