#include "vmm/bus/dispatch_bus.h"

#include <bit>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "vmm/base/check.h"
#include "vmm/bus/range_table.h"

namespace vmsg::vmm {

namespace {

// As the MapMemory contract says; a mapping to a guest goes by pages.
constexpr uint64_t kPageBytes = 4096;
// The widest access of a vCPU to memory space, and to port space.
constexpr size_t kMaxMmioWidth = 8;
constexpr size_t kMaxPioWidth = 4;
constexpr uint64_t kLastPort = 0xFFFF;

class TableMapping final : public MmioMapping {
 public:
  TableMapping(std::shared_ptr<RangeTable> table, RangeTable::Entry entry)
      : table_(std::move(table)), entry_(std::move(entry)) {}
  ~TableMapping() override { table_->Withdraw(&entry_); }

  absl::Status SetBase(std::optional<GuestAddress> base) override {
    return table_->Place(&entry_, base);
  }

 private:
  const std::shared_ptr<RangeTable> table_;
  RangeTable::Entry entry_;
};

}  // namespace

DispatchMmioBus::DispatchMmioBus(bool with_doorbells)
    : with_doorbells_(with_doorbells),
      table_(std::make_shared<RangeTable>(UINT64_MAX, kMaxMmioWidth)) {}

DispatchMmioBus::~DispatchMmioBus() = default;

absl::StatusOr<std::unique_ptr<MmioMapping>> DispatchMmioBus::MapHandler(
    std::string name, uint64_t size_bytes, IoHandler* handler) {
  VMSG_CHECK(handler != nullptr);
  if (size_bytes == 0) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is empty", name));
  }
  RangeTable::Entry entry;
  entry.name = std::move(name);
  entry.kind = RangeTable::Kind::kHandler;
  entry.size = size_bytes;
  entry.handler = handler;
  return std::make_unique<TableMapping>(table_, std::move(entry));
}

absl::StatusOr<std::unique_ptr<MmioMapping>> DispatchMmioBus::MapMemory(
    std::string name, std::shared_ptr<const MemoryBacking> backing,
    uint64_t offset, uint64_t size_bytes) {
  VMSG_CHECK(backing != nullptr);
  if (size_bytes == 0 || size_bytes % kPageBytes != 0 ||
      offset % kPageBytes != 0) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: offset 0x%x and size 0x%x have to be multiples of 0x%x, and the "
        "size not 0",
        name, offset, size_bytes, kPageBytes));
  }
  if (offset > backing->size() || size_bytes > backing->size() - offset) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: 0x%x bytes at 0x%x reach past the backing of 0x%x bytes", name,
        size_bytes, offset, backing->size()));
  }
  RangeTable::Entry entry;
  entry.name = std::move(name);
  entry.kind = RangeTable::Kind::kMemory;
  entry.size = size_bytes;
  entry.alignment = kPageBytes;
  entry.backing = std::move(backing);
  entry.backing_offset = offset;
  return std::make_unique<TableMapping>(table_, std::move(entry));
}

absl::StatusOr<std::unique_ptr<MmioMapping>> DispatchMmioBus::MapDoorbell(
    std::string name, uint32_t width_bytes, const EventFd* doorbell) {
  VMSG_CHECK(doorbell != nullptr);
  if (!with_doorbells_) {
    return absl::UnimplementedError(
        absl::StrFormat("%s: this bus has no doorbells", name));
  }
  if (width_bytes > kMaxMmioWidth || !std::has_single_bit(width_bytes)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: a doorbell cannot be %d bytes wide", name, width_bytes));
  }
  RangeTable::Entry entry;
  entry.name = std::move(name);
  entry.kind = RangeTable::Kind::kDoorbell;
  entry.size = width_bytes;
  entry.alignment = width_bytes;
  entry.doorbell = doorbell;
  return std::make_unique<TableMapping>(table_, std::move(entry));
}

bool DispatchMmioBus::Read(GuestAddress address, std::span<std::byte> data) {
  const RangeTable::Outcome outcome = table_->Read(address, data);
  if (outcome.unclaimed) unclaimed_.Add();
  return outcome.claimed;
}

bool DispatchMmioBus::Write(GuestAddress address,
                            std::span<const std::byte> data) {
  const RangeTable::Outcome outcome = table_->Write(address, data);
  if (outcome.unclaimed) unclaimed_.Add();
  return outcome.claimed;
}

DispatchMmioBus::Direct DispatchMmioBus::Translate(GuestRange range) {
  Direct direct;
  direct.data = table_->FindMemory(range, &direct.hold);
  return direct;
}

DispatchPioBus::DispatchPioBus()
    : table_(std::make_shared<RangeTable>(kLastPort, kMaxPioWidth)) {}

DispatchPioBus::~DispatchPioBus() = default;

absl::StatusOr<std::unique_ptr<MmioMapping>> DispatchPioBus::MapHandler(
    std::string name, uint16_t port, uint16_t count, IoHandler* handler) {
  VMSG_CHECK(handler != nullptr);
  if (count == 0) {
    return absl::InvalidArgumentError(absl::StrFormat("%s is empty", name));
  }
  RangeTable::Entry entry;
  entry.name = std::move(name);
  entry.kind = RangeTable::Kind::kHandler;
  entry.size = count;
  entry.handler = handler;
  auto mapping = std::make_unique<TableMapping>(table_, std::move(entry));
  if (absl::Status status = mapping->SetBase(GuestAddress{port});
      !status.ok()) {
    return status;
  }
  return mapping;
}

bool DispatchPioBus::Read(uint16_t port, std::span<std::byte> data) {
  return table_->Read(GuestAddress{port}, data).claimed;
}

bool DispatchPioBus::Write(uint16_t port, std::span<const std::byte> data) {
  return table_->Write(GuestAddress{port}, data).claimed;
}

}  // namespace vmsg::vmm
