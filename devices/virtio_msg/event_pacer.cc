#include "devices/virtio_msg/event_pacer.h"

#include <bit>
#include <utility>

#include "vmm/base/check.h"

namespace vmsg::msg {

EventPacer::EventPacer(vmm::EventLoop* loop, vmm::Duration pacing,
                       absl::AnyInvocable<bool()> taken,
                       absl::AnyInvocable<void()> may_send)
    : pacing_(pacing),
      taken_(std::move(taken)),
      may_send_(std::move(may_send)),
      timer_(loop->CreateTimer([this] { OnTimer(); })) {}

void EventPacer::OnTimer() {
  // A driver that took it after that may have done so just now, and has its
  // time from here on.
  const bool taken = taken_();
  if (!taken || taken_late_) {
    taken_late_ = !taken;
    timer_->Arm(pacing_);
    return;
  }
  Release();
  if (Next().has_value() || ping_next()) may_send_();
}

std::optional<EventPacer::Announcement> EventPacer::Next() const {
  const uint32_t owed = ready_ | removed_;
  if (owed == 0 || !free()) return std::nullopt;
  const uint32_t turned = std::rotr(owed, static_cast<int>(next_));
  const uint32_t slot =
      (next_ + static_cast<uint32_t>(std::countr_zero(turned))) % kSlots;
  return Announcement{slot, removed_owed(slot) ? DeviceBusState::kRemoved
                                               : DeviceBusState::kReady};
}

void EventPacer::Sent(const Announcement& announcement, bool news) {
  VMSG_CHECK(free(), "two events outstanding");
  if (announcement.state == DeviceBusState::kRemoved) {
    removed_ &= ~Bit(announcement.slot);
  } else {
    ready_ &= ~Bit(announcement.slot);
  }
  next_ = (announcement.slot + 1) % kSlots;
  outstanding_ = announcement;
  last_was_ping_ = false;
  news_ = news;
  timer_->Arm(pacing_);
}

void EventPacer::PingSent() {
  VMSG_CHECK(ping_next(), "a PING too early");
  ping_owed_ = false;
  ping_outstanding_ = true;
  last_was_ping_ = true;
  timer_->Arm(pacing_);
}

void EventPacer::Release() {
  outstanding_.reset();
  ping_outstanding_ = false;
  taken_late_ = false;
  timer_->Cancel();
}

void EventPacer::Reset() {
  ready_ = 0;
  removed_ = 0;
  ping_owed_ = false;
  last_was_ping_ = false;
  Release();
}

}  // namespace vmsg::msg
