// The serial port and the power switch. Source: protocol.md.

#ifndef VMSG_GUEST_PAYLOAD_BARE_METAL_SERIAL_H_
#define VMSG_GUEST_PAYLOAD_BARE_METAL_SERIAL_H_

#include <cstdint>
#include <span>

namespace vmsg::guest {

// Turns the FIFOs on, and the interrupt for received bytes.
void SetUpSerial();

// Waits while the port is busy.
void WriteSerial(std::span<const char> text);

// The next received byte; false when there is none.
bool ReadSerial(char* c);

// Ends the run: 0 in good order, else a failure.
[[noreturn]] void PowerOff(uint8_t code);

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_BARE_METAL_SERIAL_H_
