// The command line of the example.

#ifndef VMSG_EXAMPLES_KVM_VMM_OPTIONS_H_
#define VMSG_EXAMPLES_KVM_VMM_OPTIONS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "examples/kvm_vmm/guest_runner.h"
#include "vmm/control/device_manager.h"

namespace vmsg::example {

enum class Accel : uint8_t { kAuto, kKvm, kInProcess };

struct Options {
  Accel accel = Accel::kAuto;
  InProcessProgram in_process_program = InProcessProgram::kEntropy;
  std::string kernel;
  std::string initrd;        // empty: none
  std::string command_line;  // of the guest's kernel
  uint32_t vcpus = 1;
  uint64_t memory_bytes = 0;
  std::string control_path;  // empty: no control server
  bool reflection = true;
  std::string stats_file;      // empty: none
  std::string entropy_record;  // see EntropyLog
  bool wire_monitor = false;   // of all functions
  std::vector<amp::AmpPciOptions> functions;
  std::vector<control::AttachRequest> devices;
};

struct ParsedOptions {
  std::optional<Options> options;
  int exit_code = 0;
  std::string output;  // help, for standard output
  std::string error;
};

ParsedOptions ParseOptions(int argc, const char* const* argv);

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_OPTIONS_H_
