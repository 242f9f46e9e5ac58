#include "guest/payload/bare_metal/bare_metal_platform.h"

#include "guest/payload/bare_metal/cpu.h"
#include "guest/payload/bare_metal/serial.h"
#include "guest/payload/line.h"

namespace vmsg::guest {
namespace {

constexpr uint64_t kMappedBytes = uint64_t{4} << 30;

// PCI configuration mechanism #1. Source: PCI Local Bus 3.0, 3.2.2.3.2.
constexpr uint16_t kConfigAddress = 0xCF8;
constexpr uint16_t kConfigData = 0xCFC;
constexpr uint32_t kConfigEnable = 1u << 31;

// Selects a register; returns the port of its first byte.
uint16_t SelectConfig(PciLocation where, uint16_t offset) {
  Out32(kConfigAddress, kConfigEnable | uint32_t{where.device} << 11 |
                            uint32_t{where.function} << 8 | (offset & 0xFCu));
  return static_cast<uint16_t>(kConfigData + (offset & 3));
}

template <typename T>
volatile T* At(uint64_t address) {
  return reinterpret_cast<volatile T*>(address);
}

}  // namespace

BareMetalPlatform::BareMetalPlatform(const PciSetup& pci,
                                     std::span<std::byte> arena)
    : ecam_base_(pci.ecam_base),
      next_bar_(pci.window_base),
      bar_end_(pci.window_base + pci.window_bytes),
      arena_(arena, reinterpret_cast<uint64_t>(arena.data())) {}

uint32_t BareMetalPlatform::ReadConfig(PciLocation where, uint16_t offset,
                                       uint8_t width) {
  if (ecam_base_ != 0) {
    return static_cast<uint32_t>(
        ReadMmio(ecam_base_ + (uint64_t{where.device} << 15 |
                               uint64_t{where.function} << 12 | offset),
                 width));
  }
  const uint16_t port = SelectConfig(where, offset);
  if (width == 1) return In8(port);
  return width == 2 ? In16(port) : In32(port);
}

void BareMetalPlatform::WriteConfig(PciLocation where, uint16_t offset,
                                    uint8_t width, uint32_t value) {
  if (ecam_base_ != 0) {
    WriteMmio(ecam_base_ + (uint64_t{where.device} << 15 |
                            uint64_t{where.function} << 12 | offset),
              width, value);
    return;
  }
  const uint16_t port = SelectConfig(where, offset);
  if (width == 1) {
    Out8(port, static_cast<uint8_t>(value));
  } else if (width == 2) {
    Out16(port, static_cast<uint16_t>(value));
  } else {
    Out32(port, value);
  }
}

uint64_t BareMetalPlatform::ReadMmio(uint64_t address, uint8_t width) {
  switch (width) {
    case 1:
      return *At<uint8_t>(address);
    case 2:
      return *At<uint16_t>(address);
    case 4:
      return *At<uint32_t>(address);
    default:
      return *At<uint64_t>(address);
  }
}

void BareMetalPlatform::WriteMmio(uint64_t address, uint8_t width,
                                  uint64_t value) {
  // The processor keeps stores in order; the compiler is told to.
  __asm__ __volatile__("" ::: "memory");
  switch (width) {
    case 1:
      *At<uint8_t>(address) = static_cast<uint8_t>(value);
      return;
    case 2:
      *At<uint16_t>(address) = static_cast<uint16_t>(value);
      return;
    case 4:
      *At<uint32_t>(address) = static_cast<uint32_t>(value);
      return;
    default:
      *At<uint64_t>(address) = value;
      return;
  }
}

std::byte* BareMetalPlatform::MapMemory(uint64_t address, uint64_t bytes) {
  if (address >= kMappedBytes || bytes > kMappedBytes - address) return nullptr;
  return reinterpret_cast<std::byte*>(address);
}

uint64_t BareMetalPlatform::PlaceBar(uint64_t bytes) {
  const uint64_t address = (next_bar_ + bytes - 1) & ~(bytes - 1);
  if (address == 0 || address > bar_end_ || bytes > bar_end_ - address) {
    return 0;
  }
  next_bar_ = address + bytes;
  return address;
}

bool BareMetalPlatform::CreateInterrupt(Interrupt* interrupt) {
  // Each vector once in a run, so that its count is the count of one source.
  for (uint8_t n = 0; n < kMsiVectors; ++n) {
    if ((vectors_in_use_ >> n & 1) != 0) continue;
    vectors_in_use_ |= uint64_t{1} << n;
    const auto vector = static_cast<uint8_t>(kFirstMsiVector + n);
    *interrupt = {
        .id = vector, .address = MsiAddress(), .data = MsiData(vector)};
    return true;
  }
  return false;
}

void BareMetalPlatform::ReleaseInterrupt(const Interrupt&) {}

uint64_t BareMetalPlatform::InterruptCount(uint32_t id) {
  return id == kAnyInterrupt ? TotalCount()
                             : VectorCount(static_cast<uint8_t>(id));
}

void BareMetalPlatform::WaitForInterrupt(uint32_t id, uint64_t seen,
                                         uint64_t deadline_ns) {
  HaltWhile(id == kAnyInterrupt ? TotalCounter()
                                : VectorCounter(static_cast<uint8_t>(id)),
            seen, deadline_ns);
}

void BareMetalPlatform::Log(const char* text) {
  WriteSerial(Line("log").Text("text", text).Finish());
}

}  // namespace vmsg::guest
