#include "vmm/event/timer_queue.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "vmm/base/check.h"

namespace vmsg::vmm {
namespace {

constexpr size_t kNotArmed = SIZE_MAX;

}  // namespace

// Outlives its handle while its callback runs.
struct TimerQueue::Item {
  EventLoop::Closure callback;
  MonotonicTime deadline = {};
  uint64_t sequence = 0;
  size_t index = kNotArmed;  // in heap_
  bool running = false;
  bool abandoned = false;
};

class TimerQueue::Handle final : public Timer {
 public:
  Handle(TimerQueue* queue, EventLoop::Closure callback)
      : queue_(queue), item_(new Item{.callback = std::move(callback)}) {}
  ~Handle() override {
    Cancel();
    --queue_->timers_;
    if (item_->running) {
      item_->abandoned = true;
    } else {
      delete item_;
    }
  }

  void Arm(Duration delay) override { queue_->Arm(item_, delay); }
  void Cancel() override { queue_->Disarm(item_); }
  bool armed() const override { return item_->index != kNotArmed; }

 private:
  TimerQueue* const queue_;
  Item* const item_;
};

TimerQueue::~TimerQueue() {
  VMSG_CHECK(timers_ == 0, "a timer outlives its loop");
}

std::unique_ptr<Timer> TimerQueue::Create(EventLoop::Closure callback) {
  VMSG_CHECK(loop_->IsInLoopThread());
  VMSG_CHECK(callback != nullptr);
  ++timers_;
  if (heap_.capacity() < timers_) {
    heap_.reserve(std::max<size_t>(8, 2 * timers_));
  }
  return std::make_unique<Handle>(this, std::move(callback));
}

std::optional<MonotonicTime> TimerQueue::NextDeadline() const {
  if (heap_.empty()) return std::nullopt;
  return heap_.front()->deadline;
}

int TimerQueue::RunDue() {
  if (heap_.empty()) return 0;
  const MonotonicTime now = loop_->clock().Now();
  const uint64_t first_new = next_sequence_;
  int ran = 0;
  while (!heap_.empty()) {
    Item* const item = heap_.front();
    // One armed since has a deadline of `now` or later, so behind it there is
    // nothing old that is due.
    if (item->deadline > now || item->sequence >= first_new) break;
    Disarm(item);
    item->running = true;
    item->callback();
    item->running = false;
    if (item->abandoned) delete item;
    ++ran;
  }
  return ran;
}

bool TimerQueue::Before(const Item& a, const Item& b) {
  if (a.deadline != b.deadline) return a.deadline < b.deadline;
  return a.sequence < b.sequence;
}

void TimerQueue::Arm(Item* item, Duration delay) {
  VMSG_CHECK(loop_->IsInLoopThread());
  Disarm(item);
  const MonotonicTime now = loop_->clock().Now();
  delay = std::max(delay, Duration::zero());
  item->deadline =
      delay > MonotonicTime::max() - now ? MonotonicTime::max() : now + delay;
  item->sequence = next_sequence_++;
  heap_.push_back(item);
  SiftUp(heap_.size() - 1);
}

void TimerQueue::Disarm(Item* item) {
  VMSG_CHECK(loop_->IsInLoopThread());
  const size_t index = std::exchange(item->index, kNotArmed);
  if (index == kNotArmed) return;
  Item* const last = heap_.back();
  heap_.pop_back();
  if (last == item) return;
  Place(index, last);
  SiftUp(index);
  SiftDown(last->index);
}

void TimerQueue::SiftUp(size_t index) {
  Item* const item = heap_[index];
  while (index > 0) {
    const size_t parent = (index - 1) / 2;
    if (!Before(*item, *heap_[parent])) break;
    Place(index, heap_[parent]);
    index = parent;
  }
  Place(index, item);
}

void TimerQueue::SiftDown(size_t index) {
  Item* const item = heap_[index];
  while (true) {
    size_t child = 2 * index + 1;
    if (child >= heap_.size()) break;
    if (child + 1 < heap_.size() && Before(*heap_[child + 1], *heap_[child])) {
      ++child;
    }
    if (!Before(*heap_[child], *item)) break;
    Place(index, heap_[child]);
    index = child;
  }
  Place(index, item);
}

void TimerQueue::Place(size_t index, Item* item) {
  heap_[index] = item;
  item->index = index;
}

}  // namespace vmsg::vmm
