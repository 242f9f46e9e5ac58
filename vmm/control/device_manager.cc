#include "vmm/control/device_manager.h"

#include <set>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/control/device_manager_core.h"

namespace vmsg::control {

// virtio 1.2, 2.1.
bool DeviceRecord::driver_ok() const { return (driver_status & 4) != 0; }

absl::StatusOr<std::unique_ptr<DeviceManager>> DeviceManager::Create(
    vmm::EventLoop* control_loop, std::vector<HotplugBus*> buses,
    std::vector<PluggableFactory*> factories, vmm::LogSink* log_sink) {
  std::set<std::pair<std::string, uint32_t>> ids;
  for (const HotplugBus* bus : buses) {
    if (!ids.emplace(bus->id().function, bus->id().fifo).second) {
      return absl::InvalidArgumentError(absl::StrCat("buses: two have the id ",
                                                     bus->id().function,
                                                     "/fifo", bus->id().fifo));
    }
  }
  std::set<std::string> types;
  for (const PluggableFactory* factory : factories) {
    if (!types.insert(factory->type_name()).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("factories: two take the type ", factory->type_name()));
    }
  }
  auto core = std::make_shared<Core>(control_loop, std::move(buses),
                                     std::move(factories), log_sink);
  core->Start();
  return std::unique_ptr<DeviceManager>(
      new DeviceManager(control_loop, std::move(core)));
}

DeviceManager::DeviceManager(vmm::EventLoop* control_loop,
                             std::shared_ptr<Core> core)
    : control_loop_(control_loop), core_(std::move(core)) {}

DeviceManager::~DeviceManager() { core_->Close(); }

// A closure that the loop refuses is destroyed in Post(), and with it the
// reply, which then says UNAVAILABLE.

void DeviceManager::Attach(AttachRequest request, Reply<DeviceRecord> reply) {
  control_loop_->Post([core = core_, request = std::move(request),
                       reply = std::move(reply)]() mutable {
    core->Attach(std::move(request), std::move(reply));
  });
}

void DeviceManager::Detach(DetachRequest request, Reply<DeviceRecord> reply) {
  control_loop_->Post([core = core_, request = std::move(request),
                       reply = std::move(reply)]() mutable {
    core->Detach(std::move(request), std::move(reply));
  });
}

void DeviceManager::List(Reply<DeviceList> reply) {
  control_loop_->Post([core = core_, reply = std::move(reply)]() mutable {
    core->List(std::move(reply));
  });
}

void DeviceManager::Get(std::string id, Reply<DeviceRecord> reply) {
  control_loop_->Post(
      [core = core_, id = std::move(id), reply = std::move(reply)]() mutable {
        core->Get(id, std::move(reply));
      });
}

void DeviceManager::ListFifos(std::string function,
                              Reply<std::vector<FifoRecord>> reply) {
  control_loop_->Post([core = core_, function = std::move(function),
                       reply = std::move(reply)]() mutable {
    core->ListFifos(function, std::move(reply));
  });
}

void DeviceManager::ResetFifo(std::string function, uint32_t fifo,
                              Reply<FifoRecord> reply) {
  control_loop_->Post([core = core_, function = std::move(function), fifo,
                       reply = std::move(reply)]() mutable {
    core->ResetFifo(function, fifo, std::move(reply));
  });
}

DeviceManager::WatchId DeviceManager::Watch(std::string id,
                                            EventCallback callback) {
  const WatchId watch = next_watch_.fetch_add(1, std::memory_order_relaxed);
  control_loop_->Post([core = core_, watch, id = std::move(id),
                       callback = std::move(callback)]() mutable {
    core->Watch(watch, std::move(id), std::move(callback));
  });
  return watch;
}

void DeviceManager::Unwatch(WatchId watch, absl::AnyInvocable<void()> done) {
  control_loop_->Post([core = core_, watch, done = std::move(done)]() mutable {
    core->Unwatch(watch);
    if (done) done();
  });
}

}  // namespace vmsg::control
