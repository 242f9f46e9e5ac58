// Reads a boot image that an operator named.

#ifndef VMSG_VMM_BOOT_READ_FILE_H_
#define VMSG_VMM_BOOT_READ_FILE_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace vmsg::vmm {

// The whole content of a regular file of at most `max_bytes`. Blocks. Errors
// name the path:
//   NotFound          no such file.
//   PermissionDenied  may not be read.
//   InvalidArgument   not a regular file (so that a FIFO can't hang the
//   caller),
//                     or larger than `max_bytes`.
//   Internal          reading failed, or the file got shorter meanwhile.
absl::StatusOr<std::vector<std::byte>> ReadFile(const std::string& path,
                                                uint64_t max_bytes);

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BOOT_READ_FILE_H_
