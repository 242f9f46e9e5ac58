// WireMonitor: judges what a driver sends, and names what it does wrong.

#ifndef VMSG_DEVICES_VIRTIO_MSG_MONITOR_WIRE_MONITOR_H_
#define VMSG_DEVICES_VIRTIO_MSG_MONITOR_WIRE_MONITOR_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "devices/virtio_msg/codec.h"
#include "devices/virtio_msg/message_bus_types.h"
#include "devices/virtio_msg/monitor/device_model.h"
#include "devices/virtio_msg/monitor/rows.h"
#include "devices/virtio_msg/traffic_observer.h"
#include "vmm/base/clock.h"
#include "vmm/base/counter.h"
#include "vmm/base/log.h"

namespace vmsg::msg {

struct Violation {
  static constexpr uint32_t kNoDevice = UINT32_MAX;

  Row row;
  uint32_t device = kNoDevice;  // number; kNoDevice: of the bus as a whole
  std::string_view text;        // lives as long as the call
};
using ViolationSink = absl::AnyInvocable<void(const Violation&)>;

// Listens to one bus and compares the driver with the rows of RowTable(). It
// changes nothing: what it finds is counted, logged, and told to a sink. The
// first violation of each row is always logged, further ones at the limited
// rate of vmm::Logger.
//
// Memory is constant (some 45 KiB), whatever the guest sends. A message costs
// one more decoding and no allocation, lock or system call; a violation costs a
// line of text besides.
//
// Threads: the loop of the bus; violations(), count() and Summary() from any.
class WireMonitor final : public TrafficObserver, private ViolationReporter {
 public:
  struct Options {
    std::string name;  // for logs: "amp0/fifo1"
    Revision revision = Revision::k2025;
    uint32_t max_message_bytes = 64;
  };

  // `clock` and `log_sink` are borrowed and outlive the monitor; `log_sink` may
  // be null.
  WireMonitor(const Options& options, const vmm::Clock* clock,
              vmm::LogSink* log_sink);

  // Told of each violation; on the loop. Before the bus runs.
  void set_sink(ViolationSink sink) { sink_ = std::move(sink); }

  uint64_t violations() const { return total_.value(); }
  uint64_t count(Row row) const {
    return counts_[static_cast<size_t>(row)].value();
  }
  // "DRV-VQ-1 2, DRV-RVQ-1 7"; empty when there is nothing to say.
  std::string Summary() const;

  // TrafficObserver.
  void OnDriverMessage(std::span<const std::byte> packet) override;
  void OnDeviceMessage(std::span<const std::byte> bytes) override;
  void OnDriverReset() override;

 private:
  static constexpr uint32_t kDevices = MessageBusOptions::kSlots;

  struct Ping {
    uint16_t token = 0;
    uint32_t data = 0;
    friend bool operator==(const Ping&, const Ping&) = default;
  };

  // ViolationReporter.
  void Report(Row row, uint32_t device, std::string_view text) override;

  void ReportBus(Row row, std::string_view text) {
    Report(row, Violation::kNoDevice, text);
  }
  // The device that a message is about, for a report.
  static uint32_t DeviceOf(const Header& header) {
    return header.is_bus ? Violation::kNoDevice : header.dev_num;
  }
  void OnMalformed(DecodeError error, const Header& header,
                   std::span<const std::byte> packet);
  void OnBadSize(const Header& header, std::span<const std::byte> packet);
  void CheckPadding(const Header& header, const DriverMessage& message,
                    std::span<const std::byte> packet);
  void OnPingAnswer(const Header& header, const PingResponse& response);

  const Options options_;
  vmm::Logger log_;
  ViolationSink sink_;
  vmm::OwnedCounter total_;
  std::array<vmm::OwnedCounter, kNumRows> counts_;

  std::vector<DeviceModel> devices_;
  // Of the device, without an answer: the last ones, and how many were before
  // them. A driver that was paused finds more than these.
  std::array<std::optional<Ping>, 4> pings_;
  size_t next_ping_ = 0;
  uint64_t forgotten_pings_ = 0;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_MONITOR_WIRE_MONITOR_H_
