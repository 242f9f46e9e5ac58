// A guest that does anything to two functions behind a host bridge: config
// accesses of every kind, MSI-X table and pending array, BAR moves, resets.
//
// Input: one byte of options, then operations of eight bytes: what, two bytes
// of choice, width, and four bytes of value (little-endian).

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/pci/pci_host_bridge.h"
#include "vmm/pci/recording_bus.h"
#include "vmm/pci/test_function.h"
#include "vmm/testing/fake_interrupt_controller.h"

namespace vmsg::vmm {
namespace {

// Enough to reach every state; keeps one input short.
constexpr size_t kMaxOperations = 256;

constexpr GuestAddress kEcam{0xB000'0000};
constexpr uint16_t kCommand = 0x04;
constexpr uint16_t kMessageControl = 0x42;
constexpr uint32_t kMemory = 0x2;
constexpr uint32_t kBusMaster = 0x4;
constexpr uint32_t kMsixEnable = 0x8000;
constexpr uint32_t kFunctionMask = 0x4000;
constexpr uint32_t kVectors = TestFunction::kVectors;

void Require(bool condition, const char* what) {
  if (condition) return;
  std::fprintf(stderr, "broken: %s\n", what);
  std::abort();
}

struct Operation {
  uint8_t what;
  uint8_t choice;
  uint8_t detail;
  uint8_t width;
  uint32_t value;
};

class Machine {
 public:
  explicit Machine(uint8_t options) : inner_((options & 1) != 0) {
    for (size_t i = 0; i < functions_.size(); ++i) {
      Guest& guest = functions_[i];
      guest.function = TestFunction::Create(absl::StrCat("amp", i));
      guest.function->on_bus_master = [&guest](bool on) { guest.hook = on; };
      guest.function->on_reset = [&guest] { guest.hook = false; };
    }
    bridge_ = PciHostBridge::Create({.ecam = kEcam,
                                     .window_32bit = {{0xE000'0000}, 0x40000},
                                     .window_64bit = {{1ull << 32}, 1 << 24}},
                                    &bus_, &pio_, &interrupts_)
                  .value();
    for (Guest& guest : functions_) {
      guest.place = bridge_->Add(guest.function.get()).value();
    }
    if ((options & 2) != 0) Require(bridge_->AssignBars().ok(), "AssignBars");
  }

  void Run(const Operation& op) {
    Guest& guest = functions_[op.choice % functions_.size()];
    TestFunction& function = *guest.function;
    switch (op.what % 14) {
      case 0:  // Any config access, anywhere.
        bridge_->ReadConfig(AnyPlace(op.choice), AnyOffset(op), op.width);
        break;
      case 1:
        bridge_->WriteConfig(AnyPlace(op.choice), AnyOffset(op), op.width,
                             op.value);
        break;
      case 2:
        Mmio(kEcam.value + (op.choice << 12 | op.detail), op, true);
        break;
      case 3:
        Mmio(kEcam.value + (op.choice << 12 | op.detail), op, false);
        break;
      case 4:
        Port(op, true);
        break;
      case 5:
        Port(op, false);
        break;
      case 6:  // Somewhere in or near a BAR.
        Mmio(BarAddress(function, op.detail % 6) + op.value % 0x5000, op, true);
        break;
      case 7:
        Mmio(BarAddress(function, op.detail % 6) + op.value % 0x5000, op,
             false);
        break;
      case 8:
        function.msix().Trigger(op.detail % kVectors);
        break;
      case 9:  // A BAR to one of a few places, so that they collide.
        function.WriteConfig(
            static_cast<uint16_t>(0x10 + 4 * (op.detail % 6)), 4,
            (op.value & 1) != 0 ? 0xFFFF'FFFF
                                : 0xE000'0000 + (op.value % 32 << 13));
        break;
      case 10:
        function.WriteConfig(kCommand, 2, op.value % 8);
        break;
      case 11:
        function.WriteConfig(kMessageControl, 2, op.value << 14);
        break;
      case 12:  // An MSI-X entry, wherever the BAR is.
        function.msix().WriteTable(op.detail % 64,
                                   Bytes(op).first(op.width % 9));
        break;
      case 13:
        Rare(op);
        break;
    }
    Check();
  }

 private:
  struct Guest {
    std::unique_ptr<TestFunction> function;
    PciAddress place;
    bool hook = false;                            // what the hooks said last
    std::array<uint64_t, kVectors> dropped = {};  // pending at a reset
  };

  void Rare(const Operation& op) {
    switch (op.detail % 4) {
      case 0:
        for (Guest& guest : functions_) {
          for (uint32_t i = 0; i < kVectors; ++i) {
            guest.dropped[i] += Pending(*guest.function) >> i & 1;
          }
        }
        bridge_->ResetAll()
            .IgnoreError();  // ECAM or the other may be in the way
        break;
      case 1:
        bridge_->AssignBars().IgnoreError();
        break;
      case 2:
        interrupts_.FailUpdates(static_cast<absl::StatusCode>(op.value % 17));
        break;
      case 3:
        interrupts_.FailTriggers(static_cast<absl::StatusCode>(op.value % 17));
        break;
    }
  }

  static PciAddress AnyPlace(uint8_t choice) {
    return {.bus = static_cast<uint8_t>(choice >> 7),
            .device = static_cast<uint8_t>(choice & 0x23),
            .function = static_cast<uint8_t>(choice >> 2 & 3)};
  }
  static uint16_t AnyOffset(const Operation& op) {
    return static_cast<uint16_t>(op.detail | (op.width & 0x80) << 1);
  }
  std::span<std::byte> Bytes(const Operation& op) {
    for (size_t i = 0; i < data_.size(); ++i) {
      data_[i] = static_cast<std::byte>(op.value >> (8 * (i % 4)));
    }
    return data_;
  }
  void Mmio(uint64_t address, const Operation& op, bool write) {
    const std::span<std::byte> data = Bytes(op).first(op.width % 17);
    if (write) {
      inner_.Write({address}, data);
    } else {
      inner_.Read({address}, data);
    }
  }
  void Port(const Operation& op, bool write) {
    const auto port = static_cast<uint16_t>(0xCF6 + op.choice % 12);
    const std::span<std::byte> data = Bytes(op).first(op.width % 9);
    if (write) {
      pio_.Write(port, data);
    } else {
      pio_.Read(port, data);
    }
  }

  static uint32_t BarRegister(TestFunction& function, int index) {
    return function.ReadConfig(static_cast<uint16_t>(0x10 + 4 * index), 4);
  }
  static uint64_t BarAddress(TestFunction& function, int index) {
    uint64_t address = BarRegister(function, index) & ~0xFu;
    if (index == 4) address |= uint64_t{BarRegister(function, 5)} << 32;
    return address;
  }
  static uint64_t Pending(TestFunction& function) {
    std::array<std::byte, 8> bytes;
    function.msix().ReadPending(0, bytes);
    uint64_t bits;
    std::memcpy(&bits, bytes.data(), sizeof(bits));
    return bits;
  }

  void Check() {
    for (Guest& guest : functions_) {
      CheckConstants(*guest.function);
      CheckBusMaster(guest);
      CheckBars(*guest.function);
      CheckInterrupts(guest);
    }
    CheckNoOverlap();
  }

  static void CheckConstants(TestFunction& function) {
    Require(function.ReadConfig(0x00, 4) == 0x9039'10EE, "identity");
    Require(function.ReadConfig(0x08, 4) == 0x0880'0001, "class");
    Require((function.ReadConfig(kCommand, 4) & ~0x406u) == 0x0010'0000,
            "command and status");
    Require(function.ReadConfig(0x34, 4) == 0x40, "capabilities pointer");
    Require((function.ReadConfig(0x40, 4) & 0x3FFF'FFFF) == 0x0002'0011,
            "MSI-X capability");
    Require((BarRegister(function, 0) & 0x3FFF) == 0, "BAR 0 flags");
    Require((BarRegister(function, 1) & 0x1FFF) == 8, "BAR 1 flags");
    Require((BarRegister(function, 4) & 0xF'FFFF) == 0xC, "BAR 4 flags");
    Require(BarRegister(function, 3) == 0, "BAR 3 does not exist");
  }

  static void CheckBusMaster(const Guest& guest) {
    const bool on = (guest.function->ReadConfig(kCommand, 2) & kBusMaster) != 0;
    Require(guest.function->dma_gate()->open() == on, "gate as register");
    Require(guest.hook == on, "hook as register");
  }

  void CheckBars(TestFunction& function) {
    const bool decoding = (function.ReadConfig(kCommand, 2) & kMemory) != 0;
    for (const PciBarInfo& bar : function.bars()) {
      const std::string name = absl::StrCat(function.id(), " bar", bar.index);
      const std::optional<GuestAddress> base = bus_.base(name);
      const uint64_t address = BarAddress(function, bar.index);
      // Only then may it be a probe, which leaves the mapping alone.
      const bool maybe_probe =
          static_cast<uint32_t>(address) ==
              static_cast<uint32_t>(~(bar.size_bytes - 1)) ||
          (bar.is_64bit && address >> 32 == 0xFFFF'FFFF);
      if (!decoding) {
        Require(!base.has_value(), "mapped without decoding");
      } else if (!maybe_probe && address == 0) {
        Require(!base.has_value(), "mapped without an address");
      } else if (!maybe_probe) {
        Require(base == GuestAddress{address}, "mapping as register");
      }
      if (bar.index == 0) CheckDoorbells(name, base);
    }
  }

  void CheckDoorbells(const std::string& bar,
                      std::optional<GuestAddress> base) {
    for (uint32_t i = 0; i < TestRegisters::kDoorbells; ++i) {
      const uint64_t offset = TestRegisters::kDoorbellOffset + 4 * i;
      const auto it = bus_.places().find(
          absl::StrCat(bar, " doorbell ", absl::Hex(offset)));
      if (it == bus_.places().end()) continue;  // a bus without doorbells
      Require(it->second.base.has_value() == base.has_value() &&
                  (!base.has_value() ||
                   it->second.base->value == base->value + offset),
              "doorbell with its BAR");
    }
  }

  void CheckNoOverlap() {
    std::vector<GuestRange> taken;
    for (const auto& [name, place] : bus_.places()) {
      if (place.is_doorbell || !place.base.has_value()) continue;
      const GuestRange range = {*place.base, place.size};
      Require(range.IsValid(), "range wraps");
      for (const GuestRange other : taken) {
        Require(!range.Overlaps(other), "two at one place");
      }
      taken.push_back(range);
    }
  }

  static void CheckInterrupts(const Guest& guest) {
    TestFunction& function = *guest.function;
    const uint32_t control = function.ReadConfig(kMessageControl, 2);
    const bool held_back = (control & kMsixEnable) == 0 ||
                           (control & kFunctionMask) != 0 ||
                           (function.ReadConfig(kCommand, 2) & kBusMaster) == 0;
    const uint64_t pending = Pending(function);
    Require(pending >> kVectors == 0, "pending bits without a vector");
    for (uint32_t i = 0; i < kVectors; ++i) {
      MsixTableEntry entry;
      function.msix().ReadTable(i * sizeof(entry),
                                std::as_writable_bytes(std::span(&entry, 1)));
      Require(entry.vector_control <= 1 && entry.address_low % 4 == 0,
              "reserved bits");
      const bool is_pending = (pending >> i & 1) != 0;
      const bool held = held_back || entry.vector_control == 1;
      Require(held || !is_pending, "open and pending");
      const MsixTable::Stats stats = function.msix().stats(i);
      Require(stats.triggers == stats.delivered + stats.failed + stats.merged +
                                    guest.dropped[i] + (is_pending ? 1 : 0),
              "every trigger accounted for");
    }
  }

  DispatchMmioBus inner_;
  RecordingBus bus_{&inner_};
  DispatchPioBus pio_;
  FakeInterruptController interrupts_;
  std::array<Guest, 2> functions_;
  std::unique_ptr<PciHostBridge> bridge_;
  std::array<std::byte, 16> data_ = {};
};

}  // namespace
}  // namespace vmsg::vmm

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using vmsg::vmm::Operation;
  if (size == 0) return 0;
  vmsg::vmm::Machine machine(data[0]);
  ++data, --size;
  for (size_t n = 0; n < vmsg::vmm::kMaxOperations && size >= 8; ++n) {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value |= uint32_t{data[4 + i]} << (8 * i);
    machine.Run({data[0], data[1], data[2], data[3], value});
    data += 8, size -= 8;
  }
  return 0;
}
