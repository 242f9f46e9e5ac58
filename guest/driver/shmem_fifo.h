// ShmemFifo: the driver's end of layout `shmem-v1`.
// Source: amp-pci-device, 3.2.

#ifndef VMSG_GUEST_DRIVER_SHMEM_FIFO_H_
#define VMSG_GUEST_DRIVER_SHMEM_FIFO_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/fifo.h"
#include "guest/driver/packet_queue.h"
#include "guest/driver/shared_memory.h"
#include "guest/driver/shmem_header.h"

namespace vmsg::guest {

// One direction: the producer's index is the tail in its queue head, the
// consumer's the head in its own.
struct ShmemPlace {
  std::byte* written = nullptr;
  std::byte* taken = nullptr;
  std::byte* elements = nullptr;
  const std::byte* device_head = nullptr;
  uint32_t count = 2;
  bool is_aligned = false;

  uint32_t slots() const { return count; }
  bool aligned() const { return is_aligned; }
  std::byte* slot(uint32_t index) const {
    return elements + size_t{index} * kPacketBytes;
  }
  uint32_t LoadWritten() const { return LoadAcquire<uint16_t>(written); }
  uint32_t LoadTaken() const { return LoadAcquire<uint16_t>(taken); }
  void StoreWritten(uint32_t index) const {
    StoreRelease<uint16_t>(written, static_cast<uint16_t>(index));
  }
  void StoreTaken(uint32_t index) const {
    StoreRelease<uint16_t>(taken, static_cast<uint16_t>(index));
  }
  // The device of a running FIFO is in READY or RUN.
  FifoFault LookAtDevice() const;
};

// Attach() checks the header, strictly, and begins the handshake in INIT. Only
// when the device has left RUN, where it may be from the driver before, does
// this side go on: the device clears its indices then, and the two agree.
//
// A device that leaves RUN, or says SHUTDOWN, is noticed when there is nothing
// to receive or no room; the FIFO is kBroken then until it is attached again.
// Model: tests/model/handshake.pml.
//
// Threads: one thread may send while another receives; Attach, Step and Detach
// by neither. Both see a fault of either direction.
class ShmemFifo final : public Fifo {
 public:
  // `window` is kFifoWindowBytes of BAR 1, 64-byte aligned; borrowed.
  explicit ShmemFifo(std::byte* window);

  // Whether the window describes itself as one of this layout. One of layout
  // `spsc` never does: it has an index at that place, which is below 62.
  static bool IsHere(const std::byte* window);

  bool Attach() override;
  bool Step() override;
  void Detach() override;
  bool Send(std::span<const std::byte> message) override;
  void CommitSent() override;
  bool Receive(Packet* packet) override;
  void CommitReceived() override;
  FifoState state() const override {
    if (fault() != FifoFault::kNone) return FifoState::kBroken;
    return running_ ? FifoState::kRunning : FifoState::kWaiting;
  }
  FifoFault fault() const override {
    return fault_.load(std::memory_order_relaxed);
  }

  // After kBadHeader.
  ShmemHeaderFault header_fault() const { return header_fault_; }
  // Packets per direction; one slot stays empty. After Attach().
  uint32_t capacity() const { return header_.num_queue_elements - 1u; }

 private:
  enum class Phase : uint8_t { kStopped, kInit, kReady, kRun };

  bool Running() const { return running_ && fault() == FifoFault::kNone; }
  bool Break(FifoFault fault);
  void Show(uint16_t state);
  void Start();

  std::byte* const region_;
  ShmemHeader header_;
  std::byte* own_ = nullptr;
  const std::byte* device_ = nullptr;
  ShmemHeaderFault header_fault_ = ShmemHeaderFault::kNone;
  Phase phase_ = Phase::kStopped;
  bool running_ = false;
  std::atomic<FifoFault> fault_{FifoFault::kNone};

  // As in SpscFifo.
  static constexpr size_t kLineBytes = 64;
  [[maybe_unused]] std::byte before_sender_[kLineBytes];
  PacketSender<ShmemPlace> sender_;
  [[maybe_unused]] std::byte before_receiver_[kLineBytes];
  PacketReceiver<ShmemPlace> receiver_;
  [[maybe_unused]] std::byte after_receiver_[kLineBytes];
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_SHMEM_FIFO_H_
