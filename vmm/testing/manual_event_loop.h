// ManualEventLoop: an EventLoop that the test drives, on a clock that it moves.

#ifndef VMSG_VMM_TESTING_MANUAL_EVENT_LOOP_H_
#define VMSG_VMM_TESTING_MANUAL_EVENT_LOOP_H_

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/base/clock.h"
#include "vmm/event/event_loop.h"
#include "vmm/event/run_queue.h"
#include "vmm/event/timer_queue.h"
#include "vmm/testing/fake_clock.h"

namespace vmsg::vmm {

// Keeps the whole contract of EventLoop and passes the same tests as the real
// one. Nothing happens outside the calls below, and none of them waits.
//
// Threads: Post() and WakeSource::Signal() from any; the rest from the test's.
class ManualEventLoop final : public EventLoop {
 public:
  // `clock` is borrowed and outlives the loop; give several loops the same one
  // to move them together. Null: one of its own.
  explicit ManualEventLoop(FakeClock* clock = nullptr);
  ~ManualEventLoop() override;

  // One round: ready descriptors, due timers, wake sources and closures.
  // Returns how many callbacks ran.
  int RunOnce();

  // Rounds until one finds nothing to do. A loop that never gets there (a
  // readable descriptor that nobody reads, a timer armed for now again and
  // again) fails a check after kMaxRounds. Returns how many callbacks ran.
  int RunUntilIdle();
  static constexpr int kMaxRounds = 10000;

  // Moves the clock by `by`, stopping at each deadline on the way, and runs
  // until idle at each stop: every timer sees its own time.
  void AdvanceTime(Duration by);

  // Like EpollEventLoop::Stop(): Post() returns false from now on, and the next
  // RunOnce() destroys what is queued.
  void Stop() { queue_.Close(); }

  FakeClock& fake_clock() { return *clock_; }

  bool Post(Closure closure) override;
  bool IsInLoopThread() const override;
  absl::StatusOr<std::unique_ptr<FdWatch>> Watch(int fd, FdEvents events,
                                                 FdCallback callback) override;
  std::unique_ptr<Timer> CreateTimer(Closure callback) override;
  std::unique_ptr<WakeSource> CreateWakeSource(Closure callback) override;
  const Clock& clock() const override { return *clock_; }

 private:
  struct WatchItem;
  class WatchHandle;

  int RunWatches();

  FakeClock own_clock_;
  FakeClock* const clock_;
  // The thread inside RunOnce(), if any.
  std::atomic<std::thread::id> runner_{std::thread::id()};
  // A round that is looking at one keeps it, also when its handle goes.
  std::vector<std::shared_ptr<WatchItem>> watches_;
  TimerQueue timers_;
  RunQueue queue_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_TESTING_MANUAL_EVENT_LOOP_H_
