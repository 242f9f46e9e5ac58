// The base address registers of PciFunction.

#include <array>
#include <memory>
#include <span>

#include "gtest/gtest.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/pci/pci_function_fixture.h"
#include "vmm/pci/test_function.h"
#include "vmm/testing/fake_interrupt_controller.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

class PciFunctionBarTest : public PciFunctionFixture {};

TEST_F(PciFunctionBarTest, SizingProbesReadBackTheSizeMask) {
  for (int bar = 0; bar < 6; ++bar) Write(Bar(bar), 4, 0xFFFF'FFFF);

  EXPECT_EQ(Read(Bar(0), 4), 0xFFFF'C000u);
  EXPECT_EQ(Read(Bar(1), 4), 0xFFFF'E008u);  // prefetchable
  EXPECT_EQ(Read(Bar(2), 4), 0xFFFF'F000u);
  EXPECT_EQ(Read(Bar(3), 4), 0u);
  EXPECT_EQ(Read(Bar(4), 4), 0xFFF0'000Cu);  // 64-bit, prefetchable
  EXPECT_EQ(Read(Bar(5), 4), 0xFFFF'FFFFu);
}

TEST_F(PciFunctionBarTest, DescribesItsBarsInOrder) {
  const std::span<const PciBarInfo> bars = function_->bars();

  ASSERT_EQ(bars.size(), 4u);
  EXPECT_EQ(bars[0].index, 0);
  EXPECT_EQ(bars[1].index, 1);
  EXPECT_EQ(bars[2].index, 2);
  EXPECT_EQ(bars[2].size_bytes, 4096u);
  EXPECT_EQ(bars[3].index, 4);
  EXPECT_TRUE(bars[3].is_64bit);
}

TEST_F(PciFunctionBarTest, BarsAreMappedWhileDecodingIsOn) {
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

TEST_F(PciFunctionBarTest, BarWithAddressZeroIsNowhere) {
  Write(kCommand, 2, kMemory);

  EXPECT_FALSE(IsMapped(0));

  Write(Bar(0), 4, kBar0);
  EXPECT_TRUE(IsMapped(kBar0));
  Write(Bar(0), 4, 0);
  EXPECT_FALSE(IsMapped(kBar0));
  EXPECT_FALSE(IsMapped(0));
}

TEST_F(PciFunctionBarTest, MovedBarAnswersAtItsNewPlaceOnly) {
  Assign();

  Write(Bar(0), 4, kBar0 + 0x8000);

  EXPECT_FALSE(IsMapped(kBar0));
  EXPECT_TRUE(IsMapped(kBar0 + 0x8000));
}

TEST_F(PciFunctionBarTest, Bar64MovesInTwoHalves) {
  Assign();

  Write(Bar(5), 4, 2);

  EXPECT_FALSE(IsMapped(kBar4));
  EXPECT_TRUE(IsMapped(0x2'8000'0000));
  Write(Bar(4), 4, 0x9000'0000);
  EXPECT_TRUE(IsMapped(0x2'9000'0000));
}

TEST_F(PciFunctionBarTest, SizingProbeLeavesTheMappingWhereItIs) {
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

TEST_F(PciFunctionBarTest, BarThatIsBeingProbedIsNotMappedByDecoding) {
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
TEST_F(PciFunctionBarTest, AddressThatEqualsTheSizeMaskIsAnAddress) {
  Assign();

  Write(Bar(0), 4, 0xFFFF'C000);

  EXPECT_TRUE(IsMapped(0xFFFF'C000));
  EXPECT_FALSE(IsMapped(kBar0));
}

TEST_F(PciFunctionBarTest, RefusedMoveRollsTheRegisterBackAndCounts) {
  Assign();
  ASSERT_OK_AND_ASSIGN(const auto other,
                       bus_.MapHandler("other", 0x4000, &registers_));
  ASSERT_OK(other->SetBase(GuestAddress{kBar0 + 0x4000}));

  Write(Bar(0), 4, kBar0 + 0x4000);

  EXPECT_EQ(Read(Bar(0), 4), kBar0);
  EXPECT_TRUE(IsMapped(kBar0));
  EXPECT_EQ(function_->bar_refusals().value(), 1u);
}

TEST_F(PciFunctionBarTest, RefusedMoveAfterAProbeGoesBackToTheOldAddress) {
  Assign();
  Write(Bar(0), 4, 0xFFFF'FFFF);

  Write(Bar(0), 4, kBar1);  // where BAR 1 is

  EXPECT_EQ(Read(Bar(0), 4), kBar0);
  EXPECT_TRUE(IsMapped(kBar0));
}

TEST_F(PciFunctionBarTest, RefusedMoveOf64BitBarRollsBothHalvesBack) {
  Assign();
  ASSERT_OK_AND_ASSIGN(const auto other,
                       bus_.MapHandler("other", 0x1000, &registers_));
  ASSERT_OK(other->SetBase(GuestAddress{0x3'8000'0000}));

  Write(Bar(5), 4, 3);

  EXPECT_EQ(Read(Bar(5), 4), 1u);
  EXPECT_EQ(Read(Bar(4), 4), 0x8000'000Cu);
  EXPECT_TRUE(IsMapped(kBar4));
}

TEST_F(PciFunctionBarTest, DecodingStaysOffWhenTheBusRefusesABar) {
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

TEST_F(PciFunctionBarTest, DoorbellsBypassTheHandlerAndFollowTheirBar) {
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

TEST_F(PciFunctionBarTest, RefusedDoorbellRollsTheWholeBarBack) {
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

}  // namespace
}  // namespace vmsg::vmm
