// AnyVirtqueue: a virtqueue in the format that a device and its driver agreed
// on.

#ifndef VMSG_GUEST_DRIVER_ANY_VIRTQUEUE_H_
#define VMSG_GUEST_DRIVER_ANY_VIRTQUEUE_H_

#include <cstdint>

#include "guest/driver/packed_virtqueue.h"
#include "guest/driver/split_virtqueue.h"
#include "guest/driver/virtqueue.h"

namespace vmsg::guest {

enum class RingFormat : uint8_t { kSplit, kPacked };

// Storage for a queue of either format; holds one that is not created yet at
// first.
class AnyVirtqueue {
 public:
  AnyVirtqueue() = default;
  AnyVirtqueue(const AnyVirtqueue&) = delete;
  AnyVirtqueue& operator=(const AnyVirtqueue&) = delete;

  // Changes the format, for the next Create(); the queue of before is not to be
  // used any more.
  void Choose(RingFormat format) {
    queue_ = format == RingFormat::kPacked ? static_cast<Virtqueue*>(&packed_)
                                           : &split_;
  }

  Virtqueue* operator->() { return queue_; }
  Virtqueue& operator*() { return *queue_; }

 private:
  SplitVirtqueue split_;
  PackedVirtqueue packed_;
  Virtqueue* queue_ = &split_;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_ANY_VIRTQUEUE_H_
