// DeviceModel: what a driver has done with one device number, and may do next.

#ifndef VMSG_DEVICES_VIRTIO_MSG_MONITOR_DEVICE_MODEL_H_
#define VMSG_DEVICES_VIRTIO_MSG_MONITOR_DEVICE_MODEL_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "absl/strings/str_format.h"
#include "devices/virtio/features.h"
#include "devices/virtio_msg/acked_features.h"
#include "devices/virtio_msg/message.h"
#include "devices/virtio_msg/monitor/device_message.h"
#include "devices/virtio_msg/monitor/rows.h"

namespace vmsg::msg {

// Who a model reports to.
class ViolationReporter {
 public:
  ViolationReporter() = default;
  ViolationReporter(const ViolationReporter&) = delete;
  ViolationReporter& operator=(const ViolationReporter&) = delete;

  // `text` lives as long as the call.
  virtual void Report(Row row, uint32_t device, std::string_view text) = 0;

 protected:
  ~ViolationReporter() = default;
};

// The requests of a driver to one device number that have no answer yet, with
// what is needed to understand the answer. Answers come in order.
// Source: virtio-msg-messages, 6.1.
class OpenRequests {
 public:
  struct Request {
    uint8_t msg_id = 0;
    uint32_t value = 0;   // status, index, offset or generation count
    uint32_t length = 0;  // of configuration data
  };

  // More than a bus lets wait, and the oldest are forgotten: what they change
  // is then not judged.
  static constexpr size_t kCapacity = 16;

  void Push(const Request& request) {
    if (size_ == kCapacity) Drop(1);
    ring_[(first_ + size_++) % kCapacity] = request;
  }
  // Takes the oldest with this id and forgets those before it.
  std::optional<Request> Take(uint8_t msg_id) {
    for (size_t i = 0; i < size_; ++i) {
      const Request request = ring_[(first_ + i) % kCapacity];
      if (request.msg_id != msg_id) continue;
      Drop(i + 1);
      return request;
    }
    return std::nullopt;
  }
  bool Has(uint8_t msg_id) const {
    for (size_t i = 0; i < size_; ++i) {
      if (ring_[(first_ + i) % kCapacity].msg_id == msg_id) return true;
    }
    return false;
  }

 private:
  void Drop(size_t n) {
    first_ = (first_ + n) % kCapacity;
    size_ -= n;
  }

  std::array<Request, kCapacity> ring_ = {};
  size_t first_ = 0;
  size_t size_ = 0;
};

// Configuration generation counts that a SET_CONFIG may carry: that of the last
// GET_CONFIG, and those that were shown after it, which the driver may or may
// not have seen when it sent.
class KnownGenerations {
 public:
  bool Has(uint32_t generation) const {
    return overflowed_ || std::find(values_.begin(), values_.begin() + count_,
                                    generation) != values_.begin() + count_;
  }
  void Add(uint32_t generation) {
    if (Has(generation)) return;
    if (count_ == values_.size()) {
      overflowed_ = true;  // anything goes until the next GET_CONFIG
    } else {
      values_[count_++] = generation;
    }
  }
  void Replace(uint32_t generation) {
    *this = {};
    Add(generation);
  }

 private:
  std::array<uint32_t, 4> values_ = {};
  uint8_t count_ = 0;
  bool overflowed_ = false;
};

// It accuses only of what is certain. An event of the device may cross a
// message of the driver, so an event alone obliges nobody; an answer does, as
// soon as the driver sends the next request to the device: it is taken to wait
// for each answer, as all known drivers do. What was found broken is taken as
// done, so that one mistake is not reported for all that follows from it.
//
// Memory is constant. Nothing allocates or blocks. Threads: the loop's.
class DeviceModel {
 public:
  // More queues than any virtio device of today has; others are not judged.
  static constexpr uint32_t kQueues = 64;

  // `reporter` is borrowed and outlives the model.
  DeviceModel(uint32_t number, ViolationReporter* reporter)
      : number_(number), reporter_(reporter) {}

  // A well-formed transport message for this device; `bytes` is all of it.
  void OnDriver(const Header& header, const DriverMessage& message,
                std::span<const std::byte> bytes);
  // A transport answer or event of this device.
  void OnDevice(const Header& header, const DeviceMessage& message);
  // GET_DEVICES showed it, or READY was sent: not the device that is being
  // removed, if one is.
  void OnPresent() {
    s_.absent = false;
    s_.replaced = s_.removed;
  }
  // REMOVED was sent.
  void OnRemoved();
  // The driver side is a new one.
  void Clear() { s_ = {}; }

 private:
  struct Queue {
    uint32_t size = 0;
    uint32_t max_size = 0;
    bool max_known = false;
    bool looked_at = false;   // GET_VQUEUE was answered since the reset
    bool configured = false;  // by SET_VQUEUE
    bool confirmed = false;   // ... and GET_VQUEUE has shown it
    bool notified = false;    // EVENT_AVAIL since it was configured
  };
  // What becomes of a device that asks for a reset.
  enum class NeedsReset : uint8_t { kNo, kShown, kAnswered, kSeen, kReported };

  // One for each message of the driver; see OnDriver().
  void On(const GetDeviceInfo&);
  void On(const GetDeviceFeatures&);
  void On(const SetDriverFeatures& set);
  void On(const GetConfig& get);
  void On(const SetConfig& set);
  void On(const GetDeviceStatus&) {}
  void On(const SetDeviceStatus& set);
  void On(const GetVqueue& get);
  void On(const SetVqueue& set);
  void On(const ResetVqueue& reset);
  void On(const GetShm&) {}
  void On(const EventAvail& avail);
  // Bus messages concern no device.
  void On(const GetDevices&) {}
  void On(const Ping&) {}
  void On(const PingResponse&) {}

  // One for each message of the device that matters, with what it answers.
  void Answer(const OpenRequests::Request& request,
              const DeviceInfoResponse& info);
  void Answer(const OpenRequests::Request& request,
              const FeaturesAnswer& features);
  void Answer(const OpenRequests::Request& request, const ConfigAnswer& config);
  void Answer(const OpenRequests::Request& request, const StatusAnswer& status);
  void Answer(const OpenRequests::Request& request, const VqueueAnswer& vqueue);
  void ConfigEvent(const ConfigChanged& event);

  bool IsForNobody(const DriverMessage& message) const;
  void RequireInfo(std::string_view what);
  void RequireFeaturesOk();
  bool RequireIndex(uint32_t index, std::string_view what);
  void CheckConfigRange(uint32_t offset, size_t length);
  void AssumeAllRead();
  void CheckNewStatus(uint32_t status);
  void CheckDriverOk();
  void CheckAreas(const virtio::QueueConfig& config);
  void CheckPosition(Queue* queue, const EventAvail& avail);
  void Reset();
  void BeginAnew();
  void SetInfo(const DeviceInfoResponse& info);
  void NoteReported(uint32_t status);
  // Accepted features hold it.
  bool Negotiated(uint32_t bit) const;

  template <typename... Args>
  void Violated(Row row, const absl::FormatSpec<Args...>& format,
                const Args&... args) {
    char text[128];
    const int size = absl::SNPrintF(text, sizeof(text), format, args...);
    reporter_->Report(
        row, number_,
        std::string_view(text, std::min<size_t>(static_cast<size_t>(size),
                                                sizeof(text) - 1)));
  }

  const uint32_t number_;
  ViolationReporter* const reporter_;

  // What a new driver does not have. Cleared by Clear().
  struct State {
    OpenRequests open;
    bool info_asked = false;
    bool info_known = false;
    bool absent = false;  // the info said that no device is there
    bool gone = false;    // the driver found nobody in the middle of its use
    DeviceInfoResponse info;
    virtio::Features offered;  // of the blocks read
    uint32_t blocks_read = 0;  // a bit for each of virtio::Features::kBlocks
    KnownGenerations generations;
    bool generation_rejected = false;
    std::optional<uint32_t> unread_generation;  // of an event without data

    // Of a device whose REMOVED was sent. It serves its driver on until that
    // resets it, or a deadline; see BeginAnew().
    bool removed = false;
    bool started_at_removal = false;  // in DRIVER_OK then
    bool reset_after_removal = false;
    bool replaced = false;    // another one is there
    bool asked_anew = false;  // GET_DEVICE_INFO since
    // Who is there instead, from the next request on.
    std::optional<DeviceInfoResponse> successor;

    // Until status 0, from here on.
    uint32_t status = 0;    // written, less what the device did not take
    uint32_t reported = 0;  // by the device, last
    bool reset_not_done = false;
    bool features_ok_tried = false;
    bool features_ok_refused = false;
    NeedsReset needs_reset = NeedsReset::kNo;
    AckedFeatures acked;
    std::array<Queue, kQueues> queues = {};
  };
  State s_;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_MONITOR_DEVICE_MODEL_H_
