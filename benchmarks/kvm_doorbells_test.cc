#include "benchmarks/kvm_doorbells.h"

#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::bench {
namespace {

constexpr uint32_t kRings = 130;  // twice around the queues

TEST(KvmDoorbellsTest, BothGuestsGetOneInterruptForEachDoorbell) {
  auto amp = AmpDoorbells::Create();
  if (vmm::KvmVm::CannotBeOpened(amp.status())) {
    GTEST_SKIP() << "no KVM here: " << amp.status().ToString();
  }
  ASSERT_OK(amp);
  auto minimal = MinimalDoorbells::Create((*amp)->place());
  ASSERT_OK(minimal);

  EXPECT_GT((*amp)->guest().Ring(kRings).count(), 0);
  EXPECT_GT((*minimal)->guest().Ring(kRings).count(), 0);
  EXPECT_EQ((*amp)->guest().interrupt_count(), kRings);
  EXPECT_EQ((*minimal)->guest().interrupt_count(), kRings);

  // Each doorbell was a PING with an answer.
  const amp::FifoCounters& counters = (*amp)->device().fifo_counters(0);
  EXPECT_EQ(counters.packets_in.value(), kRings);
  EXPECT_EQ(counters.packets_out.value(), kRings);
  EXPECT_EQ(counters.interrupts.value(), kRings);
}

TEST(KvmDoorbellsTest, ADoorbellIsNoExitToUserSpace) {
  auto amp = AmpDoorbells::Create();
  if (vmm::KvmVm::CannotBeOpened(amp.status())) {
    GTEST_SKIP() << "no KVM here: " << amp.status().ToString();
  }
  ASSERT_OK(amp);
  (*amp)->guest().Ring(1);
  const uint64_t before = (*amp)->guest().exits();
  (*amp)->guest().Ring(kRings);
  EXPECT_EQ((*amp)->guest().exits() - before, 1u);  // the port, at the end
}

}  // namespace
}  // namespace vmsg::bench
