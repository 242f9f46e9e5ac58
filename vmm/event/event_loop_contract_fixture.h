// What the tests of the EventLoop contract share.

#ifndef VMSG_VMM_EVENT_EVENT_LOOP_CONTRACT_FIXTURE_H_
#define VMSG_VMM_EVENT_EVENT_LOOP_CONTRACT_FIXTURE_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "vmm/event/event_loop.h"
#include "vmm/event/event_loop_contract.h"
#include "vmm/testing/fake_clock.h"

namespace vmsg::vmm {

// Something whose destruction a test can see.
class Sentinel {
 public:
  Sentinel() : alive_(std::make_shared<bool>(true)) {}
  std::shared_ptr<bool> Hold() { return std::exchange(alive_, nullptr); }
  std::weak_ptr<bool> Watch() const { return alive_; }

 private:
  std::shared_ptr<bool> alive_;
};

class EventLoopContractTest
    : public ::testing::TestWithParam<LoopImplementation> {
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

inline std::string ImplementationName(
    const ::testing::TestParamInfo<LoopImplementation>& info) {
  return info.param.name;
}

// Each suite runs on all loops.
#define VMSG_FOR_EACH_EVENT_LOOP(suite)                                \
  INSTANTIATE_TEST_SUITE_P(Each, suite,                                \
                           ::testing::ValuesIn(EventLoopsUnderTest()), \
                           ImplementationName)

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_EVENT_EVENT_LOOP_CONTRACT_FIXTURE_H_
