#include "benchmarks/process_memory.h"

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace vmsg::bench {
namespace {

// "Rss:      123 kB" or the like: the number, 0 for another field.
uint64_t FieldKib(absl::string_view line, absl::string_view name) {
  const std::vector<absl::string_view> words =
      absl::StrSplit(line, ' ', absl::SkipEmpty());
  uint64_t kib = 0;
  if (words.size() != 3 || words[0] != name || words[2] != "kB" ||
      !absl::SimpleAtoi(words[1], &kib)) {
    return 0;
  }
  return kib;
}

// A mapping begins with its addresses, all others with "Name:".
bool BeginsMapping(absl::string_view line) {
  const absl::string_view first = line.substr(0, line.find(' '));
  return absl::StrContains(first, '-') && !absl::EndsWith(first, ":");
}

}  // namespace

absl::StatusOr<ProcessMemory> ParseSmaps(std::string_view smaps,
                                         std::string_view guest_ram) {
  const std::string ram_file =
      absl::StrCat(" /memfd:", std::string(guest_ram), " (deleted)");
  ProcessMemory memory;
  bool in_ram = false;
  bool has_ram = false;
  for (absl::string_view line :
       absl::StrSplit(absl::string_view(smaps.data(), smaps.size()), '\n')) {
    if (BeginsMapping(line)) {
      in_ram = absl::EndsWith(line, ram_file);
      has_ram = has_ram || in_ram;
      continue;
    }
    const uint64_t resident = FieldKib(line, "Rss:");
    if (in_ram) {
      memory.guest_ram_kib += resident;
    } else {
      memory.resident_kib += resident;
      memory.anonymous_kib += FieldKib(line, "Anonymous:");
    }
  }
  if (!has_ram) {
    return absl::InvalidArgumentError(
        absl::StrCat("no mapping of", ram_file, ": not a VMM's smaps"));
  }
  return memory;
}

}  // namespace vmsg::bench
