// The few ports of a PC, beside serial port and PCI, that an operating system
// without firmware touches: ACPI fixed hardware, keyboard controller, CMOS.

#ifndef VMSG_EXAMPLES_KVM_VMM_PLATFORM_PORTS_H_
#define VMSG_EXAMPLES_KVM_VMM_PLATFORM_PORTS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/mmio_bus.h"

namespace vmsg::example {

// The fixed hardware that vmm/boot/acpi_tables.h names: event block without
// events, control (S5 switches the machine off), reset register.
//
// Threads: any. The callbacks are called on vCPU threads, without a lock.
class AcpiPorts final : public vmm::IoHandler {
 public:
  static constexpr uint16_t kPorts = 7;

  AcpiPorts(absl::AnyInvocable<void()> power_off,
            absl::AnyInvocable<void()> reset);

  // To the state at power-on.
  void Reset();

  void Read(uint64_t offset, std::span<std::byte> data) override;
  void Write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  absl::AnyInvocable<void()> power_off_;
  absl::AnyInvocable<void()> reset_;
  vmm::Mutex mutex_;
  // Enable bits at 2 and 3, control at 4 and 5; the others read 0.
  std::byte registers_[kPorts] ABSL_GUARDED_BY(mutex_) = {};
};

// Port 0x64: never busy, no data, and the command that pulses the reset line.
class KeyboardController final : public vmm::IoHandler {
 public:
  explicit KeyboardController(absl::AnyInvocable<void()> reset);

  void Read(uint64_t offset, std::span<std::byte> data) override;
  void Write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  absl::AnyInvocable<void()> reset_;
};

// Ports 0x70 and 0x71 of a clock that there is not: all reads are 0, so that
// nobody waits for its update to end.
class NoCmos final : public vmm::IoHandler {
 public:
  void Read(uint64_t offset, std::span<std::byte> data) override;
  void Write(uint64_t offset, std::span<const std::byte> data) override;
};

// All three at their places.
class PlatformPorts {
 public:
  // As for AcpiPorts.
  PlatformPorts(absl::AnyInvocable<void()> power_off,
                absl::AnyInvocable<void()> reset);

  // Errors are those of PioBus::MapHandler.
  absl::Status Map(vmm::PioBus* bus);
  void Reset() { acpi_.Reset(); }

 private:
  // Called by two of them.
  const std::shared_ptr<absl::AnyInvocable<void()>> reset_;
  AcpiPorts acpi_;
  KeyboardController keyboard_;
  NoCmos cmos_;
  std::vector<std::unique_ptr<vmm::MmioMapping>> mappings_;
};

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_PLATFORM_PORTS_H_
