#include "devices/virtio_msg_amp_pci/channel_bus.h"

#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "devices/virtio/virtio_device.h"
#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "vmm/base/check.h"

namespace vmsg::amp {
namespace {

using msg::MessageBus;
using msg::MessageBusOptions;

control::PlugState ToPlugState(msg::SlotState state) {
  switch (state) {
    case msg::SlotState::kEmpty:
      return control::PlugState::kGone;
    case msg::SlotState::kPendingAnnounce:
      return control::PlugState::kPendingAnnounce;
    case msg::SlotState::kPresent:
      return control::PlugState::kPresent;
    case msg::SlotState::kRemoving:
      return control::PlugState::kRemoving;
  }
  VMSG_CHECK(false, "unknown slot state");
  return control::PlugState::kGone;
}

control::Health ToHealth(msg::SlotHealth health) {
  switch (health) {
    case msg::SlotHealth::kOk:
      return control::Health::kOk;
    case msg::SlotHealth::kNeedsReset:
      return control::Health::kNeedsReset;
    case msg::SlotHealth::kBackendFailed:
      return control::Health::kBackendFailed;
    case msg::SlotHealth::kUnresponsive:
      return control::Health::kUnresponsive;
  }
  VMSG_CHECK(false, "unknown slot health");
  return control::Health::kOk;
}

control::DriverHealth ToDriverHealth(msg::DriverHealth health) {
  switch (health) {
    case msg::DriverHealth::kUnknown:
      return control::DriverHealth::kUnknown;
    case msg::DriverHealth::kAnswers:
      return control::DriverHealth::kAnswers;
    case msg::DriverHealth::kUnresponsive:
      return control::DriverHealth::kUnresponsive;
  }
  VMSG_CHECK(false, "unknown driver health");
  return control::DriverHealth::kUnknown;
}

control::BusState ToBusState(FifoState state) {
  switch (state) {
    case FifoState::kRunning:
      return control::BusState::kRunning;
    case FifoState::kWaiting:
      return control::BusState::kWaiting;
    case FifoState::kBroken:
      return control::BusState::kBroken;
  }
  VMSG_CHECK(false, "unknown FIFO state");
  return control::BusState::kBroken;
}

}  // namespace

ChannelBus::ChannelBus(Id id, FifoChannel* channel,
                       const msg::WireMonitor* monitor)
    : id_(std::move(id)), channel_(channel), monitor_(monitor) {}

ChannelBus::~ChannelBus() { Observe(nullptr, nullptr); }

uint32_t ChannelBus::slot_count() const { return MessageBusOptions::kSlots; }

std::string_view ChannelBus::family() const { return kVirtioMsgFamily; }

void ChannelBus::Observe(SlotObserver slots, BusObserver bus) {
  slot_observer_ = std::move(slots);
  bus_observer_ = std::move(bus);
  if (slot_observer_ == nullptr) {
    channel_->bus().SetObserver(nullptr);
  } else {
    channel_->bus().SetObserver([this](uint32_t slot) { OnSlotChanged(slot); });
  }
  if (bus_observer_ == nullptr) {
    channel_->SetObserver(nullptr);
  } else {
    channel_->SetObserver([this] { bus_observer_(bus_report()); });
  }
}

void ChannelBus::OnSlotChanged(uint32_t slot) {
  // That a slot has become free is told by `gone`.
  if (channel_->bus().status(slot).state == msg::SlotState::kEmpty) return;
  slot_observer_(slot, slot_report(slot));
}

absl::Status ChannelBus::Plug(uint32_t slot, uint64_t generation,
                              std::unique_ptr<control::Pluggable> device) {
  if (device == nullptr || device->family() != kVirtioMsgFamily) {
    return absl::InvalidArgumentError(absl::StrCat(
        id_.function, "/fifo", id_.fifo, ": takes devices of family ",
        std::string(kVirtioMsgFamily), " only"));
  }
  absl::StatusOr<std::unique_ptr<virtio::VirtioDevice>> made =
      static_cast<VirtioPluggable*>(device.get())->TakeDevice();
  if (!made.ok()) return made.status();
  return channel_->bus().Plug(slot, generation, std::move(*made));
}

absl::Status ChannelBus::Unplug(uint32_t slot, uint64_t generation,
                                const control::RemoveOptions& options,
                                absl::AnyInvocable<void()> gone) {
  MessageBus& bus = channel_->bus();
  if (slot >= slot_count() ||
      bus.status(slot).state == msg::SlotState::kEmpty ||
      bus.status(slot).generation != generation) {
    return absl::NotFoundError(absl::StrCat(id_.function, "/fifo", id_.fifo,
                                            ": no device of generation ",
                                            generation, " on slot ", slot));
  }
  return bus.Unplug(slot,
                    {.forced = options.forced, .deadline = options.deadline},
                    std::move(gone));
}

control::SlotReport ChannelBus::slot_report(uint32_t slot) const {
  const msg::SlotStatus status = channel_->bus().status(slot);
  return {.generation = status.generation,
          .state = ToPlugState(status.state),
          .driver_status = status.driver_status,
          .resets = status.resets,
          .health = ToHealth(status.health),
          .health_reason = status.health_reason};
}

control::BusReport ChannelBus::bus_report() const {
  const FifoCounters& fifo = channel_->counters();
  const MessageBus::Counters& bus = channel_->bus().counters();
  control::BusReport report;
  report.state = ToBusState(channel_->state());
  if (report.state == control::BusState::kBroken) {
    report.fault = std::string(FifoFaultName(channel_->fault()));
  }
  report.driver_seen = channel_->bus().driver_seen();
  report.driver_health = ToDriverHealth(channel_->bus().driver_health());
  report.counters = {
      {"wakeups", fifo.wakeups.value()},
      {"packets_in", fifo.packets_in.value()},
      {"packets_out", fifo.packets_out.value()},
      {"interrupts", fifo.interrupts.value()},
      {"full_rechecks", fifo.full_rechecks.value()},
      {"breaks", fifo.breaks.value()},
      {"received", bus.received.value()},
      {"malformed", bus.malformed.value()},
      {"unknown_device", bus.unknown_device.value()},
      {"answered", bus.answered.value()},
      {"events_sent", bus.events_sent.value()},
      {"deferred", bus.deferred.value()},
      {"send_refused", bus.send_refused.value()},
      {"pings_sent", bus.pings_sent.value()},
      {"pings_answered", bus.pings_answered.value()},
      {"pings_missed", bus.pings_missed.value()},
      {"pings_unexpected", bus.pings_unexpected.value()},
  };
  if (monitor_ != nullptr) {
    report.counters.push_back({"driver_violations", monitor_->violations()});
  }
  return report;
}

}  // namespace vmsg::amp
