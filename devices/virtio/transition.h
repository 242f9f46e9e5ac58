// Transition: the completion side of VirtioDevice's life, for device
// implementations.

#ifndef VMSG_DEVICES_VIRTIO_TRANSITION_H_
#define VMSG_DEVICES_VIRTIO_TRANSITION_H_

#include <memory>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "devices/virtio/virtio_device.h"
#include "vmm/event/event_loop.h"

namespace vmsg::virtio {

// Holds the completion of the one transition that a device is in, and calls it
// as VirtioDevice promises: once, on the loop, never inside the call that took
// it, and not at all when another transition overtook it.
//
// Threads: the loop's.
class Transition {
 public:
  // `loop` is borrowed and outlives the object.
  explicit Transition(vmm::EventLoop* loop) : loop_(loop) {}
  Transition(const Transition&) = delete;
  Transition& operator=(const Transition&) = delete;
  // A completion not yet called is dropped.
  ~Transition() = default;

  // Begins a transition. One that is running is overtaken: its completion is
  // destroyed without a call.
  void Begin(VirtioDevice::StatusCompletion done);
  void Begin(VirtioDevice::Completion done);

  // True from Begin() until just before the completion is called.
  bool running() const { return done_ != nullptr; }

  // Has the completion called in a later turn of the loop. No effect when none
  // is running; a second call for the same transition neither.
  void Finish(absl::Status status = absl::OkStatus());

 private:
  struct Pending {
    Transition* owner;
    VirtioDevice::StatusCompletion done;
    bool finished = false;
  };

  vmm::EventLoop* const loop_;
  // Posted closures hold it weakly: overtaken and destroyed look the same.
  std::shared_ptr<Pending> done_;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_TRANSITION_H_
