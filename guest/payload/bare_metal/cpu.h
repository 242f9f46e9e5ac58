// Instructions of the processor that C++ has no words for.

#ifndef VMSG_GUEST_PAYLOAD_BARE_METAL_CPU_H_
#define VMSG_GUEST_PAYLOAD_BARE_METAL_CPU_H_

#include <cstdint>

namespace vmsg::guest {

inline void Out8(uint16_t port, uint8_t value) {
  __asm__ __volatile__("outb %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
inline uint8_t In8(uint16_t port) {
  uint8_t value;
  __asm__ __volatile__("inb %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}
inline void Out32(uint16_t port, uint32_t value) {
  __asm__ __volatile__("outl %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
inline void Out16(uint16_t port, uint16_t value) {
  __asm__ __volatile__("outw %0, %1" ::"a"(value), "Nd"(port) : "memory");
}
inline uint16_t In16(uint16_t port) {
  uint16_t value;
  __asm__ __volatile__("inw %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}
inline uint32_t In32(uint16_t port) {
  uint32_t value;
  __asm__ __volatile__("inl %1, %0" : "=a"(value) : "Nd"(port) : "memory");
  return value;
}

inline uint64_t ReadMsr(uint32_t msr) {
  uint32_t low;
  uint32_t high;
  __asm__ __volatile__("rdmsr" : "=a"(low), "=d"(high) : "c"(msr));
  return uint64_t{high} << 32 | low;
}

inline uint64_t ReadTsc() {
  uint32_t low;
  uint32_t high;
  __asm__ __volatile__("rdtsc" : "=a"(low), "=d"(high)::"memory");
  return uint64_t{high} << 32 | low;
}

inline uint64_t ReadCr2() {
  uint64_t value;
  __asm__ __volatile__("movq %%cr2, %0" : "=r"(value));
  return value;
}

inline uint16_t ReadCs() {
  uint16_t value;
  __asm__ __volatile__("movw %%cs, %0" : "=r"(value));
  return value;
}

inline void DisableInterrupts() { __asm__ __volatile__("cli" ::: "memory"); }
inline void EnableInterrupts() { __asm__ __volatile__("sti" ::: "memory"); }

[[noreturn]] inline void HaltForEver() {
  for (;;) __asm__ __volatile__("cli; hlt" ::: "memory");
}

inline void Store32(uint64_t address, uint32_t value) {
  *reinterpret_cast<volatile uint32_t*>(address) = value;
}
inline uint32_t Load32(uint64_t address) {
  return *reinterpret_cast<volatile uint32_t*>(address);
}

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_BARE_METAL_CPU_H_
