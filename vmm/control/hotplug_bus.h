// HotplugBus and PluggableFactory: what the control plane plugs, and where.
//
// The control plane knows no kind of device and no kind of bus. A bus that
// takes devices at run time implements HotplugBus; a kind of device is added
// by registering a PluggableFactory. docs/embedding.md walks through both.

#ifndef VMSG_VMM_CONTROL_HOTPLUG_BUS_H_
#define VMSG_VMM_CONTROL_HOTPLUG_BUS_H_

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/clock.h"
#include "vmm/event/event_loop.h"

namespace vmsg::control {

// A device that is ready to be plugged, with its host resources open.
class Pluggable {
 public:
  Pluggable() = default;
  Pluggable(const Pluggable&) = delete;
  Pluggable& operator=(const Pluggable&) = delete;
  virtual ~Pluggable() = default;

  // The family of buses that takes it: "virtio-msg". A bus accepts its own
  // family only, and the family fixes the concrete type behind this class, so a
  // bus of that family may cast to it.
  virtual std::string_view family() const = 0;
};

// What a device is to be, in the form in which it came: the full name of a
// message type ("vmsg.control.v1alpha1.RngConfig") and its serialized bytes.
// Parsing is the factory's, so nothing here needs protobuf.
struct DeviceConfig {
  std::string type_name;
  std::string bytes;
};

// What a factory gets to know of the place.
struct FactoryContext {
  vmm::EventLoop* loop = nullptr;  // of the bus; the device will live there
};

// Makes devices of one kind.
//
// Threads: the control loop's, one call at a time.
class PluggableFactory {
 public:
  PluggableFactory() = default;
  PluggableFactory(const PluggableFactory&) = delete;
  PluggableFactory& operator=(const PluggableFactory&) = delete;
  virtual ~PluggableFactory() = default;

  // The type that selects this factory, and a short name for people: "rng".
  virtual const std::string& type_name() const = 0;
  virtual const std::string& kind() const = 0;

  // Parses and checks; touches nothing of the host. InvalidArgument names the
  // field ("rng.max_bytes_per_period") and what it should be.
  virtual absl::Status Validate(const DeviceConfig& config) const = 0;

  // Opens what the device needs. May block (files, sockets): it runs off the
  // FIFO loops, before a slot is touched, and so leaves what belongs to the
  // bus's loop (timers, watches) to the moment when the bus takes the device.
  // On error nothing is left open.
  virtual absl::StatusOr<std::unique_ptr<Pluggable>> Create(
      const DeviceConfig& config, const FactoryContext& context) = 0;
};

// Where a plugged device is in its life; ATTACHING and GONE are the control
// plane's own, a bus reports the three in between.
enum class PlugState : uint8_t {
  kAttaching,
  kPendingAnnounce,
  kPresent,
  kRemoving,
  kGone,
};

// kUnresponsive: the driver of the whole bus is; the device has no fault.
enum class Health : uint8_t { kOk, kNeedsReset, kBackendFailed, kUnresponsive };

// A slot's facts, copied between threads.
struct SlotReport {
  uint64_t generation = 0;
  PlugState state = PlugState::kAttaching;
  uint32_t driver_status = 0;
  uint64_t resets = 0;
  Health health = Health::kOk;
  std::string health_reason;
};

enum class BusState : uint8_t { kRunning, kWaiting, kBroken };

// What a bus knows about its driver from asking it.
enum class DriverHealth : uint8_t {
  kUnknown,  // it was not asked, or has not answered yet and need not
  kAnswers,
  kUnresponsive,
};

// A counter with its name, for operators: "malformed".
struct NamedCount {
  std::string name;
  uint64_t value = 0;
};

struct BusReport {
  BusState state = BusState::kRunning;
  std::string fault;  // why it is broken
  bool driver_seen = false;
  DriverHealth driver_health = DriverHealth::kUnknown;
  std::vector<NamedCount> counters;
};

struct RemoveOptions {
  bool forced = false;
  vmm::Duration deadline = std::chrono::seconds(10);
};

// A bus with slots.
//
// Threads: id(), slot_count(), loop() any; the rest on loop() only.
// Generations: the control plane gives each plugged device a number that it
// never uses again; a report always carries that of its device.
class HotplugBus {
 public:
  struct Id {
    std::string function;  // "amp0"
    uint32_t fifo = 0;
    friend bool operator==(const Id&, const Id&) = default;
  };
  // On the loop, never inside a call to the bus. May be inside the handling of
  // a message: call slot_report() and bus_report() there, and post for the
  // rest.
  using SlotObserver =
      absl::AnyInvocable<void(uint32_t slot, const SlotReport& report)>;
  using BusObserver = absl::AnyInvocable<void(const BusReport& report)>;

  HotplugBus() = default;
  HotplugBus(const HotplugBus&) = delete;
  HotplugBus& operator=(const HotplugBus&) = delete;
  virtual ~HotplugBus() = default;

  virtual const Id& id() const = 0;
  virtual uint32_t slot_count() const = 0;
  virtual std::string_view family() const = 0;
  virtual vmm::EventLoop* loop() = 0;

  // At most one party observes: the DeviceManager. Empty ones stop it.
  virtual void Observe(SlotObserver slots, BusObserver bus) = 0;

  // Puts the device on the slot.
  //   AlreadyExists       the slot is not free; the device is destroyed.
  //   InvalidArgument     no such slot, or a device of another family.
  virtual absl::Status Plug(uint32_t slot, uint64_t generation,
                            std::unique_ptr<Pluggable> device) = 0;

  // Starts a removal; `gone` runs on the loop after the slot is free and the
  // host resources are released.
  //   NotFound            no device of that generation there.
  //   FailedPrecondition  it is being removed already (a forced removal of one
  //                       that still waits gracefully is allowed).
  virtual absl::Status Unplug(uint32_t slot, uint64_t generation,
                              const RemoveOptions& options,
                              absl::AnyInvocable<void()> gone) = 0;

  virtual SlotReport slot_report(uint32_t slot) const = 0;
  virtual BusReport bus_report() const = 0;

  // The operator's way out of a broken bus: queues to their initial contents,
  // every device reset. The driver has to start anew.
  virtual void ResetBus() = 0;
};

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_HOTPLUG_BUS_H_
