// Any file: LoadElf must end, and what it accepts must be what it promises.

#include <cstdint>
#include <memory>
#include <span>

#include "vmm/base/check.h"
#include "vmm/boot/elf_loader.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/guest_memory.h"

namespace {

using vmsg::vmm::DmaSpace;
using vmsg::vmm::GuestMemory;
using vmsg::vmm::GuestRange;
using vmsg::vmm::MemoryBacking;

constexpr uint64_t kRamStart = 0x100000;
constexpr uint64_t kRamBytes = 0x40000;
constexpr uint64_t kPage = 0x1000;

// RAM between two pages that no segment may touch.
struct Machine {
  Machine() {
    const auto backing =
        MemoryBacking::CreateAnonymous(kRamBytes + 2 * kPage, "fuzz");
    VMSG_CHECK(backing.ok());
    VMSG_CHECK(memory
                   .Add({.range = {{kRamStart - kPage}, kRamBytes + 2 * kPage},
                         .backing = *backing})
                   .ok());
    guard = (*backing)->data();
  }

  GuestMemory memory;
  const std::byte* guard = nullptr;
};

bool AllZero(const std::byte* page) {
  for (uint64_t i = 0; i < kPage; ++i) {
    if (page[i] != std::byte{0}) return false;
  }
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static Machine* const machine = new Machine;
  DmaSpace dma(&machine->memory);
  const auto loaded =
      vmsg::vmm::LoadElf(std::as_bytes(std::span(data, size)),
                         {.limit = {kRamStart + kRamBytes}}, &dma);
  if (loaded.ok()) {
    const GuestRange ram = {{kRamStart}, kRamBytes};
    VMSG_CHECK(ram.Contains(loaded->footprint));
    VMSG_CHECK(loaded->footprint.Contains(loaded->entry));
  } else {
    VMSG_CHECK(!absl::IsInternal(loaded.status()));
  }
  VMSG_CHECK(AllZero(machine->guard));
  VMSG_CHECK(AllZero(machine->guard + kPage + kRamBytes));
  return 0;
}
