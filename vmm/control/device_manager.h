// DeviceManager: which device is where, and how devices come and go.

#ifndef VMSG_VMM_CONTROL_DEVICE_MANAGER_H_
#define VMSG_VMM_CONTROL_DEVICE_MANAGER_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/clock.h"
#include "vmm/base/log.h"
#include "vmm/control/hotplug_bus.h"
#include "vmm/control/operation_status.h"
#include "vmm/control/reply.h"
#include "vmm/event/event_loop.h"

namespace vmsg::control {

struct Place {
  std::string function;
  uint32_t fifo = 0;
  uint32_t slot = 0;

  friend auto operator<=>(const Place&, const Place&) = default;
};

// A place to be chosen: what is absent means the lowest that fits; of slots the
// lowest that was never used, or else the one that has been free the longest.
struct PlaceSpec {
  std::optional<std::string> function;
  std::optional<uint32_t> fifo;
  std::optional<uint32_t> slot;
};

struct AttachRequest {
  std::string id;  // empty: one is made, "<kind>-<number>"
  DeviceConfig config;
  PlaceSpec place;
  vmm::Duration wait_timeout{0};  // for DRIVER_OK; 0: not at all
  std::string request_id;
  bool validate_only = false;
};

struct DetachRequest {
  std::string id;
  RemoveOptions options;
  vmm::Duration wait_timeout{0};  // for GONE; 0: not at all
  uint64_t generation = 0;        // 0: any
  std::string request_id;
  bool validate_only = false;
};

struct DeviceRecord {
  std::string id;
  std::string kind;
  Place place;
  uint64_t generation = 0;
  uint64_t sequence = 0;  // of its last change, in the order of all changes
  PlugState state = PlugState::kAttaching;
  uint32_t driver_status = 0;
  uint64_t resets = 0;
  Health health = Health::kOk;
  std::string health_reason;

  bool driver_ok() const;
};

struct FifoRecord {
  HotplugBus::Id bus;
  uint32_t slots = 0;
  uint32_t devices = 0;
  BusReport report;
};

struct DeviceList {
  std::vector<DeviceRecord> devices;  // in order of place
  uint64_t sequence = 0;              // of the last change
};

struct DeviceEvent {
  enum class Kind : uint8_t { kExists, kSynced, kAttached, kChanged, kGone };
  Kind kind = Kind::kChanged;
  DeviceRecord device;  // empty for kSynced
  uint64_t sequence = 0;
};

// Owns the table of devices. It lives on the control loop: an EventLoop on a
// thread where factories may block, so not one that a FIFO uses, unless the
// embedder accepts that opening a file holds up that FIFO.
//
// Replies and events arrive on the control loop, but UNAVAILABLE at shut-down
// on any thread that drops a request. Errors are those of hotplug.proto; texts
// name the field.
//
// Threads: Attach, Detach, List, Get, ListFifos, ResetFifo, Watch and Unwatch
// from any thread; they do not block. The rest as noted.
class DeviceManager {
 public:
  using EventCallback = absl::AnyInvocable<void(const DeviceEvent&)>;
  // Tells a watcher; never 0.
  using WatchId = uint64_t;

  static constexpr vmm::Duration kMaxTimeout = std::chrono::hours(1);
  // Answers of requests with a request_id that are remembered, of attaches and
  // of detaches each.
  static constexpr size_t kRememberedRequests = 256;

  // All pointers are borrowed and outlive the manager. Buses have distinct ids,
  // factories distinct type names: InvalidArgument otherwise. Call it before
  // the loops run, or on the control loop.
  //
  // What the manager began goes on after it: a bus lives until its loop has
  // stopped, or has run what was posted to it before the manager ended; the
  // control loop, stopped or not, until those of the buses have stopped, since
  // a removal that is under way reports to it.
  static absl::StatusOr<std::unique_ptr<DeviceManager>> Create(
      vmm::EventLoop* control_loop, std::vector<HotplugBus*> buses,
      std::vector<PluggableFactory*> factories, vmm::LogSink* log_sink);

  DeviceManager(const DeviceManager&) = delete;
  DeviceManager& operator=(const DeviceManager&) = delete;
  // On the control loop, or after it stopped; not inside a reply or an event
  // callback of this manager. Waiting requests get UNAVAILABLE.
  // Devices stay on their buses, which the embedder destroys.
  ~DeviceManager();

  void Attach(AttachRequest request, Reply<DeviceRecord> reply);
  void Detach(DetachRequest request, Reply<DeviceRecord> reply);
  void List(Reply<DeviceList> reply);
  void Get(std::string id, Reply<DeviceRecord> reply);
  // `function` empty: all.
  void ListFifos(std::string function, Reply<std::vector<FifoRecord>> reply);
  void ResetFifo(std::string function, uint32_t fifo, Reply<FifoRecord> reply);

  // Starts with kExists for each device and kSynced. `id` empty: all devices.
  WatchId Watch(std::string id, EventCallback callback);
  // After `done` (on the control loop) the callback will not run again.
  void Unwatch(WatchId watch, absl::AnyInvocable<void()> done);

 private:
  class Core;

  DeviceManager(vmm::EventLoop* control_loop, std::shared_ptr<Core> core);

  vmm::EventLoop* const control_loop_;
  const std::shared_ptr<Core> core_;  // used on the control loop only
  std::atomic<WatchId> next_watch_{1};
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_DEVICE_MANAGER_H_
