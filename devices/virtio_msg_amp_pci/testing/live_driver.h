// LiveDriver: the driver of one FIFO, in whatever layout, while the loop runs
// on another thread.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_LIVE_DRIVER_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_LIVE_DRIVER_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <thread>

#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "guest/driver/window_fifo.h"

namespace vmsg::amp {

// Threads: one, which is not the loop's.
class LiveDriver {
 public:
  // `guest` is borrowed, and started before Attach().
  LiveDriver(RawGuest* guest, uint32_t n) : guest_(guest), n_(n) {}

  // False: the device has not joined within a minute.
  bool Attach() {
    fifo_ = window_.Open(guest_->window(n_));
    if (!fifo_->Attach()) return false;
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (fifo_->state() != guest::FifoState::kRunning) {
      if (std::chrono::steady_clock::now() > deadline) return false;
      while (fifo_->Step()) {
      }
      guest_->Ring(n_);
      std::this_thread::yield();
    }
    guest_->Ring(n_);
    return true;
  }
  bool Put(const Bytes& message) {
    if (!fifo_->Send(message)) return false;
    fifo_->CommitSent();
    return true;
  }
  std::optional<Bytes> Take() {
    guest::Packet packet;
    if (!fifo_->Receive(&packet)) return std::nullopt;
    fifo_->CommitReceived();
    return Bytes(packet.bytes.begin(), packet.bytes.end());
  }
  // The next packet that is an answer; nullopt after a minute.
  std::optional<Bytes> Await() {
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::minutes(1);
    while (std::chrono::steady_clock::now() < deadline) {
      const std::optional<Bytes> packet = Take();
      if (packet.has_value() && (TypeOf(*packet) & 1) != 0) return packet;
      if (!packet.has_value()) std::this_thread::yield();
    }
    return std::nullopt;
  }
  bool Ping(uint16_t token) {
    if (!Put(RawPing(token, token))) return false;
    guest_->Ring(n_);
    const std::optional<Bytes> answer = Await();
    return answer.has_value() && TokenOf(*answer) == token &&
           PayloadWord(*answer, 0) == token;
  }

 private:
  RawGuest* const guest_;
  const uint32_t n_;
  guest::WindowFifo window_;
  guest::Fifo* fifo_ = nullptr;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_LIVE_DRIVER_H_
