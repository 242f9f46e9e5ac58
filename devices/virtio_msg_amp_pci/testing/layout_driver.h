// LayoutDriver: the driver of one FIFO of an AmpMachine, in whatever layout its
// window has, for tests of what all layouts have in common.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_LAYOUT_DRIVER_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_LAYOUT_DRIVER_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "guest/driver/window_fifo.h"
#include "vmm/base/check.h"

namespace vmsg::amp {

// For INSTANTIATE_TEST_SUITE_P: all layouts, and what they are called there.
inline constexpr FifoLayout kAllLayouts[] = {
    FifoLayout::kSpsc, FifoLayout::kShmemV1, FifoLayout::kShmemV1Packed};
inline std::string LayoutTestName(FifoLayout layout) {
  switch (layout) {
    case FifoLayout::kSpsc:
      return "Spsc";
    case FifoLayout::kShmemV1:
      return "ShmemV1";
    case FifoLayout::kShmemV1Packed:
      return "ShmemV1Packed";
  }
  return "Unknown";
}

// Threads: the test's, which runs the machine's loop too.
class LayoutDriver {
 public:
  // `machine` is borrowed. Its guest has been started before Attach().
  explicit LayoutDriver(AmpMachine* machine, uint32_t n = 0)
      : machine_(machine), n_(n) {}

  // What a driver does first: finds the window as it is. A handshake has only
  // begun then.
  void Begin() {
    fifo_ = window_.Open(machine_->guest->window(n_));
    VMSG_CHECK(fifo_->Attach(), "the window can't be used");
  }
  // Sees a handshake through, with a doorbell for each step.
  void Finish() {
    for (int i = 0; i < 8 && fifo_->state() != guest::FifoState::kRunning;
         ++i) {
      machine_->guest->Ring(n_);
      machine_->loop.RunUntilIdle();
      while (fifo_->Step()) {
      }
    }
    VMSG_CHECK(running(), "the device does not join");
    // The device may not have seen the last step.
    machine_->guest->Ring(n_);
    machine_->loop.RunUntilIdle();
  }
  void Attach() {
    Begin();
    Finish();
  }
  bool running() const { return fifo_->state() == guest::FifoState::kRunning; }

  // Puts a message on the driver queue, without the doorbell. False: full.
  bool Put(const Bytes& message) {
    if (!fifo_->Send(message)) return false;
    fifo_->CommitSent();
    return true;
  }
  void Ring() { machine_->guest->Ring(n_); }
  void Send(const Bytes& message) {
    VMSG_CHECK(Put(message), "the driver queue is full");
    Ring();
  }
  // The next packet of the device queue, 64 bytes.
  std::optional<Bytes> Take() {
    guest::Packet packet;
    if (!fifo_->Receive(&packet)) return std::nullopt;
    fifo_->CommitReceived();
    return Bytes(packet.bytes.begin(), packet.bytes.end());
  }
  std::vector<Bytes> TakeAll() {
    std::vector<Bytes> packets;
    while (std::optional<Bytes> packet = Take()) {
      packets.push_back(*std::move(packet));
    }
    return packets;
  }
  // Moves what can move; then what came.
  std::vector<Bytes> Run() {
    machine_->loop.RunUntilIdle();
    return TakeAll();
  }
  std::vector<Bytes> Ask(const Bytes& message) {
    Send(message);
    return Run();
  }

 private:
  AmpMachine* const machine_;
  const uint32_t n_;
  guest::WindowFifo window_;
  guest::Fifo* fifo_ = nullptr;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_LAYOUT_DRIVER_H_
