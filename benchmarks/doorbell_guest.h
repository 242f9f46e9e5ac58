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

// Where a FIFO has the words that its driver needs, guest-physical. Indices are
// below 256, so that of a longer word the first two bytes will do.
struct FifoIndices {
  uint64_t driver_put = 0;   // driver queue: the next packet that is put
  uint64_t device_put = 0;   // device queue, likewise
  uint64_t driver_took = 0;  // device queue: the next packet that is taken
  uint32_t slots = 0;        // of the driver queue
};

// Addresses are guest-physical.
struct GuestParameters {
  // For LIDT.
  uint16_t idt_limit = 0;
  uint16_t idt_base[4] = {};
  uint16_t padding[3] = {};
  uint64_t doorbell = 0;
  FifoIndices fifo;
  uint32_t interrupts = 0;  // counted by the guest
  uint32_t reserved = 0;
};
static_assert(offsetof(GuestParameters, doorbell) == 16);
static_assert(offsetof(GuestParameters, fifo.driver_put) == 24);
static_assert(offsetof(GuestParameters, fifo.device_put) == 32);
static_assert(offsetof(GuestParameters, fifo.driver_took) == 40);
static_assert(offsetof(GuestParameters, fifo.slots) == 48);
static_assert(offsetof(GuestParameters, interrupts) == 56);
static_assert(sizeof(GuestParameters) == 64);

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_DOORBELL_GUEST_H_
