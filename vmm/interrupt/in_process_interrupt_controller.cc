#include "vmm/interrupt/in_process_interrupt_controller.h"

#include <optional>
#include <utility>

#include "vmm/base/mutex.h"

namespace vmsg::vmm {

namespace {

using Sink = InProcessInterruptController::Sink;

class InProcessMsiRoute final : public MsiRoute {
 public:
  explicit InProcessMsiRoute(std::shared_ptr<const Sink> sink)
      : sink_(std::move(sink)) {}

  absl::Status Update(const MsiMessage& message) override {
    MutexLock lock(&mutex_);
    message_ = message;
    return absl::OkStatus();
  }

  absl::Status Trigger() override {
    std::optional<MsiMessage> message;
    {
      MutexLock lock(&mutex_);
      message = message_;
    }
    if (!message.has_value()) {
      return absl::FailedPreconditionError("the MSI route has no message yet");
    }
    (*sink_)(*message);
    return absl::OkStatus();
  }

 private:
  const std::shared_ptr<const Sink> sink_;
  Mutex mutex_;  // never held over the sink
  std::optional<MsiMessage> message_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

InProcessInterruptController::InProcessInterruptController(Sink sink)
    : sink_(std::make_shared<const Sink>(std::move(sink))) {}

absl::StatusOr<std::unique_ptr<MsiRoute>>
InProcessInterruptController::CreateMsiRoute() {
  return std::make_unique<InProcessMsiRoute>(sink_);
}

}  // namespace vmsg::vmm
