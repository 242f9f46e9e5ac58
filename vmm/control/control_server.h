// ControlServer: a gRPC server with the HotplugService on a unix socket.

#ifndef VMSG_VMM_CONTROL_CONTROL_SERVER_H_
#define VMSG_VMM_CONTROL_CONTROL_SERVER_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "vmm/base/log.h"
#include "vmm/control/device_manager.h"
#include "vmm/event/event_loop.h"

namespace vmsg::control {

struct ControlServerOptions {
  std::string socket_path;  // see UnixListener for who may connect
  bool reflection = false;  // offer the API's description to generic clients
};

// For embedders without a gRPC server of their own. The standard health service
// is on. gRPC brings threads of its own, and settings of the whole process:
// servers that are made later have the health service too, and with
// `reflection` that service.
//
// It takes tens of milliseconds to start: start it beside the VM, not before
// it.
//
// Threads: Start and destruction on the thread that runs `control_loop`, or
// while nobody runs it.
class ControlServer {
 public:
  // Everything is borrowed and outlives the server. Errors are UnixListener's;
  // Internal when gRPC does not start.
  static absl::StatusOr<std::unique_ptr<ControlServer>> Start(
      const ControlServerOptions& options, DeviceManager* manager,
      vmm::EventLoop* control_loop, vmm::LogSink* log_sink);

  ControlServer() = default;
  ControlServer(const ControlServer&) = delete;
  ControlServer& operator=(const ControlServer&) = delete;
  // Ends all calls, answers those that wait with UNAVAILABLE, and closes the
  // connections.
  virtual ~ControlServer() = default;
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_CONTROL_SERVER_H_
