#include "benchmarks/doorbell_loops.h"

#include "gtest/gtest.h"

namespace vmsg::bench {
namespace {

constexpr uint32_t kPings = 200;

// TakeAnswer() looks at each answer.
TEST(DoorbellLoopsTest, ARingGivesOneInterruptInOneRound) {
  MinimalDoorbellLoop minimal;
  AmpDoorbellLoop amp;
  AmpDoorbellLoop shmem(amp::FifoLayout::kShmemV1);
  for (DoorbellLoop* const loop :
       std::initializer_list<DoorbellLoop*>{&minimal, &amp, &shmem}) {
    for (uint32_t i = 0; i < kPings; ++i) {
      loop->Ring();
      EXPECT_EQ(loop->interrupt().Drain(), 0u);
      loop->RunOnce(false);
      EXPECT_EQ(loop->interrupt().Drain(), 1u);
      loop->TakeAnswer();
    }
  }
}

TEST(DoorbellLoopsTest, TheDeviceWaitsOnceForEachDoorbell) {
  AmpDoorbellLoop loop;
  DoorbellThread thread(&loop);
  // With an interrupt the loop is about to wait, or waits already.
  const uint64_t before = loop.stats().waits;
  for (uint32_t i = 0; i < kPings; ++i) thread.Ping();
  const uint64_t waits = loop.stats().waits - before;
  EXPECT_GE(waits, kPings - 1);
  EXPECT_LE(waits, kPings + 1);
  EXPECT_EQ(loop.stats().wakeup_writes, 0u);
}

TEST(DoorbellLoopsTest, AThreadTellsItsIdAndItsProcessorTime) {
  MinimalDoorbellLoop loop;
  DoorbellThread thread(&loop);
  EXPECT_GT(thread.id(), 0);
  const uint64_t before = thread.CpuNs();
  for (uint32_t i = 0; i < kPings; ++i) thread.Ping();
  EXPECT_GT(thread.CpuNs(), before);
}

}  // namespace
}  // namespace vmsg::bench
