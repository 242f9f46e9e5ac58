#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

// A number that was read comes out the same when it is written and read again.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  uint64_t first = 0;
  uint64_t second = 0;
  if (absl::SimpleAtoi(text, &first) &&
      (!absl::SimpleAtoi(absl::StrCat(first), &second) || first != second)) {
    std::abort();
  }
  return 0;
}
