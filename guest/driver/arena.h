// Arena: memory for queues and buffers, whose address for devices is known.

#ifndef VMSG_GUEST_DRIVER_ARENA_H_
#define VMSG_GUEST_DRIVER_ARENA_H_

#include <cstddef>
#include <cstdint>
#include <span>

namespace vmsg::guest {

// A piece of memory as the processor and as a device see it.
struct DmaMemory {
  std::byte* data = nullptr;  // null: none
  uint64_t address = 0;       // for devices; see Platform::translates_dma()
  uint64_t bytes = 0;
};

// Hands out pieces of a block that is contiguous to the processor and to
// devices, front to back; they come back all at once. A device may still write
// to what it was given: reset the arena of a device only after the device has
// confirmed its own reset.
//
// Threads: one.
class Arena {
 public:
  constexpr Arena() = default;
  // `memory`, which is at `address` for devices; borrowed.
  constexpr Arena(std::span<std::byte> memory, uint64_t address)
      : memory_(memory), address_(address) {}

  // `bytes` at an address that is a multiple of `alignment` (a power of two),
  // with undefined content. data is null when the arena is used up.
  constexpr DmaMemory Allocate(uint64_t bytes, uint64_t alignment) {
    const uint64_t mask = alignment - 1;
    const uint64_t skip = (alignment - ((address_ + used_) & mask)) & mask;
    const uint64_t left = memory_.size() - used_;
    if (skip > left || bytes > left - skip) return {};
    const uint64_t start = used_ + skip;
    used_ = start + bytes;
    return {memory_.data() + start, address_ + start, bytes};
  }

  // An arena of its own, cut out of this one. Empty (size() is 0) when this one
  // is used up.
  constexpr Arena Carve(uint64_t bytes, uint64_t alignment) {
    const DmaMemory part = Allocate(bytes, alignment);
    if (part.data == nullptr) return {};
    return Arena({part.data, part.bytes}, part.address);
  }

  // Everything is free again.
  constexpr void Reset() { used_ = 0; }

  constexpr uint64_t used() const { return used_; }
  constexpr uint64_t size() const { return memory_.size(); }

 private:
  std::span<std::byte> memory_;
  uint64_t address_ = 0;
  uint64_t used_ = 0;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_ARENA_H_
