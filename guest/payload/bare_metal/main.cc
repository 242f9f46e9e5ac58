// A bare-metal guest: sets the machine up and runs the image's program on it.

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/payload/bare_metal/bare_metal_platform.h"
#include "guest/payload/bare_metal/interrupts.h"
#include "guest/payload/bare_metal/run_guest.h"
#include "guest/payload/bare_metal/serial.h"
#include "guest/payload/console.h"
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

// What the VMM says beyond PCI, in the parts that it fills.
struct Setup {
  PciSetup pci;
  std::span<const char> command_line;
};

Setup ReadBootInfo(const vmm::BootInfo* info) {
  Setup setup;
  if (info == nullptr || info->magic != vmm::BootInfo::kMagic ||
      info->version != vmm::BootInfo::kVersion ||
      info->size < offsetof(vmm::BootInfo, command_line)) {
    return setup;
  }
  setup.pci.ecam_base = info->ecam_base;
  setup.pci.window_base = info->pci_window_base;
  setup.pci.window_bytes = info->pci_window_bytes;
  constexpr size_t kWithCommandLine =
      offsetof(vmm::BootInfo, command_line_bytes) + sizeof(uint64_t);
  if (info->size >= kWithCommandLine && info->command_line != 0) {
    setup.command_line = {reinterpret_cast<const char*>(info->command_line),
                          info->command_line_bytes};
  }
  return setup;
}

}  // namespace
}  // namespace vmsg::guest

extern "C" [[noreturn]] void vmsg_main(const vmsg::vmm::BootInfo* info) {
  using namespace vmsg::guest;  // NOLINT: everything here is theirs
  SetUpInterrupts();
  SetUpSerial();
  const Setup setup = ReadBootInfo(info);
  SerialConsole console;
  BareMetalPlatform platform(setup.pci, arena);
  PowerOff(RunGuest(&platform, &console, setup.command_line) ? 0 : 1);
}
