// InProcessInterruptController: delivers messages to a function of the embedder
// (an in-process guest, a test, a VMM with interrupt hardware of its own).

#ifndef VMSG_VMM_INTERRUPT_IN_PROCESS_INTERRUPT_CONTROLLER_H_
#define VMSG_VMM_INTERRUPT_IN_PROCESS_INTERRUPT_CONTROLLER_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "vmm/interrupt/interrupt_controller.h"

namespace vmsg::vmm {

// Threads: any.
class InProcessInterruptController final : public InterruptController {
 public:
  // Called for each trigger, on the triggering thread, with no lock held, also
  // concurrently. Must not block.
  using Sink = absl::AnyInvocable<void(const MsiMessage&) const>;

  explicit InProcessInterruptController(Sink sink);

  absl::StatusOr<std::unique_ptr<MsiRoute>> CreateMsiRoute() override;

 private:
  const std::shared_ptr<const Sink> sink_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_INTERRUPT_IN_PROCESS_INTERRUPT_CONTROLLER_H_
