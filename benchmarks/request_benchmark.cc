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
                  uint32_t packets_per_turn) {
  GetConfigPath path(packets_per_turn);
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

BENCHMARK_CAPTURE(BM_GetConfig, served, Range::kServed, 1)
    ->Iterations(kBatches)
    ->UseManualTime();
BENCHMARK_CAPTURE(BM_GetConfig, refused, Range::kRefused, 1)
    ->Iterations(kBatches)
    ->UseManualTime();
BENCHMARK_CAPTURE(BM_GetConfig, served_batch, Range::kServed,
                  GetConfigPath::kBatch)
    ->Iterations(kBatches)
    ->UseManualTime();
BENCHMARK_CAPTURE(BM_GetConfig, refused_batch, Range::kRefused,
                  GetConfigPath::kBatch)
    ->Iterations(kBatches)
    ->UseManualTime();

}  // namespace
}  // namespace vmsg::bench
