#include "vmm/control/control_server.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "proto/vmsg/control/v1alpha1/hotplug.grpc.pb.h"
#include "vmm/control/device_manager.h"
#include "vmm/control/fake_hotplug_bus.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::control {
namespace {

namespace pb = ::vmsg::control::v1alpha1;
using grpc::StatusCode;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr auto kPatience = std::chrono::seconds(20);

// A real server on a real socket; the bus is a fake.
class ControlServerTest : public testing::Test {
 protected:
  ControlServerTest() {
    char folder[] = "/tmp/vmsg-server-XXXXXX";
    folder_ = mkdtemp(folder);
    const std::string path = folder_ + "/control.sock";
    loop_ = std::move(*vmm::EpollEventLoop::Create());
    bus_ = std::make_unique<FakeHotplugBus>(HotplugBus::Id{"amp0", 0},
                                            loop_.get());
    manager_ = std::move(*DeviceManager::Create(loop_.get(), {bus_.get()},
                                                {&rng_, &other_}, nullptr));
    auto server = ControlServer::Start({path, /*reflection=*/true},
                                       manager_.get(), loop_.get(), nullptr);
    EXPECT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    thread_ = std::thread([this] { loop_->Run(); });
    channel_ =
        grpc::CreateChannel("unix:" + path, grpc::InsecureChannelCredentials());
    stub_ = pb::HotplugService::NewStub(channel_);
  }

  ~ControlServerTest() override {
    OnLoop([this] { server_.reset(); });
    loop_->Stop();
    thread_.join();
    manager_.reset();
    rmdir(folder_.c_str());
  }

  // Runs `what` on the loop and waits for it.
  void OnLoop(std::function<void()> what) {
    std::atomic<bool> done = false;
    loop_->Post([&] {
      what();
      done = true;
    });
    while (!done) std::this_thread::yield();
  }

  static std::unique_ptr<grpc::ClientContext> Context() {
    auto context = std::make_unique<grpc::ClientContext>();
    context->set_deadline(std::chrono::system_clock::now() + kPatience);
    return context;
  }

  grpc::Status Attach(const pb::AttachDeviceRequest& request,
                      pb::AttachDeviceResponse* response) {
    return stub_->AttachDevice(Context().get(), request, response);
  }
  grpc::Status AttachRng(const std::string& id) {
    pb::AttachDeviceRequest request;
    pb::AttachDeviceResponse response;
    request.set_id(id);
    request.mutable_device()->mutable_rng();
    return Attach(request, &response);
  }
  std::vector<std::string> Ids() {
    pb::ListDevicesResponse response;
    EXPECT_TRUE(stub_->ListDevices(Context().get(), {}, &response).ok());
    std::vector<std::string> ids;
    for (const pb::Device& device : response.devices()) {
      ids.push_back(device.id());
    }
    return ids;
  }

  std::string folder_;
  std::unique_ptr<vmm::EpollEventLoop> loop_;
  std::unique_ptr<FakeHotplugBus> bus_;
  FakeFactory rng_{"vmsg.control.v1alpha1.RngConfig", "rng"};
  FakeFactory other_{"test.Other", "other"};
  std::unique_ptr<DeviceManager> manager_;
  std::unique_ptr<ControlServer> server_;
  std::thread thread_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<pb::HotplugService::Stub> stub_;
};

TEST_F(ControlServerTest, AttachedDeviceIsListedAndCanBeAskedFor) {
  pb::AttachDeviceRequest request;
  request.set_id("entropy");
  request.mutable_device()->mutable_rng()->set_max_bytes_per_period(512);
  request.mutable_place()->set_slot(2);
  pb::AttachDeviceResponse response;
  const grpc::Status status = Attach(request, &response);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.device().kind(), "rng");
  EXPECT_EQ(response.device().place().function(), "amp0");
  EXPECT_EQ(response.device().place().slot(), 2u);
  EXPECT_EQ(response.device().state(), pb::DEVICE_STATE_PENDING_ANNOUNCE);
  EXPECT_EQ(response.device().health().state(), pb::HEALTH_STATE_OK);

  pb::GetDeviceRequest get;
  pb::GetDeviceResponse got;
  get.set_id("entropy");
  ASSERT_TRUE(stub_->GetDevice(Context().get(), get, &got).ok());
  EXPECT_EQ(got.device().generation(), response.device().generation());
  EXPECT_THAT(Ids(), ElementsAre("entropy"));
}

TEST_F(ControlServerTest, EmbeddersKindComesAsAny) {
  pb::AttachDeviceRequest request;
  pb::AttachDeviceResponse response;
  request.mutable_device()->mutable_other()->set_type_url(
      "type.example.com/test.Other");
  ASSERT_TRUE(Attach(request, &response).ok());
  EXPECT_EQ(response.device().kind(), "other");

  request.mutable_device()->mutable_other()->set_type_url("x/test.Nobody");
  const grpc::Status unknown = Attach(request, &response);
  EXPECT_EQ(unknown.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(unknown.error_message(), HasSubstr("test.Nobody"));
  EXPECT_THAT(unknown.error_message(), HasSubstr("known kinds: rng, other"));

  request.mutable_device()->mutable_other()->set_type_url("");
  EXPECT_THAT(Attach(request, &response).error_message(),
              HasSubstr("device.other.type_url"));
}

TEST_F(ControlServerTest, ErrorsHaveTheirCodesAndNameTheField) {
  pb::AttachDeviceRequest no_kind;
  pb::AttachDeviceResponse response;
  grpc::Status status = Attach(no_kind, &response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("device.kind: must be set"));

  pb::AttachDeviceRequest bad_time;
  bad_time.mutable_device()->mutable_rng();
  bad_time.mutable_wait_timeout()->set_seconds(-1);
  status = Attach(bad_time, &response);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("wait_timeout"));
  bad_time.mutable_wait_timeout()->set_seconds(INT64_MAX);
  EXPECT_EQ(Attach(bad_time, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
  bad_time.mutable_wait_timeout()->set_seconds(1);
  bad_time.mutable_wait_timeout()->set_nanos(-1);
  EXPECT_THAT(Attach(bad_time, &response).error_message(),
              HasSubstr("not a valid google.protobuf.Duration"));

  ASSERT_TRUE(AttachRng("a").ok());
  EXPECT_EQ(AttachRng("a").error_code(), StatusCode::ALREADY_EXISTS);
  for (int i = 1; i < 4; ++i) ASSERT_TRUE(AttachRng("").ok());
  EXPECT_EQ(AttachRng("").error_code(), StatusCode::RESOURCE_EXHAUSTED);

  pb::DetachDeviceRequest detach;
  pb::DetachDeviceResponse detached;
  detach.set_id("nobody");
  EXPECT_EQ(
      stub_->DetachDevice(Context().get(), detach, &detached).error_code(),
      StatusCode::NOT_FOUND);
  detach.set_id("a");
  detach.set_mode(static_cast<pb::DetachMode>(77));
  EXPECT_EQ(
      stub_->DetachDevice(Context().get(), detach, &detached).error_code(),
      StatusCode::INVALID_ARGUMENT);
  detach.set_mode(pb::DETACH_MODE_GRACEFUL);
  ASSERT_TRUE(stub_->DetachDevice(Context().get(), detach, &detached).ok());
  EXPECT_EQ(detached.device().state(), pb::DEVICE_STATE_REMOVING);
  EXPECT_EQ(
      stub_->DetachDevice(Context().get(), detach, &detached).error_code(),
      StatusCode::FAILED_PRECONDITION);
}

TEST_F(ControlServerTest, ClientsDeadlineNeverUndoesAnAttach) {
  EXPECT_THAT(Ids(), IsEmpty()) << "and the client is connected";
  pb::AttachDeviceRequest request;
  pb::AttachDeviceResponse response;
  request.set_id("x");
  request.mutable_device()->mutable_rng();
  request.mutable_wait_timeout()->set_seconds(60);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() +
                       std::chrono::seconds(2));
  EXPECT_EQ(stub_->AttachDevice(&context, request, &response).error_code(),
            StatusCode::DEADLINE_EXCEEDED);
  EXPECT_THAT(Ids(), ElementsAre("x"));
}

TEST_F(ControlServerTest, WatchShowsWhatExistsThenEachChange) {
  ASSERT_TRUE(AttachRng("old").ok());
  const auto context = Context();
  const auto stream = stub_->WatchDevices(context.get(), {});
  std::vector<std::pair<pb::DeviceEventKind, std::string>> events;
  const auto read = [&](int count) {
    pb::WatchDevicesResponse event;
    while (count-- > 0 && stream->Read(&event)) {
      events.emplace_back(event.kind(), event.device().id());
    }
  };
  read(2);
  ASSERT_TRUE(AttachRng("new").ok());
  OnLoop([this] { bus_->DriverWrites(1, 15); });
  read(2);
  EXPECT_THAT(events,
              ElementsAre(std::pair(pb::DEVICE_EVENT_KIND_EXISTS, "old"),
                          std::pair(pb::DEVICE_EVENT_KIND_SYNCED, ""),
                          std::pair(pb::DEVICE_EVENT_KIND_ATTACHED, "new"),
                          std::pair(pb::DEVICE_EVENT_KIND_CHANGED, "new")));
  context->TryCancel();
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::CANCELLED);
}

TEST_F(ControlServerTest, ReaderThatFallsBehindIsEnded) {
  const auto context = Context();
  context->set_deadline(std::chrono::system_clock::now() + 10 * kPatience);
  const auto stream = stub_->WatchDevices(context.get(), {});
  pb::WatchDevicesResponse event;
  ASSERT_TRUE(stream->Read(&event));
  ASSERT_TRUE(AttachRng("x").ok());
  // The reader sleeps. The transport buffers some events, the service at most
  // kMaxQueuedEvents more. A change in each turn of the loop, since more would
  // be told as one.
  std::atomic<uint32_t> left = 200'000;
  std::function<void()> change = [&] {
    bus_->DriverWrites(0, 8 * left);
    if (--left != 0) loop_->Post([&change] { change(); });
  };
  OnLoop([&change] { change(); });
  while (left != 0) std::this_thread::yield();
  OnLoop([] {});  // the last of them has returned
  int seen = 0;
  while (stream->Read(&event)) ++seen;
  EXPECT_LT(seen, 50'000);
  EXPECT_EQ(stream->Finish().error_code(), StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(ControlServerTest, FifosAreListedAndReset) {
  OnLoop([this] { bus_->Break("index out of range"); });
  pb::ListFifosResponse fifos;
  ASSERT_TRUE(stub_->ListFifos(Context().get(), {}, &fifos).ok());
  ASSERT_EQ(fifos.fifos_size(), 1);
  EXPECT_EQ(fifos.fifos(0).state(), pb::FIFO_STATE_BROKEN);
  EXPECT_EQ(fifos.fifos(0).fault(), "index out of range");

  pb::ResetFifoRequest request;
  pb::ResetFifoResponse response;
  request.set_function("amp0");
  ASSERT_TRUE(stub_->ResetFifo(Context().get(), request, &response).ok());
  EXPECT_EQ(response.fifo().state(), pb::FIFO_STATE_RUNNING);
  request.set_fifo(9);
  EXPECT_EQ(stub_->ResetFifo(Context().get(), request, &response).error_code(),
            StatusCode::INVALID_ARGUMENT);
}

TEST_F(ControlServerTest, ShutdownAnswersCallsThatWait) {
  grpc::Status attached;
  std::thread waiter([&] {
    pb::AttachDeviceRequest request;
    pb::AttachDeviceResponse response;
    request.set_id("x");
    request.mutable_device()->mutable_rng();
    request.mutable_wait_timeout()->set_seconds(60);
    attached = Attach(request, &response);
  });
  grpc::Status watched;
  std::thread watcher([&] {
    const auto context = Context();
    const auto stream = stub_->WatchDevices(context.get(), {});
    pb::WatchDevicesResponse event;
    while (stream->Read(&event)) continue;
    watched = stream->Finish();
  });
  while (Ids().empty()) std::this_thread::yield();
  OnLoop([this] { server_.reset(); });
  waiter.join();
  watcher.join();
  EXPECT_EQ(attached.error_code(), StatusCode::UNAVAILABLE);
  EXPECT_EQ(watched.error_code(), StatusCode::UNAVAILABLE);
}

// The wire form of grpc.health.v1.Health/Check, without its generated code: an
// empty request, and a response whose field 1 is 1 (SERVING).
TEST_F(ControlServerTest, HealthServiceSaysServing) {
  grpc::GenericStub stub(channel_);
  // An empty message.
  grpc::Slice empty("");
  const grpc::ByteBuffer request(&empty, 1);
  grpc::ByteBuffer response;
  const auto context = Context();
  std::promise<grpc::Status> answer;
  stub.UnaryCall(context.get(), "/grpc.health.v1.Health/Check",
                 grpc::StubOptions(), &request, &response,
                 [&](const grpc::Status& s) { answer.set_value(s); });
  const grpc::Status status = answer.get_future().get();
  ASSERT_TRUE(status.ok()) << status.error_message();
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(response.Dump(&slices).ok());
  std::string bytes;
  for (const grpc::Slice& slice : slices) {
    bytes.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  EXPECT_EQ(bytes, std::string("\x08\x01"));
}

}  // namespace
}  // namespace vmsg::control
