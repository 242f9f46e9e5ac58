#include "vmm/control/control_server.h"

#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_posix.h>

#include <chrono>
#include <utility>

#include "absl/status/status.h"
#include "vmm/control/hotplug_service.h"
#include "vmm/control/unix_listener.h"

namespace vmsg::control {
namespace {

// How long open calls get to send their last message.
constexpr auto kShutdownGrace = std::chrono::milliseconds(500);

class ControlServerImpl final : public ControlServer {
 public:
  explicit ControlServerImpl(DeviceManager* manager)
      : service_(HotplugService::Create(manager)) {}

  ~ControlServerImpl() override {
    listener_.reset();
    service_->Shutdown();
    if (server_ != nullptr) {
      server_->Shutdown(std::chrono::system_clock::now() + kShutdownGrace);
    }
  }

  absl::Status Start(const ControlServerOptions& options,
                     vmm::EventLoop* control_loop, vmm::LogSink* log_sink) {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::ServerBuilder builder;
    builder.RegisterService(service_->service());
    server_ = builder.BuildAndStart();
    if (server_ == nullptr) {
      return absl::InternalError("cannot start the gRPC server");
    }
    absl::StatusOr<std::unique_ptr<UnixListener>> listener =
        UnixListener::Create(options.socket_path, control_loop, log_sink,
                             [this](vmm::UniqueFd peer) {
                               grpc::AddInsecureChannelFromFd(server_.get(),
                                                              peer.release());
                             });
    if (!listener.ok()) return listener.status();
    listener_ = std::move(*listener);
    return absl::OkStatus();
  }

 private:
  const std::unique_ptr<HotplugService> service_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<UnixListener> listener_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ControlServer>> ControlServer::Start(
    const ControlServerOptions& options, DeviceManager* manager,
    vmm::EventLoop* control_loop, vmm::LogSink* log_sink) {
  // gRPC offers reflection process-wide, for servers that are built after this.
  if (options.reflection)
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  auto server = std::make_unique<ControlServerImpl>(manager);
  if (absl::Status status = server->Start(options, control_loop, log_sink);
      !status.ok()) {
    return status;
  }
  return server;
}

}  // namespace vmsg::control
