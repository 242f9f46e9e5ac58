// VirtioDevice: a virtio device as its transport sees it.
//
// A device knows neither messages nor PCI. It gets queues, guest memory and a
// notifier, and works on the loop that it is given.

#ifndef VMSG_DEVICES_VIRTIO_VIRTIO_DEVICE_H_
#define VMSG_DEVICES_VIRTIO_VIRTIO_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "vmm/base/log.h"
#include "vmm/event/event_loop.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {

// Device types. Source: virtio 1.2, chapter 5.
inline constexpr uint32_t kDeviceIdNet = 1;
inline constexpr uint32_t kDeviceIdBlock = 2;
inline constexpr uint32_t kDeviceIdConsole = 3;
inline constexpr uint32_t kDeviceIdEntropy = 4;
inline constexpr uint32_t kDeviceIdPmem = 27;

// What a device tells its transport, from Activate() on, NotifyConfigChanged()
// in any state. The transport supplies it; it outlives the device's activation,
// and never calls the device back from inside a call.
class DriverNotifier {
 public:
  DriverNotifier() = default;
  DriverNotifier(const DriverNotifier&) = delete;
  DriverNotifier& operator=(const DriverNotifier&) = delete;
  virtual ~DriverNotifier() = default;

  // Buffers of `queue` were used and the driver wants to know (ShouldNotify
  // said so). A level: calls merge until the transport has sent one
  // notification. Threads: any. Neither blocks nor allocates.
  virtual void NotifyUsed(uint16_t queue) = 0;

  // The device has changed [offset, offset + length) of its configuration; call
  // it in the same turn of the loop, before anything else can read it. The
  // transport advances the generation count and tells the driver. Loop only.
  virtual void NotifyConfigChanged(uint32_t offset, uint32_t length) = 0;

  // The device met what only a reset can mend. Sets DEVICE_NEEDS_RESET and
  // tells the driver, once until the reset. `reason` is for the operator. The
  // device stops using its queues itself. Loop only.
  virtual void NotifyNeedsReset(std::string_view reason) = 0;

  // The back end works, or no longer does; health for the operator. The device
  // goes on answering requests with its type's error status. Loop only.
  virtual void NotifyBackendHealth(bool healthy, std::string_view reason) = 0;
};

// What a device works with from Activate() until Reset() or Remove() is done.
struct DeviceContext {
  vmm::EventLoop* loop = nullptr;  // the only thread that calls the device
  // For that thread, and for the addresses that this driver gives.
  vmm::DmaSpace* dma = nullptr;
  DriverNotifier* notifier = nullptr;
  vmm::Logger* log = nullptr;
  Features features = {};  // negotiated, fixed until reset
};

struct QueueLimits {
  uint32_t max_size = 0;  // a power of two, 1 to 32768
};

// A region that the device owns and the driver maps. Source: virtio 1.2, 2.10.
struct SharedMemoryRegion {
  vmm::GuestAddress address;
  uint64_t length = 0;  // bytes
};

// A component's state as plain bytes with the version of their layout, which
// that component alone defines.
struct SavedState {
  uint32_t version = 0;
  std::vector<std::byte> bytes = {};
};

// A virtio device.
//
//   INACTIVE --Activate, done(OK)--> ACTIVE --Reset, done--> INACTIVE
//   ACTIVE --Quiesce, done--> QUIESCED --Resume--> ACTIVE
//   ACTIVE --FailRequests--> FAILING --Reset, done--> INACTIVE
//   any --Remove, done--> REMOVED (destroy it)
//
// One transition runs at a time, but Reset and Remove, which are allowed during
// any other and overtake it: the overtaken completion is then never called.
// Remove also overtakes Reset. A completion runs exactly once, on the loop, and
// never inside the call that took it. Back-end work of before a reset that ends
// after it is recognised by its epoch and dropped: after Reset's completion the
// device touches no buffer, queue or notifier of before.
//
// Threads: the loop's (DeviceContext::loop, fixed at construction by the
// embedder's choice of bus), for every method. Nothing blocks: what can take
// time is started, and ends in the completion.
class VirtioDevice {
 public:
  using Completion = absl::AnyInvocable<void()>;
  using StatusCompletion = absl::AnyInvocable<void(absl::Status)>;

  VirtioDevice() = default;
  VirtioDevice(const VirtioDevice&) = delete;
  VirtioDevice& operator=(const VirtioDevice&) = delete;
  virtual ~VirtioDevice() = default;

  // --- Description: constant for the life of the device. ---

  virtual uint32_t device_id() const = 0;
  // All that the device can do. The transport removes what it can't carry, and
  // adds VIRTIO_F_ACCESS_PLATFORM where addresses are translated: that is the
  // business of DeviceContext::dma, and no device has to know.
  virtual Features offered_features() const = 0;
  // One entry per queue; not empty.
  virtual std::span<const QueueLimits> queues() const = 0;
  virtual uint32_t config_size() const = 0;  // bytes
  // nullopt: no such region.
  virtual std::optional<SharedMemoryRegion> shared_memory(uint8_t id) const = 0;

  // --- Configuration space: in any state but REMOVED. ---

  // The range lies inside config_size(); fills all of `data`.
  virtual void ReadConfig(uint32_t offset, std::span<std::byte> data) const = 0;
  // True when applied, whole; false when refused, whole.
  virtual bool WriteConfig(uint32_t offset,
                           std::span<const std::byte> data) = 0;

  // Once, before anything else: whom to tell by NotifyConfigChanged() of
  // changes in any state, as a driver reads the space before it activates the
  // device too. Borrowed, outlives the device. A device whose configuration
  // never changes by itself has no use for it.
  virtual void SetConfigNotifier(DriverNotifier* /*notifier*/) {}

  // Whether the device can work with this subset of its offered features. False
  // leaves FEATURES_OK clear.
  virtual bool AcceptFeatures(const Features& features) const = 0;

  // --- Life. ---

  // DRIVER_OK: takes the queues that are configured (null for the others) and
  // starts. On an error nothing was started, the queues are dropped, and the
  // transport sets DEVICE_NEEDS_RESET.
  virtual void Activate(const DeviceContext& context,
                        std::vector<std::unique_ptr<Virtqueue>> queues,
                        StatusCompletion done) = 0;

  // A queue that was configured after DRIVER_OK. ACTIVE only.
  virtual void ActivateQueue(std::unique_ptr<Virtqueue> queue) = 0;

  // The driver has put buffers on queue `index` (below queues().size(); it may
  // be one that is not configured: ignore). Also a hint only: there may be
  // none. Called for every queue once after Activate and Resume.
  virtual void QueueNotify(uint16_t index) = 0;

  // Stops one queue and drops it. After `done` no buffer of it is touched.
  virtual void ResetQueue(uint16_t index, Completion done) = 0;

  // Stops taking chains; `done` when every chain taken has been completed.
  virtual void Quiesce(Completion done) = 0;
  virtual void Resume() = 0;

  // Forced removal has begun: from now on each chain, taken or new, is
  // completed soon with the type's error status, without the back end, so that
  // no guest task waits for ever.
  virtual void FailRequests() = 0;

  // Forgets queues, features, pending work and what the driver has written to
  // the configuration: it holds its initial content when `done` runs. If that
  // changes it, NotifyConfigChanged() tells so: the next driver may know the
  // generation count of before. In INACTIVE too.
  // Source: virtio-msg-messages, O-27.
  virtual void Reset(Completion done) = 0;

  // Ends everything and lets go of the host's resources. After `done` the
  // device is destroyed.
  virtual void Remove(Completion done) = 0;

  // --- State: QUIESCED or INACTIVE only. ---

  // What the device itself holds beside queues, features and status, which the
  // transport saves.
  virtual SavedState Save() const = 0;
  // InvalidArgument: not a state of this device; the device is unchanged.
  virtual absl::Status Restore(const SavedState& state) = 0;
  // Positions of the queues, for the transport to save. QUIESCED only.
  virtual std::vector<std::optional<Virtqueue::Position>> queue_positions()
      const = 0;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_VIRTIO_DEVICE_H_
