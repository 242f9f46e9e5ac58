// The two ends of one queue page of layout `spsc`, for a side that does not
// trust the other one.
//
// How it goes (amp-pci-device, 3.1). The producer writes the packet, then
// stores head with release order; the consumer loads head with acquire order,
// copies the packet out, then stores tail with release order. Head and tail are
// on cache lines of their own, and each end keeps a private copy of the other's
// index: it looks at the shared one only when its copy says "nothing left", so
// in a stream most operations touch no index that the other side writes.
//
// What is not trusted. The other side can write the whole page at any time. An
// index is loaded once for one decision and checked; our own position is
// private, and the shared word that repeats it is only ever written, except to
// notice that somebody else wrote it. So whatever the page holds, an operation
// copies at most one packet inside the page and ends; what can go wrong is what
// the packets say. Each object is one end: one thread, no locks.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_QUEUE_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_QUEUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo/spsc_layout.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {

namespace spsc_internal {

inline uint32_t LoadIndex(const std::byte* word) {
  return vmm::LoadShared<uint32_t>(word, std::memory_order_acquire);
}
inline void StoreIndex(std::byte* word, uint32_t value) {
  vmm::StoreShared<uint32_t>(word, value, std::memory_order_release);
}
inline void StoreWord(std::byte* word, uint64_t value) {
  vmm::StoreShared<uint64_t>(word, value, std::memory_order_relaxed);
}

// Whole packets, unrolled word by word: GCC leaves a loop over atomics alone at
// -O2, and words gathered in a buffer are copied on in other sizes than they
// were stored, which stalls.
template <size_t... kWord>
inline void CopyOut(std::byte* to, const std::byte* slot,
                    std::index_sequence<kWord...>) {
  const auto copy_word = [&](size_t at) {
    const uint64_t word =
        vmm::LoadShared<uint64_t>(slot + at, std::memory_order_relaxed);
    std::memcpy(to + at, &word, sizeof(word));
  };
  (copy_word(8 * kWord), ...);
}
template <size_t... kWord>
inline void CopyIn(std::byte* slot, const std::byte* from,
                   std::index_sequence<kWord...>) {
  const auto copy_word = [&](size_t at) {
    uint64_t word;
    std::memcpy(&word, from + at, sizeof(word));
    StoreWord(slot + at, word);
  };
  (copy_word(8 * kWord), ...);
}
// So many packets ahead of the one that is taken, a packet is fetched.
inline constexpr uint32_t kPacketsAhead = 4;

using PacketWords = std::make_index_sequence<kSpscPacketBytes / 8>;

}  // namespace spsc_internal

// After a fault every operation returns false and changes nothing.
class SpscConsumer {
 public:
  // `page` is a queue page, 64-byte aligned; borrowed.
  explicit SpscConsumer(std::byte* page) : page_(page) {}

  // Copies the next packet out; false when there is none, or on a fault. The
  // slot stays taken until Commit().
  bool Pop(Packet* packet) {
    if (next_ == head_ && !Look()) return false;
    const uint32_t at = next_;
    next_ = SpscNext(at);
    if (SpscUsed(head_, at) > spsc_internal::kPacketsAhead) {
      vmm::PrefetchToRead(
          SpscSlot(page_, SpscAfter(at, spsc_internal::kPacketsAhead)));
    }
    spsc_internal::CopyOut(packet->bytes.data(), SpscSlot(page_, at),
                           spsc_internal::PacketWords());
    return true;
  }

  // Gives what Pop() took back to the producer.
  void Commit() {
    if (published_ == next_ || fault_ != FifoFault::kNone) return;
    published_ = next_;
    spsc_internal::StoreIndex(page_ + kSpscTail, published_);
  }

  // Looks at the shared indices; true when there is a packet.
  bool Look() {
    if (fault_ != FifoFault::kNone) return false;
    if (!OwnIndexIntact()) return false;
    const uint32_t head = spsc_internal::LoadIndex(page_ + kSpscHead);
    if (head >= kSpscSlots) return Fail(FifoFault::kIndexOutOfRange);
    head_ = head;
    return head_ != next_;
  }

  // Goes to `index` without looking at what is skipped, and publishes it. An
  // index out of range is a fault.
  void SkipTo(uint32_t index) {
    if (fault_ != FifoFault::kNone) return;
    if (index >= kSpscSlots) {
      Fail(FifoFault::kIndexOutOfRange);
      return;
    }
    next_ = head_ = index;
    Commit();
  }

  // False, and a fault, when the tail is not what this side wrote.
  bool OwnIndexIntact() {
    if (fault_ != FifoFault::kNone) return false;
    if (spsc_internal::LoadIndex(page_ + kSpscTail) != published_) {
      return Fail(FifoFault::kOwnIndexChanged);
    }
    return true;
  }

  // As for a page of zeroes.
  void Restart() {
    next_ = published_ = head_ = 0;
    fault_ = FifoFault::kNone;
  }

  // Behaves as after `fault`, until Restart().
  void Stop(FifoFault fault) { Fail(fault); }

  FifoFault fault() const { return fault_; }

 private:
  bool Fail(FifoFault fault) {
    fault_ = fault;
    next_ = head_;  // so that Pop() comes to Look()
    return false;
  }

  std::byte* const page_;
  uint32_t next_ = 0;       // next packet to read
  uint32_t published_ = 0;  // what the tail in the page is
  uint32_t head_ = 0;       // the producer's index when last looked at
  FifoFault fault_ = FifoFault::kNone;
};

// After a fault every operation returns false and changes nothing.
class SpscProducer {
 public:
  // `page` is a queue page, 64-byte aligned; borrowed.
  explicit SpscProducer(std::byte* page) : page_(page) {}

  // Puts `message` (at most a packet) into the next slot, with zeroes after it;
  // false when the queue is full, or on a fault. Not seen before Commit().
  bool Push(std::span<const std::byte> message) {
    const uint32_t after = SpscNext(next_);
    if (after == tail_ && !Look()) return false;
    std::byte* const slot = SpscSlot(page_, next_);
    if (message.size() == kSpscPacketBytes) {
      spsc_internal::CopyIn(slot, message.data(), spsc_internal::PacketWords());
    } else {
      PutShort(slot, message, spsc_internal::PacketWords());
    }
    next_ = after;
    vmm::PrefetchToWrite(SpscSlot(page_, after));
    return true;
  }

  // Lets the consumer see what was pushed. False when there was nothing new.
  bool Commit() {
    if (published_ == next_ || fault_ != FifoFault::kNone) return false;
    published_ = next_;
    spsc_internal::StoreIndex(page_ + kSpscHead, published_);
    return true;
  }

  // Looks at the shared indices; true when there is room.
  bool Look() {
    if (fault_ != FifoFault::kNone) return false;
    if (!OwnIndexIntact()) return false;
    const uint32_t tail = spsc_internal::LoadIndex(page_ + kSpscTail);
    if (tail >= kSpscSlots) return Fail(FifoFault::kIndexOutOfRange);
    tail_ = tail;
    return SpscNext(next_) != tail_;
  }

  bool HasRoom() { return SpscNext(next_) != tail_ || Look(); }

  // Whether the consumer has taken all that was committed.
  bool Drained() {
    Look();
    return fault_ == FifoFault::kNone && tail_ == published_;
  }

  // Takes back what was not committed.
  void Retract() {
    if (fault_ == FifoFault::kNone) next_ = published_;
  }

  // False, and a fault, when the head is not what this side wrote.
  bool OwnIndexIntact() {
    if (fault_ != FifoFault::kNone) return false;
    if (spsc_internal::LoadIndex(page_ + kSpscHead) != published_) {
      return Fail(FifoFault::kOwnIndexChanged);
    }
    return true;
  }

  // As for a page of zeroes.
  void Restart() {
    next_ = published_ = tail_ = 0;
    fault_ = FifoFault::kNone;
  }

  // Behaves as after `fault`, until Restart().
  void Stop(FifoFault fault) { Fail(fault); }

  FifoFault fault() const { return fault_; }

 private:
  // The bytes after the last whole word, with zeroes above them.
  static uint64_t Rest(std::span<const std::byte> message) {
    const size_t size = message.size();
    const size_t left = size % 8;
    if (left == 0) return 0;
    uint64_t word = 0;
    if (size < 8) {
      std::memcpy(&word, message.data(), size);
      return word;
    }
    // One load instead of a copy of unknown length: the word that ends there.
    std::memcpy(&word, message.data() + size - 8, 8);
    return word >> (8 * (8 - left));
  }

  // Unrolled like CopyIn, for the same reason.
  template <size_t... kWord>
  static void PutShort(std::byte* slot, std::span<const std::byte> message,
                       std::index_sequence<kWord...>) {
    const size_t whole = message.size() / 8;
    const uint64_t rest = Rest(message);
    const auto put_word = [&](size_t i) {
      uint64_t word = 0;
      if (i < whole) {
        std::memcpy(&word, message.data() + 8 * i, 8);
      } else if (i == whole) {
        word = rest;
      }
      spsc_internal::StoreWord(slot + 8 * i, word);
    };
    (put_word(kWord), ...);
  }

  bool Fail(FifoFault fault) {
    fault_ = fault;
    tail_ = SpscNext(next_);  // so that Push() comes to Look()
    return false;
  }

  std::byte* const page_;
  uint32_t next_ = 0;       // next packet to write
  uint32_t published_ = 0;  // what the head in the page is
  uint32_t tail_ = 0;       // the consumer's index when last looked at
  FifoFault fault_ = FifoFault::kNone;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SPSC_QUEUE_H_
