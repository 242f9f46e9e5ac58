// What the manager hears of its buses, and what it tells: reports, those who
// wait or watch, and queries.

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "vmm/control/device_manager_core.h"

namespace vmsg::control {

// --- Reports. ---

bool DeviceManager::Core::Apply(const SlotReport& report,
                                DeviceRecord* record) {
  const DeviceRecord before = *record;
  // No device comes back from there: the report is of before, and late.
  if (record->state != PlugState::kRemoving) record->state = report.state;
  record->driver_status = report.driver_status;
  record->resets = report.resets;
  record->health = report.health;
  record->health_reason = report.health_reason;
  return before.state != record->state ||
         before.driver_status != record->driver_status ||
         before.resets != record->resets || before.health != record->health ||
         before.health_reason != record->health_reason;
}

bool DeviceManager::Core::OnReports(HotplugBus* bus,
                                    const ReportRelay::Parcel& reports) {
  if (closed_) return false;
  for (const auto& [unused, device] : devices_) {
    if (device->bus != bus) continue;
    const auto& report = reports.slots[device->record.place.slot];
    if (report.has_value()) OnSlotReport(device.get(), *report);
  }
  if (reports.bus.has_value()) OnBusReport(FindEntry(bus), *reports.bus);
  return true;
}

void DeviceManager::Core::OnSlotReport(Device* device,
                                       const SlotReport& report) {
  DeviceRecord& record = device->record;
  // A late report of an earlier device has an earlier generation. While the
  // answer to Plug is on its way, that answer carries the state.
  if (record.generation != report.generation ||
      record.state == PlugState::kAttaching || !Apply(report, &record)) {
    return;
  }
  Emit(DeviceEvent::Kind::kChanged, &record);
  if (!record.driver_ok()) return;
  for (size_t i = 0; i < device->waiters.size();) {
    if (device->waiters[i].what == Waiter::For::kDriverOk) {
      AnswerWaiter(device, device->waiters[i].number, OperationStatus{});
    } else {
      ++i;
    }
  }
}

void DeviceManager::Core::OnBusReport(Bus* entry, const BusReport& report) {
  const bool broken = report.state == BusState::kBroken;
  if (broken && !entry->broken) {
    // A guest can break it, bring it back and break it again.
    const HotplugBus::Id& id = entry->bus->id();
    char line[200];
    const int size =
        absl::SNPrintF(line, sizeof(line), "%s/fifo%u is BROKEN: %s",
                       id.function, id.fifo, report.fault);
    log_.LogGuest(vmm::LogSeverity::kWarning,
                  std::string_view(line, std::min(static_cast<size_t>(size),
                                                  sizeof(line) - 1)));
  }
  entry->broken = broken;
}

// --- Waiters and watchers. ---

DeviceManager::Core::Waiter* DeviceManager::Core::FindWaiter(Device* device,
                                                             uint64_t number) {
  for (Waiter& waiter : device->waiters) {
    if (waiter.number == number) return &waiter;
  }
  return nullptr;
}

void DeviceManager::Core::BeginWait(Device* device, uint64_t number) {
  Waiter* const waiter = FindWaiter(device, number);
  if (waiter == nullptr) return;
  // The timer dies with the device's waiter, and so never outlives `device`.
  waiter->timer = loop_->CreateTimer([this, device, number] {
    AnswerWaiter(device, number, OperationStatus{});
  });
  waiter->timer->Arm(waiter->timeout);
}

void DeviceManager::Core::AnswerWaiter(Device* device, uint64_t number,
                                       OperationStatus status) {
  for (auto it = device->waiters.begin(); it != device->waiters.end(); ++it) {
    if (it->number != number) continue;
    Waiter waiter = std::move(*it);
    device->waiters.erase(it);
    const bool ok = status.ok();
    waiter.reply(std::move(status), ok ? device->record : DeviceRecord{});
    return;
  }
}

void DeviceManager::Core::Emit(DeviceEvent::Kind kind, DeviceRecord* record) {
  record->sequence = ++sequence_;
  const DeviceEvent event{kind, *record, sequence_};
  for (auto& [unused, watcher] : watchers_) {
    if (watcher.id.empty() || watcher.id == record->id) {
      watcher.callback(event);
    }
  }
}

void DeviceManager::Core::Watch(WatchId watch, std::string id,
                                EventCallback callback) {
  if (closed_) return;
  for (const auto& [unused, device] : devices_) {
    const DeviceRecord& record = device->record;
    if (record.state == PlugState::kAttaching) continue;
    if (!id.empty() && id != record.id) continue;
    callback({DeviceEvent::Kind::kExists, record, record.sequence});
  }
  callback({DeviceEvent::Kind::kSynced, {}, sequence_});
  watchers_.emplace(watch, Watcher{std::move(id), std::move(callback)});
}

void DeviceManager::Core::Unwatch(WatchId watch) { watchers_.erase(watch); }

// --- Queries. ---

void DeviceManager::Core::List(Reply<DeviceList> reply) {
  if (closed_) return;
  DeviceList list;
  list.sequence = sequence_;
  for (const auto& [unused, device] : devices_) {
    list.devices.push_back(device->record);
  }
  std::sort(list.devices.begin(), list.devices.end(),
            [](const DeviceRecord& a, const DeviceRecord& b) {
              return a.place < b.place;
            });
  reply(OperationStatus{}, std::move(list));
}

void DeviceManager::Core::Get(const std::string& id,
                              Reply<DeviceRecord> reply) {
  if (closed_) return;
  const auto it = devices_.find(id);
  if (it == devices_.end()) {
    reply.Fail(absl::StatusCode::kNotFound,
               absl::StrCat("id: no device \"", id, "\""));
    return;
  }
  reply(OperationStatus{}, it->second->record);
}

FifoRecord DeviceManager::Core::MakeFifoRecord(HotplugBus* bus,
                                               BusReport report) const {
  FifoRecord record;
  record.bus = bus->id();
  record.slots = bus->slot_count();
  for (const auto& [unused, device] : devices_) {
    if (device->bus == bus) ++record.devices;
  }
  record.report = std::move(report);
  return record;
}

void DeviceManager::Core::ListFifos(const std::string& function,
                                    Reply<std::vector<FifoRecord>> reply) {
  if (closed_) return;
  // Filled in on the control loop; the last owner answers.
  struct Gather {
    Reply<std::vector<FifoRecord>> reply;
    std::vector<FifoRecord> records;
    size_t missing = 0;
  };
  auto gather = std::make_shared<Gather>();
  std::vector<HotplugBus*> chosen;
  for (const Bus& entry : buses_) {
    if (function.empty() || entry.bus->id().function == function) {
      chosen.push_back(entry.bus);
    }
  }
  if (chosen.empty() && !function.empty()) {
    reply.Fail(absl::StatusCode::kInvalidArgument,
               absl::StrCat("function: no function \"", function,
                            "\"; known: ", KnownFunctions()));
    return;
  }
  gather->reply = std::move(reply);
  gather->records.resize(chosen.size());
  gather->missing = chosen.size();
  if (chosen.empty()) gather->reply(OperationStatus{}, {});
  for (size_t i = 0; i < chosen.size(); ++i) {
    HotplugBus* const bus = chosen[i];
    bus->loop()->Post([core = shared_from_this(), gather, bus, i]() mutable {
      vmm::EventLoop* const control = core->loop_;
      control->Post([core = std::move(core), gather = std::move(gather), bus, i,
                     report = bus->bus_report()]() mutable {
        gather->records[i] = core->MakeFifoRecord(bus, std::move(report));
        if (--gather->missing == 0) {
          gather->reply(OperationStatus{}, std::move(gather->records));
        }
      });
    });
  }
}

void DeviceManager::Core::ResetFifo(const std::string& function, uint32_t fifo,
                                    Reply<FifoRecord> reply) {
  if (closed_) return;
  HotplugBus* const bus = FindBus(function, fifo);
  if (bus == nullptr) {
    const bool known = std::any_of(
        buses_.begin(), buses_.end(),
        [&](const Bus& entry) { return entry.bus->id().function == function; });
    reply.Fail(absl::StatusCode::kInvalidArgument,
               known ? absl::StrCat("fifo: no FIFO ", fifo, " on function \"",
                                    function, "\"")
                     : absl::StrCat("function: no function \"", function,
                                    "\"; known: ", KnownFunctions()));
    return;
  }
  log_.Log(vmm::LogSeverity::kInfo,
           absl::StrCat("resetting ", function, "/fifo", fifo));
  bus->loop()->Post([core = shared_from_this(), bus,
                     reply = std::move(reply)]() mutable {
    bus->ResetBus();
    vmm::EventLoop* const control = core->loop_;
    control->Post([core = std::move(core), bus, reply = std::move(reply),
                   report = bus->bus_report()]() mutable {
      reply(OperationStatus{}, core->MakeFifoRecord(bus, std::move(report)));
    });
  });
}

}  // namespace vmsg::control
