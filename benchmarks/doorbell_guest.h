// The guest of the doorbell measurement on KVM.

#ifndef VMSG_BENCHMARKS_DOORBELL_GUEST_H_
#define VMSG_BENCHMARKS_DOORBELL_GUEST_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace vmsg::bench {

// 64-bit code that runs at any address. It starts at its first byte, in the
// state of vmm/boot/long_mode.h with RDI at GuestParameters, and never ends:
//
//   reads kGuestPort: how many doorbells to ring; once for each:
//     puts the next packet on the driver queue (its contents are there),
//     writes the doorbell,
//     halts until the interrupt has come,
//     takes what is on the device queue.
std::span<const std::byte> DoorbellGuestCode();
// Of the interrupt handler, in that code.
size_t DoorbellGuestHandlerOffset();

inline constexpr uint16_t kGuestPort = 0xF4;

// Addresses are guest-physical.
struct GuestParameters {
  // For LIDT.
  uint16_t idt_limit = 0;
  uint16_t idt_base[4] = {};
  uint16_t padding[3] = {};
  uint64_t doorbell = 0;
  uint64_t driver_queue = 0;  // the queue pages of a FIFO of layout spsc
  uint64_t device_queue = 0;
  uint32_t interrupts = 0;  // counted by the guest
  uint32_t reserved = 0;
};
static_assert(offsetof(GuestParameters, doorbell) == 16);
static_assert(offsetof(GuestParameters, driver_queue) == 24);
static_assert(offsetof(GuestParameters, device_queue) == 32);
static_assert(offsetof(GuestParameters, interrupts) == 40);
static_assert(sizeof(GuestParameters) == 48);

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_DOORBELL_GUEST_H_
