#include "vmm/event/run_queue.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

#include "vmm/base/check.h"

namespace vmsg::vmm {

// Owned by the queue while it is in it.
struct RunQueue::Item {
  virtual ~Item() = default;
  // Runs what it stands for, or only lets go of it. Returns callbacks run.
  virtual int Run() = 0;
  virtual void Drop() = 0;

  Item* next = nullptr;
};

struct RunQueue::PostedItem final : RunQueue::Item {
  explicit PostedItem(EventLoop::Closure c) : closure(std::move(c)) {}

  int Run() override {
    closure();
    delete this;
    return 1;
  }
  void Drop() override { delete this; }

  EventLoop::Closure closure;
};

// Outlives its handle while it is queued or its callback runs. Fields other
// than `queued` belong to the loop's thread.
struct RunQueue::WakeItem final : RunQueue::Item {
  explicit WakeItem(EventLoop::Closure c) : callback(std::move(c)) {}

  int Run() override {
    // Before the callback: a signal during it gives another run. Acquire: takes
    // in what was written before each of the signals that merged. Release: the
    // next signaller may write `next`, which the loop is done with.
    queued.exchange(false, std::memory_order_acq_rel);
    if (abandoned) {
      delete this;
      return 0;
    }
    running = true;
    callback();
    running = false;
    if (abandoned) DeleteOrDisarm();
    return 1;
  }

  void Drop() override {
    queued.store(false, std::memory_order_release);
    if (abandoned) delete this;
  }

  void Abandon() {
    abandoned = true;
    if (!running) DeleteOrDisarm();
  }

  // Still queued: the queue deletes it when it gets there.
  void DeleteOrDisarm() {
    if (queued.load(std::memory_order_acquire)) {
      callback = nullptr;
    } else {
      delete this;
    }
  }

  EventLoop::Closure callback;
  std::atomic<bool> queued{false};
  bool running = false;
  bool abandoned = false;
};

class RunQueue::WakeHandle final : public WakeSource {
 public:
  WakeHandle(RunQueue* queue, EventLoop::Closure callback)
      : queue_(queue), item_(new WakeItem(std::move(callback))) {
    ++queue_->wake_sources_;
  }
  ~WakeHandle() override {
    VMSG_CHECK(queue_->loop_->IsInLoopThread());
    --queue_->wake_sources_;
    item_->Abandon();
  }

  void Signal() override {
    // Release also when it merges: the run acquires from every signal.
    if (item_->queued.exchange(true, std::memory_order_acq_rel)) return;
    if (!queue_->Push(item_)) {
      item_->queued.store(false, std::memory_order_relaxed);
    }
  }

 private:
  RunQueue* const queue_;
  WakeItem* const item_;
};

RunQueue::RunQueue(const EventLoop* loop, const EventFd* wakeup)
    : loop_(loop), wakeup_(wakeup) {}

RunQueue::~RunQueue() {
  Close();
  DropAll();
  VMSG_CHECK(wake_sources_ == 0, "a wake source outlives its loop");
}

bool RunQueue::Post(EventLoop::Closure closure) {
  VMSG_CHECK(closure != nullptr);
  auto item = std::make_unique<PostedItem>(std::move(closure));
  if (!Push(item.get())) return false;
  static_cast<void>(item.release());  // the queue's now
  return true;
}

void RunQueue::Close() {
  head_.fetch_or(kClosed, std::memory_order_seq_cst);
  Wake();
}

std::unique_ptr<WakeSource> RunQueue::CreateWakeSource(
    EventLoop::Closure callback) {
  VMSG_CHECK(loop_->IsInLoopThread());
  VMSG_CHECK(callback != nullptr);
  return std::make_unique<WakeHandle>(this, std::move(callback));
}

bool RunQueue::Push(Item* item) {
  uintptr_t head = head_.load(std::memory_order_relaxed);
  do {
    if ((head & kClosed) != 0) return false;
    item->next = reinterpret_cast<Item*>(head);
  } while (!head_.compare_exchange_weak(head, reinterpret_cast<uintptr_t>(item),
                                        std::memory_order_seq_cst,
                                        std::memory_order_relaxed));
  Wake();
  return true;
}

// Sequentially consistent together with BeginWait(): the pusher changes head_
// then reads waiting_, the loop sets waiting_ then reads head_, so at least one
// of them sees the other.
void RunQueue::Wake() {
  if (!waiting_.load(std::memory_order_seq_cst)) return;
  if (!waiting_.exchange(false, std::memory_order_seq_cst)) return;
  wakeup_writes_.Add();
  wakeup_->Signal();
}

bool RunQueue::BeginWait() {
  VMSG_CHECK(wakeup_ != nullptr);
  waiting_.store(true, std::memory_order_seq_cst);
  if (head_.load(std::memory_order_seq_cst) == 0) return true;
  EndWait();
  return false;
}

RunQueue::Item* RunQueue::TakeAll() {
  // An empty round costs no locked instruction.
  if ((head_.load(std::memory_order_relaxed) & ~kClosed) == 0) return nullptr;
  const uintptr_t head = head_.fetch_and(kClosed, std::memory_order_acquire);
  Item* newest = reinterpret_cast<Item*>(head & ~kClosed);
  Item* oldest = nullptr;
  while (newest != nullptr) {
    Item* const item = std::exchange(newest, newest->next);
    item->next = std::exchange(oldest, item);
  }
  return oldest;
}

int RunQueue::RunBatch() {
  int ran = 0;
  for (Item* rest = TakeAll(); rest != nullptr;) {
    // Read first: running an item may free it or queue it again.
    Item* const item = std::exchange(rest, rest->next);
    ran += item->Run();
  }
  return ran;
}

void RunQueue::DropAll() {
  VMSG_CHECK(closed());
  for (Item* rest = TakeAll(); rest != nullptr;) {
    Item* const item = std::exchange(rest, rest->next);
    item->Drop();
  }
}

}  // namespace vmsg::vmm
