// MessageBus: the device side of one virtio-msg bus instance.
//
// It holds up to 32 devices on slots 0 to 31 (slot = device number), answers
// enumeration, hands transport messages to each device's endpoint, and keeps
// what is owed to the driver until the link takes it. Source: amp-pci-device,
// section 4; virtio-msg-messages, sections 5 and 6.

#ifndef VMSG_DEVICES_VIRTIO_MSG_MESSAGE_BUS_H_
#define VMSG_DEVICES_VIRTIO_MSG_MESSAGE_BUS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "devices/virtio/virtio_device.h"
#include "devices/virtio_msg/message_bus_types.h"
#include "devices/virtio_msg/message_link.h"
#include "vmm/base/counter.h"
#include "vmm/base/log.h"
#include "vmm/event/event_loop.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::msg {

// Told of every change of a slot's status, after it; on the loop, never inside
// Plug, Unplug or ResetAll (then in a later turn, changes of one slot merged).
// It may call status().
using SlotObserver = absl::AnyInvocable<void(uint32_t slot)>;

// Threads: the loop's, for every method, unless noted.
class MessageBus {
 public:
  // All pointers are borrowed and outlive the bus. `name` is for logs:
  // "amp0/fifo1". `dma` is for guest-physical addresses; see also
  // MessageBusOptions::translated_dma.
  MessageBus(std::string name, const MessageBusOptions& options,
             vmm::EventLoop* loop, vmm::DmaSpace* dma, MessageLink* link,
             vmm::LogSink* log_sink);
  MessageBus(const MessageBus&) = delete;
  MessageBus& operator=(const MessageBus&) = delete;
  // Drops the devices without their Remove completions: the embedder stops the
  // guest first and, to release in good order, unplugs.
  ~MessageBus();

  // --- The link's side. ---

  // False while an owed answer has no room, or kMaxDeferred requests of some
  // device wait: leave messages on the driver queue.
  bool CanAccept() const;

  // One message of the driver, in private memory; only after CanAccept(). Drops
  // and counts what is malformed; all else gets its one answer, now or later.
  // The link calls Flush() after each batch of these, unless it broke in it:
  // what the batch brought up besides answers is sent there, and not asked for
  // by RequestService().
  void Receive(std::span<const std::byte> message);

  // Sends what is owed and what is pending, as far as the link takes it. True
  // when nothing is left that waits for room. What the driver should have sent
  // by now counts as missing: the link reads before it calls, and does not call
  // while it is broken.
  bool Flush();

  // The driver side is new (function reset, bus mastering off, a fresh
  // handshake): drops owed answers, deferred requests and pending events,
  // resets every device, and counts every device as unknown to the driver.
  // Slots that were being removed are released as soon as their device is
  // quiet. READY is owed again for the others.
  void ResetAll();

  // --- The operator's side. ---

  // Puts a device on a slot.
  //   AlreadyExists       the slot holds a device, or has not finished removing
  //                       one; `device` is destroyed.
  //   InvalidArgument     slot is not below kSlots.
  absl::Status Plug(uint32_t slot, uint64_t generation,
                    std::unique_ptr<virtio::VirtioDevice> device);

  // Starts a removal, ends in `gone` on the loop, after the slot is free and
  // the device destroyed.
  //   NotFound            no device there (then `gone` is not called).
  //   FailedPrecondition  being removed already, unless this call forces a
  //                       graceful removal that still waits: that is OK, and
  //                       both `gone` are called.
  absl::Status Unplug(uint32_t slot, const UnplugOptions& options,
                      absl::AnyInvocable<void()> gone);

  SlotStatus status(uint32_t slot) const;
  void SetObserver(SlotObserver observer);

  // The driver has sent anything valid since the last ResetAll().
  bool driver_seen() const;
  // After each change, which may come by time alone, the link is asked for
  // service, and observers hear of the slots.
  DriverHealth driver_health() const;

  struct Counters {
    vmm::OwnedCounter received;        // messages, malformed ones included
    vmm::OwnedCounter malformed;       // dropped; DecodeError tells why
    vmm::OwnedCounter unknown_device;  // device number of 32 or more: dropped
    vmm::OwnedCounter answered;
    vmm::OwnedCounter events_sent;
    vmm::OwnedCounter deferred;      // requests whose answer took time
    vmm::OwnedCounter send_refused;  // times the link had no room
    // PINGs of this side: sent, answered in time or late, without an answer
    // from a driver whose silence counts; and answers that fit none.
    vmm::OwnedCounter pings_sent;
    vmm::OwnedCounter pings_answered;
    vmm::OwnedCounter pings_missed;
    vmm::OwnedCounter pings_unexpected;
  };
  // Any thread.
  const Counters& counters() const;

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_MESSAGE_BUS_H_
