#include "vmm/event/epoll_event_loop.h"

#include <sys/epoll.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "vmm/base/check.h"
#include "vmm/base/counter.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/unique_fd.h"
#include "vmm/event/epoll_waiter.h"
#include "vmm/event/run_queue.h"
#include "vmm/event/timer_queue.h"

namespace vmsg::vmm {
namespace {

// Bounds the time until timers, wake sources and posts get their turn. Ready
// descriptors beyond it come first in the next round: epoll rotates them.
constexpr size_t kMaxEventsPerRound = 64;

// epoll data of the wake-up descriptor; no watch has this slot.
constexpr uint64_t kWakeupKey = UINT64_MAX;

// A paused watch stays registered, so that resuming can't fail, but the kernel
// reports errors and hang-ups of it all the same: edge-triggered, once.
uint32_t EpollEvents(FdEvents events, bool edge_triggered) {
  uint32_t result =
      edge_triggered || events == FdEvents::kNone ? uint32_t{EPOLLET} : 0;
  if (Has(events, FdEvents::kReadable)) result |= EPOLLIN;
  if (Has(events, FdEvents::kWritable)) result |= EPOLLOUT;
  return result;
}

FdEvents ReadyEvents(uint32_t reported, FdEvents wanted) {
  if (wanted == FdEvents::kNone) return FdEvents::kNone;
  if ((reported & (EPOLLERR | EPOLLHUP)) != 0) {
    return FdEvents::kReadable | FdEvents::kWritable;
  }
  FdEvents ready = FdEvents::kNone;
  if ((reported & EPOLLIN) != 0 && Has(wanted, FdEvents::kReadable)) {
    ready = ready | FdEvents::kReadable;
  }
  if ((reported & EPOLLOUT) != 0 && Has(wanted, FdEvents::kWritable)) {
    ready = ready | FdEvents::kWritable;
  }
  return ready;
}

absl::Status WatchError(int fd, int error) {
  const std::string text =
      absl::StrCat("watch descriptor ", fd, ": ", std::strerror(error));
  switch (error) {
    case EEXIST:
      return absl::AlreadyExistsError(text);
    case ENOMEM:
    case ENOSPC:
      return absl::ResourceExhaustedError(text);
    default:
      return absl::InvalidArgumentError(text);
  }
}

class Loop final : public EpollEventLoop {
 public:
  Loop(UniqueFd epoll_fd, EventFd wakeup, const Clock* clock);
  ~Loop() override;

  bool Post(Closure closure) override;
  bool IsInLoopThread() const override;
  absl::StatusOr<std::unique_ptr<FdWatch>> Watch(int fd, FdEvents events,
                                                 FdCallback callback) override;
  absl::StatusOr<std::unique_ptr<FdWatch>> WatchEventFd(
      const EventFd* event, Closure callback) override;
  std::unique_ptr<Timer> CreateTimer(Closure callback) override;
  std::unique_ptr<WakeSource> CreateWakeSource(Closure callback) override;
  const Clock& clock() const override { return *clock_; }

  void Run() override;
  int RunOnce(Duration max_wait) override;
  void Stop() override { queue_.Close(); }
  Stats stats() const override;

  // Registers the wake-up descriptor.
  absl::Status Init();

 private:
  // Outlives its handle while its callback runs.
  struct WatchItem {
    FdCallback callback;
    int fd;
    FdEvents events;
    bool edge_triggered = false;
    uint32_t slot = 0;
    bool running = false;
    bool abandoned = false;
  };
  class WatchHandle;

  // What epoll reports names a slot and the generation of its user, so that an
  // event of a watch that is gone finds nobody, whatever took its descriptor or
  // its slot since.
  struct Slot {
    WatchItem* item = nullptr;
    uint32_t generation = 0;
  };
  static uint64_t Key(uint32_t slot, uint32_t generation) {
    return uint64_t{generation} << 32 | slot;
  }

  void Enter();
  void Leave();
  int Round(Duration max_wait);
  // Until the next timer, at most `max_wait` (negative: without limit).
  Duration WaitTime(Duration max_wait) const;
  int Dispatch(const epoll_event& event);
  absl::StatusOr<std::unique_ptr<FdWatch>> Add(WatchItem watch);
  uint32_t TakeSlot();
  void Unwatch(WatchItem* item);
  int Control(int operation, const WatchItem& item);

  const UniqueFd epoll_fd_;
  const EventFd wakeup_;
  const SteadyClock steady_clock_;
  const Clock* const clock_;
  EpollWaiter waiter_;
  OwnedCounter waits_;
  // The thread inside Run() or RunOnce(), if any.
  std::atomic<std::thread::id> runner_{std::thread::id()};
  std::vector<Slot> slots_;
  std::vector<uint32_t> free_slots_;
  TimerQueue timers_;
  RunQueue queue_;
};

class Loop::WatchHandle final : public FdWatch {
 public:
  WatchHandle(Loop* loop, WatchItem* item) : loop_(loop), item_(item) {}
  ~WatchHandle() override { loop_->Unwatch(item_); }

  void SetEvents(FdEvents events) override {
    VMSG_CHECK(loop_->IsInLoopThread());
    if (item_->events == events) return;
    item_->events = events;
    VMSG_CHECK(loop_->Control(EPOLL_CTL_MOD, *item_) == 0,
               "the descriptor was closed while it was watched");
  }

 private:
  Loop* const loop_;
  WatchItem* const item_;
};

Loop::Loop(UniqueFd epoll_fd, EventFd wakeup, const Clock* clock)
    : epoll_fd_(std::move(epoll_fd)),
      wakeup_(std::move(wakeup)),
      clock_(clock != nullptr ? clock : &steady_clock_),
      timers_(this),
      queue_(this, &wakeup_) {}

Loop::~Loop() {
  // First: what a queued closure owns may be a watch or a timer of this loop.
  queue_.Close();
  queue_.DropAll();
  VMSG_CHECK(free_slots_.size() == slots_.size(), "a watch outlives its loop");
}

absl::Status Loop::Init() {
  // Edge-triggered: each write wakes once and nobody has to read the count.
  epoll_event event = {.events = EPOLLIN | EPOLLET, .data = {}};
  event.data.u64 = kWakeupKey;
  if (epoll_ctl(epoll_fd_.get(), EPOLL_CTL_ADD, wakeup_.fd(), &event) != 0) {
    return WatchError(wakeup_.fd(), errno);
  }
  return absl::OkStatus();
}

bool Loop::Post(Closure closure) { return queue_.Post(std::move(closure)); }

bool Loop::IsInLoopThread() const {
  const std::thread::id runner = runner_.load(std::memory_order_relaxed);
  return runner == std::thread::id() || runner == std::this_thread::get_id();
}

absl::StatusOr<std::unique_ptr<FdWatch>> Loop::Watch(int fd, FdEvents events,
                                                     FdCallback callback) {
  VMSG_CHECK(callback != nullptr);
  return Add(
      WatchItem{.callback = std::move(callback), .fd = fd, .events = events});
}

absl::StatusOr<std::unique_ptr<FdWatch>> Loop::WatchEventFd(
    const EventFd* event, Closure callback) {
  VMSG_CHECK(callback != nullptr);
  // Each signal is an edge, also of a count that nobody takes back to zero. It
  // takes 2^64 - 2 of them to fill.
  return Add(WatchItem{
      .callback = [c = std::move(callback)](FdEvents) mutable { c(); },
      .fd = event->fd(),
      .events = FdEvents::kReadable,
      .edge_triggered = true});
}

absl::StatusOr<std::unique_ptr<FdWatch>> Loop::Add(WatchItem watch) {
  VMSG_CHECK(IsInLoopThread());
  auto item = std::make_unique<WatchItem>(std::move(watch));
  item->slot = TakeSlot();
  if (Control(EPOLL_CTL_ADD, *item) != 0) {
    const int error = errno;
    free_slots_.push_back(item->slot);
    return WatchError(item->fd, error);
  }
  slots_[item->slot].item = item.get();
  return std::make_unique<WatchHandle>(this, item.release());
}

uint32_t Loop::TakeSlot() {
  if (free_slots_.empty()) {
    slots_.emplace_back();
    // So that giving a slot back, in a destructor, never allocates.
    free_slots_.reserve(slots_.capacity());
    return static_cast<uint32_t>(slots_.size() - 1);
  }
  const uint32_t slot = free_slots_.back();
  free_slots_.pop_back();
  return slot;
}

void Loop::Unwatch(WatchItem* item) {
  VMSG_CHECK(IsInLoopThread());
  VMSG_CHECK(Control(EPOLL_CTL_DEL, *item) == 0,
             "the descriptor was closed while it was watched");
  Slot& slot = slots_[item->slot];
  slot.item = nullptr;
  ++slot.generation;
  free_slots_.push_back(item->slot);
  if (item->running) {
    item->abandoned = true;
  } else {
    delete item;
  }
}

int Loop::Control(int operation, const WatchItem& item) {
  epoll_event event = {.events = EpollEvents(item.events, item.edge_triggered),
                       .data = {}};
  event.data.u64 = Key(item.slot, slots_[item.slot].generation);
  return epoll_ctl(epoll_fd_.get(), operation, item.fd, &event);
}

std::unique_ptr<Timer> Loop::CreateTimer(Closure callback) {
  return timers_.Create(std::move(callback));
}

std::unique_ptr<WakeSource> Loop::CreateWakeSource(Closure callback) {
  return queue_.CreateWakeSource(std::move(callback));
}

void Loop::Run() {
  Enter();
  while (!queue_.closed()) Round(Duration(-1));
  queue_.DropAll();
  Leave();
}

int Loop::RunOnce(Duration max_wait) {
  Enter();
  int ran = 0;
  if (queue_.closed()) {
    queue_.DropAll();
  } else {
    ran = Round(max_wait);
  }
  Leave();
  return ran;
}

void Loop::Enter() {
  std::thread::id nobody;
  VMSG_CHECK(runner_.compare_exchange_strong(nobody, std::this_thread::get_id(),
                                             std::memory_order_relaxed),
             "the loop is already running");
}

void Loop::Leave() {
  runner_.store(std::thread::id(), std::memory_order_relaxed);
}

int Loop::Round(Duration max_wait) {
  Duration timeout = WaitTime(max_wait);
  const bool waiting = timeout != Duration::zero() && queue_.BeginWait();
  if (!waiting) timeout = Duration::zero();
  std::array<epoll_event, kMaxEventsPerRound> events;
  waits_.Add();
  const int ready = waiter_.Wait(epoll_fd_.get(), events, timeout);
  if (waiting) queue_.EndWait();

  int ran = 0;
  for (int i = 0; i < ready; ++i) ran += Dispatch(events[i]);
  ran += timers_.RunDue();
  ran += queue_.RunBatch();
  return ran;
}

Duration Loop::WaitTime(Duration max_wait) const {
  if (max_wait == Duration::zero()) return max_wait;
  const std::optional<MonotonicTime> deadline = timers_.NextDeadline();
  if (!deadline.has_value()) return max_wait;
  const Duration until = std::max(*deadline - clock_->Now(), Duration::zero());
  return max_wait < Duration::zero() ? until : std::min(until, max_wait);
}

int Loop::Dispatch(const epoll_event& event) {
  const uint64_t key = event.data.u64;
  if (key == kWakeupKey) return 0;
  const Slot& slot = slots_[static_cast<uint32_t>(key)];
  WatchItem* const item = slot.item;
  if (item == nullptr || slot.generation != key >> 32) return 0;
  const FdEvents ready = ReadyEvents(event.events, item->events);
  if (ready == FdEvents::kNone) return 0;
  item->running = true;
  item->callback(ready);
  item->running = false;
  if (item->abandoned) delete item;
  return 1;
}

EpollEventLoop::Stats Loop::stats() const {
  return {.waits = waits_.value(), .wakeup_writes = queue_.wakeup_writes()};
}

}  // namespace

absl::StatusOr<std::unique_ptr<EpollEventLoop>> EpollEventLoop::Create(
    const Clock* clock) {
  UniqueFd epoll_fd(epoll_create1(EPOLL_CLOEXEC));
  if (!epoll_fd.valid()) {
    return absl::ResourceExhaustedError(
        absl::StrCat("epoll_create1: ", std::strerror(errno)));
  }
  absl::StatusOr<EventFd> wakeup = EventFd::Create();
  if (!wakeup.ok()) return wakeup.status();
  auto loop =
      std::make_unique<Loop>(std::move(epoll_fd), *std::move(wakeup), clock);
  if (absl::Status status = loop->Init(); !status.ok()) return status;
  return loop;
}

}  // namespace vmsg::vmm
