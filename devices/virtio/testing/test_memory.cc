#include "devices/virtio/testing/test_memory.h"

#include <utility>

#include "vmm/base/check.h"

namespace vmsg::virtio {
namespace {

void AddRegion(vmm::GuestMemory* memory, vmm::GuestAddress start, uint64_t size,
               bool read_only) {
  auto backing = vmm::MemoryBacking::CreateAnonymous(size, "test");
  VMSG_CHECK(backing.ok());
  vmm::MemoryRegion region;
  region.range = {start, size};
  region.read_only = read_only;
  region.backing = *std::move(backing);
  VMSG_CHECK(memory->Add(std::move(region)).ok());
}

}  // namespace

TestMemory::TestMemory() : dma_(&memory_, &gate_), guest_(&memory_) {
  AddRegion(&memory_, kRam, kRamBytes, /*read_only=*/false);
  AddRegion(&memory_, kReadOnly, kReadOnlyBytes, /*read_only=*/true);
  gate_.Set(true);
}

void TestMemory::RemoveRam() {
  VMSG_CHECK(memory_.Remove({kRam, kRamBytes}).ok());
}

void TestMemory::Write(vmm::GuestAddress to,
                       const std::vector<std::byte>& bytes) {
  VMSG_CHECK(guest_.Write(to, bytes) == vmm::DmaResult::kOk);
}

std::vector<std::byte> TestMemory::Read(vmm::GuestAddress from, size_t length) {
  std::vector<std::byte> bytes(length);
  VMSG_CHECK(guest_.Read(from, bytes) == vmm::DmaResult::kOk);
  return bytes;
}

std::vector<std::byte> CountingBytes(size_t length, uint8_t first) {
  std::vector<std::byte> bytes(length);
  for (size_t i = 0; i < length; ++i) {
    bytes[i] = static_cast<std::byte>(first + i);
  }
  return bytes;
}

}  // namespace vmsg::virtio
