// DriverPing: asks a quiet driver whether it is still there, and what follows
// from its silence.

#ifndef VMSG_DEVICES_VIRTIO_MSG_DRIVER_PING_H_
#define VMSG_DEVICES_VIRTIO_MSG_DRIVER_PING_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/functional/any_invocable.h"
#include "devices/virtio_msg/event_pacer.h"
#include "devices/virtio_msg/message_bus_types.h"
#include "vmm/base/counter.h"
#include "vmm/event/event_loop.h"

namespace vmsg::msg {

// A driver that has sent nothing for an interval gets a PING. When PING after
// PING stays without an answer it counts as unresponsive, until it sends
// anything again. That is a verdict for operators: nothing else follows, the
// devices go on.
//
// Drivers exist that do not answer a PING, or that lose an EVENT_DEVICE when a
// PING comes too close to it; nothing on the wire tells them from the others.
// So a driver gets none until it has sent a PING of its own, since who sends it
// knows it. It gets one back for each of its own at most, and only when it has
// answered one does silence count. An embedder that knows its driver skips all
// that with PingOptions::ask_first. A PING takes the place of an EVENT_DEVICE
// in the EventPacer. Source: amp-pci-device, 4; virtio-msg-messages, 5.2.
//
//   kOff --the driver PINGs--> kDue --sent--> kAsked --no answer--> kOff
//                               ^                | answer
//                               |                v
//                               +--interval-- kResting <--no answer, counted--
//
// Threads: the loop's. Nothing blocks or allocates after construction.
class DriverPing {
 public:
  struct Counters {
    vmm::OwnedCounter* sent;
    vmm::OwnedCounter* answered;
    vmm::OwnedCounter* missed;
    vmm::OwnedCounter* unexpected;
  };

  // Everything is borrowed and outlives this. `due` is called when time alone
  // has brought a PING that is to be sent, as soon as the pacer lets it, or the
  // end of the wait for an answer: a flush is wanted. `changed` is called after
  // each change of health().
  DriverPing(vmm::EventLoop* loop, const PingOptions& options,
             EventPacer* pacer, const Counters& counters,
             absl::AnyInvocable<void()> due,
             absl::AnyInvocable<void()> changed);
  DriverPing(const DriverPing&) = delete;
  DriverPing& operator=(const DriverPing&) = delete;

  // --- What the driver sent. ---

  // Anything valid but the answer to a PING. On the data path.
  void Heard() {
    heard_ = true;
    if (attentive_) HeardAgain();
  }
  // A PING of its own; after Heard().
  void HeardPing();
  // The answer to a PING. One that fits no PING of ours is counted, and is no
  // sign of anything.
  void HeardAnswer(uint16_t token, uint32_t data);

  // --- What it is sent. ---

  // At the start of each flush, so after the link has handed over what there
  // was to read: an answer that did not come by the end of its time is missed
  // only now. A link that does not read, since it is broken, does not flush
  // either. `deaf`: a device keeps the bus from reading, so the answer may wait
  // on the queue; the time begins anew.
  void Judge(bool deaf) {
    if (overdue_) JudgeOverdue(deaf);
  }
  // The PING, in wire form; returns its size. REQUIRES: the pacer's
  // ping_next(), out.size() >= kMinMessageBytes.
  size_t Encode(std::span<std::byte> out) const;
  // What became of it. No room: it stays due, and a driver that makes none for
  // as long as it has for an answer has missed it.
  void Sent();
  void Refused();

  // The driver is a new one: it has to show anew that it answers.
  void Reset();

  DriverHealth health() const { return health_; }
  // PINGs in a row without an answer.
  uint32_t misses() const { return misses_; }

 private:
  enum class Phase : uint8_t { kOff, kResting, kDue, kAsked };

  void HeardAgain();
  void OnTimer();
  void JudgeOverdue(bool deaf);
  void Ask();
  void Miss();
  void Rest();
  void SetHealth(DriverHealth health);
  // Whether the next Heard() changes something at once.
  void UpdateAttention() {
    attentive_ = misses_ != 0 || health_ == DriverHealth::kUnresponsive ||
                 (options_.ask_first && enabled() && phase_ == Phase::kOff);
  }
  bool enabled() const { return options_.interval > vmm::Duration(0); }
  bool silence_counts() const { return proven_ || options_.ask_first; }

  const PingOptions options_;
  EventPacer* const pacer_;
  const Counters counters_;
  Phase phase_ = Phase::kOff;
  bool attentive_ = false;
  bool heard_ = false;     // since the last PING, or the last interval
  bool proven_ = false;    // the driver has answered one
  bool awaiting_ = false;  // an answer to token_ would be one, if late
  bool overdue_ = false;   // the time for the answer is up: see Judge()
  uint16_t token_ = 0;
  uint32_t misses_ = 0;
  DriverHealth health_ = DriverHealth::kUnknown;
  absl::AnyInvocable<void()> due_;
  absl::AnyInvocable<void()> changed_;
  const std::unique_ptr<vmm::Timer> timer_;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_DRIVER_PING_H_
