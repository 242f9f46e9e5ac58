// A trigger that races an un-mask is delivered exactly once.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "vmm/interrupt/in_process_interrupt_controller.h"
#include "vmm/pci/msix_table.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

constexpr uint32_t kTriggers = 20'000;

void Mask(MsixTable& table, uint32_t vector, bool masked) {
  table.WriteTable(16 * vector + 12,
                   std::array<std::byte, 4>{std::byte{masked}});
}

void OpenAll(MsixTable& table) {
  for (uint32_t i = 0; i < table.size(); ++i) Mask(table, i, false);
  table.SetControl(true, false);
  table.SetBusMaster(true);
}

// Each way to hold a vector back and let it go again.
enum class Hold { kVector, kFunction, kEnable, kBusMaster };

class MsixTableRaceTest : public ::testing::TestWithParam<Hold> {
 protected:
  void SetHeld(bool held) {
    switch (GetParam()) {
      case Hold::kVector:
        Mask(table_, 0, held);
        break;
      case Hold::kFunction:
        table_.SetControl(true, held);
        break;
      case Hold::kEnable:
        table_.SetControl(!held, false);
        break;
      case Hold::kBusMaster:
        table_.SetBusMaster(!held);
        break;
    }
  }
  // Holds and lets go until `stop`; ends open.
  void Flip(const std::atomic<bool>& stop) {
    while (!stop.load(std::memory_order_relaxed)) {
      SetHeld(true);
      SetHeld(false);
    }
  }

  std::atomic<uint64_t> delivered_ = 0;
  InProcessInterruptController controller_{
      [this](const MsiMessage&) { delivered_.fetch_add(1); }};
  MsixTable table_{1};
};

// One trigger at a time: each one gives one interrupt, no more and no less.
TEST_P(MsixTableRaceTest, EachTriggerIsDeliveredExactlyOnce) {
  ASSERT_OK(table_.Connect(&controller_, 0));
  OpenAll(table_);
  std::atomic<bool> stop = false;
  std::thread vcpu([&] { Flip(stop); });

  for (uint64_t i = 1; i <= kTriggers; ++i) {
    table_.Trigger(0);
    // Lost: the test would time out here.
    while (delivered_.load() < i) std::this_thread::yield();
    ASSERT_EQ(delivered_.load(), i);
  }
  stop.store(true);
  vcpu.join();

  EXPECT_EQ(delivered_.load(), kTriggers);
  EXPECT_EQ(table_.stats(0).delivered, kTriggers);
  EXPECT_EQ(table_.stats(0).merged, 0u);
}

// Triggers that do not wait: those that were not delivered on their own merged
// with one that was pending, and after the last un-mask nothing is pending.
TEST_P(MsixTableRaceTest, UnthrottledTriggersAreDeliveredOrMerged) {
  ASSERT_OK(table_.Connect(&controller_, 0));
  OpenAll(table_);
  std::atomic<bool> stop = false;
  std::thread vcpu([&] { Flip(stop); });

  for (uint32_t i = 0; i < 10 * kTriggers; ++i) table_.Trigger(0);
  stop.store(true);
  vcpu.join();

  const MsixTable::Stats stats = table_.stats(0);
  EXPECT_EQ(stats.triggers, uint64_t{10} * kTriggers);
  EXPECT_EQ(stats.triggers, stats.delivered + stats.merged);
  EXPECT_EQ(stats.failed, 0u);
  EXPECT_EQ(delivered_.load(), stats.delivered);
  std::array<std::byte, 1> pending;
  table_.ReadPending(0, pending);
  EXPECT_EQ(pending[0], std::byte{0});
}

INSTANTIATE_TEST_SUITE_P(EveryHold, MsixTableRaceTest,
                         ::testing::Values(Hold::kVector, Hold::kFunction,
                                           Hold::kEnable, Hold::kBusMaster),
                         [](const ::testing::TestParamInfo<Hold>& param)
                             -> std::string {
                           switch (param.param) {
                             case Hold::kVector:
                               return "VectorMask";
                             case Hold::kFunction:
                               return "FunctionMask";
                             case Hold::kEnable:
                               return "MsixEnable";
                             case Hold::kBusMaster:
                               return "BusMaster";
                           }
                           return "";
                         });

// The interrupt that answers a trigger shows what was written before it, also
// when the un-masker sends it, and also when the trigger merged with an older
// one. ThreadSanitizer reports a race on `packets` if the order is missing.
TEST(MsixTableOrderTest, PacketWrittenBeforeATriggerIsThereAtTheInterrupt) {
  constexpr uint32_t kPackets = 3;
  MsixTable table(1);
  std::array<int, kPackets> packets = {};
  std::atomic<uint32_t> triggered = 0;
  int sum = 0;
  InProcessInterruptController controller([&](const MsiMessage&) {
    for (const int packet : packets) sum += packet;
  });
  ASSERT_OK(table.Connect(&controller, 0));
  OpenAll(table);
  Mask(table, 0, true);

  std::thread owner([&] {
    for (uint32_t i = 0; i < kPackets; ++i) {
      packets[i] = 1;
      table.Trigger(0);
      // Relaxed: the order must come from the table alone.
      triggered.fetch_add(1, std::memory_order_relaxed);
    }
  });
  while (triggered.load(std::memory_order_relaxed) < kPackets) {
    std::this_thread::yield();
  }
  Mask(table, 0, false);
  owner.join();

  EXPECT_EQ(sum, static_cast<int>(kPackets));
}

// Vectors do not disturb one another: a thread each, and one that masks all.
TEST(MsixTableManyVectorsTest, VectorsOfManyOwnersLoseNothing) {
  constexpr uint32_t kOwners = 3;
  std::array<std::atomic<uint64_t>, kOwners> delivered = {};
  InProcessInterruptController controller([&](const MsiMessage& message) {
    delivered.at(message.data).fetch_add(1);
  });
  MsixTable table(kOwners);
  ASSERT_OK(table.Connect(&controller, 0));
  for (uint32_t i = 0; i < kOwners; ++i) {
    table.WriteTable(16 * i + 8, std::array<std::byte, 4>{std::byte(i)});
  }
  OpenAll(table);

  std::vector<std::thread> owners;
  for (uint32_t i = 0; i < kOwners; ++i) {
    owners.emplace_back([&table, i] {
      for (uint32_t n = 0; n < kTriggers; ++n) table.Trigger(i);
    });
  }
  for (uint32_t n = 0; n < kTriggers / 10; ++n) {
    Mask(table, n % kOwners, true);
    table.SetControl(true, true);
    table.SetControl(true, false);
    Mask(table, n % kOwners, false);
  }
  for (std::thread& owner : owners) owner.join();
  table.SetControl(true, false);

  for (uint32_t i = 0; i < kOwners; ++i) {
    const MsixTable::Stats stats = table.stats(i);
    EXPECT_EQ(stats.triggers, kTriggers);
    EXPECT_EQ(stats.triggers, stats.delivered + stats.merged);
    EXPECT_EQ(delivered[i].load(), stats.delivered);
  }
}

}  // namespace
}  // namespace vmsg::vmm
