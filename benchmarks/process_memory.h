// What a VMM's process has in memory besides its guest's RAM.

#ifndef VMSG_BENCHMARKS_PROCESS_MEMORY_H_
#define VMSG_BENCHMARKS_PROCESS_MEMORY_H_

#include <cstdint>
#include <string_view>

#include "absl/status/statusor.h"

namespace vmsg::bench {

struct ProcessMemory {
  uint64_t resident_kib = 0;  // shared libraries in full
  // Pages that no file backs: heap, stacks, and what was changed in privately
  // mapped files, relocations for instance.
  uint64_t anonymous_kib = 0;
  uint64_t guest_ram_kib = 0;  // resident, and in neither of the others
};

// Adds up the text of /proc/PID/smaps (proc_pid_smaps(5)). Guest RAM are the
// mappings of memory files named `guest_ram`, see vmm::MemoryBacking.
//
// Errors: InvalidArgument (no smaps, or there is no such mapping: what is left
// out then would be counted).
absl::StatusOr<ProcessMemory> ParseSmaps(std::string_view smaps,
                                         std::string_view guest_ram);

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_PROCESS_MEMORY_H_
