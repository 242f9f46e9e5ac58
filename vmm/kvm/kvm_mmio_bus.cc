#include "vmm/kvm/kvm_mmio_bus.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_format.h"
#include "vmm/base/check.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/kvm_memory_slot.h"
#include "vmm/kvm/linux_kvm.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::vmm {
namespace {

constexpr uint32_t kDoorbellBytes = 4;

}  // namespace

// Where the kernel's own devices are. What it does not answer (a disabled local
// APIC) reads as nothing there.
class KvmMmioBus::ReservedHandler final : public IoHandler {
 public:
  void Read(uint64_t, std::span<std::byte> data) override {
    std::fill(data.begin(), data.end(), std::byte{0xFF});
  }
  void Write(uint64_t, std::span<const std::byte>) override {}
};

// Answers what traps in read-only memory: every write, and a read while the
// kernel moves the slot.
class KvmMmioBus::RomHandler final : public IoHandler {
 public:
  RomHandler(std::shared_ptr<const MemoryBacking> backing, uint64_t offset,
             Counter* writes)
      : backing_(std::move(backing)), offset_(offset), writes_(writes) {}

  void Read(uint64_t offset, std::span<std::byte> data) override {
    CopyFromShared(data, backing_->data() + offset_ + offset);
  }
  void Write(uint64_t, std::span<const std::byte>) override { writes_->Add(); }

 private:
  const std::shared_ptr<const MemoryBacking> backing_;
  const uint64_t offset_;
  Counter* const writes_;
};

// One place in the table, and KVM's part of it: a memory slot, an ioeventfd, or
// nothing (what KVM does not know, traps). The table comes first and is always
// right; where KVM fails, it goes back.
class KvmMmioBus::Mapping final : public MmioMapping {
 public:
  struct Parts {
    // Null unless it is what the table calls.
    std::unique_ptr<IoHandler> handler = nullptr;
    // Null unless memory.
    std::unique_ptr<KvmMemorySlot> slot = nullptr;
    const EventFd* doorbell = nullptr;  // null unless a doorbell
    // Last, so that it waits for running calls before the others go.
    std::unique_ptr<MmioMapping> in_table = nullptr;
  };

  Mapping(KvmMmioBus* bus, std::string name, Parts parts)
      : bus_(bus), name_(std::move(name)), parts_(std::move(parts)) {}

  ~Mapping() override {
    // Should the kernel lack the memory for this: the slot's own destructor
    // tries again and then gives up its number, and the kernel keeps an
    // ioeventfd's descriptor by itself.
    SetBase(std::nullopt).IgnoreError();
  }

  absl::Status SetBase(std::optional<GuestAddress> base) override {
    MutexLock lock(&bus_->placement_);
    if (base == base_) return absl::OkStatus();
    absl::Status status = parts_.in_table->SetBase(base);
    if (!status.ok()) return status;
    if (parts_.slot != nullptr) status = parts_.slot->SetBase(base);
    if (parts_.doorbell != nullptr) status = MoveDoorbell(base);
    if (status.ok()) {
      base_ = base;
      return status;
    }
    // The old place is still free: whoever wants it waits for the lock.
    VMSG_CHECK(parts_.in_table->SetBase(base_).ok());
    return status;
  }

 private:
  absl::Status MoveDoorbell(std::optional<GuestAddress> base) {
    // The new one first: a write in between finds one of them.
    absl::Status status;
    if (base.has_value()) status = SetIoEventFd(*base, 0);
    if (!status.ok() || !base_.has_value()) return status;
    status = SetIoEventFd(*base_, KVM_IOEVENTFD_FLAG_DEASSIGN);
    if (!status.ok() && base.has_value()) {
      SetIoEventFd(*base, KVM_IOEVENTFD_FLAG_DEASSIGN).IgnoreError();
    }
    return status;
  }

  absl::Status SetIoEventFd(GuestAddress at, uint32_t flags) {
    kvm_ioeventfd request = {};
    request.addr = at.value;
    request.len = kDoorbellBytes;
    request.fd = parts_.doorbell->fd();
    request.flags = flags;
    const int result = KvmIoctl(bus_->vm_->fd(), KVM_IOEVENTFD, &request);
    if (result == 0) return absl::OkStatus();
    return KvmStatus(absl::StrFormat("%s: KVM_IOEVENTFD at %#x, flags %d",
                                     name_, at.value, flags),
                     -result);
  }

  KvmMmioBus* const bus_;
  const std::string name_;
  const Parts parts_;
  std::optional<GuestAddress> base_;  // under the bus's placement_
};

KvmMmioBus::KvmMmioBus(KvmVm* vm)
    : vm_(vm), reserved_handler_(std::make_unique<ReservedHandler>()) {}

KvmMmioBus::~KvmMmioBus() = default;

absl::StatusOr<std::unique_ptr<KvmMmioBus>> KvmMmioBus::Create(KvmVm* vm) {
  std::unique_ptr<KvmMmioBus> bus(new KvmMmioBus(vm));
  const absl::Status status = bus->Reserve();
  if (!status.ok()) return status;
  return bus;
}

absl::Status KvmMmioBus::Reserve() {
  const struct {
    const char* name;
    GuestRange range;
  } places[] = {
      {"I/O APIC", KvmVm::kIoApic},
      {"local APIC", KvmVm::kLocalApic},
      {"KVM's own pages", KvmVm::kInternal},
  };
  for (const auto& place : places) {
    auto mapping = table_.MapHandler(place.name, place.range.size,
                                     reserved_handler_.get());
    if (!mapping.ok()) return mapping.status();
    const absl::Status status = (*mapping)->SetBase(place.range.start);
    if (!status.ok()) return status;
    reserved_.push_back(*std::move(mapping));
  }
  return absl::OkStatus();
}

absl::Status KvmMmioBus::SyncGuestMemory(const GuestMemory& memory) {
  const std::shared_ptr<const MemoryMap> map = memory.Snapshot();
  const auto same = [](const MemoryRegion& a, const MemoryRegion& b) {
    return a.range == b.range && a.read_only == b.read_only &&
           a.backing == b.backing && a.backing_offset == b.backing_offset;
  };
  MutexLock lock(&guest_memory_mutex_);
  std::erase_if(guest_memory_, [&](const GuestRegion& have) {
    return std::none_of(
        map->regions().begin(), map->regions().end(),
        [&](const MemoryRegion& want) { return same(have.region, want); });
  });
  for (const MemoryRegion& want : map->regions()) {
    if (std::any_of(
            guest_memory_.begin(), guest_memory_.end(),
            [&](const GuestRegion& have) { return same(have.region, want); })) {
      continue;
    }
    auto mapping = MapBacking(
        absl::StrFormat("%s [%#x, +%#x)", want.read_only ? "ROM" : "RAM",
                        want.range.start.value, want.range.size),
        want.backing, want.backing_offset, want.range.size, want.read_only);
    if (!mapping.ok()) return mapping.status();
    const absl::Status status = (*mapping)->SetBase(want.range.start);
    if (!status.ok()) return status;
    guest_memory_.push_back({want, *std::move(mapping)});
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<MmioMapping>> KvmMmioBus::MapHandler(
    std::string name, uint64_t size_bytes, IoHandler* handler) {
  auto in_table = table_.MapHandler(name, size_bytes, handler);
  if (!in_table.ok()) return in_table.status();
  return std::make_unique<Mapping>(
      this, std::move(name), Mapping::Parts{.in_table = *std::move(in_table)});
}

absl::StatusOr<std::unique_ptr<MmioMapping>> KvmMmioBus::MapMemory(
    std::string name, std::shared_ptr<const MemoryBacking> backing,
    uint64_t offset, uint64_t size_bytes) {
  return MapBacking(std::move(name), std::move(backing), offset, size_bytes,
                    /*read_only=*/false);
}

absl::StatusOr<std::unique_ptr<MmioMapping>> KvmMmioBus::MapBacking(
    std::string name, std::shared_ptr<const MemoryBacking> backing,
    uint64_t offset, uint64_t size_bytes, bool read_only) {
  Mapping::Parts parts;
  auto slot =
      KvmMemorySlot::Create(vm_, name, backing, offset, size_bytes, read_only);
  if (!slot.ok()) return slot.status();
  parts.slot = *std::move(slot);

  if (read_only || backing->read_only()) {
    parts.handler =
        std::make_unique<RomHandler>(std::move(backing), offset, &rom_writes_);
    auto in_table = table_.MapHandler(name, size_bytes, parts.handler.get());
    if (!in_table.ok()) return in_table.status();
    parts.in_table = *std::move(in_table);
  } else {
    auto in_table =
        table_.MapMemory(name, std::move(backing), offset, size_bytes);
    if (!in_table.ok()) return in_table.status();
    parts.in_table = *std::move(in_table);
  }
  return std::make_unique<Mapping>(this, std::move(name), std::move(parts));
}

absl::StatusOr<std::unique_ptr<MmioMapping>> KvmMmioBus::MapDoorbell(
    std::string name, uint32_t width_bytes, const EventFd* doorbell) {
  if (width_bytes != kDoorbellBytes) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: a doorbell is %d bytes wide, not %d", name,
                        kDoorbellBytes, width_bytes));
  }
  auto in_table = table_.MapDoorbell(name, width_bytes, doorbell);
  if (!in_table.ok()) return in_table.status();
  return std::make_unique<Mapping>(
      this, std::move(name),
      Mapping::Parts{.doorbell = doorbell, .in_table = *std::move(in_table)});
}

}  // namespace vmsg::vmm
