#include "vmm/kvm/kvm_vm.h"

#include <fcntl.h>

#include <array>
#include <cerrno>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/check.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/linux_kvm.h"

namespace vmsg::vmm {
namespace {

constexpr std::array<uint32_t, 3> kChips = {
    KVM_IRQCHIP_PIC_MASTER, KVM_IRQCHIP_PIC_SLAVE, KVM_IRQCHIP_IOAPIC};

constexpr uint32_t kIrqLines = 24;  // the I/O APIC's

// Without one of these nothing in this package works. All are in every kernel
// since 4.11.
constexpr struct {
  int capability;
  std::string_view name;
} kRequired[] = {
    {KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},
    {KVM_CAP_SET_TSS_ADDR, "KVM_CAP_SET_TSS_ADDR"},
    {KVM_CAP_SET_IDENTITY_MAP_ADDR, "KVM_CAP_SET_IDENTITY_MAP_ADDR"},
    {KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    {KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},
    {KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
    {KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},
    {KVM_CAP_READONLY_MEM, "KVM_CAP_READONLY_MEM"},
    {KVM_CAP_EXT_CPUID, "KVM_CAP_EXT_CPUID"},
    {KVM_CAP_VCPU_EVENTS, "KVM_CAP_VCPU_EVENTS"},
    {KVM_CAP_DEBUGREGS, "KVM_CAP_DEBUGREGS"},
    {KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
};

}  // namespace

struct KvmVm::ChipState {
  std::array<kvm_irqchip, kChips.size()> chips;
  kvm_pit_state2 pit;
};

KvmVm::KvmVm() = default;
KvmVm::~KvmVm() = default;

absl::StatusOr<std::unique_ptr<KvmVm>> KvmVm::Create(const Options& options) {
  std::unique_ptr<KvmVm> vm(new KvmVm);
  absl::Status status = vm->Open(options);
  if (status.ok()) status = vm->CheckCapabilities();
  if (status.ok()) status = vm->CreateVm(options);
  if (status.ok()) status = vm->SaveChips();
  if (!status.ok()) return status;
  return vm;
}

bool KvmVm::CannotBeOpened(const absl::Status& status) {
  return absl::IsNotFound(status) || absl::IsUnavailable(status);
}

absl::Status KvmVm::Open(const Options& options) {
  int fd;
  do {
    fd = open(options.device.c_str(), O_RDWR | O_CLOEXEC);
  } while (fd < 0 && errno == EINTR);
  system_.reset(fd);
  if (fd >= 0) return absl::OkStatus();

  const int error = errno;
  const std::string text = absl::StrCat("opening ", options.device, ": ",
                                        std::generic_category().message(error));
  switch (error) {
    case ENOENT:
    case ENOTDIR:
      return absl::NotFoundError(text);
    case EMFILE:
    case ENFILE:
    case ENOMEM:
      return absl::ResourceExhaustedError(text);
    default:
      return absl::UnavailableError(text);
  }
}

absl::Status KvmVm::CheckCapabilities() {
  const int version = KvmIoctl(system_.get(), KVM_GET_API_VERSION);
  if (version != KVM_API_VERSION) {
    return absl::UnimplementedError(
        absl::StrCat("this is no KVM with API version ", KVM_API_VERSION,
                     ": KVM_GET_API_VERSION says ", version));
  }
  const auto extension = [this](int capability) {
    return KvmIoctl(system_.get(), KVM_CHECK_EXTENSION,
                    static_cast<uint64_t>(capability));
  };
  for (const auto& required : kRequired) {
    if (extension(required.capability) > 0) continue;
    return absl::UnimplementedError(
        absl::StrCat("KVM lacks ", std::string(required.name)));
  }
  limits_.memory_slots = static_cast<uint32_t>(extension(KVM_CAP_NR_MEMSLOTS));
  limits_.gsi_routes = static_cast<uint32_t>(extension(KVM_CAP_IRQ_ROUTING));
  limits_.vcpus = static_cast<uint32_t>(extension(KVM_CAP_MAX_VCPUS));
  return absl::OkStatus();
}

absl::Status KvmVm::CreateVm(const Options& options) {
  const int fd = KvmIoctl(system_.get(), KVM_CREATE_VM);
  if (fd < 0) return KvmStatus("KVM_CREATE_VM", -fd);
  vm_.reset(fd);
  limits_.msi_requester_id = CheckExtension(KVM_CAP_MSI_DEVID) > 0;

  const uint64_t identity_map = kInternal.start.value;
  int result = KvmIoctl(fd, KVM_SET_IDENTITY_MAP_ADDR, &identity_map);
  if (result < 0) return KvmStatus("KVM_SET_IDENTITY_MAP_ADDR", -result);
  result = KvmIoctl(fd, KVM_SET_TSS_ADDR, identity_map + 0x1000);
  if (result < 0) return KvmStatus("KVM_SET_TSS_ADDR", -result);
  result = KvmIoctl(fd, KVM_CREATE_IRQCHIP);
  if (result < 0) return KvmStatus("KVM_CREATE_IRQCHIP", -result);
  if (options.with_pit) {
    kvm_pit_config config = {};
    config.flags = KVM_PIT_SPEAKER_DUMMY;
    result = KvmIoctl(fd, KVM_CREATE_PIT2, &config);
    if (result < 0) return KvmStatus("KVM_CREATE_PIT2", -result);
    with_pit_ = true;
  }
  return absl::OkStatus();
}

absl::Status KvmVm::SaveChips() {
  chips_ = std::make_unique<ChipState>();
  for (size_t i = 0; i < kChips.size(); ++i) {
    chips_->chips[i] = {};
    chips_->chips[i].chip_id = kChips[i];
    const int result = KvmIoctl(fd(), KVM_GET_IRQCHIP, &chips_->chips[i]);
    if (result < 0) return KvmStatus("KVM_GET_IRQCHIP", -result);
  }
  if (with_pit_) {
    const int result = KvmIoctl(fd(), KVM_GET_PIT2, &chips_->pit);
    if (result < 0) return KvmStatus("KVM_GET_PIT2", -result);
  }
  return absl::OkStatus();
}

absl::Status KvmVm::Reset() {
  for (const kvm_irqchip& chip : chips_->chips) {
    const int result = KvmIoctl(fd(), KVM_SET_IRQCHIP, &chip);
    if (result < 0) return KvmStatus("KVM_SET_IRQCHIP", -result);
  }
  if (with_pit_) {
    const int result = KvmIoctl(fd(), KVM_SET_PIT2, &chips_->pit);
    if (result < 0) return KvmStatus("KVM_SET_PIT2", -result);
  }
  return absl::OkStatus();
}

// NOLINTNEXTLINE(readability-make-member-function-const): it changes the VM.
absl::Status KvmVm::SetIrqLine(uint32_t gsi, bool high) {
  if (gsi >= kIrqLines) {
    return absl::InvalidArgumentError(
        absl::StrCat("there is no interrupt line ", gsi));
  }
  kvm_irq_level line = {};
  line.irq = gsi;
  line.level = high ? 1 : 0;
  const int result = KvmIoctl(fd(), KVM_IRQ_LINE, &line);
  if (result < 0) return KvmStatus("KVM_IRQ_LINE", -result);
  return absl::OkStatus();
}

int KvmVm::CheckExtension(int capability) const {
  const int result =
      KvmIoctl(fd(), KVM_CHECK_EXTENSION, static_cast<uint64_t>(capability));
  return result < 0 ? 0 : result;
}

absl::StatusOr<uint32_t> KvmVm::AllocateSlot() {
  MutexLock lock(&mutex_);
  if (!free_slots_.empty()) {
    const uint32_t slot = free_slots_.back();
    free_slots_.pop_back();
    return slot;
  }
  if (next_slot_ >= limits_.memory_slots) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "all ", limits_.memory_slots, " memory slots of the VM are in use"));
  }
  return next_slot_++;
}

void KvmVm::ReleaseSlot(uint32_t slot) {
  MutexLock lock(&mutex_);
  VMSG_CHECK(slot < next_slot_);
  free_slots_.push_back(slot);
}

void KvmVm::AbandonSlot(std::shared_ptr<const MemoryBacking> backing) {
  MutexLock lock(&mutex_);
  abandoned_.push_back(std::move(backing));
}

}  // namespace vmsg::vmm
