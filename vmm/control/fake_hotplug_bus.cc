#include "vmm/control/fake_hotplug_bus.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace vmsg::control {

absl::Status FakeFactory::Validate(const DeviceConfig& config) const {
  if (config.bytes == "bad") {
    return absl::InvalidArgumentError("device.fake.bytes: must not be \"bad\"");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Pluggable>> FakeFactory::Create(
    const DeviceConfig& config, const FactoryContext& /*context*/) {
  if (config.bytes == "fails") {
    return absl::UnavailableError("fake: the back end is not there");
  }
  ++created;
  return std::make_unique<FakePluggable>(&live);
}

void FakeHotplugBus::Observe(SlotObserver slots, BusObserver bus) {
  slot_observer_ = std::move(slots);
  bus_observer_ = std::move(bus);
}

absl::Status FakeHotplugBus::Plug(uint32_t slot, uint64_t generation,
                                  std::unique_ptr<Pluggable> device) {
  if (!refusal_.ok()) return std::exchange(refusal_, absl::OkStatus());
  if (slots_.contains(slot)) return absl::AlreadyExistsError("slot is taken");
  Slot& entry = slots_[slot];
  entry.report.generation = generation;
  entry.report.state = PlugState::kPendingAnnounce;
  entry.device = std::move(device);
  return absl::OkStatus();
}

absl::Status FakeHotplugBus::Unplug(uint32_t slot, uint64_t generation,
                                    const RemoveOptions& options,
                                    absl::AnyInvocable<void()> gone) {
  if (!unplug_refusal_.ok()) {
    return std::exchange(unplug_refusal_, absl::OkStatus());
  }
  const auto it = slots_.find(slot);
  if (it == slots_.end() || it->second.report.generation != generation) {
    return absl::NotFoundError("no such device");
  }
  it->second.gone.push_back(std::move(gone));
  it->second.report.state = PlugState::kRemoving;
  last_forced_ = options.forced;
  // Never inside a call to the bus.
  loop_->Post([this, slot] {
    if (slots_.contains(slot)) Report(slot);
  });
  return absl::OkStatus();
}

SlotReport FakeHotplugBus::slot_report(uint32_t slot) const {
  const auto it = slots_.find(slot);
  return it == slots_.end() ? SlotReport{} : it->second.report;
}

void FakeHotplugBus::ResetBus() {
  ++resets_;
  bus_report_.state = BusState::kRunning;
  bus_report_.fault.clear();
  if (bus_observer_) bus_observer_(bus_report_);
}

void FakeHotplugBus::DriverWrites(uint32_t slot, uint32_t status) {
  SlotReport& report = slots_.at(slot).report;
  if (report.state == PlugState::kPendingAnnounce) {
    report.state = PlugState::kPresent;
  }
  report.driver_status = status;
  Report(slot);
}

void FakeHotplugBus::DriverLetsGo(uint32_t slot) {
  auto node = slots_.extract(slot);
  node.mapped().device.reset();
  for (auto& gone : node.mapped().gone) gone();
}

void FakeHotplugBus::Break(std::string fault) {
  bus_report_.state = BusState::kBroken;
  bus_report_.fault = std::move(fault);
  if (bus_observer_) bus_observer_(bus_report_);
}

void FakeHotplugBus::FallSilent() {
  bus_report_.driver_seen = true;
  bus_report_.driver_health = DriverHealth::kUnresponsive;
  if (bus_observer_) bus_observer_(bus_report_);
  for (auto& [number, slot] : slots_) {
    slot.report.health = Health::kUnresponsive;
    slot.report.health_reason = "no answer";
    Report(number);
  }
}

void FakeHotplugBus::Report(uint32_t slot) {
  if (slot_observer_) slot_observer_(slot, slots_.at(slot).report);
}

}  // namespace vmsg::control
