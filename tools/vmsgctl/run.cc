#include "tools/vmsgctl/run.h"

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

#include "proto/vmsg/control/v1alpha1/hotplug.grpc.pb.h"
#include "tools/vmsgctl/exit_code.h"
#include "tools/vmsgctl/print.h"

namespace vmsg::vmsgctl {
namespace {

std::chrono::milliseconds ToMillis(const google::protobuf::Duration& duration) {
  return std::chrono::milliseconds(duration.seconds() * 1000 +
                                   duration.nanos() / 1'000'000);
}

class Runner {
 public:
  Runner(const CommandLine& line, std::ostream& out, std::ostream& err)
      : line_(line),
        out_(out),
        err_(err),
        stub_(pb::HotplugService::NewStub(grpc::CreateChannel(
            line.target, grpc::InsecureChannelCredentials()))) {}

  int operator()(const ListCommand&) {
    pb::ListDevicesResponse response;
    SetDeadline();
    return Show(stub_->ListDevices(&context_, {}, &response), response,
                [&] { PrintDevices(response, out_); });
  }

  int operator()(const GetCommand& command) {
    pb::GetDeviceResponse response;
    SetDeadline();
    return Show(stub_->GetDevice(&context_, command.request, &response),
                response, [&] { PrintDevice(response.device(), out_); });
  }

  int operator()(const AttachCommand& command) {
    pb::AttachDeviceResponse response;
    const std::chrono::milliseconds wait =
        ToMillis(command.request.wait_timeout());
    SetDeadline(wait);
    const int code =
        Show(stub_->AttachDevice(&context_, command.request, &response),
             response, [&] { PrintDevice(response.device(), out_); });
    if (code != kExitOk || wait.count() == 0 ||
        command.request.validate_only() ||
        response.device().driver().driver_ok()) {
      return code;
    }
    err_ << "vmsgctl: attached, but the guest's driver is not ready yet\n";
    return kExitNotYet;
  }

  int operator()(const DetachCommand& command) {
    pb::DetachDeviceResponse response;
    const std::chrono::milliseconds wait =
        ToMillis(command.request.wait_timeout());
    SetDeadline(wait);
    const int code =
        Show(stub_->DetachDevice(&context_, command.request, &response),
             response, [&] { PrintDevice(response.device(), out_); });
    if (code != kExitOk || wait.count() == 0 ||
        command.request.validate_only() ||
        response.device().state() == pb::DEVICE_STATE_GONE) {
      return code;
    }
    err_ << "vmsgctl: the removal goes on, but the device is not gone yet\n";
    return kExitNotYet;
  }

  int operator()(const WatchCommand& command) {
    // No deadline: it ends with --count, or with the VMM.
    const auto stream = stub_->WatchDevices(&context_, command.request);
    pb::WatchDevicesResponse event;
    bool synced = false;
    uint64_t seen = 0;
    while (stream->Read(&event)) {
      if (line_.json) {
        out_ << ToJson(event) << "\n" << std::flush;
      } else {
        PrintEvent(event, out_);
      }
      if (synced && ++seen == command.count) {
        context_.TryCancel();
        stream->Finish();
        return kExitOk;
      }
      if (event.kind() == pb::DEVICE_EVENT_KIND_SYNCED) synced = true;
    }
    return Fail(stream->Finish());
  }

  int operator()(const FifosCommand& command) {
    pb::ListFifosResponse response;
    SetDeadline();
    return Show(stub_->ListFifos(&context_, command.request, &response),
                response, [&] { PrintFifos(response, out_); });
  }

  int operator()(const ResetFifoCommand& command) {
    pb::ResetFifoResponse response;
    SetDeadline();
    return Show(stub_->ResetFifo(&context_, command.request, &response),
                response, [&] {
                  pb::ListFifosResponse list;
                  *list.add_fifos() = response.fifo();
                  PrintFifos(list, out_);
                });
  }

 private:
  void SetDeadline(std::chrono::milliseconds wait = {}) {
    context_.set_deadline(std::chrono::system_clock::now() + line_.timeout +
                          wait);
  }

  template <typename Response, typename Print>
  int Show(const grpc::Status& status, const Response& response, Print print) {
    if (!status.ok()) return Fail(status);
    if (line_.json) {
      out_ << ToJson(response) << "\n";
    } else {
      print();
    }
    return kExitOk;
  }

  int Fail(const grpc::Status& status) {
    err_ << "vmsgctl: ";
    if (status.error_code() == grpc::StatusCode::UNAVAILABLE) {
      err_ << "cannot reach the VMM at " << line_.target
           << " (is it running, and is this its --control socket?): ";
    }
    err_ << status.error_message() << "\n";
    return ExitCode(status.error_code());
  }

  const CommandLine& line_;
  std::ostream& out_;
  std::ostream& err_;
  const std::unique_ptr<pb::HotplugService::Stub> stub_;
  grpc::ClientContext context_;
};

}  // namespace

int Run(const CommandLine& line, std::ostream& out, std::ostream& err) {
  Runner runner(line, out, err);
  return std::visit(runner, line.command);
}

}  // namespace vmsg::vmsgctl
