// What the compiler expects to find where there is no C library.

#include <cstddef>

extern "C" {

void* memcpy(void* to, const void* from, size_t bytes) {
  void* const result = to;
  __asm__ __volatile__("rep movsb"
                       : "+D"(to), "+S"(from), "+c"(bytes)::"memory");
  return result;
}

void* memset(void* to, int value, size_t bytes) {
  void* const result = to;
  __asm__ __volatile__("rep stosb"
                       : "+D"(to), "+c"(bytes)
                       : "a"(value)
                       : "memory");
  return result;
}

// A class whose methods are all overridden has no use for it.
[[noreturn]] void __cxa_pure_virtual() { __builtin_trap(); }

}  // extern "C"
