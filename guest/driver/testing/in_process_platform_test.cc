#include "guest/driver/testing/in_process_platform.h"

#include <array>
#include <chrono>
#include <cstddef>
#include <memory>
#include <thread>
#include <utility>

#include "gtest/gtest.h"
#include "vmm/memory/dma_space.h"
#include "vmm/testing/fake_clock.h"

namespace vmsg::guest {
namespace {

constexpr uint64_t kHourNs = 3'600'000'000'000;

std::unique_ptr<InProcessPlatform> Create(
    InProcessPlatform::Options options = {}) {
  auto platform = InProcessPlatform::Create(std::move(options));
  EXPECT_TRUE(platform.ok());
  return platform.ok() ? *std::move(platform) : nullptr;
}

// Raises what `interrupt` stands for, as a device would.
void Raise(InProcessPlatform* platform, const Interrupt& interrupt) {
  auto route = platform->interrupts()->CreateMsiRoute();
  ASSERT_TRUE(route.ok());
  vmm::MsiMessage message;
  message.address = interrupt.address;
  message.data = interrupt.data;
  ASSERT_TRUE((*route)->Update(message).ok());
  ASSERT_TRUE((*route)->Trigger().ok());
}

TEST(InProcessPlatformTest, CountsEachInterruptByItself) {
  const auto platform = Create();
  Interrupt first;
  Interrupt second;
  ASSERT_TRUE(platform->CreateInterrupt(&first));
  ASSERT_TRUE(platform->CreateInterrupt(&second));
  Raise(platform.get(), first);
  Raise(platform.get(), second);
  Raise(platform.get(), second);
  EXPECT_EQ(platform->InterruptCount(first.id), 1u);
  EXPECT_EQ(platform->InterruptCount(second.id), 2u);
  EXPECT_EQ(platform->InterruptCount(kAnyInterrupt), 3u);
  EXPECT_EQ(platform->stray_interrupts(), 0u);
}

TEST(InProcessPlatformTest, MessagesToNobodyAreStray) {
  const auto platform = Create();
  Interrupt interrupt;
  ASSERT_TRUE(platform->CreateInterrupt(&interrupt));
  Interrupt wrong = interrupt;
  wrong.address += 0x1000;
  Raise(platform.get(), wrong);
  wrong = interrupt;
  wrong.data += 1;
  Raise(platform.get(), wrong);
  wrong.data = 0;
  Raise(platform.get(), wrong);
  platform->ReleaseInterrupt(interrupt);
  Raise(platform.get(), interrupt);
  EXPECT_EQ(platform->stray_interrupts(), 4u);
  EXPECT_EQ(platform->InterruptCount(kAnyInterrupt), 0u);
}

TEST(InProcessPlatformTest, InterruptsRunOutAndComeBack) {
  const auto platform = Create();
  Interrupt interrupt;
  int count = 0;
  while (platform->CreateInterrupt(&interrupt)) ++count;
  EXPECT_EQ(count, 64);
  platform->ReleaseInterrupt(interrupt);
  EXPECT_TRUE(platform->CreateInterrupt(&interrupt));
}

TEST(InProcessPlatformTest, WaitReturnsAtOnceWhenTheCountHasChanged) {
  const auto platform = Create();
  Interrupt interrupt;
  ASSERT_TRUE(platform->CreateInterrupt(&interrupt));
  const uint64_t seen = platform->InterruptCount(interrupt.id);
  Raise(platform.get(), interrupt);
  platform->WaitForInterrupt(interrupt.id, seen, kNoDeadline);
  EXPECT_EQ(platform->sleeps(), 0u);
}

TEST(InProcessPlatformTest, WaitEndsAtItsDeadline) {
  const auto platform = Create();
  const uint64_t deadline = platform->NowNs() + 2'000'000;
  platform->WaitForInterrupt(kAnyInterrupt, 0, deadline);
  EXPECT_GE(platform->NowNs(), deadline);
  EXPECT_EQ(platform->sleeps(), 1u);
}

TEST(InProcessPlatformTest, InterruptOfAnotherThreadEndsAWait) {
  const auto platform = Create();
  Interrupt interrupt;
  ASSERT_TRUE(platform->CreateInterrupt(&interrupt));
  std::thread device([&] { Raise(platform.get(), interrupt); });
  platform->WaitForInterrupt(interrupt.id, 0, kNoDeadline);
  EXPECT_EQ(platform->InterruptCount(interrupt.id), 1u);
  device.join();
}

TEST(InProcessPlatformTest, WakeEndsAWaitForAnythingOnly) {
  const auto platform = Create();
  Interrupt interrupt;
  ASSERT_TRUE(platform->CreateInterrupt(&interrupt));
  platform->Wake();
  EXPECT_EQ(platform->InterruptCount(kAnyInterrupt), 1u);
  EXPECT_EQ(platform->InterruptCount(interrupt.id), 0u);
}

TEST(InProcessPlatformTest, ShutdownEndsWaitsAndLetsTimeRunOut) {
  const auto platform = Create();
  std::thread guest(
      [&] { platform->WaitForInterrupt(kAnyInterrupt, 0, kNoDeadline); });
  platform->Shutdown();
  guest.join();
  EXPECT_EQ(platform->NowNs(), kNoDeadline);
  // A driver that goes on finds every time limit passed.
  platform->WaitForInterrupt(kAnyInterrupt, 0, kNoDeadline);
}

TEST(InProcessPlatformTest, PumpRunsUntilTheWaitIsOver) {
  vmm::FakeClock clock;
  int calls = 0;
  InProcessPlatform::Options options;
  options.clock = &clock;
  options.pump = [&](vmm::Duration max) {
    EXPECT_LE(max, std::chrono::hours(1));
    EXPECT_GT(max, vmm::Duration::zero());
    ++calls;
    clock.Advance(max / 2 + std::chrono::nanoseconds(1));
  };
  const auto platform = Create(std::move(options));
  const uint64_t deadline = platform->NowNs() + kHourNs;
  platform->WaitForInterrupt(kAnyInterrupt, 0, deadline);
  EXPECT_GE(platform->NowNs(), deadline);
  EXPECT_GT(calls, 1);
  EXPECT_EQ(platform->sleeps(), 1u);
}

TEST(InProcessPlatformTest, PlacesBarsAlignedUntilTheWindowIsFull) {
  InProcessPlatform::Options options;
  options.pci_window = {{0xC0001000}, 0xF000};
  const auto platform = Create(std::move(options));
  EXPECT_EQ(platform->PlaceBar(0x4000), 0xC0004000u);
  EXPECT_EQ(platform->PlaceBar(0x8000), 0xC0008000u);
  EXPECT_EQ(platform->PlaceBar(0x1000), 0u);
  EXPECT_EQ(Create()->PlaceBar(0x1000), 0u);  // no window at all
}

TEST(InProcessPlatformTest, NothingThereReadsAllOnesAndMapsToNothing) {
  const auto platform = Create();
  EXPECT_EQ(platform->ReadConfig({1, 0}, 0, 4), UINT32_MAX);
  EXPECT_EQ(platform->ReadMmio(0xD0000000, 8), UINT64_MAX);
  platform->WriteMmio(0xD0000000, 8, 1);
  EXPECT_EQ(platform->MapMemory(0xD0000000, 4096), nullptr);
}

TEST(InProcessPlatformTest, ArenaIsTheRamThatDevicesSee) {
  const auto platform = Create();
  const DmaMemory memory = platform->dma_arena()->Allocate(64, 64);
  ASSERT_NE(memory.data, nullptr);
  const auto map = platform->memory()->Snapshot();
  const vmm::MemoryRegion* region = map->Find({memory.address});
  ASSERT_NE(region, nullptr);
  EXPECT_EQ(
      region->backing->data() + (memory.address - region->range.start.value),
      memory.data);
}

TEST(InProcessPlatformTest, WithoutAnIommuAddressesAreGuestPhysical) {
  InProcessPlatform::Options options;
  options.ram = {{0x200000}, 0x10000};
  const auto platform = Create(std::move(options));
  EXPECT_FALSE(platform->translates_dma());
  EXPECT_EQ(platform->iommu(), nullptr);
  EXPECT_EQ(platform->dma_arena()->Allocate(16, 16).address, 0x200000u);
}

TEST(InProcessPlatformTest, IommuPutsPagesTogetherThatAreNoNeighbours) {
  InProcessPlatform::Options options;
  options.ram = {{0x200000}, 0x10000};
  options.with_iommu = true;
  const auto platform = Create(std::move(options));
  EXPECT_TRUE(platform->translates_dma());
  const DmaMemory memory = platform->dma_arena()->Allocate(0x2000, 4096);
  ASSERT_NE(memory.data, nullptr);
  EXPECT_EQ(memory.address, InProcessPlatform::kIova.value);
  memory.data[0] = std::byte{1};
  memory.data[0xfff] = std::byte{2};
  memory.data[0x1000] = std::byte{3};

  std::array<std::byte, 2> seen = {};
  vmm::DmaSpace device(platform->memory(), nullptr, platform->iommu());
  ASSERT_EQ(device.Read({memory.address + 0xfff}, seen), vmm::DmaResult::kOk);
  EXPECT_EQ(seen, (std::array{std::byte{2}, std::byte{3}}));
  // The last pages of RAM, the last one first.
  vmm::DmaSpace physical(platform->memory());
  ASSERT_EQ(physical.Read({0x20f000}, seen), vmm::DmaResult::kOk);
  EXPECT_EQ(seen[0], std::byte{1});
  ASSERT_EQ(physical.Read({0x20e000}, seen), vmm::DmaResult::kOk);
  EXPECT_EQ(seen[0], std::byte{3});
}

}  // namespace
}  // namespace vmsg::guest
