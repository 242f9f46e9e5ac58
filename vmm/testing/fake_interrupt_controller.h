// FakeInterruptController: writes down what devices raise, and fails on
// request.

#ifndef VMSG_VMM_TESTING_FAKE_INTERRUPT_CONTROLLER_H_
#define VMSG_VMM_TESTING_FAKE_INTERRUPT_CONTROLLER_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/mutex.h"
#include "vmm/interrupt/interrupt_controller.h"

namespace vmsg::vmm {

// Routes are numbered from 0 in the order in which they were created.
//
// Threads: any, for everything. Routes may outlive the fake.
class FakeInterruptController final : public InterruptController {
 public:
  struct Raised {
    uint32_t route = 0;
    MsiMessage message;

    friend bool operator==(const Raised&, const Raised&) = default;
  };

  FakeInterruptController();

  absl::StatusOr<std::unique_ptr<MsiRoute>> CreateMsiRoute() override;

  // What was raised, in order; of all routes, or of one.
  std::vector<Raised> raised() const;
  std::vector<MsiMessage> raised(uint32_t route) const;
  uint64_t count() const;
  uint64_t count(uint32_t route) const;
  void ClearRaised();

  // Returns true when at least `count` interrupts were raised on `route` before
  // `timeout` is over.
  bool WaitForCount(uint32_t route, uint64_t count,
                    std::chrono::nanoseconds timeout) const;

  // Calls of MsiRoute::Update that were accepted.
  uint64_t updates(uint32_t route) const;
  uint32_t routes_created() const;
  uint32_t routes_alive() const;

  // From now on. Ok or nullopt: succeed again.
  void FailCreateAfter(std::optional<uint32_t> routes);  // ResourceExhausted
  void FailUpdates(absl::StatusCode code);
  void FailTriggers(absl::StatusCode code);

 private:
  class Route;
  struct State {
    mutable Mutex mutex;
    mutable CondVar raised_one;
    std::vector<Raised> raised ABSL_GUARDED_BY(mutex);
    std::vector<uint64_t> counts ABSL_GUARDED_BY(mutex);   // by route
    std::vector<uint64_t> updates ABSL_GUARDED_BY(mutex);  // by route
    uint32_t alive ABSL_GUARDED_BY(mutex) = 0;
    std::optional<uint32_t> creations_left ABSL_GUARDED_BY(mutex);
    absl::StatusCode update_code ABSL_GUARDED_BY(mutex) = absl::StatusCode::kOk;
    absl::StatusCode trigger_code ABSL_GUARDED_BY(mutex) =
        absl::StatusCode::kOk;
  };

  const std::shared_ptr<State> state_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_TESTING_FAKE_INTERRUPT_CONTROLLER_H_
