#include "devices/virtio_msg/slot.h"

#include <algorithm>
#include <array>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "devices/virtio_msg/empty_slot.h"
#include "vmm/base/check.h"

namespace vmsg::msg {
namespace {

bool IsReset(const DriverMessage& message) {
  const SetDeviceStatus* const set = std::get_if<SetDeviceStatus>(&message);
  return set != nullptr && set->is_reset();
}

// Requests that only a driver sends which takes the device for there, or knows
// that it is from the answer. Who writes a status has found it in some way,
// perhaps before a reset of the function.
bool ShowsDevice(const DriverMessage& message) {
  return std::holds_alternative<GetDeviceInfo>(message) ||
         (std::holds_alternative<SetDeviceStatus>(message) &&
          !IsReset(message));
}

}  // namespace

Slot::Slot(uint32_t number, const SlotContext* context)
    : number_(number),
      context_(*context),
      log_(context->log_sink, &context->loop->clock(),
           absl::StrCat(context->bus_name, "/bus", number)),
      deadline_(context->loop->CreateTimer([this] { OnDeadline(); })),
      alive_(std::make_shared<char>()) {}

Slot::~Slot() = default;

// --- The driver's side. ---

size_t Slot::Receive(const Header& header, const DriverMessage& message,
                     std::span<const std::byte> raw, std::span<std::byte> out) {
  const bool served = visible();
  if (const EventAvail* const avail = std::get_if<EventAvail>(&message)) {
    if (!served) return 0;
    if (deferred_.empty() && !endpoint_->busy()) {
      endpoint_->Avail(*avail);
    } else {
      endpoint_->RememberAvail(avail->index);
    }
    return 0;
  }
  if (deferred_.empty()) {
    if (!served) return AnswerNeutrally(header, message, out);
    if (!endpoint_->busy()) {
      const size_t size = Execute(header, message, out);
      if (size == 0) {
        deferred_.Push(raw);
        front_started_ = true;
      }
      return size;
    }
  }
  deferred_.Push(raw);
  if (!served) {
    ++neutral_;
  } else if (endpoint_->busy() && IsReset(message)) {
    // A device that hangs in an activation is brought back by status 0, which
    // therefore doesn't wait for it.
    endpoint_->ResetNow();
  }
  return 0;
}

size_t Slot::Execute(const Header& header, const DriverMessage& message,
                     std::span<std::byte> out) {
  if (!known_ && ShowsDevice(message)) BecomeKnown();
  return endpoint_->Handle(header, message, out);
}

size_t Slot::AnswerNeutrally(const Header& header, const DriverMessage& message,
                             std::span<std::byte> out) const {
  return AnswerForEmptySlot(context_.options.revision,
                            context_.options.max_message_bytes, header, message,
                            out);
}

bool Slot::Pump(Outbox* outbox) {
  while (!deferred_.empty()) {
    if (!outbox->SendOwed()) return false;
    std::array<std::byte, kMaxMessageBytes> out;
    const std::optional<size_t> size = AnswerFront(out);
    if (!size.has_value()) return true;  // OnOperationDone() comes back to it
    outbox->SendAnswer(std::span(out).first(*size));
    deferred_.Pop();
  }
  if (visible() && !endpoint_->busy()) endpoint_->DeliverAvail();
  return true;
}

// The answer to the first request that waits; nullopt when it takes time.
std::optional<size_t> Slot::AnswerFront(std::span<std::byte> out) {
  Header header;
  DriverMessage message;
  const DecodeError error = DecodeFromDriver(
      context_.options.revision, context_.options.max_message_bytes,
      deferred_.front(), &header, &message);
  VMSG_CHECK(error == DecodeError::kNone, "it was well-formed when it came");
  if (neutral_ > 0) {
    --neutral_;
    return AnswerNeutrally(header, message, out);
  }
  if (endpoint_->busy()) return std::nullopt;
  if (front_started_) {
    front_started_ = false;
    return endpoint_->AnswerFinished(header, message, out);
  }
  const size_t size = Execute(header, message, out);
  if (size != 0) return size;
  front_started_ = true;
  return std::nullopt;
}

bool Slot::SendEvents(Outbox* outbox) {
  if (endpoint_ == nullptr || phase_ == Phase::kReleasing) return true;
  // A driver that does not know the device reads it anew when it does.
  if (!known_) endpoint_->DropConfigEvents();
  return endpoint_->SendEvents(outbox);
}

void Slot::BecomeKnown() {
  if (known_) return;
  known_ = true;
  hidden_ = false;
  if (!met_before_) context_.pacer->CancelReady(number_);
  if (state_ == SlotState::kPendingAnnounce) state_ = SlotState::kPresent;
  context_.host->OnSlotChanged(number_);
}

void Slot::Restart() {
  deferred_.Clear();
  front_started_ = false;
  neutral_ = 0;
  known_ = false;
  hidden_ = false;
  met_before_ = false;
  switch (state_) {
    case SlotState::kEmpty:
      return;
    case SlotState::kRemoving:
      if (phase_ != Phase::kReleasing) Release();
      return;
    case SlotState::kPendingAnnounce:
    case SlotState::kPresent:
      break;
  }
  state_ = SlotState::kPendingAnnounce;
  endpoint_->DropConfigEvents();
  endpoint_->ResetNow();
  context_.pacer->OweReady(number_);
  context_.host->OnSlotChanged(number_);
}

// --- The operator's side. ---

absl::Status Slot::Plug(uint64_t generation,
                        std::unique_ptr<virtio::VirtioDevice> device) {
  const std::string& place = log_.source();
  if (state_ == SlotState::kRemoving) {
    return absl::AlreadyExistsError(
        absl::StrCat(place, ": the device of generation ", generation_,
                     " is still being removed"));
  }
  if (state_ != SlotState::kEmpty) {
    return absl::AlreadyExistsError(
        absl::StrCat(place, ": holds the device of generation ", generation_));
  }
  deferred_.Reserve();
  endpoint_ = std::make_unique<Endpoint>(
      EndpointOptions{
          .dev_num = number_,
          .revision = context_.options.revision,
          .max_message_bytes = context_.options.max_message_bytes,
          .vendor_id = context_.options.vendor_id,
          .translated_dma = context_.options.translated_dma,
          .allow_untranslated = context_.options.allow_untranslated},
      place, std::move(device), context_.loop, context_.dma, context_.log_sink,
      this);
  state_ = SlotState::kPendingAnnounce;
  generation_ = generation;
  known_ = false;
  hidden_ = context_.pacer->removed_pending(number_);
  context_.pacer->OweReady(number_);
  context_.host->OnSlotChanged(number_);
  return absl::OkStatus();
}

absl::Status Slot::Unplug(const UnplugOptions& options,
                          absl::AnyInvocable<void()> gone) {
  const std::string place = absl::StrCat(context_.bus_name, "/bus", number_);
  if (state_ == SlotState::kEmpty) {
    return absl::NotFoundError(absl::StrCat(place, ": no device"));
  }
  if (state_ == SlotState::kRemoving) {
    if (!options.forced || phase_ != Phase::kServing) {
      return absl::FailedPreconditionError(
          absl::StrCat(place, ": the device of generation ", generation_,
                       " is being removed already"));
    }
    gone_.push_back(std::move(gone));
    fail_deadline_ = options.fail_deadline;
    StartFailing();
    return absl::OkStatus();
  }
  state_ = SlotState::kRemoving;
  phase_ = Phase::kServing;
  fail_deadline_ = options.fail_deadline;
  gone_.push_back(std::move(gone));
  context_.pacer->CancelReady(number_);
  if (known_) context_.pacer->OweRemoved(number_);
  if (unused_by_driver()) {
    Release();
  } else if (options.forced) {
    StartFailing();
  } else {
    deadline_->Arm(options.deadline);
  }
  context_.host->OnSlotChanged(number_);
  return absl::OkStatus();
}

void Slot::OnOperationDone() {
  if (state_ == SlotState::kRemoving && phase_ != Phase::kReleasing &&
      endpoint_->driver_status() == 0) {
    Release();
  }
  context_.host->OnSlotWork(number_);
}

void Slot::OnDeadline() {
  if (phase_ == Phase::kServing) {
    log_.LogGuest(vmm::LogSeverity::kWarning,
                  "the driver has not let go of the device: its requests fail "
                  "from now on");
    StartFailing();
  } else if (phase_ == Phase::kFailing) {
    log_.LogGuest(vmm::LogSeverity::kWarning,
                  "the driver has not let go of the device: it is taken away");
    Release();
  }
}

void Slot::StartFailing() {
  phase_ = Phase::kFailing;
  endpoint_->FailRequests();
  deadline_->Arm(fail_deadline_);
}

void Slot::Release() {
  phase_ = Phase::kReleasing;
  deadline_->Cancel();
  neutral_ = deferred_.size();
  front_started_ = false;
  // The device is inside its completion; it is destroyed from outside.
  endpoint_->Remove([this] {
    context_.loop->Post([this, alive = std::weak_ptr<char>(alive_)] {
      if (!alive.expired()) Free();
    });
  });
  if (waiting()) context_.host->OnSlotWork(number_);
}

void Slot::Free() {
  endpoint_.reset();
  state_ = SlotState::kEmpty;
  phase_ = Phase::kNone;
  generation_ = 0;
  met_before_ = met_before_ || known_;
  known_ = false;
  const std::weak_ptr<char> alive = alive_;
  std::vector<absl::AnyInvocable<void()>> gone = std::exchange(gone_, {});
  context_.host->OnSlotChanged(number_);
  for (absl::AnyInvocable<void()>& call : gone) {
    if (call != nullptr) call();
    if (alive.expired()) return;
  }
}

SlotStatus Slot::status() const {
  SlotStatus status;
  status.state = state_;
  if (endpoint_ == nullptr) return status;
  status.generation = generation_;
  status.device_id = endpoint_->device_id();
  status.driver_status = endpoint_->driver_status();
  status.resets = endpoint_->resets();
  // The back end is what an operator can do something about.
  if (endpoint_->backend_failed()) {
    status.health = SlotHealth::kBackendFailed;
    status.health_reason = endpoint_->backend_reason();
  } else if (endpoint_->needs_reset()) {
    status.health = SlotHealth::kNeedsReset;
    status.health_reason = endpoint_->needs_reset_reason();
  }
  return status;
}

}  // namespace vmsg::msg
