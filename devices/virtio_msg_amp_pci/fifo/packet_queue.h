// The two ends of a queue of packets in shared memory, for a side that does not
// trust the other one, whatever the layout.
//
// How it goes (amp-pci-device, 3). The producer writes the packet, then stores
// its index with release order; the consumer loads that with acquire order,
// copies the packet out, then stores its own index with release order. Each end
// keeps a private copy of the other's index: it looks at the shared one only
// when its copy says "nothing left", so in a stream most operations touch no
// index that the other side writes.
//
// What is not trusted. The other side can write the whole window at any time.
// An index is loaded once for one decision and checked; our own position is
// private, and the shared word that repeats it is only ever written, except to
// notice that somebody else wrote it. So whatever the window holds, an
// operation copies at most one packet inside the window and ends; what can go
// wrong is what the packets say. Each object is one end: one thread, no locks.
// Model: tests/model/queue.pml.
//
// A layout says where things are by a class Place, which is copied:
//   uint32_t slots()         at least 2; one stays empty
//   std::byte* slot(i)       8-byte aligned; i < slots()
//   uint32_t LoadWritten()   the producer's index: next packet to write
//   uint32_t LoadTaken()     the consumer's index: next packet to read
//   void StoreWritten(i), void StoreTaken(i)
// Loads have acquire order, stores release order, each of one word.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_PACKET_QUEUE_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_PACKET_QUEUE_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {

namespace packet_queue_internal {

constexpr uint32_t Next(uint32_t index, uint32_t slots) {
  return index + 1 == slots ? 0 : index + 1;
}

// The index `count` (at most `slots`) after `index`.
constexpr uint32_t After(uint32_t index, uint32_t count, uint32_t slots) {
  const uint32_t after = index + count;
  return after >= slots ? after - slots : after;
}

// Packets from index `taken` up to `written`.
constexpr uint32_t Used(uint32_t written, uint32_t taken, uint32_t slots) {
  return written >= taken ? written - taken : written + slots - taken;
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

using PacketWords = std::make_index_sequence<kFifoPacketBytes / 8>;

}  // namespace packet_queue_internal

// After a fault every operation returns false and changes nothing.
template <typename Place>
class PacketConsumer {
 public:
  // What `place` points to is borrowed.
  explicit PacketConsumer(const Place& place) : place_(place) {}

  // Copies the next packet out; false when there is none, or on a fault. The
  // slot stays taken until Commit().
  bool Pop(Packet* packet) {
    namespace internal = packet_queue_internal;
    if (next_ == written_ && !Look()) return false;
    const uint32_t at = next_;
    next_ = internal::Next(at, place_.slots());
    if (internal::Used(written_, at, place_.slots()) >
        internal::kPacketsAhead) {
      vmm::PrefetchToRead(place_.slot(
          internal::After(at, internal::kPacketsAhead, place_.slots())));
    }
    internal::CopyOut(packet->bytes.data(), place_.slot(at),
                      internal::PacketWords());
    return true;
  }

  // Gives what Pop() took back to the producer.
  void Commit() {
    if (published_ == next_ || fault_ != FifoFault::kNone) return;
    published_ = next_;
    place_.StoreTaken(published_);
  }

  // Looks at the shared indices; true when there is a packet.
  bool Look() {
    if (fault_ != FifoFault::kNone) return false;
    if (!OwnIndexIntact()) return false;
    const uint32_t written = place_.LoadWritten();
    if (written >= place_.slots()) return Fail(FifoFault::kIndexOutOfRange);
    written_ = written;
    return written_ != next_;
  }

  // Goes to `index` without looking at what is skipped, and publishes it. An
  // index out of range is a fault.
  void SkipTo(uint32_t index) {
    if (fault_ != FifoFault::kNone) return;
    if (index >= place_.slots()) {
      Fail(FifoFault::kIndexOutOfRange);
      return;
    }
    next_ = written_ = index;
    Commit();
  }

  // False, and a fault, when our index is not what this side wrote.
  bool OwnIndexIntact() {
    if (fault_ != FifoFault::kNone) return false;
    if (place_.LoadTaken() != published_) {
      return Fail(FifoFault::kOwnIndexChanged);
    }
    return true;
  }

  // As for indices of zero.
  void Restart() {
    next_ = published_ = written_ = 0;
    fault_ = FifoFault::kNone;
  }

  // Behaves as after `fault`, until Restart().
  void Stop(FifoFault fault) { Fail(fault); }

  FifoFault fault() const { return fault_; }
  // What our index in the window is.
  uint32_t published() const { return published_; }

 private:
  bool Fail(FifoFault fault) {
    fault_ = fault;
    next_ = written_;  // so that Pop() comes to Look()
    return false;
  }

  const Place place_;
  uint32_t next_ = 0;       // next packet to read
  uint32_t published_ = 0;  // what our index in the window is
  uint32_t written_ = 0;    // the producer's index when last looked at
  FifoFault fault_ = FifoFault::kNone;
};

// After a fault every operation returns false and changes nothing.
template <typename Place>
class PacketProducer {
 public:
  // What `place` points to is borrowed.
  explicit PacketProducer(const Place& place) : place_(place) {}

  // Puts `message` (at most a packet) into the next slot, with zeroes after it;
  // false when the queue is full, or on a fault. Not seen before Commit().
  bool Push(std::span<const std::byte> message) {
    namespace internal = packet_queue_internal;
    const uint32_t after = Next();
    if (after == taken_ && !Look()) return false;
    std::byte* const slot = place_.slot(next_);
    if (message.size() == kFifoPacketBytes) {
      internal::CopyIn(slot, message.data(), internal::PacketWords());
    } else {
      PutShort(slot, message, internal::PacketWords());
    }
    next_ = after;
    vmm::PrefetchToWrite(place_.slot(after));
    return true;
  }

  // Lets the consumer see what was pushed. False when there was nothing new.
  bool Commit() {
    if (published_ == next_ || fault_ != FifoFault::kNone) return false;
    published_ = next_;
    place_.StoreWritten(published_);
    return true;
  }

  // Looks at the shared indices; true when there is room.
  bool Look() {
    if (fault_ != FifoFault::kNone) return false;
    if (!OwnIndexIntact()) return false;
    const uint32_t taken = place_.LoadTaken();
    if (taken >= place_.slots()) return Fail(FifoFault::kIndexOutOfRange);
    taken_ = taken;
    return Next() != taken_;
  }

  bool HasRoom() { return Next() != taken_ || Look(); }

  // Committed packets that the consumer has not taken; 0 after a fault.
  uint32_t Unread() {
    Look();
    if (fault_ != FifoFault::kNone) return 0;
    return packet_queue_internal::Used(published_, taken_, place_.slots());
  }

  // Takes back what was not committed.
  void Retract() {
    if (fault_ == FifoFault::kNone) next_ = published_;
  }

  // False, and a fault, when our index is not what this side wrote.
  bool OwnIndexIntact() {
    if (fault_ != FifoFault::kNone) return false;
    if (place_.LoadWritten() != published_) {
      return Fail(FifoFault::kOwnIndexChanged);
    }
    return true;
  }

  // As for indices of zero.
  void Restart() {
    next_ = published_ = taken_ = 0;
    fault_ = FifoFault::kNone;
  }

  // Behaves as after `fault`, until Restart().
  void Stop(FifoFault fault) { Fail(fault); }

  FifoFault fault() const { return fault_; }
  // What our index in the window is.
  uint32_t published() const { return published_; }

 private:
  uint32_t Next() const {
    return packet_queue_internal::Next(next_, place_.slots());
  }

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
      packet_queue_internal::StoreWord(slot + 8 * i, word);
    };
    (put_word(kWord), ...);
  }

  bool Fail(FifoFault fault) {
    fault_ = fault;
    taken_ = Next();  // so that Push() comes to Look()
    return false;
  }

  const Place place_;
  uint32_t next_ = 0;       // next packet to write
  uint32_t published_ = 0;  // what our index in the window is
  uint32_t taken_ = 0;      // the consumer's index when last looked at
  FifoFault fault_ = FifoFault::kNone;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_PACKET_QUEUE_H_
