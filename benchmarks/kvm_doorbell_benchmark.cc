// From a guest's doorbell to its interrupt on KVM, against the least that
// connects an ioeventfd with an irqfd.

#include <cstdint>
#include <memory>

#include "benchmark/benchmark.h"
#include "benchmarks/kvm_doorbells.h"
#include "benchmarks/triple.h"
#include "vmm/base/check.h"

namespace vmsg::bench {
namespace {

constexpr uint32_t kRings = 200;
constexpr uint32_t kWarmUpRings = 20;

double NsEach(DoorbellGuest& guest) {
  return static_cast<double>(guest.Ring(kRings).count()) / kRings;
}

void DoorbellToInterrupt(benchmark::State& state, amp::FifoLayout layout) {
  absl::StatusOr<std::unique_ptr<AmpDoorbells>> amp =
      AmpDoorbells::Create(layout);
  if (vmm::KvmVm::CannotBeOpened(amp.status())) {
    state.SkipWithError(amp.status().ToString().c_str());
    return;
  }
  VMSG_CHECK(amp.ok(), amp.status().ToString());
  absl::StatusOr<std::unique_ptr<MinimalDoorbells>> minimal =
      MinimalDoorbells::Create((*amp)->place());
  VMSG_CHECK(minimal.ok(), minimal.status().ToString());
  (*minimal)->guest().Ring(kWarmUpRings);
  (*amp)->guest().Ring(kWarmUpRings);
  RunTriple(
      state, [&] { return NsEach((*minimal)->guest()); },
      [&] { return NsEach((*amp)->guest()); });
}

void BM_DoorbellToInterrupt(benchmark::State& state) {
  DoorbellToInterrupt(state, amp::FifoLayout::kSpsc);
}
BENCHMARK(BM_DoorbellToInterrupt)->Iterations(1)->UseManualTime();

void BM_DoorbellToInterruptShmem(benchmark::State& state) {
  DoorbellToInterrupt(state, amp::FifoLayout::kShmemV1);
}
BENCHMARK(BM_DoorbellToInterruptShmem)->Iterations(1)->UseManualTime();

}  // namespace
}  // namespace vmsg::bench
