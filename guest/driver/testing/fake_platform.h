// FakePlatform: a Platform without any machine behind it. Time stands still
// but for waits, which end at their deadline unless something is raised.

#ifndef VMSG_GUEST_DRIVER_TESTING_FAKE_PLATFORM_H_
#define VMSG_GUEST_DRIVER_TESTING_FAKE_PLATFORM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "guest/driver/platform.h"

namespace vmsg::guest {

// Configuration space of a function: what is read, and which bits a write
// changes.
struct FakeConfigSpace {
  std::array<uint8_t, 256> bytes = {};
  std::array<uint8_t, 256> writable = {};

  void Set(uint16_t offset, uint8_t width, uint32_t value);
  // A 32-bit memory BAR of `size` bytes with these low bits; `size` 0 clears.
  void SetBar(uint8_t index, uint32_t size, uint32_t flags, uint32_t address);
};

// Threads: one.
class FakePlatform final : public Platform {
 public:
  static constexpr uint64_t kArenaAddress = 0x40000000;
  static constexpr size_t kArenaBytes = 1 << 20;

  FakePlatform();

  // --- What a test sets up. ---

  FakeConfigSpace& function(PciLocation where) {
    return functions_[Key(where)];
  }
  // Registers by address; reads of others give 0.
  std::map<uint64_t, uint64_t> registers;
  std::function<void(uint64_t address, uint64_t value)> on_mmio_write;
  // Called by a wait before it sleeps.
  std::function<void()> on_wait;
  uint64_t memory_address = 0;  // MapMemory works from here on
  std::span<std::byte> memory;
  uint64_t place_bar_next = 0;  // 0: none
  uint32_t interrupts_left = 16;
  bool dma_translated = false;

  // --- What a test does and sees. ---

  void Raise(uint32_t id) { ++counts_[id]; }
  void AdvanceNs(uint64_t ns) { now_ns_ += ns; }
  // The arena's bytes at a guest-physical address.
  std::byte* At(uint64_t address) {
    return arena_memory_.data() + (address - kArenaAddress);
  }
  uint64_t waits() const { return waits_; }
  const std::vector<uint32_t>& released() const { return released_; }

  // --- Platform. ---

  uint32_t ReadConfig(PciLocation where, uint16_t offset,
                      uint8_t width) override;
  void WriteConfig(PciLocation where, uint16_t offset, uint8_t width,
                   uint32_t value) override;
  uint64_t ReadMmio(uint64_t address, uint8_t width) override;
  void WriteMmio(uint64_t address, uint8_t width, uint64_t value) override;
  std::byte* MapMemory(uint64_t address, uint64_t bytes) override;
  uint64_t PlaceBar(uint64_t bytes) override;
  Arena* dma_arena() override { return &arena_; }
  bool translates_dma() const override { return dma_translated; }
  bool CreateInterrupt(Interrupt* interrupt) override;
  void ReleaseInterrupt(const Interrupt& interrupt) override;
  uint64_t InterruptCount(uint32_t id) override;
  void WaitForInterrupt(uint32_t id, uint64_t seen,
                        uint64_t deadline_ns) override;
  uint64_t NowNs() override { return now_ns_; }
  void Log(const char* text) override { log_.push_back(text); }

 private:
  static uint16_t Key(PciLocation where) {
    return static_cast<uint16_t>(where.device << 3 | where.function);
  }

  std::map<uint16_t, FakeConfigSpace> functions_;
  std::vector<std::byte> arena_memory_;
  Arena arena_;
  std::map<uint32_t, uint64_t> counts_;
  uint32_t next_interrupt_ = 0;
  std::vector<uint32_t> released_;
  uint64_t now_ns_ = 0;
  uint64_t waits_ = 0;
  std::vector<std::string> log_;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_TESTING_FAKE_PLATFORM_H_
