// VMSG_CHECK: for invariants of our own code that cannot fail unless the
// program is wrong. Never for what a guest, an operator or the host can cause:
// those are counted guest faults or absl::Status.
//
// A failed check writes one line to standard error and aborts. That is the only
// place where the library writes to standard error on its own.

#ifndef VMSG_VMM_BASE_CHECK_H_
#define VMSG_VMM_BASE_CHECK_H_

#include <string_view>

namespace vmsg::vmm {

[[noreturn]] void CheckFailed(const char* file, int line,
                              std::string_view condition,
                              std::string_view detail);

}  // namespace vmsg::vmm

// Aborts unless `condition` holds. `detail` (optional) is a string that tells
// what was expected; it is evaluated only on failure.
#define VMSG_CHECK(condition, ...)                                        \
  ((condition) ? static_cast<void>(0)                                     \
               : ::vmsg::vmm::CheckFailed(__FILE__, __LINE__, #condition, \
                                          ::std::string_view{__VA_ARGS__}))

#endif  // VMSG_VMM_BASE_CHECK_H_
