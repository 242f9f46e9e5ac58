// Slot: one place of the bus and the life of what is plugged into it.

#ifndef VMSG_DEVICES_VIRTIO_MSG_SLOT_H_
#define VMSG_DEVICES_VIRTIO_MSG_SLOT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "devices/virtio/status.h"
#include "devices/virtio/virtio_device.h"
#include "devices/virtio_msg/codec.h"
#include "devices/virtio_msg/deferred_queue.h"
#include "devices/virtio_msg/endpoint.h"
#include "devices/virtio_msg/event_pacer.h"
#include "devices/virtio_msg/message.h"
#include "devices/virtio_msg/message_bus_types.h"
#include "devices/virtio_msg/outbox.h"
#include "vmm/base/log.h"
#include "vmm/event/event_loop.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::msg {

// Who a slot reports to.
class SlotHost {
 public:
  SlotHost() = default;
  SlotHost(const SlotHost&) = delete;
  SlotHost& operator=(const SlotHost&) = delete;

  // Pump() has something to do. Loop.
  virtual void OnSlotWork(uint32_t slot) = 0;
  // SendEvents() has something to do. Any thread; may not block or allocate.
  virtual void OnSlotEvent(uint32_t slot) = 0;
  // status() is another. Loop.
  virtual void OnSlotChanged(uint32_t slot) = 0;

 protected:
  ~SlotHost() = default;
};

// What all slots of a bus share; borrowed, outlives them.
struct SlotContext {
  std::string bus_name;
  MessageBusOptions options;
  vmm::EventLoop* loop = nullptr;
  vmm::DmaSpace* dma = nullptr;
  vmm::LogSink* log_sink = nullptr;
  EventPacer* pacer = nullptr;
  SlotHost* host = nullptr;
};

// Plug state (SlotState) and, inside kRemoving, the phase:
//
//   kEmpty --Plug--> kPendingAnnounce --the driver may know it--> kPresent
//   kPendingAnnounce, kPresent --Unplug--> kRemoving:
//     kServing --deadline, or forced--> kFailing
//     kServing, kFailing --status 0--> kReleasing --device gone--> kEmpty
//     kFailing --fail deadline--> kReleasing
//
// A device that the driver has not started (status 0) is released at once.
//
// A new device is hidden while the REMOVED of the one before is on its way:
// until then the driver hears about the slot what it hears about an empty one,
// so that neither the event nor what the driver does about the old device hits
// the new one. And as a driver may find the number listed while it still holds
// the old device, the new one's READY is sent even then.
//
// Requests that were taken for a device that is released meanwhile are still
// owed an answer: they get the neutral one of an empty slot, in their order.
//
// Threads: the loop's. Nothing blocks; nothing on the driver's side allocates.
class Slot final : public EndpointHost {
 public:
  Slot(uint32_t number, const SlotContext* context);
  // Destroys the device; `gone` is not called.
  ~Slot();

  // --- The driver's side. `message` is a transport message. ---

  // Acts on a message. Returns the size of the answer in `out`
  // (kMaxMessageBytes of room), or 0: there is none (an event), or it comes by
  // Pump(). `raw` is the message in wire form. REQUIRES: !full().
  size_t Receive(const Header& header, const DriverMessage& message,
                 std::span<const std::byte> raw, std::span<std::byte> out);

  // Answers the requests that wait, as far as the device is done with them.
  // False: the outbox has an answer to get rid of first; call again.
  bool Pump(Outbox* outbox);

  // As Endpoint::SendEvents().
  bool SendEvents(Outbox* outbox);

  // No room for another request that waits.
  bool full() const { return deferred_.full(); }
  bool waiting() const { return !deferred_.empty(); }

  // GET_DEVICES shows a device here.
  bool listed() const { return visible() && state_ != SlotState::kRemoving; }
  // The driver has been shown it: in GET_DEVICES, or by its READY.
  void BecomeKnown();
  bool known() const { return known_; }
  // The driver has brought it to DRIVER_OK.
  bool started() const {
    return endpoint_ != nullptr &&
           (endpoint_->driver_status() & virtio::kStatusDriverOk) != 0;
  }

  // The driver is a new one. See MessageBus::ResetAll().
  void Restart();

  // --- The operator's side: see MessageBus. ---

  absl::Status Plug(uint64_t generation,
                    std::unique_ptr<virtio::VirtioDevice> device);
  absl::Status Unplug(const UnplugOptions& options,
                      absl::AnyInvocable<void()> gone);
  SlotStatus status() const;
  bool occupied() const { return state_ != SlotState::kEmpty; }

 private:
  enum class Phase : uint8_t { kNone, kServing, kFailing, kReleasing };

  // EndpointHost.
  void OnOperationDone() override;
  void OnStatusChanged() override { context_.host->OnSlotChanged(number_); }
  void OnEvent() override { context_.host->OnSlotEvent(number_); }

  // The driver's messages reach a device.
  bool visible() const {
    return endpoint_ != nullptr && phase_ != Phase::kReleasing &&
           !(hidden_ && context_.pacer->removed_pending(number_));
  }
  bool unused_by_driver() const {
    return endpoint_->driver_status() == 0 && !endpoint_->busy();
  }
  size_t Execute(const Header& header, const DriverMessage& message,
                 std::span<std::byte> out);
  size_t AnswerNeutrally(const Header& header, const DriverMessage& message,
                         std::span<std::byte> out) const;
  std::optional<size_t> AnswerFront(std::span<std::byte> out);
  void OnDeadline();
  void StartFailing();
  void Release();
  void Free();

  const uint32_t number_;
  const SlotContext& context_;
  vmm::Logger log_;

  SlotState state_ = SlotState::kEmpty;
  Phase phase_ = Phase::kNone;
  uint64_t generation_ = 0;
  bool known_ = false;       // the driver may know the device
  bool hidden_ = false;      // as long as a REMOVED is pending
  bool met_before_ = false;  // the driver may know an earlier device

  DeferredQueue deferred_;
  bool front_started_ = false;  // the endpoint works on the first of them
  uint32_t neutral_ = 0;        // so many of the first are answered neutrally

  vmm::Duration fail_deadline_{};
  std::vector<absl::AnyInvocable<void()>> gone_;
  const std::unique_ptr<vmm::Timer> deadline_;
  // Posted closures hold it weakly.
  const std::shared_ptr<char> alive_;
  std::unique_ptr<Endpoint> endpoint_;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_SLOT_H_
