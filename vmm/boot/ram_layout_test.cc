#include "vmm/boot/ram_layout.h"

#include <array>
#include <memory>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/boot/long_mode.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kMiB = uint64_t{1} << 20;
constexpr uint64_t kGiB = uint64_t{1} << 30;

TEST(RamLayoutTest, RamUpToTheHoleIsOnePiece) {
  ASSERT_OK_AND_ASSIGN(const RamLayout small, ComputeRamLayout(64 * kMiB));
  EXPECT_EQ(small.low, (GuestRange{{0}, 64 * kMiB}));
  EXPECT_EQ(small.high.size, 0u);
  ASSERT_OK_AND_ASSIGN(const RamLayout full, ComputeRamLayout(3 * kGiB));
  EXPECT_EQ(full.low, (GuestRange{{0}, kDeviceHole.value}));
  EXPECT_EQ(full.high.size, 0u);
}

TEST(RamLayoutTest, RamPastTheHoleGoesOnAtFourGigabytes) {
  ASSERT_OK_AND_ASSIGN(const RamLayout page, ComputeRamLayout(3 * kGiB + 4096));
  EXPECT_EQ(page.low.size, 3 * kGiB);
  EXPECT_EQ(page.high, (GuestRange{{4 * kGiB}, 4096}));
  ASSERT_OK_AND_ASSIGN(const RamLayout most, ComputeRamLayout(kMaxRamBytes));
  EXPECT_EQ(most.high, (GuestRange{{4 * kGiB}, 61 * kGiB}));
  EXPECT_EQ(most.bytes(), kMaxRamBytes);
}

TEST(RamLayoutTest, ImpossibleSizesAreRefused) {
  for (const uint64_t bytes : {uint64_t{0}, kMinRamBytes - 4096,
                               kMinRamBytes + 1, kMaxRamBytes + 4096}) {
    EXPECT_THAT(ComputeRamLayout(bytes),
                StatusIs(absl::StatusCode::kInvalidArgument))
        << bytes;
  }
}

TEST(RamLayoutTest, MapOfLowRamLeavesOutTheLegacyHole) {
  ASSERT_OK_AND_ASSIGN(const RamLayout ram, ComputeRamLayout(64 * kMiB));
  EXPECT_THAT(
      ComputeMemoryMap(ram, {}),
      ElementsAre(MemoryMapEntry{{{0}, 0xA0000}, MemoryMapType::kRam},
                  MemoryMapEntry{kAcpiArea, MemoryMapType::kAcpi},
                  MemoryMapEntry{{{kMiB}, 63 * kMiB}, MemoryMapType::kRam}));
}

TEST(RamLayoutTest, MapIsSortedWithReservedPlacesBetweenLowAndHighRam) {
  ASSERT_OK_AND_ASSIGN(const RamLayout ram, ComputeRamLayout(8 * kGiB));
  const GuestRange ecam = {{0xE0000000}, kMiB};
  EXPECT_THAT(
      ComputeMemoryMap(ram, std::array{ecam}),
      ElementsAre(
          MemoryMapEntry{{{0}, 0xA0000}, MemoryMapType::kRam},
          MemoryMapEntry{kAcpiArea, MemoryMapType::kAcpi},
          MemoryMapEntry{{{kMiB}, 3 * kGiB - kMiB}, MemoryMapType::kRam},
          MemoryMapEntry{ecam, MemoryMapType::kReserved},
          MemoryMapEntry{{{4 * kGiB}, 5 * kGiB}, MemoryMapType::kRam}));
}

TEST(RamLayoutDeathTest, ReservingRamIsTheEmbeddersBug) {
  const auto ram = ComputeRamLayout(64 * kMiB);
  ASSERT_OK(ram.status());
  EXPECT_DEATH(ComputeMemoryMap(*ram, std::array{GuestRange{{kMiB}, 4096}}),
               "reserves RAM");
}

// The most that there may be, on a host that has much less: each page costs
// only when it is touched.
TEST(RamLayoutTest, SixtyFourGigabytesWorkWhereTouched) {
  ASSERT_OK_AND_ASSIGN(const RamLayout ram, ComputeRamLayout(kMaxRamBytes));
  ASSERT_OK_AND_ASSIGN(auto backing,
                       MemoryBacking::CreateAnonymous(ram.bytes(), "sparse"));
  GuestMemory memory;
  ASSERT_OK(memory.Add({.range = ram.low, .backing = backing}));
  ASSERT_OK(memory.Add(
      {.range = ram.high, .backing = backing, .backing_offset = ram.low.size}));
  DmaSpace dma(&memory);
  const uint64_t places[] = {0, 3 * kGiB - 8, 4 * kGiB, 32 * kGiB,
                             65 * kGiB - 8};
  for (const uint64_t place : places) {
    const std::array<uint64_t, 1> word = {place ^ 0x5A5A};
    ASSERT_EQ(dma.Write({place}, std::as_bytes(std::span(word))),
              DmaResult::kOk);
  }
  for (const uint64_t place : places) {
    std::array<uint64_t, 1> word = {};
    ASSERT_EQ(dma.Read({place}, std::as_writable_bytes(std::span(word))),
              DmaResult::kOk);
    EXPECT_EQ(word[0], place ^ 0x5A5A) << "another place's";
  }
  std::array<std::byte, 1> byte = {};
  EXPECT_EQ(dma.Read({3 * kGiB}, byte), DmaResult::kOutside);
  EXPECT_EQ(dma.Read({65 * kGiB}, byte), DmaResult::kOutside);
}

}  // namespace
}  // namespace vmsg::vmm
