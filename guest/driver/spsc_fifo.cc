#include "guest/driver/spsc_fifo.h"

#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

// Offsets in the window, and in each of its two queue pages.
constexpr size_t kDriverQueue = 0x1000;
constexpr size_t kDeviceQueue = 0x2000;
constexpr size_t kHead = 0x00;
constexpr size_t kTail = 0x40;
constexpr size_t kPackets = 0x80;

constexpr uint32_t kSlots = 62;
static_assert(kPackets + kSlots * kPacketBytes == 4096);
static_assert(SpscFifo::kCapacity == kSlots - 1);

// So many packets ahead of the one that is taken, a packet is fetched.
constexpr uint32_t kPacketsAhead = 4;

constexpr uint32_t Next(uint32_t index, uint32_t count = 1) {
  return index + count >= kSlots ? index + count - kSlots : index + count;
}

// Packets from index `tail` up to `head`.
constexpr uint32_t Used(uint32_t head, uint32_t tail) {
  return head >= tail ? head - tail : head + kSlots - tail;
}

std::byte* Slot(std::byte* queue, uint32_t index) {
  return queue + kPackets + size_t{index} * kPacketBytes;
}

// The message, and zeroes up to the end of the slot.
inline void WritePacket(std::byte* slot, std::span<const std::byte> message) {
  size_t at = 0;
  for (; at + 8 <= message.size(); at += 8) {
    uint64_t word;
    __builtin_memcpy(&word, message.data() + at, 8);
    StoreRelaxed<uint64_t>(slot + at, word);
  }
  if (at < message.size()) {
    uint64_t word = 0;
    for (size_t i = message.size(); i-- > at;) {
      word = word << 8 | static_cast<uint64_t>(message[i]);
    }
    StoreRelaxed<uint64_t>(slot + at, word);
    at += 8;
  }
  for (; at < kPacketBytes; at += 8) StoreRelaxed<uint64_t>(slot + at, 0);
}

inline void ReadPacket(Packet* packet, const std::byte* slot) {
  for (size_t at = 0; at < kPacketBytes; at += 8) {
    const uint64_t word = LoadRelaxed<uint64_t>(slot + at);
    __builtin_memcpy(packet->bytes.data() + at, &word, 8);
  }
}

}  // namespace

SpscFifo::SpscFifo(std::byte* window)
    : driver_queue_(window + kDriverQueue),
      device_queue_(window + kDeviceQueue) {}

bool SpscFifo::Attach() {
  const uint32_t driver_head = LoadAcquire<uint32_t>(driver_queue_ + kHead);
  const uint32_t driver_tail = LoadAcquire<uint32_t>(driver_queue_ + kTail);
  const uint32_t device_head = LoadAcquire<uint32_t>(device_queue_ + kHead);
  const uint32_t device_tail = LoadAcquire<uint32_t>(device_queue_ + kTail);
  if (driver_head >= kSlots || driver_tail >= kSlots || device_head >= kSlots ||
      device_tail >= kSlots) {
    return Break(FifoFault::kIndexOutOfRange);
  }
  head_ = published_head_ = driver_head;
  cached_tail_ = driver_tail;
  tail_ = published_tail_ = device_tail;
  cached_head_ = device_head;
  fault_.store(FifoFault::kNone, std::memory_order_relaxed);
  return true;
}

bool SpscFifo::Break(FifoFault fault) {
  FifoFault none = FifoFault::kNone;
  // The first fault stays.
  fault_.compare_exchange_strong(none, fault, std::memory_order_relaxed);
  return false;
}

bool SpscFifo::LookAtTail() {
  // Here and not at each commit, where it would fetch a line that the device
  // looks at, only to fetch it once more for the store.
  if (LoadRelaxed<uint32_t>(driver_queue_ + kHead) != published_head_) {
    return Break(FifoFault::kForeignIndexWrite);
  }
  const uint32_t tail = LoadAcquire<uint32_t>(driver_queue_ + kTail);
  if (tail >= kSlots) return Break(FifoFault::kIndexOutOfRange);
  // The device can only have consumed since we last looked, and only what was
  // published.
  const uint32_t unread = Used(published_head_, tail);
  if (unread > Used(published_head_, cached_tail_)) {
    return Break(FifoFault::kIndexWentBack);
  }
  cached_tail_ = tail;
  return true;
}

bool SpscFifo::LookAtHead() {
  // As in LookAtTail().
  if (LoadRelaxed<uint32_t>(device_queue_ + kTail) != published_tail_) {
    return Break(FifoFault::kForeignIndexWrite);
  }
  const uint32_t head = LoadAcquire<uint32_t>(device_queue_ + kHead);
  if (head >= kSlots) return Break(FifoFault::kIndexOutOfRange);
  // The device can only have produced since we last looked, and only into what
  // was given back.
  if (Used(head, published_tail_) < Used(cached_head_, published_tail_)) {
    return Break(FifoFault::kIndexWentBack);
  }
  cached_head_ = head;
  return true;
}

bool SpscFifo::Send(std::span<const std::byte> message) {
  if (!Running() || message.empty() || message.size() > kPacketBytes) {
    return false;
  }
  const uint32_t next = Next(head_);
  if (next == cached_tail_) {
    if (!LookAtTail() || next == cached_tail_) return false;
  }
  WritePacket(Slot(driver_queue_, head_), message);
  head_ = next;
  PrefetchToWrite(Slot(driver_queue_, head_));
  return true;
}

void SpscFifo::CommitSent() {
  if (head_ == published_head_ || !Running()) return;
  published_head_ = head_;
  StoreRelease<uint32_t>(driver_queue_ + kHead, head_);
}

bool SpscFifo::Receive(Packet* packet) {
  if (!Running()) return false;
  if (tail_ == cached_head_) {
    if (!LookAtHead() || tail_ == cached_head_) return false;
  }
  if (Used(cached_head_, tail_) > kPacketsAhead) {
    PrefetchToRead(Slot(device_queue_, Next(tail_, kPacketsAhead)));
  }
  ReadPacket(packet, Slot(device_queue_, tail_));
  tail_ = Next(tail_);
  return true;
}

void SpscFifo::CommitReceived() {
  if (tail_ == published_tail_ || !Running()) return;
  published_tail_ = tail_;
  // Release: the slot was read before the device may fill it again.
  StoreRelease<uint32_t>(device_queue_ + kTail, tail_);
}

}  // namespace vmsg::guest
