// The FIFO in both layouts across two threads, against
// boost::lockfree::spsc_queue.

#include <cstdint>

#include "benchmark/benchmark.h"
#include "benchmarks/packet_queues.h"
#include "benchmarks/packet_traffic.h"
#include "benchmarks/triple.h"
#include "benchmarks/two_threads.h"

namespace vmsg::bench {
namespace {

// A few milliseconds each: longer ones would seldom be free of preemption.
constexpr uint64_t kStreamPackets = 50'000;
constexpr uint64_t kEchoPackets = 10'000;
constexpr uint64_t kWarmUpPackets = 5'000;
constexpr uint64_t kBatch = 16;

double Each(std::chrono::nanoseconds time, uint64_t count) {
  return static_cast<double>(time.count()) / static_cast<double>(count);
}

constexpr amp::FifoLayout kSpsc = amp::FifoLayout::kSpsc;
constexpr amp::FifoLayout kShmemV1 = amp::FifoLayout::kShmemV1;

// One packet at a time on both sides.
template <typename Queue, amp::FifoLayout kLayout = kSpsc>
void BM_Stream(benchmark::State& state) {
  TwoThreads threads;
  FifoWindow window(kLayout);
  Queue fifo(&window);
  BoostQueue boost;
  Stream(threads, boost, kWarmUpPackets);
  Stream(threads, fifo, kWarmUpPackets);
  RunTriple(
      state,
      [&] {
        return Each(Stream(threads, boost, kStreamPackets), kStreamPackets);
      },
      [&] {
        return Each(Stream(threads, fifo, kStreamPackets), kStreamPackets);
      });
}

// The FIFO in batches, against single packets in Boost's queue.
template <typename Queue, amp::FifoLayout kLayout = kSpsc>
void BM_StreamInBatches(benchmark::State& state) {
  TwoThreads threads;
  FifoWindow window(kLayout);
  Queue fifo(&window);
  BoostQueue boost;
  Stream(threads, boost, kWarmUpPackets);
  StreamInBatches(threads, fifo, kWarmUpPackets, kBatch);
  RunTriple(
      state,
      [&] {
        return Each(Stream(threads, boost, kStreamPackets), kStreamPackets);
      },
      [&] {
        return Each(StreamInBatches(threads, fifo, kStreamPackets, kBatch),
                    kStreamPackets);
      });
}

// A packet of the driver and one of the device in turn.
void RoundTrip(benchmark::State& state, amp::FifoLayout layout) {
  TwoThreads threads;
  FifoWindow window(layout);
  DriverQueue driver_queue(&window);
  DeviceQueue device_queue(&window);
  BoostQueue boost_there;
  BoostQueue boost_back;
  Echo(threads, boost_there, boost_back, kWarmUpPackets);
  Echo(threads, driver_queue, device_queue, kWarmUpPackets);
  RunTriple(
      state,
      [&] {
        return Each(Echo(threads, boost_there, boost_back, kEchoPackets),
                    kEchoPackets);
      },
      [&] {
        return Each(Echo(threads, driver_queue, device_queue, kEchoPackets),
                    kEchoPackets);
      });
}

void BM_RoundTrip(benchmark::State& state) { RoundTrip(state, kSpsc); }
void BM_RoundTripShmem(benchmark::State& state) { RoundTrip(state, kShmemV1); }

BENCHMARK_TEMPLATE(BM_Stream, DriverQueue)->Iterations(1)->UseManualTime();
BENCHMARK_TEMPLATE(BM_Stream, DeviceQueue)->Iterations(1)->UseManualTime();
BENCHMARK_TEMPLATE(BM_StreamInBatches, DriverQueue)
    ->Iterations(1)
    ->UseManualTime();
BENCHMARK_TEMPLATE(BM_StreamInBatches, DeviceQueue)
    ->Iterations(1)
    ->UseManualTime();
BENCHMARK(BM_RoundTrip)->Iterations(1)->UseManualTime();

BENCHMARK_TEMPLATE(BM_Stream, DriverQueue, kShmemV1)
    ->Iterations(1)
    ->UseManualTime();
BENCHMARK_TEMPLATE(BM_Stream, DeviceQueue, kShmemV1)
    ->Iterations(1)
    ->UseManualTime();
BENCHMARK_TEMPLATE(BM_StreamInBatches, DriverQueue, kShmemV1)
    ->Iterations(1)
    ->UseManualTime();
BENCHMARK_TEMPLATE(BM_StreamInBatches, DeviceQueue, kShmemV1)
    ->Iterations(1)
    ->UseManualTime();
BENCHMARK(BM_RoundTripShmem)->Iterations(1)->UseManualTime();

}  // namespace
}  // namespace vmsg::bench
