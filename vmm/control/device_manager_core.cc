#include "vmm/control/device_manager_core.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <variant>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace vmsg::control {
namespace {

constexpr size_t kMaxNameLength = 64;

std::string PlaceName(const Place& place) {
  return absl::StrCat(place.function, "/fifo", place.fifo, "/slot", place.slot);
}

absl::Status CheckId(const std::string& id) {
  const auto good = [](char c) {
    return absl::ascii_isalnum(static_cast<unsigned char>(c)) || c == '-' ||
           c == '_' || c == '.';
  };
  if (id.size() > kMaxNameLength || !std::all_of(id.begin(), id.end(), good) ||
      !absl::ascii_isalnum(static_cast<unsigned char>(id.front()))) {
    return absl::InvalidArgumentError(absl::StrCat(
        "id: must be 1 to ", kMaxNameLength,
        " letters, digits, '-', '_' or '.', and start with a letter or digit"));
  }
  return absl::OkStatus();
}

absl::Status CheckTimeout(const char* field, vmm::Duration value,
                          vmm::Duration least) {
  if (value < least || value > DeviceManager::kMaxTimeout) {
    return absl::InvalidArgumentError(
        absl::StrCat(field, ": must be ", least.count() == 0 ? "0" : "above 0",
                     " to 1 hour"));
  }
  return absl::OkStatus();
}

absl::Status CheckRequestId(const std::string& request_id) {
  if (request_id.size() > kMaxNameLength) {
    return absl::InvalidArgumentError(absl::StrCat(
        "request_id: must be at most ", kMaxNameLength, " characters"));
  }
  return absl::OkStatus();
}

}  // namespace

DeviceManager::Core::Core(vmm::EventLoop* loop, std::vector<HotplugBus*> buses,
                          std::vector<PluggableFactory*> factories,
                          vmm::LogSink* log_sink)
    : loop_(loop),
      factories_(std::move(factories)),
      log_(log_sink, &loop->clock(), "control"),
      remembered_attaches_(kRememberedRequests),
      remembered_detaches_(kRememberedRequests) {
  for (HotplugBus* bus : buses) buses_.push_back({.bus = bus});
  std::sort(buses_.begin(), buses_.end(), [](const Bus& a, const Bus& b) {
    return std::tie(a.bus->id().function, a.bus->id().fifo) <
           std::tie(b.bus->id().function, b.bus->id().fifo);
  });
}

namespace {

// Here, if this is its thread: then nothing stays behind that needs the bus.
void RunOnLoop(HotplugBus* bus, vmm::EventLoop::Closure what) {
  if (bus->loop()->IsInLoopThread()) {
    what();
  } else {
    bus->loop()->Post(std::move(what));
  }
}

}  // namespace

void DeviceManager::Core::Start() {
  for (Bus& entry : buses_) {
    HotplugBus* const bus = entry.bus;
    // Weak: the buses outlive the manager, and a cycle would keep this object.
    entry.relay = std::make_shared<ReportRelay>(
        bus->slot_count(), bus->loop(), loop_,
        [weak = weak_from_this(), bus](const ReportRelay::Parcel& reports) {
          const std::shared_ptr<Core> core = weak.lock();
          return core != nullptr && core->OnReports(bus, reports);
        });
    RunOnLoop(bus, [bus, relay = entry.relay] {
      bus->Observe(
          [relay](uint32_t slot, const SlotReport& report) {
            relay->Report(slot, report);
          },
          [relay](const BusReport& report) { relay->Report(report); });
      // The guest may have broken it before.
      relay->Report(bus->bus_report());
    });
  }
}

void DeviceManager::Core::Close() {
  closed_ = true;
  for (const Bus& entry : buses_) {
    RunOnLoop(entry.bus, [bus = entry.bus] { bus->Observe({}, {}); });
  }
  watchers_.clear();
  // Dropping the waiters answers them.
  devices_.clear();
}

// --- Looking things up. ---

HotplugBus* DeviceManager::Core::FindBus(const std::string& function,
                                         uint32_t fifo) const {
  for (const Bus& entry : buses_) {
    if (entry.bus->id().function == function && entry.bus->id().fifo == fifo) {
      return entry.bus;
    }
  }
  return nullptr;
}

DeviceManager::Core::Bus* DeviceManager::Core::FindEntry(
    const HotplugBus* bus) {
  const auto it =
      std::find_if(buses_.begin(), buses_.end(),
                   [bus](const Bus& entry) { return entry.bus == bus; });
  return it == buses_.end() ? nullptr : &*it;
}

std::string DeviceManager::Core::KnownFunctions() const {
  std::vector<std::string> names;
  for (const Bus& entry : buses_) {
    if (names.empty() || names.back() != entry.bus->id().function) {
      names.push_back(entry.bus->id().function);
    }
  }
  return names.empty() ? "none" : absl::StrJoin(names, ", ");
}

DeviceManager::Core::Device* DeviceManager::Core::Find(const std::string& id,
                                                       uint64_t generation) {
  const auto it = devices_.find(id);
  if (it == devices_.end() || it->second->record.generation != generation) {
    return nullptr;
  }
  return it->second.get();
}

bool DeviceManager::Core::SlotTaken(const Place& place) const {
  return std::any_of(devices_.begin(), devices_.end(), [&](const auto& entry) {
    return entry.second->record.place == place;
  });
}

std::string DeviceManager::Core::MakeId(const std::string& kind) {
  std::string id;
  do {
    id = absl::StrCat(kind, "-", next_id_++);
  } while (devices_.contains(id));
  return id;
}

absl::StatusOr<Place> DeviceManager::Core::ChoosePlace(
    const PlaceSpec& spec) const {
  bool function_known = !spec.function.has_value();
  bool fifo_known = false;
  bool slot_known = false;
  const Device* holder = nullptr;
  for (const Bus& entry : buses_) {
    const HotplugBus::Id& id = entry.bus->id();
    if (spec.function.has_value() && id.function != *spec.function) continue;
    function_known = true;
    if (spec.fifo.has_value() && id.fifo != *spec.fifo) continue;
    fifo_known = true;
    const uint32_t slots = entry.bus->slot_count();
    if (spec.slot.has_value() && *spec.slot >= slots) continue;
    slot_known = true;
    // Nobody who says "any" means a FIFO that does not work.
    if (entry.broken && !(spec.function.has_value() && spec.fifo.has_value())) {
      continue;
    }
    const uint32_t first = spec.slot.value_or(0);
    const uint32_t last = spec.slot.value_or(slots - 1);
    // A driver may not be done with a device that was removed just now: its
    // number comes last. Source: virtio-msg-messages, O-35.
    std::optional<uint32_t> found;
    uint64_t found_freed = 0;
    for (uint32_t slot = first; slot <= last && slot < slots; ++slot) {
      const Place place{id.function, id.fifo, slot};
      if (SlotTaken(place)) {
        for (const auto& [unused, device] : devices_) {
          if (device->record.place == place) holder = device.get();
        }
        continue;
      }
      const auto freed = entry.freed.find(slot);
      const uint64_t when = freed == entry.freed.end() ? 0 : freed->second;
      if (found.has_value() && when >= found_freed) continue;
      found = slot;
      found_freed = when;
    }
    if (found.has_value()) return Place{id.function, id.fifo, *found};
  }
  if (!function_known) {
    return absl::InvalidArgumentError(
        absl::StrCat("place.function: no function \"", *spec.function,
                     "\"; known: ", KnownFunctions()));
  }
  if (spec.fifo.has_value() && !fifo_known) {
    return absl::InvalidArgumentError(
        absl::StrCat("place.fifo: no FIFO ", *spec.fifo,
                     spec.function.has_value()
                         ? absl::StrCat(" on function \"", *spec.function, "\"")
                         : std::string(" on any function")));
  }
  if (spec.slot.has_value() && fifo_known && !slot_known) {
    return absl::InvalidArgumentError(absl::StrCat(
        "place.slot: no slot ", *spec.slot, "; slots count from 0"));
  }
  if (spec.slot.has_value() && holder != nullptr) {
    return absl::AlreadyExistsError(
        absl::StrCat("place.slot: ", PlaceName(holder->record.place),
                     " holds device \"", holder->record.id, "\""));
  }
  return absl::ResourceExhaustedError("place: no free slot");
}

absl::StatusOr<PluggableFactory*> DeviceManager::Core::CheckAttach(
    const AttachRequest& request) {
  if (!request.id.empty()) {
    if (absl::Status status = CheckId(request.id); !status.ok()) return status;
    if (devices_.contains(request.id)) {
      return absl::AlreadyExistsError(
          absl::StrCat("id: there is a device \"", request.id, "\""));
    }
  }
  if (absl::Status status =
          CheckTimeout("wait_timeout", request.wait_timeout, vmm::Duration(0));
      !status.ok()) {
    return status;
  }
  if (request.config.type_name.empty()) {
    return absl::InvalidArgumentError("device.kind: must be set");
  }
  std::vector<std::string> kinds;
  for (PluggableFactory* factory : factories_) {
    if (factory->type_name() == request.config.type_name) {
      if (absl::Status status = factory->Validate(request.config);
          !status.ok()) {
        return status;
      }
      return factory;
    }
    kinds.push_back(factory->kind());
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "device.kind: nothing here makes a ", request.config.type_name,
      "; known kinds: ", kinds.empty() ? "none" : absl::StrJoin(kinds, ", ")));
}

// --- Attach. ---

void DeviceManager::Core::Attach(AttachRequest request,
                                 Reply<DeviceRecord> reply) {
  if (closed_) return;
  const auto fail = [&reply](const absl::Status& status) {
    reply(OperationStatus::From(status), {});
  };
  if (absl::Status status = CheckRequestId(request.request_id); !status.ok()) {
    return fail(status);
  }
  if (!request.request_id.empty() && !request.validate_only &&
      remembered_attaches_.Join(request.request_id, &reply)) {
    return;
  }
  const absl::StatusOr<PluggableFactory*> factory = CheckAttach(request);
  if (!factory.ok()) return fail(factory.status());
  const absl::StatusOr<Place> place = ChoosePlace(request.place);
  if (!place.ok()) return fail(place.status());

  auto device = std::make_unique<Device>();
  device->record.id = request.id;
  device->record.kind = (*factory)->kind();
  device->record.place = *place;
  device->bus = FindBus(place->function, place->fifo);
  if (request.validate_only) {
    device->record.sequence = sequence_;
    return reply(OperationStatus{}, std::move(device->record));
  }
  if (request.id.empty()) device->record.id = MakeId((*factory)->kind());
  device->record.generation = next_generation_++;

  // Before the slot is touched: this may block, and may fail.
  absl::StatusOr<std::unique_ptr<Pluggable>> made =
      (*factory)->Create(request.config, {device->bus->loop()});
  if (!made.ok()) return fail(made.status());

  const DeviceRecord record = device->record;
  HotplugBus* const bus = device->bus;
  Waiter waiter;
  waiter.number = next_waiter_++;
  waiter.timeout = request.wait_timeout;
  waiter.reply = std::move(reply);
  device->waiters.push_back(std::move(waiter));
  devices_.emplace(record.id, std::move(device));

  // A bus whose loop stops first answers too, by dropping it.
  Reply<SlotReport> plugged([core = shared_from_this(), id = record.id,
                             generation = record.generation](
                                OperationStatus status, SlotReport report) {
    vmm::EventLoop* const control = core->loop_;
    control->Post([core, id, generation, status = std::move(status),
                   report = std::move(report)]() mutable {
      core->OnPlugged(id, generation, std::move(status), report);
    });
  });
  bus->loop()->Post([bus, slot = record.place.slot,
                     generation = record.generation, made = std::move(*made),
                     plugged = std::move(plugged)]() mutable {
    OperationStatus status =
        OperationStatus::From(bus->Plug(slot, generation, std::move(made)));
    plugged(std::move(status), bus->slot_report(slot));
  });
}

void DeviceManager::Core::OnPlugged(const std::string& id, uint64_t generation,
                                    OperationStatus status,
                                    const SlotReport& report) {
  Device* const device = Find(id, generation);
  if (closed_ || device == nullptr) return;
  const uint64_t waiter = device->waiters.front().number;
  if (!status.ok()) {
    // Nothing was told to anybody, so there is nothing to take back.
    const auto node = devices_.extract(id);
    AnswerWaiter(node.mapped().get(), waiter, std::move(status));
    return;
  }
  Apply(report, &device->record);
  log_.Log(vmm::LogSeverity::kInfo,
           absl::StrCat("attached ", id, " (", device->record.kind, ") at ",
                        PlaceName(device->record.place), ", generation ",
                        generation));
  Emit(DeviceEvent::Kind::kAttached, &device->record);
  if (device->record.driver_ok() ||
      FindWaiter(device, waiter)->timeout <= vmm::Duration(0)) {
    AnswerWaiter(device, waiter, OperationStatus{});
  } else {
    BeginWait(device, waiter);
  }
}

// --- Detach. ---

void DeviceManager::Core::Detach(DetachRequest request,
                                 Reply<DeviceRecord> reply) {
  if (closed_) return;
  const auto fail = [&reply](const absl::Status& status) {
    reply(OperationStatus::From(status), {});
  };
  if (absl::Status status = CheckRequestId(request.request_id); !status.ok()) {
    return fail(status);
  }
  if (!request.request_id.empty() && !request.validate_only &&
      remembered_detaches_.Join(request.request_id, &reply)) {
    return;
  }
  if (absl::Status status =
          CheckTimeout("wait_timeout", request.wait_timeout, vmm::Duration(0));
      !status.ok()) {
    return fail(status);
  }
  if (absl::Status status =
          CheckTimeout("deadline", request.options.deadline, vmm::Duration(1));
      !status.ok()) {
    return fail(status);
  }
  const auto it = devices_.find(request.id);
  if (it == devices_.end()) {
    return fail(absl::NotFoundError(
        absl::StrCat("id: no device \"", request.id, "\"")));
  }
  Device* const device = it->second.get();
  if (request.generation != 0 &&
      request.generation != device->record.generation) {
    return fail(absl::FailedPreconditionError(
        absl::StrCat("generation: device \"", request.id, "\" has generation ",
                     device->record.generation, ", not ", request.generation)));
  }
  if (device->record.state == PlugState::kAttaching) {
    return fail(absl::FailedPreconditionError(
        absl::StrCat("id: device \"", request.id, "\" is ATTACHING")));
  }
  const bool upgrade =
      device->detach == Device::Detach::kGraceful && request.options.forced;
  if (device->detach != Device::Detach::kNo && !upgrade) {
    return fail(absl::FailedPreconditionError(
        absl::StrCat("id: device \"", request.id, "\" is REMOVING")));
  }
  if (request.validate_only) {
    return reply(OperationStatus{}, device->record);
  }

  const Device::Detach before = device->detach;
  device->detach = request.options.forced ? Device::Detach::kForced
                                          : Device::Detach::kGraceful;
  Waiter waiter;
  waiter.number = next_waiter_++;
  waiter.what = Waiter::For::kGone;
  waiter.timeout = request.wait_timeout;
  waiter.reply = std::move(reply);
  const uint64_t number = waiter.number;
  device->waiters.push_back(std::move(waiter));

  const DeviceRecord& record = device->record;
  HotplugBus* const bus = device->bus;
  // As in Attach().
  Reply<std::monostate> started([core = shared_from_this(), id = record.id,
                                 generation = record.generation, number,
                                 before](OperationStatus status,
                                         std::monostate) {
    vmm::EventLoop* const control = core->loop_;
    control->Post([core, id, generation, number, before,
                   status = std::move(status)]() mutable {
      core->OnUnplugStarted(id, generation, number, std::move(status), before);
    });
  });
  bus->loop()->Post(
      [core = shared_from_this(), bus, relay = FindEntry(bus)->relay,
       id = record.id, slot = record.place.slot, generation = record.generation,
       options = request.options, started = std::move(started)]() mutable {
        auto gone = [core, control = core->loop_, relay, id, slot, generation] {
          control->Post(
              [core, id, generation, last = relay->Take(slot, generation)] {
                core->OnGone(id, generation, last);
              });
        };
        started(OperationStatus::From(
                    bus->Unplug(slot, generation, options, std::move(gone))),
                {});
      });
}

void DeviceManager::Core::OnUnplugStarted(const std::string& id,
                                          uint64_t generation, uint64_t waiter,
                                          OperationStatus status,
                                          Device::Detach before) {
  Device* const device = Find(id, generation);
  // A device that is gone by now has answered its waiters.
  if (closed_ || device == nullptr) return;
  if (!status.ok()) {
    device->detach = before;
    AnswerWaiter(device, waiter, std::move(status));
    return;
  }
  log_.Log(
      vmm::LogSeverity::kInfo,
      absl::StrCat("removing ", id, " from ", PlaceName(device->record.place)));
  if (device->record.state != PlugState::kRemoving) {
    device->record.state = PlugState::kRemoving;
    Emit(DeviceEvent::Kind::kChanged, &device->record);
  }
  Waiter* const entry = FindWaiter(device, waiter);
  if (entry == nullptr) return;
  if (entry->timeout <= vmm::Duration(0)) {
    AnswerWaiter(device, waiter, OperationStatus{});
  } else {
    BeginWait(device, waiter);
  }
}

void DeviceManager::Core::OnGone(const std::string& id, uint64_t generation,
                                 const std::optional<SlotReport>& last) {
  Device* const found = Find(id, generation);
  if (closed_ || found == nullptr) return;
  if (last.has_value()) OnSlotReport(found, *last);
  const auto node = devices_.extract(id);
  Device& device = *node.mapped();
  device.record.state = PlugState::kGone;
  if (Bus* const entry = FindEntry(device.bus); entry != nullptr) {
    entry->freed[device.record.place.slot] = ++removals_;
  }
  log_.Log(vmm::LogSeverity::kInfo, absl::StrCat("removed ", id));
  Emit(DeviceEvent::Kind::kGone, &device.record);
  while (!device.waiters.empty()) {
    const Waiter& waiter = device.waiters.front();
    AnswerWaiter(&device, waiter.number,
                 waiter.what == Waiter::For::kGone
                     ? OperationStatus{}
                     : OperationStatus{absl::StatusCode::kAborted,
                                       "device was detached before its driver "
                                       "set DRIVER_OK"});
  }
}

}  // namespace vmsg::control
