#include "benchmark/benchmark.h"

#include <cstdint>

#include "boost/lockfree/spsc_queue.hpp"

namespace vmsg {
namespace {

void BM_PushPop(benchmark::State& state) {
  boost::lockfree::spsc_queue<uint64_t, boost::lockfree::capacity<61>> queue;
  uint64_t value = 0;
  for (auto _ : state) {
    if (!queue.push(value) || !queue.pop(value)) {
      state.SkipWithError("a queue with room refused a value");
    }
    benchmark::DoNotOptimize(value);
  }
}
BENCHMARK(BM_PushPop);

}  // namespace
}  // namespace vmsg
