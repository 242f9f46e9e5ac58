// What tests of the EventLoop contract share: each test runs against each
// implementation that we have.

#ifndef VMSG_VMM_EVENT_EVENT_LOOP_CONTRACT_H_
#define VMSG_VMM_EVENT_EVENT_LOOP_CONTRACT_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "vmm/base/clock.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/event/event_loop.h"
#include "vmm/testing/fake_clock.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::vmm {

// A loop on a fake clock, with what its interface leaves to the embedder.
class LoopUnderTest {
 public:
  virtual ~LoopUnderTest() = default;
  virtual EventLoop& loop() = 0;
  // One round without waiting; how many callbacks ran.
  virtual int RunOnce() = 0;
  virtual void Stop() = 0;

  FakeClock clock;
};

class EpollUnderTest final : public LoopUnderTest {
 public:
  EpollUnderTest() : loop_(*EpollEventLoop::Create(&clock)) {}
  EventLoop& loop() override { return *loop_; }
  int RunOnce() override { return loop_->RunOnce(Duration::zero()); }
  void Stop() override { loop_->Stop(); }

 private:
  const std::unique_ptr<EpollEventLoop> loop_;
};

class ManualUnderTest final : public LoopUnderTest {
 public:
  EventLoop& loop() override { return loop_; }
  int RunOnce() override { return loop_.RunOnce(); }
  void Stop() override { loop_.Stop(); }

 private:
  ManualEventLoop loop_{&clock};
};

struct Implementation {
  const char* name;
  std::unique_ptr<LoopUnderTest> (*create)();
};

template <typename T>
std::unique_ptr<LoopUnderTest> CreateLoop() {
  return std::make_unique<T>();
}

// Something whose destruction a test can see.
class Sentinel {
 public:
  Sentinel() : alive_(std::make_shared<bool>(true)) {}
  std::shared_ptr<bool> Hold() { return std::exchange(alive_, nullptr); }
  std::weak_ptr<bool> Watch() const { return alive_; }

 private:
  std::shared_ptr<bool> alive_;
};

class EventLoopContractTest : public ::testing::TestWithParam<Implementation> {
 protected:
  EventLoopContractTest() : under_test_(GetParam().create()) {}

  EventLoop& loop() { return under_test_->loop(); }
  FakeClock& clock() { return under_test_->clock; }
  int RunOnce() { return under_test_->RunOnce(); }
  void Stop() { under_test_->Stop(); }
  void RunUntilIdle() {
    while (RunOnce() != 0) {
    }
  }
  void DestroyLoop() { under_test_.reset(); }

  // A callback that adds `name` to the journal.
  EventLoop::Closure Note(std::string name) {
    return [this, name = std::move(name)] { journal_.push_back(name); };
  }
  std::vector<std::string> TakeJournal() { return std::exchange(journal_, {}); }

  std::vector<std::string> journal_;

 private:
  std::unique_ptr<LoopUnderTest> under_test_;
};

inline auto AllEventLoops() {
  return ::testing::Values(
      Implementation{"Epoll", CreateLoop<EpollUnderTest>},
      Implementation{"Manual", CreateLoop<ManualUnderTest>});
}

inline std::string ImplementationName(
    const ::testing::TestParamInfo<Implementation>& info) {
  return info.param.name;
}

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_EVENT_EVENT_LOOP_CONTRACT_H_
