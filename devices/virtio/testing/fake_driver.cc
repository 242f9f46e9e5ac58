#include "devices/virtio/testing/fake_driver.h"

#include <vector>

#include "vmm/base/check.h"

namespace vmsg::virtio {
namespace {

void MustBeOk(vmm::DmaResult result) {
  VMSG_CHECK(result == vmm::DmaResult::kOk, "the test's memory is there");
}

}  // namespace

FakeDriver::FakeDriver(const vmm::GuestMemory* memory,
                       const QueueConfig& config, uint64_t bytes,
                       bool event_idx, vmm::DmaTranslator* translator)
    : config_(config),
      event_idx_(event_idx),
      dma_(memory, /*gate=*/nullptr, translator) {
  Write(config.desc, std::vector<std::byte>(bytes));
}

uint16_t FakeDriver::Load(vmm::GuestAddress area, uint64_t offset,
                          std::memory_order order) {
  uint16_t value = 0;
  MustBeOk(dma_.Load16(At(area, offset), order, &value));
  return value;
}

void FakeDriver::Store(vmm::GuestAddress area, uint64_t offset, uint16_t value,
                       std::memory_order order) {
  MustBeOk(dma_.Store16(At(area, offset), value, order));
}

void FakeDriver::Read(vmm::GuestAddress from, std::span<std::byte> to) {
  MustBeOk(dma_.Read(from, to));
}

void FakeDriver::Write(vmm::GuestAddress to, std::span<const std::byte> from) {
  MustBeOk(dma_.Write(to, from));
}

}  // namespace vmsg::virtio
