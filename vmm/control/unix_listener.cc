#include "vmm/control/unix_listener.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace vmsg::control {
namespace {

constexpr int kBacklog = 16;
constexpr vmm::Duration kRetryAfter = std::chrono::milliseconds(100);

absl::Status PathError(const char* what, const std::string& path) {
  return absl::ErrnoToStatus(errno, absl::StrCat(what, " ", path));
}

vmm::UniqueFd NewSocket() {
  return vmm::UniqueFd(
      socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
}

// Removes a socket file that a listener which is gone left behind.
absl::Status RemoveStale(const std::string& path, const sockaddr_un& address) {
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) {
    if (errno == ENOENT) return absl::OkStatus();
    return PathError("cannot look at", path);
  }
  if (!S_ISSOCK(info.st_mode)) {
    return absl::AlreadyExistsError(
        absl::StrCat(path, " exists and is no socket"));
  }
  const vmm::UniqueFd probe = NewSocket();
  if (!probe.valid()) return PathError("cannot make a socket for", path);
  if (connect(probe.get(), reinterpret_cast<const sockaddr*>(&address),
              sizeof(address)) == 0 ||
      errno != ECONNREFUSED) {
    return absl::AlreadyExistsError(
        absl::StrCat("another process listens on ", path));
  }
  if (unlink(path.c_str()) != 0 && errno != ENOENT) {
    return PathError("cannot remove the stale socket", path);
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<UnixListener>> UnixListener::Create(
    const std::string& path, vmm::EventLoop* loop, vmm::LogSink* log_sink,
    ConnectionCallback callback) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof(address.sun_path) ||
      path.find('\0') != std::string::npos) {
    return absl::InvalidArgumentError(absl::StrCat(
        "socket path must have 1 to ", sizeof(address.sun_path) - 1,
        " characters: \"", path, "\""));
  }
  std::memcpy(address.sun_path, path.data(), path.size());

  if (absl::Status status = RemoveStale(path, address); !status.ok()) {
    return status;
  }
  vmm::UniqueFd socket = NewSocket();
  if (!socket.valid()) return PathError("cannot make a socket for", path);
  // Linux gives the file the mode of the socket's own inode, so there is no
  // moment at which others could connect, and the process's umask stays.
  if (fchmod(socket.get(), S_IRUSR | S_IWUSR) != 0) {
    return PathError("cannot set the mode of", path);
  }
  if (bind(socket.get(), reinterpret_cast<const sockaddr*>(&address),
           sizeof(address)) != 0) {
    return PathError("cannot listen on", path);
  }
  std::unique_ptr<UnixListener> listener(new UnixListener(
      path, loop, log_sink, std::move(socket), std::move(callback)));
  struct stat info;
  if (lstat(path.c_str(), &info) != 0) return PathError("cannot look at", path);
  listener->device_ = info.st_dev;
  listener->inode_ = info.st_ino;
  if (listen(listener->socket_.get(), kBacklog) != 0) {
    return PathError("cannot listen on", path);
  }
  UnixListener* const self = listener.get();
  absl::StatusOr<std::unique_ptr<vmm::FdWatch>> watch =
      loop->Watch(self->socket_.get(), vmm::FdEvents::kReadable,
                  [self](vmm::FdEvents) { self->Accept(); });
  if (!watch.ok()) return watch.status();
  listener->watch_ = std::move(*watch);
  listener->retry_ = loop->CreateTimer(
      [self] { self->watch_->SetEvents(vmm::FdEvents::kReadable); });
  return listener;
}

UnixListener::UnixListener(std::string path, vmm::EventLoop* loop,
                           vmm::LogSink* log_sink, vmm::UniqueFd socket,
                           ConnectionCallback callback)
    : path_(std::move(path)),
      log_(log_sink, &loop->clock(), "control"),
      socket_(std::move(socket)),
      callback_(std::move(callback)) {}

UnixListener::~UnixListener() {
  watch_.reset();
  struct stat info;
  if (lstat(path_.c_str(), &info) == 0 && info.st_dev == device_ &&
      info.st_ino == inode_) {
    unlink(path_.c_str());
  }
}

void UnixListener::Accept() {
  vmm::UniqueFd peer(
      accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (!peer.valid()) {
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
        errno == ENOMEM) {
      log_.LogGuest(vmm::LogSeverity::kWarning,
                    "cannot accept a connection: no descriptor or memory");
      watch_->SetEvents(vmm::FdEvents::kNone);
      retry_->Arm(kRetryAfter);
    }
    return;
  }
  ucred credentials = {};
  socklen_t length = sizeof(credentials);
  if (getsockopt(peer.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &length) !=
          0 ||
      !IsAllowed(credentials.uid, geteuid())) {
    log_.LogGuest(vmm::LogSeverity::kWarning,
                  "refused a connection of another user");
    return;
  }
  callback_(std::move(peer));
}

}  // namespace vmsg::control
