#include "benchmarks/two_threads.h"

#include <pthread.h>

#include "vmm/base/check.h"

namespace vmsg::bench {

TwoThreads::TwoThreads() : thread_([this] { ThreadMain(); }) {
  TakeProcessors();
}

TwoThreads::~TwoThreads() {
  phase_.store(Phase::kEnd, std::memory_order_release);
  thread_.join();
  pthread_setaffinity_np(pthread_self(), sizeof(allowed_), &allowed_);
}

void TwoThreads::TakeProcessors() {
  VMSG_CHECK(
      pthread_getaffinity_np(pthread_self(), sizeof(allowed_), &allowed_) == 0);
  if (CPU_COUNT(&allowed_) < 2) return;
  pthread_t next = pthread_self();
  int left = 2;
  for (int cpu = 0; left > 0; ++cpu) {
    if (!CPU_ISSET(cpu, &allowed_)) continue;
    cpu_set_t one;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    VMSG_CHECK(pthread_setaffinity_np(next, sizeof(one), &one) == 0);
    next = thread_.native_handle();
    --left;
  }
}

void TwoThreads::Await(Phase phase) const {
  Backoff backoff;
  while (phase_.load(std::memory_order_acquire) != phase) backoff.Wait();
}

std::chrono::nanoseconds TwoThreads::Run(Work here, Work there) {
  there_ = &there;
  phase_.store(Phase::kCalled, std::memory_order_release);
  Await(Phase::kReady);
  const auto start = std::chrono::steady_clock::now();
  phase_.store(Phase::kGo, std::memory_order_release);
  here();
  Await(Phase::kDone);
  const auto end = std::chrono::steady_clock::now();
  phase_.store(Phase::kIdle, std::memory_order_relaxed);
  return end - start;
}

void TwoThreads::ThreadMain() {
  Backoff backoff;
  while (true) {
    switch (phase_.load(std::memory_order_acquire)) {
      case Phase::kEnd:
        return;
      case Phase::kCalled:
        phase_.store(Phase::kReady, std::memory_order_release);
        Await(Phase::kGo);
        (*there_)();
        phase_.store(Phase::kDone, std::memory_order_release);
        break;
      default:
        backoff.Wait();
    }
  }
}

}  // namespace vmsg::bench
