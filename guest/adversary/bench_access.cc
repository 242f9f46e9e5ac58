// What cases do to the victim, and see of it.

#include "guest/adversary/bench.h"

namespace vmsg::guest {
namespace {

// The answer to `message`, as far as the header says.
bool IsAnswer(const Packet& packet, const RawMessage& message) {
  const uint64_t type = message.Get(0, 1) & kTypeMask;
  return RawMessage::Get(packet, 0, 1) == (type | kTypeResponse) &&
         RawMessage::Get(packet, 1, 1) == message.Get(1, 1) &&
         RawMessage::Get(packet, 2, 2) == message.Get(2, 2) &&
         RawMessage::Get(packet, 4, 2) == message.Get(4, 2);
}

bool IsResponse(const Packet& packet) {
  return (RawMessage::Get(packet, 0, 1) & kTypeResponse) != 0;
}

}  // namespace

// --- PCI and registers. ---

uint64_t Bench::registers() const {
  constexpr uint64_t kFirstDoorbell = 0x20;
  return functions_[0].doorbell_address(0) - kFirstDoorbell;
}

uint64_t Bench::windows() const { return bars_[1] & ~uint32_t{0xF}; }

uint64_t Bench::msix_table() const {
  const uint32_t where = platform_->ReadConfig(
      places_[0], static_cast<uint16_t>(msix_capability_ + 4), 4);
  return (bars_[where & 7] & ~uint32_t{0xF}) + (where & ~uint32_t{7});
}

uint32_t Bench::Config(uint16_t offset, uint8_t width) {
  return platform_->ReadConfig(places_[0], offset, width);
}

void Bench::SetConfig(uint16_t offset, uint32_t value, uint8_t width) {
  platform_->WriteConfig(places_[0], offset, width, value);
}

uint64_t Bench::ReadRegister(uint64_t offset, uint8_t width) {
  return platform_->ReadMmio(registers() + offset, width);
}

void Bench::WriteRegister(uint64_t offset, uint8_t width, uint64_t value) {
  platform_->WriteMmio(registers() + offset, width, value);
  ++acts_;
  Watch();
}

Reaction Bench::ReadsZero(uint64_t offset, uint8_t width) {
  return ReadRegister(offset, width) == 0 ? Reaction::kRefused
                                          : Reaction::kTaken;
}

Reaction Bench::ConfigIgnores(uint16_t offset, uint32_t value, uint8_t width) {
  const uint32_t before = Config(offset, width);
  SetConfig(offset, value, width);
  return Config(offset, width) == before ? Reaction::kRefused
                                         : Reaction::kTaken;
}

// --- Messages. ---

bool Bench::Receive(Packet* packet) {
  if (!victim_.fifo()->Receive(packet)) return false;
  victim_.fifo()->CommitReceived();
  return true;
}

bool Bench::ReceiveBy(uint64_t deadline_ns, Packet* packet) {
  constexpr uint64_t kLookNs = 1'000'000;
  while (true) {
    Watch();
    const uint64_t seen = Interrupts();
    if (Receive(packet)) return true;
    const uint64_t now = platform_->NowNs();
    if (now >= deadline_ns) return false;
    const uint64_t look = DeadlineAfter(now, kLookNs);
    platform_->WaitForInterrupt(victim_.interrupt(), seen,
                                look < deadline_ns ? look : deadline_ns);
  }
}

void Bench::Idle(uint64_t ns) {
  const uint64_t deadline = Deadline(ns);
  for (;;) {
    Watch();
    if (platform_->NowNs() >= deadline) return;
    const bool watch = watching_ && watch_at_ns_ < deadline;
    platform_->WaitForInterrupt(victim_.interrupt(), Interrupts(),
                                watch ? watch_at_ns_ : deadline);
  }
}

uint64_t Bench::Interrupts() {
  return platform_->InterruptCount(victim_.interrupt());
}

bool Bench::Post(const RawMessage& message) {
  if (!victim_.fifo()->Send(message.packet().bytes)) return false;
  victim_.fifo()->CommitSent();
  return true;
}

bool Bench::Send(const RawMessage& message) {
  constexpr uint64_t kLookNs = 1'000'000;
  const uint64_t deadline = Deadline(wait_ns_);
  while (!Post(message)) {
    if (platform_->NowNs() >= deadline) return false;
    Idle(kLookNs);
  }
  Ring();
  return true;
}

uint16_t Bench::NextToken() {
  constexpr uint16_t kFirst = 0x8000;  // apart from RawMessage::kToken
  token_ = static_cast<uint16_t>(kFirst | (token_ + 1));
  return token_;
}

const Packet* Bench::Exchange(const RawMessage& message) {
  Packet packet;
  while (Receive(&packet)) continue;
  const RawMessage marker = Request(kMsgGetDeviceStatus, 8).Token(NextToken());
  if (!Send(message) || !Send(marker)) return nullptr;
  bool answered = false;
  const uint64_t deadline = Deadline(wait_ns_);
  while (ReceiveBy(deadline, &packet)) {
    if (IsAnswer(packet, marker)) return answered ? &answer_ : nullptr;
    if (!IsResponse(packet)) continue;
    if (!IsAnswer(packet, message)) Fail("stray-answer");
    if (answered) Fail("second-answer");
    answered = true;
    answer_ = packet;
  }
  return nullptr;
}

Reaction Bench::Try(const RawMessage& message) {
  return Exchange(message) == nullptr ? Reaction::kRefused : Reaction::kTaken;
}

Reaction Bench::AnswersZero(const RawMessage& message, size_t at,
                            size_t bytes) {
  const Packet* const answer = Exchange(message);
  if (answer == nullptr) {
    Fail("no-answer");
    return Reaction::kRefused;
  }
  for (size_t i = 0; i < bytes; ++i) {
    if (answer->bytes[at + i] != std::byte{0}) return Reaction::kTaken;
  }
  return Reaction::kRefused;
}

bool Bench::AnswersWithoutRing(const RawMessage& message,
                               void (*act)(Bench& bench)) {
  // A ring of before may still be on its way: then the second time shows.
  constexpr uint64_t kWaitNs = 40'000'000;
  for (int i = 0; i < 2; ++i) {
    Idle(kWaitNs);
    Packet packet;
    if (!Post(message)) return false;
    if (act != nullptr) act(*this);
    const uint64_t deadline = Deadline(kWaitNs);
    bool answered = false;
    while (!answered && ReceiveBy(deadline, &packet)) {
      answered = IsAnswer(packet, message);
    }
    if (answered) continue;
    Ring();
    if (Collect(1) != 1) Fail("no-answer");
    return false;
  }
  return true;
}

bool Bench::Ask(RawMessage message, Packet* answer) {
  message.Token(NextToken());
  if (!Send(message)) return false;
  const uint64_t deadline = Deadline(ask_ns_);
  while (ReceiveBy(deadline, answer)) {
    if (IsAnswer(*answer, message)) return true;
  }
  return false;
}

bool Bench::Alive() {
  constexpr uint32_t kData = 0x414C4956;
  Packet answer;
  return Ask(OnBus(kBusMsgPing, 12).U32(8, kData), &answer) &&
         RawMessage::Get(answer, 8, 4) == kData;
}

uint32_t Bench::Collect(uint32_t answers) {
  uint32_t count = 0;
  Packet packet;
  while (count < answers && ReceiveBy(Deadline(wait_ns_), &packet)) {
    if (IsResponse(packet)) ++count;
  }
  return count;
}

// --- The victim's device. ---

uint32_t Bench::Status() {
  Packet answer;
  if (!Ask(Request(kMsgGetDeviceStatus, 8), &answer)) return kStatusMask + 1;
  return static_cast<uint32_t>(RawMessage::Get(answer, 8, 4));
}

uint32_t Bench::SetStatus(uint32_t status) {
  Packet answer;
  if (!Ask(Request(kMsgSetDeviceStatus, 12).U32(8, status), &answer)) {
    return kStatusMask + 1;
  }
  return static_cast<uint32_t>(RawMessage::Get(answer, 8, 4));
}

uint32_t Bench::OfferedFeatures(uint32_t block) {
  Packet answer;
  if (!Ask(Request(kMsgGetDeviceFeatures, 16).U32(8, block).U32(12, 1),
           &answer)) {
    return 0;
  }
  return static_cast<uint32_t>(RawMessage::Get(answer, 16, 4));
}

bool Bench::WriteFeatures(uint32_t block, uint32_t word) {
  Packet answer;
  return Ask(
      Request(kMsgSetDriverFeatures, 20).U32(8, block).U32(12, 1).U32(16, word),
      &answer);
}

bool Bench::StopAt(uint32_t to) {
  bool ok = SetStatus(0) == 0;
  if (ok && to >= kStatusAcknowledge) {
    ok = SetStatus(kStatusAcknowledge) == kStatusAcknowledge;
  }
  constexpr uint32_t kFound = kStatusAcknowledge | kStatusDriver;
  if (ok && to >= kFound) ok = SetStatus(kFound) == kFound;
  if (ok && to > kFound) {
    constexpr Features kWanted =
        Features::Of(kFeatureVersion1, kFeatureIndirectDesc, kFeatureRingReset);
    for (uint32_t block = 0; ok && block < 2; ++block) {
      ok = WriteFeatures(block, OfferedFeatures(block) & kWanted.block(block));
    }
    ok = ok && SetStatus(to) == to;
  }
  Mark();
  return ok;
}

bool Bench::StartWith(const Features& features) {
  constexpr uint32_t kFeatured =
      kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
  bool ok = StopAt(kStatusAcknowledge | kStatusDriver);
  for (uint32_t block = 0; ok && block < 2; ++block) {
    const uint32_t wanted = features.block(block);
    ok = (OfferedFeatures(block) & wanted) == wanted &&
         WriteFeatures(block, wanted);
  }
  ok = ok && SetStatus(kFeatured) == kFeatured;
  uses_packed_ = features.Has(kFeatureRingPacked);
  packed_.Clear();
  constexpr uint32_t kAll = kFeatured | kStatusDriverOk;
  ok = ok && SetQueue(queue_.settings()) && SetStatus(kAll) == kAll && Serves();
  Mark();
  return ok;
}

Vqueue Bench::GetQueue(uint32_t index) {
  Packet answer;
  Vqueue vqueue;
  if (Ask(Request(kMsgGetVqueue, 12).U32(8, index), &answer)) {
    // A bad answer shows as a queue that is not what it should be.
    if (!DecodeVqueue(answer.bytes, &vqueue)) return {};
  }
  return vqueue;
}

bool Bench::SetQueue(const Vqueue& vqueue) {
  RawMessage message = Request(kMsgSetVqueue, 48);
  message.U32(8, vqueue.index)
      .U32(16, vqueue.size)
      .U64(24, vqueue.desc)
      .U64(32, vqueue.driver)
      .U64(40, vqueue.device);
  Packet answer;
  if (!Ask(message, &answer)) return false;
  const Vqueue now = GetQueue(vqueue.index);
  return now.size == vqueue.size && now.desc == vqueue.desc &&
         now.driver == vqueue.driver && now.device == vqueue.device;
}

// --- queue(). ---

void Bench::GoodDescriptor(uint32_t index, uint32_t bytes) {
  queue_.Descriptor(
      index,
      {.address = queue_.buffer(), .bytes = bytes, .flags = RawQueue::kWrite});
}

void Bench::Kick() { Send(Request(kMsgEventAvail, 16).U32(8, 0).U32(12, 0)); }

bool Bench::WaitUsed(RawQueue::Used* used) {
  constexpr uint64_t kLookNs = 1'000'000;
  const uint64_t deadline = Deadline(wait_ns_);
  while (true) {
    const uint64_t seen = Interrupts();
    if (uses_packed_ ? packed_.Take(used) : queue_.Take(used)) return true;
    Watch();
    const uint64_t now = platform_->NowNs();
    if (now >= deadline) return false;
    // EVENT_USED is not kept: the ring says it.
    Packet packet;
    if (Receive(&packet)) continue;
    platform_->WaitForInterrupt(victim_.interrupt(), seen,
                                DeadlineAfter(now, kLookNs));
  }
}

Reaction Bench::Offered(uint16_t head) {
  queue_.Offer(head);
  Kick();
  RawQueue::Used used;
  return WaitUsed(&used) && used.id == head ? Reaction::kTaken
                                            : Reaction::kRefused;
}

bool Bench::Serves() {
  constexpr uint32_t kBytes = 64;
  constexpr uint16_t kId = 0;
  if (uses_packed_) {
    packed_.Offer({queue_.buffer(), kBytes, kId, RawQueue::kWrite});
  } else {
    GoodDescriptor(kId, kBytes);
    queue_.Offer(kId);
  }
  Kick();
  RawQueue::Used used;
  return WaitUsed(&used) && used.id == kId && used.written == kBytes;
}

Reaction Bench::OfferedPacked(const RawPackedQueue::Entry& entry) {
  packed_.Offer(entry);
  Kick();
  return ComesBack(entry.id);
}

Reaction Bench::ComesBack(uint16_t id) {
  RawQueue::Used used;
  return WaitUsed(&used) && used.id == id ? Reaction::kTaken
                                          : Reaction::kRefused;
}

Reaction Bench::Ignored() {
  Kick();
  // Behind the event, on the same FIFO.
  if (Try(Request(kMsgGetDeviceStatus, 8)) == Reaction::kRefused) {
    Fail("no-answer");
  }
  RawQueue::Used used;
  return (uses_packed_ ? packed_.Take(&used) : queue_.Take(&used))
             ? Reaction::kTaken
             : Reaction::kRefused;
}

bool Bench::IsTold() {
  const uint64_t deadline = Deadline(wait_ns_);
  Packet packet;
  while (ReceiveBy(deadline, &packet)) {
    if (RawMessage::Get(packet, 1, 1) == kMsgEventUsed) return true;
  }
  return false;
}

}  // namespace vmsg::guest
