// InterruptController: how a device raises message-signalled interrupts.

#ifndef VMSG_VMM_INTERRUPT_INTERRUPT_CONTROLLER_H_
#define VMSG_VMM_INTERRUPT_INTERRUPT_CONTROLLER_H_

#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace vmsg::vmm {

// What a function writes to raise an interrupt. The guest programmed address
// and data; the requester id is the function's own (bus << 8 | device << 3 |
// function) and lets an interrupt-remapping implementation check the source.
struct MsiMessage {
  uint64_t address = 0;  // guest-physical
  uint32_t data = 0;
  uint32_t requester_id = 0;

  friend bool operator==(const MsiMessage&, const MsiMessage&) = default;
};

// One source of one message. Masks and pending bits are not known here: they
// live in MsixTable, the only caller.
class MsiRoute {
 public:
  MsiRoute() = default;
  MsiRoute(const MsiRoute&) = delete;
  MsiRoute& operator=(const MsiRoute&) = delete;
  // Takes the route out. Triggers in progress on other threads must be over.
  virtual ~MsiRoute() = default;

  // Replaces the message. A Trigger() that starts after it returned uses the
  // new one; one that runs at the same time uses the old or the new one, whole.
  //
  //   InvalidArgument      this controller has no target at that address; the
  //                        old message stays.
  //   ResourceExhausted    no route left; the old message stays.
  // Threads: any. May take a lock and a system call; runs on vCPU threads.
  virtual absl::Status Update(const MsiMessage& message) = 0;

  // Raises the interrupt of this route in the guest. The guest programmed the
  // address: implementations check it before they use it.
  //
  //   OK                   accepted for delivery, perhaps not yet seen by a
  //                        vCPU.
  //   FailedPrecondition   no message set, or the controller is shut down; do
  //                        not retry.
  //   Unavailable          the injection path is full; nothing was sent, the
  //                        caller may retry.
  // Threads: any, concurrently with itself and with Update(). Does not block;
  // allocates only on error.
  // Source: PCI Local Bus 3.0, section 6.8 (MSI and MSI-X).
  virtual absl::Status Trigger() = 0;
};

// Threads: any. Outlives its routes.
class InterruptController {
 public:
  InterruptController() = default;
  InterruptController(const InterruptController&) = delete;
  InterruptController& operator=(const InterruptController&) = delete;
  virtual ~InterruptController() = default;

  // A route without a message yet.
  //   ResourceExhausted  the controller's routes, or descriptors, are used up.
  virtual absl::StatusOr<std::unique_ptr<MsiRoute>> CreateMsiRoute() = 0;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_INTERRUPT_INTERRUPT_CONTROLLER_H_
