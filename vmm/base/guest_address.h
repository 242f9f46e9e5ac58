// Strong types for places in a guest's address space, as devices see it.

#ifndef VMSG_VMM_BASE_GUEST_ADDRESS_H_
#define VMSG_VMM_BASE_GUEST_ADDRESS_H_

#include <compare>
#include <cstdint>

namespace vmsg::vmm {

// A guest-physical byte address; of a device behind a DmaTranslator, one that
// it translates to such. Never a host pointer, never a port number.
struct GuestAddress {
  uint64_t value = 0;

  friend constexpr auto operator<=>(GuestAddress, GuestAddress) = default;
};

// `size` bytes from `start`. A range may reach up to, and not past, the end of
// the 64-bit address space; IsValid() tells. All predicates are exact for every
// value of the fields, also where `start + size` would wrap.
struct GuestRange {
  GuestAddress start;
  uint64_t size = 0;  // bytes

  // True when the last byte has an address, that is when start + size does not
  // exceed 2^64. An empty range is valid.
  constexpr bool IsValid() const {
    return size == 0 || start.value <= UINT64_MAX - (size - 1);
  }

  constexpr bool Contains(GuestAddress a) const {
    return a.value >= start.value && a.value - start.value < size;
  }

  // True when every byte of `other` lies inside. An empty `other` is contained
  // when its start is inside, or one past the end.
  constexpr bool Contains(GuestRange other) const {
    if (other.start.value < start.value) return false;
    const uint64_t skip = other.start.value - start.value;
    return skip <= size && other.size <= size - skip;
  }

  constexpr bool Overlaps(GuestRange other) const {
    if (size == 0 || other.size == 0) return false;
    return Contains(other.start) || other.Contains(start);
  }

  friend constexpr bool operator==(GuestRange, GuestRange) = default;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BASE_GUEST_ADDRESS_H_
