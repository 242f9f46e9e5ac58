// Platform: what the environment supplies to the driver side, on bare metal as
// well as in a process of the host.

#ifndef VMSG_GUEST_DRIVER_PLATFORM_H_
#define VMSG_GUEST_DRIVER_PLATFORM_H_

#include <cstddef>
#include <cstdint>

#include "guest/driver/arena.h"

namespace vmsg::guest {

// A function on PCI bus 0.
struct PciLocation {
  uint8_t device = 0;    // 0 to 31
  uint8_t function = 0;  // 0 to 7
  friend constexpr bool operator==(PciLocation, PciLocation) = default;
};

// A message-signalled interrupt: what the device writes, and the name under
// which the platform counts it.
struct Interrupt {
  uint32_t id = 0;
  uint64_t address = 0;
  uint32_t data = 0;
};

// Stands for all interrupts, and for whatever else wakes the platform up.
inline constexpr uint32_t kAnyInterrupt = UINT32_MAX;
// A deadline that never comes.
inline constexpr uint64_t kNoDeadline = UINT64_MAX;

// Borrowed by everything in this folder; outlives it.
//
// Threads: the owner's alone, unless an implementation says more. Addresses are
// guest-physical, but those of dma_arena(). Nothing here is deleted through
// this class.
class Platform {
 public:
  Platform(const Platform&) = delete;
  Platform& operator=(const Platform&) = delete;

  // PCI configuration space. `width` is 1, 2 or 4 and `offset` a multiple of
  // it. A function that is not there reads all ones.
  virtual uint32_t ReadConfig(PciLocation where, uint16_t offset,
                              uint8_t width) = 0;
  virtual void WriteConfig(PciLocation where, uint16_t offset, uint8_t width,
                           uint32_t value) = 0;

  // Device registers. `width` is 1, 2, 4 or 8 and `address` a multiple of it.
  // A write is ordered after the memory accesses before it.
  virtual uint64_t ReadMmio(uint64_t address, uint8_t width) = 0;
  virtual void WriteMmio(uint64_t address, uint8_t width, uint64_t value) = 0;

  // Memory behind a BAR as ordinary memory, valid until `Platform` goes; null
  // when it can't be had. 64-byte aligned when `address` is.
  virtual std::byte* MapMemory(uint64_t address, uint64_t bytes) = 0;

  // An address for a 32-bit memory BAR that nobody has placed, a multiple of
  // `bytes`; 0 when the platform has no room. Not given back.
  virtual uint64_t PlaceBar(uint64_t bytes) = 0;

  // Memory that devices can reach. The platform's only one; parts are taken for
  // queues and buffers. Its addresses are those under which devices reach it.
  virtual Arena* dma_arena() = 0;
  // True: those are not guest-physical, but the IOMMU's, and only a device with
  // VIRTIO_F_ACCESS_PLATFORM understands them. Source: virtio 1.2, 6.1.
  virtual bool translates_dma() const = 0;

  // A new interrupt, counted from 0. False when there is none left.
  virtual bool CreateInterrupt(Interrupt* interrupt) = 0;
  // Gives one back; its source is masked before.
  virtual void ReleaseInterrupt(const Interrupt& interrupt) = 0;

  // How often interrupt `id` (or, with kAnyInterrupt, any) has come. What its
  // source wrote before it raised the interrupt is visible after.
  virtual uint64_t InterruptCount(uint32_t id) = 0;

  // Sleeps until InterruptCount(id) differs from `seen`, or NowNs() has reached
  // `deadline_ns`; may also return early for no reason. To lose no wake-up:
  // take `seen`, look for work, and wait only when there was none.
  virtual void WaitForInterrupt(uint32_t id, uint64_t seen,
                                uint64_t deadline_ns) = 0;

  // Time since an arbitrary start, in nanoseconds; never goes back.
  virtual uint64_t NowNs() = 0;

  // A line for people, without line end. `text` ends with 0.
  virtual void Log(const char* text) = 0;

 protected:
  Platform() = default;
  ~Platform() = default;
};

// `now_ns + timeout_ns`, or kNoDeadline when that wraps.
constexpr uint64_t DeadlineAfter(uint64_t now_ns, uint64_t timeout_ns) {
  return timeout_ns > kNoDeadline - now_ns ? kNoDeadline : now_ns + timeout_ns;
}

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_PLATFORM_H_
