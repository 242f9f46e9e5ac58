// TrafficObserver: who sees each message of a bus and changes none.

#ifndef VMSG_DEVICES_VIRTIO_MSG_TRAFFIC_OBSERVER_H_
#define VMSG_DEVICES_VIRTIO_MSG_TRAFFIC_OBSERVER_H_

#include <cstddef>
#include <span>

namespace vmsg::msg {

// Threads: the loop of the bus. May not block, and may not call the bus.
class TrafficObserver {
 public:
  TrafficObserver() = default;
  TrafficObserver(const TrafficObserver&) = delete;
  TrafficObserver& operator=(const TrafficObserver&) = delete;
  virtual ~TrafficObserver() = default;

  // What the link handed to the bus, a whole packet with its padding, in
  // private memory; before the bus looks at it, malformed or not.
  virtual void OnDriverMessage(std::span<const std::byte> packet) = 0;

  // One message that the link has taken. The driver may see it later, or never.
  virtual void OnDeviceMessage(std::span<const std::byte> message) = 0;

  // The driver side is a new one. See MessageBus::ResetAll().
  virtual void OnDriverReset() = 0;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_TRAFFIC_OBSERVER_H_
