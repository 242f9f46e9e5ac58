// RecordingBus: knows where everything is on the bus behind it, and refuses on
// request. For the tests of this package.

#ifndef VMSG_VMM_PCI_RECORDING_BUS_H_
#define VMSG_VMM_PCI_RECORDING_BUS_H_

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "vmm/bus/mmio_bus.h"

namespace vmsg::vmm {

// Threads: one.
class RecordingBus final : public MmioBus {
 public:
  struct Place {
    std::optional<GuestAddress> base = std::nullopt;
    uint64_t size = 0;
    bool is_doorbell = false;
  };
  using Places = std::map<std::string, Place>;  // by name
  using Refuse =
      std::function<bool(const std::string& name, std::optional<GuestAddress>)>;

  // `inner` is borrowed and outlives it.
  explicit RecordingBus(MmioBus* inner) : inner_(inner) {}

  const Places& places() const { return places_; }
  std::optional<GuestAddress> base(const std::string& name) const {
    return places_.at(name).base;
  }
  // SetBase is ResourceExhausted where it returns true.
  void set_refuse(Refuse refuse) { refuse_ = std::move(refuse); }

  absl::StatusOr<std::unique_ptr<MmioMapping>> MapHandler(
      std::string name, uint64_t size_bytes, IoHandler* handler) override {
    return Record(name, {.size = size_bytes},
                  inner_->MapHandler(name, size_bytes, handler));
  }
  absl::StatusOr<std::unique_ptr<MmioMapping>> MapMemory(
      std::string name, std::shared_ptr<const MemoryBacking> backing,
      uint64_t offset, uint64_t size_bytes) override {
    return Record(
        name, {.size = size_bytes},
        inner_->MapMemory(name, std::move(backing), offset, size_bytes));
  }
  absl::StatusOr<std::unique_ptr<MmioMapping>> MapDoorbell(
      std::string name, uint32_t width_bytes,
      const EventFd* doorbell) override {
    return Record(name, {.size = width_bytes, .is_doorbell = true},
                  inner_->MapDoorbell(name, width_bytes, doorbell));
  }

 private:
  class Mapping final : public MmioMapping {
   public:
    Mapping(RecordingBus* bus, Places::iterator place,
            std::unique_ptr<MmioMapping> inner)
        : bus_(bus), place_(place), inner_(std::move(inner)) {}
    ~Mapping() override {
      inner_.reset();
      bus_->places_.erase(place_);
    }
    absl::Status SetBase(std::optional<GuestAddress> base) override {
      if (bus_->refuse_ && bus_->refuse_(place_->first, base)) {
        return absl::ResourceExhaustedError("the test refuses");
      }
      absl::Status status = inner_->SetBase(base);
      if (status.ok()) place_->second.base = base;
      return status;
    }

   private:
    RecordingBus* const bus_;
    const Places::iterator place_;
    std::unique_ptr<MmioMapping> inner_;
  };

  absl::StatusOr<std::unique_ptr<MmioMapping>> Record(
      const std::string& name, Place place,
      absl::StatusOr<std::unique_ptr<MmioMapping>> inner) {
    if (!inner.ok()) return inner.status();
    const auto [where, is_new] = places_.emplace(name, place);
    if (!is_new) return absl::InternalError("two mappings named " + name);
    return std::make_unique<Mapping>(this, where, *std::move(inner));
  }

  MmioBus* const inner_;
  Places places_;
  Refuse refuse_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_RECORDING_BUS_H_
