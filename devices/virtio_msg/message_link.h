// MessageLink: what carries the messages of one bus instance (a FIFO).

#ifndef VMSG_DEVICES_VIRTIO_MSG_MESSAGE_LINK_H_
#define VMSG_DEVICES_VIRTIO_MSG_MESSAGE_LINK_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace vmsg::msg {

// Threads: the loop of the bus.
class MessageLink {
 public:
  MessageLink() = default;
  MessageLink(const MessageLink&) = delete;
  MessageLink& operator=(const MessageLink&) = delete;
  virtual ~MessageLink() = default;

  // Puts one message on the way to the driver. False, and nothing sent, when
  // there is no room (or the link is broken): the bus keeps the message and
  // tries again when the link calls MessageBus::Flush(). Whoever runs the link
  // raises the interrupt, once for a batch.
  virtual bool TrySend(std::span<const std::byte> message) = 0;

  // Messages on the way to the driver that it has not taken. 0 when nobody can
  // tell, or there is no driver.
  virtual uint64_t Unread() = 0;

  // The bus has output, can take messages again, or has waited long enough for
  // one, outside a call of the link (a deferred answer, a notification, a
  // timer): the link looks at its driver queue and calls Flush() soon, in this
  // turn of the loop or the next. A link that is broken need not.
  virtual void RequestService() = 0;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_MESSAGE_LINK_H_
