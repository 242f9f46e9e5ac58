// One well-formed request of each kind, as bytes.

#ifndef VMSG_TESTS_CONFORMANCE_TRANSPORT_REQUESTS_H_
#define VMSG_TESTS_CONFORMANCE_TRANSPORT_REQUESTS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "devices/virtio_msg/testing/wire.h"

namespace vmsg::msg {

struct TransportRequest {
  Bytes bytes;
  size_t answer_bytes;  // virtio-msg-messages, 3; header included
};

// In the order of their ids, 0x02 to 0x0C. None of them takes time.
inline std::vector<TransportRequest> TransportRequests(uint16_t dev) {
  return {{GetDeviceInfoRequest(dev), 32},
          {GetDeviceFeaturesRequest(dev, 0, 2), 24},
          {SetDriverFeaturesRequest(dev, 0, {0, 1}), 8},
          {GetConfigRequest(dev, 0, 8), 28},
          {SetConfigRequest(dev, 0, 4, {1, 2}), 20},
          {GetStatusRequest(dev), 12},
          {SetStatusRequest(dev, 1), 12},
          {GetVqueueRequest(dev, 0), 48},
          {SetVqueueRequest(dev, 0, 8, 0x1000, 0x2000, 0x3000), 8},
          {ResetVqueueRequest(dev, 0), 8},
          {GetShmRequest(dev, 0), 20}};
}

}  // namespace vmsg::msg

#endif  // VMSG_TESTS_CONFORMANCE_TRANSPORT_REQUESTS_H_
