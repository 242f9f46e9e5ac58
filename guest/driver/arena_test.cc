#include "guest/driver/arena.h"

#include <array>
#include <cstddef>

#include "gtest/gtest.h"

namespace vmsg::guest {
namespace {

TEST(ArenaTest, AlignsTheAddressThatTheDeviceSees) {
  std::array<std::byte, 256> memory;
  Arena arena(memory, /*address=*/0x1008);
  const DmaMemory first = arena.Allocate(8, 64);
  EXPECT_EQ(first.address, 0x1040u);
  EXPECT_EQ(first.data, &memory[0x38]);
  const DmaMemory second = arena.Allocate(16, 16);
  EXPECT_EQ(second.address, 0x1050u);
  EXPECT_EQ(arena.used(), 0x58u);
}

TEST(ArenaTest, GivesNothingWhenUsedUp) {
  std::array<std::byte, 64> memory;
  Arena arena(memory, 0);
  EXPECT_EQ(arena.Allocate(65, 1).data, nullptr);
  EXPECT_EQ(arena.Allocate(UINT64_MAX, 1).data, nullptr);
  EXPECT_NE(arena.Allocate(63, 1).data, nullptr);
  EXPECT_EQ(arena.Allocate(1, 64).data, nullptr);
  EXPECT_NE(arena.Allocate(1, 1).data, nullptr);
  EXPECT_EQ(arena.Allocate(1, 1).data, nullptr);
}

TEST(ArenaTest, CarvedArenaIsSeparateAndCanBeReused) {
  std::array<std::byte, 256> memory;
  Arena arena(memory, 0x1000);
  Arena part = arena.Carve(64, 64);
  ASSERT_EQ(part.size(), 64u);
  const DmaMemory before = part.Allocate(64, 1);
  EXPECT_EQ(part.Allocate(1, 1).data, nullptr);
  part.Reset();
  EXPECT_EQ(part.Allocate(64, 1).address, before.address);
  EXPECT_EQ(arena.Allocate(1, 1).address, 0x1040u);
  EXPECT_EQ(arena.Carve(1024, 1).size(), 0u);
}

}  // namespace
}  // namespace vmsg::guest
