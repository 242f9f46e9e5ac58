// CallLoop: an EventLoop that makes no system call, to measure what a device
// does in a turn and nothing else.

#ifndef VMSG_BENCHMARKS_CALL_LOOP_H_
#define VMSG_BENCHMARKS_CALL_LOOP_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/base/clock.h"
#include "vmm/event/event_loop.h"
#include "vmm/event/timer_queue.h"

namespace vmsg::bench {

// Nobody looks at descriptors: RunWatches() stands for a wait that found all of
// them ready. Nothing comes from another thread, so a signal is a flag.
//
// Threads: one.
class CallLoop final : public vmm::EventLoop {
 public:
  CallLoop() : timers_(this) {}
  // Watches, timers and wake sources are gone.
  ~CallLoop() override;

  void RunWatches();
  // Wake sources that are raised now, each once. Returns how many ran.
  int RunWakes();
  // Due timers and raised wake sources until there is none.
  void RunUntilIdle();

  // Takes nothing: fails a check.
  bool Post(Closure closure) override;
  bool IsInLoopThread() const override { return true; }
  absl::StatusOr<std::unique_ptr<vmm::FdWatch>> Watch(
      int fd, vmm::FdEvents events, FdCallback callback) override;
  std::unique_ptr<vmm::Timer> CreateTimer(Closure callback) override {
    return timers_.Create(std::move(callback));
  }
  std::unique_ptr<vmm::WakeSource> CreateWakeSource(Closure callback) override;
  const vmm::Clock& clock() const override { return clock_; }

 private:
  class WatchHandle;
  class WakeHandle;

  const vmm::SteadyClock clock_;
  std::vector<WatchHandle*> watches_;
  int wakes_ = 0;
  // A list of those that are raised, oldest first; its last link.
  WakeHandle* raised_ = nullptr;
  WakeHandle** last_ = &raised_;
  vmm::TimerQueue timers_;
};

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_CALL_LOOP_H_
