#include "vmm/pci/pci_function.h"

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/interrupt/in_process_interrupt_controller.h"
#include "vmm/pci/pci_function_fixture.h"
#include "vmm/pci/test_function.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

class PciFunctionTest : public PciFunctionFixture {};

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
