#include "devices/virtio_msg/driver_ping.h"

#include <utility>

#include "devices/virtio_msg/codec.h"
#include "vmm/base/check.h"

namespace vmsg::msg {
namespace {

// What a PING carries: another value for each token, and none that a driver
// has in its hands for another reason.
constexpr uint32_t DataOf(uint16_t token) { return token * 0x9E3779B1u; }

}  // namespace

DriverPing::DriverPing(vmm::EventLoop* loop, const PingOptions& options,
                       EventPacer* pacer, const Counters& counters,
                       absl::AnyInvocable<void()> due,
                       absl::AnyInvocable<void()> changed)
    : options_(options),
      pacer_(pacer),
      counters_(counters),
      due_(std::move(due)),
      changed_(std::move(changed)),
      timer_(loop->CreateTimer([this] { OnTimer(); })) {
  VMSG_CHECK(IsValid(options), "ping options out of range");
  UpdateAttention();
}

void DriverPing::HeardAgain() {
  misses_ = 0;
  if (phase_ == Phase::kOff) Rest();
  if (health_ == DriverHealth::kUnresponsive) {
    SetHealth(proven_ ? DriverHealth::kAnswers : DriverHealth::kUnknown);
  }
  UpdateAttention();
}

void DriverPing::HeardPing() {
  // At once, while it is at work on its bus.
  if (enabled() && phase_ == Phase::kOff) Ask();
}

void DriverPing::HeardAnswer(uint16_t token, uint32_t data) {
  if (!awaiting_ || token != token_ || data != DataOf(token)) {
    counters_.unexpected->Add();
    return;
  }
  counters_.answered->Add();
  awaiting_ = false;
  proven_ = true;
  misses_ = 0;
  pacer_->PingAnswered();
  if (phase_ != Phase::kResting) Rest();
  SetHealth(DriverHealth::kAnswers);
  UpdateAttention();
}

size_t DriverPing::Encode(std::span<std::byte> out) const {
  return EncodePingRequest(token_, DataOf(token_), out);
}

void DriverPing::Sent() {
  counters_.sent->Add();
  pacer_->PingSent();
  phase_ = Phase::kAsked;
  awaiting_ = true;
  timer_->Arm(options_.timeout);
}

void DriverPing::Refused() {
  if (!timer_->armed()) timer_->Arm(options_.timeout);
}

void DriverPing::Reset() {
  timer_->Cancel();
  pacer_->CancelPing();
  phase_ = Phase::kOff;
  heard_ = false;
  proven_ = false;
  awaiting_ = false;
  overdue_ = false;
  misses_ = 0;
  SetHealth(DriverHealth::kUnknown);
  UpdateAttention();
}

void DriverPing::OnTimer() {
  if (phase_ != Phase::kResting) {
    overdue_ = true;
    due_();
  } else if (heard_) {
    heard_ = false;
    timer_->Arm(options_.interval);
  } else {
    Ask();
    due_();
  }
}

void DriverPing::JudgeOverdue(bool deaf) {
  if (deaf) {
    overdue_ = false;
    timer_->Arm(options_.timeout);
  } else {
    Miss();
  }
}

void DriverPing::Ask() {
  // 0 is what events have. Source: virtio-msg-messages, 2.4.
  if (++token_ == 0) token_ = 1;
  awaiting_ = false;
  heard_ = false;
  phase_ = Phase::kDue;
  // Of Refused(), from here on.
  timer_->Cancel();
  pacer_->OwePing();
}

void DriverPing::Miss() {
  overdue_ = false;
  pacer_->CancelPing();
  if (!silence_counts()) {
    phase_ = Phase::kOff;
    return;
  }
  Rest();
  // It is there, whatever it does about a PING.
  if (std::exchange(heard_, false)) return;
  counters_.missed->Add();
  if (misses_ < options_.misses) ++misses_;
  if (misses_ == options_.misses) SetHealth(DriverHealth::kUnresponsive);
  UpdateAttention();
}

void DriverPing::Rest() {
  phase_ = Phase::kResting;
  overdue_ = false;
  timer_->Arm(options_.interval);
}

void DriverPing::SetHealth(DriverHealth health) {
  if (health == health_) return;
  health_ = health;
  changed_();
}

}  // namespace vmsg::msg
