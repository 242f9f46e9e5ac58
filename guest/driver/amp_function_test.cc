#include "guest/driver/amp_function.h"

#include <cstddef>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/fifo.h"
#include "guest/driver/testing/fake_platform.h"

namespace vmsg::guest {
namespace {

constexpr PciLocation kWhere{1, 0};
constexpr uint64_t kRegisters = 0xE0000000;
constexpr uint64_t kFifos = 0xE0100000;
constexpr uint64_t kTable = 0xE0200000;

class AmpFunctionTest : public testing::Test {
 protected:
  // A function with `vectors` MSI-X vectors and a BAR 1 of `fifo_bytes`.
  void Add(uint32_t vectors, uint32_t fifo_bytes) {
    FakeConfigSpace& config = platform_.function(kWhere);
    config.Set(0x00, 4, 0x903910EE);
    config.Set(0x06, 2, 0x10);
    config.writable[0x04] = 0x06;
    config.SetBar(0, 0x4000, 0, kRegisters);
    config.SetBar(1, fifo_bytes, 8, kFifos);
    config.SetBar(2, 0x1000, 0, kTable);
    config.Set(0x34, 1, 0x40);
    config.Set(0x40, 1, 0x11);
    config.Set(0x42, 2, vectors - 1);
    config.Set(0x44, 4, 2);
    config.writable[0x43] = 0xC0;
    platform_.registers[kRegisters] = 1;
    memory_.resize(fifo_bytes);
    platform_.memory_address = kFifos;
    platform_.memory = memory_;
  }
  uint32_t Command() { return platform_.ReadConfig(kWhere, 0x04, 2); }
  bool Masked(uint32_t vector) {
    return (platform_.registers[kTable + 16 * vector + 12] & 1) != 0;
  }

  FakePlatform platform_;
  std::vector<std::byte> memory_;
  AmpFunction function_;
};

TEST_F(AmpFunctionTest, OpensAsManyFifosAsThereAreVectors) {
  Add(3, 0x10000);
  ASSERT_EQ(function_.Open(&platform_, kWhere), Error::kNone);
  EXPECT_EQ(function_.num_fifos(), 3u);
  EXPECT_EQ(function_.version(), 1u);
  EXPECT_EQ(Command(), 0x6u);
  EXPECT_EQ(platform_.ReadConfig(kWhere, 0x42, 2), 0x8002u);
  for (uint32_t n = 0; n < 3; ++n) {
    EXPECT_EQ(function_.window(n), memory_.data() + n * kFifoWindowBytes);
    EXPECT_EQ(function_.doorbell_address(n), kRegisters + 0x20 + 4 * n);
    EXPECT_FALSE(Masked(n));
    EXPECT_EQ(platform_.registers[kTable + 16 * n + 8],
              function_.interrupt(n).data);
  }
}

TEST_F(AmpFunctionTest, LeavesFifosPastItsStorageAlone) {
  Add(12, 0x40000);
  ASSERT_EQ(function_.Open(&platform_, kWhere), Error::kNone);
  EXPECT_EQ(function_.num_fifos(), AmpFunction::kMaxFifos);
  EXPECT_EQ(function_.vectors(), 12u);
  EXPECT_FALSE(Masked(7));
  EXPECT_TRUE(Masked(8));
  EXPECT_TRUE(Masked(11));
}

TEST_F(AmpFunctionTest, PlacesBarsThatNobodyHasPlaced) {
  Add(2, 0x8000);
  FakeConfigSpace& config = platform_.function(kWhere);
  for (uint16_t bar = 0; bar < 3; ++bar) {
    config.Set(static_cast<uint16_t>(0x10 + 4 * bar), 4, 0);
  }
  platform_.place_bar_next = 0xD0000000;
  platform_.memory_address = 0xD0008000;  // the second, aligned to its size
  platform_.registers[0xD0000000] = 1;
  ASSERT_EQ(function_.Open(&platform_, kWhere), Error::kNone);
  EXPECT_EQ(function_.doorbell_address(0), 0xD0000020u);
  EXPECT_EQ(function_.window(0), memory_.data());
}

TEST_F(AmpFunctionTest, OtherFunctionsAreNotOpened) {
  Add(2, 0x8000);
  platform_.function(kWhere).Set(0x00, 4, 0x903810EE);
  EXPECT_EQ(function_.Open(&platform_, kWhere), Error::kNotFound);
  EXPECT_EQ(function_.Open(&platform_, {2, 0}), Error::kNotFound);
  EXPECT_EQ(Command(), 0u);
}

TEST_F(AmpFunctionTest, MoreVectorsThanWindowsIsBadHardware) {
  Add(3, 0x8000);
  EXPECT_EQ(function_.Open(&platform_, kWhere), Error::kBadHardware);
  EXPECT_EQ(function_.num_fifos(), 0u);
  EXPECT_EQ(Command() & 0x4, 0u);
}

TEST_F(AmpFunctionTest, UnknownRegisterVersionIsRefused) {
  Add(2, 0x8000);
  platform_.registers[kRegisters] = 2;
  EXPECT_EQ(function_.Open(&platform_, kWhere), Error::kBadHardware);
}

TEST_F(AmpFunctionTest, MissingBarIsReported) {
  Add(2, 0x8000);
  platform_.function(kWhere).SetBar(1, 0, 0, 0);
  EXPECT_EQ(function_.Open(&platform_, kWhere), Error::kNotFound);
}

TEST_F(AmpFunctionTest, MissingMsixIsReported) {
  Add(2, 0x8000);
  platform_.function(kWhere).Set(0x40, 1, 0x05);
  EXPECT_EQ(function_.Open(&platform_, kWhere), Error::kNotFound);
}

TEST_F(AmpFunctionTest, FailureGivesBackTheInterrupts) {
  Add(3, 0x10000);
  platform_.interrupts_left = 2;
  EXPECT_EQ(function_.Open(&platform_, kWhere), Error::kNoMemory);
  EXPECT_EQ(platform_.released(), (std::vector<uint32_t>{0, 1}));
  EXPECT_TRUE(Masked(0));
  EXPECT_TRUE(Masked(1));
  EXPECT_EQ(Command() & 0x4, 0u);
}

TEST_F(AmpFunctionTest, CloseEndsDmaAndInterrupts) {
  Add(2, 0x8000);
  ASSERT_EQ(function_.Open(&platform_, kWhere), Error::kNone);
  function_.Close();
  EXPECT_EQ(Command() & 0x4, 0u);
  EXPECT_TRUE(Masked(0));
  EXPECT_TRUE(Masked(1));
  EXPECT_EQ(platform_.ReadConfig(kWhere, 0x42, 2) & 0x8000, 0u);
  EXPECT_EQ(platform_.released(), (std::vector<uint32_t>{0, 1}));
  function_.Close();
  EXPECT_EQ(platform_.released().size(), 2u);
  EXPECT_EQ(function_.Open(&platform_, kWhere), Error::kNone);
}

}  // namespace
}  // namespace vmsg::guest
