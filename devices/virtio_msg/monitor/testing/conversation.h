// Conversation: a driver and a device, both played by the test, and a monitor
// that listens.

#ifndef VMSG_DEVICES_VIRTIO_MSG_MONITOR_TESTING_CONVERSATION_H_
#define VMSG_DEVICES_VIRTIO_MSG_MONITOR_TESTING_CONVERSATION_H_

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "devices/virtio_msg/testing/wire.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::msg {

// The device is number kDev unless another is named. It offers 64 feature bits,
// has kConfigSize bytes of configuration and kQueues queues of kMaxQueueSize.
//
// Threads: the test's.
class Conversation {
 public:
  static constexpr uint16_t kDev = 5;
  static constexpr uint32_t kConfigSize = 16;
  static constexpr uint32_t kQueues = 2;
  static constexpr uint32_t kMaxQueueSize = 64;
  // In the second word.
  static constexpr uint32_t kVersion1 = 1u << 0;
  static constexpr uint32_t kRingPacked = 1u << 2;
  static constexpr uint32_t kNotificationData = 1u << 6;
  static constexpr uint32_t kRingReset = 1u << 8;

  explicit Conversation(vmm::LogSink* log_sink = nullptr)
      : monitor_({.name = "amp0/fifo0"}, &loop_.clock(), log_sink) {
    monitor_.set_sink([this](const Violation& violation) {
      rows_.push_back(violation.row);
      texts_.emplace_back(violation.text);
      devices_.push_back(violation.device);
    });
  }

  WireMonitor& monitor() { return monitor_; }
  vmm::ManualEventLoop& loop() { return loop_; }
  // What was reported, in order.
  const std::vector<Row>& rows() const { return rows_; }
  const std::vector<std::string>& texts() const { return texts_; }
  const std::vector<uint32_t>& devices() const { return devices_; }

  // --- Single messages. ---

  void Driver(const Bytes& message) {
    if (recorder_ != nullptr) recorder_(/*by_driver=*/true, message);
    monitor_.OnDriverMessage(message);
  }
  void Device(const Bytes& message) {
    if (recorder_ != nullptr) recorder_(/*by_driver=*/false, message);
    monitor_.OnDeviceMessage(message);
  }
  // Gets each message besides.
  void set_recorder(
      std::function<void(bool by_driver, const Bytes&)> recorder) {
    recorder_ = std::move(recorder);
  }
  void Answer(uint8_t id, const Payload& payload = {}, uint16_t dev = kDev) {
    Device(Message(1, id, dev, payload));
  }
  void Removed() { DeviceEvent(2); }
  void Ready() { DeviceEvent(1); }
  void DeviceEvent(uint16_t state) {
    Device(Message(2, 0x40, 0, Payload().U16(kDev).U16(state), 0));
  }
  void ConfigEvent(uint32_t status, uint32_t generation,
                   std::initializer_list<uint8_t> data = {}) {
    Device(Message(0, 0x40, kDev,
                   Payload()
                       .U32(status)
                       .U32(generation)
                       .U32(0)
                       .U32(static_cast<uint32_t>(data.size()))
                       .Data(data),
                   0));
  }

  // --- A request and its answer. ---

  void Info(uint32_t device_id = 4) {
    Driver(GetDeviceInfoRequest(kDev));
    const bool there = device_id != 0;
    Answer(0x02, Payload()
                     .U32(device_id)
                     .U32(0x1AF4)
                     .U32(there ? 64 : 0)
                     .U32(there ? kConfigSize : 0)
                     .U32(there ? kQueues : 0)
                     .U32(0));
  }
  void ReadFeatures(uint32_t low = 0, uint32_t high = 0x145) {
    Driver(GetDeviceFeaturesRequest(kDev, 0, 2));
    Answer(0x03, Payload().U32(0).U32(2).U32(low).U32(high));
  }
  void WriteFeatures(uint32_t low = 0, uint32_t high = kVersion1) {
    Driver(SetDriverFeaturesRequest(kDev, 0, {low, high}));
    Answer(0x04);
  }
  // `answer`: what the device reports; the same by default.
  void Status(uint32_t status, std::optional<uint32_t> answer = std::nullopt) {
    Driver(SetStatusRequest(kDev, status));
    Answer(0x08, Payload().U32(answer.value_or(status)));
  }
  void ReadStatus(uint32_t answer) {
    Driver(GetStatusRequest(kDev));
    Answer(0x07, Payload().U32(answer));
  }
  void ReadConfig(uint32_t generation, uint32_t offset = 0,
                  uint32_t length = 4) {
    Driver(GetConfigRequest(kDev, offset, length));
    Payload answer = Payload().U32(generation).U32(offset).U32(length);
    for (uint32_t i = 0; i < length; ++i) answer.Data({0});
    Answer(0x05, answer);
  }
  // `now`: the count in the answer; another than `generation` is a rejection.
  void WriteConfig(uint32_t generation, uint32_t now, uint32_t offset = 0) {
    Driver(SetConfigRequest(kDev, generation, offset, {1}));
    Answer(0x06, Payload().U32(now).U32(offset).U32(now == generation));
  }
  void ReadQueue(uint32_t index = 0, uint32_t size = 0,
                 uint32_t max = kMaxQueueSize) {
    Driver(GetVqueueRequest(kDev, index));
    Answer(0x09,
           Payload().U32(index).U32(max).U32(size).U32(0).U64(0).U64(0).U64(0));
  }
  void WriteQueue(uint32_t index = 0, uint32_t size = 8) {
    WriteQueueAt(0x1000, 0x1800, 0x2000, index, size);
  }
  void WriteQueueAt(uint64_t desc, uint64_t driver, uint64_t device,
                    uint32_t index = 0, uint32_t size = 8) {
    Driver(SetVqueueRequest(kDev, index, size, desc, driver, device));
    Answer(0x0A);
  }
  void ResetQueue(uint32_t index = 0) {
    Driver(ResetVqueueRequest(kDev, index));
    Answer(0x0B);
  }
  void Avail(uint32_t index = 0, uint32_t position = 0) {
    Driver(Message(0, 0x41, kDev, Payload().U32(index).U32(position), 0));
  }
  void Ping(uint32_t data) { Driver(PingRequest(data)); }

  // --- Longer ways. ---

  void Acknowledge() {
    Info();
    Status(0);
    Status(1);
    Status(3);
    ReadFeatures();
  }
  void Negotiate(uint32_t high = kVersion1) {
    Acknowledge();
    WriteFeatures(0, high);
    Status(11);
  }
  void SetUpQueue(uint32_t index = 0) {
    ReadQueue(index);
    WriteQueue(index);
    ReadQueue(index, 8);
  }
  void Start(uint32_t high = kVersion1) {
    Negotiate(high);
    SetUpQueue();
    Status(15);
  }

 private:
  vmm::ManualEventLoop loop_;
  WireMonitor monitor_;
  std::function<void(bool, const Bytes&)> recorder_;
  std::vector<Row> rows_;
  std::vector<std::string> texts_;
  std::vector<uint32_t> devices_;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_MONITOR_TESTING_CONVERSATION_H_
