#include "vmm/pci/pci_function.h"

#include <array>
#include <cstring>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/interrupt/in_process_interrupt_controller.h"
#include "vmm/pci/test_function.h"
#include "vmm/testing/fake_interrupt_controller.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr PciAddress kPlace = {.bus = 0, .device = 3, .function = 0};

constexpr uint16_t kCommand = 0x04;
constexpr uint16_t kStatus = 0x06;
constexpr uint16_t kMsixCapability = 0x40;
constexpr uint16_t kMessageControl = kMsixCapability + 2;
constexpr uint16_t kMemory = 0x2;
constexpr uint16_t kBusMaster = 0x4;
constexpr uint16_t kMsixEnable = 0x8000;
constexpr uint16_t kFunctionMask = 0x4000;

constexpr uint64_t kBar0 = 0xE000'0000;
constexpr uint64_t kBar1 = 0xE010'0000;
constexpr uint64_t kBar2 = 0xE020'0000;
constexpr uint64_t kBar4 = 0x1'8000'0000;

constexpr uint16_t Bar(int index) {
  return static_cast<uint16_t>(0x10 + 4 * index);
}

class PciFunctionTest : public ::testing::Test {
 protected:
  ~PciFunctionTest() override { function_->Disconnect(); }

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
    std::array<std::byte, sizeof(T)> bytes;
    std::memcpy(bytes.data(), &value, sizeof(T));
    return bus_.Write({address}, bytes);
  }
  template <typename T>
  std::optional<T> MmioRead(uint64_t address) {
    std::array<std::byte, sizeof(T)> bytes;
    if (!bus_.Read({address}, bytes)) return std::nullopt;
    T value;
    std::memcpy(&value, bytes.data(), sizeof(T));
    return value;
  }
  bool IsMapped(uint64_t address) {
    return MmioRead<uint8_t>(address).has_value();
  }

  DispatchMmioBus bus_;
  FakeInterruptController fake_;
  std::unique_ptr<TestFunction> function_ = TestFunction::Create("dev");
  TestRegisters& registers_ = function_->registers();
};

TEST_F(PciFunctionTest, ShowsItsIdentity) {
  EXPECT_EQ(Read(0x00, 4), 0x9039'10EEu);
  EXPECT_EQ(Read(0x08, 4), 0x0880'0001u);
  EXPECT_EQ(Read(0x0E, 1), 0u);  // header type 0, one function
  EXPECT_EQ(Read(0x2C, 4), 0x1100'1AF4u);
  EXPECT_EQ(Read(0x3D, 1), 0u);  // no interrupt pin
}

TEST_F(PciFunctionTest, ListsExactlyTheMsixCapability) {
  EXPECT_EQ(Read(kStatus, 2), 0x0010u);
  EXPECT_EQ(Read(0x34, 1), kMsixCapability);
  EXPECT_EQ(Read(kMsixCapability, 2), 0x0011u);  // id, and nothing next
  EXPECT_EQ(Read(kMessageControl, 2), TestFunction::kVectors - 1);
  EXPECT_EQ(Read(kMsixCapability + 4, 4), 0x0000'0002u);
  EXPECT_EQ(Read(kMsixCapability + 8, 4), 0x0000'0802u);
}

TEST_F(PciFunctionTest, BytesAndWordsReadPartsOfTheDword) {
  EXPECT_EQ(Read(0x00, 1), 0xEEu);
  EXPECT_EQ(Read(0x01, 1), 0x10u);
  EXPECT_EQ(Read(0x01, 2), 0x3910u);
  EXPECT_EQ(Read(0x02, 2), 0x9039u);
  EXPECT_EQ(Read(0x03, 1), 0x90u);
}

TEST_F(PciFunctionTest, AccessesThatCrossADwordReadAllOnesAndWriteNothing) {
  EXPECT_EQ(Read(0x02, 4), 0xFFFF'FFFFu);
  EXPECT_EQ(Read(0x03, 2), 0xFFFFu);
  EXPECT_EQ(Read(0x100, 1), 0xFFu);
  EXPECT_EQ(Read(0xFFFF, 1), 0xFFu);
  EXPECT_EQ(Read(0xFE, 4), 0xFFFF'FFFFu);

  Write(0x02, 4, kMemory << 16);
  Write(0x03, 2, kMemory << 8);
  Write(0x104, 2, kMemory);
  EXPECT_EQ(Read(kCommand, 2), 0u);
}

TEST_F(PciFunctionTest, OnlyTheDefinedBitsCanBeWritten) {
  // Everything but the command register, BARs and the MSI-X control.
  for (uint16_t offset = 0; offset < 256; offset += 4) {
    if (offset == kCommand || offset == kMsixCapability) continue;
    if (offset >= Bar(0) && offset <= Bar(5)) continue;
    const uint32_t before = Read(offset, 4);
    Write(offset, 4, 0xFFFF'FFFF);
    const uint32_t writable = offset == 0x3C ? 0xFFu : 0u;  // interrupt line
    EXPECT_EQ(Read(offset, 4), before | writable) << offset;
    Write(offset, 4, 0);
    EXPECT_EQ(Read(offset, 4), before & ~writable) << offset;
  }
  Write(kCommand, 4, 0xFFFF'FFFF);
  EXPECT_EQ(Read(kCommand, 4), 0x0010'0406u);
  Write(kMsixCapability, 4, 0xFFFF'FFFF);
  EXPECT_EQ(Read(kMsixCapability, 4), 0xC002'0011u);
}

TEST_F(PciFunctionTest, WritingOnesToTheStatusClearsOrSetsNothing) {
  Write(kStatus, 2, 0xFFFF);
  EXPECT_EQ(Read(kStatus, 2), 0x0010u);
}

TEST_F(PciFunctionTest, ByteWritesLeaveTheOtherBytesAlone) {
  Write(kCommand, 1, kMemory | kBusMaster);
  Write(kCommand + 1, 1, 0x04);  // INTx disable
  EXPECT_EQ(Read(kCommand, 2), 0x0406u);

  Write(Bar(0) + 3, 1, 0xE1);
  EXPECT_EQ(Read(Bar(0), 4), 0xE100'0000u);
}

TEST_F(PciFunctionTest, SizingProbesReadBackTheSizeMask) {
  for (int bar = 0; bar < 6; ++bar) Write(Bar(bar), 4, 0xFFFF'FFFF);

  EXPECT_EQ(Read(Bar(0), 4), 0xFFFF'C000u);
  EXPECT_EQ(Read(Bar(1), 4), 0xFFFF'E008u);  // prefetchable
  EXPECT_EQ(Read(Bar(2), 4), 0xFFFF'F000u);
  EXPECT_EQ(Read(Bar(3), 4), 0u);
  EXPECT_EQ(Read(Bar(4), 4), 0xFFF0'000Cu);  // 64-bit, prefetchable
  EXPECT_EQ(Read(Bar(5), 4), 0xFFFF'FFFFu);
}

TEST_F(PciFunctionTest, DescribesItsBarsInOrder) {
  const std::span<const PciBarInfo> bars = function_->bars();

  ASSERT_EQ(bars.size(), 4u);
  EXPECT_EQ(bars[0].index, 0);
  EXPECT_EQ(bars[1].index, 1);
  EXPECT_EQ(bars[2].index, 2);
  EXPECT_EQ(bars[2].size_bytes, 4096u);
  EXPECT_EQ(bars[3].index, 4);
  EXPECT_TRUE(bars[3].is_64bit);
}

TEST_F(PciFunctionTest, BarsAreMappedWhileDecodingIsOn) {
  Assign();
  EXPECT_EQ(MmioRead<uint32_t>(kBar0), 0x5A5A'5A5Au);
  EXPECT_TRUE(IsMapped(kBar1));
  EXPECT_TRUE(IsMapped(kBar2));
  EXPECT_TRUE(IsMapped(kBar4));
  EXPECT_TRUE(MmioWrite<uint32_t>(kBar1 + 16, 0x1234'5678));
  EXPECT_EQ(function_->memory().data()[17], std::byte{0x56});

  Write(kCommand, 2, kBusMaster);
  EXPECT_FALSE(IsMapped(kBar0));
  EXPECT_FALSE(IsMapped(kBar1));
  EXPECT_FALSE(IsMapped(kBar2));
  EXPECT_FALSE(IsMapped(kBar4));

  Write(kCommand, 2, kMemory);
  EXPECT_TRUE(IsMapped(kBar0));
  EXPECT_EQ(MmioRead<uint32_t>(kBar1 + 16), 0x1234'5678u);
}

TEST_F(PciFunctionTest, BarWithAddressZeroIsNowhere) {
  Write(kCommand, 2, kMemory);

  EXPECT_FALSE(IsMapped(0));

  Write(Bar(0), 4, kBar0);
  EXPECT_TRUE(IsMapped(kBar0));
  Write(Bar(0), 4, 0);
  EXPECT_FALSE(IsMapped(kBar0));
  EXPECT_FALSE(IsMapped(0));
}

TEST_F(PciFunctionTest, MovedBarAnswersAtItsNewPlaceOnly) {
  Assign();

  Write(Bar(0), 4, kBar0 + 0x8000);

  EXPECT_FALSE(IsMapped(kBar0));
  EXPECT_TRUE(IsMapped(kBar0 + 0x8000));
}

TEST_F(PciFunctionTest, Bar64MovesInTwoHalves) {
  Assign();

  Write(Bar(5), 4, 2);

  EXPECT_FALSE(IsMapped(kBar4));
  EXPECT_TRUE(IsMapped(0x2'8000'0000));
  Write(Bar(4), 4, 0x9000'0000);
  EXPECT_TRUE(IsMapped(0x2'9000'0000));
}

TEST_F(PciFunctionTest, SizingProbeLeavesTheMappingWhereItIs) {
  Assign();

  Write(Bar(0), 4, 0xFFFF'FFFF);
  EXPECT_TRUE(IsMapped(kBar0));
  Write(Bar(0), 4, kBar0);
  EXPECT_TRUE(IsMapped(kBar0));

  Write(Bar(4), 4, 0xFFFF'FFFF);
  Write(Bar(5), 4, 0xFFFF'FFFF);
  EXPECT_TRUE(IsMapped(kBar4));
  Write(Bar(4), 4, static_cast<uint32_t>(kBar4));
  EXPECT_TRUE(IsMapped(kBar4));  // the upper half is still being probed
  Write(Bar(5), 4, kBar4 >> 32);
  EXPECT_TRUE(IsMapped(kBar4));
}

TEST_F(PciFunctionTest, BarThatIsBeingProbedIsNotMappedByDecoding) {
  Assign();
  Write(kCommand, 2, 0);
  Write(Bar(0), 4, 0xFFFF'FFFF);

  Write(kCommand, 2, kMemory);
  EXPECT_FALSE(IsMapped(0xFFFF'C000));
  EXPECT_FALSE(IsMapped(kBar0));

  Write(Bar(0), 4, kBar0);
  EXPECT_TRUE(IsMapped(kBar0));
}

// The size mask is an address too when it was not written as all ones.
TEST_F(PciFunctionTest, AddressThatEqualsTheSizeMaskIsAnAddress) {
  Assign();

  Write(Bar(0), 4, 0xFFFF'C000);

  EXPECT_TRUE(IsMapped(0xFFFF'C000));
  EXPECT_FALSE(IsMapped(kBar0));
}

TEST_F(PciFunctionTest, RefusedMoveRollsTheRegisterBackAndCounts) {
  Assign();
  ASSERT_OK_AND_ASSIGN(const auto other,
                       bus_.MapHandler("other", 0x4000, &registers_));
  ASSERT_OK(other->SetBase(GuestAddress{kBar0 + 0x4000}));

  Write(Bar(0), 4, kBar0 + 0x4000);

  EXPECT_EQ(Read(Bar(0), 4), kBar0);
  EXPECT_TRUE(IsMapped(kBar0));
  EXPECT_EQ(function_->bar_refusals().value(), 1u);
}

TEST_F(PciFunctionTest, RefusedMoveAfterAProbeGoesBackToTheOldAddress) {
  Assign();
  Write(Bar(0), 4, 0xFFFF'FFFF);

  Write(Bar(0), 4, kBar1);  // where BAR 1 is

  EXPECT_EQ(Read(Bar(0), 4), kBar0);
  EXPECT_TRUE(IsMapped(kBar0));
}

TEST_F(PciFunctionTest, RefusedMoveOf64BitBarRollsBothHalvesBack) {
  Assign();
  ASSERT_OK_AND_ASSIGN(const auto other,
                       bus_.MapHandler("other", 0x1000, &registers_));
  ASSERT_OK(other->SetBase(GuestAddress{0x3'8000'0000}));

  Write(Bar(5), 4, 3);

  EXPECT_EQ(Read(Bar(5), 4), 1u);
  EXPECT_EQ(Read(Bar(4), 4), 0x8000'000Cu);
  EXPECT_TRUE(IsMapped(kBar4));
}

TEST_F(PciFunctionTest, DecodingStaysOffWhenTheBusRefusesABar) {
  Assign();
  Write(kCommand, 2, 0);
  Write(Bar(2), 4, kBar0);  // onto BAR 0

  Write(kCommand, 2, kMemory | kBusMaster);

  EXPECT_EQ(Read(kCommand, 2), kBusMaster);
  EXPECT_EQ(Read(Bar(2), 4), kBar0);
  EXPECT_FALSE(IsMapped(kBar0));
  EXPECT_FALSE(IsMapped(kBar1));
  EXPECT_EQ(function_->bar_refusals().value(), 1u);
  EXPECT_TRUE(function_->dma_gate()->open());

  Write(Bar(2), 4, kBar2);
  Write(kCommand, 2, kMemory | kBusMaster);
  EXPECT_TRUE(IsMapped(kBar0));
  EXPECT_TRUE(IsMapped(kBar2));
}

TEST_F(PciFunctionTest, DoorbellsBypassTheHandlerAndFollowTheirBar) {
  Assign();
  EXPECT_TRUE(function_->doorbells_bypass_handler());

  EXPECT_TRUE(MmioWrite<uint32_t>(kBar0 + 0x24, 1));
  EXPECT_EQ(registers_.events[1].Drain(), 1u);
  Write(Bar(0), 4, kBar0 + 0x8000);
  EXPECT_FALSE(MmioWrite<uint32_t>(kBar0 + 0x24, 1));
  EXPECT_TRUE(MmioWrite<uint32_t>(kBar0 + 0x8000 + 0x20, 1));

  EXPECT_EQ(registers_.events[0].Drain(), 1u);
  EXPECT_EQ(registers_.events[1].Drain(), 0u);
  EXPECT_EQ(registers_.writes.load(), 0);
  Write(kCommand, 2, 0);
  EXPECT_FALSE(MmioWrite<uint32_t>(kBar0 + 0x8000 + 0x20, 1));
}

TEST_F(PciFunctionTest, RefusedDoorbellRollsTheWholeBarBack) {
  Assign();
  // Alone in the place where the second doorbell would go.
  const EventFd event = EventFd::Create().value();
  ASSERT_OK_AND_ASSIGN(const auto bell, bus_.MapDoorbell("other", 4, &event));
  ASSERT_OK(bell->SetBase(GuestAddress{kBar0 + 0x8000 + 0x24}));

  Write(Bar(0), 4, kBar0 + 0x8000);

  EXPECT_EQ(Read(Bar(0), 4), kBar0);
  EXPECT_FALSE(IsMapped(kBar0 + 0x8000));
  EXPECT_TRUE(MmioWrite<uint32_t>(kBar0 + 0x20, 1));
  EXPECT_TRUE(MmioWrite<uint32_t>(kBar0 + 0x24, 1));
  EXPECT_EQ(registers_.events[0].Drain(), 1u);
  EXPECT_EQ(registers_.events[1].Drain(), 1u);
  EXPECT_EQ(event.Drain(), 0u);
  EXPECT_EQ(registers_.writes.load(), 0);
}

TEST(PciFunctionWithoutDoorbellsTest, HandlerSignalsWhenTheBusCannot) {
  DispatchMmioBus bus(/*with_doorbells=*/false);
  FakeInterruptController fake;
  const auto function = TestFunction::Create("dev");
  ASSERT_OK(function->Connect(kPlace, &bus, &fake));
  function->WriteConfig(Bar(0), 4, kBar0);
  function->WriteConfig(kCommand, 2, kMemory);

  EXPECT_FALSE(function->doorbells_bypass_handler());
  bus.Write({kBar0 + 0x20}, std::array<std::byte, 4>{});

  EXPECT_EQ(function->registers().events[0].Drain(), 1u);
  EXPECT_EQ(function->registers().writes.load(), 1);
}

TEST_F(PciFunctionTest, MsixBarServesTableAndPendingBitsAndNothingElse) {
  Assign();
  function_->msix().Trigger(1);

  EXPECT_EQ(MmioRead<uint32_t>(kBar2 + 12), 1u);
  EXPECT_EQ(MmioRead<uint64_t>(kBar2 + 0x800), 0b010u);
  MmioWrite<uint64_t>(kBar2 + 0x800, 0);  // read-only
  EXPECT_EQ(MmioRead<uint8_t>(kBar2 + 0x800), 0b010u);
  MmioWrite<uint64_t>(kBar2 + 0x400, UINT64_MAX);
  EXPECT_EQ(MmioRead<uint64_t>(kBar2 + 0x400), 0u);
  // Half in the pending array, half in front of it.
  EXPECT_EQ(MmioRead<uint32_t>(kBar2 + 0x7FE), 0b010u << 16);
}

TEST_F(PciFunctionTest, InterruptGoesOutWithTheRequesterIdOfItsPlace) {
  Assign();
  OpenVector0();

  function_->msix().Trigger(0);

  EXPECT_THAT(fake_.raised(0), ElementsAre(MsiMessage{.address = 0xFEE0'0000,
                                                      .data = 0x41,
                                                      .requester_id = 3 << 3}));
}

TEST_F(PciFunctionTest, FunctionMaskAndEnableHoldAndReleaseInterrupts) {
  Assign();
  OpenVector0();
  Write(kMessageControl, 2, kMsixEnable | kFunctionMask);
  function_->msix().Trigger(0);
  EXPECT_EQ(fake_.count(0), 0u);

  Write(kMessageControl + 1, 1, kMsixEnable >> 8);  // as a byte
  EXPECT_EQ(fake_.count(0), 1u);

  Write(kMsixCapability, 4, 0);
  function_->msix().Trigger(0);
  EXPECT_EQ(fake_.count(0), 1u);
}

TEST_F(PciFunctionTest, BusMasterSwitchesGateAndInterruptsBeforeTheHook) {
  Assign();
  OpenVector0();
  EXPECT_TRUE(function_->dma_gate()->open());
  std::vector<bool> gate_at_hook;
  std::vector<uint64_t> raised_at_hook;
  function_->on_bus_master = [&](bool) {
    gate_at_hook.push_back(function_->dma_gate()->open());
    function_->msix().Trigger(0);
    raised_at_hook.push_back(fake_.count(0));
  };

  Write(kCommand, 2, kMemory);               // held: the trigger is pending
  Write(kCommand, 2, kMemory | kBusMaster);  // delivered, then open

  EXPECT_THAT(gate_at_hook, ElementsAre(false, true));
  EXPECT_THAT(raised_at_hook, ElementsAre(0u, 2u));
  EXPECT_THAT(function_->bus_master_calls(), ElementsAre(true, false, true));
}

TEST_F(PciFunctionTest, HookIsCalledOnlyForAChange) {
  Write(kCommand, 2, kMemory);
  Write(kCommand, 2, 0);
  EXPECT_THAT(function_->bus_master_calls(), IsEmpty());

  Write(kCommand, 2, kBusMaster);
  Write(kCommand, 2, kBusMaster | kMemory);
  EXPECT_THAT(function_->bus_master_calls(), ElementsAre(true));
}

TEST_F(PciFunctionTest, ResetBringsEverythingToPowerOn) {
  Assign();
  OpenVector0();
  Write(0x3C, 1, 11);
  Write(kMessageControl, 2, kMsixEnable | kFunctionMask);
  function_->msix().Trigger(0);
  bool gate_at_hook = true;
  function_->on_reset = [&] { gate_at_hook = function_->dma_gate()->open(); };

  function_->Reset();

  EXPECT_EQ(function_->resets(), 1);
  EXPECT_FALSE(gate_at_hook);
  EXPECT_FALSE(function_->dma_gate()->open());
  EXPECT_EQ(Read(kCommand, 4), 0x0010'0000u);
  EXPECT_EQ(Read(Bar(0), 4), 0u);
  EXPECT_EQ(Read(Bar(4), 4), 0xCu);
  EXPECT_EQ(Read(Bar(5), 4), 0u);
  EXPECT_EQ(Read(0x3C, 1), 0u);
  EXPECT_EQ(Read(kMessageControl, 2), TestFunction::kVectors - 1);
  EXPECT_FALSE(IsMapped(kBar0));
  EXPECT_FALSE(IsMapped(kBar1));
  // The switch that Reset turned is reported by OnReset alone.
  EXPECT_THAT(function_->bus_master_calls(), ElementsAre(true));

  Assign();
  EXPECT_EQ(MmioRead<uint32_t>(kBar2 + 12), 1u);
  EXPECT_EQ(MmioRead<uint64_t>(kBar2 + 0x800), 0u);
  OpenVector0();
  EXPECT_EQ(fake_.count(0), 0u);  // the pending one is gone
}

TEST_F(PciFunctionTest, DisconnectTakesEverythingOffAndConnectStartsAfresh) {
  Assign();
  OpenVector0();

  function_->Disconnect();

  EXPECT_FALSE(function_->dma_gate()->open());
  EXPECT_FALSE(IsMapped(kBar0));
  EXPECT_EQ(fake_.routes_alive(), 0u);

  Connect();
  EXPECT_EQ(Read(kCommand, 2), 0u);
  EXPECT_EQ(Read(Bar(0), 4), 0u);
  Assign();
  EXPECT_TRUE(IsMapped(kBar0));
  EXPECT_EQ(MmioRead<uint32_t>(kBar2 + 12), 1u);
}

TEST_F(PciFunctionTest, FailedConnectLeavesNothingBehind) {
  function_->Disconnect();
  fake_.FailCreateAfter(1);

  EXPECT_THAT(function_->Connect(kPlace, &bus_, &fake_),
              StatusIs(absl::StatusCode::kResourceExhausted));

  EXPECT_EQ(fake_.routes_alive(), 0u);
  fake_.FailCreateAfter(std::nullopt);
  Connect();
  Assign();
  EXPECT_TRUE(IsMapped(kBar0));
}

TEST_F(PciFunctionTest, HookMayWriteTheConfigAndIsCalledAgainInOrder) {
  std::vector<bool> entered;
  function_->on_bus_master = [&](bool enabled) {
    entered.push_back(enabled);
    if (enabled) Write(kCommand, 2, 0);
    // The register has changed; the call for it comes after this one.
    EXPECT_EQ(Read(kCommand, 2), 0u);
  };

  Write(kCommand, 2, kBusMaster);

  EXPECT_THAT(entered, ElementsAre(true, false));
  EXPECT_FALSE(function_->dma_gate()->open());
}

// An in-process guest may run its interrupt handler right in the sink.
TEST_F(PciFunctionTest, InterruptSinkMayWriteTheConfig) {
  function_->Disconnect();
  int calls = 0;
  InProcessInterruptController controller([&](const MsiMessage&) {
    ++calls;
    Write(kMessageControl, 2, kMsixEnable | kFunctionMask);
  });
  ASSERT_OK(function_->Connect(kPlace, &bus_, &controller));
  Assign();
  OpenVector0();
  Write(kCommand, 2, kMemory);
  function_->msix().Trigger(0);

  Write(kCommand, 2, kMemory | kBusMaster);
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(Read(kMessageControl, 2),
            kMsixEnable | kFunctionMask | (TestFunction::kVectors - 1));
  function_->msix().Trigger(0);  // masked by now

  EXPECT_EQ(calls, 1);
  function_->Disconnect();
}

class PciFunctionDeathTest : public ::testing::Test {
 protected:
  class Minimal final : public PciFunction {
   public:
    Minimal(std::vector<PciBar> bars, const MsixLayout& msix)
        : PciFunction("dev", {}, std::move(bars), msix) {}

   private:
    void OnBusMasterChanged(bool) override {}
    void OnReset() override {}
  };
  static void Make(std::vector<PciBar> bars, const MsixLayout& msix = {}) {
    Minimal function(std::move(bars), msix);
  }
};

TEST_F(PciFunctionDeathTest, ImpossibleDescriptionsAreOurBug) {
  TestRegisters handler;
  const PciBar good = {.info = {.index = 1, .size_bytes = 4096},
                       .handler = &handler};
  Make({good});
  PciBar odd = good;
  odd.info.size_bytes = 5000;
  EXPECT_DEATH(Make({odd}), "size_bytes");
  PciBar taken = good;
  taken.info.index = 0;  // that of MSI-X
  EXPECT_DEATH(Make({taken}), "one index");
  PciBar wide = good;
  wide.info.index = 5;
  wide.info.is_64bit = true;
  EXPECT_DEATH(Make({wide}), "kMaxBars");
  PciBar empty = good;
  empty.handler = nullptr;
  EXPECT_DEATH(Make({empty}), "handler");
  EXPECT_DEATH(Make({}, {.vectors = 65}), "vectors");
  EXPECT_DEATH(Make({}, {.table_offset = 0x800}), "pending");
  EXPECT_DEATH(Make({}, {.pending_offset = 0x1000}), "bar_size_bytes");
}

TEST_F(PciFunctionDeathTest, UpperHalfOfA64BitBarIsTaken) {
  TestRegisters handler;
  EXPECT_DEATH(
      Make({{.info = {.index = 1, .size_bytes = 4096, .is_64bit = true},
             .handler = &handler},
            {.info = {.index = 2, .size_bytes = 4096}, .handler = &handler}}),
      "one index");
}

}  // namespace
}  // namespace vmsg::vmm
