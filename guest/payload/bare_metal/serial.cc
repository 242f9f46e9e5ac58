#include "guest/payload/bare_metal/serial.h"

#include <cstddef>

#include "guest/payload/bare_metal/cpu.h"

namespace vmsg::guest {
namespace {

constexpr uint16_t kData = 0x3F8;
constexpr uint16_t kInterruptEnable = 0x3F9;
constexpr uint16_t kFifoControl = 0x3FA;
constexpr uint16_t kModemControl = 0x3FC;
constexpr uint16_t kLineStatus = 0x3FD;
constexpr uint16_t kPowerSwitch = 0x501;

constexpr uint8_t kReceivedInterrupt = 0x01;
constexpr uint8_t kFifosOn = 0xC7;       // and empty
constexpr uint8_t kInterruptPin = 0x08;  // OUT2 connects the pin
constexpr uint8_t kByteWaits = 0x01;
constexpr uint8_t kTransmitterEmpty = 0x20;
// An empty transmitter takes this many bytes.
constexpr size_t kTransmitBytes = 16;

}  // namespace

void SetUpSerial() {
  Out8(kFifoControl, kFifosOn);
  Out8(kModemControl, kInterruptPin);
  Out8(kInterruptEnable, kReceivedInterrupt);
}

void WriteSerial(std::span<const char> text) {
  for (size_t i = 0; i < text.size(); ++i) {
    if (i % kTransmitBytes == 0) {
      while ((In8(kLineStatus) & kTransmitterEmpty) == 0) {
      }
    }
    Out8(kData, static_cast<uint8_t>(text[i]));
  }
}

bool ReadSerial(char* c) {
  if ((In8(kLineStatus) & kByteWaits) == 0) return false;
  *c = static_cast<char>(In8(kData));
  return true;
}

void PowerOff(uint8_t code) {
  Out8(kPowerSwitch, code);
  HaltForEver();
}

}  // namespace vmsg::guest
