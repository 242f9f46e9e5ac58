// Outbox: how messages get to the link, and the one that may be owed.

#ifndef VMSG_DEVICES_VIRTIO_MSG_OUTBOX_H_
#define VMSG_DEVICES_VIRTIO_MSG_OUTBOX_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include "devices/virtio_msg/codec.h"
#include "devices/virtio_msg/message_link.h"
#include "devices/virtio_msg/traffic_observer.h"
#include "vmm/base/check.h"
#include "vmm/base/counter.h"

namespace vmsg::msg {

// An answer must not be lost, so one that has no room is kept, and nothing that
// could produce another answer is begun until it is gone: one place is enough.
// Source: amp-pci-device, section 4.
//
// Threads: the loop's. Neither allocates nor blocks.
class Outbox {
 public:
  struct Counters {
    vmm::OwnedCounter* answered;
    vmm::OwnedCounter* events_sent;
    vmm::OwnedCounter* send_refused;
  };

  // Everything is borrowed and outlives the outbox; `observer` may be null.
  Outbox(MessageLink* link, const Counters& counters,
         TrafficObserver* observer = nullptr)
      : link_(link), counters_(counters), observer_(observer) {}
  Outbox(const Outbox&) = delete;
  Outbox& operator=(const Outbox&) = delete;

  // An answer waits for room.
  bool owes() const { return owed_bytes_ != 0; }

  // Tries again with the answer that waits. True when none is left.
  bool SendOwed() {
    if (owed_bytes_ == 0) return true;
    if (!TrySend(std::span(owed_).first(owed_bytes_))) return false;
    owed_bytes_ = 0;
    counters_.answered->Add();
    return true;
  }

  // Sends an answer or keeps it. REQUIRES: !owes().
  void SendAnswer(std::span<const std::byte> message) {
    VMSG_CHECK(owed_bytes_ == 0, "a second answer is owed");
    if (TrySend(message)) {
      counters_.answered->Add();
      return;
    }
    std::copy(message.begin(), message.end(), owed_.begin());
    owed_bytes_ = message.size();
  }

  // Sends an event. False: no room; its level stays with the caller.
  bool SendEvent(std::span<const std::byte> message) {
    if (!TrySend(message)) return false;
    counters_.events_sent->Add();
    return true;
  }

  // Sends a request of this side. False: no room; it is dropped.
  bool SendPing(std::span<const std::byte> message) { return TrySend(message); }

  // Drops the answer that waits: its driver is gone.
  void Clear() { owed_bytes_ = 0; }

 private:
  bool TrySend(std::span<const std::byte> message) {
    if (!link_->TrySend(message)) {
      counters_.send_refused->Add();
      return false;
    }
    if (observer_ != nullptr) observer_->OnDeviceMessage(message);
    return true;
  }

  MessageLink* const link_;
  const Counters counters_;
  TrafficObserver* const observer_;
  std::array<std::byte, kMaxMessageBytes> owed_;
  size_t owed_bytes_ = 0;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_OUTBOX_H_
