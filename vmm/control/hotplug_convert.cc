#include "vmm/control/hotplug_convert.h"

#include <string>
#include <utility>

#include "absl/strings/str_cat.h"

namespace vmsg::control {
namespace {

// A google.protobuf.Duration is normalized: seconds and nanos have the same
// sign. Values past the manager's limit are clamped just above it, for it to
// refuse, so that the arithmetic can't overflow.
absl::StatusOr<vmm::Duration> FromProto(
    const char* field, const google::protobuf::Duration& duration) {
  if (duration.nanos() < -999'999'999 || duration.nanos() > 999'999'999 ||
      (duration.seconds() > 0 && duration.nanos() < 0) ||
      (duration.seconds() < 0 && duration.nanos() > 0)) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": is not a valid google.protobuf.Duration"));
  }
  constexpr int64_t kLimit = std::chrono::duration_cast<std::chrono::seconds>(
                                 DeviceManager::kMaxTimeout)
                                 .count();
  const int64_t seconds =
      std::min(std::max(duration.seconds(), -kLimit - 1), kLimit + 1);
  return std::chrono::seconds(seconds) +
         std::chrono::nanoseconds(duration.nanos());
}

pb::DeviceState ToProto(PlugState state) {
  switch (state) {
    case PlugState::kAttaching:
      return pb::DEVICE_STATE_ATTACHING;
    case PlugState::kPendingAnnounce:
      return pb::DEVICE_STATE_PENDING_ANNOUNCE;
    case PlugState::kPresent:
      return pb::DEVICE_STATE_PRESENT;
    case PlugState::kRemoving:
      return pb::DEVICE_STATE_REMOVING;
    case PlugState::kGone:
      return pb::DEVICE_STATE_GONE;
  }
  return pb::DEVICE_STATE_UNSPECIFIED;
}

pb::HealthState ToProto(Health health) {
  switch (health) {
    case Health::kOk:
      return pb::HEALTH_STATE_OK;
    case Health::kNeedsReset:
      return pb::HEALTH_STATE_NEEDS_RESET;
    case Health::kBackendFailed:
      return pb::HEALTH_STATE_BACKEND_FAILED;
    case Health::kUnresponsive:
      return pb::HEALTH_STATE_UNRESPONSIVE;
  }
  return pb::HEALTH_STATE_UNSPECIFIED;
}

pb::FifoState ToProto(BusState state) {
  switch (state) {
    case BusState::kRunning:
      return pb::FIFO_STATE_RUNNING;
    case BusState::kWaiting:
      return pb::FIFO_STATE_WAITING;
    case BusState::kBroken:
      return pb::FIFO_STATE_BROKEN;
  }
  return pb::FIFO_STATE_UNSPECIFIED;
}

pb::DriverHealth ToProto(DriverHealth health) {
  switch (health) {
    case DriverHealth::kUnknown:
      return pb::DRIVER_HEALTH_UNKNOWN;
    case DriverHealth::kAnswers:
      return pb::DRIVER_HEALTH_ANSWERS;
    case DriverHealth::kUnresponsive:
      return pb::DRIVER_HEALTH_UNRESPONSIVE;
  }
  return pb::DRIVER_HEALTH_UNSPECIFIED;
}

pb::DeviceEventKind ToProto(DeviceEvent::Kind kind) {
  switch (kind) {
    case DeviceEvent::Kind::kExists:
      return pb::DEVICE_EVENT_KIND_EXISTS;
    case DeviceEvent::Kind::kSynced:
      return pb::DEVICE_EVENT_KIND_SYNCED;
    case DeviceEvent::Kind::kAttached:
      return pb::DEVICE_EVENT_KIND_ATTACHED;
    case DeviceEvent::Kind::kChanged:
      return pb::DEVICE_EVENT_KIND_CHANGED;
    case DeviceEvent::Kind::kGone:
      return pb::DEVICE_EVENT_KIND_GONE;
  }
  return pb::DEVICE_EVENT_KIND_UNSPECIFIED;
}

}  // namespace

absl::StatusOr<DeviceConfig> FromProto(const pb::DeviceSpec& spec) {
  const google::protobuf::Reflection& reflection =
      *pb::DeviceSpec::GetReflection();
  const google::protobuf::FieldDescriptor* const field =
      reflection.GetOneofFieldDescriptor(
          spec, pb::DeviceSpec::descriptor()->FindOneofByName("kind"));
  if (field == nullptr) {
    return absl::InvalidArgumentError("device.kind: must be set");
  }
  DeviceConfig config;
  if (spec.has_other()) {
    const std::string& url = spec.other().type_url();
    const size_t slash = url.rfind('/');
    config.type_name = slash == std::string::npos ? url : url.substr(slash + 1);
    if (config.type_name.empty()) {
      return absl::InvalidArgumentError(
          "device.other.type_url: must name a message type");
    }
    config.bytes = spec.other().value();
    return config;
  }
  const google::protobuf::Message& kind = reflection.GetMessage(spec, field);
  config.type_name = kind.GetDescriptor()->full_name();
  config.bytes = kind.SerializeAsString();
  return config;
}

absl::StatusOr<AttachRequest> FromProto(
    const pb::AttachDeviceRequest& request) {
  AttachRequest result;
  result.id = request.id();
  absl::StatusOr<DeviceConfig> config = FromProto(request.device());
  if (!config.ok()) return config.status();
  result.config = std::move(*config);
  const pb::PlaceSpec& place = request.place();
  if (place.has_function()) result.place.function = place.function();
  if (place.has_fifo()) result.place.fifo = place.fifo();
  if (place.has_slot()) result.place.slot = place.slot();
  const absl::StatusOr<vmm::Duration> wait =
      FromProto("wait_timeout", request.wait_timeout());
  if (!wait.ok()) return wait.status();
  result.wait_timeout = *wait;
  result.request_id = request.request_id();
  result.validate_only = request.validate_only();
  return result;
}

absl::StatusOr<DetachRequest> FromProto(
    const pb::DetachDeviceRequest& request) {
  DetachRequest result;
  result.id = request.id();
  switch (request.mode()) {
    case pb::DETACH_MODE_UNSPECIFIED:
    case pb::DETACH_MODE_GRACEFUL:
      break;
    case pb::DETACH_MODE_FORCED:
      result.options.forced = true;
      break;
    default:
      return absl::InvalidArgumentError(
          "mode: must be DETACH_MODE_GRACEFUL or DETACH_MODE_FORCED");
  }
  if (request.has_deadline()) {
    const absl::StatusOr<vmm::Duration> deadline =
        FromProto("deadline", request.deadline());
    if (!deadline.ok()) return deadline.status();
    result.options.deadline = *deadline;
  }
  const absl::StatusOr<vmm::Duration> wait =
      FromProto("wait_timeout", request.wait_timeout());
  if (!wait.ok()) return wait.status();
  result.wait_timeout = *wait;
  result.generation = request.generation();
  result.request_id = request.request_id();
  result.validate_only = request.validate_only();
  return result;
}

pb::Device ToProto(const DeviceRecord& record) {
  pb::Device device;
  device.set_id(record.id);
  device.set_kind(record.kind);
  device.mutable_place()->set_function(record.place.function);
  device.mutable_place()->set_fifo(record.place.fifo);
  device.mutable_place()->set_slot(record.place.slot);
  device.set_generation(record.generation);
  device.set_sequence(record.sequence);
  device.set_state(ToProto(record.state));
  device.mutable_driver()->set_status(record.driver_status);
  device.mutable_driver()->set_driver_ok(record.driver_ok());
  device.mutable_driver()->set_resets(record.resets);
  device.mutable_health()->set_state(ToProto(record.health));
  device.mutable_health()->set_reason(record.health_reason);
  return device;
}

pb::Fifo ToProto(const FifoRecord& record) {
  pb::Fifo fifo;
  fifo.set_function(record.bus.function);
  fifo.set_fifo(record.bus.fifo);
  fifo.set_state(ToProto(record.report.state));
  fifo.set_fault(record.report.fault);
  fifo.set_driver_seen(record.report.driver_seen);
  fifo.set_driver_health(ToProto(record.report.driver_health));
  fifo.set_slots(record.slots);
  fifo.set_devices(record.devices);
  for (const NamedCount& count : record.report.counters) {
    (*fifo.mutable_counters())[count.name] = count.value;
  }
  return fifo;
}

pb::WatchDevicesResponse ToProto(const DeviceEvent& event) {
  pb::WatchDevicesResponse response;
  response.set_kind(ToProto(event.kind));
  if (event.kind != DeviceEvent::Kind::kSynced) {
    *response.mutable_device() = ToProto(event.device);
  }
  response.set_sequence(event.sequence);
  return response;
}

}  // namespace vmsg::control
