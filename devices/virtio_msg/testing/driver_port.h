// DriverPort: how a model of a driver reaches its device.

#ifndef VMSG_DEVICES_VIRTIO_MSG_TESTING_DRIVER_PORT_H_
#define VMSG_DEVICES_VIRTIO_MSG_TESTING_DRIVER_PORT_H_

#include <vector>

#include "devices/virtio_msg/testing/wire.h"

namespace vmsg::msg {

// Threads: the test's.
class DriverPort {
 public:
  DriverPort() = default;
  DriverPort(const DriverPort&) = delete;
  DriverPort& operator=(const DriverPort&) = delete;
  virtual ~DriverPort() = default;

  // Puts a message on the way, behind those before it.
  virtual void Enqueue(Bytes message) = 0;
  // Takes what has arrived.
  virtual std::vector<Received> Take() = 0;
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_TESTING_DRIVER_PORT_H_
