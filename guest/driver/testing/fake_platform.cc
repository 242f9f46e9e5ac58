#include "guest/driver/testing/fake_platform.h"

#include <algorithm>

namespace vmsg::guest {

void FakeConfigSpace::Set(uint16_t offset, uint8_t width, uint32_t value) {
  for (uint8_t i = 0; i < width; ++i) {
    bytes[offset + i] = static_cast<uint8_t>(value >> (8 * i));
  }
}

void FakeConfigSpace::SetBar(uint8_t index, uint32_t size, uint32_t flags,
                             uint32_t address) {
  const auto offset = static_cast<uint16_t>(0x10 + 4 * index);
  Set(offset, 4, address | flags);
  const uint32_t mask = size == 0 ? 0 : ~(size - 1);
  for (uint8_t i = 0; i < 4; ++i) {
    writable[offset + i] = static_cast<uint8_t>(mask >> (8 * i));
  }
}

FakePlatform::FakePlatform()
    : arena_memory_(kArenaBytes), arena_(arena_memory_, kArenaAddress) {}

uint32_t FakePlatform::ReadConfig(PciLocation where, uint16_t offset,
                                  uint8_t width) {
  const auto found = functions_.find(Key(where));
  uint32_t value = 0;
  for (uint8_t i = 0; i < width; ++i) {
    const uint32_t byte =
        found == functions_.end() ? 0xFF : found->second.bytes[offset + i];
    value |= byte << (8 * i);
  }
  return value;
}

void FakePlatform::WriteConfig(PciLocation where, uint16_t offset,
                               uint8_t width, uint32_t value) {
  const auto found = functions_.find(Key(where));
  if (found == functions_.end()) return;
  for (uint8_t i = 0; i < width; ++i) {
    const uint8_t mask = found->second.writable[offset + i];
    uint8_t& byte = found->second.bytes[offset + i];
    byte = static_cast<uint8_t>((byte & ~mask) | (value >> (8 * i) & mask));
  }
}

uint64_t FakePlatform::ReadMmio(uint64_t address, uint8_t) {
  const auto found = registers.find(address);
  return found == registers.end() ? 0 : found->second;
}

void FakePlatform::WriteMmio(uint64_t address, uint8_t, uint64_t value) {
  registers[address] = value;
  if (on_mmio_write) on_mmio_write(address, value);
}

std::byte* FakePlatform::MapMemory(uint64_t address, uint64_t bytes) {
  if (address < memory_address ||
      address - memory_address + bytes > memory.size()) {
    return nullptr;
  }
  return memory.data() + (address - memory_address);
}

uint64_t FakePlatform::PlaceBar(uint64_t bytes) {
  if (place_bar_next == 0) return 0;
  const uint64_t address = (place_bar_next + bytes - 1) & ~(bytes - 1);
  place_bar_next = address + bytes;
  return address;
}

bool FakePlatform::CreateInterrupt(Interrupt* interrupt) {
  if (interrupts_left == 0) return false;
  --interrupts_left;
  const uint32_t id = next_interrupt_++;
  *interrupt = {.id = id, .address = 0xFEE00000, .data = 0x40 + id};
  return true;
}

void FakePlatform::ReleaseInterrupt(const Interrupt& interrupt) {
  released_.push_back(interrupt.id);
}

uint64_t FakePlatform::InterruptCount(uint32_t id) {
  if (id != kAnyInterrupt) return counts_[id];
  uint64_t sum = 0;
  for (const auto& [ignored, count] : counts_) sum += count;
  return sum;
}

void FakePlatform::WaitForInterrupt(uint32_t id, uint64_t seen,
                                    uint64_t deadline_ns) {
  ++waits_;
  if (on_wait) on_wait();
  if (InterruptCount(id) == seen) now_ns_ = std::max(now_ns_, deadline_ns);
}

}  // namespace vmsg::guest
