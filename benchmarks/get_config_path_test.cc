#include "benchmarks/get_config_path.h"

#include <new>

#include "benchmark/benchmark.h"
#include "benchmarks/allocation_count.h"
#include "gtest/gtest.h"

namespace vmsg::bench {
namespace {

using Range = GetConfigPath::Range;

using Options = GetConfigPath::Options;

class GetConfigPathTest : public ::testing::TestWithParam<Options> {};

// Take() looks at each answer.
TEST_P(GetConfigPathTest, EachRequestGetsItsAnswer) {
  GetConfigPath path(GetParam());
  for (const Range range : {Range::kServed, Range::kRefused, Range::kServed}) {
    path.Put(range);
    path.Answer();
    path.Take(range);
  }
}

TEST_P(GetConfigPathTest, ATurnInterruptsOnce) {
  GetConfigPath path(GetParam());
  const uint64_t before = path.interrupts();
  path.Put(Range::kServed);
  path.Answer();
  EXPECT_EQ(path.interrupts() - before,
            GetConfigPath::kBatch / GetParam().packets_per_turn);
  path.Take(Range::kServed);
}

TEST_P(GetConfigPathTest, AnswersAllocateNothing) {
  GetConfigPath path(GetParam());
  for (const Range range : {Range::kServed, Range::kRefused}) {
    for (int i = 0; i < 100; ++i) {
      path.Put(range);
      const uint64_t before = AllocationCount();
      path.Answer();
      EXPECT_EQ(AllocationCount() - before, 0u);
      path.Take(range);
    }
  }
}

TEST(AllocationCountTest, CountsEachKindOfNew) {
  constexpr auto kAlignment = std::align_val_t{64};
  const uint64_t before = AllocationCount();
  // The functions themselves: compilers drop expressions that come to nothing.
  void* const one = ::operator new(8);
  void* const several = ::operator new[](8);
  void* const aligned = ::operator new(8, kAlignment);
  void* const aligned_several = ::operator new[](8, kAlignment);
  benchmark::DoNotOptimize(one);
  benchmark::DoNotOptimize(several);
  benchmark::DoNotOptimize(aligned);
  benchmark::DoNotOptimize(aligned_several);
  EXPECT_EQ(AllocationCount() - before, 4u);
  ::operator delete(one);
  ::operator delete[](several);
  ::operator delete(aligned, kAlignment);
  ::operator delete[](aligned_several, kAlignment);
}

constexpr amp::FifoLayout kShmemV1 = amp::FifoLayout::kShmemV1;

INSTANTIATE_TEST_SUITE_P(
    Options, GetConfigPathTest,
    ::testing::Values(Options{.packets_per_turn = 1},
                      Options{.packets_per_turn = GetConfigPath::kBatch},
                      Options{.packets_per_turn = 1, .layout = kShmemV1},
                      Options{.packets_per_turn = GetConfigPath::kBatch,
                              .layout = kShmemV1},
                      Options{.packets_per_turn = 1, .fifos = 8, .devices = 32},
                      Options{.packets_per_turn = 1,
                              .layout = kShmemV1,
                              .fifos = 8,
                              .devices = 32}));

}  // namespace
}  // namespace vmsg::bench
