#include "benchmarks/kvm_doorbells.h"

#include <memory>
#include <utility>

#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::bench {
namespace {

constexpr uint32_t kRings = 130;  // twice around the queues

class KvmDoorbellsTest : public testing::TestWithParam<amp::FifoLayout> {
 protected:
  void SetUp() override {
    auto amp = AmpDoorbells::Create(GetParam());
    if (vmm::KvmVm::CannotBeOpened(amp.status())) {
      GTEST_SKIP() << "no KVM here: " << amp.status().ToString();
    }
    ASSERT_OK(amp);
    amp_ = *std::move(amp);
  }

  std::unique_ptr<AmpDoorbells> amp_;
};

INSTANTIATE_TEST_SUITE_P(Layouts, KvmDoorbellsTest,
                         testing::Values(amp::FifoLayout::kSpsc,
                                         amp::FifoLayout::kShmemV1),
                         [](const auto& p) {
                           return p.param == amp::FifoLayout::kSpsc ? "Spsc"
                                                                    : "ShmemV1";
                         });

TEST_P(KvmDoorbellsTest, BothGuestsGetOneInterruptForEachDoorbell) {
  auto minimal = MinimalDoorbells::Create(amp_->place());
  ASSERT_OK(minimal);
  const amp::FifoCounters& counters = amp_->device().fifo_counters(0);
  ASSERT_EQ(counters.interrupts.value(), 0u);

  EXPECT_GT(amp_->guest().Ring(kRings).count(), 0);
  EXPECT_GT((*minimal)->guest().Ring(kRings).count(), 0);
  EXPECT_EQ(amp_->guest().interrupt_count(), kRings);
  EXPECT_EQ((*minimal)->guest().interrupt_count(), kRings);

  // Each doorbell was a PING with an answer.
  EXPECT_EQ(counters.packets_in.value(), kRings);
  EXPECT_EQ(counters.packets_out.value(), kRings);
  EXPECT_EQ(counters.interrupts.value(), kRings);
}

TEST_P(KvmDoorbellsTest, ADoorbellIsNoExitToUserSpace) {
  amp_->guest().Ring(1);
  const uint64_t before = amp_->guest().exits();
  amp_->guest().Ring(kRings);
  EXPECT_EQ(amp_->guest().exits() - before, 1u);  // the port, at the end
}

}  // namespace
}  // namespace vmsg::bench
