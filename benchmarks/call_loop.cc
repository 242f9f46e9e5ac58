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
    loop_->wakes_.push_back(this);
  }
  ~WakeHandle() override { std::erase(loop_->wakes_, this); }

  void Signal() override { raised_ = true; }
  bool Run() {
    if (!std::exchange(raised_, false)) return false;
    callback_();
    return true;
  }

 private:
  CallLoop* const loop_;
  Closure callback_;
  bool raised_ = false;
};

CallLoop::~CallLoop() { VMSG_CHECK(watches_.empty() && wakes_.empty()); }

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
  int ran = 0;
  for (size_t i = 0; i < wakes_.size(); ++i) ran += wakes_[i]->Run() ? 1 : 0;
  return ran;
}

void CallLoop::RunUntilIdle() {
  while (timers_.RunDue() + RunWakes() != 0) {
  }
}

}  // namespace vmsg::bench
