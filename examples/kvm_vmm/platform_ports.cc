#include "examples/kvm_vmm/platform_ports.h"

#include <algorithm>
#include <utility>

#include "vmm/boot/acpi_tables.h"

namespace vmsg::example {
namespace {

// ACPI 6.4, 4.8.3: from kAcpiEventPort on.
constexpr uint64_t kEventEnable = 2;
constexpr uint64_t kControl = vmm::kAcpiControlPort - vmm::kAcpiEventPort;
constexpr uint64_t kReset = vmm::kAcpiResetPort - vmm::kAcpiEventPort;
static_assert(kReset + 1 == AcpiPorts::kPorts);

// Table 4.18: PM1 control.
constexpr uint16_t kSciEnable = 1u << 0;
constexpr uint16_t kSleepEnable = 1u << 13;  // write-only
constexpr int kSleepTypeShift = 10;

constexpr uint16_t kKeyboardCommandPort = 0x64;
constexpr std::byte kPulseReset{0xFE};
constexpr uint16_t kCmosPort = 0x70;

void FillWith0(std::span<std::byte> data) {
  std::fill(data.begin(), data.end(), std::byte{0});
}

}  // namespace

AcpiPorts::AcpiPorts(absl::AnyInvocable<void()> power_off,
                     absl::AnyInvocable<void()> reset)
    : power_off_(std::move(power_off)), reset_(std::move(reset)) {
  Reset();
}

void AcpiPorts::Reset() {
  vmm::MutexLock lock(&mutex_);
  std::fill(std::begin(registers_), std::end(registers_), std::byte{0});
  // There is no other mode than ACPI's.
  registers_[kControl] = std::byte{kSciEnable};
}

void AcpiPorts::Read(uint64_t offset, std::span<std::byte> data) {
  vmm::MutexLock lock(&mutex_);
  std::copy_n(registers_ + offset, data.size(), data.begin());
}

void AcpiPorts::Write(uint64_t offset, std::span<const std::byte> data) {
  bool off = false;
  bool reset = false;
  {
    vmm::MutexLock lock(&mutex_);
    for (size_t i = 0; i < data.size(); ++i) {
      const uint64_t port = offset + i;
      // No event ever happens, so writing 1 to a status bit changes nothing.
      if (port >= kEventEnable && port < kReset) registers_[port] = data[i];
      if (port == kReset) {
        reset = data[i] == std::byte{vmm::kAcpiResetValue};
      }
    }
    registers_[kControl] |= std::byte{kSciEnable};
    const uint32_t control = std::to_integer<uint32_t>(registers_[kControl]) |
                             std::to_integer<uint32_t>(registers_[kControl + 1])
                                 << 8;
    off = (control & kSleepEnable) != 0 &&
          (control >> kSleepTypeShift & 7) == vmm::kAcpiSleepTypeOff;
    registers_[kControl + 1] &=
        ~std::byte{static_cast<uint8_t>(kSleepEnable >> 8)};
  }
  if (off) power_off_();
  if (reset) reset_();
}

KeyboardController::KeyboardController(absl::AnyInvocable<void()> reset)
    : reset_(std::move(reset)) {}

void KeyboardController::Read(uint64_t /*offset*/, std::span<std::byte> data) {
  FillWith0(data);
}

void KeyboardController::Write(uint64_t /*offset*/,
                               std::span<const std::byte> data) {
  if (data[0] == kPulseReset) reset_();
}

void NoCmos::Read(uint64_t /*offset*/, std::span<std::byte> data) {
  FillWith0(data);
}

void NoCmos::Write(uint64_t /*offset*/, std::span<const std::byte> /*data*/) {}

PlatformPorts::PlatformPorts(absl::AnyInvocable<void()> power_off,
                             absl::AnyInvocable<void()> reset)
    : reset_(std::make_shared<absl::AnyInvocable<void()>>(std::move(reset))),
      acpi_(std::move(power_off), [this] { (*reset_)(); }),
      keyboard_([this] { (*reset_)(); }) {}

absl::Status PlatformPorts::Map(vmm::PioBus* bus) {
  const struct {
    const char* name;
    uint16_t port;
    uint16_t count;
    vmm::IoHandler* handler;
  } places[] = {
      {"acpi", vmm::kAcpiEventPort, AcpiPorts::kPorts, &acpi_},
      {"keyboard controller", kKeyboardCommandPort, 1, &keyboard_},
      {"cmos", kCmosPort, 2, &cmos_},
  };
  for (const auto& place : places) {
    absl::StatusOr<std::unique_ptr<vmm::MmioMapping>> mapping =
        bus->MapHandler(place.name, place.port, place.count, place.handler);
    if (!mapping.ok()) return mapping.status();
    mappings_.push_back(std::move(*mapping));
  }
  return absl::OkStatus();
}

}  // namespace vmsg::example
