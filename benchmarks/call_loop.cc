#include "benchmarks/call_loop.h"

#include <utility>

#include "vmm/base/check.h"

namespace vmsg::bench {

class CallLoop::WatchHandle final : public vmm::FdWatch {
 public:
  WatchHandle(CallLoop* loop, vmm::FdEvents events, FdCallback callback)
      : loop_(loop), events_(events), callback_(std::move(callback)) {
    loop_->watches_.push_back(this);
  }
  ~WatchHandle() override { std::erase(loop_->watches_, this); }

  void SetEvents(vmm::FdEvents events) override { events_ = events; }
  void Run() {
    if (events_ != vmm::FdEvents::kNone) callback_(events_);
  }

 private:
  CallLoop* const loop_;
  vmm::FdEvents events_;
  FdCallback callback_;
};

class CallLoop::WakeHandle final : public vmm::WakeSource {
 public:
  WakeHandle(CallLoop* loop, Closure callback)
      : loop_(loop), callback_(std::move(callback)) {
    ++loop_->wakes_;
  }
  ~WakeHandle() override {
    --loop_->wakes_;
    if (!raised_) return;
    WakeHandle** link = &loop_->raised_;
    while (*link != this) link = &(*link)->next_;
    *link = next_;
    if (loop_->last_ == &next_) loop_->last_ = link;
  }

  void Signal() override {
    if (raised_) return;
    raised_ = true;
    *loop_->last_ = this;
    loop_->last_ = &next_;
  }
  // Returns the next one.
  WakeHandle* Run() {
    raised_ = false;
    WakeHandle* const next = std::exchange(next_, nullptr);
    callback_();
    return next;
  }

 private:
  CallLoop* const loop_;
  Closure callback_;
  bool raised_ = false;
  WakeHandle* next_ = nullptr;
};

CallLoop::~CallLoop() { VMSG_CHECK(watches_.empty() && wakes_ == 0); }

bool CallLoop::Post(Closure /*closure*/) {
  VMSG_CHECK(false, "nothing is posted to this loop");
  return false;
}

absl::StatusOr<std::unique_ptr<vmm::FdWatch>> CallLoop::Watch(
    int /*fd*/, vmm::FdEvents events, FdCallback callback) {
  return std::make_unique<WatchHandle>(this, events, std::move(callback));
}

std::unique_ptr<vmm::WakeSource> CallLoop::CreateWakeSource(Closure callback) {
  return std::make_unique<WakeHandle>(this, std::move(callback));
}

void CallLoop::RunWatches() {
  for (size_t i = 0; i < watches_.size(); ++i) watches_[i]->Run();
}

int CallLoop::RunWakes() {
  WakeHandle* wake = std::exchange(raised_, nullptr);
  last_ = &raised_;
  int ran = 0;
  for (; wake != nullptr; ++ran) wake = wake->Run();
  return ran;
}

void CallLoop::RunUntilIdle() {
  while (timers_.RunDue() + RunWakes() != 0) {
  }
}

}  // namespace vmsg::bench
