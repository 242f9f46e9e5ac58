#include "vmm/pci/pci_host_bridge.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "absl/strings/str_format.h"
#include "vmm/pci/pci_config_layout.h"

namespace vmsg::vmm {

namespace {

using namespace pci_config;  // NOLINT(google-build-using-namespace): ours

constexpr uint8_t kDevices = 32;
constexpr uint8_t kFunctions = 8;
constexpr uint64_t kFourGiB = uint64_t{1} << 32;
// All ones in the upper half of a 64-bit BAR is a sizing probe, not an address.
constexpr GuestRange kNoBars = {{UINT64_MAX - (kFourGiB - 1)}, kFourGiB};

// PCI Express Base 2.0, 7.2.2: 4 KiB for each function, bus in bits 20 and up.
constexpr uint64_t kEcamBytes = uint64_t{1} << 20;
constexpr int kEcamFunctionShift = 12;
constexpr uint64_t kEcamOffsetMask = 0xFFF;

// PCI Local Bus 3.0, 3.2.2.3.2: the address port, then the data port.
constexpr uint16_t kAddressPort = 0xCF8;
constexpr uint16_t kPorts = 8;
constexpr uint64_t kDataOffset = 4;
constexpr uint32_t kAddressEnable = uint32_t{1} << 31;
constexpr uint32_t kAddressWritable = kAddressEnable | 0x00FF'FFFC;

size_t SlotIndex(PciAddress address) {
  return static_cast<size_t>(address.device << 3 | address.function);
}
PciAddress AddressOf(size_t slot) {
  return {.bus = 0,
          .device = static_cast<uint8_t>(slot >> 3),
          .function = static_cast<uint8_t>(slot & 7)};
}

std::string Describe(PciAddress address) {
  return absl::StrFormat("%02x:%02x.%d", address.bus, address.device,
                         address.function);
}

uint32_t FromBytes(std::span<const std::byte> bytes) {
  uint32_t value = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    value |= std::to_integer<uint32_t>(bytes[i]) << (8 * i);
  }
  return value;
}
void ToBytes(uint32_t value, std::span<std::byte> bytes) {
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(value >> (8 * i));
  }
}

// Takes addresses out of a window, aligned to their size, never 0.
class WindowAllocator {
 public:
  explicit WindowAllocator(GuestRange window)
      : next_(window.start.value), left_(window.size) {}

  std::optional<uint64_t> Take(uint64_t size) {
    // Address 0 means "not assigned" in a BAR.
    uint64_t skip = next_ == 0 ? size : -next_ & (size - 1);
    if (skip > left_ || size > left_ - skip) return std::nullopt;
    const uint64_t address = next_ + skip;
    next_ = address + size;  // Wraps only when nothing is left.
    left_ -= skip + size;
    return address;
  }

 private:
  uint64_t next_;
  uint64_t left_;
};

}  // namespace

// The bridge as a function: read-only, and nothing but an identity.
class PciHostBridge::BridgeFunction final : public PciDevice {
 public:
  const std::string& id() const override { return id_; }
  absl::Status Connect(PciAddress, MmioBus*, InterruptController*) override {
    return absl::OkStatus();
  }
  void Disconnect() override {}
  uint32_t ReadConfig(uint16_t offset, uint8_t width) override {
    if (!IsServed(offset, width)) return Ones(width);
    uint32_t word = 0;
    switch (offset & ~3) {
      case kVendorId:
        word = 0x0008'1B36;
        break;
      case kRevision:
        word = 0x0600'0000;  // host bridge; PCI Local Bus 3.0, appendix D
        break;
    }
    return word >> (8 * (offset & 3)) & Ones(width);
  }
  void WriteConfig(uint16_t, uint8_t, uint32_t) override {}
  std::span<const PciBarInfo> bars() const override { return {}; }
  void Reset() override {}

 private:
  const std::string id_ = "pci-host-bridge";
};

class PciHostBridge::EcamHandler final : public IoHandler {
 public:
  explicit EcamHandler(PciHostBridge* bridge) : bridge_(bridge) {}

  void Read(uint64_t offset, std::span<std::byte> data) override {
    // 64-bit accesses go as two of 32 bits.
    for (size_t done = 0; done < data.size(); done += 4) {
      const std::span<std::byte> piece = Piece(data, done);
      ToBytes(bridge_->ReadConfig(Place(offset + done), Register(offset + done),
                                  static_cast<uint8_t>(piece.size())),
              piece);
    }
  }
  void Write(uint64_t offset, std::span<const std::byte> data) override {
    for (size_t done = 0; done < data.size(); done += 4) {
      const std::span<const std::byte> piece = Piece(data, done);
      bridge_->WriteConfig(Place(offset + done), Register(offset + done),
                           static_cast<uint8_t>(piece.size()),
                           FromBytes(piece));
    }
  }

 private:
  template <typename T>
  static std::span<T> Piece(std::span<T> data, size_t done) {
    return data.subspan(done, std::min<size_t>(4, data.size() - done));
  }
  static PciAddress Place(uint64_t offset) {
    return AddressOf(static_cast<size_t>(offset >> kEcamFunctionShift) %
                     kSlots);
  }
  static uint16_t Register(uint64_t offset) {
    return static_cast<uint16_t>(offset & kEcamOffsetMask);
  }

  PciHostBridge* const bridge_;
};

class PciHostBridge::PortHandler final : public IoHandler {
 public:
  explicit PortHandler(PciHostBridge* bridge) : bridge_(bridge) {}

  void Read(uint64_t offset, std::span<std::byte> data) override {
    const auto width = static_cast<uint8_t>(data.size());
    uint32_t value = Ones(width);
    if (IsAddressPort(offset, width)) {
      value = address_.load(std::memory_order_relaxed);
    } else if (const std::optional<Target> target = TargetOf(offset)) {
      value = bridge_->ReadConfig(target->place, target->offset, width);
    }
    ToBytes(value, data);
  }
  void Write(uint64_t offset, std::span<const std::byte> data) override {
    const auto width = static_cast<uint8_t>(data.size());
    const uint32_t value = FromBytes(data);
    if (IsAddressPort(offset, width)) {
      address_.store(value & kAddressWritable, std::memory_order_relaxed);
    } else if (const std::optional<Target> target = TargetOf(offset)) {
      bridge_->WriteConfig(target->place, target->offset, width, value);
    }
  }

 private:
  struct Target {
    PciAddress place;
    uint16_t offset;
  };
  // Only as a dword; narrower ones are not for the bridge.
  static bool IsAddressPort(uint64_t offset, uint8_t width) {
    return offset == 0 && width == 4;
  }
  std::optional<Target> TargetOf(uint64_t offset) const {
    const uint32_t address = address_.load(std::memory_order_relaxed);
    if (offset < kDataOffset || (address & kAddressEnable) == 0) {
      return std::nullopt;
    }
    return Target{
        .place = {.bus = static_cast<uint8_t>(address >> 16),
                  .device = static_cast<uint8_t>(address >> 11 & 0x1F),
                  .function = static_cast<uint8_t>(address >> 8 & 7)},
        .offset =
            static_cast<uint16_t>((address & 0xFC) + (offset - kDataOffset))};
  }

  PciHostBridge* const bridge_;
  // One for all vCPUs, as on hardware: guests hold a lock over address and
  // data.
  std::atomic<uint32_t> address_{0};
};

// Keeps a function from leaving while a config access of it runs.
class PciHostBridge::Access {
 public:
  Access(PciHostBridge* bridge, PciAddress address)
      : bridge_(bridge), slot_(SlotIndex(address)) {
    if (address.bus != 0 || address.device >= kDevices ||
        address.function >= kFunctions) {
      return;
    }
    MutexLock lock(&bridge->mutex_);
    Slot& slot = bridge->slots_[slot_];
    device_ = slot.device;
    if (device_ == nullptr) return;
    ++slot.accesses;
    has_siblings_ = address.function == 0 && bridge->HasSiblings(slot_);
  }
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
  ~Access() {
    if (device_ == nullptr) return;
    MutexLock lock(&bridge_->mutex_);
    Slot& slot = bridge_->slots_[slot_];
    --slot.accesses;
    if (slot.device == nullptr && slot.accesses == 0) {
      bridge_->access_ended_.NotifyAll();
    }
  }

  PciDevice* device() const { return device_; }
  // This is function 0, and its device has others.
  bool has_siblings() const { return has_siblings_; }

 private:
  PciHostBridge* const bridge_;
  const size_t slot_;
  PciDevice* device_ = nullptr;
  bool has_siblings_ = false;
};

PciHostBridge::PciHostBridge(const Options& options, MmioBus* mmio,
                             InterruptController* interrupts)
    : options_(options),
      mmio_(mmio),
      interrupts_(interrupts),
      self_(std::make_unique<BridgeFunction>()) {
  MutexLock lock(&mutex_);
  slots_[0].device = self_.get();
}

absl::StatusOr<std::unique_ptr<PciHostBridge>> PciHostBridge::Create(
    const Options& options, MmioBus* mmio, PioBus* pio,
    InterruptController* interrupts) {
  const GuestRange low = options.window_32bit;
  if (!low.IsValid() || low.start.value > kFourGiB ||
      low.size > kFourGiB - low.start.value) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "the 32-bit PCI window [0x%x, +0x%x) is not below 4 GiB",
        low.start.value, low.size));
  }
  const GuestRange high = options.window_64bit;
  if (!high.IsValid() || high.Overlaps(kNoBars)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("the 64-bit PCI window [0x%x, +0x%x) is not below 0x%x",
                        high.start.value, high.size, kNoBars.start.value));
  }
  std::unique_ptr<PciHostBridge> bridge(
      new PciHostBridge(options, mmio, interrupts));
  if (options.ecam.has_value()) {
    bridge->ecam_handler_ = std::make_unique<EcamHandler>(bridge.get());
    absl::StatusOr<std::unique_ptr<MmioMapping>> mapping =
        mmio->MapHandler("pci ecam", kEcamBytes, bridge->ecam_handler_.get());
    if (!mapping.ok()) return mapping.status();
    if (absl::Status status = (*mapping)->SetBase(options.ecam); !status.ok()) {
      return status;
    }
    bridge->ecam_mapping_ = *std::move(mapping);
  }
  if (pio != nullptr) {
    bridge->port_handler_ = std::make_unique<PortHandler>(bridge.get());
    absl::StatusOr<std::unique_ptr<MmioMapping>> mapping = pio->MapHandler(
        "pci config ports", kAddressPort, kPorts, bridge->port_handler_.get());
    if (!mapping.ok()) return mapping.status();
    bridge->port_mapping_ = *std::move(mapping);
  }
  return bridge;
}

PciHostBridge::~PciHostBridge() {
  ecam_mapping_.reset();
  port_mapping_.reset();
  for (size_t slot = kSlots; slot-- > 0;) TakeOut(slot);
}

std::vector<PciDevice*> PciHostBridge::Devices() const {
  MutexLock lock(&mutex_);
  std::vector<PciDevice*> devices;
  for (const Slot& slot : slots_) {
    if (slot.device != nullptr) devices.push_back(slot.device);
  }
  return devices;
}

std::optional<size_t> PciHostBridge::SlotOf(const PciDevice* device) const {
  for (size_t i = 0; i < kSlots; ++i) {
    if (slots_[i].device == device) return i;
  }
  return std::nullopt;
}

bool PciHostBridge::HasSiblings(size_t slot) const {
  const size_t first = slot & ~size_t{7};
  for (size_t i = first; i < first + kFunctions; ++i) {
    if (i != slot && slots_[i].device != nullptr) return true;
  }
  return false;
}

absl::StatusOr<PciAddress> PciHostBridge::ChoosePlace(
    const PciDevice& device, std::optional<PciAddress> where) const {
  for (const PciDevice* other : Devices()) {
    if (other->id() == device.id()) {
      return absl::AlreadyExistsError(absl::StrFormat(
          "there is a PCI function \"%s\" already", device.id()));
    }
  }
  if (!where.has_value()) {
    MutexLock lock(&mutex_);
    for (size_t slot = 0; slot < kSlots; slot += kFunctions) {
      if (slots_[slot].device == nullptr && !HasSiblings(slot)) {
        return AddressOf(slot);
      }
    }
    return absl::ResourceExhaustedError(
        absl::StrFormat("no free PCI device number for \"%s\"", device.id()));
  }
  if (where->bus != 0 || where->device >= kDevices ||
      where->function >= kFunctions) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "\"%s\": there is no PCI address %s", device.id(), Describe(*where)));
  }
  const PciDevice* there = nullptr;
  const PciDevice* function_zero = nullptr;
  {
    MutexLock lock(&mutex_);
    const size_t slot = SlotIndex(*where);
    there = slots_[slot].device;
    function_zero = slots_[slot & ~size_t{7}].device;
  }
  if (there != nullptr) {
    return absl::AlreadyExistsError(
        absl::StrFormat("\"%s\": PCI address %s is taken by \"%s\"",
                        device.id(), Describe(*where), there->id()));
  }
  if (where->function != 0 && function_zero == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrFormat("\"%s\": PCI address %s needs a function 0 beside it",
                        device.id(), Describe(*where)));
  }
  return *where;
}

absl::StatusOr<PciAddress> PciHostBridge::Add(PciDevice* device,
                                              std::optional<PciAddress> where) {
  const absl::StatusOr<PciAddress> place = ChoosePlace(*device, where);
  if (!place.ok()) return place;
  if (absl::Status status = device->Connect(*place, mmio_, interrupts_);
      !status.ok()) {
    return status;
  }
  MutexLock lock(&mutex_);
  slots_[SlotIndex(*place)].device = device;
  return place;
}

absl::Status PciHostBridge::Remove(PciDevice* device) {
  std::optional<size_t> slot;
  {
    MutexLock lock(&mutex_);
    slot = SlotOf(device);
    if (!slot.has_value() || device == self_.get()) {
      return absl::NotFoundError("no such function on the PCI host bridge");
    }
    if (AddressOf(*slot).function == 0 && HasSiblings(*slot)) {
      return absl::FailedPreconditionError(absl::StrFormat(
          "PCI address %s has other functions: remove them first",
          Describe(AddressOf(*slot))));
    }
  }
  TakeOut(*slot);
  return absl::OkStatus();
}

void PciHostBridge::TakeOut(size_t slot) {
  PciDevice* device = nullptr;
  {
    MutexLock lock(&mutex_);
    device = std::exchange(slots_[slot].device, nullptr);
    if (device == nullptr) return;
    while (slots_[slot].accesses != 0) access_ended_.Wait(&mutex_);
  }
  device->Disconnect();
  std::erase_if(assigned_,
                [&](const Assigned& one) { return one.device == device; });
}

absl::Status PciHostBridge::AssignBars() {
  std::vector<Assigned> plan;
  for (PciDevice* device : Devices()) {
    for (const PciBarInfo& bar : device->bars()) {
      plan.push_back({.device = device, .bar = bar, .address = 0});
    }
  }
  // Largest first wastes nothing on alignment; stable, so that the same machine
  // always gets the same addresses.
  std::stable_sort(plan.begin(), plan.end(),
                   [](const Assigned& a, const Assigned& b) {
                     return a.bar.size_bytes > b.bar.size_bytes;
                   });
  WindowAllocator low(options_.window_32bit);
  WindowAllocator high(options_.window_64bit);
  for (Assigned& one : plan) {
    const bool goes_high = one.bar.is_64bit && options_.window_64bit.size != 0;
    const std::optional<uint64_t> address =
        (goes_high ? high : low).Take(one.bar.size_bytes);
    if (!address.has_value()) {
      return absl::ResourceExhaustedError(absl::StrFormat(
          "no room for %s bar%d (0x%x bytes) in the %d-bit PCI window",
          one.device->id(), one.bar.index, one.bar.size_bytes,
          goes_high ? 64 : 32));
    }
    one.address = *address;
  }
  assigned_ = std::move(plan);
  return ProgramBars();
}

absl::Status PciHostBridge::ProgramBars() {
  // All of them off first: an address may have been another's before.
  const auto set_decoding = [](PciDevice* device, bool on) {
    const uint32_t command = device->ReadConfig(kCommand, 2);
    device->WriteConfig(
        kCommand, 2, on ? command | kCommandMemory : command & ~kCommandMemory);
  };
  for (const Assigned& one : assigned_) set_decoding(one.device, false);
  for (const Assigned& one : assigned_) {
    const auto offset = static_cast<uint16_t>(kBar0 + 4 * one.bar.index);
    one.device->WriteConfig(offset, 4, static_cast<uint32_t>(one.address));
    if (one.bar.is_64bit) {
      one.device->WriteConfig(static_cast<uint16_t>(offset + 4), 4,
                              static_cast<uint32_t>(one.address >> 32));
    }
  }
  absl::Status result;
  for (const Assigned& one : assigned_) {
    set_decoding(one.device, true);
    const bool on = (one.device->ReadConfig(kCommand, 2) & kCommandMemory) != 0;
    if (!on && result.ok()) {
      result = absl::FailedPreconditionError(absl::StrFormat(
          "the bus refused the BARs of %s inside the PCI window",
          one.device->id()));
    }
  }
  return result;
}

absl::Status PciHostBridge::ResetAll() {
  for (PciDevice* device : Devices()) device->Reset();
  return ProgramBars();
}

uint32_t PciHostBridge::ReadConfig(PciAddress address, uint16_t offset,
                                   uint8_t width) {
  if (!IsServed(offset, width)) return Ones(width);
  const Access access(this, address);
  if (access.device() == nullptr) return Ones(width);
  uint32_t value = access.device()->ReadConfig(offset, width);
  if (access.has_siblings() && offset <= kHeaderType &&
      offset + width > kHeaderType) {
    value |= kMultiFunction << (8 * (kHeaderType - offset));
  }
  return value;
}

void PciHostBridge::WriteConfig(PciAddress address, uint16_t offset,
                                uint8_t width, uint32_t value) {
  if (!IsServed(offset, width)) return;
  const Access access(this, address);
  if (access.device() == nullptr) return;
  access.device()->WriteConfig(offset, width, value);
}

}  // namespace vmsg::vmm
