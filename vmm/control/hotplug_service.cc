#include "vmm/control/hotplug_service.h"

#include <grpcpp/grpcpp.h>

#include <deque>
#include <map>
#include <utility>
#include <vector>

#include "proto/vmsg/control/v1alpha1/hotplug.grpc.pb.h"
#include "vmm/base/mutex.h"
#include "vmm/control/hotplug_convert.h"

namespace vmsg::control {
namespace {

grpc::Status ToGrpc(const OperationStatus& status) {
  // absl and gRPC number the codes alike, after google.rpc.Code.
  return grpc::Status(static_cast<grpc::StatusCode>(status.code),
                      status.message);
}
grpc::Status ToGrpc(const absl::Status& status) {
  return ToGrpc(OperationStatus::From(status));
}

const grpc::Status& ShuttingDown() {
  static const grpc::Status* const status = new grpc::Status(
      grpc::StatusCode::UNAVAILABLE, "the VMM is shutting down");
  return *status;
}

// The calls that are under way, so that Shutdown() can end them. A reply that
// comes after that finds its call gone.
//
// Threads: any.
class OpenCalls {
 public:
  // Ends a call with a status; at most once, and never after Close().
  using Finisher = absl::AnyInvocable<void(const grpc::Status&)>;

  // 0 when shut down: `finish` was called with UNAVAILABLE.
  uint64_t Open(Finisher finish) {
    {
      vmm::MutexLock lock(&mutex_);
      if (!shut_down_) {
        calls_.emplace(++last_, std::move(finish));
        return last_;
      }
    }
    finish(ShuttingDown());
    return 0;
  }

  // True for whoever may end the call: exactly one.
  bool Claim(uint64_t call) {
    vmm::MutexLock lock(&mutex_);
    return calls_.erase(call) != 0;
  }

  void Shutdown() {
    std::map<uint64_t, Finisher> calls;
    {
      vmm::MutexLock lock(&mutex_);
      shut_down_ = true;
      calls.swap(calls_);
    }
    for (auto& [unused, finish] : calls) finish(ShuttingDown());
  }

  size_t size() const {
    vmm::MutexLock lock(&mutex_);
    return calls_.size();
  }

 private:
  mutable vmm::Mutex mutex_;
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t last_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<uint64_t, Finisher> calls_ ABSL_GUARDED_BY(mutex_);
};

// One watch stream. gRPC ends with OnDone(), the manager with the last copy of
// its callback; the object goes with the later of the two.
class WatchStream final
    : public grpc::ServerWriteReactor<pb::WatchDevicesResponse>,
      public std::enable_shared_from_this<WatchStream> {
 public:
  explicit WatchStream(DeviceManager* manager) : manager_(manager) {}

  void Start(std::shared_ptr<OpenCalls> calls, const std::string& id) {
    {
      vmm::MutexLock lock(&mutex_);
      self_ = shared_from_this();
    }
    calls_ = std::move(calls);
    // Claimed in End(), or by Shutdown() which then calls End().
    call_ =
        calls_->Open([stream = shared_from_this()](const grpc::Status& status) {
          stream->End(status);
        });
    if (call_ == 0) return;
    const DeviceManager::WatchId watch = manager_->Watch(
        id, [stream = shared_from_this()](const DeviceEvent& event) {
          stream->Push(event);
        });
    vmm::MutexLock lock(&mutex_);
    watch_ = watch;
    if (done_) UnwatchLocked();
  }

  void OnWriteDone(bool ok) override {
    vmm::MutexLock lock(&mutex_);
    writing_ = false;
    queue_.pop_front();
    if (!ok) queue_.clear();
    WriteOrFinishLocked();
  }

  void OnCancel() override {
    if (calls_->Claim(call_)) {
      End(grpc::Status(grpc::StatusCode::CANCELLED, "cancelled"));
    }
  }

  void OnDone() override {
    std::shared_ptr<WatchStream> self;
    {
      vmm::MutexLock lock(&mutex_);
      done_ = true;
      UnwatchLocked();
      self = std::move(self_);
    }
  }

 private:
  void Push(const DeviceEvent& event) {
    bool overrun = false;
    {
      vmm::MutexLock lock(&mutex_);
      if (final_.has_value()) return;
      // What was there at the start is not the reader's fault.
      if (synced_ &&
          queue_.size() >= snapshot_ + HotplugService::kMaxQueuedEvents) {
        overrun = true;
      } else {
        if (!synced_) ++snapshot_;
        if (event.kind == DeviceEvent::Kind::kSynced) synced_ = true;
        queue_.push_back(ToProto(event));
        WriteOrFinishLocked();
      }
    }
    if (overrun && calls_->Claim(call_)) {
      End(grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED,
                       "the reader fell behind; watch again"));
    }
  }

  void End(const grpc::Status& status) {
    vmm::MutexLock lock(&mutex_);
    if (final_.has_value()) return;
    final_ = status;
    // Keep what is being written; drop the rest.
    if (writing_) {
      queue_.resize(1);
    } else {
      queue_.clear();
    }
    WriteOrFinishLocked();
  }

  void WriteOrFinishLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (writing_ || finished_) return;
    if (!queue_.empty()) {
      writing_ = true;
      StartWrite(&queue_.front());
    } else if (final_.has_value()) {
      finished_ = true;
      Finish(*final_);
    }
  }

  void UnwatchLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (watch_ != 0) manager_->Unwatch(std::exchange(watch_, 0), nullptr);
  }

  DeviceManager* const manager_;
  std::shared_ptr<OpenCalls> calls_;
  uint64_t call_ = 0;
  vmm::Mutex mutex_;
  std::shared_ptr<WatchStream> self_ ABSL_GUARDED_BY(mutex_);
  DeviceManager::WatchId watch_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<pb::WatchDevicesResponse> queue_ ABSL_GUARDED_BY(mutex_);
  std::optional<grpc::Status> final_ ABSL_GUARDED_BY(mutex_);
  size_t snapshot_ ABSL_GUARDED_BY(mutex_) = 0;  // events until SYNCED
  bool synced_ ABSL_GUARDED_BY(mutex_) = false;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  bool finished_ ABSL_GUARDED_BY(mutex_) = false;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

class HotplugServiceImpl final : public HotplugService,
                                 public pb::HotplugService::CallbackService {
 public:
  explicit HotplugServiceImpl(DeviceManager* manager)
      : manager_(manager), calls_(std::make_shared<OpenCalls>()) {}

  grpc::Service* service() override { return this; }
  void Shutdown() override { calls_->Shutdown(); }
  size_t open_calls() const override { return calls_->size(); }

  grpc::ServerUnaryReactor* ListFifos(
      grpc::CallbackServerContext* context, const pb::ListFifosRequest* request,
      pb::ListFifosResponse* response) override {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    manager_->ListFifos(
        request->function(),
        Answer<std::vector<FifoRecord>>(
            reactor, [response](const std::vector<FifoRecord>& fifos) {
              for (const FifoRecord& fifo : fifos) {
                *response->add_fifos() = ToProto(fifo);
              }
            }));
    return reactor;
  }

  grpc::ServerUnaryReactor* ResetFifo(
      grpc::CallbackServerContext* context, const pb::ResetFifoRequest* request,
      pb::ResetFifoResponse* response) override {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    manager_->ResetFifo(
        request->function(), request->fifo(),
        Answer<FifoRecord>(reactor, [response](const FifoRecord& fifo) {
          *response->mutable_fifo() = ToProto(fifo);
        }));
    return reactor;
  }

  grpc::ServerUnaryReactor* ListDevices(
      grpc::CallbackServerContext* context,
      const pb::ListDevicesRequest* /*request*/,
      pb::ListDevicesResponse* response) override {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    manager_->List(
        Answer<DeviceList>(reactor, [response](const DeviceList& list) {
          for (const DeviceRecord& device : list.devices) {
            *response->add_devices() = ToProto(device);
          }
          response->set_sequence(list.sequence);
        }));
    return reactor;
  }

  grpc::ServerUnaryReactor* GetDevice(
      grpc::CallbackServerContext* context, const pb::GetDeviceRequest* request,
      pb::GetDeviceResponse* response) override {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    manager_->Get(request->id(), DeviceAnswer(reactor, response));
    return reactor;
  }

  grpc::ServerUnaryReactor* AttachDevice(
      grpc::CallbackServerContext* context,
      const pb::AttachDeviceRequest* request,
      pb::AttachDeviceResponse* response) override {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    absl::StatusOr<AttachRequest> parsed = FromProto(*request);
    if (!parsed.ok()) {
      reactor->Finish(ToGrpc(parsed.status()));
    } else {
      manager_->Attach(std::move(*parsed), DeviceAnswer(reactor, response));
    }
    return reactor;
  }

  grpc::ServerUnaryReactor* DetachDevice(
      grpc::CallbackServerContext* context,
      const pb::DetachDeviceRequest* request,
      pb::DetachDeviceResponse* response) override {
    grpc::ServerUnaryReactor* const reactor = context->DefaultReactor();
    absl::StatusOr<DetachRequest> parsed = FromProto(*request);
    if (!parsed.ok()) {
      reactor->Finish(ToGrpc(parsed.status()));
    } else {
      manager_->Detach(std::move(*parsed), DeviceAnswer(reactor, response));
    }
    return reactor;
  }

  grpc::ServerWriteReactor<pb::WatchDevicesResponse>* WatchDevices(
      grpc::CallbackServerContext* /*context*/,
      const pb::WatchDevicesRequest* request) override {
    auto stream = std::make_shared<WatchStream>(manager_);
    stream->Start(calls_, request->id());
    return stream.get();
  }

 private:
  // A reply that fills the response and ends the call, unless Shutdown() has
  // ended it: then the response is gone.
  template <typename T, typename Fill>
  Reply<T> Answer(grpc::ServerUnaryReactor* reactor, Fill fill) {
    const uint64_t call = calls_->Open(
        [reactor](const grpc::Status& status) { reactor->Finish(status); });
    return [calls = calls_, call, reactor, fill](OperationStatus status,
                                                 const T& value) {
      if (!calls->Claim(call)) return;
      if (status.ok()) fill(value);
      reactor->Finish(ToGrpc(status));
    };
  }

  template <typename Response>
  Reply<DeviceRecord> DeviceAnswer(grpc::ServerUnaryReactor* reactor,
                                   Response* response) {
    return Answer<DeviceRecord>(reactor,
                                [response](const DeviceRecord& device) {
                                  *response->mutable_device() = ToProto(device);
                                });
  }

  DeviceManager* const manager_;
  const std::shared_ptr<OpenCalls> calls_;
};

}  // namespace

std::unique_ptr<HotplugService> HotplugService::Create(DeviceManager* manager) {
  return std::make_unique<HotplugServiceImpl>(manager);
}

}  // namespace vmsg::control
