#include "vmm/pci/pci_host_bridge.h"

#include <array>
#include <atomic>
#include <bit>
#include <chrono>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/pci/test_function.h"
#include "vmm/testing/fake_interrupt_controller.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr GuestAddress kEcam{0xB000'0000};
constexpr GuestRange kWindow32 = {{0xE000'0000}, 0x1000'0000};
constexpr GuestRange kWindow64 = {{0x80'0000'0000}, uint64_t{1} << 32};
constexpr uint16_t kAddressPort = 0xCF8;
constexpr uint16_t kDataPort = 0xCFC;
constexpr uint16_t kCommand = 0x04;
constexpr uint32_t kMemory = 0x2;
constexpr uint32_t kBusMaster = 0x4;
constexpr uint32_t kIds = 0x9039'10EE;  // of TestFunction

constexpr PciAddress At(uint8_t device, uint8_t function = 0) {
  return {.bus = 0, .device = device, .function = function};
}
constexpr uint16_t Bar(int index) {
  return static_cast<uint16_t>(0x10 + 4 * index);
}

class PciHostBridgeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    MakeBridge(
        {.ecam = kEcam, .window_32bit = kWindow32, .window_64bit = kWindow64});
  }
  void MakeBridge(const PciHostBridge::Options& options) {
    bridge_.reset();
    ASSERT_OK_AND_ASSIGN(
        bridge_, PciHostBridge::Create(options, &mmio_, &pio_, &interrupts_));
  }

  template <typename T>
  T EcamRead(PciAddress place, uint64_t offset) {
    std::array<std::byte, sizeof(T)> bytes;
    mmio_.Read({kEcam.value + (place.requester_id() << 12) + offset}, bytes);
    return std::bit_cast<T>(bytes);
  }
  template <typename T>
  void EcamWrite(PciAddress place, uint64_t offset, T value) {
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    mmio_.Write({kEcam.value + (place.requester_id() << 12) + offset}, bytes);
  }
  template <typename T>
  T In(uint16_t port) {
    std::array<std::byte, sizeof(T)> bytes;
    pio_.Read(port, bytes);
    return std::bit_cast<T>(bytes);
  }
  template <typename T>
  void Out(uint16_t port, T value) {
    const auto bytes = std::bit_cast<std::array<std::byte, sizeof(T)>>(value);
    pio_.Write(port, bytes);
  }
  void Select(PciAddress place, uint32_t offset) {
    Out<uint32_t>(kAddressPort,
                  0x8000'0000u | place.requester_id() << 8 | offset);
  }
  uint64_t BarAddress(PciAddress place, int index) {
    return bridge_->ReadConfig(place, Bar(index), 4) & ~0xFu;
  }
  bool IsMapped(uint64_t address) {
    std::array<std::byte, 1> byte;
    return mmio_.Read({address}, byte);
  }

  DispatchMmioBus mmio_;
  DispatchPioBus pio_;
  FakeInterruptController interrupts_;
  std::unique_ptr<TestFunction> first_ = TestFunction::Create("amp0");
  std::unique_ptr<TestFunction> second_ = TestFunction::Create("amp1");
  std::unique_ptr<PciHostBridge> bridge_;
};

TEST_F(PciHostBridgeTest, AnswersItselfAsAHostBridge) {
  EXPECT_EQ(bridge_->ReadConfig(At(0), 0x00, 4), 0x0008'1B36u);
  EXPECT_EQ(bridge_->ReadConfig(At(0), 0x0A, 2), 0x0600u);
  EXPECT_EQ(bridge_->ReadConfig(At(0), 0x0E, 1), 0u);
  bridge_->WriteConfig(At(0), 0x00, 4, 0);
  bridge_->WriteConfig(At(0), kCommand, 2, 0xFFFF);
  EXPECT_EQ(bridge_->ReadConfig(At(0), 0x00, 4), 0x0008'1B36u);
  EXPECT_EQ(bridge_->ReadConfig(At(0), kCommand, 4), 0u);
}

TEST_F(PciHostBridgeTest, AbsentFunctionsReadAllOnes) {
  EXPECT_EQ(bridge_->ReadConfig(At(1), 0, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(bridge_->ReadConfig(At(0, 1), 0, 2), 0xFFFFu);
  EXPECT_EQ(bridge_->ReadConfig({.bus = 1}, 0, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(bridge_->ReadConfig(At(32), 0, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(bridge_->ReadConfig(At(255, 255), 0, 4), 0xFFFF'FFFFu);
  bridge_->WriteConfig(At(1), kCommand, 2, 0xFFFF);
  bridge_->WriteConfig(At(255, 255), kCommand, 2, 0xFFFF);
}

TEST_F(PciHostBridgeTest, AddTakesTheFirstFreeDeviceNumber) {
  EXPECT_EQ(bridge_->Add(first_.get()).value(), At(1));
  EXPECT_EQ(bridge_->Add(second_.get()).value(), At(2));
  EXPECT_EQ(bridge_->ReadConfig(At(1), 0, 4), kIds);
  EXPECT_EQ(bridge_->ReadConfig(At(2), 0, 4), kIds);
}

TEST_F(PciHostBridgeTest, AddRefusesWhatCannotBe) {
  ASSERT_OK(bridge_->Add(first_.get(), At(5)));

  EXPECT_THAT(bridge_->Add(second_.get(), At(5)),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       AllOf(HasSubstr("00:05.0"), HasSubstr("amp0"),
                             HasSubstr("amp1"))));
  EXPECT_THAT(bridge_->Add(second_.get(), At(0)),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(bridge_->Add(second_.get(), PciAddress{.bus = 1}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(bridge_->Add(second_.get(), At(32)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(bridge_->Add(second_.get(), At(5, 8)),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(
      bridge_->Add(second_.get(), At(6, 1)),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("function 0")));
  const auto twin = TestFunction::Create("amp0");
  EXPECT_THAT(bridge_->Add(twin.get()),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("amp0")));
  EXPECT_OK(bridge_->Add(second_.get(), At(5, 1)));
}

TEST_F(PciHostBridgeTest, FullBusIsResourceExhausted) {
  std::vector<std::unique_ptr<TestFunction>> many;
  for (int i = 0; i < 31; ++i) {
    many.push_back(TestFunction::Create("dev" + std::to_string(i)));
    ASSERT_OK(bridge_->Add(many.back().get()));
  }
  EXPECT_THAT(bridge_->Add(first_.get()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  bridge_.reset();  // before the functions
}

TEST_F(PciHostBridgeTest, DeviceThatCannotConnectIsNotThere) {
  interrupts_.FailCreateAfter(0);
  EXPECT_THAT(bridge_->Add(first_.get()),
              StatusIs(absl::StatusCode::kResourceExhausted));
  EXPECT_EQ(bridge_->ReadConfig(At(1), 0, 4), 0xFFFF'FFFFu);

  interrupts_.FailCreateAfter(std::nullopt);
  EXPECT_EQ(bridge_->Add(first_.get()).value(), At(1));
}

TEST_F(PciHostBridgeTest, MultiFunctionBitTellsOfOtherFunctions) {
  ASSERT_OK(bridge_->Add(first_.get(), At(3)));
  EXPECT_EQ(bridge_->ReadConfig(At(3), 0x0E, 1), 0u);

  ASSERT_OK(bridge_->Add(second_.get(), At(3, 5)));

  EXPECT_EQ(bridge_->ReadConfig(At(3), 0x0E, 1), 0x80u);
  EXPECT_EQ(bridge_->ReadConfig(At(3), 0x0C, 4), 0x0080'0000u);
  EXPECT_EQ(bridge_->ReadConfig(At(3), 0x0E, 2), 0x0080u);
  EXPECT_EQ(bridge_->ReadConfig(At(3), 0x10, 4), 0u);
  EXPECT_EQ(bridge_->ReadConfig(At(3, 5), 0x0E, 1), 0u);
  EXPECT_EQ(bridge_->ReadConfig(At(3, 5), 0, 4), kIds);
  ASSERT_OK(bridge_->Remove(second_.get()));
  EXPECT_EQ(bridge_->ReadConfig(At(3), 0x0E, 1), 0u);
}

TEST_F(PciHostBridgeTest, RemoveDisconnectsAndFreesThePlace) {
  ASSERT_OK(bridge_->Add(first_.get()));
  ASSERT_OK(bridge_->AssignBars());
  const uint64_t address = BarAddress(At(1), 0);
  EXPECT_TRUE(IsMapped(address));

  ASSERT_OK(bridge_->Remove(first_.get()));

  EXPECT_FALSE(IsMapped(address));
  EXPECT_EQ(interrupts_.routes_alive(), 0u);
  EXPECT_EQ(bridge_->ReadConfig(At(1), 0, 4), 0xFFFF'FFFFu);
  EXPECT_THAT(bridge_->Remove(first_.get()),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_OK(bridge_->ResetAll());  // does not touch it any more
  EXPECT_EQ(first_->resets(), 0);
  EXPECT_EQ(bridge_->Add(second_.get()).value(), At(1));
}

TEST_F(PciHostBridgeTest, FunctionZeroLeavesLast) {
  ASSERT_OK(bridge_->Add(first_.get(), At(3)));
  ASSERT_OK(bridge_->Add(second_.get(), At(3, 1)));

  EXPECT_THAT(bridge_->Remove(first_.get()),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(bridge_->ReadConfig(At(3), 0, 4), kIds);
  EXPECT_OK(bridge_->Remove(second_.get()));
  EXPECT_OK(bridge_->Remove(first_.get()));
}

TEST_F(PciHostBridgeTest, EcamReachesEveryFunctionWithEveryWidth) {
  ASSERT_OK(bridge_->Add(first_.get(), At(31)));
  ASSERT_OK(bridge_->Add(second_.get(), At(31, 7)));

  EXPECT_EQ(EcamRead<uint32_t>(At(31), 0), kIds);
  EXPECT_EQ(EcamRead<uint16_t>(At(31, 7), 2), 0x9039u);
  EXPECT_EQ(EcamRead<uint8_t>(At(31, 7), 1), 0x10u);
  EXPECT_EQ(EcamRead<uint64_t>(At(31), 0), 0x0010'0000'9039'10EEu);
  EXPECT_EQ(EcamRead<uint32_t>(At(30), 0), 0xFFFF'FFFFu);
  EcamWrite<uint16_t>(At(31, 7), kCommand, kBusMaster);
  EXPECT_TRUE(second_->dma_gate()->open());
  EXPECT_FALSE(first_->dma_gate()->open());
  EcamWrite<uint64_t>(At(31), Bar(4), 0x12'3450'0000);
  EXPECT_EQ(EcamRead<uint64_t>(At(31), Bar(4)), 0x12'3450'000Cu);
}

TEST_F(PciHostBridgeTest, ExtendedConfigSpaceReadsAllOnes) {
  ASSERT_OK(bridge_->Add(first_.get()));

  EXPECT_EQ(EcamRead<uint32_t>(At(1), 0x100), 0xFFFF'FFFFu);
  EXPECT_EQ(EcamRead<uint32_t>(At(1), 0xFFC), 0xFFFF'FFFFu);
  EcamWrite<uint16_t>(At(1), 0x100 + kCommand, kBusMaster);
  EXPECT_EQ(EcamRead<uint16_t>(At(1), kCommand), 0u);
}

TEST_F(PciHostBridgeTest, UnalignedEcamAccessesDoNoHarm) {
  ASSERT_OK(bridge_->Add(first_.get()));

  EXPECT_EQ(EcamRead<uint32_t>(At(1), 2), 0xFFFF'FFFFu);
  EXPECT_EQ(EcamRead<uint64_t>(At(1), 0xFFC), UINT64_MAX);
  EXPECT_EQ(EcamRead<uint64_t>(At(0), 0xFFF), UINT64_MAX);
  EcamWrite<uint32_t>(At(1), kCommand - 1, 0xFFFF'FFFF);
  EXPECT_EQ(EcamRead<uint16_t>(At(1), kCommand), 0u);
  // The last bytes of the window.
  EXPECT_EQ(EcamRead<uint32_t>(At(31, 7), 0xFFE), 0xFFFF'FFFFu);
}

TEST_F(PciHostBridgeTest, PortsReachFunctionsWithEveryWidth) {
  ASSERT_OK(bridge_->Add(first_.get(), At(4)));

  Select(At(4), 0);
  EXPECT_EQ(In<uint32_t>(kDataPort), kIds);
  EXPECT_EQ(In<uint16_t>(kDataPort + 2), 0x9039u);
  EXPECT_EQ(In<uint8_t>(kDataPort + 1), 0x10u);
  Select(At(4), kCommand);
  Out<uint8_t>(kDataPort, kBusMaster);
  EXPECT_TRUE(first_->dma_gate()->open());
  Out<uint16_t>(kDataPort, 0);
  EXPECT_FALSE(first_->dma_gate()->open());
  Select(At(4), Bar(0));
  Out<uint32_t>(kDataPort, 0xFFFF'FFFF);
  EXPECT_EQ(In<uint32_t>(kDataPort), 0xFFFF'C000u);
}

// What Linux probes to find out that the mechanism is there.
TEST_F(PciHostBridgeTest, AddressPortIsADwordAndNothingElse) {
  Out<uint8_t>(kAddressPort + 3, 0x01);
  Out<uint32_t>(kAddressPort, 0x8000'0000);
  EXPECT_EQ(In<uint32_t>(kAddressPort), 0x8000'0000u);

  Out<uint8_t>(kAddressPort, 0x44);
  Out<uint16_t>(kAddressPort + 2, 0x1234);
  EXPECT_EQ(In<uint32_t>(kAddressPort), 0x8000'0000u);
  EXPECT_EQ(In<uint8_t>(kAddressPort), 0xFFu);
  EXPECT_EQ(In<uint16_t>(kAddressPort + 3), 0xFFFFu);
  Out<uint32_t>(kAddressPort, 0xFFFF'FFFF);
  EXPECT_EQ(In<uint32_t>(kAddressPort), 0x80FF'FFFCu);
}

TEST_F(PciHostBridgeTest, DataPortIsDeadWithoutTheEnableBit) {
  ASSERT_OK(bridge_->Add(first_.get(), At(4)));
  Out<uint32_t>(kAddressPort, 4u << 11);

  EXPECT_EQ(In<uint32_t>(kDataPort), 0xFFFF'FFFFu);
  Out<uint32_t>(kAddressPort, 4u << 11 | kCommand);
  Out<uint16_t>(kDataPort, kBusMaster);
  EXPECT_FALSE(first_->dma_gate()->open());
}

TEST_F(PciHostBridgeTest, OtherBusesOfThePortsAreEmpty) {
  Out<uint32_t>(kAddressPort, 0x8001'0000);
  EXPECT_EQ(In<uint32_t>(kDataPort), 0xFFFF'FFFFu);
}

TEST_F(PciHostBridgeTest, AssignBarsPlacesAllAlignedDisjointAndInTheWindows) {
  ASSERT_OK(bridge_->Add(first_.get()));
  ASSERT_OK(bridge_->Add(second_.get()));

  ASSERT_OK(bridge_->AssignBars());

  std::vector<GuestRange> taken;
  for (const uint8_t device : {1, 2}) {
    for (const PciBarInfo& bar : first_->bars()) {
      uint64_t address = BarAddress(At(device), bar.index);
      if (bar.is_64bit) {
        address |= uint64_t{bridge_->ReadConfig(At(device), Bar(5), 4)} << 32;
      }
      const GuestRange range = {{address}, bar.size_bytes};
      EXPECT_EQ(address % bar.size_bytes, 0u);
      EXPECT_TRUE((bar.is_64bit ? kWindow64 : kWindow32).Contains(range));
      EXPECT_TRUE(IsMapped(address));
      for (const GuestRange other : taken) EXPECT_FALSE(range.Overlaps(other));
      taken.push_back(range);
    }
    EXPECT_EQ(bridge_->ReadConfig(At(device), kCommand, 2), kMemory);
  }
  EXPECT_EQ(taken.size(), 8u);
}

TEST_F(PciHostBridgeTest, AssignBarsGoesLargestFirst) {
  ASSERT_OK(bridge_->Add(first_.get()));

  ASSERT_OK(bridge_->AssignBars());

  EXPECT_EQ(BarAddress(At(1), 0), kWindow32.start.value);  // 16 KiB
  EXPECT_EQ(BarAddress(At(1), 1), kWindow32.start.value + 0x4000);
  EXPECT_EQ(BarAddress(At(1), 2), kWindow32.start.value + 0x6000);
}

TEST_F(PciHostBridgeTest, LargeBarsGoBelowFourGiBWithoutAHighWindow) {
  MakeBridge({.window_32bit = kWindow32});
  ASSERT_OK(bridge_->Add(first_.get()));

  ASSERT_OK(bridge_->AssignBars());

  EXPECT_EQ(BarAddress(At(1), 4), kWindow32.start.value);
  EXPECT_EQ(bridge_->ReadConfig(At(1), Bar(5), 4), 0u);
  EXPECT_EQ(BarAddress(At(1), 0), kWindow32.start.value + 0x10'0000);
}

TEST_F(PciHostBridgeTest, WindowAtZeroAssignsNoZero) {
  MakeBridge({.window_32bit = {{0}, 0x100'0000}});
  ASSERT_OK(bridge_->Add(first_.get()));

  ASSERT_OK(bridge_->AssignBars());

  EXPECT_EQ(BarAddress(At(1), 4), 0x10'0000u);
}

TEST_F(PciHostBridgeTest, WindowsCanBeFilledToTheirEnd) {
  MakeBridge({.window_32bit = {{0xFFFF'8000}, 0x7000},
              .window_64bit = {{0xFFFF'FFFE'FFF0'0000}, 0x10'0000}});
  ASSERT_OK(bridge_->Add(first_.get()));

  ASSERT_OK(bridge_->AssignBars());

  EXPECT_TRUE(IsMapped(0xFFFF'EFFF));
  EXPECT_TRUE(IsMapped(0xFFFF'FFFE'FFFF'FFFF));
}

TEST_F(PciHostBridgeTest, FullWindowNamesTheBarAndChangesNothing) {
  MakeBridge(
      {.window_32bit = {{0xE000'0000}, 0x6000}, .window_64bit = kWindow64});
  ASSERT_OK(bridge_->Add(first_.get()));

  EXPECT_THAT(bridge_->AssignBars(),
              StatusIs(absl::StatusCode::kResourceExhausted,
                       AllOf(HasSubstr("amp0 bar2"), HasSubstr("32-bit"))));

  EXPECT_EQ(BarAddress(At(1), 0), 0u);
  EXPECT_EQ(bridge_->ReadConfig(At(1), kCommand, 2), 0u);
}

TEST_F(PciHostBridgeTest, PlaceThatTheBusRefusesIsReported) {
  TestRegisters other;
  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       mmio_.MapHandler("rom", 0x1000, &other));
  ASSERT_OK(mapping->SetBase(kWindow32.start));
  ASSERT_OK(bridge_->Add(first_.get()));

  EXPECT_THAT(
      bridge_->AssignBars(),
      StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("amp0")));

  EXPECT_EQ(bridge_->ReadConfig(At(1), kCommand, 2), 0u);
}

TEST_F(PciHostBridgeTest, AssignBarsAgainMayMoveEverything) {
  ASSERT_OK(bridge_->Add(first_.get()));
  ASSERT_OK(bridge_->AssignBars());
  ASSERT_OK(bridge_->Add(second_.get()));

  ASSERT_OK(bridge_->AssignBars());

  EXPECT_EQ(first_->bar_refusals().value(), 0u);
  EXPECT_EQ(second_->bar_refusals().value(), 0u);
  EXPECT_TRUE(IsMapped(BarAddress(At(1), 2)));
  EXPECT_TRUE(IsMapped(BarAddress(At(2), 2)));
}

TEST_F(PciHostBridgeTest, ResetAllResetsFunctionsAndGivesTheSameAddresses) {
  ASSERT_OK(bridge_->Add(first_.get()));
  ASSERT_OK(bridge_->AssignBars());
  const uint64_t assigned = BarAddress(At(1), 0);
  bridge_->WriteConfig(At(1), Bar(0), 4, 0xEF00'0000);
  bridge_->WriteConfig(At(1), kCommand, 2, kMemory | kBusMaster);

  ASSERT_OK(bridge_->ResetAll());

  EXPECT_EQ(first_->resets(), 1);
  EXPECT_EQ(BarAddress(At(1), 0), assigned);
  EXPECT_TRUE(IsMapped(assigned));
  EXPECT_FALSE(IsMapped(0xEF00'0000));
  EXPECT_EQ(bridge_->ReadConfig(At(1), kCommand, 2), kMemory);
  EXPECT_FALSE(first_->dma_gate()->open());
}

TEST_F(PciHostBridgeTest, ResetAllWithoutAssignedBarsLeavesThemUnassigned) {
  ASSERT_OK(bridge_->Add(first_.get()));
  bridge_->WriteConfig(At(1), Bar(0), 4, 0xEF00'0000);

  ASSERT_OK(bridge_->ResetAll());

  EXPECT_EQ(BarAddress(At(1), 0), 0u);
  EXPECT_EQ(bridge_->ReadConfig(At(1), kCommand, 2), 0u);
}

TEST_F(PciHostBridgeTest, DestructionDisconnectsTheFunctions) {
  ASSERT_OK(bridge_->Add(first_.get()));

  bridge_.reset();

  EXPECT_EQ(interrupts_.routes_alive(), 0u);
  std::array<std::byte, 4> data;
  EXPECT_FALSE(mmio_.Read(kEcam, data));
  EXPECT_FALSE(pio_.Read(kAddressPort, data));
}

TEST_F(PciHostBridgeTest, CreateRefusesBadWindowsAndTakenPlaces) {
  const auto create = [&](const PciHostBridge::Options& options) {
    return PciHostBridge::Create(options, &mmio_, &pio_, &interrupts_).status();
  };
  EXPECT_THAT(create({.ecam = kEcam}),  // that of bridge_
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("ecam")));
  EXPECT_THAT(create({}),
              StatusIs(absl::StatusCode::kAlreadyExists, HasSubstr("ports")));
  EXPECT_THAT(create({.window_32bit = {{0xFFFF'F000}, 0x1001}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(create({.window_32bit = {{uint64_t{1} << 33}, 0x1000}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(create({.window_64bit = {{UINT64_MAX}, 2}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(create({.window_64bit = {{0xFFFF'FFFE'FFFF'F000}, 0x2000}}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_F(PciHostBridgeTest, WorksWithoutPortsAndWithoutEcam) {
  bridge_.reset();
  ASSERT_OK_AND_ASSIGN(
      bridge_, PciHostBridge::Create({.window_32bit = kWindow32}, &mmio_,
                                     /*pio=*/nullptr, &interrupts_));

  std::array<std::byte, 4> data;
  EXPECT_FALSE(pio_.Read(kAddressPort, data));
  EXPECT_FALSE(mmio_.Read(kEcam, data));
  EXPECT_EQ(bridge_->ReadConfig(At(0), 0, 4), 0x0008'1B36u);
}

// A config access that is inside the function keeps Remove waiting.
TEST_F(PciHostBridgeTest, RemoveWaitsForAConfigAccessInProgress) {
  ASSERT_OK(bridge_->Add(first_.get()));
  std::promise<void> entered;
  std::promise<void> release;
  std::atomic<bool> left = false;
  first_->on_bus_master = [&](bool) {
    entered.set_value();
    release.get_future().wait();
    left.store(true);
  };
  std::thread vcpu(
      [&] { bridge_->WriteConfig(At(1), kCommand, 2, kBusMaster); });
  entered.get_future().wait();

  auto removed = std::async(std::launch::async, [&] {
    const bool ok = bridge_->Remove(first_.get()).ok();
    return ok && left.load();
  });
  // A wrong early return has this long to show up.
  EXPECT_EQ(removed.wait_for(std::chrono::milliseconds(50)),
            std::future_status::timeout);
  release.set_value();

  EXPECT_TRUE(removed.get());
  vcpu.join();
}

}  // namespace
}  // namespace vmsg::vmm
