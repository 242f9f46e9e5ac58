#include "examples/kvm_vmm/options.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <cstdint>
#include <map>
#include <sstream>
#include <utility>

#include "devices/factories/device_option.h"
#include "vmm/boot/ram_layout.h"

namespace vmsg::example {
namespace {

constexpr int kExitUsage = 2;

absl::Status AddDevice(const std::string& text, Options* options) {
  const absl::StatusOr<devices::DeviceOption> option =
      devices::ParseDeviceOption(text);
  if (!option.ok()) return option.status();
  if (devices::IsAmpPciFunction(*option)) {
    absl::StatusOr<amp::AmpPciOptions> function =
        devices::ToAmpPciOptions(*option);
    if (!function.ok()) return function.status();
    options->functions.push_back(std::move(*function));
    return absl::OkStatus();
  }
  absl::StatusOr<control::AttachRequest> request =
      devices::ToAttachRequest(*option);
  if (!request.ok()) return request.status();
  options->devices.push_back(std::move(*request));
  return absl::OkStatus();
}

// A number of MiB, or of what its suffix says.
std::optional<uint64_t> ParseSize(const std::string& text) {
  uint64_t number = 0;
  const char* const end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, number);
  if (error != std::errc() || end - rest > 1) return std::nullopt;
  int shift = 20;
  if (rest != end) {
    switch (*rest) {
      case 'K':
        shift = 10;
        break;
      case 'M':
        break;
      case 'G':
        shift = 30;
        break;
      default:
        return std::nullopt;
    }
  }
  if (number > UINT64_MAX >> shift) return std::nullopt;
  return number << shift;
}

}  // namespace

ParsedOptions ParseOptions(int argc, const char* const* argv) {
  Options options;
  std::string memory = "64";
  std::string control;
  std::vector<std::string> devices;
  const std::map<std::string, Accel> accels = {
      {"auto", Accel::kAuto},
      {"kvm", Accel::kKvm},
      {"in-process", Accel::kInProcess}};

  const std::map<std::string, InProcessProgram> programs = {
      {"entropy", InProcessProgram::kEntropy},
      {"adversary", InProcessProgram::kAdversary}};

  CLI::App app(
      "kvm_vmm is a small virtual machine monitor around the vmsg library. The "
      "guest's console is standard input and output, the log goes to standard "
      "error.");
  app.name("kvm_vmm");
  app.add_option("--accel", options.accel,
                 "What runs the guest. auto: KVM, and in-process only if "
                 "/dev/kvm can't be opened")
      ->transform(CLI::CheckedTransformer(accels))
      ->default_str("auto");
  app.add_option("--in-process-program", options.in_process_program,
                 "What a guest without KVM runs")
      ->transform(CLI::CheckedTransformer(programs))
      ->default_str("entropy");
  app.add_option("--kernel", options.kernel,
                 "Linux as bzImage or vmlinux, or a bare-metal ELF image (not "
                 "used in-process)");
  app.add_option("--initrd", options.initrd, "Initramfs for Linux");
  app.add_option("--append", options.command_line, "Command line of the guest");
  app.add_option("--smp", options.vcpus, "Processors of the guest")
      ->check(CLI::Range(1, 64))
      ->default_str("1");
  app.add_option("--memory", memory,
                 "RAM of the guest: a number of MiB, or with a suffix K, M or "
                 "G; 4M to 64G")
      ->default_str("64");
  app.add_option("--control", control,
                 "Serve the hot-plug API on this socket: unix:PATH");
  app.add_flag("!--no-reflection", options.reflection,
               "Do not offer the API's description to generic gRPC clients");
  app.add_option("--device", devices, devices::kDeviceOptionHelp)
      ->allow_extra_args(false);
  app.add_option("--stats", options.stats_file,
                 "Write counts as JSON to this file at the end");
  app.add_flag("--wire-monitor", options.wire_monitor,
               "Judge what the guest's driver sends by the conformance table; "
               "say what it breaks in the log and the stats");
  app.add_option("--entropy-record", options.entropy_record,
                 "Write what the n-th rng backend hands out to FILE.n, for "
                 "comparing with what the guest got")
      ->type_name("FILE");

  ParsedOptions parsed;
  const auto usage_error = [&parsed](const std::string& message) {
    parsed.exit_code = kExitUsage;
    parsed.error = "kvm_vmm: " + message + "\n";
    return parsed;
  };
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    std::ostringstream out;
    std::ostringstream err;
    parsed.exit_code = app.exit(error, out, err) == 0 ? 0 : kExitUsage;
    parsed.output = out.str();
    parsed.error = err.str();
    return parsed;
  }
  const std::optional<uint64_t> memory_bytes = ParseSize(memory);
  if (!memory_bytes.has_value() || !vmm::ComputeRamLayout(*memory_bytes).ok()) {
    return usage_error("--memory: write a size from 4M to 64G");
  }
  options.memory_bytes = *memory_bytes;
  if (!control.empty()) {
    const std::string scheme = "unix:";
    if (!control.starts_with(scheme) || control.size() == scheme.size()) {
      return usage_error("--control: write unix:PATH");
    }
    options.control_path = control.substr(scheme.size());
  }
  for (const std::string& device : devices) {
    if (absl::Status status = AddDevice(device, &options); !status.ok()) {
      return usage_error(std::string(status.message()));
    }
  }
  for (amp::AmpPciOptions& function : options.functions) {
    function.wire_monitor = options.wire_monitor;
  }
  if (options.accel != Accel::kInProcess && options.kernel.empty()) {
    return usage_error("--kernel: needed unless --accel=in-process");
  }
  parsed.options = std::move(options);
  return parsed;
}

}  // namespace vmsg::example
