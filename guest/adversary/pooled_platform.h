// PooledPlatform: a Platform whose interrupts can be had again and again.

#ifndef VMSG_GUEST_ADVERSARY_POOLED_PLATFORM_H_
#define VMSG_GUEST_ADVERSARY_POOLED_PLATFORM_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "guest/driver/platform.h"

namespace vmsg::guest {

// A function is opened anew after each case that has upset it, and a platform
// need not take interrupts back. So they are kept here, and their counts go on
// where they were. All else is the platform's below, threads included.
class PooledPlatform final : public Platform {
 public:
  // Borrowed.
  explicit PooledPlatform(Platform* below) : below_(below) {}

  uint32_t ReadConfig(PciLocation where, uint16_t offset,
                      uint8_t width) override {
    return below_->ReadConfig(where, offset, width);
  }
  void WriteConfig(PciLocation where, uint16_t offset, uint8_t width,
                   uint32_t value) override {
    below_->WriteConfig(where, offset, width, value);
  }
  uint64_t ReadMmio(uint64_t address, uint8_t width) override {
    return below_->ReadMmio(address, width);
  }
  void WriteMmio(uint64_t address, uint8_t width, uint64_t value) override {
    below_->WriteMmio(address, width, value);
  }
  std::byte* MapMemory(uint64_t address, uint64_t bytes) override {
    return below_->MapMemory(address, bytes);
  }
  uint64_t PlaceBar(uint64_t bytes) override { return below_->PlaceBar(bytes); }
  Arena* dma_arena() override { return below_->dma_arena(); }
  bool translates_dma() const override { return below_->translates_dma(); }
  bool CreateInterrupt(Interrupt* interrupt) override {
    if (kept_ == 0) return below_->CreateInterrupt(interrupt);
    *interrupt = pool_[--kept_];
    return true;
  }
  void ReleaseInterrupt(const Interrupt& interrupt) override {
    if (kept_ == pool_.size()) return below_->ReleaseInterrupt(interrupt);
    pool_[kept_++] = interrupt;
  }
  uint64_t InterruptCount(uint32_t id) override {
    return below_->InterruptCount(id);
  }
  void WaitForInterrupt(uint32_t id, uint64_t seen,
                        uint64_t deadline_ns) override {
    below_->WaitForInterrupt(id, seen, deadline_ns);
  }
  uint64_t NowNs() override { return below_->NowNs(); }
  void Log(const char* text) override { below_->Log(text); }

 private:
  Platform* const below_;
  std::array<Interrupt, 32> pool_;
  size_t kept_ = 0;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_ADVERSARY_POOLED_PLATFORM_H_
