// Rng: the driver of virtio-rng. Source: virtio 1.2, 5.4.

#ifndef VMSG_GUEST_DRIVER_RNG_H_
#define VMSG_GUEST_DRIVER_RNG_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/any_virtqueue.h"
#include "guest/driver/arena.h"
#include "guest/driver/error.h"
#include "guest/driver/features.h"
#include "guest/driver/virtio_device.h"
#include "guest/driver/virtqueue.h"

namespace vmsg::guest {

inline constexpr uint32_t kDeviceIdEntropy = 4;

// What the driver can do with features that say how a device is talked to.
// Which format the ring has is up to the user: add VIRTIO_F_RING_PACKED for
// packed ones, where the device has them.
inline constexpr Features kRngFeatures =
    Features::Of(kFeatureVersion1, kFeatureIndirectDesc, kFeatureEventIdx,
                 kFeatureAccessPlatform, kFeatureInOrder,
                 kFeatureNotificationData, kFeatureRingReset);

struct RngOptions {
  uint32_t requests = 4;          // in flight, 1 to Rng::kMaxRequests
  uint32_t request_bytes = 1024;  // asked for in one request, at least 1
  // Accepted where the device offers them: of kRngFeatures and
  // VIRTIO_F_RING_PACKED.
  Features features = kRngFeatures;
};

// Threads: the bus's.
class Rng {
 public:
  static constexpr uint32_t kMaxRequests = 16;

  Rng() = default;
  Rng(const Rng&) = delete;
  Rng& operator=(const Rng&) = delete;

  // Arena bytes that Start takes at most.
  static uint64_t ArenaBytes(const RngOptions& options);

  // Brings `device` (borrowed until it is reset; probed, of type 4) to
  // DRIVER_OK. Errors as the steps of VirtioDevice; kInvalidArgument for the
  // options or another type of device.
  Error Start(VirtioDevice* device, const RngOptions& options, Arena* arena);

  // Fills `out`, in the order in which requests complete. Asks for what is
  // missing and for no byte more, so that all that the device hands out is
  // seen here. `*requests` is the number of requests that it took; `*received`
  // the bytes, also on errors.
  //   kTimeout      nothing came within the bus's time limit.
  //   kDeviceError  a request came back empty: the device can't go on.
  //   kNeedsReset, kQueueBroken, kFifoBroken and the errors of Notify.
  // After an error the device may still write to its buffers: reset it and
  // Start again; until then Read returns kNeedsReset.
  Error Read(std::span<std::byte> out, uint64_t* received, uint32_t* requests);

  // What the device did to its queue, after kQueueBroken.
  QueueFault queue_fault() { return queue_->fault(); }

 private:
  Error Submit(uint64_t* missing, uint32_t* requests);
  // One finished request; kNotFound when there is none.
  Error Reap(std::span<std::byte> out, uint64_t* received, uint64_t* missing);
  Error ReadAll(std::span<std::byte> out, uint64_t* received,
                uint32_t* requests);

  VirtioDevice* device_ = nullptr;
  RngOptions options_;
  AnyVirtqueue queue_;
  DmaMemory buffers_;
  std::array<uint32_t, kMaxRequests> asked_ = {};  // 0: the buffer is free
  bool usable_ = false;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_RNG_H_
