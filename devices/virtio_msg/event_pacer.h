// EventPacer: which EVENT_DEVICE is owed, and when it, or a PING, may go.

#ifndef VMSG_DEVICES_VIRTIO_MSG_EVENT_PACER_H_
#define VMSG_DEVICES_VIRTIO_MSG_EVENT_PACER_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/functional/any_invocable.h"
#include "devices/virtio_msg/message.h"
#include "vmm/event/event_loop.h"

namespace vmsg::msg {

// Existing drivers keep one buffer for bus messages of the device and look at
// it later, so a second one too early would overwrite the first. One is
// outstanding at a time; the next may go when the driver has reacted, or a
// short time after it has taken it from the link: a driver that does not run
// for a while finds no two of them. What is owed is two bits per slot, and one
// for a PING, which takes the same place in the driver.
// Source: amp-pci-device, section 4.
//
// Threads: the loop's. Nothing blocks or allocates after construction.
class EventPacer {
 public:
  struct Announcement {
    uint32_t slot = 0;
    DeviceBusState state = DeviceBusState::kReady;
    friend bool operator==(const Announcement&, const Announcement&) = default;
  };
  static constexpr uint32_t kSlots = 32;

  // `loop` is borrowed and outlives the pacer. `taken` says whether the driver
  // has taken what was sent last. `may_send` is called when time alone has made
  // Next() give something.
  EventPacer(vmm::EventLoop* loop, vmm::Duration pacing,
             absl::AnyInvocable<bool()> taken,
             absl::AnyInvocable<void()> may_send);
  EventPacer(const EventPacer&) = delete;
  EventPacer& operator=(const EventPacer&) = delete;

  void OweReady(uint32_t slot) { ready_ |= Bit(slot); }
  void CancelReady(uint32_t slot) { ready_ &= ~Bit(slot); }
  // Of the device before, when the slot has a new one: it goes first.
  void OweRemoved(uint32_t slot) { removed_ |= Bit(slot); }
  bool removed_owed(uint32_t slot) const { return (removed_ & Bit(slot)) != 0; }
  // Owed, or the driver may not have looked at it yet.
  bool removed_pending(uint32_t slot) const {
    return removed_owed(slot) ||
           outstanding_ == Announcement{slot, DeviceBusState::kRemoved};
  }

  // What to send now; nullopt when nothing is owed or one is outstanding. Slots
  // take turns.
  std::optional<Announcement> Next() const;
  // It was sent, and is outstanding now. `news`: nothing else than this event
  // leads the driver to what it does after it, so that can be taken for the
  // reaction. REQUIRES: Next() gave it.
  void Sent(const Announcement& announcement, bool news);

  // The driver did what it does after such an event; no effect when another one
  // is outstanding, or none, or it was no news.
  void DriverReacted(uint32_t slot, DeviceBusState state) {
    if (news_ && outstanding_ == Announcement{slot, state}) Release();
  }
  // The driver learned of the device in another way.
  void Listed(uint32_t slot) {
    if (outstanding_ == Announcement{slot, DeviceBusState::kReady}) {
      news_ = false;
    }
  }
  bool outstanding() const { return outstanding_.has_value(); }
  // Something is owed, a PING or an announcement, though perhaps not yet to be
  // sent. For the data path: mostly nothing is.
  bool owes() const { return events_owed() || ping_owed_; }

  // --- The PING of DriverPing. ---

  void OwePing() { ping_owed_ = true; }
  void CancelPing() { ping_owed_ = false; }
  bool ping_owed() const { return ping_owed_; }
  // A PING is to be sent now. It goes before what Next() gives, but for one
  // that follows another PING: then an event has its turn.
  bool ping_next() const {
    return ping_owed_ && free() && !(last_was_ping_ && events_owed());
  }
  // It was sent, and is outstanding now. REQUIRES: ping_next().
  void PingSent();
  // No effect when it is not outstanding any more.
  void PingAnswered() {
    if (ping_outstanding_) Release();
  }

  // The driver is a new one: nothing is owed, nothing is outstanding.
  void Reset();

 private:
  static constexpr uint32_t Bit(uint32_t slot) { return uint32_t{1} << slot; }
  bool events_owed() const { return (ready_ | removed_) != 0; }
  bool free() const { return !outstanding_.has_value() && !ping_outstanding_; }
  void OnTimer();
  void Release();

  const vmm::Duration pacing_;
  uint32_t ready_ = 0;
  uint32_t removed_ = 0;
  uint32_t next_ = 0;  // slot to begin with
  std::optional<Announcement> outstanding_;
  bool news_ = false;
  bool ping_owed_ = false;
  bool ping_outstanding_ = false;
  bool last_was_ping_ = false;  // of all that was sent
  bool taken_late_ = false;     // not when the time was over
  absl::AnyInvocable<bool()> taken_;
  absl::AnyInvocable<void()> may_send_;
  const std::unique_ptr<vmm::Timer> timer_;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_EVENT_PACER_H_
