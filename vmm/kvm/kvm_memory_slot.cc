#include "vmm/kvm/kvm_memory_slot.h"

#include <utility>

#include "absl/strings/str_format.h"
#include "vmm/base/check.h"
#include "vmm/kvm/kvm_ioctl.h"
#include "vmm/kvm/linux_kvm.h"

namespace vmsg::vmm {
namespace {

constexpr uint64_t kPageBytes = 4096;

bool PageAligned(uint64_t value) { return value % kPageBytes == 0; }

}  // namespace

absl::StatusOr<std::unique_ptr<KvmMemorySlot>> KvmMemorySlot::Create(
    KvmVm* vm, std::string name, std::shared_ptr<const MemoryBacking> backing,
    uint64_t offset, uint64_t size_bytes, bool read_only) {
  VMSG_CHECK(backing != nullptr);
  if (size_bytes == 0 || !PageAligned(size_bytes) || !PageAligned(offset)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: memory at offset %#x of size %#x is empty or not in pages of 4096",
        name, offset, size_bytes));
  }
  if (offset > backing->size() || backing->size() - offset < size_bytes) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "%s: [%#x, +%#x) reaches past the %#x bytes of its backing", name,
        offset, size_bytes, backing->size()));
  }
  const absl::StatusOr<uint32_t> number = vm->AllocateSlot();
  if (!number.ok()) return number.status();
  read_only = read_only || backing->read_only();
  return std::unique_ptr<KvmMemorySlot>(
      new KvmMemorySlot(vm, std::move(name), std::move(backing), offset,
                        size_bytes, read_only, *number));
}

KvmMemorySlot::KvmMemorySlot(KvmVm* vm, std::string name,
                             std::shared_ptr<const MemoryBacking> backing,
                             uint64_t offset, uint64_t size_bytes,
                             bool read_only, uint32_t number)
    : vm_(vm),
      name_(std::move(name)),
      backing_(std::move(backing)),
      offset_(offset),
      size_bytes_(size_bytes),
      read_only_(read_only),
      number_(number) {}

KvmMemorySlot::~KvmMemorySlot() {
  if (SetBase(std::nullopt).ok()) {
    vm_->ReleaseSlot(number_);
  } else {
    vm_->AbandonSlot(backing_);
  }
}

absl::Status KvmMemorySlot::SetBase(std::optional<GuestAddress> base) {
  if (base == base_) return absl::OkStatus();
  if (!base.has_value()) {
    absl::Status status = Set(*base_, 0);
    if (status.ok()) base_.reset();
    return status;
  }
  if (!PageAligned(base->value) || !GuestRange{*base, size_bytes_}.IsValid()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s: [%#x, +%#x) wraps, or is not in pages of 4096",
                        name_, base->value, size_bytes_));
  }
  // The kernel moves a slot that it has, and undoes that when it fails.
  absl::Status status = Set(*base, size_bytes_);
  if (status.ok()) base_ = base;
  return status;
}

absl::Status KvmMemorySlot::Set(GuestAddress base, uint64_t size_bytes) {
  kvm_userspace_memory_region region = {};
  region.slot = number_;
  region.flags = read_only_ ? KVM_MEM_READONLY : 0;
  region.guest_phys_addr = base.value;
  region.memory_size = size_bytes;
  region.userspace_addr =
      reinterpret_cast<uint64_t>(backing_->data()) + offset_;
  const int result = KvmIoctl(vm_->fd(), KVM_SET_USER_MEMORY_REGION, &region);
  if (result == 0) return absl::OkStatus();
  return KvmStatus(
      absl::StrFormat("%s: KVM_SET_USER_MEMORY_REGION of slot %d at "
                      "[%#x, +%#x)",
                      name_, number_, base.value, size_bytes),
      -result);
}

}  // namespace vmsg::vmm
