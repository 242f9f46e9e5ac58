#include "devices/virtio/transition.h"

#include <utility>

namespace vmsg::virtio {

void Transition::Begin(VirtioDevice::StatusCompletion done) {
  done_ = std::make_shared<Pending>(
      Pending{.owner = this, .done = std::move(done)});
}

void Transition::Begin(VirtioDevice::Completion done) {
  Begin(VirtioDevice::StatusCompletion(
      [done = std::move(done)](absl::Status) mutable { done(); }));
}

void Transition::Finish(absl::Status status) {
  if (done_ == nullptr || done_->finished) return;
  done_->finished = true;
  // False after the loop has stopped: then nothing is called any more.
  loop_->Post([weak = std::weak_ptr<Pending>(done_),
               status = std::move(status)]() mutable {
    const std::shared_ptr<Pending> pending = weak.lock();
    if (pending == nullptr) return;
    // The completion may begin another transition, or destroy the device.
    pending->owner->done_.reset();
    pending->done(std::move(status));
  });
}

}  // namespace vmsg::virtio
