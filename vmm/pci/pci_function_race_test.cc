// Several vCPUs write the configuration of one function at once.

#include <array>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/pci/test_function.h"
#include "vmm/testing/fake_interrupt_controller.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

constexpr PciAddress kPlace = {.bus = 0, .device = 1, .function = 0};
constexpr uint16_t kCommand = 0x04;
constexpr uint16_t kMessageControl = 0x42;
constexpr uint32_t kMemory = 0x2;
constexpr uint32_t kBusMaster = 0x4;
constexpr uint64_t kPlaceA = 0xE000'0000;
constexpr uint64_t kPlaceB = 0xE100'0000;

class PciFunctionRaceTest : public ::testing::Test {
 protected:
  PciFunctionRaceTest() {
    EXPECT_OK(function_->Connect(kPlace, &bus_, &fake_));
  }
  ~PciFunctionRaceTest() override { function_->Disconnect(); }

  DispatchMmioBus bus_;
  FakeInterruptController fake_;
  std::unique_ptr<TestFunction> function_ = TestFunction::Create("dev");
};

TEST_F(PciFunctionRaceTest, HookCallsAgreeWithTheRegisterInTheirOrder) {
  constexpr int kWrites = 2000;
  std::atomic<int> inside = 0;
  std::atomic<int> wrong = 0;
  function_->on_bus_master = [&](bool enabled) {
    if (inside.fetch_add(1) != 0) ++wrong;  // one hook at a time
    if (function_->dma_gate()->open() != enabled) ++wrong;
    inside.fetch_sub(1);
  };

  std::vector<std::thread> vcpus;
  for (int i = 0; i < 3; ++i) {
    vcpus.emplace_back([this] {
      for (int n = 0; n < kWrites; ++n) {
        function_->WriteConfig(kCommand, 2, n % 2 == 0 ? kBusMaster : 0);
      }
    });
  }
  for (std::thread& vcpu : vcpus) vcpu.join();

  EXPECT_EQ(wrong.load(), 0);
  const std::vector<bool> calls = function_->bus_master_calls();
  ASSERT_FALSE(calls.empty());
  for (size_t i = 0; i < calls.size(); ++i) {
    // It starts off, and each call is a change.
    ASSERT_EQ(calls[i], i % 2 == 0) << i;
  }
  const bool on = (function_->ReadConfig(kCommand, 2) & kBusMaster) != 0;
  EXPECT_EQ(calls.back(), on);
  EXPECT_EQ(function_->dma_gate()->open(), on);
}

TEST_F(PciFunctionRaceTest, ChangeIsInEffectWhenTheWriteReturns) {
  constexpr int kWrites = 2000;
  // The other vCPU keeps the applier busy with changes of its own.
  std::atomic<bool> done = false;
  std::thread other([&] {
    for (int n = 0; !done.load(); ++n) {
      function_->WriteConfig(kMessageControl, 2, n % 2 == 0 ? 0x8000 : 0);
    }
  });
  for (int n = 0; n < kWrites; ++n) {
    const bool on = n % 2 == 0;
    function_->WriteConfig(kCommand, 2, on ? kBusMaster : 0);
    ASSERT_EQ(function_->dma_gate()->open(), on);
  }
  done.store(true);
  other.join();
}

// Moves, decoding, doorbells and triggers at once; at the end it all works.
TEST_F(PciFunctionRaceTest, MovesAndAccessesAtOnceEndInAWorkingFunction) {
  constexpr int kRounds = 1000;
  function_->WriteConfig(0x10, 4, kPlaceA);
  function_->WriteConfig(kCommand, 2, kMemory | kBusMaster);
  std::atomic<bool> done = false;

  std::thread mover([&] {
    for (int n = 0; n < kRounds; ++n) {
      function_->WriteConfig(0x10, 4, n % 2 == 0 ? kPlaceB : kPlaceA);
    }
  });
  std::thread switcher([&] {
    for (int n = 0; n < kRounds; ++n) {
      function_->WriteConfig(kCommand, 2, n % 2 == 0 ? 0 : kMemory);
    }
  });
  std::thread user([&] {
    while (!done.load()) {
      for (const uint64_t place : {kPlaceA, kPlaceB}) {
        bus_.Write({place + TestRegisters::kDoorbellOffset},
                   std::array<std::byte, 4>{});
      }
    }
  });
  for (int n = 0; n < kRounds; ++n) function_->msix().Trigger(0);
  mover.join();
  switcher.join();
  done.store(true);
  user.join();

  EXPECT_EQ(function_->bar_refusals().value(), 0u);
  const EventFd& event = function_->registers().events[0];
  event.Drain();
  EXPECT_TRUE(bus_.Write({kPlaceA + TestRegisters::kDoorbellOffset},
                         std::array<std::byte, 4>{}));
  EXPECT_EQ(event.Drain(), 1u);
}

// While a BAR hops between two places, a doorbell written at a place where the
// BAR answers is never lost, whether the bus or the handler takes it.
TEST_F(PciFunctionRaceTest, NoDoorbellIsLostWhileTheBarMoves) {
  constexpr int kRounds = 3000;
  function_->WriteConfig(0x10, 4, kPlaceA);
  function_->WriteConfig(kCommand, 2, kMemory);
  std::atomic<bool> done = false;
  std::thread mover([&] {
    for (int n = 0; !done.load(); ++n) {
      function_->WriteConfig(0x10, 4, n % 2 == 0 ? kPlaceB : kPlaceA);
    }
  });

  const EventFd& event = function_->registers().events[0];
  uint64_t claimed = 0;
  uint64_t signals = 0;
  for (int n = 0; n < kRounds; ++n) {
    if (bus_.Write({kPlaceA + TestRegisters::kDoorbellOffset},
                   std::array<std::byte, 4>{})) {
      ++claimed;
    }
    signals += event.Drain();
  }
  done.store(true);
  mover.join();

  EXPECT_EQ(signals, claimed);
}

}  // namespace
}  // namespace vmsg::vmm
