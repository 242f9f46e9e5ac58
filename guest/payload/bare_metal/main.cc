// The bare-metal guest: sets the machine up and runs EntropyProgram on it.

#include <cstddef>
#include <cstdint>
#include <new>
#include <span>

#include "guest/driver/error.h"
#include "guest/payload/bare_metal/bare_metal_platform.h"
#include "guest/payload/bare_metal/interrupts.h"
#include "guest/payload/bare_metal/serial.h"
#include "guest/payload/command_line.h"
#include "guest/payload/entropy_program.h"
#include "guest/payload/line.h"
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
  EntropyProgramOptions options;
  if (ApplyCommandLine(setup.command_line, &options) != Error::kNone) {
    console.Write(Line("error")
                      .Text("what", "command-line")
                      .Text("error", ErrorName(Error::kInvalidArgument))
                      .Finish());
    console.Write(Line("end").Text("result", "fail").Finish());
    PowerOff(1);
  }
  BareMetalPlatform platform(setup.pci, arena);
  auto* const program =
      new (program_storage) EntropyProgram(&platform, &console, options);
  PowerOff(program->Run() ? 0 : 1);
}
