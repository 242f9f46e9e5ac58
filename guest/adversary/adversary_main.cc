// The image adversary.elf.

#include <cstddef>
#include <new>
#include <span>

#include "guest/adversary/adversary_program.h"
#include "guest/payload/bare_metal/run_guest.h"

namespace vmsg::guest {
namespace {

// An emulated processor on a busy host needs its time.
constexpr BenchOptions kPatient = {.answer_ns = 60'000'000'000,
                                   .silence_ns = 500'000'000};

alignas(AdversaryProgram) std::byte program_storage[sizeof(AdversaryProgram)];

}  // namespace

bool RunGuest(Platform* platform, Console* console,
              std::span<const char> /*command_line*/) {
  return (new (program_storage)
              AdversaryProgram(platform, console, nullptr, kPatient))
      ->Run();
}

}  // namespace vmsg::guest
