// A program of another workspace that speaks vmsg's control API.

#include <chrono>
#include <cstdio>
#include <memory>

#include "grpcpp/grpcpp.h"
#include "proto/vmsg/control/v1alpha1/hotplug.grpc.pb.h"
#include "proto/vmsg/control/v1alpha1/hotplug.pb.h"

int main() {
  namespace api = vmsg::control::v1alpha1;

  // Nobody listens there: the call must come back with that answer.
  const std::shared_ptr<grpc::Channel> channel = grpc::CreateChannel(
      "unix:/nonexistent/vmsg.sock", grpc::InsecureChannelCredentials());
  const auto stub = api::HotplugService::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(30));
  api::ListDevicesRequest request;
  api::ListDevicesResponse response;
  const grpc::Status status = stub->ListDevices(&context, request, &response);
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return 1;

  std::puts("api_client: ok");
  return 0;
}
