#include "guest/driver/spsc_fifo.h"

namespace vmsg::guest {
namespace {

// Offsets in the window.
constexpr size_t kDriverQueue = 0x1000;
constexpr size_t kDeviceQueue = 0x2000;

}  // namespace

SpscFifo::SpscFifo(std::byte* window)
    : driver_queue_{window + kDriverQueue},
      device_queue_{window + kDeviceQueue} {}

bool SpscFifo::Attach() {
  fault_.store(FifoFault::kNone, std::memory_order_relaxed);
  const uint32_t driver_head = driver_queue_.LoadWritten();
  const uint32_t driver_tail = driver_queue_.LoadTaken();
  const uint32_t device_head = device_queue_.LoadWritten();
  const uint32_t device_tail = device_queue_.LoadTaken();
  constexpr uint32_t kSlots = SpscPlace::kSlots;
  if (driver_head >= kSlots || driver_tail >= kSlots || device_head >= kSlots ||
      device_tail >= kSlots) {
    return Break(FifoFault::kIndexOutOfRange);
  }
  sender_.Start(driver_queue_, driver_head, driver_tail);
  receiver_.Start(device_queue_, device_head, device_tail);
  return true;
}

// Always false, also for no fault at all.
bool SpscFifo::Break(FifoFault fault) {
  if (fault == FifoFault::kNone) return false;
  FifoFault none = FifoFault::kNone;
  // The first fault stays.
  fault_.compare_exchange_strong(none, fault, std::memory_order_relaxed);
  return false;
}

bool SpscFifo::Send(std::span<const std::byte> message) {
  if (!Running() || message.empty() || message.size() > kPacketBytes) {
    return false;
  }
  FifoFault fault = FifoFault::kNone;
  return sender_.Send(message, &fault) || Break(fault);
}

void SpscFifo::CommitSent() {
  if (Running()) sender_.Commit();
}

bool SpscFifo::Receive(Packet* packet) {
  FifoFault fault = FifoFault::kNone;
  return Running() && (receiver_.Receive(packet, &fault) || Break(fault));
}

void SpscFifo::CommitReceived() {
  if (Running()) receiver_.Commit();
}

}  // namespace vmsg::guest
