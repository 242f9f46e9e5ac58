// The driver's two ends of queues of packets in shared memory, whatever the
// layout. Source: amp-pci-device, 3.
//
// Each side caches the other's index and looks again only when the cached value
// says full, or empty: then a packet costs one cache line for itself and, in a
// batch, a share of one for the index.
//
// A layout says where things are by a class Place, which is copied:
//   uint32_t slots()         at least 2; one stays empty
//   bool aligned()           whether slots are 8-byte aligned
//   std::byte* slot(i)       i < slots()
//   uint32_t LoadWritten()   the producer's index: next packet to write
//   uint32_t LoadTaken()     the consumer's index: next packet to read
//   void StoreWritten(i), void StoreTaken(i)
//   FifoFault LookAtDevice() what else a look has to check; kNone
// Loads have acquire order, stores release order, each of one word. What
// LookAtDevice() loads is loaded after what was loaded before the call.
// Models: tests/model/queue.pml, and handshake.pml for LookAtDevice().

#ifndef VMSG_GUEST_DRIVER_PACKET_QUEUE_H_
#define VMSG_GUEST_DRIVER_PACKET_QUEUE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/fifo.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {

namespace packet_queue_internal {

// So many packets ahead of the one that is taken, a packet is fetched.
inline constexpr uint32_t kPacketsAhead = 4;

constexpr uint32_t Next(uint32_t index, uint32_t slots) {
  return index + 1 == slots ? 0 : index + 1;
}

constexpr uint32_t After(uint32_t index, uint32_t count, uint32_t slots) {
  return index + count >= slots ? index + count - slots : index + count;
}

// Packets from index `taken` up to `written`.
constexpr uint32_t Used(uint32_t written, uint32_t taken, uint32_t slots) {
  return written >= taken ? written - taken : written + slots - taken;
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

}  // namespace packet_queue_internal

template <typename Place>
class PacketSender {
 public:
  // From the indices `written` and `taken`, which are in range.
  void Start(const Place& place, uint32_t written, uint32_t taken) {
    place_ = place;
    next_ = published_ = written;
    taken_ = taken;
  }

  // False: full, or `*fault` is set. 1 to kPacketBytes bytes.
  bool Send(std::span<const std::byte> message, FifoFault* fault) {
    namespace internal = packet_queue_internal;
    const uint32_t after = internal::Next(next_, place_.slots());
    if (after == taken_) {
      *fault = Look();
      if (after == taken_) return false;
    }
    if (place_.aligned()) {
      internal::WritePacket(place_.slot(next_), message);
    } else {
      CopyToShared(place_.slot(next_), message.data(), message.size());
      ZeroShared(place_.slot(next_) + message.size(),
                 kPacketBytes - message.size());
    }
    next_ = after;
    PrefetchToWrite(place_.slot(next_));
    return true;
  }

  void Commit() {
    if (next_ == published_) return;
    published_ = next_;
    place_.StoreWritten(next_);
  }

 private:
  // Refreshes taken_; leaves it on a fault.
  FifoFault Look() {
    namespace internal = packet_queue_internal;
    // Here and not at each commit, where it would fetch a line that the device
    // looks at, only to fetch it once more for the store.
    if (place_.LoadWritten() != published_) {
      return FifoFault::kForeignIndexWrite;
    }
    // The index first: a device that starts over puts it back, and says so.
    const uint32_t taken = place_.LoadTaken();
    if (const FifoFault fault = place_.LookAtDevice();
        fault != FifoFault::kNone) {
      return fault;
    }
    if (taken >= place_.slots()) return FifoFault::kIndexOutOfRange;
    // The device can only have consumed since we last looked, and only what was
    // published.
    if (internal::Used(published_, taken, place_.slots()) >
        internal::Used(published_, taken_, place_.slots())) {
      return FifoFault::kIndexWentBack;
    }
    taken_ = taken;
    return FifoFault::kNone;
  }

  Place place_ = {};
  // Slots up to next_ are filled, up to published_ shown.
  uint32_t next_ = 0;
  uint32_t published_ = 0;
  uint32_t taken_ = 0;
};

template <typename Place>
class PacketReceiver {
 public:
  // As PacketSender.
  void Start(const Place& place, uint32_t written, uint32_t taken) {
    place_ = place;
    next_ = published_ = taken;
    written_ = written;
  }

  // False: nothing there, or `*fault` is set.
  bool Receive(Packet* packet, FifoFault* fault) {
    namespace internal = packet_queue_internal;
    if (next_ == written_) {
      *fault = Look();
      if (next_ == written_) return false;
    }
    if (internal::Used(written_, next_, place_.slots()) >
        internal::kPacketsAhead) {
      PrefetchToRead(place_.slot(
          internal::After(next_, internal::kPacketsAhead, place_.slots())));
    }
    if (place_.aligned()) {
      internal::ReadPacket(packet, place_.slot(next_));
    } else {
      CopyFromShared(packet->bytes.data(), place_.slot(next_), kPacketBytes);
    }
    next_ = internal::Next(next_, place_.slots());
    return true;
  }

  void Commit() {
    if (next_ == published_) return;
    published_ = next_;
    // Release: the slot was read before the device may fill it again.
    place_.StoreTaken(next_);
  }

 private:
  // Refreshes written_; leaves it on a fault.
  FifoFault Look() {
    namespace internal = packet_queue_internal;
    // As in PacketSender.
    if (place_.LoadTaken() != published_) return FifoFault::kForeignIndexWrite;
    // The index first, as there: 0 may be as good as any other index, with a
    // queue of old packets before it.
    const uint32_t written = place_.LoadWritten();
    if (const FifoFault fault = place_.LookAtDevice();
        fault != FifoFault::kNone) {
      return fault;
    }
    if (written >= place_.slots()) return FifoFault::kIndexOutOfRange;
    // The device can only have produced since we last looked, and only into
    // what was given back.
    if (internal::Used(written, published_, place_.slots()) <
        internal::Used(written_, published_, place_.slots())) {
      return FifoFault::kIndexWentBack;
    }
    written_ = written;
    return FifoFault::kNone;
  }

  Place place_ = {};
  // Slots up to next_ are read, up to published_ given back.
  uint32_t next_ = 0;
  uint32_t published_ = 0;
  uint32_t written_ = 0;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_PACKET_QUEUE_H_
