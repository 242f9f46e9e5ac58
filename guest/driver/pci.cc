#include "guest/driver/pci.h"

namespace vmsg::guest {
namespace {

// Header registers.
constexpr uint16_t kVendorId = 0x00;
constexpr uint16_t kCommand = 0x04;
constexpr uint16_t kStatus = 0x06;
constexpr uint16_t kRevision = 0x08;
constexpr uint16_t kHeaderType = 0x0E;
constexpr uint16_t kBar0 = 0x10;
constexpr uint16_t kCapabilities = 0x34;

constexpr uint32_t kCommandMemory = 1u << 1;
constexpr uint32_t kCommandBusMaster = 1u << 2;
constexpr uint32_t kStatusCapabilityList = 1u << 4;
constexpr uint32_t kMultiFunction = 0x80;

constexpr uint32_t kBarIo = 1u << 0;
constexpr uint32_t kBarTypeMask = 3u << 1;
constexpr uint32_t kBarType64 = 2u << 1;
constexpr uint32_t kBarPrefetchable = 1u << 3;
constexpr uint32_t kBarAddress = ~uint32_t{0xF};

// Capabilities live in [0x40, 0x100) and are at least 4 bytes.
constexpr uint16_t kFirstCapability = 0x40;
constexpr int kMaxCapabilities = (0x100 - kFirstCapability) / 4;

// MSI-X capability, and its message control. Source: 6.8.2.
constexpr uint16_t kMsixControl = 2;
constexpr uint16_t kMsixTable = 4;
constexpr uint32_t kMsixSizeMask = 0x7FF;
constexpr uint32_t kMsixFunctionMask = 1u << 14;
constexpr uint32_t kMsixEnable = 1u << 15;
constexpr uint32_t kMsixBarMask = 7;

// A table entry.
constexpr uint64_t kEntryAddressLow = 0;
constexpr uint64_t kEntryAddressHigh = 4;
constexpr uint64_t kEntryData = 8;
constexpr uint64_t kEntryControl = 12;
constexpr uint32_t kEntryMasked = 1;
constexpr uint64_t kEntryBytes = 16;

uint16_t BarOffset(uint8_t index) {
  return static_cast<uint16_t>(kBar0 + 4 * index);
}

void SetCommandBit(Platform* platform, PciLocation where, uint32_t bit,
                   bool on) {
  const uint32_t old = platform->ReadConfig(where, kCommand, 2);
  const uint32_t command = on ? old | bit : old & ~bit;
  if (command != old) platform->WriteConfig(where, kCommand, 2, command);
}

bool ReadFunction(Platform* platform, PciLocation where,
                  PciFunctionInfo* info) {
  const uint32_t ids = platform->ReadConfig(where, kVendorId, 4);
  if ((ids & 0xFFFF) == 0xFFFF) return false;
  const uint32_t revision = platform->ReadConfig(where, kRevision, 4);
  info->where = where;
  info->vendor_id = static_cast<uint16_t>(ids);
  info->device_id = static_cast<uint16_t>(ids >> 16);
  info->revision = static_cast<uint8_t>(revision);
  info->class_code = revision >> 8;
  return true;
}

}  // namespace

void VisitPciFunctions(Platform* platform, PciVisitor* visitor) {
  for (uint8_t device = 0; device < 32; ++device) {
    uint8_t functions = 1;
    for (uint8_t function = 0; function < functions; ++function) {
      PciFunctionInfo info;
      const PciLocation where{device, function};
      if (!ReadFunction(platform, where, &info)) continue;
      if (!visitor->Visit(info)) return;
      if (function == 0 &&
          (platform->ReadConfig(where, kHeaderType, 1) & kMultiFunction) != 0) {
        functions = 8;
      }
    }
  }
}

uint32_t FindPciFunctions(Platform* platform, uint16_t vendor_id,
                          uint16_t device_id, std::span<PciLocation> found) {
  class Finder final : public PciVisitor {
   public:
    Finder(uint16_t vendor, uint16_t device, std::span<PciLocation> out)
        : vendor_(vendor), device_(device), out_(out) {}
    bool Visit(const PciFunctionInfo& info) override {
      if (info.vendor_id == vendor_ && info.device_id == device_) {
        if (count_ < out_.size()) out_[count_] = info.where;
        ++count_;
      }
      return true;
    }
    uint32_t count() const { return count_; }

   private:
    const uint16_t vendor_;
    const uint16_t device_;
    const std::span<PciLocation> out_;
    uint32_t count_ = 0;
  };
  Finder finder(vendor_id, device_id, found);
  VisitPciFunctions(platform, &finder);
  return finder.count();
}

Error FindCapability(Platform* platform, PciLocation where, uint8_t id,
                     uint16_t* offset) {
  if ((platform->ReadConfig(where, kStatus, 2) & kStatusCapabilityList) == 0) {
    return Error::kNotFound;
  }
  uint32_t at = platform->ReadConfig(where, kCapabilities, 1) & 0xFC;
  for (int i = 0; i < kMaxCapabilities; ++i) {
    if (at == 0) return Error::kNotFound;
    if (at < kFirstCapability) return Error::kBadHardware;
    const uint32_t word =
        platform->ReadConfig(where, static_cast<uint16_t>(at), 2);
    if ((word & 0xFF) == id) {
      *offset = static_cast<uint16_t>(at);
      return Error::kNone;
    }
    at = word >> 8 & 0xFC;
  }
  return Error::kBadHardware;  // longer than the space: a loop
}

Error ReadBar(Platform* platform, PciLocation where, uint8_t index,
              PciBar* bar) {
  if (index > 5) return Error::kNotFound;
  const uint16_t low_at = BarOffset(index);
  const uint32_t low = platform->ReadConfig(where, low_at, 4);
  platform->WriteConfig(where, low_at, 4, UINT32_MAX);
  const uint32_t low_mask = platform->ReadConfig(where, low_at, 4);
  platform->WriteConfig(where, low_at, 4, low);
  if (low_mask == 0 || low_mask == UINT32_MAX || (low_mask & kBarIo) != 0) {
    return Error::kNotFound;
  }
  *bar = {};
  bar->is_64bit = (low_mask & kBarTypeMask) == kBarType64;
  bar->prefetchable = (low_mask & kBarPrefetchable) != 0;
  uint64_t mask = low_mask & kBarAddress;
  bar->address = low & kBarAddress;
  if (bar->is_64bit) {
    if (index == 5) return Error::kBadHardware;
    const uint16_t high_at = BarOffset(static_cast<uint8_t>(index + 1));
    const uint32_t high = platform->ReadConfig(where, high_at, 4);
    platform->WriteConfig(where, high_at, 4, UINT32_MAX);
    mask |= uint64_t{platform->ReadConfig(where, high_at, 4)} << 32;
    platform->WriteConfig(where, high_at, 4, high);
    bar->address |= uint64_t{high} << 32;
  } else {
    mask |= uint64_t{UINT32_MAX} << 32;
  }
  bar->bytes = ~mask + 1;
  if (mask == 0 || (bar->bytes & (bar->bytes - 1)) != 0) {
    return Error::kBadHardware;
  }
  return Error::kNone;
}

Error PlaceBar(Platform* platform, PciLocation where, uint8_t index,
               PciBar* bar) {
  const uint64_t address = platform->PlaceBar(bar->bytes);
  if (address == 0 || address > UINT32_MAX) return Error::kNoMemory;
  const uint16_t at = BarOffset(index);
  platform->WriteConfig(where, at, 4, static_cast<uint32_t>(address));
  if (bar->is_64bit) {
    platform->WriteConfig(where, static_cast<uint16_t>(at + 4), 4, 0);
  }
  if ((platform->ReadConfig(where, at, 4) & kBarAddress) != address) {
    return Error::kBadHardware;
  }
  bar->address = address;
  return Error::kNone;
}

void SetMemoryDecode(Platform* platform, PciLocation where, bool on) {
  SetCommandBit(platform, where, kCommandMemory, on);
}

void SetBusMaster(Platform* platform, PciLocation where, bool on) {
  SetCommandBit(platform, where, kCommandBusMaster, on);
}

Error MsixTable::Open(Platform* platform, PciLocation where) {
  platform_ = platform;
  where_ = where;
  if (const Error error =
          FindCapability(platform, where, kCapabilityMsix, &capability_);
      error != Error::kNone) {
    return error;
  }
  if (capability_ + 12 > 0x100) return Error::kBadHardware;
  const uint32_t control = platform->ReadConfig(
      where, static_cast<uint16_t>(capability_ + kMsixControl), 2);
  const uint32_t table = platform->ReadConfig(
      where, static_cast<uint16_t>(capability_ + kMsixTable), 4);
  vectors_ = (control & kMsixSizeMask) + 1;
  table_bar_ = static_cast<uint8_t>(table & kMsixBarMask);
  table_offset_ = table & ~kMsixBarMask;
  return table_bar_ > 5 ? Error::kBadHardware : Error::kNone;
}

Error MsixTable::MapTable(const PciBar& bar) {
  const uint64_t table_bytes = kEntryBytes * vectors_;
  if (table_offset_ > bar.bytes || table_bytes > bar.bytes - table_offset_) {
    return Error::kBadHardware;
  }
  table_address_ = bar.address + table_offset_;
  for (uint32_t vector = 0; vector < vectors_; ++vector) Mask(vector, true);
  return Error::kNone;
}

Error MsixTable::Program(uint32_t vector, const Interrupt& interrupt) {
  Mask(vector, true);
  const uint64_t entry = Entry(vector);
  const auto low = static_cast<uint32_t>(interrupt.address);
  const auto high = static_cast<uint32_t>(interrupt.address >> 32);
  platform_->WriteMmio(entry + kEntryAddressLow, 4, low);
  platform_->WriteMmio(entry + kEntryAddressHigh, 4, high);
  platform_->WriteMmio(entry + kEntryData, 4, interrupt.data);
  if (platform_->ReadMmio(entry + kEntryAddressLow, 4) != low ||
      platform_->ReadMmio(entry + kEntryAddressHigh, 4) != high ||
      platform_->ReadMmio(entry + kEntryData, 4) != interrupt.data) {
    return Error::kBadHardware;
  }
  Mask(vector, false);
  return Error::kNone;
}

void MsixTable::Mask(uint32_t vector, bool masked) {
  const uint64_t control = Entry(vector) + kEntryControl;
  const uint64_t old = platform_->ReadMmio(control, 4);
  // The other bits are reserved: kept.
  platform_->WriteMmio(control, 4,
                       masked ? old | kEntryMasked : old & ~kEntryMasked);
}

void MsixTable::Enable(bool on) {
  const auto at = static_cast<uint16_t>(capability_ + kMsixControl);
  uint32_t control = platform_->ReadConfig(where_, at, 2);
  control &= ~(kMsixEnable | kMsixFunctionMask);
  if (on) control |= kMsixEnable;
  platform_->WriteConfig(where_, at, 2, control);
}

}  // namespace vmsg::guest
