#include "vmm/kvm/kvm_interrupt_controller.h"

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstring>
#include <utility>

#include "absl/strings/str_format.h"
#include "vmm/base/check.h"
#include "vmm/base/event_fd.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/linux_kvm.h"

namespace vmsg::vmm {
namespace {

// The pins of the I/O APIC; the first 16 are also those of the two PICs, as KVM
// routes them by itself.
constexpr uint32_t kIoApicPins = 24;
constexpr uint32_t kPicPins = 16;
constexpr uint32_t kPinsPerPic = 8;
constexpr uint32_t kPinRoutes = kIoApicPins + kPicPins;
constexpr uint32_t kFirstMsiGsi = kIoApicPins;

kvm_irq_routing_entry PinEntry(uint32_t gsi, uint32_t chip, uint32_t pin) {
  kvm_irq_routing_entry entry = {};
  entry.gsi = gsi;
  entry.type = KVM_IRQ_ROUTING_IRQCHIP;
  entry.u.irqchip.irqchip = chip;
  entry.u.irqchip.pin = pin;
  return entry;
}

void AddPins(std::vector<kvm_irq_routing_entry>* table) {
  for (uint32_t gsi = 0; gsi < kIoApicPins; ++gsi) {
    table->push_back(PinEntry(gsi, KVM_IRQCHIP_IOAPIC, gsi));
    if (gsi >= kPicPins) continue;
    const uint32_t pic =
        gsi < kPinsPerPic ? KVM_IRQCHIP_PIC_MASTER : KVM_IRQCHIP_PIC_SLAVE;
    table->push_back(PinEntry(gsi, pic, gsi % kPinsPerPic));
  }
}

}  // namespace

class KvmInterruptController::Route final : public MsiRoute {
 public:
  Route(KvmInterruptController* controller, uint32_t gsi, EventFd trigger)
      : controller_(controller), gsi_(gsi), trigger_(std::move(trigger)) {}

  ~Route() override {
    if (bound_) SetIrqFd(KVM_IRQFD_FLAG_DEASSIGN).IgnoreError();
    controller_->Release(gsi_);
  }

  absl::Status Bind() {
    absl::Status status = SetIrqFd(0);
    bound_ = status.ok();
    return status;
  }

  absl::Status Update(const MsiMessage& message) override {
    if (message.address < kMsiBase || message.address - kMsiBase >= kMsiSize) {
      return absl::InvalidArgumentError(
          absl::StrFormat("no local APIC takes messages at %#x (requester %#x)",
                          message.address, message.requester_id));
    }
    absl::Status status = controller_->SetMessage(gsi_, message);
    if (status.ok()) has_message_.store(true, std::memory_order_release);
    return status;
  }

  absl::Status Trigger() override {
    if (!has_message_.load(std::memory_order_acquire)) {
      return absl::FailedPreconditionError("the MSI route has no message yet");
    }
    trigger_.Signal();
    return absl::OkStatus();
  }

 private:
  absl::Status SetIrqFd(uint32_t flags) {
    kvm_irqfd request = {};
    request.fd = static_cast<uint32_t>(trigger_.fd());
    request.gsi = gsi_;
    request.flags = flags;
    const int result = KvmIoctl(controller_->vm_->fd(), KVM_IRQFD, &request);
    if (result == 0) return absl::OkStatus();
    return KvmStatus(absl::StrFormat("KVM_IRQFD of GSI %d", gsi_), -result);
  }

  KvmInterruptController* const controller_;
  const uint32_t gsi_;
  const EventFd trigger_;
  bool bound_ = false;
  std::atomic<bool> has_message_{false};
};

KvmInterruptController::KvmInterruptController(KvmVm* vm)
    : vm_(vm),
      max_msi_routes_(vm->limits().gsi_routes -
                      std::min(vm->limits().gsi_routes, kPinRoutes)) {}

KvmInterruptController::~KvmInterruptController() {
  MutexLock lock(&mutex_);
  VMSG_CHECK(std::none_of(entries_.begin(), entries_.end(),
                          [](const Entry& entry) { return entry.in_use; }),
             "an MSI route outlives its controller");
}

absl::StatusOr<std::unique_ptr<MsiRoute>>
KvmInterruptController::CreateMsiRoute() {
  absl::StatusOr<EventFd> trigger = EventFd::Create();
  if (!trigger.ok()) return trigger.status();
  uint32_t index = 0;
  {
    MutexLock lock(&mutex_);
    const auto free =
        std::find_if(entries_.begin(), entries_.end(),
                     [](const Entry& entry) { return !entry.in_use; });
    index = static_cast<uint32_t>(free - entries_.begin());
    if (index >= max_msi_routes_) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "all %d MSI routes of the VM are in use", max_msi_routes_));
    }
    if (free == entries_.end()) entries_.emplace_back();
    entries_[index].in_use = true;
  }
  auto route =
      std::make_unique<Route>(this, kFirstMsiGsi + index, *std::move(trigger));
  const absl::Status status = route->Bind();
  if (!status.ok()) return status;
  return route;
}

absl::Status KvmInterruptController::SetMessage(uint32_t gsi,
                                                const MsiMessage& message) {
  MutexLock lock(&mutex_);
  Entry& entry = entries_[gsi - kFirstMsiGsi];
  if (entry.message == message) return absl::OkStatus();
  const std::optional<MsiMessage> old = std::exchange(entry.message, message);
  absl::Status status = WriteTableLocked();
  if (!status.ok()) entry.message = old;
  return status;
}

void KvmInterruptController::Release(uint32_t gsi) {
  // The kernel's entry stays until the table is next replaced. Nothing can
  // raise it: its irqfd is gone.
  MutexLock lock(&mutex_);
  entries_[gsi - kFirstMsiGsi] = Entry{};
}

absl::Status KvmInterruptController::WriteTableLocked() {
  std::vector<kvm_irq_routing_entry> table;
  table.reserve(kPinRoutes + entries_.size());
  AddPins(&table);
  for (size_t i = 0; i < entries_.size(); ++i) {
    if (!entries_[i].message.has_value()) continue;
    const MsiMessage& message = *entries_[i].message;
    kvm_irq_routing_entry entry = {};
    entry.gsi = kFirstMsiGsi + static_cast<uint32_t>(i);
    entry.type = KVM_IRQ_ROUTING_MSI;
    entry.u.msi.address_lo = static_cast<uint32_t>(message.address);
    entry.u.msi.address_hi = static_cast<uint32_t>(message.address >> 32);
    entry.u.msi.data = message.data;
    if (vm_->limits().msi_requester_id) {
      entry.flags = KVM_MSI_VALID_DEVID;
      entry.u.msi.devid = message.requester_id;
    }
    table.push_back(entry);
  }

  // A header, and the entries right behind it.
  kvm_irq_routing header = {};
  header.nr = static_cast<uint32_t>(table.size());
  const size_t table_bytes = table.size() * sizeof(table[0]);
  std::vector<uint64_t> request((sizeof(header) + table_bytes) /
                                sizeof(uint64_t));
  static_assert(sizeof(header) % sizeof(uint64_t) == 0);
  static_assert(sizeof(table[0]) % sizeof(uint64_t) == 0);
  std::memcpy(request.data(), &header, sizeof(header));
  std::memcpy(request.data() + sizeof(header) / sizeof(uint64_t), table.data(),
              table_bytes);
  const int result = KvmIoctl(vm_->fd(), KVM_SET_GSI_ROUTING, request.data());
  if (result < 0) return KvmStatus("KVM_SET_GSI_ROUTING", -result);
  ++table_updates_;
  return absl::OkStatus();
}

uint64_t KvmInterruptController::table_updates() const {
  MutexLock lock(&mutex_);
  return table_updates_;
}

}  // namespace vmsg::vmm
