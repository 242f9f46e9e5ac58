// BareMetalPlatform: the Platform of a guest without an operating system.

#ifndef VMSG_GUEST_PAYLOAD_BARE_METAL_BARE_METAL_PLATFORM_H_
#define VMSG_GUEST_PAYLOAD_BARE_METAL_BARE_METAL_PLATFORM_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/arena.h"
#include "guest/driver/platform.h"
#include "guest/payload/bare_metal/interrupts.h"

namespace vmsg::guest {

// What the VMM says about PCI; see vmm/boot/boot_info.h.
struct PciSetup {
  uint64_t ecam_base = 0;  // 0: ports 0xCF8 and 0xCFC
  uint64_t window_base = 0;
  uint64_t window_bytes = 0;
};

// Addresses are mapped to themselves up to 4 GiB. An interrupt id is its
// vector.
class BareMetalPlatform final : public Platform {
 public:
  // `arena` is borrowed. After SetUpInterrupts().
  BareMetalPlatform(const PciSetup& pci, std::span<std::byte> arena);

  uint32_t ReadConfig(PciLocation where, uint16_t offset,
                      uint8_t width) override;
  void WriteConfig(PciLocation where, uint16_t offset, uint8_t width,
                   uint32_t value) override;
  uint64_t ReadMmio(uint64_t address, uint8_t width) override;
  void WriteMmio(uint64_t address, uint8_t width, uint64_t value) override;
  std::byte* MapMemory(uint64_t address, uint64_t bytes) override;
  uint64_t PlaceBar(uint64_t bytes) override;
  Arena* dma_arena() override { return &arena_; }
  bool translates_dma() const override { return false; }
  bool CreateInterrupt(Interrupt* interrupt) override;
  void ReleaseInterrupt(const Interrupt& interrupt) override;
  uint64_t InterruptCount(uint32_t id) override;
  void WaitForInterrupt(uint32_t id, uint64_t seen,
                        uint64_t deadline_ns) override;
  uint64_t NowNs() override { return UptimeNs(); }
  void Log(const char* text) override;

 private:
  const uint64_t ecam_base_;
  uint64_t next_bar_;
  const uint64_t bar_end_;
  Arena arena_;
  uint64_t vectors_in_use_ = 0;  // bit n: kFirstMsiVector + n
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_BARE_METAL_BARE_METAL_PLATFORM_H_
