// Copies between private memory and memory that another party writes at the
// same time.
//
// A plain memcpy there is a data race: the compiler may read twice, and
// ThreadSanitizer rightly objects. These copies go by relaxed atomic accesses
// of the largest aligned power of two up to 8 bytes, each byte exactly once.
// They promise nothing about the order in which the other party sees the
// pieces: publish with the release and acquire functions below.

#ifndef VMSG_VMM_MEMORY_SHARED_COPY_H_
#define VMSG_VMM_MEMORY_SHARED_COPY_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace vmsg::vmm {

namespace shared_copy_internal {

template <typename T>
inline void CopyFrom(std::byte* to, const std::byte* shared) {
  const T value =
      std::atomic_ref<T>(*reinterpret_cast<T*>(const_cast<std::byte*>(shared)))
          .load(std::memory_order_relaxed);
  std::memcpy(to, &value, sizeof(T));
}

template <typename T>
inline void CopyTo(std::byte* shared, const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  std::atomic_ref<T>(*reinterpret_cast<T*>(shared))
      .store(value, std::memory_order_relaxed);
}

// Cuts `size` bytes at `address` into pieces that are aligned to their size, as
// large as they can be, and calls `copy(T(), offset)` for each in order.
template <typename Copy>
inline void ForEachPiece(uintptr_t address, size_t size, Copy copy) {
  size_t offset = 0;
  const auto take = [&]<typename T>(T) {
    copy(T(), offset);
    offset += sizeof(T);
  };
  // Up to the alignment of eight bytes ...
  if (((address + offset) & 1) != 0 && size - offset >= 1) take(uint8_t());
  if (((address + offset) & 2) != 0 && size - offset >= 2) take(uint16_t());
  if (((address + offset) & 4) != 0 && size - offset >= 4) take(uint32_t());
  // ... which is not reached only where less than the next piece is left.
  while (size - offset >= 8) take(uint64_t());
  if (size - offset >= 4) take(uint32_t());
  if (size - offset >= 2) take(uint16_t());
  if (size - offset >= 1) take(uint8_t());
}

}  // namespace shared_copy_internal

// Copies to.size() bytes out of shared memory. A naturally aligned piece of 2,
// 4 or 8 bytes that is copied alone is read in one access.
inline void CopyFromShared(std::span<std::byte> to, const std::byte* shared) {
  shared_copy_internal::ForEachPiece(
      reinterpret_cast<uintptr_t>(shared), to.size(),
      [&]<typename T>(T, size_t offset) {
        shared_copy_internal::CopyFrom<T>(to.data() + offset, shared + offset);
      });
}

// Copies from.size() bytes into shared memory, likewise.
inline void CopyToShared(std::byte* shared, std::span<const std::byte> from) {
  shared_copy_internal::ForEachPiece(
      reinterpret_cast<uintptr_t>(shared), from.size(),
      [&]<typename T>(T, size_t offset) {
        shared_copy_internal::CopyTo<T>(shared + offset, from.data() + offset);
      });
}

// Single little-endian words; `shared` is aligned to sizeof(T).
template <typename T>
inline T LoadShared(const std::byte* shared, std::memory_order order) {
  return std::atomic_ref<T>(
             *reinterpret_cast<T*>(const_cast<std::byte*>(shared)))
      .load(order);
}
template <typename T>
inline void StoreShared(std::byte* shared, T value, std::memory_order order) {
  std::atomic_ref<T>(*reinterpret_cast<T*>(shared)).store(value, order);
}

// Asks for the cache line of `shared` as one that this side will write to: a
// store to a line that the other side had last takes as long as a message
// between processors, and stores go out in order. Changes nothing else.
inline void PrefetchToWrite(std::byte* shared) {
#if defined(__x86_64__)
  // The built-in function asks to read only, unless told of the processor.
  asm volatile("prefetchw %0" : : "m"(*shared));
#else
  __builtin_prefetch(shared, /*rw=*/1);
#endif
}

// Likewise to read. Not of a line that the other side may still write to: that
// would take it away from there.
inline void PrefetchToRead(const std::byte* shared) {
  __builtin_prefetch(shared);
}

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_MEMORY_SHARED_COPY_H_
