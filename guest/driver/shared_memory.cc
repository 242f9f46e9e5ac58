#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

bool IsAligned(const std::byte* where) {
  return (reinterpret_cast<uintptr_t>(where) & 7) == 0;
}

}  // namespace

void CopyFromShared(std::byte* to, const std::byte* shared, size_t bytes) {
  for (; bytes != 0 && !IsAligned(shared); --bytes) {
    *to++ = LoadRelaxed<std::byte>(shared++);
  }
  for (; bytes >= 8; bytes -= 8, to += 8, shared += 8) {
    const uint64_t word = LoadRelaxed<uint64_t>(shared);
    __builtin_memcpy(to, &word, 8);
  }
  for (; bytes != 0; --bytes) *to++ = LoadRelaxed<std::byte>(shared++);
}

void CopyToShared(std::byte* shared, const std::byte* from, size_t bytes) {
  for (; bytes != 0 && !IsAligned(shared); --bytes) {
    StoreRelaxed<std::byte>(shared++, *from++);
  }
  for (; bytes >= 8; bytes -= 8, from += 8, shared += 8) {
    uint64_t word;
    __builtin_memcpy(&word, from, 8);
    StoreRelaxed<uint64_t>(shared, word);
  }
  for (; bytes != 0; --bytes) StoreRelaxed<std::byte>(shared++, *from++);
}

void ZeroShared(std::byte* shared, size_t bytes) {
  for (; bytes != 0 && !IsAligned(shared); --bytes) {
    StoreRelaxed<std::byte>(shared++, std::byte{0});
  }
  for (; bytes >= 8; bytes -= 8, shared += 8) {
    StoreRelaxed<uint64_t>(shared, 0);
  }
  for (; bytes != 0; --bytes) StoreRelaxed<std::byte>(shared++, std::byte{0});
}

}  // namespace vmsg::guest
