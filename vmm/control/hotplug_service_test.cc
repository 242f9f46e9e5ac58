// Calls whose callers go away. What calls do is in control_server_test.

#include "vmm/control/hotplug_service.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <memory>
#include <thread>
#include <utility>

#include "proto/vmsg/control/v1alpha1/hotplug.grpc.pb.h"
#include "vmm/control/device_manager.h"
#include "vmm/control/fake_hotplug_bus.h"
#include "vmm/event/epoll_event_loop.h"

namespace vmsg::control {
namespace {

namespace pb = ::vmsg::control::v1alpha1;

constexpr auto kPatience = std::chrono::seconds(20);

class HotplugServiceTest : public testing::Test {
 protected:
  HotplugServiceTest()
      : loop_(std::move(*vmm::EpollEventLoop::Create())),
        bus_({"amp0", 0}, loop_.get()),
        manager_(std::move(*DeviceManager::Create(loop_.get(), {&bus_},
                                                  {&factory_}, nullptr))),
        service_(HotplugService::Create(manager_.get())),
        thread_([this] { loop_->Run(); }) {
    grpc::ServerBuilder builder;
    builder.RegisterService(service_->service());
    server_ = builder.BuildAndStart();
    stub_ = pb::HotplugService::NewStub(server_->InProcessChannel({}));
  }

  ~HotplugServiceTest() override {
    service_->Shutdown();
    server_->Shutdown();
    server_.reset();
    loop_->Stop();
    thread_.join();
  }

  // Until so many calls are open; false if that is never so.
  bool OpenCallsBecome(size_t count) const {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (service_->open_calls() != count) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      std::this_thread::yield();
    }
    return true;
  }

  std::unique_ptr<vmm::EpollEventLoop> loop_;
  FakeHotplugBus bus_;
  FakeFactory factory_{"vmsg.control.v1alpha1.RngConfig", "rng"};
  std::unique_ptr<DeviceManager> manager_;
  std::unique_ptr<HotplugService> service_;
  std::thread thread_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<pb::HotplugService::Stub> stub_;
};

// Without an event to write, which would fail: only the cancellation tells.
TEST_F(HotplugServiceTest, WatchOfACallerThatCancelsEnds) {
  grpc::ClientContext context;
  const auto stream = stub_->WatchDevices(&context, {});
  pb::WatchDevicesResponse event;
  ASSERT_TRUE(stream->Read(&event));
  ASSERT_EQ(event.kind(), pb::DEVICE_EVENT_KIND_SYNCED);
  ASSERT_EQ(service_->open_calls(), 1u);

  context.TryCancel();
  EXPECT_TRUE(OpenCallsBecome(0));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::CANCELLED);
}

TEST_F(HotplugServiceTest, WatchOfACallerWhoseTimeIsOverEnds) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::milliseconds(100));
  const auto stream = stub_->WatchDevices(&context, {});
  pb::WatchDevicesResponse event;
  while (stream->Read(&event)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::DEADLINE_EXCEEDED);
  EXPECT_TRUE(OpenCallsBecome(0));
}

TEST_F(HotplugServiceTest, AnsweredCallsAreNotOpen) {
  for (int i = 0; i < 3; ++i) {
    grpc::ClientContext context;
    pb::ListDevicesResponse response;
    ASSERT_TRUE(stub_->ListDevices(&context, {}, &response).ok());
  }
  EXPECT_TRUE(OpenCallsBecome(0));
}

}  // namespace
}  // namespace vmsg::control
