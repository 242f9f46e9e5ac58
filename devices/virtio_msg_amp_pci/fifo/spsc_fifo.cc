#include "devices/virtio_msg_amp_pci/fifo/spsc_fifo.h"

#include <array>
#include <atomic>

#include "devices/virtio_msg_amp_pci/fifo/clear_shared.h"
#include "devices/virtio_msg_amp_pci/fifo/spsc_layout.h"
#include "vmm/base/check.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {

SpscFifo::SpscFifo(std::byte* window)
    : DeviceFifo(FifoState::kRunning),
      window_(window),
      driver_queue_({.page = window + kSpscDriverQueue}),
      device_queue_({.page = window + kSpscDeviceQueue}) {
  VMSG_CHECK(reinterpret_cast<uintptr_t>(window) % 64 == 0);
  ClearWindow();
}

bool SpscFifo::Send(std::span<const std::byte> message) {
  VMSG_CHECK(message.size() <= kSpscPacketBytes);
  if (device_queue_.Push(message)) return true;
  return NoteFault(device_queue_.fault());
}

bool SpscFifo::HasRoom() {
  if (device_queue_.HasRoom()) return true;
  return NoteFault(device_queue_.fault());
}

uint32_t SpscFifo::Unread() {
  const uint32_t unread = device_queue_.Unread();
  NoteFault(device_queue_.fault());
  return unread;
}

bool SpscFifo::Poll() {
  if (!driver_queue_.OwnIndexIntact()) NoteFault(driver_queue_.fault());
  if (!device_queue_.OwnIndexIntact()) NoteFault(device_queue_.fault());
  return false;
}

void SpscFifo::Reset() {
  ClearWindow();
  Restart();
}

void SpscFifo::ClearWindow() {
  // The indices with release order and each by one store: the loop's thread may
  // look at them meanwhile, and has to see what came before the clearing.
  const std::array<size_t, 4> indices = {
      kSpscDriverQueue + kSpscHead, kSpscDriverQueue + kSpscTail,
      kSpscDeviceQueue + kSpscHead, kSpscDeviceQueue + kSpscTail};
  std::byte* at = window_;
  for (const size_t index : indices) {
    ClearShared(at, window_ + index);
    vmm::StoreShared<uint32_t>(window_ + index, 0, std::memory_order_release);
    at = window_ + index + sizeof(uint32_t);
  }
  ClearShared(at, window_ + kSpscWindowBytes);
}

void SpscFifo::Restart() {
  driver_queue_.Restart();
  device_queue_.Restart();
  Enter(FifoState::kRunning);
}

uint32_t SpscFifo::DriverLeft() {
  return SpscPlace{.page = window_ + kSpscDriverQueue}.LoadWritten();
}

void SpscFifo::DropDriver(uint32_t mark) {
  device_queue_.Retract();
  driver_queue_.SkipTo(mark);
  NoteFault(driver_queue_.fault());
}

void SpscFifo::Break(FifoFault fault) {
  if (state() == FifoState::kBroken) return;
  Enter(FifoState::kBroken, fault);
  driver_queue_.Stop(fault);
  device_queue_.Stop(fault);
}

}  // namespace vmsg::amp
