// The bare-metal guest: sets the machine up and runs EntropyProgram on it.

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>

#include "guest/payload/bare_metal/bare_metal_platform.h"
#include "guest/payload/bare_metal/interrupts.h"
#include "guest/payload/bare_metal/serial.h"
#include "guest/payload/entropy_program.h"
#include "vmm/boot/boot_info.h"

namespace vmsg::guest {
namespace {

class SerialConsole final : public Console {
 public:
  void Write(std::span<const char> line) override { WriteSerial(line); }
  bool Read(char* c) override { return ReadSerial(c); }
  bool closed() override { return false; }
  uint64_t sleeps() override { return HaltCount(); }
};

// Nobody runs constructors or destructors of globals here: bytes.
alignas(4096) std::byte arena[1 << 20];
alignas(EntropyProgram) std::byte program_storage[sizeof(EntropyProgram)];

PciSetup ReadBootInfo(const vmm::BootInfo* info) {
  PciSetup setup;
  if (info == nullptr || info->magic != vmm::BootInfo::kMagic ||
      info->version != vmm::BootInfo::kVersion ||
      info->size < offsetof(vmm::BootInfo, command_line)) {
    return setup;
  }
  setup.ecam_base = info->ecam_base;
  setup.window_base = info->pci_window_base;
  setup.window_bytes = info->pci_window_bytes;
  return setup;
}

}  // namespace
}  // namespace vmsg::guest

extern "C" [[noreturn]] void vmsg_main(const vmsg::vmm::BootInfo* info) {
  using namespace vmsg::guest;  // NOLINT: everything here is theirs
  SetUpInterrupts();
  SetUpSerial();
  BareMetalPlatform platform(ReadBootInfo(info), arena);
  SerialConsole console;
  auto* const program =
      new (program_storage) EntropyProgram(&platform, &console);
  PowerOff(program->Run() ? 0 : 1);
}
