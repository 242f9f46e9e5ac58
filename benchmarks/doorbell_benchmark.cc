// What a doorbell with one PING costs the device's loop, against the least that
// turns a doorbell into an interrupt.

#include <chrono>
#include <cstdint>

#include "benchmark/benchmark.h"
#include "benchmarks/doorbell_loops.h"
#include "benchmarks/triple.h"
#include "vmm/base/check.h"

namespace vmsg::bench {
namespace {

constexpr uint32_t kPings = 100;
constexpr uint32_t kPingsAcrossThreads = 500;
constexpr uint32_t kWarmUpPings = 50;

// The doorbell has been rung when the loop looks: its three system calls and
// what the device does between them, but no sleep. One thread, so that its time
// is the loop's.
double AwakeNsEach(DoorbellLoop& loop) {
  std::chrono::nanoseconds time{0};
  for (uint32_t i = 0; i < kPings; ++i) {
    loop.Ring();
    const auto start = std::chrono::steady_clock::now();
    loop.RunOnce(/*wait=*/false);
    time += std::chrono::steady_clock::now() - start;
    VMSG_CHECK(loop.interrupt().Drain() == 1);
    loop.TakeAnswer();
  }
  return static_cast<double>(time.count()) / kPings;
}

void LoopPerPing(benchmark::State& state, amp::FifoLayout layout) {
  MinimalDoorbellLoop minimal;
  AmpDoorbellLoop amp(layout);
  AwakeNsEach(minimal);
  AwakeNsEach(amp);
  RunTriple(
      state, [&] { return AwakeNsEach(minimal); },
      [&] { return AwakeNsEach(amp); });
}

void BM_LoopPerPing(benchmark::State& state) {
  LoopPerPing(state, amp::FifoLayout::kSpsc);
}

void BM_LoopPerPingShmem(benchmark::State& state) {
  LoopPerPing(state, amp::FifoLayout::kShmemV1);
}

// Processor time of the loop's thread, which goes to sleep for each doorbell,
// and wakes a driver that sleeps too.
double CpuNsEach(DoorbellThread& thread) {
  const uint64_t before = thread.CpuNs();
  for (uint32_t i = 0; i < kPingsAcrossThreads; ++i) thread.Ping();
  return static_cast<double>(thread.CpuNs() - before) / kPingsAcrossThreads;
}

void BM_ThreadCpuPerPing(benchmark::State& state) {
  MinimalDoorbellLoop minimal_loop;
  AmpDoorbellLoop amp_loop;
  DoorbellThread minimal(&minimal_loop);
  DoorbellThread amp(&amp_loop);
  for (uint32_t i = 0; i < kWarmUpPings; ++i) {
    minimal.Ping();
    amp.Ping();
  }
  RunTriple(
      state, [&] { return CpuNsEach(minimal); },
      [&] { return CpuNsEach(amp); });
}

BENCHMARK(BM_LoopPerPing)->Iterations(1)->UseManualTime();
BENCHMARK(BM_LoopPerPingShmem)->Iterations(1)->UseManualTime();
BENCHMARK(BM_ThreadCpuPerPing)->Iterations(1)->UseManualTime();

}  // namespace
}  // namespace vmsg::bench
