// The endpoint's operations that take time, and what goes between driver and
// device besides requests.

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "devices/virtio_msg/endpoint.h"
#include "vmm/base/check.h"

namespace vmsg::msg {

using virtio::kStatusDriverOk;
using virtio::kStatusNeedsReset;

// Opens an operation and gives the completion that closes it: `finish` runs
// unless the operation was overtaken, and then the host hears of it.
template <typename Finish>
auto Endpoint::Begin(Operation operation, Finish finish) {
  operation_ = operation;
  return [this, epoch = ++epoch_, alive = std::weak_ptr<char>(alive_),
          finish = std::move(finish)](auto&&... result) mutable {
    if (alive.expired() || epoch != epoch_) return;
    operation_ = Operation::kNone;
    finish(std::forward<decltype(result)>(result)...);
    host_->OnOperationDone();
  };
}

// --- Operations. ---

virtio::DeviceContext Endpoint::Context() {
  return virtio::DeviceContext{.loop = loop_,
                               .dma = dma(),
                               .notifier = this,
                               .log = &log_,
                               .features = acked_.known()};
}

bool Endpoint::StartActivation() {
  std::vector<std::unique_ptr<virtio::Virtqueue>> queues(queues_.size());
  for (size_t i = 0; i < queues_.size(); ++i) {
    const Queue& queue = queues_[i];
    if (!queue.enabled) continue;
    absl::StatusOr<std::unique_ptr<virtio::Virtqueue>> made =
        virtio::CreateVirtqueue(static_cast<uint16_t>(i), queue.config,
                                queue.max_size, acked_.known(), dma());
    if (!made.ok()) {
      // Memory that was there at SET_VQUEUE has gone since.
      SetNeedsReset(absl::StrCat("queue ", i, ": ", made.status().message()));
      return false;
    }
    queues[i] = *std::move(made);
  }
  device_->Activate(Context(), std::move(queues),
                    Begin(Operation::kActivate, [this](absl::Status result) {
                      FinishActivation(result);
                    }));
  return true;
}

void Endpoint::FinishActivation(const absl::Status& result) {
  if (!result.ok()) {
    SetNeedsReset(absl::StrCat("activation: ", result.message()));
    return;
  }
  status_ |= kStatusDriverOk;
  host_->OnStatusChanged();
  TellToFail();
  for (size_t i = 0; i < queues_.size(); ++i) {
    if (queues_[i].enabled) device_->QueueNotify(static_cast<uint16_t>(i));
  }
  if (used_.Any()) host_->OnEvent();
}

void Endpoint::ResetNow() {
  if (operation_ == Operation::kReset || operation_ == Operation::kRemove) {
    return;
  }
  device_->Reset(Begin(Operation::kReset, [this] { FinishReset(); }));
}

// The generation count and a change of the configuration that the driver has
// not heard of survive. Source: virtio-msg-messages, O-27.
void Endpoint::FinishReset() {
  status_ = 0;
  ++resets_;
  acked_ = {};
  for (Queue& queue : queues_) {
    queue.enabled = false;
    queue.config = {};
  }
  std::fill(avail_.begin(), avail_.end(), 0);
  avail_pending_ = false;
  used_.Clear();
  status_changed_ = false;
  needs_reset_reason_.clear();
  told_to_fail_ = false;
  host_->OnStatusChanged();
  if (config_changed_) host_->OnEvent();
}

void Endpoint::StartQueueReset(uint16_t index) {
  device_->ResetQueue(index, Begin(Operation::kQueueReset,
                                   [this, index] { FinishQueueReset(index); }));
}

void Endpoint::FinishQueueReset(uint16_t index) {
  queues_[index].enabled = false;
  queues_[index].config = {};
  used_.Clear(index);
  TellToFail();
}

void Endpoint::FailRequests() {
  failing_ = true;
  if (!busy()) TellToFail();
}

void Endpoint::TellToFail() {
  if (!failing_ || told_to_fail_ || !live()) return;
  told_to_fail_ = true;
  device_->FailRequests();
}

void Endpoint::Remove(absl::AnyInvocable<void()> done) {
  operation_ = Operation::kRemove;
  ++epoch_;
  device_->Remove(
      [alive = std::weak_ptr<char>(alive_), done = std::move(done)]() mutable {
        if (!alive.expired()) done();
      });
}

// --- Notifications of the driver. ---

void Endpoint::Avail(const EventAvail& event) {
  VMSG_CHECK(!busy(), "an event during an operation");
  if (!Serves(event.index)) return;
  if (acked_.known().Has(virtio::kFeatureNotificationData) &&
      !NamesAPlace(event)) {
    log_.LogGuest(vmm::LogSeverity::kWarning,
                  "EVENT_AVAIL: not a position of this queue");
  }
  device_->QueueNotify(static_cast<uint16_t>(event.index));
}

// Packed: a descriptor, and any wrap counter. Split: the available index, which
// runs through all of its 16 bits.
bool Endpoint::NamesAPlace(const EventAvail& event) const {
  if (acked_.known().Has(virtio::kFeatureRingPacked)) {
    return event.next_offset < queues_[event.index].config.size;
  }
  return event.next_offset <= UINT16_MAX && !event.next_wrap;
}

void Endpoint::RememberAvail(uint32_t index) {
  if (index >= queues_.size()) return;
  avail_[index / 64] |= uint64_t{1} << (index % 64);
  avail_pending_ = true;
}

void Endpoint::DeliverAvail() {
  VMSG_CHECK(!busy(), "an event during an operation");
  if (!avail_pending_) return;
  avail_pending_ = false;
  for (uint32_t word = 0; word < avail_.size(); ++word) {
    uint64_t bits = std::exchange(avail_[word], 0);
    for (; bits != 0; bits &= bits - 1) {
      const uint32_t index =
          word * 64 + static_cast<uint32_t>(std::countr_zero(bits));
      if (Serves(index)) device_->QueueNotify(static_cast<uint16_t>(index));
    }
  }
}

// --- Notifications of the device. ---

void Endpoint::NotifyUsed(uint16_t queue) {
  if (used_.Raise(queue)) host_->OnEvent();
}

void Endpoint::NotifyConfigChanged(uint32_t offset, uint32_t length) {
  VMSG_CHECK(ConfigRangeFits(offset, length), "changed past the end");
  ++generation_;
  const uint32_t end = offset + length;
  changed_begin_ = config_changed_ ? std::min(changed_begin_, offset) : offset;
  changed_end_ = config_changed_ ? std::max(changed_end_, end) : end;
  config_changed_ = true;
  host_->OnEvent();
}

void Endpoint::NotifyNeedsReset(std::string_view reason) {
  if (operation_ == Operation::kReset || operation_ == Operation::kRemove) {
    return;
  }
  SetNeedsReset(reason);
}

void Endpoint::SetNeedsReset(std::string_view reason) {
  if (has(kStatusNeedsReset)) return;
  status_ |= kStatusNeedsReset;
  status_changed_ = true;
  needs_reset_reason_ = reason;
  log_.LogGuest(vmm::LogSeverity::kWarning, reason);
  host_->OnStatusChanged();
  host_->OnEvent();
}

void Endpoint::NotifyBackendHealth(bool healthy, std::string_view reason) {
  backend_failed_ = !healthy;
  backend_reason_ = healthy ? std::string_view() : reason;
  host_->OnStatusChanged();
}

// --- Events. ---

bool Endpoint::SendEvents(Outbox* outbox) {
  return SendConfigEvent(outbox) && SendUsedEvents(outbox);
}

void Endpoint::DropConfigEvents() {
  config_changed_ = false;
  status_changed_ = false;
}

bool Endpoint::SendConfigEvent(Outbox* outbox) {
  if (!config_changed_ && !status_changed_) return true;
  // FinishReset() comes back to it.
  if (operation_ == Operation::kReset || operation_ == Operation::kRemove) {
    return true;
  }
  ConfigEvent event{.status = status_, .generation = generation_};
  std::array<std::byte, kMaxMessageBytes> data_buffer;
  std::span<std::byte> data;
  if (config_changed_) {
    // Each change has a generation of its own, and is sent once: no two events
    // with data have the same one.
    const uint32_t length = changed_end_ - changed_begin_;
    if (length <= MaxConfigEventBytes(options_.max_message_bytes)) {
      data = std::span(data_buffer).first(length);
      if (!data.empty()) device_->ReadConfig(changed_begin_, data);
    }
    if (!data.empty() || policy_.config_event_names_range_without_data) {
      event.offset = changed_begin_;
      event.length = length;
    }
  }
  std::array<std::byte, kMaxMessageBytes> out;
  const size_t size = EncodeConfigEvent(options_.dev_num, event, data, out);
  if (!outbox->SendEvent(std::span(out).first(size))) return false;
  config_changed_ = false;
  status_changed_ = false;
  return true;
}

bool Endpoint::SendUsedEvents(Outbox* outbox) {
  if (operation_ == Operation::kActivate) return true;  // not yet DRIVER_OK
  if (!live()) {
    used_.Clear();
    return true;
  }
  return used_.Send(options_.dev_num, outbox);
}

}  // namespace vmsg::msg
