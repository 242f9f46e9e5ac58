// Copies between private memory and memory that another party writes at the
// same time.
//
// A plain memcpy there is a data race: the compiler may read twice, and
// ThreadSanitizer rightly objects. These copies go by relaxed atomic accesses of
// the largest aligned power of two up to 8 bytes, each byte exactly once. They
// promise nothing about the order in which the other party sees the pieces:
// publish with the release and acquire functions below.

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

}  // namespace shared_copy_internal

// Copies to.size() bytes out of shared memory.
inline void CopyFromShared(std::span<std::byte> to, const std::byte* shared) {
  namespace in = shared_copy_internal;
  std::byte* out = to.data();
  size_t left = to.size();
  while (left != 0 && (reinterpret_cast<uintptr_t>(shared) & 7) != 0) {
    in::CopyFrom<uint8_t>(out++, shared++);
    --left;
  }
  for (; left >= 8; left -= 8, out += 8, shared += 8) {
    in::CopyFrom<uint64_t>(out, shared);
  }
  if (left >= 4) {
    in::CopyFrom<uint32_t>(out, shared);
    left -= 4, out += 4, shared += 4;
  }
  while (left-- != 0) in::CopyFrom<uint8_t>(out++, shared++);
}

// Copies from.size() bytes into shared memory.
inline void CopyToShared(std::byte* shared, std::span<const std::byte> from) {
  namespace in = shared_copy_internal;
  const std::byte* source = from.data();
  size_t left = from.size();
  while (left != 0 && (reinterpret_cast<uintptr_t>(shared) & 7) != 0) {
    in::CopyTo<uint8_t>(shared++, source++);
    --left;
  }
  for (; left >= 8; left -= 8, source += 8, shared += 8) {
    in::CopyTo<uint64_t>(shared, source);
  }
  if (left >= 4) {
    in::CopyTo<uint32_t>(shared, source);
    left -= 4, source += 4, shared += 4;
  }
  while (left-- != 0) in::CopyTo<uint8_t>(shared++, source++);
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

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_MEMORY_SHARED_COPY_H_
