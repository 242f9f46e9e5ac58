// GuestRunner: a guest, the address spaces it sees, and what runs it.

#ifndef VMSG_EXAMPLES_KVM_VMM_GUEST_RUNNER_H_
#define VMSG_EXAMPLES_KVM_VMM_GUEST_RUNNER_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "vmm/base/guest_address.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/interrupt/interrupt_controller.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::example {

// The machine's address map; RAM starts at 0 and leaves a hole below 4 GiB
// (vmm/boot/ram_layout.h). BARs start out in the first window; a guest may move
// them to the second, which begins above all RAM and is inside what the
// smallest processors address.
inline constexpr vmm::GuestRange kPciWindow{{0xC0000000}, 0x20000000};
inline constexpr vmm::GuestRange kHighPciWindow{{0x20'0000'0000},
                                                0x10'0000'0000};
inline constexpr vmm::GuestAddress kEcamBase{0xE0000000};
inline constexpr uint64_t kEcamBytes = 1 << 20;

// What the in-process guest runs: a bare-metal guest is told by its image.
enum class InProcessProgram : uint8_t { kEntropy, kAdversary };

struct GuestEnd {
  bool ok = false;
  std::string detail = {};  // for people, when not ok
  bool reboot = false;      // the guest wants to start again
};

// Two implementations: KvmGuest runs a guest image on /dev/kvm, InProcessGuest
// the same driver code on a thread.
//
// Life: create; connect devices to the buses; Start; ... ; Stop; (reset the
// devices; Start; ... ; Stop;) take the devices off; destroy.
class GuestRunner {
 public:
  using ConsoleOutput = absl::AnyInvocable<void(char)>;
  // On a thread of the runner; once.
  using EndCallback = absl::AnyInvocable<void(GuestEnd)>;

  GuestRunner() = default;
  GuestRunner(const GuestRunner&) = delete;
  GuestRunner& operator=(const GuestRunner&) = delete;
  virtual ~GuestRunner() = default;

  // "kvm" or "in-process".
  virtual std::string_view accel() const = 0;

  virtual vmm::MmioBus* mmio() = 0;
  virtual vmm::PioBus* pio() = 0;  // null: no port space
  virtual vmm::InterruptController* interrupts() = 0;
  virtual vmm::GuestMemory* memory() = 0;

  // Loads the guest's image and starts it, from the beginning each time. Errors
  // name what could not be loaded or started.
  virtual absl::Status Start(EndCallback on_end) = 0;

  // Bytes typed at the guest's console. Any thread.
  virtual void Input(std::string_view bytes) = 0;

  // Stops the guest where it is; when it returns no vCPU runs.
  virtual void Stop() = 0;

  // Exits to user space by kind; empty in-process.
  virtual std::vector<std::pair<std::string, uint64_t>> exits() const = 0;
};

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_GUEST_RUNNER_H_
