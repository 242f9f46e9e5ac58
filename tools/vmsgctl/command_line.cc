#include "tools/vmsgctl/command_line.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <fstream>
#include <iterator>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "tools/vmsgctl/exit_code.h"

namespace vmsg::vmsgctl {
namespace {

constexpr char kPlaceHelp[] =
    "FUNCTION/fifoN/slotM; what is left out means any, e.g. amp0/fifo1 or "
    "slot3";

google::protobuf::Duration ToProto(std::chrono::nanoseconds duration) {
  google::protobuf::Duration result;
  result.set_seconds(duration.count() / 1'000'000'000);
  result.set_nanos(static_cast<int32_t>(duration.count() % 1'000'000'000));
  return result;
}

// Checks for CLI11, which wants an empty string for "good".
std::string CheckDuration(const std::string& text) {
  return std::string(ParseDuration(text).status().message());
}
std::string CheckPlace(const std::string& text) {
  return std::string(ParsePlace(text).status().message());
}

google::protobuf::Duration Duration(const std::string& checked) {
  return ToProto(*ParseDuration(checked));
}

absl::StatusOr<uint32_t> NumberAfter(absl::string_view part,
                                     absl::string_view prefix) {
  uint32_t number = 0;
  if (!absl::ConsumePrefix(&part, prefix) || !absl::SimpleAtoi(part, &number)) {
    return absl::InvalidArgumentError(absl::StrCat("not a ", prefix));
  }
  return number;
}

// The options of all commands, before they are made into requests.
struct Options {
  std::string id;
  std::string place;
  std::string wait;
  std::string request_id;
  bool validate_only = false;
  uint64_t max_bytes_per_period = 0;
  std::string period;
  std::string type_url;
  std::string value_file;
  bool force = false;
  std::string deadline;
  uint64_t generation = 0;
  uint64_t count = 0;
  std::string function;
};

void FillAttach(const Options& options, pb::AttachDeviceRequest* request) {
  request->set_id(options.id);
  if (!options.place.empty())
    *request->mutable_place() = *ParsePlace(options.place);
  if (!options.wait.empty()) {
    *request->mutable_wait_timeout() = Duration(options.wait);
  }
  request->set_request_id(options.request_id);
  request->set_validate_only(options.validate_only);
}

}  // namespace

absl::StatusOr<pb::PlaceSpec> ParsePlace(const std::string& text) {
  pb::PlaceSpec place;
  const std::vector<std::string> parts = absl::StrSplit(text, '/');
  for (size_t i = 0; i < parts.size(); ++i) {
    if (absl::StatusOr<uint32_t> fifo = NumberAfter(parts[i], "fifo");
        fifo.ok() && !place.has_fifo() && !place.has_slot()) {
      place.set_fifo(*fifo);
    } else if (absl::StatusOr<uint32_t> slot = NumberAfter(parts[i], "slot");
               slot.ok() && !place.has_slot()) {
      place.set_slot(*slot);
    } else if (i == 0 && !parts[i].empty()) {
      place.set_function(parts[i]);
    } else {
      return absl::InvalidArgumentError(
          absl::StrCat("\"", text, "\" is no place: write ", kPlaceHelp));
    }
  }
  return place;
}

absl::StatusOr<std::chrono::nanoseconds> ParseDuration(
    const std::string& text) {
  absl::string_view number = text;
  double scale = 1;
  if (absl::ConsumeSuffix(&number, "ms")) {
    scale = 1e-3;
  } else if (absl::ConsumeSuffix(&number, "s")) {
    scale = 1;
  } else if (absl::ConsumeSuffix(&number, "m")) {
    scale = 60;
  } else if (absl::ConsumeSuffix(&number, "h")) {
    scale = 3600;
  }
  double value = 0;
  // SimpleAtod would skip white space.
  if (number.find(' ') != std::string_view::npos ||
      !absl::SimpleAtod(number, &value) || !std::isfinite(value) || value < 0 ||
      value * scale > 3600) {
    return absl::InvalidArgumentError(absl::StrCat(
        "\"", text, "\" is no time from 0 to 1h: write 250ms, 1.5s, 2m or 1h"));
  }
  return std::chrono::nanoseconds(std::llround(value * scale * 1e9));
}

Parsed ParseCommandLine(int argc, const char* const* argv) {
  CommandLine line;
  Options options;
  std::string timeout;

  CLI::App app(
      "vmsgctl plugs and unplugs virtio devices of a running vmsg VMM.");
  app.name("vmsgctl");
  app.require_subcommand(1);
  app.fallthrough();
  app.add_option("--target", line.target,
                 "Control socket of the VMM, as a gRPC name")
      ->envname("VMSG_TARGET")
      ->default_str(kDefaultTarget);
  app.add_flag("--json", line.json,
               "Print JSON: one object, or one object a line for watch");
  app.add_option("--timeout", timeout,
                 "Give up when the VMM has not answered for so long")
      ->check(CheckDuration)
      ->default_str("10s");
  app.footer(std::string("EXIT STATUS\n") + kExitCodeHelp);

  const auto add_request_options = [&options](CLI::App* command) {
    command->add_option("--request-id", options.request_id,
                        "Repeating a request with its id does nothing again");
    command->add_flag("--validate-only", options.validate_only,
                      "Check everything, change nothing");
  };

  CLI::App* const list = app.add_subcommand("list", "List devices");
  CLI::App* const get = app.add_subcommand("get", "Show one device");
  get->add_option("id", options.id, "Device id")->required();

  CLI::App* const attach = app.add_subcommand("attach", "Plug a device");
  attach->require_subcommand(1);
  const auto add_attach_options = [&](CLI::App* kind) {
    kind->add_option("--id", options.id, "Device id; made up when left out");
    kind->add_option("--place", options.place, kPlaceHelp)->check(CheckPlace);
    kind->add_option("--wait", options.wait,
                     "Wait so long until the guest's driver is ready; exit 8 "
                     "when it is not")
        ->check(CheckDuration);
    add_request_options(kind);
  };
  CLI::App* const rng =
      attach->add_subcommand("rng", "virtio-rng: entropy of the host");
  add_attach_options(rng);
  rng->add_option("--max-bytes-per-period", options.max_bytes_per_period,
                  "Most bytes in one period; 0: no limit");
  rng->add_option("--period", options.period,
                  "Length of a period (1s when left out)")
      ->check(CheckDuration);
  CLI::App* const other = attach->add_subcommand(
      "other", "A kind that the embedder of the VMM added");
  add_attach_options(other);
  other
      ->add_option("--type-url", options.type_url,
                   "Type of the configuration, e.g. example.com/acme.Config")
      ->required();
  other
      ->add_option("--value-file", options.value_file,
                   "File with the serialized configuration")
      ->check(CLI::ExistingFile);

  CLI::App* const detach = app.add_subcommand("detach", "Unplug a device");
  detach->add_option("id", options.id, "Device id")->required();
  detach->add_flag("--force", options.force,
                   "Do not wait for the driver: fail its requests at once");
  detach
      ->add_option("--deadline", options.deadline,
                   "How long the driver has to let go (10s when left out)")
      ->check(CheckDuration);
  detach
      ->add_option("--wait", options.wait,
                   "Wait so long until the device is gone; exit 8 when it is "
                   "not")
      ->check(CheckDuration);
  detach->add_option("--generation", options.generation,
                     "Only if the device has this generation");
  add_request_options(detach);

  CLI::App* const watch =
      app.add_subcommand("watch", "Print changes as they happen");
  watch->add_option("id", options.id, "Only this device");
  watch->add_option("--count", options.count,
                    "End after so many changes; 0: never");

  CLI::App* const fifos =
      app.add_subcommand("fifos", "List FIFOs, their state and counters");
  fifos->add_option("function", options.function, "Only this function");

  CLI::App* const reset = app.add_subcommand(
      "reset-fifo", "Bring a FIFO back to its initial contents");
  reset->add_option("fifo", options.place, "FUNCTION/fifoN")
      ->required()
      ->check(CheckPlace);

  Parsed parsed;
  const auto usage_error = [&parsed](const std::string& message) {
    parsed.exit_code = kExitUsage;
    parsed.error = absl::StrCat("vmsgctl: ", message, "\n");
    return parsed;
  };
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream err;
    parsed.exit_code = app.exit(error, out, err) == 0 ? kExitOk : kExitUsage;
    parsed.output = out.str();
    parsed.error = err.str();
    return parsed;
  }

  if (line.target.empty()) line.target = kDefaultTarget;
  if (!timeout.empty()) {
    line.timeout = std::chrono::duration_cast<std::chrono::milliseconds>(
        *ParseDuration(timeout));
  }
  if (list->parsed()) {
    line.command = ListCommand{};
  } else if (get->parsed()) {
    GetCommand command;
    command.request.set_id(options.id);
    line.command = std::move(command);
  } else if (attach->parsed()) {
    AttachCommand command;
    FillAttach(options, &command.request);
    pb::DeviceSpec* const device = command.request.mutable_device();
    if (rng->parsed()) {
      pb::RngConfig* const config = device->mutable_rng();
      config->set_max_bytes_per_period(options.max_bytes_per_period);
      if (!options.period.empty()) {
        *config->mutable_period() = Duration(options.period);
      }
    } else if (other->parsed()) {
      device->mutable_other()->set_type_url(options.type_url);
      if (!options.value_file.empty()) {
        std::ifstream file(options.value_file, std::ios::binary);
        device->mutable_other()->set_value(
            std::string(std::istreambuf_iterator<char>(file), {}));
        if (file.bad()) {
          return usage_error(absl::StrCat("cannot read ", options.value_file));
        }
      }
    }
    line.command = std::move(command);
  } else if (detach->parsed()) {
    DetachCommand command;
    pb::DetachDeviceRequest& request = command.request;
    request.set_id(options.id);
    request.set_mode(options.force ? pb::DETACH_MODE_FORCED
                                   : pb::DETACH_MODE_GRACEFUL);
    if (!options.deadline.empty()) {
      *request.mutable_deadline() = Duration(options.deadline);
    }
    if (!options.wait.empty()) {
      *request.mutable_wait_timeout() = Duration(options.wait);
    }
    request.set_generation(options.generation);
    request.set_request_id(options.request_id);
    request.set_validate_only(options.validate_only);
    line.command = std::move(command);
  } else if (watch->parsed()) {
    WatchCommand command;
    command.request.set_id(options.id);
    command.count = options.count;
    line.command = std::move(command);
  } else if (fifos->parsed()) {
    FifosCommand command;
    command.request.set_function(options.function);
    line.command = std::move(command);
  } else {
    const pb::PlaceSpec place = *ParsePlace(options.place);
    if (!place.has_function() || !place.has_fifo() || place.has_slot()) {
      return usage_error("reset-fifo: write FUNCTION/fifoN, e.g. amp0/fifo1");
    }
    ResetFifoCommand command;
    command.request.set_function(place.function());
    command.request.set_fifo(place.fifo());
    line.command = std::move(command);
  }
  parsed.command_line = std::move(line);
  return parsed;
}

}  // namespace vmsg::vmsgctl
