// UsedLevels: which queues of a device have used buffers that the driver is to
// be told of.

#ifndef VMSG_DEVICES_VIRTIO_MSG_USED_LEVELS_H_
#define VMSG_DEVICES_VIRTIO_MSG_USED_LEVELS_H_

#include <atomic>
#include <cstdint>
#include <memory>

#include "devices/virtio_msg/outbox.h"

namespace vmsg::msg {

// One bit for each queue, so that memory is bounded however often a device
// notifies and however long the link is full.
// Source: amp-pci-device, section 4; virtio-msg-messages, 4.14.
//
// Threads: Raise() any; the rest the loop's. Nothing blocks or allocates after
// construction.
class UsedLevels {
 public:
  // `queues` is at least 1.
  explicit UsedLevels(uint32_t queues);
  UsedLevels(const UsedLevels&) = delete;
  UsedLevels& operator=(const UsedLevels&) = delete;

  // True when the bit was not set yet. Release: who sends the event has seen
  // the buffers used. REQUIRES: queue is below the number of queues.
  bool Raise(uint32_t queue);

  // Sends one EVENT_USED for each queue whose bit is set. False: no room; the
  // bits of what was not sent stay, and the next call begins with them, so that
  // no queue waits behind busier ones for ever.
  bool Send(uint32_t dev_num, Outbox* outbox);

  bool Any() const;
  void Clear();
  void Clear(uint32_t queue);

 private:
  bool SendWord(uint32_t word, uint64_t mask, uint32_t dev_num, Outbox* outbox);

  const uint32_t queues_;
  const uint32_t words_;
  const std::unique_ptr<std::atomic<uint64_t>[]> bits_;
  uint32_t next_ = 0;  // queue to begin with
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_USED_LEVELS_H_
