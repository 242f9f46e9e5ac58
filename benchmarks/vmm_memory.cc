// Prints what a running VMM has in memory besides its guest's RAM:
//
//   vmm_memory PID
//
// as `resident_kib=N anonymous_kib=N guest_ram_kib=N`. process_memory.h says
// what these are.

#include <cstdint>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "benchmarks/process_memory.h"

int main(int argc, char** argv) {
  uint32_t pid = 0;
  if (argc != 2 || !absl::SimpleAtoi(argv[1], &pid)) {
    std::fprintf(stderr, "usage: %s PID\n", argv[0]);
    return 2;
  }
  std::ifstream file(absl::StrCat("/proc/", pid, "/smaps"));
  std::stringstream text;
  text << file.rdbuf();
  const auto memory = vmsg::bench::ParseSmaps(text.str(), "guest-ram");
  if (!memory.ok()) {
    std::fprintf(stderr, "vmm_memory: %s\n",
                 std::string(memory.status().message()).c_str());
    return 1;
  }
  std::printf("resident_kib=%ju anonymous_kib=%ju guest_ram_kib=%ju\n",
              static_cast<uintmax_t>(memory->resident_kib),
              static_cast<uintmax_t>(memory->anonymous_kib),
              static_cast<uintmax_t>(memory->guest_ram_kib));
  return 0;
}
