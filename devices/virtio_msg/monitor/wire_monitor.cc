#include "devices/virtio_msg/monitor/wire_monitor.h"

#include <algorithm>
#include <utility>
#include <variant>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "devices/virtio/little_endian.h"
#include "devices/virtio_msg/layout.h"
#include "devices/virtio_msg/monitor/device_message.h"

namespace vmsg::msg {
namespace {

size_t SizeField(std::span<const std::byte> packet) {
  return virtio::LoadLittle<uint16_t>(
      packet.subspan(layout::kMsgSize.offset).first<2>());
}

bool AllZero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(),
                     [](std::byte b) { return b == std::byte{0}; });
}

// What a message needs. Source: virtio-msg-messages, 3.
struct NeededBytes {
  size_t operator()(const GetDeviceInfo&) const { return layout::kEmptyBytes; }
  size_t operator()(const GetDeviceFeatures&) const {
    return layout::FeatureBlocks::kFixedBytes;
  }
  size_t operator()(const SetDriverFeatures& set) const {
    return layout::FeatureBlocks::kWords +
           set.words.size() * layout::FeatureBlocks::kWordBytes;
  }
  size_t operator()(const GetConfig&) const {
    return layout::GetConfigRequest::kBytes;
  }
  size_t operator()(const SetConfig& set) const {
    return layout::ConfigData::kData + set.data.size();
  }
  size_t operator()(const GetDeviceStatus&) const {
    return layout::kEmptyBytes;
  }
  size_t operator()(const SetDeviceStatus&) const {
    return layout::Status::kBytes;
  }
  size_t operator()(const GetVqueue&) const {
    return layout::IndexRequest::kBytes;
  }
  size_t operator()(const SetVqueue&) const {
    return layout::VqueueSettings::kBytes;
  }
  size_t operator()(const ResetVqueue&) const {
    return layout::IndexRequest::kBytes;
  }
  size_t operator()(const GetShm&) const {
    return layout::IndexRequest::kBytes;
  }
  size_t operator()(const EventAvail&) const { return layout::Avail::kBytes; }
  size_t operator()(const GetDevices&) const {
    return layout::DevicesRequest::kBytes;
  }
  size_t operator()(const Ping&) const { return layout::PingData::kBytes; }
  size_t operator()(const PingResponse&) const {
    return layout::PingData::kBytes;
  }
};

}  // namespace

WireMonitor::WireMonitor(const Options& options, const vmm::Clock* clock,
                         vmm::LogSink* log_sink)
    : options_(options), log_(log_sink, clock, options.name) {
  ViolationReporter* const reporter = this;
  devices_.reserve(kDevices);
  for (uint32_t n = 0; n < kDevices; ++n) devices_.emplace_back(n, reporter);
}

// --- Reports. ---

void WireMonitor::Report(Row row, uint32_t device, std::string_view text) {
  vmm::OwnedCounter& count = counts_[static_cast<size_t>(row)];
  count.Add();
  total_.Add();
  if (log_.sink() != nullptr) {
    char line[200];
    const int size =
        device == Violation::kNoDevice
            ? absl::SNPrintF(line, sizeof(line), "driver breaks %s (%s): %s",
                             RowId(row), RowLevel(row), text)
            : absl::SNPrintF(line, sizeof(line),
                             "driver breaks %s (%s), device %u: %s", RowId(row),
                             RowLevel(row), device, text);
    const std::string_view whole(
        line, std::min(static_cast<size_t>(size), sizeof(line) - 1));
    if (count.value() == 1) {
      log_.Log(vmm::LogSeverity::kWarning, whole);
    } else {
      log_.LogGuest(vmm::LogSeverity::kWarning, whole);
    }
  }
  if (sink_ != nullptr) {
    sink_({.row = row, .device = device, .text = text});
  }
}

std::string WireMonitor::Summary() const {
  std::string summary;
  for (size_t i = 0; i < kNumRows; ++i) {
    const uint64_t count = counts_[i].value();
    if (count == 0) continue;
    absl::StrAppend(&summary, summary.empty() ? "" : ", ",
                    std::string(RowId(static_cast<Row>(i))), " ", count);
  }
  return summary;
}

// --- The driver's messages. ---

void WireMonitor::OnDriverMessage(std::span<const std::byte> packet) {
  Header header;
  DriverMessage message;
  const DecodeError error = DecodeFromDriver(
      options_.revision, options_.max_message_bytes, packet, &header, &message);
  if (packet.size() >= layout::kHeaderBytes &&
      (static_cast<uint8_t>(packet[layout::kType.offset]) &
       ~layout::kTypeMask) != 0) {
    Report(header.is_bus ? Row::kBusHdr4 : Row::kDrvHdr1, DeviceOf(header),
           "reserved type bits are set");
  }
  if (error != DecodeError::kNone) {
    OnMalformed(error, header, packet);
    return;
  }
  CheckPadding(header, message, packet);
  if (header.is_bus) {
    if (const auto* const answer = std::get_if<PingResponse>(&message)) {
      OnPingAnswer(header, *answer);
    }
    return;
  }
  if (header.dev_num >= kDevices) {
    Report(Row::kDrvHdr5, header.dev_num, "no bus has this number");
    return;
  }
  devices_[header.dev_num].OnDriver(header, message,
                                    packet.first(SizeField(packet)));
}

void WireMonitor::OnMalformed(DecodeError error, const Header& header,
                              std::span<const std::byte> packet) {
  const uint32_t device = DeviceOf(header);
  switch (error) {
    case DecodeError::kNone:
      return;
    case DecodeError::kTooShort:
      ReportBus(Row::kDrvHdr3, "a packet without a whole header");
      return;
    case DecodeError::kBadSize:
      OnBadSize(header, packet);
      return;
    case DecodeError::kShortPayload:
    case DecodeError::kBadCount: {
      char text[80];
      const int size = absl::SNPrintF(text, sizeof(text), "message 0x%02x: %s",
                                      header.msg_id, DecodeErrorName(error));
      Report(Row::kDrvHdr3, device,
             std::string_view(text, static_cast<size_t>(size)));
      return;
    }
    case DecodeError::kWrongDirection:
      if (header.is_response) {
        Report(Row::kFactHdr2, device, "a response to no request");
        return;
      }
      [[fallthrough]];
    case DecodeError::kUnknownId: {
      char text[80];
      const int size = absl::SNPrintF(
          text, sizeof(text), "%s message id 0x%02x is not the driver's",
          header.is_bus ? "bus" : "transport", header.msg_id);
      Report(Row::kDrvLimit2, device,
             std::string_view(text, static_cast<size_t>(size)));
      return;
    }
    case DecodeError::kBadDeviceNumber:
      ReportBus(Row::kBusHdr2, "a bus message with a device number");
      return;
    case DecodeError::kUnaligned:
      ReportBus(Row::kBusEnum3, "GET_DEVICES with no multiples of 8");
      return;
  }
}

void WireMonitor::OnBadSize(const Header& header,
                            std::span<const std::byte> packet) {
  const size_t size = SizeField(packet);
  const size_t swapped = (size & 0xFF) << 8 | size >> 8;
  const size_t max =
      std::min<size_t>(packet.size(), options_.max_message_bytes);
  Row row = Row::kDrvHdr3;
  if (swapped >= layout::kHeaderBytes && swapped <= max) {
    row = Row::kDrvEndian1;
  } else if (size > options_.max_message_bytes) {
    row = Row::kDrvLimit1;
  }
  char text[64];
  const int length = absl::SNPrintF(
      text, sizeof(text), "msg_size %u in a packet of %u", size, packet.size());
  Report(row, DeviceOf(header),
         std::string_view(text, static_cast<size_t>(length)));
}

void WireMonitor::CheckPadding(const Header& header,
                               const DriverMessage& message,
                               std::span<const std::byte> packet) {
  const size_t size = SizeField(packet);
  const size_t needed = std::visit(NeededBytes(), message);
  if (!AllZero(packet.subspan(needed, size - needed))) {
    Report(Row::kDrvHdr6, DeviceOf(header), "padding that is not zero");
  }
  if (!AllZero(packet.subspan(size))) {
    Report(Row::kBusHdr6, DeviceOf(header),
           "bytes after the message are not zero");
  }
}

void WireMonitor::OnPingAnswer(const Header& header,
                               const PingResponse& response) {
  const Ping answered = {.token = header.token, .data = response.data};
  for (std::optional<Ping>& ping : pings_) {
    if (ping != answered) continue;
    ping.reset();
    return;
  }
  if (forgotten_pings_ != 0) {
    --forgotten_pings_;
    return;
  }
  ReportBus(Row::kBusPing1, "a PING answer that fits no PING");
}

// --- The device's messages. ---

void WireMonitor::OnDeviceMessage(std::span<const std::byte> bytes) {
  Header header;
  DeviceMessage message;
  if (!DecodeFromDevice(bytes, &header, &message)) return;
  if (!header.is_bus) {
    if (header.dev_num < kDevices) {
      devices_[header.dev_num].OnDevice(header, message);
    }
    return;
  }
  if (const auto* const event = std::get_if<DeviceStateEvent>(&message)) {
    if (event->device_number >= kDevices) return;
    DeviceModel& device = devices_[event->device_number];
    if (event->state == static_cast<uint32_t>(DeviceBusState::kReady)) {
      device.OnPresent();
    } else if (event->state ==
               static_cast<uint32_t>(DeviceBusState::kRemoved)) {
      device.OnRemoved();
    }
  } else if (const auto* const list = std::get_if<DevicesAnswer>(&message)) {
    for (uint32_t i = 0; i < 8 * list->bitmap.size(); ++i) {
      const bool present =
          (static_cast<uint8_t>(list->bitmap[i / 8]) >> (i % 8) & 1) != 0;
      const uint64_t number = uint64_t{list->offset} + i;
      if (present && number < kDevices) devices_[number].OnPresent();
    }
  } else if (const auto* const ping = std::get_if<msg::Ping>(&message)) {
    if (pings_[next_ping_].has_value()) ++forgotten_pings_;
    pings_[next_ping_] = Ping{.token = header.token, .data = ping->data};
    next_ping_ = (next_ping_ + 1) % pings_.size();
  }
}

void WireMonitor::OnDriverReset() {
  for (DeviceModel& device : devices_) device.Clear();
  // The new driver may find some of them on the queue.
  for (std::optional<Ping>& ping : pings_) {
    if (std::exchange(ping, std::nullopt).has_value()) ++forgotten_pings_;
  }
}

}  // namespace vmsg::msg
