// FakeLink: a MessageLink with two queues in memory, as a FIFO has them.

#ifndef VMSG_DEVICES_VIRTIO_MSG_TESTING_FAKE_LINK_H_
#define VMSG_DEVICES_VIRTIO_MSG_TESTING_FAKE_LINK_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <memory>
#include <span>
#include <vector>

#include "devices/virtio_msg/message_bus.h"
#include "devices/virtio_msg/message_link.h"
#include "devices/virtio_msg/testing/driver_port.h"
#include "devices/virtio_msg/testing/wire.h"
#include "vmm/event/event_loop.h"

namespace vmsg::msg {

// It serves its bus as a FIFO would: takes messages as long as the bus accepts
// them, and flushes after the batch. Like a FIFO without a doorbell, it looks
// again by itself only when the bus asked for service.
//
// Threads: the loop's.
class FakeLink final : public MessageLink, public DriverPort {
 public:
  static constexpr size_t kUnlimited = std::numeric_limits<size_t>::max();

  explicit FakeLink(vmm::EventLoop* loop);

  // The bus that is served; borrowed. Before anything else.
  void set_bus(MessageBus* bus) { bus_ = bus; }

  // How many messages fit from now on before the driver takes some.
  void set_room(size_t messages) { room_ = messages; }
  bool full() const { return room_ == 0; }

  // --- The driver's end. ---

  // Puts a message on the way; the bus sees it at the next Service().
  void Enqueue(Bytes message) override {
    to_device_.push_back(std::move(message));
  }
  size_t waiting() const { return to_device_.size(); }
  // Takes all that has arrived, which makes room for as many.
  std::vector<Received> Take() override;
  // Both queues lose what they hold, as at a function reset.
  void Clear();

  // What a doorbell starts. Returns what the last Flush() said.
  bool Service();

  uint64_t services_requested() const { return services_requested_; }

  // --- MessageLink. ---

  bool TrySend(std::span<const std::byte> message) override;
  uint64_t Unread() override { return to_driver_.size(); }
  void RequestService() override;

 private:
  MessageBus* bus_ = nullptr;
  std::deque<Bytes> to_device_;
  std::vector<Received> to_driver_;
  size_t room_ = kUnlimited;
  uint64_t services_requested_ = 0;
  const std::unique_ptr<vmm::WakeSource> wake_;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_TESTING_FAKE_LINK_H_
