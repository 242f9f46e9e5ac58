#include "devices/virtio_msg_amp_pci/register_file.h"

#include <algorithm>

#include "devices/virtio_msg_amp_pci/amp_layout.h"

namespace vmsg::amp {

std::optional<RegisterFile::Register> RegisterFile::Find(uint64_t offset,
                                                         size_t size) const {
  if (size != sizeof(uint32_t) || offset % sizeof(uint32_t) != 0) return {};
  if (offset == kRegVersion) return Register{.value = kVersion};
  if (offset == kRegFeatures) return Register{};
  if (offset < kRegNotify) return {};
  const uint64_t n = (offset - kRegNotify) / kNotifyStride;
  if (n >= doorbells_.size()) return {};
  return Register{.doorbell = &doorbells_[n]};
}

void RegisterFile::Read(uint64_t offset, std::span<std::byte> data) {
  std::fill(data.begin(), data.end(), std::byte{0});
  const std::optional<Register> found = Find(offset, data.size());
  if (!found.has_value()) {
    NoteBadAccess();
    return;
  }
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<std::byte>(found->value >> (8 * i));
  }
}

void RegisterFile::Write(uint64_t offset, std::span<const std::byte> data) {
  const std::optional<Register> found = Find(offset, data.size());
  if (!found.has_value()) {
    NoteBadAccess();
    return;
  }
  if (found->doorbell != nullptr) found->doorbell->Signal();
}

void RegisterFile::NoteBadAccess() {
  bad_accesses_.Add();
  log_->LogGuest(vmm::LogSeverity::kWarning,
                 "an access to BAR 0 was not a 32-bit one to a register");
}

}  // namespace vmsg::amp
