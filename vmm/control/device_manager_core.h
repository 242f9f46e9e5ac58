// DeviceManager::Core: the table of devices and what runs on the control loop.
// Private to DeviceManager.

#ifndef VMSG_VMM_CONTROL_DEVICE_MANAGER_CORE_H_
#define VMSG_VMM_CONTROL_DEVICE_MANAGER_CORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "vmm/control/device_manager.h"
#include "vmm/control/report_relay.h"
#include "vmm/control/request_memory.h"

namespace vmsg::control {

// Threads: the control loop's. Closures that visit a bus's loop carry plain
// data and a shared_ptr of this object, and use it only when they are back.
class DeviceManager::Core : public std::enable_shared_from_this<Core> {
 public:
  Core(vmm::EventLoop* loop, std::vector<HotplugBus*> buses,
       std::vector<PluggableFactory*> factories, vmm::LogSink* log_sink);

  // Starts to observe the buses.
  void Start();
  // Stops observing and answers everybody who waits.
  void Close();

  void Attach(AttachRequest request, Reply<DeviceRecord> reply);
  void Detach(DetachRequest request, Reply<DeviceRecord> reply);
  void List(Reply<DeviceList> reply);
  void Get(const std::string& id, Reply<DeviceRecord> reply);
  void ListFifos(const std::string& function,
                 Reply<std::vector<FifoRecord>> reply);
  void ResetFifo(const std::string& function, uint32_t fifo,
                 Reply<FifoRecord> reply);
  void Watch(WatchId watch, std::string id, EventCallback callback);
  void Unwatch(WatchId watch);

 private:
  // A caller who waits for a device to get somewhere.
  struct Waiter {
    enum class For : uint8_t { kDriverOk, kGone };
    uint64_t number = 0;
    For what = For::kDriverOk;
    Reply<DeviceRecord> reply;
    vmm::Duration timeout{0};
    std::unique_ptr<vmm::Timer> timer;  // null until the wait has begun
  };
  struct Device {
    DeviceRecord record;
    HotplugBus* bus = nullptr;
    enum class Detach : uint8_t { kNo, kGraceful, kForced };
    Detach detach = Detach::kNo;
    std::vector<Waiter> waiters;
  };
  struct Watcher {
    std::string id;
    EventCallback callback;
  };
  struct Bus {
    HotplugBus* bus = nullptr;
    std::shared_ptr<ReportRelay> relay = nullptr;
    bool broken = false;
    // When a slot became free, counted by removals: 0 if it always was.
    std::map<uint32_t, uint64_t> freed = {};
  };

  absl::StatusOr<PluggableFactory*> CheckAttach(const AttachRequest& request);
  absl::StatusOr<Place> ChoosePlace(const PlaceSpec& spec) const;
  std::string MakeId(const std::string& kind);
  HotplugBus* FindBus(const std::string& function, uint32_t fifo) const;
  Bus* FindEntry(const HotplugBus* bus);
  std::string KnownFunctions() const;
  // Null when it is gone, or another generation has its id by now.
  Device* Find(const std::string& id, uint64_t generation);
  bool SlotTaken(const Place& place) const;

  void OnPlugged(const std::string& id, uint64_t generation,
                 OperationStatus status, const SlotReport& report);
  void OnUnplugStarted(const std::string& id, uint64_t generation,
                       uint64_t waiter, OperationStatus status,
                       Device::Detach before);
  // `last`: what the bus had to say of it and had not sent yet.
  void OnGone(const std::string& id, uint64_t generation,
              const std::optional<SlotReport>& last);
  // False: no more of them.
  bool OnReports(HotplugBus* bus, const ReportRelay::Parcel& reports);
  void OnSlotReport(Device* device, const SlotReport& report);
  void OnBusReport(Bus* entry, const BusReport& report);

  // True when something changed.
  static bool Apply(const SlotReport& report, DeviceRecord* record);
  Waiter* FindWaiter(Device* device, uint64_t number);
  void BeginWait(Device* device, uint64_t number);
  void AnswerWaiter(Device* device, uint64_t number, OperationStatus status);
  void Emit(DeviceEvent::Kind kind, DeviceRecord* record);
  FifoRecord MakeFifoRecord(HotplugBus* bus, BusReport report) const;

  vmm::EventLoop* const loop_;
  const std::vector<PluggableFactory*> factories_;
  vmm::Logger log_;
  bool closed_ = false;
  std::vector<Bus> buses_;  // sorted by id
  std::map<std::string, std::unique_ptr<Device>> devices_;
  std::map<WatchId, Watcher> watchers_;
  RequestMemory remembered_attaches_;
  RequestMemory remembered_detaches_;
  uint64_t next_generation_ = 1;
  uint64_t next_waiter_ = 1;
  uint64_t next_id_ = 1;
  uint64_t removals_ = 0;
  uint64_t sequence_ = 0;
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_DEVICE_MANAGER_CORE_H_
