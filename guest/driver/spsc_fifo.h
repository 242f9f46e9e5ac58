// SpscFifo: the driver's end of layout `spsc`. Source: amp-pci-device, 3.1.
// Model: tests/model/restart.pml.

#ifndef VMSG_GUEST_DRIVER_SPSC_FIFO_H_
#define VMSG_GUEST_DRIVER_SPSC_FIFO_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/fifo.h"
#include "guest/driver/packet_queue.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {

// One queue page.
struct SpscPlace {
  static constexpr uint32_t kSlots = 62;
  static constexpr size_t kHead = 0x00;
  static constexpr size_t kTail = 0x40;
  static constexpr size_t kPackets = 0x80;
  static_assert(kPackets + kSlots * kPacketBytes == 4096);

  std::byte* page = nullptr;

  static constexpr uint32_t slots() { return kSlots; }
  static constexpr bool aligned() { return true; }
  std::byte* slot(uint32_t index) const {
    return page + kPackets + size_t{index} * kPacketBytes;
  }
  uint32_t LoadWritten() const { return LoadAcquire<uint32_t>(page + kHead); }
  uint32_t LoadTaken() const { return LoadAcquire<uint32_t>(page + kTail); }
  void StoreWritten(uint32_t index) const {
    StoreRelease<uint32_t>(page + kHead, index);
  }
  void StoreTaken(uint32_t index) const {
    StoreRelease<uint32_t>(page + kTail, index);
  }
  static constexpr FifoFault LookAtDevice() { return FifoFault::kNone; }
};

// Threads: one thread may send while another receives; Attach by neither. Both
// see a fault of either direction.
class SpscFifo final : public Fifo {
 public:
  // Packets per direction; one slot stays empty.
  static constexpr uint32_t kCapacity = SpscPlace::kSlots - 1;

  // `window` is kFifoWindowBytes of BAR 1, 64-byte aligned; borrowed. Call
  // Attach() before anything else.
  explicit SpscFifo(std::byte* window);

  bool Attach() override;
  bool Step() override { return false; }
  void Detach() override {}
  bool Send(std::span<const std::byte> message) override;
  void CommitSent() override;
  bool Receive(Packet* packet) override;
  void CommitReceived() override;
  FifoState state() const override {
    return fault() == FifoFault::kNone ? FifoState::kRunning
                                       : FifoState::kBroken;
  }
  FifoFault fault() const override {
    return fault_.load(std::memory_order_relaxed);
  }

 private:
  bool Running() const { return fault() == FifoFault::kNone; }
  bool Break(FifoFault fault);

  const SpscPlace driver_queue_;
  const SpscPlace device_queue_;
  std::atomic<FifoFault> fault_{FifoFault::kNone};

  // Lines of their own for the two threads. By padding: an over-aligned class
  // could not be a local variable under AddressSanitizer.
  static constexpr size_t kLineBytes = 64;
  [[maybe_unused]] std::byte before_sender_[kLineBytes];
  PacketSender<SpscPlace> sender_;
  [[maybe_unused]] std::byte before_receiver_[kLineBytes];
  PacketReceiver<SpscPlace> receiver_;
  [[maybe_unused]] std::byte after_receiver_[kLineBytes];
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_SPSC_FIFO_H_
