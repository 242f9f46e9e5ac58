// RngDevice: virtio-rng. Source: virtio 1.2, 5.4.

#ifndef VMSG_DEVICES_VIRTIO_RNG_DEVICE_H_
#define VMSG_DEVICES_VIRTIO_RNG_DEVICE_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "devices/virtio/rng/backend.h"
#include "devices/virtio/virtio_device.h"
#include "vmm/event/event_loop.h"

namespace vmsg::virtio {

struct RngOptions {
  // At most this many bytes in each period; 0: no limit. A period begins with
  // the first request after the last one has ended; what is left of it does not
  // carry over. Requests that find the budget used up stay in the queue until
  // the next period; they are filled as far as the budget goes, since the
  // driver takes any length above 0. Bytes count when the source is asked for
  // them, so neither a failing source nor a reset gives a guest more.
  uint64_t max_bytes_per_period = 0;
  vmm::Duration period = std::chrono::seconds(1);  // at most kMaxPeriod

  // Most a single request gets: bounds the work of one turn.
  static constexpr uint32_t kMaxRequestBytes = 64 * 1024;
  // A guest task that reads waits as long as this.
  static constexpr vmm::Duration kMaxPeriod = std::chrono::hours(1);
};

// What was handed to the guest so far, in order of completion; for operators
// and for tests. FNV-1a, 64 bit, over the bytes.
struct RngStats {
  uint64_t requests = 0;  // that got bytes
  uint64_t failed = 0;    // completed with 0 bytes
  uint64_t bytes = 0;
  uint64_t digest = 0xcbf29ce484222325;
};

// One queue, no configuration space. A request gets up to kMaxRequestBytes; one
// that can't be served (a failing source, forced removal, no writable byte) is
// completed with 0 bytes. Calls that virtio_device.h does not allow in the
// present state are the transport's mistake and abort.
class RngDevice : public VirtioDevice {
 public:
  static constexpr uint32_t kQueueSize = 256;

  // `source` is not null. `loop` is borrowed and outlives the device.
  //   InvalidArgument  a limit with a period of 0 or below, or above
  //   kMaxPeriod;
  //                    names the field.
  static absl::StatusOr<std::unique_ptr<RngDevice>> Create(
      const RngOptions& options, std::unique_ptr<EntropySource> source,
      vmm::EventLoop* loop);

  // Loop thread.
  virtual RngStats stats() const = 0;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_RNG_DEVICE_H_
