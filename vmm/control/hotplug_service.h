// HotplugService: proto/vmsg/control/v1alpha1/hotplug.proto over a
// DeviceManager.

#ifndef VMSG_VMM_CONTROL_HOTPLUG_SERVICE_H_
#define VMSG_VMM_CONTROL_HOTPLUG_SERVICE_H_

#include <cstddef>
#include <memory>

#include "vmm/control/device_manager.h"

namespace grpc {
class Service;
}

namespace vmsg::control {

// A gRPC service to register with a server of the embedder's (ControlServer is
// one). It uses the callback API: calls are translated, handed to the manager,
// and answered when the manager replies; no thread waits.
//
// Threads: service() and Shutdown() from any one thread, open_calls() from all.
class HotplugService {
 public:
  // Events that a watcher may be behind before its stream is ended.
  static constexpr size_t kMaxQueuedEvents = 256;

  // `manager` is borrowed and outlives the service.
  static std::unique_ptr<HotplugService> Create(DeviceManager* manager);

  HotplugService() = default;
  HotplugService(const HotplugService&) = delete;
  HotplugService& operator=(const HotplugService&) = delete;
  // The server that uses it is gone.
  virtual ~HotplugService() = default;

  virtual grpc::Service* service() = 0;

  // Answers calls that wait with UNAVAILABLE, ends the watch streams, and
  // refuses later ones. Before grpc::Server::Shutdown, which waits for them.
  virtual void Shutdown() = 0;

  // Calls that have not been answered, and watch streams that have not ended.
  virtual size_t open_calls() const = 0;
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_HOTPLUG_SERVICE_H_
