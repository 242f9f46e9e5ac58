// Interrupts: the IDT, the local APIC with its timer, one pin of the I/O APIC,
// and counts of everything that came.
//
// There is one processor and one such table: functions, not objects.

#ifndef VMSG_GUEST_PAYLOAD_BARE_METAL_INTERRUPTS_H_
#define VMSG_GUEST_PAYLOAD_BARE_METAL_INTERRUPTS_H_

#include <cstdint>

namespace vmsg::guest {

// Vectors for messages of devices.
inline constexpr uint8_t kFirstMsiVector = 0x30;
inline constexpr uint8_t kMsiVectors = 64;
// Of the serial port.
inline constexpr uint8_t kSerialVector = 0x70;

// Loads the IDT, turns the local APIC on, masks the PICs, routes the serial
// port's pin to kSerialVector, and finds out how fast the TSC is. Interrupts
// are enabled when it returns. An exception, and an interrupt on a vector that
// nobody uses, prints a `panic` line and ends the run.
void SetUpInterrupts();

// What a device writes to raise `vector` on this processor.
uint64_t MsiAddress();
uint32_t MsiData(uint8_t vector);

// Raises `vector`, one of those for messages, on this processor. Taken at once,
// or as soon as interrupts are on.
void RaiseOnSelf(uint8_t vector);

// Interrupts taken on one vector; on all but the timer's.
uint64_t VectorCount(uint8_t vector);
uint64_t TotalCount();
// Times that HLT was left, or that an interrupt came right before it.
uint64_t HaltCount();

// Nanoseconds since SetUpInterrupts, by the TSC.
uint64_t UptimeNs();

// HLT until `*count` differs from `seen` or the time has come; UINT64_MAX: no
// time limit. `count` is one of those behind VectorCount and TotalCount. No
// interrupt is slept over, whenever it comes. Interrupts are on afterwards.
void HaltWhile(const volatile uint64_t* count, uint64_t seen,
               uint64_t deadline_ns);
const volatile uint64_t* VectorCounter(uint8_t vector);
const volatile uint64_t* TotalCounter();

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_BARE_METAL_INTERRUPTS_H_
