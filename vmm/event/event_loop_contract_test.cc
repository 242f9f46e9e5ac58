// The loops of this project keep the contract, and name what breaks it.

#include "vmm/event/event_loop_contract.h"

#include <sys/eventfd.h>

#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "vmm/base/clock.h"
#include "vmm/base/unique_fd.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/event/event_loop.h"
#include "vmm/event/event_loop_contract_fixture.h"
#include "vmm/testing/manual_event_loop.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

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

class EventLoopDeathTest : public EventLoopContractTest {};

VMSG_FOR_EACH_EVENT_LOOP(EventLoopDeathTest);

TEST_P(EventLoopDeathTest, ClosingAWatchedDescriptorIsABug) {
  UniqueFd end(eventfd(0, EFD_CLOEXEC));
  ASSERT_OK_AND_ASSIGN(auto watch, loop().Watch(end.get(), FdEvents::kReadable,
                                                [](FdEvents) {}));
  EXPECT_DEATH(
      {
        end.reset();
        watch.reset();
      },
      "closed while it was watched");
  watch.reset();
}

TEST_P(EventLoopDeathTest, OutlivingTheLoopIsABug) {
  const UniqueFd end(eventfd(0, EFD_CLOEXEC));
  ASSERT_OK_AND_ASSIGN(auto watch, loop().Watch(end.get(), FdEvents::kReadable,
                                                [](FdEvents) {}));
  EXPECT_DEATH(DestroyLoop(), "a watch outlives its loop");
  auto timer = loop().CreateTimer([] {});
  watch.reset();
  EXPECT_DEATH(DestroyLoop(), "a timer outlives its loop");
  const auto source = loop().CreateWakeSource([] {});
  timer.reset();
  EXPECT_DEATH(DestroyLoop(), "a wake source outlives its loop");
}

TEST_P(EventLoopDeathTest, RunningTheLoopInsideItsCallbackIsABug) {
  loop().Post([this] { RunOnce(); });
  EXPECT_DEATH(RunOnce(), "already running");
  Stop();
  RunOnce();
}

}  // namespace

std::vector<LoopImplementation> EventLoopsUnderTest() {
  return {{"Epoll", [] { return std::make_unique<EpollUnderTest>(); }},
          {"Manual", [] { return std::make_unique<ManualUnderTest>(); }}};
}

}  // namespace vmsg::vmm
