#include "guest/payload/bare_metal/interrupts.h"

#include <cstddef>

#include "guest/payload/bare_metal/cpu.h"
#include "guest/payload/bare_metal/serial.h"
#include "guest/payload/line.h"

// In start.S: 256 stubs of 16 bytes; and HLT, with where an interrupt ends it
// though it has not begun.
extern "C" {
extern const char vmsg_interrupt_stubs[];
void vmsg_halt();
extern const char vmsg_halt_begin[];
extern const char vmsg_halt_end[];
}

namespace vmsg::guest {
namespace {

// Local APIC registers. Source: Intel SDM volume 3, 11.4.1.
constexpr uint32_t kApicBaseMsr = 0x1B;
constexpr uint64_t kApicBaseMask = 0xFFFFFF000;
constexpr uint64_t kApicId = 0x20;
constexpr uint64_t kApicTaskPriority = 0x80;
constexpr uint64_t kApicEoi = 0xB0;
constexpr uint64_t kApicSpurious = 0xF0;
constexpr uint64_t kApicCommand = 0x300;
constexpr uint64_t kApicLvtTimer = 0x320;
constexpr uint64_t kApicTimerInitial = 0x380;
constexpr uint64_t kApicTimerCurrent = 0x390;
constexpr uint64_t kApicTimerDivide = 0x3E0;
constexpr uint32_t kApicEnable = 0x100;
constexpr uint32_t kToSelf = 1u << 18;  // fixed delivery
constexpr uint32_t kDivideByOne = 0xB;

// Nanoseconds of one tick: protocol.md, Hardware.
constexpr uint64_t kTimerTickNs = 1;
constexpr uint64_t kMaxTimerTicks = UINT32_MAX;
constexpr uint64_t kCalibrationNs = 1'000'000;

// I/O APIC: index and data register; two words for each pin.
constexpr uint64_t kIoApic = 0xFEC00000;
constexpr uint64_t kIoApicData = kIoApic + 0x10;
constexpr uint32_t kIoApicFirstPin = 0x10;
constexpr uint32_t kSerialPin = 4;

// Interrupt masks of the two PICs.
constexpr uint16_t kPic1Mask = 0x21;
constexpr uint16_t kPic2Mask = 0xA1;

constexpr uint8_t kTimerVector = 0x71;
constexpr uint8_t kSpuriousVector = 0xFF;

constexpr size_t kVectors = 256;
constexpr size_t kStubBytes = 16;

// Source: Intel SDM volume 3, 6.14.1.
struct Gate {
  uint16_t offset_low;
  uint16_t selector;
  uint8_t stack;
  uint8_t type;
  uint16_t offset_middle;
  uint32_t offset_high;
  uint32_t reserved;
};
static_assert(sizeof(Gate) == 16);
constexpr uint8_t kInterruptGate = 0x8E;  // present, interrupts off inside

// What start.S hands over.
struct Frame {
  uint64_t vector;
  uint64_t error_code;
  uint64_t rip;
  uint64_t cs;
  uint64_t rflags;
  uint64_t rsp;
  uint64_t ss;
};

// Constant after SetUpInterrupts, but the counts.
alignas(16) Gate idt[kVectors];
uint64_t apic;
uint64_t tsc_start;
uint64_t ns_per_tsc_32;  // nanoseconds of a TSC tick, times 2^32

// Written by the interrupt handler.
volatile uint64_t vector_counts[kVectors];
volatile uint64_t total_count;

uint64_t halt_count;

void LoadIdt() {
  const uint16_t selector = ReadCs();
  for (size_t i = 0; i < kVectors; ++i) {
    const auto stub =
        reinterpret_cast<uint64_t>(vmsg_interrupt_stubs) + kStubBytes * i;
    idt[i] = {.offset_low = static_cast<uint16_t>(stub),
              .selector = selector,
              .stack = 0,
              .type = kInterruptGate,
              .offset_middle = static_cast<uint16_t>(stub >> 16),
              .offset_high = static_cast<uint32_t>(stub >> 32),
              .reserved = 0};
  }
  const struct [[gnu::packed]] {
    uint16_t limit;
    uint64_t base;
  } descriptor = {sizeof(idt) - 1, reinterpret_cast<uint64_t>(idt)};
  __asm__ __volatile__("lidt %0" ::"m"(descriptor) : "memory");
}

void WriteIoApic(uint32_t index, uint32_t value) {
  Store32(kIoApic, index);
  Store32(kIoApicData, value);
}

// The timer and the TSC at the same moment, as far as that goes.
struct ClockPair {
  uint64_t tsc = 0;
  uint32_t timer = 0;
};

// A processor that is taken away between two reads, as a host does with those
// of a guest, would make the TSC any number of times too fast or too slow: of
// several pairs the one that was read in the least time counts.
ClockPair ReadClocks() {
  ClockPair best;
  uint64_t best_width = UINT64_MAX;
  for (int i = 0; i < 16; ++i) {
    const uint64_t before = ReadTsc();
    const uint32_t timer = Load32(apic + kApicTimerCurrent);
    const uint64_t width = ReadTsc() - before;
    if (width < best_width) {
      best_width = width;
      best = {.tsc = before + width / 2, .timer = timer};
    }
  }
  return best;
}

// Measures the TSC with the timer, which is masked.
void CalibrateTsc() {
  constexpr uint32_t kMasked = 1u << 16;
  Store32(apic + kApicTimerDivide, kDivideByOne);
  Store32(apic + kApicLvtTimer, kMasked | kTimerVector);
  Store32(apic + kApicTimerInitial, UINT32_MAX);
  const ClockPair first = ReadClocks();
  ClockPair last;
  uint64_t elapsed_ns;
  do {
    last = ReadClocks();
    elapsed_ns = uint64_t{first.timer - last.timer} * kTimerTickNs;
  } while (elapsed_ns < kCalibrationNs);
  Store32(apic + kApicTimerInitial, 0);
  tsc_start = first.tsc;
  const uint64_t ticks = last.tsc - first.tsc;
  // In milliseconds of a real machine far from overflow.
  ns_per_tsc_32 = ticks == 0 ? 0 : (elapsed_ns << 32) / ticks;
}

}  // namespace

void SetUpInterrupts() {
  LoadIdt();
  Out8(kPic1Mask, 0xFF);
  Out8(kPic2Mask, 0xFF);
  apic = ReadMsr(kApicBaseMsr) & kApicBaseMask;
  Store32(apic + kApicSpurious, kApicEnable | kSpuriousVector);
  Store32(apic + kApicTaskPriority, 0);
  CalibrateTsc();
  Store32(apic + kApicLvtTimer, kTimerVector);
  const uint32_t id = Load32(apic + kApicId) >> 24;
  WriteIoApic(kIoApicFirstPin + 2 * kSerialPin + 1, id << 24);
  WriteIoApic(kIoApicFirstPin + 2 * kSerialPin, kSerialVector);
  EnableInterrupts();
}

uint64_t MsiAddress() {
  // Physical destination mode. Source: Intel SDM volume 3, 11.11.1.
  return 0xFEE00000 | uint64_t{Load32(apic + kApicId) >> 24} << 12;
}

uint32_t MsiData(uint8_t vector) { return vector; }

void RaiseOnSelf(uint8_t vector) {
  Store32(apic + kApicCommand, kToSelf | vector);
}

uint64_t VectorCount(uint8_t vector) { return vector_counts[vector]; }
uint64_t TotalCount() { return total_count; }
uint64_t HaltCount() { return halt_count; }
const volatile uint64_t* VectorCounter(uint8_t vector) {
  return &vector_counts[vector];
}
const volatile uint64_t* TotalCounter() { return &total_count; }

uint64_t UptimeNs() {
  const uint64_t ticks = ReadTsc() - tsc_start;
  return static_cast<uint64_t>(
      static_cast<unsigned __int128>(ticks) * ns_per_tsc_32 >> 32);
}

void HaltWhile(const volatile uint64_t* count, uint64_t seen,
               uint64_t deadline_ns) {
  const bool timed = deadline_ns != UINT64_MAX;
  for (;;) {
    DisableInterrupts();
    if (*count != seen) break;
    if (timed) {
      const uint64_t now = UptimeNs();
      if (now >= deadline_ns) break;
      const uint64_t ticks = (deadline_ns - now) / kTimerTickNs + 1;
      Store32(apic + kApicTimerInitial,
              static_cast<uint32_t>(ticks < kMaxTimerTicks ? ticks
                                                           : kMaxTimerTicks));
    }
    vmsg_halt();
    ++halt_count;
  }
  EnableInterrupts();
  if (timed) Store32(apic + kApicTimerInitial, 0);
}

}  // namespace vmsg::guest

using vmsg::guest::Frame;

extern "C" void vmsg_interrupt(Frame* frame) {
  using namespace vmsg::guest;  // NOLINT: this is their handler
  const uint64_t vector = frame->vector;
  const bool expected =
      (vector >= kFirstMsiVector && vector < kFirstMsiVector + kMsiVectors) ||
      vector == kSerialVector || vector == kTimerVector;
  if (!expected && vector != kSpuriousVector) {
    WriteSerial(Line("panic")
                    .Number("vector", vector)
                    .Hex("error", frame->error_code)
                    .Hex("rip", frame->rip)
                    .Hex("cr2", ReadCr2())
                    .Finish());
    PowerOff(2);
  }
  const auto halt_end = reinterpret_cast<uint64_t>(vmsg_halt_end);
  if (frame->rip >= reinterpret_cast<uint64_t>(vmsg_halt_begin) &&
      frame->rip < halt_end) {
    frame->rip = halt_end;
  }
  if (vector == kSpuriousVector) return;  // not in service: no end of it
  vector_counts[vector] = vector_counts[vector] + 1;
  if (vector != kTimerVector) total_count = total_count + 1;
  Store32(apic + kApicEoi, 0);
}
