#include "guest/driver/window_fifo.h"

namespace vmsg::guest {
namespace {

constexpr uint64_t kLookNs = 1'000'000;

}  // namespace

Error JoinFifo(Platform* platform, Fifo* fifo, uint64_t doorbell_address,
               uint32_t interrupt, uint64_t timeout_ns) {
  const uint64_t deadline = DeadlineAfter(platform->NowNs(), timeout_ns);
  if (!fifo->Attach()) return Error::kFifoBroken;
  bool ring = fifo->state() == FifoState::kWaiting;
  while (true) {
    const uint64_t seen = platform->InterruptCount(interrupt);
    while (fifo->Step()) ring = true;
    if (ring) platform->WriteMmio(doorbell_address, 4, 1);
    ring = false;
    if (fifo->state() == FifoState::kRunning) return Error::kNone;
    if (fifo->state() == FifoState::kBroken) return Error::kFifoBroken;
    const uint64_t now = platform->NowNs();
    if (now >= deadline) {
      fifo->Detach();
      return Error::kTimeout;
    }
    const uint64_t look = DeadlineAfter(now, kLookNs);
    platform->WaitForInterrupt(interrupt, seen,
                               look < deadline ? look : deadline);
  }
}

}  // namespace vmsg::guest
