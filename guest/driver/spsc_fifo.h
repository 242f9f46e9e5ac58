// SpscFifo: the driver's end of layout `spsc`. Source: amp-pci-device, 3.1.

#ifndef VMSG_GUEST_DRIVER_SPSC_FIFO_H_
#define VMSG_GUEST_DRIVER_SPSC_FIFO_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/fifo.h"

namespace vmsg::guest {

// Each side caches the other's index and looks again only when the cached value
// says full, or empty: then a packet costs one cache line for itself and, in a
// batch, a share of one for the index.
//
// Threads: one thread may send while another receives; Attach by neither. Both
// see a fault of either direction.
class SpscFifo final : public Fifo {
 public:
  // Packets per direction; one slot stays empty.
  static constexpr uint32_t kCapacity = 61;

  // `window` is kFifoWindowBytes of BAR 1, 64-byte aligned; borrowed. Call
  // Attach() before anything else.
  explicit SpscFifo(std::byte* window);

  bool Attach() override;
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
  // Refresh the cached index of the device; false when that broke the FIFO.
  bool LookAtTail();
  bool LookAtHead();

  std::byte* const driver_queue_;
  std::byte* const device_queue_;
  std::atomic<FifoFault> fault_{FifoFault::kNone};

  // Lines of their own for the two threads. By padding: an over-aligned class
  // could not be a local variable under AddressSanitizer.
  static constexpr size_t kLineBytes = 64;
  [[maybe_unused]] std::byte before_sender_[kLineBytes];

  // Sender: slots up to head_ are filled, up to published_head_ shown.
  uint32_t head_ = 0;
  uint32_t published_head_ = 0;
  uint32_t cached_tail_ = 0;

  [[maybe_unused]] std::byte before_receiver_[kLineBytes];

  // Receiver: slots up to tail_ are read, up to published_tail_ given back.
  uint32_t tail_ = 0;
  uint32_t published_tail_ = 0;
  uint32_t cached_head_ = 0;

  [[maybe_unused]] std::byte after_receiver_[kLineBytes];
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_SPSC_FIFO_H_
