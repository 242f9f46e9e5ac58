#include "devices/virtio_msg/message_bus.h"

#include <array>
#include <atomic>
#include <bit>
#include <optional>
#include <thread>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "devices/virtio_msg/driver_ping.h"
#include "devices/virtio_msg/event_pacer.h"
#include "devices/virtio_msg/message.h"
#include "devices/virtio_msg/outbox.h"
#include "devices/virtio_msg/slot.h"
#include "devices/virtio_msg/traffic_observer.h"
#include "vmm/base/check.h"

namespace vmsg::msg {
namespace {

constexpr uint32_t kSlots = MessageBusOptions::kSlots;
static_assert(kSlots == EventPacer::kSlots);
static_assert(MessageBusOptions::kMaxDeferred == DeferredQueue::kCapacity);
// One answer to GET_DEVICES describes the whole bus.
static_assert(MaxDevicesCount(kMinMessageBytes) >= kSlots);

constexpr uint32_t Bit(uint32_t slot) { return uint32_t{1} << slot; }

// The set bits of `mask`, the slots from `first` on before the others.
template <typename Visit>
bool ForEachSlot(uint32_t mask, uint32_t first, Visit visit) {
  uint32_t turned = std::rotr(mask, static_cast<int>(first));
  for (; turned != 0; turned &= turned - 1) {
    const uint32_t slot =
        (first + static_cast<uint32_t>(std::countr_zero(turned))) % kSlots;
    if (!visit(slot)) return false;
  }
  return true;
}

}  // namespace

class MessageBus::Impl final : private SlotHost {
 public:
  Impl(std::string name, const MessageBusOptions& options, vmm::EventLoop* loop,
       vmm::DmaSpace* dma, MessageLink* link, vmm::LogSink* log_sink);

  bool CanAccept() const { return !outbox_.owes() && full_slots_ == 0; }
  void Receive(std::span<const std::byte> bytes);
  bool Flush();
  void ResetAll();

  absl::Status Plug(uint32_t slot, uint64_t generation,
                    std::unique_ptr<virtio::VirtioDevice> device);
  absl::Status Unplug(uint32_t slot, const UnplugOptions& options,
                      absl::AnyInvocable<void()> gone);
  SlotStatus status(uint32_t slot) const;
  void SetObserver(SlotObserver observer) { observer_ = std::move(observer); }
  bool driver_seen() const { return driver_seen_; }
  DriverHealth driver_health() const { return ping_.health(); }
  const Counters& counters() const { return counters_; }

 private:
  // Observers hear of what happens inside in a later turn.
  class OperatorCall {
   public:
    explicit OperatorCall(Impl* bus) : bus_(bus) {
      bus_->in_operator_call_ = true;
    }
    ~OperatorCall() { bus_->in_operator_call_ = false; }

   private:
    Impl* const bus_;
  };

  // SlotHost.
  void OnSlotWork(uint32_t slot) override;
  void OnSlotEvent(uint32_t slot) override;
  void OnSlotChanged(uint32_t slot) override;

  // From the first message of a batch to the end of the flush that follows it,
  // the thread of the link need not be asked for service. Once a batch, not
  // once a message: asking for the thread costs.
  void BeginBatch() {
    if (in_batch_) return;
    in_batch_ = true;
    batch_thread_.store(std::this_thread::get_id(), std::memory_order_relaxed);
  }
  void EndBatch() {
    in_batch_ = false;
    batch_thread_.store(std::thread::id(), std::memory_order_relaxed);
  }
  // Devices keep the bus from accepting. If an answer waits for room it is the
  // driver that does.
  bool held_up() const { return full_slots_ != 0 && !outbox_.owes(); }
  // Messages sent.
  uint64_t sent() const {
    return counters_.answered.value() + counters_.events_sent.value() +
           counters_.pings_sent.value();
  }
  void RequestService();
  void ReceiveBus(const Header& header, const DriverMessage& message);
  void ReceiveTransport(const Header& header, const DriverMessage& message,
                        std::span<const std::byte> raw);
  void NoteReaction(const Slot& slot, uint32_t n, const DriverMessage& message);
  size_t ListDevices(const Header& header, const GetDevices& get,
                     std::span<std::byte> out);
  bool FlushAll();
  bool FlushAnswers();
  bool FlushAnnouncements();
  bool PacedTaken();
  bool FlushPing();
  bool FlushEvents();
  void UpdateFull(uint32_t slot);
  void OnDriverHealth();
  void TellObserver();

  SlotContext context_;
  MessageLink* const link_;
  vmm::Logger log_;
  Counters counters_;
  Outbox outbox_;
  EventPacer pacer_;
  DriverPing ping_;
  SlotObserver observer_;

  // Sets of slots, a bit for each.
  uint32_t full_slots_ = 0;               // no request more for these
  uint32_t work_slots_ = 0;               // to be pumped
  uint32_t changed_slots_ = 0;            // observers have not been told
  std::atomic<uint32_t> event_slots_{0};  // with events to send; any thread

  // Where the next turn begins.
  uint32_t next_work_ = 0;
  uint32_t next_event_ = 0;

  uint64_t paced_ = 0;  // sent(), with what the pacer sent last
  bool driver_seen_ = false;
  bool service_requested_ = false;
  bool in_operator_call_ = false;
  bool in_batch_ = false;
  std::atomic<std::thread::id> batch_thread_{std::thread::id()};

  const std::unique_ptr<vmm::WakeSource> event_wake_;
  const std::unique_ptr<vmm::WakeSource> observer_wake_;
  // After the wake sources, so first to go: devices raise these.
  std::array<std::optional<Slot>, kSlots> slots_;
};

MessageBus::Impl::Impl(std::string name, const MessageBusOptions& options,
                       vmm::EventLoop* loop, vmm::DmaSpace* dma,
                       MessageLink* link, vmm::LogSink* log_sink)
    : context_{.bus_name = name,
               .options = options,
               .loop = loop,
               .dma = dma,
               .log_sink = log_sink,
               .pacer = &pacer_,
               .host = this},
      link_(link),
      log_(log_sink, &loop->clock(), std::move(name)),
      outbox_(link,
              Outbox::Counters{.answered = &counters_.answered,
                               .events_sent = &counters_.events_sent,
                               .send_refused = &counters_.send_refused},
              options.traffic_observer),
      pacer_(
          loop, options.announce_pacing, [this] { return PacedTaken(); },
          [this] { RequestService(); }),
      ping_(
          loop, options.ping, &pacer_,
          DriverPing::Counters{.sent = &counters_.pings_sent,
                               .answered = &counters_.pings_answered,
                               .missed = &counters_.pings_missed,
                               .unexpected = &counters_.pings_unexpected},
          [this] { RequestService(); }, [this] { OnDriverHealth(); }),
      event_wake_(loop->CreateWakeSource([this] { RequestService(); })),
      observer_wake_(loop->CreateWakeSource([this] { TellObserver(); })) {
  VMSG_CHECK(options.max_message_bytes >= kMinMessageBytes &&
                 options.max_message_bytes <= kMaxMessageBytes,
             "max_message_bytes out of range");
  for (uint32_t i = 0; i < kSlots; ++i) slots_[i].emplace(i, &context_);
}

// --- Messages of the driver. ---

void MessageBus::Impl::Receive(std::span<const std::byte> bytes) {
  BeginBatch();
  counters_.received.Add();
  TrafficObserver* const traffic = context_.options.traffic_observer;
  if (traffic != nullptr) traffic->OnDriverMessage(bytes);
  Header header;
  DriverMessage message;
  const DecodeError error = DecodeFromDriver(context_.options.revision,
                                             context_.options.max_message_bytes,
                                             bytes, &header, &message);
  if (error != DecodeError::kNone) {
    counters_.malformed.Add();
    log_.LogGuest(vmm::LogSeverity::kWarning, DecodeErrorName(error));
    return;
  }
  driver_seen_ = true;
  if (header.is_bus) {
    ReceiveBus(header, message);
  } else {
    ReceiveTransport(header, message, bytes);
  }
}

void MessageBus::Impl::ReceiveTransport(const Header& header,
                                        const DriverMessage& message,
                                        std::span<const std::byte> raw) {
  if (header.dev_num >= kSlots) {
    counters_.unknown_device.Add();
    log_.LogGuest(vmm::LogSeverity::kWarning, "no such device number");
    return;
  }
  ping_.Heard();
  const uint32_t n = header.dev_num;
  Slot& slot = *slots_[n];
  if (pacer_.outstanding()) NoteReaction(slot, n, message);
  std::array<std::byte, kMaxMessageBytes> out;
  const size_t size = slot.Receive(header, message, raw, out);
  if (size != 0) {
    outbox_.SendAnswer(std::span(out).first(size));
  } else if (slot.waiting() && !std::holds_alternative<EventAvail>(message)) {
    counters_.deferred.Add();
    UpdateFull(n);
  }
}

// After READY a driver asks for the device's info; after REMOVED it stops a
// device that it had started. What it does in other places too (a reset while
// it probes) is no sign that it has looked at the event.
void MessageBus::Impl::NoteReaction(const Slot& slot, uint32_t n,
                                    const DriverMessage& message) {
  const SetDeviceStatus* const set = std::get_if<SetDeviceStatus>(&message);
  if (std::holds_alternative<GetDeviceInfo>(message)) {
    pacer_.DriverReacted(n, DeviceBusState::kReady);
  } else if (set != nullptr && set->is_reset() && slot.started()) {
    pacer_.DriverReacted(n, DeviceBusState::kRemoved);
  }
}

void MessageBus::Impl::ReceiveBus(const Header& header,
                                  const DriverMessage& message) {
  if (const auto* const answer = std::get_if<PingResponse>(&message)) {
    ping_.HeardAnswer(header.token, answer->data);
    return;
  }
  ping_.Heard();
  std::array<std::byte, kMaxMessageBytes> out;
  size_t size = 0;
  if (const GetDevices* const get = std::get_if<GetDevices>(&message)) {
    size = ListDevices(header, *get, out);
  } else if (const Ping* const ping = std::get_if<Ping>(&message)) {
    size = EncodePing(header, ping->data, out);
    ping_.HeardPing();
  } else {
    return;
  }
  outbox_.SendAnswer(std::span(out).first(size));
}

// The window that was asked for, clipped at the end of the bus.
size_t MessageBus::Impl::ListDevices(const Header& header,
                                     const GetDevices& get,
                                     std::span<std::byte> out) {
  const uint32_t begin = std::min(get.offset, kSlots);
  const uint32_t end = std::min(get.offset + get.count, kSlots);
  uint64_t present = 0;
  for (uint32_t n = begin; n < end; ++n) {
    if (!slots_[n]->listed()) continue;
    present |= Bit(n);
    slots_[n]->BecomeKnown();
    pacer_.Listed(n);
  }
  return EncodeDevices(context_.options.revision, header, get.offset,
                       end - begin, /*next_offset=*/0, present, out);
}

// --- Messages to the driver. ---

bool MessageBus::Impl::Flush() {
  service_requested_ = false;
  BeginBatch();
  const bool done = FlushAll();
  EndBatch();
  // Brought up by the flush itself.
  if (done &&
      (work_slots_ != 0 || event_slots_.load(std::memory_order_relaxed) != 0)) {
    RequestService();
  }
  return done;
}

// Bounded: each waiting request, announcement and level at most once.
bool MessageBus::Impl::FlushAll() {
  ping_.Judge(/*deaf=*/held_up());
  if (FlushAnswers()) return FlushAnnouncements() && FlushEvents();
  // Nor is there room for this.
  if (pacer_.ping_next()) ping_.Refused();
  return false;
}

bool MessageBus::Impl::FlushAnswers() {
  if (!outbox_.SendOwed()) return false;
  if (work_slots_ == 0) return true;
  uint32_t left = std::exchange(work_slots_, 0);
  ForEachSlot(left, next_work_, [&](uint32_t n) {
    const bool pumped = slots_[n]->Pump(&outbox_);
    UpdateFull(n);
    next_work_ = n;
    if (pumped) left &= ~Bit(n);
    return pumped;
  });
  work_slots_ |= left;
  return left == 0 && !outbox_.owes();
}

bool MessageBus::Impl::FlushAnnouncements() {
  // A driver that has not shown itself finds the devices when it enumerates.
  if (!pacer_.owes() || !driver_seen_) return true;
  if (pacer_.ping_next() && !held_up()) return FlushPing();
  const std::optional<EventPacer::Announcement> next = pacer_.Next();
  if (!next.has_value()) return true;
  std::array<std::byte, kMinMessageBytes> out;
  const size_t size = EncodeDeviceEvent(next->slot, next->state, out);
  if (!outbox_.SendEvent(std::span(out).first(size))) return false;
  if (next->state == DeviceBusState::kReady) {
    Slot& slot = *slots_[next->slot];
    pacer_.Sent(*next, /*news=*/!slot.known());
    slot.BecomeKnown();
  } else {
    pacer_.Sent(*next, /*news=*/true);
  }
  paced_ = sent();
  return true;
}

// What the pacer sent last.
bool MessageBus::Impl::PacedTaken() {
  if (link_->Unread() <= sent() - paced_) return true;
  // As long as it is there, there is no room for a PING.
  if (pacer_.ping_owed()) ping_.Refused();
  return false;
}

bool MessageBus::Impl::FlushPing() {
  std::array<std::byte, kMinMessageBytes> out;
  const size_t size = ping_.Encode(out);
  if (!outbox_.SendPing(std::span(out).first(size))) {
    ping_.Refused();
    return false;
  }
  ping_.Sent();
  paced_ = sent();
  return true;
}

bool MessageBus::Impl::FlushEvents() {
  if (event_slots_.load(std::memory_order_relaxed) == 0) return true;
  uint32_t left = event_slots_.exchange(0, std::memory_order_acq_rel);
  ForEachSlot(left, next_event_, [&](uint32_t n) {
    const bool sent = slots_[n]->SendEvents(&outbox_);
    next_event_ = n;
    if (sent) left &= ~Bit(n);
    return sent;
  });
  if (left != 0) event_slots_.fetch_or(left, std::memory_order_acq_rel);
  return left == 0;
}

void MessageBus::Impl::UpdateFull(uint32_t slot) {
  full_slots_ =
      slots_[slot]->full() ? full_slots_ | Bit(slot) : full_slots_ & ~Bit(slot);
}

void MessageBus::Impl::RequestService() {
  if (in_batch_ || service_requested_) return;
  service_requested_ = true;
  link_->RequestService();
}

void MessageBus::Impl::ResetAll() {
  const OperatorCall call(this);
  if (context_.options.traffic_observer != nullptr) {
    context_.options.traffic_observer->OnDriverReset();
  }
  outbox_.Clear();
  ping_.Reset();
  pacer_.Reset();
  driver_seen_ = false;
  full_slots_ = 0;
  work_slots_ = 0;
  event_slots_.store(0, std::memory_order_relaxed);
  service_requested_ = false;
  EndBatch();
  for (std::optional<Slot>& slot : slots_) slot->Restart();
}

// --- What slots report. ---

void MessageBus::Impl::OnSlotWork(uint32_t slot) {
  work_slots_ |= Bit(slot);
  RequestService();
}

// Model: the back end of tests/model/queue.pml.
void MessageBus::Impl::OnSlotEvent(uint32_t slot) {
  // Release: who takes the bit sees the level behind it. When the bit was set
  // already somebody else is about to flush, or waits for room.
  const uint32_t before =
      event_slots_.fetch_or(Bit(slot), std::memory_order_acq_rel);
  if (before == 0 && batch_thread_.load(std::memory_order_relaxed) !=
                         std::this_thread::get_id()) {
    event_wake_->Signal();
  }
}

void MessageBus::Impl::OnSlotChanged(uint32_t slot) {
  if (observer_ == nullptr) return;
  if (in_operator_call_) {
    changed_slots_ |= Bit(slot);
    observer_wake_->Signal();
    return;
  }
  changed_slots_ &= ~Bit(slot);
  observer_(slot);
}

void MessageBus::Impl::OnDriverHealth() {
  if (ping_.health() == DriverHealth::kUnresponsive) {
    log_.LogGuest(vmm::LogSeverity::kWarning, "the driver does not answer");
  }
  for (uint32_t n = 0; n < kSlots; ++n) {
    if (slots_[n]->occupied()) OnSlotChanged(n);
  }
  // Whoever runs the link looks at the bus after each service.
  RequestService();
}

void MessageBus::Impl::TellObserver() {
  ForEachSlot(std::exchange(changed_slots_, 0), 0, [this](uint32_t n) {
    if (observer_ != nullptr) observer_(n);
    return true;
  });
}

// --- The operator's side. ---

absl::Status MessageBus::Impl::Plug(
    uint32_t slot, uint64_t generation,
    std::unique_ptr<virtio::VirtioDevice> device) {
  const OperatorCall call(this);
  if (slot >= kSlots) {
    return absl::InvalidArgumentError(absl::StrCat(
        context_.bus_name, ": slot ", slot, " is not below ", kSlots));
  }
  absl::Status plugged = slots_[slot]->Plug(generation, std::move(device));
  if (plugged.ok()) RequestService();
  return plugged;
}

absl::Status MessageBus::Impl::Unplug(uint32_t slot,
                                      const UnplugOptions& options,
                                      absl::AnyInvocable<void()> gone) {
  const OperatorCall call(this);
  if (slot >= kSlots) {
    return absl::NotFoundError(absl::StrCat(context_.bus_name, ": slot ", slot,
                                            " is not below ", kSlots));
  }
  absl::Status unplugged = slots_[slot]->Unplug(options, std::move(gone));
  if (unplugged.ok()) RequestService();
  return unplugged;
}

SlotStatus MessageBus::Impl::status(uint32_t slot) const {
  VMSG_CHECK(slot < kSlots, "no such slot");
  SlotStatus status = slots_[slot]->status();
  // What the device itself has to say comes first.
  if (ping_.health() == DriverHealth::kUnresponsive &&
      status.state != SlotState::kEmpty && status.health == SlotHealth::kOk) {
    status.health = SlotHealth::kUnresponsive;
    status.health_reason = absl::StrCat("the driver has left ", ping_.misses(),
                                        " PINGs in a row without an answer");
  }
  return status;
}

// --- MessageBus. ---

MessageBus::MessageBus(std::string name, const MessageBusOptions& options,
                       vmm::EventLoop* loop, vmm::DmaSpace* dma,
                       MessageLink* link, vmm::LogSink* log_sink)
    : impl_(std::make_unique<Impl>(std::move(name), options, loop, dma, link,
                                   log_sink)) {}

MessageBus::~MessageBus() = default;

bool MessageBus::CanAccept() const { return impl_->CanAccept(); }
void MessageBus::Receive(std::span<const std::byte> message) {
  impl_->Receive(message);
}
bool MessageBus::Flush() { return impl_->Flush(); }
void MessageBus::ResetAll() { impl_->ResetAll(); }
absl::Status MessageBus::Plug(uint32_t slot, uint64_t generation,
                              std::unique_ptr<virtio::VirtioDevice> device) {
  return impl_->Plug(slot, generation, std::move(device));
}
absl::Status MessageBus::Unplug(uint32_t slot, const UnplugOptions& options,
                                absl::AnyInvocable<void()> gone) {
  return impl_->Unplug(slot, options, std::move(gone));
}
SlotStatus MessageBus::status(uint32_t slot) const {
  return impl_->status(slot);
}
void MessageBus::SetObserver(SlotObserver observer) {
  impl_->SetObserver(std::move(observer));
}
bool MessageBus::driver_seen() const { return impl_->driver_seen(); }
DriverHealth MessageBus::driver_health() const {
  return impl_->driver_health();
}
const MessageBus::Counters& MessageBus::counters() const {
  return impl_->counters();
}

}  // namespace vmsg::msg
