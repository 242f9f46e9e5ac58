// FakeHotplugBus and FakeFactory: a bus and a kind of device for tests of the
// control plane.

#ifndef VMSG_VMM_CONTROL_FAKE_HOTPLUG_BUS_H_
#define VMSG_VMM_CONTROL_FAKE_HOTPLUG_BUS_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "vmm/control/hotplug_bus.h"

namespace vmsg::control {

class FakePluggable final : public Pluggable {
 public:
  // `live` (may be null) counts the devices that exist.
  explicit FakePluggable(int* live) : live_(live) {
    if (live_ != nullptr) ++*live_;
  }
  ~FakePluggable() override {
    if (live_ != nullptr) --*live_;
  }
  std::string_view family() const override { return "fake"; }

 private:
  int* const live_;
};

// Finds the bytes "bad" invalid, can't create "fails", and takes anything else.
class FakeFactory final : public PluggableFactory {
 public:
  explicit FakeFactory(std::string type_name = "test.Fake",
                       std::string kind = "fake")
      : type_name_(std::move(type_name)), kind_(std::move(kind)) {}

  const std::string& type_name() const override { return type_name_; }
  const std::string& kind() const override { return kind_; }
  absl::Status Validate(const DeviceConfig& config) const override;
  absl::StatusOr<std::unique_ptr<Pluggable>> Create(
      const DeviceConfig& config, const FactoryContext& context) override;

  int created = 0;
  int live = 0;

 private:
  const std::string type_name_;
  const std::string kind_;
};

// Four slots. The test plays the driver, and can have the bus refuse a device.
//
// Threads: the loop's.
class FakeHotplugBus final : public HotplugBus {
 public:
  static constexpr uint32_t kSlots = 4;

  FakeHotplugBus(Id id, vmm::EventLoop* loop)
      : id_(std::move(id)), loop_(loop) {}

  const Id& id() const override { return id_; }
  uint32_t slot_count() const override { return kSlots; }
  std::string_view family() const override { return "fake"; }
  vmm::EventLoop* loop() override { return loop_; }
  void Observe(SlotObserver slots, BusObserver bus) override;
  absl::Status Plug(uint32_t slot, uint64_t generation,
                    std::unique_ptr<Pluggable> device) override;
  absl::Status Unplug(uint32_t slot, uint64_t generation,
                      const RemoveOptions& options,
                      absl::AnyInvocable<void()> gone) override;
  SlotReport slot_report(uint32_t slot) const override;
  BusReport bus_report() const override { return bus_report_; }
  void ResetBus() override;

  // The driver finds the device and sets this status.
  void DriverWrites(uint32_t slot, uint32_t status);
  // The driver lets go of a device that is being removed.
  void DriverLetsGo(uint32_t slot);
  void Break(std::string fault);
  // The driver stops answering; all devices on the bus show it.
  void FallSilent();

  void RefuseNextPlug(absl::Status status) { refusal_ = std::move(status); }
  void RefuseNextUnplug(absl::Status status) {
    unplug_refusal_ = std::move(status);
  }
  int resets() const { return resets_; }
  bool last_removal_was_forced() const { return last_forced_; }

 private:
  struct Slot {
    SlotReport report;
    std::unique_ptr<Pluggable> device;
    std::vector<absl::AnyInvocable<void()>> gone;
    bool forced = false;
  };

  void Report(uint32_t slot);

  const Id id_;
  vmm::EventLoop* const loop_;
  SlotObserver slot_observer_;
  BusObserver bus_observer_;
  std::map<uint32_t, Slot> slots_;
  BusReport bus_report_;
  absl::Status refusal_;
  absl::Status unplug_refusal_;
  int resets_ = 0;
  bool last_forced_ = false;
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_FAKE_HOTPLUG_BUS_H_
