// UnixListener: a unix socket that only its owner may use.

#ifndef VMSG_VMM_CONTROL_UNIX_LISTENER_H_
#define VMSG_VMM_CONTROL_UNIX_LISTENER_H_

#include <sys/types.h>

#include <memory>
#include <string>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "vmm/base/log.h"
#include "vmm/base/unique_fd.h"
#include "vmm/event/event_loop.h"

namespace vmsg::control {

// Listens at a path with mode 0600 from the first moment on, and hands on the
// connections of peers whose user is the process's effective user, or root, as
// the kernel reports it (SO_PEERCRED). Others are closed and logged.
//
// Threads: Create and destruction where IsInLoopThread() holds, or while the
// loop does not run. The callback runs on the loop.
class UnixListener {
 public:
  // Gets a connected, non-blocking, close-on-exec socket.
  using ConnectionCallback = absl::AnyInvocable<void(vmm::UniqueFd)>;

  // A socket file that nobody listens on any more is replaced.
  //   InvalidArgument   the path is empty or too long for a socket address.
  //   AlreadyExists     somebody listens there, or the file is no socket.
  //   PermissionDenied, NotFound, ...   as bind(2) says; names the path.
  // `loop` and `log_sink` are borrowed and outlive the listener.
  static absl::StatusOr<std::unique_ptr<UnixListener>> Create(
      const std::string& path, vmm::EventLoop* loop, vmm::LogSink* log_sink,
      ConnectionCallback callback);

  UnixListener(const UnixListener&) = delete;
  UnixListener& operator=(const UnixListener&) = delete;
  // Stops listening and removes the file if it is still this listener's.
  ~UnixListener();

  // Whether a peer with this user may connect.
  static bool IsAllowed(uid_t peer, uid_t self) {
    return peer == self || peer == 0;
  }

 private:
  UnixListener(std::string path, vmm::EventLoop* loop, vmm::LogSink* log_sink,
               vmm::UniqueFd socket, ConnectionCallback callback);

  void Accept();

  const std::string path_;
  vmm::Logger log_;
  const vmm::UniqueFd socket_;
  ConnectionCallback callback_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
  std::unique_ptr<vmm::FdWatch> watch_;
  // Out of descriptors: accept again a little later instead of spinning.
  std::unique_ptr<vmm::Timer> retry_;
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_UNIX_LISTENER_H_
