#include "vmm/base/check.h"

#include <cstdio>
#include <cstdlib>
#include <string_view>

namespace vmsg::vmm {

void CheckFailed(const char* file, int line, std::string_view condition,
                 std::string_view detail) {
  // One call, so that the line stays whole beside those of other threads.
  std::fprintf(stderr, "%s:%d: check failed: %.*s%s%.*s\n", file, line,
               static_cast<int>(condition.size()), condition.data(),
               detail.empty() ? "" : ": ", static_cast<int>(detail.size()),
               detail.data());
  std::abort();
}

}  // namespace vmsg::vmm
