#include "vmm/testing/manual_event_loop.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/check.h"
#include "vmm/base/unique_fd.h"

namespace vmsg::vmm {
namespace {

short PollEvents(FdEvents events) {
  return static_cast<short>((Has(events, FdEvents::kReadable) ? POLLIN : 0) |
                            (Has(events, FdEvents::kWritable) ? POLLOUT : 0));
}

FdEvents ReadyEvents(short reported, FdEvents wanted) {
  VMSG_CHECK((reported & POLLNVAL) == 0,
             "the descriptor was closed while it was watched");
  if (wanted == FdEvents::kNone) return FdEvents::kNone;
  if ((reported & (POLLERR | POLLHUP)) != 0) {
    return FdEvents::kReadable | FdEvents::kWritable;
  }
  FdEvents ready = FdEvents::kNone;
  if ((reported & PollEvents(wanted) & POLLIN) != 0) {
    ready = ready | FdEvents::kReadable;
  }
  if ((reported & PollEvents(wanted) & POLLOUT) != 0) {
    ready = ready | FdEvents::kWritable;
  }
  return ready;
}

// Asks epoll, so that the answer is that of the real loop.
bool CanBeWatched(int fd) {
  const UniqueFd epoll_fd(epoll_create1(EPOLL_CLOEXEC));
  VMSG_CHECK(epoll_fd.valid());
  epoll_event event = {};
  return epoll_ctl(epoll_fd.get(), EPOLL_CTL_ADD, fd, &event) == 0;
}

// A callback may have moved the clock past it.
void AdvanceTo(MonotonicTime time, FakeClock* clock) {
  clock->Advance(std::max(time - clock->Now(), Duration::zero()));
}

}  // namespace

struct ManualEventLoop::WatchItem {
  int fd;
  FdEvents events;
  FdCallback callback;
  bool running = false;
  bool gone = false;
};

class ManualEventLoop::WatchHandle final : public FdWatch {
 public:
  WatchHandle(ManualEventLoop* loop, std::shared_ptr<WatchItem> item)
      : loop_(loop), item_(std::move(item)) {}
  ~WatchHandle() override {
    VMSG_CHECK(loop_->IsInLoopThread());
    // Catches what the real loop catches at this point.
    VMSG_CHECK(fcntl(item_->fd, F_GETFD) != -1,
               "the descriptor was closed while it was watched");
    item_->gone = true;
    if (!item_->running) item_->callback = nullptr;
    std::erase(loop_->watches_, item_);
  }

  void SetEvents(FdEvents events) override {
    VMSG_CHECK(loop_->IsInLoopThread());
    item_->events = events;
  }

 private:
  ManualEventLoop* const loop_;
  const std::shared_ptr<WatchItem> item_;
};

ManualEventLoop::ManualEventLoop(FakeClock* clock)
    : clock_(clock != nullptr ? clock : &own_clock_),
      timers_(this),
      queue_(this, nullptr) {}

ManualEventLoop::~ManualEventLoop() {
  queue_.Close();
  queue_.DropAll();
  VMSG_CHECK(watches_.empty(), "a watch outlives its loop");
}

int ManualEventLoop::RunOnce() {
  std::thread::id nobody;
  VMSG_CHECK(runner_.compare_exchange_strong(nobody, std::this_thread::get_id(),
                                             std::memory_order_relaxed),
             "the loop is already running");
  int ran = 0;
  if (queue_.closed()) {
    queue_.DropAll();
  } else {
    ran += RunWatches();
    ran += timers_.RunDue();
    ran += queue_.RunBatch();
  }
  runner_.store(std::thread::id(), std::memory_order_relaxed);
  return ran;
}

int ManualEventLoop::RunUntilIdle() {
  int ran = 0;
  for (int round = 0; round < kMaxRounds; ++round) {
    const int now = RunOnce();
    if (now == 0) return ran;
    ran += now;
  }
  CheckFailed(__FILE__, __LINE__, "RunUntilIdle", "the loop never gets idle");
}

void ManualEventLoop::AdvanceTime(Duration by) {
  const MonotonicTime end = clock_->Now() + by;
  RunUntilIdle();
  while (true) {
    const std::optional<MonotonicTime> next = timers_.NextDeadline();
    if (queue_.closed() || !next.has_value() || *next > end) break;
    AdvanceTo(*next, clock_);
    RunUntilIdle();
  }
  AdvanceTo(end, clock_);
  RunUntilIdle();
}

int ManualEventLoop::RunWatches() {
  if (watches_.empty()) return 0;
  const std::vector<std::shared_ptr<WatchItem>> items = watches_;
  std::vector<pollfd> polled;
  for (const auto& item : items) {
    // A negative descriptor is ignored by poll(2): a paused watch.
    const bool paused = item->events == FdEvents::kNone;
    polled.push_back({.fd = paused ? -1 : item->fd,
                      .events = PollEvents(item->events),
                      .revents = 0});
  }
  VMSG_CHECK(poll(polled.data(), polled.size(), 0) >= 0 || errno == EINTR);
  int ran = 0;
  for (size_t i = 0; i < items.size(); ++i) {
    // An earlier callback of this round may have changed or ended the watch.
    if (items[i]->gone) continue;
    const FdEvents ready = ReadyEvents(polled[i].revents, items[i]->events);
    if (ready == FdEvents::kNone) continue;
    items[i]->running = true;
    items[i]->callback(ready);
    items[i]->running = false;
    if (items[i]->gone) items[i]->callback = nullptr;
    ++ran;
  }
  return ran;
}

bool ManualEventLoop::Post(Closure closure) {
  return queue_.Post(std::move(closure));
}

bool ManualEventLoop::IsInLoopThread() const {
  const std::thread::id runner = runner_.load(std::memory_order_relaxed);
  return runner == std::thread::id() || runner == std::this_thread::get_id();
}

absl::StatusOr<std::unique_ptr<FdWatch>> ManualEventLoop::Watch(
    int fd, FdEvents events, FdCallback callback) {
  VMSG_CHECK(IsInLoopThread());
  VMSG_CHECK(callback != nullptr);
  if (!CanBeWatched(fd)) {
    return absl::InvalidArgumentError(
        absl::StrCat("watch descriptor ", fd, ": cannot be watched"));
  }
  for (const auto& item : watches_) {
    if (item->fd == fd) {
      return absl::AlreadyExistsError(
          absl::StrCat("watch descriptor ", fd, ": is watched"));
    }
  }
  watches_.push_back(std::make_shared<WatchItem>(
      WatchItem{.fd = fd, .events = events, .callback = std::move(callback)}));
  return std::make_unique<WatchHandle>(this, watches_.back());
}

std::unique_ptr<Timer> ManualEventLoop::CreateTimer(Closure callback) {
  return timers_.Create(std::move(callback));
}

std::unique_ptr<WakeSource> ManualEventLoop::CreateWakeSource(
    Closure callback) {
  return queue_.CreateWakeSource(std::move(callback));
}

}  // namespace vmsg::vmm
