#include "vmm/boot/read_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/unique_fd.h"

namespace vmsg::vmm {
namespace {

absl::Status ErrnoStatus(const std::string& path, int error) {
  const std::string text = absl::StrCat(path, ": ", strerror(error));
  if (error == ENOENT || error == ENOTDIR) return absl::NotFoundError(text);
  if (error == EACCES || error == EPERM) {
    return absl::PermissionDeniedError(text);
  }
  return absl::InternalError(text);
}

}  // namespace

absl::StatusOr<std::vector<std::byte>> ReadFile(const std::string& path,
                                                uint64_t max_bytes) {
  // O_NONBLOCK: opening a FIFO without a writer would wait for one.
  const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd.valid()) return ErrnoStatus(path, errno);
  struct stat info;
  if (fstat(fd.get(), &info) != 0) return ErrnoStatus(path, errno);
  if (!S_ISREG(info.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no regular file"));
  }
  const uint64_t size = static_cast<uint64_t>(info.st_size);
  if (size > max_bytes) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": ", size, " bytes, more than the limit of ", max_bytes));
  }

  std::vector<std::byte> content(size);
  size_t done = 0;
  while (done < content.size()) {
    const ssize_t got =
        read(fd.get(), content.data() + done, content.size() - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return ErrnoStatus(path, errno);
    if (got == 0) {
      return absl::InternalError(
          absl::StrCat(path, ": got shorter while it was read"));
    }
    done += static_cast<size_t>(got);
  }
  return content;
}

}  // namespace vmsg::vmm
