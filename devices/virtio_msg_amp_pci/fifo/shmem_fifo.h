// ShmemFifo: the device's end of a FIFO window of layout `shmem-v1`.
// Source: amp-pci-device, 3.2. docs: README.md of this folder.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SHMEM_FIFO_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SHMEM_FIFO_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo/packet_queue.h"
#include "devices/virtio_msg_amp_pci/fifo/shmem_layout.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {

// One direction. The producer's index is the tail in its queue head, the
// consumer's the head in its own.
struct ShmemPlace {
  std::byte* written;
  std::byte* taken;
  std::byte* elements;  // 8-byte aligned
  uint32_t count;

  uint32_t slots() const { return count; }
  std::byte* slot(uint32_t index) const {
    return elements + size_t{index} * kShmemElementBytes;
  }
  uint32_t LoadWritten() const { return Load(written); }
  uint32_t LoadTaken() const { return Load(taken); }
  void StoreWritten(uint32_t index) const { Store(written, index); }
  void StoreTaken(uint32_t index) const { Store(taken, index); }

 private:
  static uint32_t Load(const std::byte* word) {
    return vmm::LoadShared<uint16_t>(word, std::memory_order_acquire);
  }
  static void Store(std::byte* word, uint32_t index) {
    vmm::StoreShared<uint16_t>(word, static_cast<uint16_t>(index),
                               std::memory_order_release);
  }
};

// How the handshake goes here. The device leaves INIT when the driver is in
// INIT or READY, and not when it is in RUN: such a driver is one of before,
// whose indices are not ours. It goes on to RUN when the driver is in READY or
// RUN. It goes back to INIT, with indices of zero, when the driver of its RUN
// is in INIT, above RUN, without magic, or in READY once more. While BROKEN it
// shows INIT, and the driver that starts anew gets it out of there.
//
// A driver that goes from RUN through INIT and READY to RUN between two looks
// is not noticed; it has to wait in INIT until the device has left RUN.
// Model: tests/model/handshake.pml.
class ShmemFifo final : public DeviceFifo {
 public:
  // `window` is kShmemWindowBytes, 64-byte aligned; borrowed, outlives this.
  // Brings it to its initial contents. REQUIRES: IsSound(placement).
  ShmemFifo(std::byte* window, const ShmemPlacement& placement);

  bool Receive(Packet* packet) override {
    if (state() != FifoState::kRunning) return false;
    if (driver_queue_.Pop(packet)) return true;
    return NoteFault(driver_queue_.fault());
  }
  void CommitReceived() override { driver_queue_.Commit(); }
  bool Send(std::span<const std::byte> message) override;
  bool CommitSent() override { return device_queue_.Commit(); }
  bool HasRoom() override;
  uint32_t Unread() override;
  bool Poll() override;
  bool Step() override;
  bool has_handshake() const override { return true; }
  void Reset() override;
  void ClearWindow() override;
  void Restart() override;
  uint32_t DriverLeft() override;
  void DropDriver(uint32_t mark) override;
  void Shutdown() override;

 private:
  enum class Peer : uint8_t {
    kAbsent,  // no magic, or a state above RUN
    kInit,
    kReady,
    kRun,
    kUnknown,  // a state that does not exist
  };

  // What the driver's queue head says now.
  Peer LookAtPeer() const;
  // The state that the device should be in, from own_state_.
  ShmemState NextState(Peer peer) const;
  // Our queue head as one word.
  uint64_t OwnWord(ShmemState state) const;
  void Show(ShmemState state);
  bool NoteFault(FifoFault fault) {
    if (fault != FifoFault::kNone) Break(fault);
    return false;
  }
  void Break(FifoFault fault);

  std::byte* const region_;
  const ShmemPlacement placement_;
  std::byte* const own_;
  std::byte* const peer_;
  ShmemState own_state_ = ShmemState::kInit;  // what the window shows
  bool peer_ran_ = false;                     // since we are in RUN
  bool break_shown_ = false;                  // in the window, by INIT
  PacketConsumer<ShmemPlace> driver_queue_;
  PacketProducer<ShmemPlace> device_queue_;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_SHMEM_FIFO_H_
