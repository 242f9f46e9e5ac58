// The image adversary.elf.

#include <cstddef>
#include <new>
#include <span>

#include "guest/adversary/adversary_program.h"
#include "guest/payload/bare_metal/run_guest.h"

namespace vmsg::guest {
namespace {

alignas(AdversaryProgram) std::byte program_storage[sizeof(AdversaryProgram)];

}  // namespace

bool RunGuest(Platform* platform, Console* console,
              std::span<const char> /*command_line*/) {
  return (new (program_storage) AdversaryProgram(platform, console, nullptr))
      ->Run();
}

}  // namespace vmsg::guest
