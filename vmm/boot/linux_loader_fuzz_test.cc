// Any kernel file: LoadLinux must end, write only where it may, and start the
// guest inside of what it loaded. The first byte decides whether there is an
// initramfs.

#include <cstdint>
#include <span>
#include <vector>

#include "vmm/base/check.h"
#include "vmm/boot/linux_loader.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/guest_memory.h"

namespace {

using vmsg::vmm::CpuState;
using vmsg::vmm::DmaSpace;
using vmsg::vmm::GuestMemory;
using vmsg::vmm::MemoryBacking;

constexpr uint64_t kRamBytes = 4 << 20;
constexpr uint64_t kPage = 0x1000;
constexpr uint64_t kKernelLowest = 0x100000;

// RAM with a page behind it that is mapped and not the guest's.
struct Machine {
  Machine() {
    const auto backing = MemoryBacking::CreateAnonymous(kRamBytes + kPage, "f");
    VMSG_CHECK(backing.ok());
    VMSG_CHECK(
        memory.Add({.range = {{0}, kRamBytes + kPage}, .backing = *backing})
            .ok());
    const auto ram = vmsg::vmm::ComputeRamLayout(kRamBytes);
    VMSG_CHECK(ram.ok());
    boot.map = vmsg::vmm::ComputeMemoryMap(*ram, {});
    boot.command_line = "quiet";
    boot.rsdp = vmsg::vmm::kAcpiArea.start;
    bytes = (*backing)->data();
  }

  bool AllZero(uint64_t at, uint64_t size) const {
    for (uint64_t i = at; i < at + size; ++i) {
      if (bytes[i] != std::byte{0}) return false;
    }
    return true;
  }

  GuestMemory memory;
  vmsg::vmm::LinuxBoot boot;
  const std::byte* bytes = nullptr;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Machine* const machine = new Machine;
  if (size == 0) return 0;
  const std::vector<std::byte> initrd((data[0] & 1) != 0 ? 5000 : 0,
                                      std::byte{0x49});
  const std::span<const std::byte> file =
      std::as_bytes(std::span(data, size)).subspan(1);
  DmaSpace dma(&machine->memory);
  const absl::StatusOr<CpuState> state =
      vmsg::vmm::LoadLinux(file, initrd, machine->boot, &dma);
  if (state.ok()) {
    VMSG_CHECK(state->rip >= kKernelLowest && state->rip < kRamBytes);
    VMSG_CHECK(state->rsi < kKernelLowest && state->rbx < kKernelLowest);
  } else {
    VMSG_CHECK(!absl::IsInternal(state.status()));
  }
  VMSG_CHECK(machine->AllZero(kRamBytes, kPage));
  VMSG_CHECK(machine->AllZero(vmsg::vmm::kAcpiArea.start.value, kPage));
  VMSG_CHECK(machine->AllZero(0xA0000, kPage));
  return 0;
}
