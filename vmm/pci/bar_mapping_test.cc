#include "vmm/pci/bar_mapping.h"

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/pci/recording_bus.h"
#include "vmm/pci/test_function.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

constexpr GuestAddress kOld{0xE000'0000};
constexpr GuestAddress kNew{0xE100'0000};
constexpr char kRange[] = "dev bar0";
constexpr char kFirst[] = "dev bar0 doorbell 20";
constexpr char kSecond[] = "dev bar0 doorbell 24";

class BarMappingTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PciBar bar = {.info = {.index = 0, .size_bytes = 0x4000},
                  .handler = &registers_,
                  .doorbells = {{0x20, &registers_.events[0]},
                                {0x24, &registers_.events[1]}}};
    ASSERT_OK_AND_ASSIGN(mapping_, BarMapping::Create("dev bar0", bar, &bus_));
    ASSERT_OK(mapping_->SetBase(kOld));
  }
  void Refuse(std::string name, std::optional<GuestAddress> base) {
    bus_.set_refuse([=](const std::string& n, std::optional<GuestAddress> b) {
      return n == name && b == base;
    });
  }
  void ExpectAllAt(std::optional<GuestAddress> base) {
    const auto at = [&](uint64_t offset) -> std::optional<GuestAddress> {
      if (!base.has_value()) return std::nullopt;
      return GuestAddress{base->value + offset};
    };
    EXPECT_EQ(mapping_->base(), base);
    EXPECT_EQ(bus_.base(kRange), base);
    EXPECT_EQ(bus_.base(kFirst), at(0x20));
    EXPECT_EQ(bus_.base(kSecond), at(0x24));
  }

  DispatchMmioBus inner_;
  RecordingBus bus_{&inner_};
  TestRegisters registers_;
  std::unique_ptr<BarMapping> mapping_;
};

TEST_F(BarMappingTest, MovesRangeAndDoorbellsTogether) {
  ASSERT_OK(mapping_->SetBase(kNew));
  ExpectAllAt(kNew);
  ASSERT_OK(mapping_->SetBase(std::nullopt));
  ExpectAllAt(std::nullopt);
}

TEST_F(BarMappingTest, RefusedRangeMovesNothing) {
  Refuse(kRange, kNew);

  EXPECT_THAT(mapping_->SetBase(kNew),
              StatusIs(absl::StatusCode::kResourceExhausted));

  ExpectAllAt(kOld);
}

TEST_F(BarMappingTest, RefusedLastDoorbellTakesTheOthersBack) {
  Refuse(kSecond, GuestAddress{kNew.value + 0x24});

  EXPECT_THAT(mapping_->SetBase(kNew),
              StatusIs(absl::StatusCode::kResourceExhausted));

  ExpectAllAt(kOld);
}

TEST_F(BarMappingTest, RefusedDoorbellOfAnUnplacedBarLeavesItUnplaced) {
  ASSERT_OK(mapping_->SetBase(std::nullopt));
  Refuse(kSecond, GuestAddress{kNew.value + 0x24});

  EXPECT_THAT(mapping_->SetBase(kNew),
              StatusIs(absl::StatusCode::kResourceExhausted));

  ExpectAllAt(std::nullopt);
}

TEST_F(BarMappingTest, RefusedWayBackEndsNowhere) {
  bus_.set_refuse([](const std::string& name, std::optional<GuestAddress> at) {
    return (name == kSecond && at == GuestAddress{kNew.value + 0x24}) ||
           (name == kRange && at == kOld);
  });

  EXPECT_THAT(mapping_->SetBase(kNew),
              StatusIs(absl::StatusCode::kResourceExhausted));

  ExpectAllAt(std::nullopt);
  bus_.set_refuse(nullptr);
  ASSERT_OK(mapping_->SetBase(kOld));
  ExpectAllAt(kOld);
}

TEST_F(BarMappingTest, SamePlaceAsksTheBusNothing) {
  bus_.set_refuse(
      [](const std::string&, std::optional<GuestAddress>) { return true; });

  EXPECT_OK(mapping_->SetBase(kOld));
}

TEST(BarMappingWithoutDoorbellsTest, HandlerAloneIsMapped) {
  DispatchMmioBus inner(/*with_doorbells=*/false);
  RecordingBus bus(&inner);
  TestRegisters registers;
  const PciBar bar = {.info = {.index = 0, .size_bytes = 0x4000},
                      .handler = &registers,
                      .doorbells = {{0x20, &registers.events[0]}}};

  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       BarMapping::Create("dev bar0", bar, &bus));

  EXPECT_FALSE(mapping->has_doorbells());
  EXPECT_EQ(bus.places().size(), 1u);
}

}  // namespace
}  // namespace vmsg::vmm
