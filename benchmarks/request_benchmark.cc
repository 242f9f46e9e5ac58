// What the device needs for a GET_CONFIG request, from the packet on the driver
// queue to the answer on the device queue and the interrupt.

#include <chrono>
#include <cstdint>

#include "benchmark/benchmark.h"
#include "benchmarks/allocation_count.h"
#include "benchmarks/get_config_path.h"

namespace vmsg::bench {
namespace {

using Range = GetConfigPath::Range;

// Short, so that few samples hold a preemption of this thread.
constexpr int kBatches = 32;

void BM_GetConfig(benchmark::State& state, Range range,
                  GetConfigPath::Options options) {
  GetConfigPath path(options);
  uint64_t allocations = 0;
  for (auto _ : state) {
    path.Put(range);
    const uint64_t allocations_before = AllocationCount();
    const auto start = std::chrono::steady_clock::now();
    path.Answer();
    const auto end = std::chrono::steady_clock::now();
    allocations += AllocationCount() - allocations_before;
    path.Take(range);
    state.SetIterationTime(std::chrono::duration<double>(end - start).count());
  }
  const auto requests =
      static_cast<double>(state.iterations()) * GetConfigPath::kBatch;
  state.SetItemsProcessed(static_cast<int64_t>(requests));
  state.counters["allocations"] = static_cast<double>(allocations) / requests;
}

constexpr GetConfigPath::Options kOneByOne;
constexpr GetConfigPath::Options kShmemOneByOne = {
    .layout = amp::FifoLayout::kShmemV1};
constexpr GetConfigPath::Options kInABatch = {.packets_per_turn =
                                                  GetConfigPath::kBatch};

BENCHMARK_CAPTURE(BM_GetConfig, served, Range::kServed, kOneByOne)
    ->Iterations(kBatches)
    ->UseManualTime();
BENCHMARK_CAPTURE(BM_GetConfig, refused, Range::kRefused, kOneByOne)
    ->Iterations(kBatches)
    ->UseManualTime();
BENCHMARK_CAPTURE(BM_GetConfig, served_shmem, Range::kServed, kShmemOneByOne)
    ->Iterations(kBatches)
    ->UseManualTime();
BENCHMARK_CAPTURE(BM_GetConfig, refused_shmem, Range::kRefused, kShmemOneByOne)
    ->Iterations(kBatches)
    ->UseManualTime();
BENCHMARK_CAPTURE(BM_GetConfig, served_batch, Range::kServed, kInABatch)
    ->Iterations(kBatches)
    ->UseManualTime();
BENCHMARK_CAPTURE(BM_GetConfig, refused_batch, Range::kRefused, kInABatch)
    ->Iterations(kBatches)
    ->UseManualTime();

}  // namespace
}  // namespace vmsg::bench
