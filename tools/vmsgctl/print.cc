#include "tools/vmsgctl/print.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <map>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

namespace vmsg::vmsgctl {
namespace {

// "DEVICE_STATE_PRESENT" is "PRESENT" to people.
std::string Short(const std::string& name, absl::string_view prefix) {
  return std::string(absl::StripPrefix(name, prefix));
}
std::string StateName(pb::DeviceState state) {
  return Short(pb::DeviceState_Name(state), "DEVICE_STATE_");
}
std::string HealthName(const pb::Health& health) {
  return Short(pb::HealthState_Name(health.state()), "HEALTH_STATE_");
}

std::string PlaceName(const pb::Place& place) {
  return absl::StrCat(place.function(), "/fifo", place.fifo(), "/slot",
                      place.slot());
}

std::string DriverName(const pb::DriverStatus& driver) {
  if (driver.driver_ok()) return "DRIVER_OK";
  if (driver.status() == 0) return "none";
  return absl::StrFormat("0x%02x", driver.status());
}

// What a FIFO knows of its driver.
std::string DriverName(const pb::Fifo& fifo) {
  switch (fifo.driver_health()) {
    case pb::DRIVER_HEALTH_ANSWERS:
      return "answers";
    case pb::DRIVER_HEALTH_UNRESPONSIVE:
      return "unresponsive";
    default:
      return fifo.driver_seen() ? "seen" : "none";
  }
}

using Row = std::vector<std::string>;

void PrintTable(const std::vector<Row>& rows, std::ostream& out) {
  std::vector<size_t> widths(rows.front().size());
  for (const Row& row : rows) {
    for (size_t i = 0; i < row.size(); ++i) {
      widths[i] = std::max(widths[i], row[i].size());
    }
  }
  for (const Row& row : rows) {
    for (size_t i = 0; i + 1 < row.size(); ++i) {
      out << row[i] << std::string(widths[i] - row[i].size() + 2, ' ');
    }
    out << row.back() << "\n";
  }
}

Row DeviceRow(const pb::Device& device) {
  return {device.id(),
          device.kind(),
          PlaceName(device.place()),
          StateName(device.state()),
          DriverName(device.driver()),
          HealthName(device.health()),
          absl::StrCat(device.generation())};
}

}  // namespace

std::string ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string json;
  const auto status =
      google::protobuf::util::MessageToJsonString(message, &json, options);
  return status.ok() ? json : std::string("{}");
}

void PrintDevices(const pb::ListDevicesResponse& list, std::ostream& out) {
  std::vector<Row> rows = {
      {"ID", "KIND", "PLACE", "STATE", "DRIVER", "HEALTH", "GENERATION"}};
  for (const pb::Device& device : list.devices()) {
    rows.push_back(DeviceRow(device));
  }
  PrintTable(rows, out);
}

void PrintDevice(const pb::Device& device, std::ostream& out) {
  std::vector<Row> rows = {
      {"id:", device.id()},
      {"kind:", device.kind()},
      {"place:", PlaceName(device.place())},
      {"state:", StateName(device.state())},
      {"driver:",
       absl::StrCat(DriverName(device.driver()), " (status ",
                    absl::StrFormat("0x%02x", device.driver().status()), ", ",
                    device.driver().resets(), " resets)")},
      {"health:", device.health().reason().empty()
                      ? HealthName(device.health())
                      : absl::StrCat(HealthName(device.health()), " (",
                                     device.health().reason(), ")")},
      {"generation:", absl::StrCat(device.generation())},
  };
  PrintTable(rows, out);
}

void PrintFifos(const pb::ListFifosResponse& list, std::ostream& out) {
  std::vector<Row> rows = {{"FIFO", "STATE", "DRIVER", "DEVICES", "COUNTERS"}};
  for (const pb::Fifo& fifo : list.fifos()) {
    std::string state = Short(pb::FifoState_Name(fifo.state()), "FIFO_STATE_");
    if (!fifo.fault().empty()) absl::StrAppend(&state, " (", fifo.fault(), ")");
    std::string counters;
    for (const auto& [name, value] : std::map<std::string, uint64_t>(
             fifo.counters().begin(), fifo.counters().end())) {
      if (value == 0) continue;
      absl::StrAppend(&counters, counters.empty() ? "" : " ", name, "=", value);
    }
    rows.push_back({absl::StrCat(fifo.function(), "/fifo", fifo.fifo()), state,
                    DriverName(fifo),
                    absl::StrCat(fifo.devices(), "/", fifo.slots()), counters});
  }
  PrintTable(rows, out);
}

void PrintEvent(const pb::WatchDevicesResponse& event, std::ostream& out) {
  std::string text = absl::StrCat(
      event.sequence(), " ",
      Short(pb::DeviceEventKind_Name(event.kind()), "DEVICE_EVENT_KIND_"));
  if (event.has_device()) {
    const pb::Device& device = event.device();
    absl::StrAppend(&text, " ", device.id(), " ", device.kind(), " ",
                    PlaceName(device.place()), " ", StateName(device.state()),
                    " driver=", DriverName(device.driver()),
                    " health=", HealthName(device.health()));
  }
  out << text << "\n" << std::flush;
}

}  // namespace vmsg::vmsgctl
