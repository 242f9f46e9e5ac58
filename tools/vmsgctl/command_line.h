// What the user asked of vmsgctl.

#ifndef VMSG_TOOLS_VMSGCTL_COMMAND_LINE_H_
#define VMSG_TOOLS_VMSGCTL_COMMAND_LINE_H_

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>

#include "absl/status/statusor.h"
#include "proto/vmsg/control/v1alpha1/hotplug.pb.h"

namespace vmsg::vmsgctl {

namespace pb = ::vmsg::control::v1alpha1;

struct ListCommand {};
struct GetCommand {
  pb::GetDeviceRequest request;
};
struct AttachCommand {
  pb::AttachDeviceRequest request;
};
struct DetachCommand {
  pb::DetachDeviceRequest request;
};
struct WatchCommand {
  pb::WatchDevicesRequest request;
  uint64_t count = 0;  // events after SYNCED to end after; 0: without end
};
struct FifosCommand {
  pb::ListFifosRequest request;
};
struct ResetFifoCommand {
  pb::ResetFifoRequest request;
};

struct CommandLine {
  std::string target;
  bool json = false;
  // Of the call, beside what the command waits for itself.
  std::chrono::milliseconds timeout{10'000};
  std::variant<ListCommand, GetCommand, AttachCommand, DetachCommand,
               WatchCommand, FifosCommand, ResetFifoCommand>
      command;
};

inline constexpr char kDefaultTarget[] = "unix:/run/vmsg/control.sock";

// The result of parsing: a command line, or what to print and exit with.
struct Parsed {
  std::optional<CommandLine> command_line;
  int exit_code = 0;
  std::string output;  // help or version, for standard output
  std::string error;   // for standard error
};

Parsed ParseCommandLine(int argc, const char* const* argv);

// "amp0/fifo1/slot3", "amp0/fifo1", "amp0", "fifo1/slot3", ...: what is left
// out is not set. InvalidArgument otherwise.
absl::StatusOr<pb::PlaceSpec> ParsePlace(const std::string& text);

// "250ms", "1.5s", "2m", "1h", or seconds without a unit. InvalidArgument for
// anything else and for what is below 0 or above 1 h.
absl::StatusOr<std::chrono::nanoseconds> ParseDuration(const std::string& text);

}  // namespace vmsg::vmsgctl

#endif  // VMSG_TOOLS_VMSGCTL_COMMAND_LINE_H_
