#include "guest/driver/pci.h"

#include <array>
#include <cstddef>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/testing/fake_platform.h"

namespace vmsg::guest {
namespace {

constexpr PciLocation kWhere{3, 0};

class PciTest : public testing::Test {
 protected:
  // A function with ids, a command register that works and a capability list
  // that starts at 0x40.
  FakeConfigSpace& AddFunction(PciLocation where, uint32_t ids) {
    FakeConfigSpace& config = platform_.function(where);
    config.Set(0x00, 4, ids);
    config.Set(0x06, 2, 0x10);
    config.Set(0x34, 1, 0x40);
    config.writable[0x04] = 0x06;
    return config;
  }

  // MSI-X with `vectors` in BAR 2 at 0x40.
  void AddMsix(FakeConfigSpace* config, uint32_t vectors) {
    config->Set(0x40, 1, 0x11);
    config->Set(0x42, 2, vectors - 1);
    config->Set(0x44, 4, 2);
    config->Set(0x48, 4, 0x802);
    config->writable[0x43] = 0xC0;
  }

  FakePlatform platform_;
};

class Collector final : public PciVisitor {
 public:
  explicit Collector(size_t limit = 256) : limit_(limit) {}
  bool Visit(const PciFunctionInfo& info) override {
    found.push_back(info);
    return found.size() < limit_;
  }
  std::vector<PciFunctionInfo> found;

 private:
  const size_t limit_;
};

TEST_F(PciTest, VisitsFunctionsInOrder) {
  AddFunction({31, 0}, 0x00031234);
  FakeConfigSpace& multi = AddFunction({0, 0}, 0x00011234);
  multi.Set(0x0E, 1, 0x80);
  multi.Set(0x08, 4, 0x08800001);
  AddFunction({0, 5}, 0x00021234);
  Collector all;
  VisitPciFunctions(&platform_, &all);
  ASSERT_EQ(all.found.size(), 3u);
  EXPECT_EQ(all.found[0].device_id, 1);
  EXPECT_EQ(all.found[0].revision, 1);
  EXPECT_EQ(all.found[0].class_code, 0x088000u);
  EXPECT_EQ(all.found[1].where, (PciLocation{0, 5}));
  EXPECT_EQ(all.found[2].where, (PciLocation{31, 0}));
  Collector first(1);
  VisitPciFunctions(&platform_, &first);
  EXPECT_EQ(first.found.size(), 1u);
}

TEST_F(PciTest, HigherFunctionsNeedTheMultiFunctionBit) {
  AddFunction({0, 0}, 0x00011234);
  AddFunction({0, 1}, 0x00021234);  // an alias, to a single-function device
  Collector all;
  VisitPciFunctions(&platform_, &all);
  EXPECT_EQ(all.found.size(), 1u);
}

TEST_F(PciTest, FindsByIdsAndCountsThoseThatDoNotFit) {
  AddFunction({1, 0}, 0x903910EE);
  AddFunction({2, 0}, 0x903810EE);
  AddFunction({4, 0}, 0x903910EE);
  AddFunction({5, 0}, 0x903910EE);
  std::array<PciLocation, 2> found;
  EXPECT_EQ(FindPciFunctions(&platform_, 0x10EE, 0x9039, found), 3u);
  EXPECT_EQ(found[0], (PciLocation{1, 0}));
  EXPECT_EQ(found[1], (PciLocation{4, 0}));
}

TEST_F(PciTest, FindsACapabilityAlongTheList) {
  FakeConfigSpace& config = AddFunction(kWhere, 0x00011234);
  config.Set(0x40, 2, 0x5001);  // next 0x50
  config.Set(0x50, 2, 0x6305);  // next 0x63: the low bits are reserved
  config.Set(0x60, 2, 0x0011);
  uint16_t at = 0;
  ASSERT_EQ(FindCapability(&platform_, kWhere, 0x11, &at), Error::kNone);
  EXPECT_EQ(at, 0x60);
  EXPECT_EQ(FindCapability(&platform_, kWhere, 0x09, &at), Error::kNotFound);
}

TEST_F(PciTest, CapabilityListWithALoopEnds) {
  FakeConfigSpace& config = AddFunction(kWhere, 0x00011234);
  config.Set(0x40, 2, 0x5001);
  config.Set(0x50, 2, 0x4005);
  uint16_t at;
  EXPECT_EQ(FindCapability(&platform_, kWhere, 0x11, &at), Error::kBadHardware);
}

TEST_F(PciTest, CapabilityInsideTheHeaderIsRefused) {
  FakeConfigSpace& config = AddFunction(kWhere, 0x00011234);
  config.Set(0x40, 2, 0x1001);
  uint16_t at;
  EXPECT_EQ(FindCapability(&platform_, kWhere, 0x11, &at), Error::kBadHardware);
}

TEST_F(PciTest, FunctionWithoutAListHasNoCapability) {
  AddFunction(kWhere, 0x00011234).Set(0x06, 2, 0);
  uint16_t at;
  EXPECT_EQ(FindCapability(&platform_, kWhere, 0x11, &at), Error::kNotFound);
}

TEST_F(PciTest, BarIsSizedAndLeftWhereItWas) {
  FakeConfigSpace& config = AddFunction(kWhere, 0x00011234);
  config.SetBar(1, 0x8000, /*flags=*/8, 0xE0008000);
  PciBar bar;
  ASSERT_EQ(ReadBar(&platform_, kWhere, 1, &bar), Error::kNone);
  EXPECT_EQ(bar.address, 0xE0008000u);
  EXPECT_EQ(bar.bytes, 0x8000u);
  EXPECT_TRUE(bar.prefetchable);
  EXPECT_FALSE(bar.is_64bit);
  EXPECT_EQ(platform_.ReadConfig(kWhere, 0x14, 4), 0xE0008008u);
}

TEST_F(PciTest, WideBarIsSizedOverBothRegisters) {
  FakeConfigSpace& config = AddFunction(kWhere, 0x00011234);
  config.SetBar(0, 0x80000000, /*flags=*/0xC, 0);
  config.Set(0x14, 4, 0x12);
  // 8 GiB: the low address bits are fixed.
  for (int i = 0x10; i < 0x14; ++i) config.writable[i] = 0;
  config.writable[0x14] = 0xFE;
  for (int i = 0x15; i < 0x18; ++i) config.writable[i] = 0xFF;
  PciBar bar;
  ASSERT_EQ(ReadBar(&platform_, kWhere, 0, &bar), Error::kNone);
  EXPECT_TRUE(bar.is_64bit);
  EXPECT_EQ(bar.bytes, uint64_t{8} << 30);
  EXPECT_EQ(bar.address, uint64_t{0x12} << 32);
  EXPECT_EQ(platform_.ReadConfig(kWhere, 0x14, 4), 0x12u);
}

TEST_F(PciTest, AbsentAndPortBarsAreNotFound) {
  FakeConfigSpace& config = AddFunction(kWhere, 0x00011234);
  config.SetBar(1, 0x100, /*flags=*/1, 0xC000);  // I/O ports
  PciBar bar;
  EXPECT_EQ(ReadBar(&platform_, kWhere, 0, &bar), Error::kNotFound);
  EXPECT_EQ(ReadBar(&platform_, kWhere, 1, &bar), Error::kNotFound);
  EXPECT_EQ(ReadBar(&platform_, kWhere, 6, &bar), Error::kNotFound);
  EXPECT_EQ(ReadBar(&platform_, {9, 0}, 0, &bar), Error::kNotFound);
}

TEST_F(PciTest, BarsThatContradictThemselvesAreRefused) {
  FakeConfigSpace& config = AddFunction(kWhere, 0x00011234);
  config.SetBar(0, 0x1000, 0, 0);
  config.writable[0x12] = 0xF0;  // a hole in the mask
  PciBar bar;
  EXPECT_EQ(ReadBar(&platform_, kWhere, 0, &bar), Error::kBadHardware);
  config.SetBar(5, 0x1000, /*flags=*/4, 0);  // 64 bits wide, no room
  EXPECT_EQ(ReadBar(&platform_, kWhere, 5, &bar), Error::kBadHardware);
}

TEST_F(PciTest, PlacesAnUnplacedBarAndReadsItBack) {
  FakeConfigSpace& config = AddFunction(kWhere, 0x00011234);
  config.SetBar(0, 0x4000, 0, 0);
  PciBar bar;
  ASSERT_EQ(ReadBar(&platform_, kWhere, 0, &bar), Error::kNone);
  ASSERT_EQ(bar.address, 0u);
  EXPECT_EQ(PlaceBar(&platform_, kWhere, 0, &bar), Error::kNoMemory);
  platform_.place_bar_next = 0xE0001000;
  ASSERT_EQ(PlaceBar(&platform_, kWhere, 0, &bar), Error::kNone);
  EXPECT_EQ(bar.address, 0xE0004000u);
  EXPECT_EQ(platform_.ReadConfig(kWhere, 0x10, 4), 0xE0004000u);
}

TEST_F(PciTest, BarThatDoesNotTakeItsAddressIsReported) {
  FakeConfigSpace& config = AddFunction(kWhere, 0x00011234);
  config.SetBar(0, 0x4000, 0, 0);
  PciBar bar;
  ASSERT_EQ(ReadBar(&platform_, kWhere, 0, &bar), Error::kNone);
  config.writable.fill(0);
  platform_.place_bar_next = 0xE0000000;
  EXPECT_EQ(PlaceBar(&platform_, kWhere, 0, &bar), Error::kBadHardware);
}

TEST_F(PciTest, CommandBitsAreSetOneByOne) {
  AddFunction(kWhere, 0x00011234);
  SetMemoryDecode(&platform_, kWhere, true);
  EXPECT_EQ(platform_.ReadConfig(kWhere, 0x04, 2), 0x2u);
  SetBusMaster(&platform_, kWhere, true);
  EXPECT_EQ(platform_.ReadConfig(kWhere, 0x04, 2), 0x6u);
  SetMemoryDecode(&platform_, kWhere, false);
  EXPECT_EQ(platform_.ReadConfig(kWhere, 0x04, 2), 0x4u);
}

class MsixTest : public PciTest {
 protected:
  static constexpr uint64_t kBar = 0xE0010000;

  void Open(uint32_t vectors) {
    AddMsix(&AddFunction(kWhere, 0x00011234), vectors);
    ASSERT_EQ(table_.Open(&platform_, kWhere), Error::kNone);
  }

  MsixTable table_;
};

TEST_F(MsixTest, TakesSizeAndPlaceFromTheCapability) {
  AddMsix(&AddFunction(kWhere, 0x00011234), 2048);
  platform_.function(kWhere).Set(0x44, 4, 0x1000 | 4);
  ASSERT_EQ(table_.Open(&platform_, kWhere), Error::kNone);
  EXPECT_EQ(table_.vectors(), 2048u);
  EXPECT_EQ(table_.table_bar(), 4);
  EXPECT_EQ(table_.table_offset(), 0x1000u);
}

TEST_F(MsixTest, RefusesABarThatDoesNotExist) {
  AddMsix(&AddFunction(kWhere, 0x00011234), 2);
  platform_.function(kWhere).Set(0x44, 4, 6);
  EXPECT_EQ(table_.Open(&platform_, kWhere), Error::kBadHardware);
}

TEST_F(MsixTest, RefusesATableThatLeavesItsBar) {
  Open(257);
  EXPECT_EQ(table_.MapTable({.address = kBar, .bytes = 4096}),
            Error::kBadHardware);
}

TEST_F(MsixTest, ProgramsAnEntryAndUnmasksItLast) {
  Open(2);
  platform_.registers[kBar + 16 + 12] = 0x80000000;  // reserved: kept
  ASSERT_EQ(table_.MapTable({.address = kBar, .bytes = 4096}), Error::kNone);
  EXPECT_EQ(platform_.registers[kBar + 12], 1u);
  EXPECT_EQ(platform_.registers[kBar + 28], 0x80000001u);
  std::vector<uint64_t> writes;
  platform_.on_mmio_write = [&writes](uint64_t address, uint64_t) {
    writes.push_back(address - kBar);
  };
  ASSERT_EQ(table_.Program(1, {.address = 0x1FEE00000, .data = 0x42}),
            Error::kNone);
  EXPECT_EQ(platform_.registers[kBar + 16], 0xFEE00000u);
  EXPECT_EQ(platform_.registers[kBar + 20], 1u);
  EXPECT_EQ(platform_.registers[kBar + 24], 0x42u);
  EXPECT_EQ(platform_.registers[kBar + 28], 0x80000000u);
  EXPECT_EQ(writes.front(), 28u);
  EXPECT_EQ(writes.back(), 28u);
}

TEST_F(MsixTest, EntryThatReadsBackWrongStaysMasked) {
  Open(1);
  ASSERT_EQ(table_.MapTable({.address = kBar, .bytes = 4096}), Error::kNone);
  platform_.on_mmio_write = [this](uint64_t address, uint64_t) {
    if (address == kBar + 8) platform_.registers[address] = 0;
  };
  EXPECT_EQ(table_.Program(0, {.address = 0xFEE00000, .data = 0x42}),
            Error::kBadHardware);
  EXPECT_EQ(platform_.registers[kBar + 12], 1u);
}

TEST_F(MsixTest, EnableClearsTheFunctionMask) {
  Open(1);
  platform_.function(kWhere).Set(0x43, 1, 0x40);
  table_.Enable(true);
  EXPECT_EQ(platform_.ReadConfig(kWhere, 0x42, 2), 0x8000u);
  table_.Enable(false);
  EXPECT_EQ(platform_.ReadConfig(kWhere, 0x42, 2), 0u);
}

}  // namespace
}  // namespace vmsg::guest
