// A triple: the baseline, the subject and the baseline once more, back to back.
// scripts/bench makes ratios of them, and drops a triple whose two baselines
// disagree.

#ifndef VMSG_BENCHMARKS_TRIPLE_H_
#define VMSG_BENCHMARKS_TRIPLE_H_

#include "absl/functional/function_ref.h"
#include "benchmark/benchmark.h"

namespace vmsg::bench {

// Register with ->Iterations(1)->UseManualTime(): one triple a repetition. Both
// functions return nanoseconds for one operation; what they need once was done
// before.
inline void RunTriple(benchmark::State& state,
                      absl::FunctionRef<double()> baseline,
                      absl::FunctionRef<double()> subject) {
  for (auto _ : state) {
    state.counters["before_ns"] = baseline();
    const double subject_ns = subject();
    state.counters["subject_ns"] = subject_ns;
    state.counters["after_ns"] = baseline();
    state.SetIterationTime(subject_ns * 1e-9);
  }
}

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_TRIPLE_H_
