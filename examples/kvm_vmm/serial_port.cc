#include "examples/kvm_vmm/serial_port.h"

#include <utility>

namespace vmsg::example {
namespace {

constexpr uint64_t kData = 0;             // divisor, low, while DLAB is set
constexpr uint64_t kInterruptEnable = 1;  // divisor, high
constexpr uint64_t kInterruptIdent = 2;   // FIFO control when written
constexpr uint64_t kLineControl = 3;
constexpr uint64_t kModemControl = 4;
constexpr uint64_t kLineStatus = 5;
constexpr uint64_t kModemStatus = 6;
constexpr uint64_t kScratch = 7;

constexpr uint8_t kDlab = 0x80;
constexpr uint8_t kReceivedAvailable = 0x01;  // in IER and LSR alike
constexpr uint8_t kTransmitterEmpty = 0x60;
constexpr uint8_t kIdentNone = 0x01;
constexpr uint8_t kIdentReceived = 0x04;
constexpr uint8_t kModemReady = 0xB0;  // DCD, DSR, CTS

}  // namespace

SerialPort::SerialPort(absl::AnyInvocable<void(char)> output,
                       absl::AnyInvocable<void(bool)> set_irq)
    : output_(std::move(output)), set_irq_(std::move(set_irq)) {}

void SerialPort::Receive(std::string_view bytes) {
  vmm::MutexLock lock(&mutex_);
  for (const char c : bytes) received_.push_back(static_cast<uint8_t>(c));
  UpdateIrqLocked();
}

void SerialPort::Read(uint64_t offset, std::span<std::byte> data) {
  vmm::MutexLock lock(&mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = std::byte{ReadLocked(offset + i)};
  }
}

void SerialPort::Write(uint64_t offset, std::span<const std::byte> data) {
  vmm::MutexLock lock(&mutex_);
  for (size_t i = 0; i < data.size(); ++i) {
    WriteLocked(offset + i, std::to_integer<uint8_t>(data[i]));
  }
}

uint8_t SerialPort::ReadLocked(uint64_t reg) {
  const bool dlab = (line_control_ & kDlab) != 0;
  switch (reg) {
    case kData: {
      if (dlab) return divisor_[0];
      if (received_.empty()) return 0;
      const uint8_t byte = received_.front();
      received_.pop_front();
      UpdateIrqLocked();
      return byte;
    }
    case kInterruptEnable:
      return dlab ? divisor_[1] : interrupt_enable_;
    case kInterruptIdent:
      return irq_high_ ? kIdentReceived : kIdentNone;
    case kLineControl:
      return line_control_;
    case kModemControl:
      return modem_control_;
    case kLineStatus:
      return kTransmitterEmpty | (received_.empty() ? 0 : kReceivedAvailable);
    case kModemStatus:
      return kModemReady;
    case kScratch:
      return scratch_;
    default:
      return 0xFF;
  }
}

void SerialPort::WriteLocked(uint64_t reg, uint8_t value) {
  const bool dlab = (line_control_ & kDlab) != 0;
  switch (reg) {
    case kData:
      if (dlab) {
        divisor_[0] = value;
      } else {
        output_(static_cast<char>(value));
      }
      return;
    case kInterruptEnable:
      if (dlab) {
        divisor_[1] = value;
      } else {
        interrupt_enable_ = value & 0x0F;
        UpdateIrqLocked();
      }
      return;
    case kLineControl:
      line_control_ = value;
      return;
    case kModemControl:
      modem_control_ = value & 0x1F;
      return;
    case kScratch:
      scratch_ = value;
      return;
    default:
      return;
  }
}

void SerialPort::UpdateIrqLocked() {
  const bool high =
      !received_.empty() && (interrupt_enable_ & kReceivedAvailable) != 0;
  if (high == irq_high_) return;
  irq_high_ = high;
  set_irq_(high);
}

}  // namespace vmsg::example
