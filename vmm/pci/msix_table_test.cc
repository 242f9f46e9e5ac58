#include "vmm/pci/msix_table.h"

#include <array>
#include <cstring>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/testing/fake_interrupt_controller.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint32_t kVectors = 3;
constexpr uint16_t kRequester = 0x0018;
// Offsets in an entry; PCI Local Bus 3.0, 6.8.2.6.
constexpr uint64_t kAddressLow = 0;
constexpr uint64_t kData = 8;
constexpr uint64_t kControl = 12;
constexpr uint64_t kEntrySize = 16;

MsiMessage MessageOf(uint32_t vector) {
  return {.address = 0xFEE0'0000 + 0x1000 * vector,
          .data = 0x40 + vector,
          .requester_id = kRequester};
}

template <typename T>
void Store(MsixTable& table, uint64_t offset, T value) {
  std::array<std::byte, sizeof(T)> bytes;
  std::memcpy(bytes.data(), &value, sizeof(T));
  table.WriteTable(offset, bytes);
}
template <typename T>
T Load(const MsixTable& table, uint64_t offset) {
  std::array<std::byte, sizeof(T)> bytes;
  table.ReadTable(offset, bytes);
  T value;
  std::memcpy(&value, bytes.data(), sizeof(T));
  return value;
}
uint64_t Pending(const MsixTable& table) {
  std::array<std::byte, 8> bytes;
  table.ReadPending(0, bytes);
  uint64_t value;
  std::memcpy(&value, bytes.data(), 8);
  return value;
}

void Program(MsixTable& table, uint32_t vector) {
  const MsiMessage message = MessageOf(vector);
  Store<uint64_t>(table, vector * kEntrySize + kAddressLow, message.address);
  Store<uint32_t>(table, vector * kEntrySize + kData, message.data);
}
void Mask(MsixTable& table, uint32_t vector, bool masked) {
  Store<uint32_t>(table, vector * kEntrySize + kControl, masked ? 1 : 0);
}

class MsixTableTest : public ::testing::Test {
 protected:
  MsixTableTest() { EXPECT_OK(table_.Connect(&fake_, kRequester)); }

  // Every vector programmed, un-masked and enabled.
  void OpenAll() {
    for (uint32_t i = 0; i < kVectors; ++i) {
      Program(table_, i);
      Mask(table_, i, false);
    }
    table_.SetControl(/*enabled=*/true, /*function_masked=*/false);
    table_.SetBusMaster(true);
  }

  FakeInterruptController fake_;
  MsixTable table_{kVectors};
};

TEST_F(MsixTableTest, OpenVectorGoesThroughWithItsOwnMessage) {
  OpenAll();

  table_.Trigger(1);
  table_.Trigger(0);

  EXPECT_THAT(fake_.raised(1), ElementsAre(MessageOf(1)));
  EXPECT_THAT(fake_.raised(0), ElementsAre(MessageOf(0)));
  EXPECT_EQ(Pending(table_), 0u);
  EXPECT_EQ(table_.stats(1).triggers, 1u);
  EXPECT_EQ(table_.stats(1).delivered, 1u);
}

TEST_F(MsixTableTest, StartsWithEverythingHeldBack) {
  table_.Trigger(2);

  EXPECT_THAT(fake_.raised(), IsEmpty());
  EXPECT_EQ(Pending(table_), 0b100u);
  EXPECT_EQ(Load<uint32_t>(table_, 2 * kEntrySize + kControl), 1u);
}

TEST_F(MsixTableTest, UnmaskDeliversPendingVectorExactlyOnce) {
  OpenAll();
  Mask(table_, 0, true);

  table_.Trigger(0);
  table_.Trigger(0);
  EXPECT_THAT(fake_.raised(), IsEmpty());
  EXPECT_EQ(Pending(table_), 0b001u);
  Mask(table_, 0, false);
  EXPECT_EQ(fake_.count(0), 1u);
  EXPECT_EQ(Pending(table_), 0u);
  Mask(table_, 0, true);
  Mask(table_, 0, false);

  EXPECT_EQ(fake_.count(0), 1u);
  EXPECT_EQ(table_.stats(0).merged, 1u);
}

TEST_F(MsixTableTest, EveryReasonHoldsBackAndTheEndOfTheLastDelivers) {
  OpenAll();
  Mask(table_, 0, true);
  table_.SetControl(false, true);
  table_.SetBusMaster(false);
  table_.Trigger(0);

  table_.SetControl(true, true);
  table_.SetBusMaster(true);
  Mask(table_, 0, false);
  EXPECT_THAT(fake_.raised(), IsEmpty());
  table_.SetControl(true, false);

  EXPECT_EQ(fake_.count(0), 1u);
}

TEST_F(MsixTableTest, BusMasterOffHoldsAndOnDelivers) {
  OpenAll();
  table_.SetBusMaster(false);
  table_.Trigger(0);
  table_.Trigger(2);
  EXPECT_THAT(fake_.raised(), IsEmpty());
  EXPECT_EQ(Pending(table_), 0b101u);

  table_.SetBusMaster(true);

  EXPECT_EQ(fake_.count(0), 1u);
  EXPECT_EQ(fake_.count(2), 1u);
  EXPECT_EQ(Pending(table_), 0u);
}

TEST_F(MsixTableTest, DisablingHoldsAndEnablingDelivers) {
  OpenAll();
  table_.SetControl(false, false);
  table_.Trigger(1);
  EXPECT_THAT(fake_.raised(), IsEmpty());

  table_.SetControl(true, false);

  EXPECT_EQ(fake_.count(1), 1u);
}

TEST_F(MsixTableTest, UnmaskOfOneVectorLeavesTheOthersPending) {
  OpenAll();
  Mask(table_, 0, true);
  Mask(table_, 1, true);
  table_.Trigger(0);
  table_.Trigger(1);

  Mask(table_, 1, false);

  EXPECT_EQ(fake_.count(0), 0u);
  EXPECT_EQ(fake_.count(1), 1u);
  EXPECT_EQ(Pending(table_), 0b001u);
}

TEST_F(MsixTableTest, PendingVectorIsDeliveredWithTheMessageOfTheUnmask) {
  OpenAll();
  Mask(table_, 0, true);
  table_.Trigger(0);
  Store<uint32_t>(table_, kData, 0x77);

  Mask(table_, 0, false);

  MsiMessage expected = MessageOf(0);
  expected.data = 0x77;
  EXPECT_THAT(fake_.raised(0), ElementsAre(expected));
}

TEST_F(MsixTableTest, RouteIsUpdatedOnlyWhenTheMessageChanged) {
  OpenAll();
  const uint64_t before = fake_.updates(0);

  Mask(table_, 0, true);
  Mask(table_, 0, false);
  table_.SetControl(false, false);
  table_.SetControl(true, false);
  Program(table_, 0);
  EXPECT_EQ(fake_.updates(0), before);

  Mask(table_, 0, true);
  Store<uint32_t>(table_, kData, 0x50);
  EXPECT_EQ(fake_.updates(0), before);
  Mask(table_, 0, false);
  EXPECT_EQ(fake_.updates(0), before + 1);
}

TEST_F(MsixTableTest, ChangeOfAnOpenEntryTakesEffectAtOnce) {
  OpenAll();
  Store<uint32_t>(table_, kData, 0x60);

  table_.Trigger(0);

  EXPECT_EQ(fake_.raised(0).at(0).data, 0x60u);
}

TEST_F(MsixTableTest, RefusedMessageLosesTriggersAndCountsThem) {
  OpenAll();
  fake_.FailUpdates(absl::StatusCode::kInvalidArgument);
  Mask(table_, 0, true);
  table_.Trigger(0);  // pending when the message is refused
  Store<uint64_t>(table_, kAddressLow, 0x1000);
  Mask(table_, 0, false);
  table_.Trigger(0);

  // Above all not with the old message.
  EXPECT_EQ(fake_.count(0), 0u);
  EXPECT_EQ(table_.stats(0).failed, 2u);
  EXPECT_EQ(Pending(table_), 0u);
}

TEST_F(MsixTableTest, RefusedMessageIsOfferedAgainWithTheNextChange) {
  OpenAll();
  fake_.FailUpdates(absl::StatusCode::kResourceExhausted);
  Store<uint32_t>(table_, kData, 0x61);
  fake_.FailUpdates(absl::StatusCode::kOk);

  Mask(table_, 0, true);
  Mask(table_, 0, false);
  table_.Trigger(0);

  EXPECT_EQ(fake_.raised(0).at(0).data, 0x61u);
  EXPECT_EQ(table_.stats(0).failed, 0u);
}

TEST_F(MsixTableTest, RefusedTriggerIsCountedAndNotRetried) {
  OpenAll();
  fake_.FailTriggers(absl::StatusCode::kUnavailable);
  table_.Trigger(0);
  fake_.FailTriggers(absl::StatusCode::kOk);
  Mask(table_, 0, true);
  Mask(table_, 0, false);

  EXPECT_EQ(fake_.count(0), 0u);
  EXPECT_EQ(table_.stats(0).failed, 1u);
}

TEST_F(MsixTableTest, ResetMasksClearsAndDisables) {
  OpenAll();
  Mask(table_, 0, true);
  table_.Trigger(0);

  table_.Reset();

  EXPECT_EQ(Pending(table_), 0u);
  for (uint32_t i = 0; i < kVectors; ++i) {
    EXPECT_EQ(Load<uint64_t>(table_, i * kEntrySize), 0u);
    EXPECT_EQ(Load<uint32_t>(table_, i * kEntrySize + kData), 0u);
    EXPECT_EQ(Load<uint32_t>(table_, i * kEntrySize + kControl), 1u);
  }
  // Disabled: an open entry alone does not let a vector through.
  Mask(table_, 1, false);
  table_.Trigger(1);
  EXPECT_THAT(fake_.raised(), IsEmpty());
}

TEST_F(MsixTableTest, ResetDropsThePendingBitForGood) {
  OpenAll();
  Mask(table_, 0, true);
  table_.Trigger(0);
  table_.Reset();

  OpenAll();

  EXPECT_THAT(fake_.raised(), IsEmpty());
}

TEST_F(MsixTableTest, AnyWidthAndAlignmentIsServed) {
  Store<uint8_t>(table_, kAddressLow + 1, 0xAB);
  Store<uint16_t>(table_, kData + 2, 0xCDEF);
  // Across two fields and two entries.
  Store<uint64_t>(table_, kEntrySize - 4, 0x1122'3344'0000'0001);

  EXPECT_EQ(Load<uint32_t>(table_, kAddressLow), 0xAB00u);
  EXPECT_EQ(Load<uint8_t>(table_, kData + 3), 0xCDu);
  EXPECT_EQ(Load<uint32_t>(table_, kControl), 1u);
  EXPECT_EQ(Load<uint32_t>(table_, kEntrySize + kAddressLow), 0x1122'3344u);
  EXPECT_EQ(Load<uint16_t>(table_, kEntrySize + 1), 0x2233u);
}

TEST_F(MsixTableTest, ReservedBitsReadZero) {
  Store<uint32_t>(table_, kAddressLow, 0xFFFF'FFFF);
  Store<uint32_t>(table_, kControl, 0xFFFF'FFFF);
  EXPECT_EQ(Load<uint32_t>(table_, kAddressLow), 0xFFFF'FFFCu);
  EXPECT_EQ(Load<uint32_t>(table_, kControl), 1u);
}

TEST_F(MsixTableTest, AccessPastTheEndReadsZeroAndWritesNothing) {
  constexpr uint64_t kEnd = kVectors * kEntrySize;
  Store<uint64_t>(table_, kEnd, UINT64_MAX);
  Store<uint64_t>(table_, UINT64_MAX - 3, UINT64_MAX);
  // The half of it that is inside counts: it un-masks nothing but sets bit 0.
  Store<uint64_t>(table_, kEnd - 4, UINT64_MAX);

  EXPECT_EQ(Load<uint64_t>(table_, kEnd), 0u);
  EXPECT_EQ(Load<uint64_t>(table_, kEnd - 4), 1u);
  EXPECT_EQ(Load<uint64_t>(table_, UINT64_MAX), 0u);
  EXPECT_EQ(Load<uint64_t>(table_, 0), 0u);
}

TEST_F(MsixTableTest, PendingArrayCanBeReadInPieces) {
  table_.Trigger(0);
  table_.Trigger(2);
  std::array<std::byte, 1> one;
  std::array<std::byte, 4> across_end;

  table_.ReadPending(0, one);
  EXPECT_EQ(one[0], std::byte{0b101});
  table_.ReadPending(6, across_end);
  EXPECT_EQ(across_end, (std::array<std::byte, 4>{}));
  table_.ReadPending(UINT64_MAX, across_end);
  EXPECT_EQ(across_end, (std::array<std::byte, 4>{}));
}

TEST_F(MsixTableTest, LastOfSixtyFourVectorsWorks) {
  MsixTable large(MsixTable::kMaxVectors);
  ASSERT_OK(large.Connect(&fake_, kRequester));
  const uint32_t route = kVectors + 63;  // after those of the fixture
  large.Trigger(63);
  EXPECT_EQ(Pending(large), uint64_t{1} << 63);
  Program(large, 63);
  Mask(large, 63, false);
  large.SetControl(true, false);

  large.SetBusMaster(true);

  EXPECT_THAT(fake_.raised(route), ElementsAre(MessageOf(63)));
}

TEST_F(MsixTableTest, FailedConnectKeepsNoRoute) {
  MsixTable other(2);
  fake_.FailCreateAfter(1);

  EXPECT_THAT(other.Connect(&fake_, kRequester),
              StatusIs(absl::StatusCode::kResourceExhausted));

  EXPECT_EQ(fake_.routes_alive(), kVectors);
  fake_.FailCreateAfter(std::nullopt);
  EXPECT_OK(other.Connect(&fake_, kRequester));
}

TEST_F(MsixTableTest, DisconnectDropsRoutesAndHoldsUntilTheNextConnect) {
  OpenAll();
  table_.Disconnect();
  EXPECT_EQ(fake_.routes_alive(), 0u);
  table_.Trigger(0);
  Mask(table_, 0, true);
  Mask(table_, 0, false);
  EXPECT_THAT(fake_.raised(), IsEmpty());

  ASSERT_OK(table_.Connect(&fake_, kRequester + 8));

  MsiMessage expected = MessageOf(0);
  expected.requester_id = kRequester + 8;
  EXPECT_THAT(fake_.raised(kVectors), ElementsAre(expected));
}

TEST(MsixTableDeathTest, VectorsOutOfRangeAreOurBug) {
  EXPECT_DEATH(MsixTable(0), "vectors");
  EXPECT_DEATH(MsixTable(65), "vectors");
  MsixTable table(1);
  EXPECT_DEATH(table.Trigger(1), "index");
}

}  // namespace
}  // namespace vmsg::vmm
