#include "vmm/pci/bar_mapping.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace vmsg::vmm {

namespace {

constexpr uint32_t kDoorbellWidth = 4;

}  // namespace

absl::StatusOr<std::unique_ptr<BarMapping>> BarMapping::Create(
    const std::string& name, const PciBar& bar, MmioBus* mmio) {
  absl::StatusOr<std::unique_ptr<MmioMapping>> range =
      bar.memory != nullptr
          ? mmio->MapMemory(name, bar.memory, 0, bar.info.size_bytes)
          : mmio->MapHandler(name, bar.info.size_bytes, bar.handler);
  if (!range.ok()) return range.status();
  std::unique_ptr<BarMapping> made(new BarMapping(*std::move(range)));
  for (const PciDoorbell& doorbell : bar.doorbells) {
    absl::StatusOr<std::unique_ptr<MmioMapping>> mapping = mmio->MapDoorbell(
        absl::StrCat(name, " doorbell ", absl::Hex(doorbell.offset)),
        kDoorbellWidth, doorbell.event);
    if (absl::IsUnimplemented(mapping.status())) {
      made->doorbells_.clear();
      break;
    }
    if (!mapping.ok()) return mapping.status();
    made->doorbells_.push_back({doorbell.offset, *std::move(mapping)});
  }
  return made;
}

absl::Status BarMapping::Place(const Doorbell& doorbell,
                               std::optional<GuestAddress> base) {
  if (base.has_value()) base->value += doorbell.offset;
  return doorbell.mapping->SetBase(base);
}

absl::Status BarMapping::SetBase(std::optional<GuestAddress> base) {
  if (base == base_) return absl::OkStatus();
  // The range goes first. It is what the bus refuses, if anything, and no
  // doorbell of ours ever stands in somebody else's range.
  absl::Status status = range_->SetBase(base);
  if (!status.ok()) return status;
  size_t moved = 0;
  for (; moved < doorbells_.size(); ++moved) {
    status = Place(doorbells_[moved], base);
    if (!status.ok()) break;
  }
  if (status.ok()) {
    base_ = base;
    return status;
  }
  bool is_back = range_->SetBase(base_).ok();
  for (size_t i = 0; i < moved && is_back; ++i) {
    is_back = Place(doorbells_[i], base_).ok();
  }
  if (!is_back) {
    base_.reset();
    for (const Doorbell& doorbell : doorbells_) {
      Place(doorbell, std::nullopt).IgnoreError();
    }
    range_->SetBase(std::nullopt).IgnoreError();
  }
  return status;
}

}  // namespace vmsg::vmm
