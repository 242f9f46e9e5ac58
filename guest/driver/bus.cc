#include "guest/driver/bus.h"

namespace vmsg::guest {
namespace {

bool IsEventId(uint8_t msg_id) { return (msg_id & 0x40) != 0; }

BusOptions WithinPackets(BusOptions options) {
  if (options.max_message_bytes > kPacketBytes) {
    options.max_message_bytes = kPacketBytes;
  }
  return options;
}

}  // namespace

Bus::Bus(Platform* platform, Fifo* fifo, const BusOptions& options)
    : platform_(platform), fifo_(fifo), options_(WithinPackets(options)) {}

Error Bus::Poll() {
  const uint64_t count = platform_->InterruptCount(options_.interrupt);
  if (!drained_ || count != drained_count_) {
    drained_ = true;
    drained_count_ = count;
    Drain();
  }
  AnswerPings();
  return fifo_->state() == FifoState::kBroken ? Error::kFifoBroken
                                              : Error::kNone;
}

void Bus::Drain() {
  // One round of the queue at most, so that a device that never stops sending
  // does not keep us here.
  constexpr int kMaxPackets = 64;
  Packet packet;
  int taken = 0;
  for (; taken < kMaxPackets && fifo_->Receive(&packet); ++taken) {
    ++counters_.received;
    fifo_->CommitReceived();
    Handle(packet);
  }
  if (taken == kMaxPackets) drained_ = false;  // there may be more
}

void Bus::Handle(const Packet& packet) {
  Header header;
  if (!DecodeHeader(packet.bytes, options_.max_message_bytes, &header)) {
    return Malformed();
  }
  if (header.is_response()) return HandleResponse(header, packet);
  const std::span<const std::byte> message =
      std::span(packet.bytes).first(header.msg_size);
  if (header.is_bus()) return HandleBus(header, message);
  return HandleEvent(header, message);
}

void Bus::HandleBus(const Header& header, std::span<const std::byte> message) {
  if (header.dev_num != 0) return Malformed();
  if (header.msg_id == kBusMsgPing) {
    uint32_t data;
    if (!DecodePing(message, &data)) return Malformed();
    if (owed_ping_count_ == kMaxOwedPings) {
      ++counters_.pings_dropped;
      return;
    }
    owed_pings_[owed_ping_count_++] = {header.token, data};
    return;
  }
  if (header.msg_id != kBusMsgEventDevice) return Malformed();
  DeviceEvent event;
  if (!DecodeEventDevice(message, &event) || event.number >= kDeviceNumbers) {
    return Malformed();
  }
  if (event_count_ == kMaxEvents) {
    events_lost_ = true;
    return;
  }
  events_[(first_event_ + event_count_) % kMaxEvents] = event;
  ++event_count_;
}

void Bus::HandleEvent(const Header& header,
                      std::span<const std::byte> message) {
  if (header.dev_num >= kDeviceNumbers) return Malformed();
  DeviceListener* const listener = listeners_[header.dev_num];
  if (header.msg_id == kMsgEventUsed) {
    uint32_t queue;
    if (!DecodeEventUsed(message, &queue)) return Malformed();
    if (listener != nullptr) listener->OnUsed(queue);
  } else if (header.msg_id == kMsgEventConfig) {
    ConfigEvent event;
    if (!DecodeEventConfig(message, &event)) return Malformed();
    if (listener != nullptr) listener->OnConfig(event);
  } else {
    Malformed();
  }
}

void Bus::HandleResponse(const Header& header, const Packet& packet) {
  if (!expected_.waiting || expected_.arrived ||
      header.type != expected_.header.type ||
      header.msg_id != expected_.header.msg_id ||
      header.dev_num != expected_.header.dev_num ||
      header.token != expected_.header.token) {
    ++counters_.unexpected;
    return;
  }
  *expected_.answer = packet;
  expected_.arrived = true;
}

void Bus::AnswerPings() {
  uint32_t done = 0;
  while (done < owed_ping_count_) {
    std::array<std::byte, 12> message;
    const OwedPing& ping = owed_pings_[done];
    EncodePingResponse(ping.token, ping.data, message);
    if (!TrySend(message)) break;
    ++counters_.pings_answered;
    ++done;
  }
  if (done == 0) return;
  owed_ping_count_ -= done;
  for (uint32_t i = 0; i < owed_ping_count_; ++i) {
    owed_pings_[i] = owed_pings_[i + done];
  }
}

bool Bus::TrySend(std::span<const std::byte> message) {
  if (!fifo_->Send(message)) return false;
  fifo_->CommitSent();
  if (fifo_->state() == FifoState::kBroken) return false;
  ++counters_.sent;
  // After each packet: the device may sleep as soon as it sees an empty queue.
  platform_->WriteMmio(options_.doorbell_address, 4, 1);
  return true;
}

Error Bus::SendBy(std::span<const std::byte> message, uint64_t deadline_ns) {
  if (message.size() > options_.max_message_bytes) {
    return Error::kInvalidArgument;
  }
  while (!TrySend(message)) {
    const uint64_t seen = platform_->InterruptCount(options_.interrupt);
    // A device whose own queue is full takes nothing: empty it.
    if (const Error error = Poll(); error != Error::kNone) return error;
    const uint64_t now = platform_->NowNs();
    if (now >= deadline_ns) return Error::kTimeout;
    const uint64_t check = DeadlineAfter(now, kRoomCheckNs);
    platform_->WaitForInterrupt(options_.interrupt, seen,
                                check < deadline_ns ? check : deadline_ns);
  }
  return Error::kNone;
}

uint16_t Bus::NextToken() {
  if (++last_token_ == 0) ++last_token_;  // 0 is for events
  return last_token_;
}

Error Bus::Call(std::span<std::byte> message, Packet* answer) {
  Header header;
  if (options_.max_message_bytes < kMinMaxMessageBytes ||
      !DecodeHeader(message, options_.max_message_bytes, &header) ||
      header.is_response() || IsEventId(header.msg_id)) {
    return Error::kInvalidArgument;
  }
  message = message.first(header.msg_size);
  header.type |= kTypeResponse;
  header.token = NextToken();
  SetToken(message, header.token);

  const uint64_t deadline =
      DeadlineAfter(platform_->NowNs(), options_.timeout_ns);
  // A driver of before may have left answers, to tokens that are ours now.
  if (!drained_) Drain();
  expected_ = {true, false, header, answer};
  Error error = SendBy(message, deadline);
  while (error == Error::kNone && !expected_.arrived) {
    const uint64_t seen = platform_->InterruptCount(options_.interrupt);
    error = Poll();
    if (error != Error::kNone || expected_.arrived) break;
    if (platform_->NowNs() >= deadline) {
      error = Error::kTimeout;
      break;
    }
    platform_->WaitForInterrupt(options_.interrupt, seen, deadline);
  }
  const bool arrived = expected_.arrived;
  expected_ = {};
  return arrived ? Error::kNone : error;
}

Error Bus::SendEvent(std::span<std::byte> message) {
  return SendBy(message,
                DeadlineAfter(platform_->NowNs(), options_.timeout_ns));
}

Error Bus::GetDevices(uint16_t offset, uint16_t count, uint32_t* present,
                      uint16_t* next) {
  if (offset % 8 != 0 || count % 8 != 0 || count == 0) {
    return Error::kInvalidArgument;
  }
  std::array<std::byte, 12> request;
  EncodeGetDevices(offset, count, request);
  Packet answer;
  if (const Error error = Call(request, &answer); error != Error::kNone) {
    return error;
  }
  DeviceWindow window;
  if (!DecodeDevices(answer.bytes, &window) || window.offset != offset ||
      window.count > count) {
    return Error::kBadAnswer;
  }
  const uint32_t end = uint32_t{window.offset} + window.count;
  if (window.next_offset != 0 &&
      (window.next_offset % 8 != 0 || window.next_offset < end)) {
    return Error::kBadAnswer;
  }
  *present = 0;
  for (uint32_t number = offset; number < end && number < kDeviceNumbers;
       ++number) {
    const uint32_t bit = number - offset;
    const auto byte = static_cast<uint32_t>(window.bitmap[bit / 8]);
    if ((byte >> bit % 8 & 1) != 0) *present |= uint32_t{1} << number;
  }
  *next = window.next_offset;
  return Error::kNone;
}

Error Bus::Enumerate(uint32_t* present) {
  *present = 0;
  uint16_t offset = 0;
  // Each step goes up by at least 8: four windows at most.
  while (offset < kDeviceNumbers) {
    uint32_t found;
    uint16_t next;
    const Error error = GetDevices(
        offset, static_cast<uint16_t>(kDeviceNumbers - offset), &found, &next);
    if (error != Error::kNone) return error;
    *present |= found;
    if (next <= offset) break;
    offset = next;
  }
  return Error::kNone;
}

Error Bus::Ping(uint32_t data) {
  std::array<std::byte, 12> request;
  EncodePing(data, request);
  Packet answer;
  if (const Error error = Call(request, &answer); error != Error::kNone) {
    return error;
  }
  uint32_t echoed;
  if (!DecodePing(answer.bytes, &echoed) || echoed != data) {
    return Error::kBadAnswer;
  }
  return Error::kNone;
}

bool Bus::TakeDeviceEvent(DeviceEvent* event) {
  if (event_count_ == 0) return false;
  *event = events_[first_event_];
  first_event_ = (first_event_ + 1) % kMaxEvents;
  --event_count_;
  return true;
}

bool Bus::TakeEventsLost() {
  const bool lost = events_lost_;
  events_lost_ = false;
  return lost;
}

void Bus::Listen(uint16_t number, DeviceListener* listener) {
  listeners_[number] = listener;
}

void Bus::StopListening(uint16_t number) { listeners_[number] = nullptr; }

}  // namespace vmsg::guest
