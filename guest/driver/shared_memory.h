// Access to memory that the device uses at the same time.
//
// Every byte is read or written exactly once, by relaxed atomic accesses of
// aligned words, so that a value that was checked is the value that is used.
// Order between words comes from the acquire and release functions only.

#ifndef VMSG_GUEST_DRIVER_SHARED_MEMORY_H_
#define VMSG_GUEST_DRIVER_SHARED_MEMORY_H_

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace vmsg::guest {

static_assert(std::endian::native == std::endian::little,
              "words in shared memory are little-endian");

// `where` is aligned to sizeof(T).
template <typename T>
inline T LoadRelaxed(const std::byte* where) {
  return std::atomic_ref<T>(
             *reinterpret_cast<T*>(const_cast<std::byte*>(where)))
      .load(std::memory_order_relaxed);
}
template <typename T>
inline T LoadAcquire(const std::byte* where) {
  return std::atomic_ref<T>(
             *reinterpret_cast<T*>(const_cast<std::byte*>(where)))
      .load(std::memory_order_acquire);
}
template <typename T>
inline void StoreRelaxed(std::byte* where, T value) {
  std::atomic_ref<T>(*reinterpret_cast<T*>(where))
      .store(value, std::memory_order_relaxed);
}
template <typename T>
inline void StoreRelease(std::byte* where, T value) {
  std::atomic_ref<T>(*reinterpret_cast<T*>(where))
      .store(value, std::memory_order_release);
}

// Makes our earlier stores visible before our later loads: the driver publishes
// an index, then looks whether the device wants to be told. A locked
// instruction, since ThreadSanitizer builds refuse fences, and emulators of
// small guests know it where they do not know MFENCE.
inline void FullBarrier() {
#if defined(__x86_64__)
  __asm__ __volatile__("lock; addl $0, (%%rsp)" ::: "memory", "cc");
#else
  std::atomic_thread_fence(std::memory_order_seq_cst);
#endif
}

// Copies between private memory and shared memory of any alignment.
void CopyFromShared(std::byte* to, const std::byte* shared, size_t bytes);
void CopyToShared(std::byte* shared, const std::byte* from, size_t bytes);

// Sets `bytes` bytes to zero.
void ZeroShared(std::byte* shared, size_t bytes);

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

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_SHARED_MEMORY_H_
