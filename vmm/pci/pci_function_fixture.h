// A connected TestFunction on a bus of its own, for the tests of PciFunction.

#ifndef VMSG_VMM_PCI_PCI_FUNCTION_FIXTURE_H_
#define VMSG_VMM_PCI_PCI_FUNCTION_FIXTURE_H_

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

#include "gtest/gtest.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/pci/test_function.h"
#include "vmm/testing/fake_interrupt_controller.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {

inline constexpr PciAddress kPlace = {.bus = 0, .device = 3, .function = 0};

inline constexpr uint16_t kCommand = 0x04;
inline constexpr uint16_t kStatus = 0x06;
inline constexpr uint16_t kMsixCapability = 0x40;
inline constexpr uint16_t kMessageControl = kMsixCapability + 2;
inline constexpr uint16_t kMemory = 0x2;
inline constexpr uint16_t kBusMaster = 0x4;
inline constexpr uint16_t kMsixEnable = 0x8000;
inline constexpr uint16_t kFunctionMask = 0x4000;

inline constexpr uint64_t kBar0 = 0xE000'0000;
inline constexpr uint64_t kBar1 = 0xE010'0000;
inline constexpr uint64_t kBar2 = 0xE020'0000;
inline constexpr uint64_t kBar4 = 0x1'8000'0000;

inline constexpr uint16_t Bar(int index) {
  return static_cast<uint16_t>(0x10 + 4 * index);
}

class PciFunctionFixture : public ::testing::Test {
 protected:
  ~PciFunctionFixture() override { function_->Disconnect(); }

  void Connect() { ASSERT_OK(function_->Connect(kPlace, &bus_, &fake_)); }

  void SetUp() override { Connect(); }

  // Assigns all BARs and turns decoding and bus mastering on.
  void Assign() {
    Write(Bar(0), 4, kBar0);
    Write(Bar(1), 4, kBar1);
    Write(Bar(2), 4, kBar2);
    Write(Bar(4), 4, static_cast<uint32_t>(kBar4));
    Write(Bar(5), 4, kBar4 >> 32);
    Write(kCommand, 2, kMemory | kBusMaster);
  }
  // Vector 0 programmed, un-masked and enabled.
  void OpenVector0() {
    MmioWrite<uint64_t>(kBar2, 0xFEE0'0000);
    MmioWrite<uint32_t>(kBar2 + 8, 0x41);
    MmioWrite<uint32_t>(kBar2 + 12, 0);
    Write(kMessageControl, 2, kMsixEnable);
  }

  uint32_t Read(uint16_t offset, uint8_t width) {
    return function_->ReadConfig(offset, width);
  }
  void Write(uint16_t offset, uint8_t width, uint32_t value) {
    function_->WriteConfig(offset, width, value);
  }
  template <typename T>
  bool MmioWrite(uint64_t address, T value) {
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    return bus_.Write({address}, bytes);
  }
  template <typename T>
  std::optional<T> MmioRead(uint64_t address) {
    std::array<std::byte, sizeof(T)> bytes;
    if (!bus_.Read({address}, bytes)) return std::nullopt;
    return std::bit_cast<T>(bytes);
  }
  bool IsMapped(uint64_t address) {
    return MmioRead<uint8_t>(address).has_value();
  }

  DispatchMmioBus bus_;
  FakeInterruptController fake_;
  std::unique_ptr<TestFunction> function_ = TestFunction::Create("dev");
  TestRegisters& registers_ = function_->registers();
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_PCI_FUNCTION_FIXTURE_H_
