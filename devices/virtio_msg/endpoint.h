// Endpoint: the transport's end of one device: messages in, answers out, and
// the virtio status state machine in between.

#ifndef VMSG_DEVICES_VIRTIO_MSG_ENDPOINT_H_
#define VMSG_DEVICES_VIRTIO_MSG_ENDPOINT_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/status.h"
#include "devices/virtio/virtio_device.h"
#include "devices/virtio_msg/acked_features.h"
#include "devices/virtio_msg/codec.h"
#include "devices/virtio_msg/message.h"
#include "devices/virtio_msg/outbox.h"
#include "devices/virtio_msg/revision_policy.h"
#include "devices/virtio_msg/used_levels.h"
#include "vmm/base/log.h"
#include "vmm/event/event_loop.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::msg {

// Who an endpoint reports to.
class EndpointHost {
 public:
  EndpointHost() = default;
  EndpointHost(const EndpointHost&) = delete;
  EndpointHost& operator=(const EndpointHost&) = delete;

  // The endpoint is no longer busy. Loop; never inside a call to the endpoint.
  virtual void OnOperationDone() = 0;
  // The status byte, the count of resets or the health is another. Loop.
  virtual void OnStatusChanged() = 0;
  // SendEvents() has something to send. Threads: any; may not block or
  // allocate.
  virtual void OnEvent() = 0;

 protected:
  ~EndpointHost() = default;
};

struct EndpointOptions {
  uint32_t dev_num = 0;
  Revision revision = Revision::k2025;
  uint32_t max_message_bytes = 64;
  uint32_t vendor_id = 0;
  // As in MessageBusOptions.
  vmm::DmaSpace* translated_dma = nullptr;
  bool allow_untranslated = false;
};

// Threads: the loop's, but NotifyUsed(). Nothing blocks.
//
// A request is answered inside Handle(), or starts an operation of the device
// that takes time (reset, activation, reset of a queue): the endpoint is then
// busy, and takes the next request only when it no longer is. A write of status
// 0 alone need not wait behind the others: see ResetNow().
class Endpoint final : private virtio::DriverNotifier {
 public:
  // All pointers are borrowed and outlive the endpoint. `log_source` names the
  // device for people: "amp0/fifo1/bus3".
  Endpoint(const EndpointOptions& options, std::string log_source,
           std::unique_ptr<virtio::VirtioDevice> device, vmm::EventLoop* loop,
           vmm::DmaSpace* dma, vmm::LogSink* log_sink, EndpointHost* host);
  // Destroys the device first; what it had not completed is dropped.
  ~Endpoint() override;

  // --- The driver's side. ---

  // Acts on a transport request. Returns the size of the answer in `out`
  // (kMaxMessageBytes of room), or 0: the endpoint is busy now, and
  // AnswerFinished() gives the answer when it no longer is.
  // REQUIRES: !busy(), `message` is a transport request.
  size_t Handle(const Header& header, const DriverMessage& message,
                std::span<std::byte> out);
  // REQUIRES: Handle() gave 0 for this request, and !busy().
  size_t AnswerFinished(const Header& header, const DriverMessage& message,
                        std::span<std::byte> out) const;
  bool busy() const { return operation_ != Operation::kNone; }

  // EVENT_AVAIL. A queue that does not exist, or no DRIVER_OK: ignored (O-25).
  // The position that comes with VIRTIO_F_NOTIFICATION_DATA is looked at and
  // not believed: whatever it says, the queue itself is what counts. One that a
  // queue of this kind can't have is worth a line in the log.
  // REQUIRES: !busy().
  void Avail(const EventAvail& event);
  // The same, for when requests before it wait: a level until DeliverAvail().
  void RememberAvail(uint32_t index);
  // REQUIRES: !busy().
  void DeliverAvail();

  // Starts a reset at once, which overtakes an activation or a queue's reset.
  // No effect during a reset. The host hears when it is done.
  void ResetNow();

  // Sends the pending events. False: the link had no room, and what is left
  // stays pending. Levels that mean nothing any more are dropped.
  bool SendEvents(Outbox* outbox);
  // Drops pending EVENT_CONFIG: there is no driver that knows the device.
  void DropConfigEvents();

  // --- The operator's side. ---

  // From now on the device fails its requests (VirtioDevice::FailRequests), as
  // soon as it can.
  void FailRequests();

  // Ends the device; overtakes everything. Only destruction may follow.
  void Remove(absl::AnyInvocable<void()> done);

  uint32_t device_id() const { return device_id_; }
  uint8_t driver_status() const { return status_; }
  uint64_t resets() const { return resets_; }
  // Empty: none. The first reason of NEEDS_RESET since the last reset, and the
  // one with which the back end stopped working.
  const std::string& needs_reset_reason() const { return needs_reset_reason_; }
  const std::string& backend_reason() const { return backend_reason_; }
  bool needs_reset() const {
    return (status_ & virtio::kStatusNeedsReset) != 0;
  }
  bool backend_failed() const { return backend_failed_; }

 private:
  enum class Operation : uint8_t {
    kNone,
    kReset,
    kActivate,
    kQueueReset,
    kRemove,
  };

  struct Queue {
    uint32_t max_size = 0;
    bool enabled = false;
    virtio::QueueConfig config;
  };

  // One for each request; see Handle().
  size_t On(const Header& header, const GetDeviceInfo&,
            std::span<std::byte> out);
  size_t On(const Header& header, const GetDeviceFeatures& get,
            std::span<std::byte> out);
  size_t On(const Header& header, const SetDriverFeatures& set,
            std::span<std::byte> out);
  size_t On(const Header& header, const GetConfig& get,
            std::span<std::byte> out);
  size_t On(const Header& header, const SetConfig& set,
            std::span<std::byte> out);
  size_t On(const Header& header, const GetDeviceStatus&,
            std::span<std::byte> out);
  size_t On(const Header& header, const SetDeviceStatus& set,
            std::span<std::byte> out);
  size_t On(const Header& header, const GetVqueue& get,
            std::span<std::byte> out);
  size_t On(const Header& header, const SetVqueue& set,
            std::span<std::byte> out);
  size_t On(const Header& header, const ResetVqueue& reset,
            std::span<std::byte> out);
  size_t On(const Header& header, const GetShm& get, std::span<std::byte> out);

  // virtio::DriverNotifier.
  void NotifyUsed(uint16_t queue) override;
  void NotifyConfigChanged(uint32_t offset, uint32_t length) override;
  void NotifyNeedsReset(std::string_view reason) override;
  void NotifyBackendHealth(bool healthy, std::string_view reason) override;

  // The queue exists, and the device works on it.
  bool Serves(uint32_t index) const {
    return index < queues_.size() && queues_[index].enabled && live();
  }
  // Whether `event` names a place of its queue, which exists (O-24).
  bool NamesAPlace(const EventAvail& event) const;

  bool FeaturesAcceptable();
  // What the driver's addresses mean, from FEATURES_OK on.
  vmm::DmaSpace* dma() const {
    return acked_.known().Has(virtio::kFeatureAccessPlatform)
               ? options_.translated_dma
               : physical_dma_;
  }
  bool ConfigRangeFits(uint32_t offset, uint64_t length) const;
  void ApplyQueueSettings(const SetVqueue& set);
  virtio::DeviceContext Context();
  // True when the device has started on it and the endpoint is busy.
  bool StartActivation();
  void FinishActivation(const absl::Status& result);
  void FinishReset();
  void StartQueueReset(uint16_t index);
  void FinishQueueReset(uint16_t index);
  template <typename Finish>
  auto Begin(Operation operation, Finish finish);

  void SetNeedsReset(std::string_view reason);
  void TellToFail();
  bool SendConfigEvent(Outbox* outbox);
  bool SendUsedEvents(Outbox* outbox);
  // The driver asked for work on the queues, and did not take that back.
  bool live() const {
    return (status_ & virtio::kStatusDriverOk) != 0 &&
           operation_ != Operation::kReset && operation_ != Operation::kRemove;
  }
  bool has(uint8_t status_bit) const { return (status_ & status_bit) != 0; }

  const EndpointOptions options_;
  const RevisionPolicy policy_;
  vmm::EventLoop* const loop_;
  vmm::DmaSpace* const physical_dma_;
  EndpointHost* const host_;
  vmm::Logger log_;

  // What the device said of itself at the start.
  const uint32_t device_id_;
  const uint32_t config_size_;
  const virtio::Features offered_;
  std::vector<Queue> queues_;

  uint8_t status_ = 0;
  uint64_t resets_ = 0;
  AckedFeatures acked_;
  uint32_t generation_ = 0;

  Operation operation_ = Operation::kNone;
  uint64_t epoch_ = 0;  // of the operation; an old closure has another
  bool failing_ = false;
  bool told_to_fail_ = false;

  std::string needs_reset_reason_;
  std::string backend_reason_;
  bool backend_failed_ = false;

  // Pending EVENT_CONFIG: the range that encloses all changes.
  bool config_changed_ = false;
  uint32_t changed_begin_ = 0;
  uint32_t changed_end_ = 0;
  bool status_changed_ = false;  // by the device

  std::vector<uint64_t> avail_;  // pending EVENT_AVAIL, a bit for each queue
  bool avail_pending_ = false;
  UsedLevels used_;

  // Closures hold it weakly.
  const std::shared_ptr<char> alive_;
  // Last, so first to go: nothing calls back after that.
  std::unique_ptr<virtio::VirtioDevice> device_;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_ENDPOINT_H_
