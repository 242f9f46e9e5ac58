#include "examples/kvm_vmm/platform_ports.h"

#include <gtest/gtest.h>

#include <array>
#include <string>

#include "vmm/boot/acpi_tables.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::example {
namespace {

constexpr uint8_t kSleepEnable = 0x20;  // in the upper byte of the control word

class PlatformPortsTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_OK(ports_.Map(&bus_)); }

  void Out8(uint16_t port, uint8_t value) {
    const std::array<std::byte, 1> data = {std::byte{value}};
    bus_.Write(port, data);
  }
  void Out16(uint16_t port, uint16_t value) {
    const std::array<std::byte, 2> data = {static_cast<std::byte>(value),
                                           static_cast<std::byte>(value >> 8)};
    bus_.Write(port, data);
  }
  uint16_t In16(uint16_t port) {
    std::array<std::byte, 2> data = {std::byte{0xAA}, std::byte{0xAA}};
    bus_.Read(port, data);
    return static_cast<uint16_t>(std::to_integer<unsigned>(data[0]) |
                                 std::to_integer<unsigned>(data[1]) << 8);
  }

  std::string happened_;
  vmm::DispatchPioBus bus_;
  PlatformPorts ports_{[this] { happened_ += "off "; },
                       [this] { happened_ += "reset "; }};
};

TEST_F(PlatformPortsTest, SleepTypeOfS5WithSleepEnableSwitchesOff) {
  const uint16_t s5 = vmm::kAcpiSleepTypeOff << 10;
  Out16(vmm::kAcpiControlPort, s5);
  EXPECT_EQ(happened_, "");
  Out16(vmm::kAcpiControlPort, s5 | kSleepEnable << 8);
  EXPECT_EQ(happened_, "off ");
}

TEST_F(PlatformPortsTest, OtherSleepTypesDoNotSwitchOff) {
  for (uint16_t type = 0; type < 8; ++type) {
    if (type == vmm::kAcpiSleepTypeOff) continue;
    Out16(vmm::kAcpiControlPort,
          static_cast<uint16_t>(type << 10 | kSleepEnable << 8));
  }
  EXPECT_EQ(happened_, "");
}

TEST_F(PlatformPortsTest, AcpiModeIsAlwaysOnAndSleepEnableReadsZero) {
  EXPECT_EQ(In16(vmm::kAcpiControlPort), 1);
  Out16(vmm::kAcpiControlPort, kSleepEnable << 8 | 0x0402);
  EXPECT_EQ(In16(vmm::kAcpiControlPort), 0x0403);
}

TEST_F(PlatformPortsTest, EventsNeverHappenAndTheirEnablesAreKept) {
  Out16(vmm::kAcpiEventPort, 0xFFFF);
  EXPECT_EQ(In16(vmm::kAcpiEventPort), 0);
  Out16(vmm::kAcpiEventPort + 2, 0x0120);
  EXPECT_EQ(In16(vmm::kAcpiEventPort + 2), 0x0120);
  ports_.Reset();
  EXPECT_EQ(In16(vmm::kAcpiEventPort + 2), 0);
}

TEST_F(PlatformPortsTest, ResetRegisterAndKeyboardCommandReset) {
  Out8(vmm::kAcpiResetPort, 0);
  Out8(0x64, 0x60);
  EXPECT_EQ(happened_, "");
  Out8(vmm::kAcpiResetPort, vmm::kAcpiResetValue);
  Out8(0x64, 0xFE);
  EXPECT_EQ(happened_, "reset reset ");
}

TEST_F(PlatformPortsTest, ClockAndKeyboardStatusReadZero) {
  for (const uint16_t port : {0x64, 0x70, 0x71}) {
    std::array<std::byte, 1> data = {std::byte{0xAA}};
    bus_.Read(port, data);
    EXPECT_EQ(data[0], std::byte{0}) << port;
  }
}

}  // namespace
}  // namespace vmsg::example
