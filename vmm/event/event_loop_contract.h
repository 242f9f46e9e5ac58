// The contract of EventLoop as tests that any implementation has to pass, ours
// and an embedder's. A test of yours that depends on :event_loop_contract has
// them, and defines which loops they run on:
//
//   std::vector<LoopImplementation> vmsg::vmm::EventLoopsUnderTest() {
//     return {{"Mine", [] { return std::make_unique<MineUnderTest>(); }}};
//   }
//
// They are named Each/EventLoopContractTest.*/Mine, and so on.

#ifndef VMSG_VMM_EVENT_EVENT_LOOP_CONTRACT_H_
#define VMSG_VMM_EVENT_EVENT_LOOP_CONTRACT_H_

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "vmm/event/event_loop.h"
#include "vmm/testing/fake_clock.h"

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

struct LoopImplementation {
  std::string name;  // of letters and digits
  std::function<std::unique_ptr<LoopUnderTest>()> create;
};

// Defined by the test that the contract is linked into. Called before main()
// has run any test, perhaps more than once.
std::vector<LoopImplementation> EventLoopsUnderTest();

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_EVENT_EVENT_LOOP_CONTRACT_H_
