#include <stdlib.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>

#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "gtest/gtest.h"
#include "tests/toolchain/echo.grpc.pb.h"
#include "tests/toolchain/echo_message.pb.h"

namespace vmsg {
namespace {

using toolchain::Echo;
using toolchain::EchoMessage;

class EchoService final : public Echo::CallbackService {
 public:
  grpc::ServerUnaryReactor* Say(grpc::CallbackServerContext* context,
                                const EchoMessage* request,
                                EchoMessage* reply) override {
    *reply = *request;
    grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
    reactor->Finish(grpc::Status::OK);
    return reactor;
  }
};

TEST(GrpcTest, CallOverUnixSocketBringsTheMessageBack) {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();

  // Short: a socket's path has 107 bytes, a test's folder may be longer.
  std::string folder = "/tmp/vmsg.XXXXXX";
  ASSERT_NE(::mkdtemp(folder.data()), nullptr);
  const std::string address = "unix:" + folder + "/socket";

  EchoService service;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address, grpc::InsecureServerCredentials());
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  EXPECT_NE(server->GetHealthCheckService(), nullptr);

  const std::unique_ptr<Echo::Stub> stub = Echo::NewStub(
      grpc::CreateChannel(address, grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(30));
  EchoMessage inner;
  inner.set_text("packed");
  EchoMessage request;
  request.set_text("hello");
  request.mutable_extra()->PackFrom(inner);
  EchoMessage reply;
  const grpc::Status status = stub->Say(&context, request, &reply);

  EXPECT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(reply.text(), "hello");
  EchoMessage extra;
  EXPECT_TRUE(reply.extra().UnpackTo(&extra));
  EXPECT_EQ(extra.text(), "packed");

  server->Shutdown();
  ::unlink((folder + "/socket").c_str());
  ::rmdir(folder.c_str());
}

}  // namespace
}  // namespace vmsg
