// The image payload.elf.

#include <cstddef>
#include <new>
#include <span>

#include "guest/driver/error.h"
#include "guest/payload/bare_metal/run_guest.h"
#include "guest/payload/command_line.h"
#include "guest/payload/entropy_program.h"
#include "guest/payload/line.h"

namespace vmsg::guest {
namespace {

alignas(EntropyProgram) std::byte program_storage[sizeof(EntropyProgram)];

}  // namespace

bool RunGuest(Platform* platform, Console* console,
              std::span<const char> command_line) {
  EntropyProgramOptions options;
  if (ApplyCommandLine(command_line, &options) != Error::kNone) {
    console->Write(Line("error")
                       .Text("what", "command-line")
                       .Text("error", ErrorName(Error::kInvalidArgument))
                       .Finish());
    console->Write(Line("end").Text("result", "fail").Finish());
    return false;
  }
  return (new (program_storage) EntropyProgram(platform, console, options))
      ->Run();
}

}  // namespace vmsg::guest
