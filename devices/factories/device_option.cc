#include "devices/factories/device_option.h"

#include <initializer_list>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "devices/virtio_msg/message_bus_types.h"
#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "proto/vmsg/control/v1alpha1/hotplug.pb.h"

namespace vmsg::devices {
namespace {

constexpr char kAmpPci[] = "virtio-msg-amp-pci";
constexpr char kRng[] = "virtio-rng-device";

absl::Status Invalid(const DeviceOption& option, const std::string& property,
                     const std::string& what) {
  return absl::InvalidArgumentError(
      absl::StrCat("--device ", option.driver, ": ", property, ": ", what));
}

absl::Status CheckKnown(const DeviceOption& option,
                        std::initializer_list<const char*> known) {
  for (const auto& [key, unused] : option.properties) {
    bool found = false;
    for (const char* name : known) found = found || key == name;
    if (!found) {
      return Invalid(option, key,
                     absl::StrCat("no such property; known: ",
                                  absl::StrJoin(known, ", ")));
    }
  }
  return absl::OkStatus();
}

// Leaves `*value` alone when the property is absent.
template <typename T>
absl::Status GetNumber(const DeviceOption& option, const std::string& key,
                       T* value) {
  const auto it = option.properties.find(key);
  if (it == option.properties.end()) return absl::OkStatus();
  if (!absl::SimpleAtoi(it->second, value)) {
    return Invalid(option, key,
                   absl::StrCat("\"", it->second, "\" is no number"));
  }
  return absl::OkStatus();
}

// Likewise; a number of milliseconds.
absl::Status GetMilliseconds(const DeviceOption& option, const std::string& key,
                             vmm::Duration* value) {
  // Values past the limit of any duration here do not overflow.
  uint32_t milliseconds = 0;
  if (!option.properties.contains(key)) return absl::OkStatus();
  absl::Status status = GetNumber(option, key, &milliseconds);
  if (status.ok()) *value = std::chrono::milliseconds(milliseconds);
  return status;
}

absl::Status GetSwitch(const DeviceOption& option, const std::string& key,
                       bool* value) {
  const auto it = option.properties.find(key);
  if (it == option.properties.end()) return absl::OkStatus();
  if (it->second != "on" && it->second != "off") {
    return Invalid(option, key, "must be on or off");
  }
  *value = it->second == "on";
  return absl::OkStatus();
}

absl::Status GetPing(const DeviceOption& option, msg::PingOptions* ping) {
  absl::Status status =
      GetMilliseconds(option, "ping-interval", &ping->interval);
  status.Update(GetMilliseconds(option, "ping-timeout", &ping->timeout));
  status.Update(GetNumber(option, "ping-misses", &ping->misses));
  status.Update(GetSwitch(option, "ping-first", &ping->ask_first));
  if (!status.ok()) return status;
  if (ping->interval > msg::PingOptions::kMaxTime) {
    return Invalid(option, "ping-interval", "must be 0 to 3600000");
  }
  if (ping->timeout <= vmm::Duration(0) ||
      ping->timeout > msg::PingOptions::kMaxTime) {
    return Invalid(option, "ping-timeout", "must be 1 to 3600000");
  }
  if (!msg::IsValid(*ping)) {
    return Invalid(option, "ping-misses",
                   absl::StrCat("must be 1 to ", msg::PingOptions::kMaxMisses));
  }
  return absl::OkStatus();
}

std::string GetText(const DeviceOption& option, const std::string& key) {
  const auto it = option.properties.find(key);
  return it == option.properties.end() ? std::string() : it->second;
}

bool TakeNumber(absl::string_view part, absl::string_view prefix,
                std::optional<uint32_t>* number) {
  uint32_t value = 0;
  if (number->has_value() || !absl::ConsumePrefix(&part, prefix) ||
      !absl::SimpleAtoi(part, &value)) {
    return false;
  }
  *number = value;
  return true;
}

absl::StatusOr<control::PlaceSpec> ParseBus(const DeviceOption& option) {
  control::PlaceSpec place;
  const std::string text = GetText(option, "bus");
  if (text.empty()) return place;
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  for (size_t i = 0; i < parts.size(); ++i) {
    if (!place.slot.has_value() && TakeNumber(parts[i], "fifo", &place.fifo)) {
      continue;
    }
    if (TakeNumber(parts[i], "bus", &place.slot)) continue;
    if (i == 0 && !parts[i].empty()) {
      place.function = parts[i];
      continue;
    }
    return Invalid(
        option, "bus",
        absl::StrCat("\"", text, "\" is no place: write FUNCTION/fifoN/busM"));
  }
  return place;
}

}  // namespace

const char kDeviceOptionHelp[] =
    "virtio-msg-amp-pci,id=ID,num-fifos=N,fifo-layout=LAYOUT,ping-interval=MS,"
    "ping-timeout=MS,ping-misses=N,ping-first=on  a PCI function, whose layout "
    "is spsc, shmem-v1 or shmem-v1-packed; ping-interval has a quiet driver "
    "asked whether it is there, once it has sent a PING itself, or anyway with "
    "ping-first; "
    "virtio-rng-device,id=ID,bus=FUNCTION/fifoN/busM,max-bytes=BYTES,period=MS "
    " a device on one of its slots";

absl::StatusOr<DeviceOption> ParseDeviceOption(const std::string& text) {
  const std::vector<std::string> parts = absl::StrSplit(text, ',');
  DeviceOption option;
  option.driver = parts[0];
  if (option.driver.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--device \"", text, "\": must start with a driver"));
  }
  for (size_t i = 1; i < parts.size(); ++i) {
    const size_t equals = parts[i].find('=');
    if (equals == std::string::npos || equals == 0) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--device \"", text, "\": \"", parts[i], "\" is no key=value"));
    }
    const std::string key = parts[i].substr(0, equals);
    if (!option.properties.emplace(key, parts[i].substr(equals + 1)).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "--device \"", text, "\": \"", key, "\" is given twice"));
    }
  }
  return option;
}

bool IsAmpPciFunction(const DeviceOption& option) {
  return option.driver == kAmpPci;
}

absl::StatusOr<amp::AmpPciOptions> ToAmpPciOptions(const DeviceOption& option) {
  absl::Status status =
      CheckKnown(option, {"id", "num-fifos", "fifo-layout", "ping-interval",
                          "ping-timeout", "ping-misses", "ping-first"});
  amp::AmpPciOptions result;
  if (option.properties.contains("id")) result.id = GetText(option, "id");
  status.Update(GetNumber(option, "num-fifos", &result.num_fifos));
  if (status.ok() && (result.num_fifos < amp::kMinFifos ||
                      result.num_fifos > amp::kMaxFifos)) {
    status = Invalid(
        option, "num-fifos",
        absl::StrCat("must be ", amp::kMinFifos, " to ", amp::kMaxFifos));
  }
  if (const auto it = option.properties.find("fifo-layout");
      it != option.properties.end()) {
    const std::optional<amp::FifoLayout> layout =
        amp::FifoLayoutByName(it->second);
    if (layout.has_value()) {
      result.fifo_layout = *layout;
    } else {
      status.Update(Invalid(option, "fifo-layout",
                            "must be spsc, shmem-v1 or shmem-v1-packed"));
    }
  }
  status.Update(GetPing(option, &result.ping));
  if (!status.ok()) return status;
  return result;
}

absl::StatusOr<control::AttachRequest> ToAttachRequest(
    const DeviceOption& option) {
  if (option.driver != kRng) {
    return absl::InvalidArgumentError(
        absl::StrCat("--device ", option.driver,
                     ": no such driver; known: ", kAmpPci, ", ", kRng));
  }
  absl::Status status =
      CheckKnown(option, {"id", "bus", "max-bytes", "period"});
  uint64_t max_bytes = 0;
  uint32_t period_ms = 0;
  status.Update(GetNumber(option, "max-bytes", &max_bytes));
  status.Update(GetNumber(option, "period", &period_ms));
  if (!status.ok()) return status;
  absl::StatusOr<control::PlaceSpec> place = ParseBus(option);
  if (!place.ok()) return place.status();

  control::v1alpha1::RngConfig config;
  config.set_max_bytes_per_period(max_bytes);
  if (option.properties.contains("period")) {
    config.mutable_period()->set_seconds(period_ms / 1000);
    config.mutable_period()->set_nanos(
        static_cast<int32_t>(period_ms % 1000 * 1'000'000));
  }
  control::AttachRequest request;
  request.id = GetText(option, "id");
  request.place = std::move(*place);
  request.config = {control::v1alpha1::RngConfig::descriptor()->full_name(),
                    config.SerializeAsString()};
  return request;
}

}  // namespace vmsg::devices
