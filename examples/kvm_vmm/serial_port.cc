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
constexpr uint8_t kWantsSent = 0x02;          // in IER
constexpr uint8_t kTransmitterEmpty = 0x60;
constexpr uint8_t kIdentNone = 0x01;
constexpr uint8_t kIdentSent = 0x02;
constexpr uint8_t kIdentReceived = 0x04;
constexpr uint8_t kIdentFifos = 0xC0;
constexpr uint8_t kFifosOn = 0x01;  // FIFO control
constexpr uint8_t kClearReceived = 0x02;
constexpr uint8_t kModemReady = 0xB0;  // DCD, DSR, CTS
constexpr uint8_t kLoopback = 0x10;    // modem control
// A guest may loop back this many bytes that it does not read.
constexpr size_t kFifoBytes = 16;

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
    case kInterruptIdent: {
      const uint8_t ident = IdentLocked();
      // Reading is what acknowledges this one.
      if (ident == kIdentSent) {
        sent_pending_ = false;
        UpdateIrqLocked();
      }
      return ident | (fifos_on_ ? kIdentFifos : 0);
    }
    case kLineControl:
      return line_control_;
    case kModemControl:
      return modem_control_;
    case kLineStatus:
      return kTransmitterEmpty | (received_.empty() ? 0 : kReceivedAvailable);
    case kModemStatus:
      return ModemStatusLocked();
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
        SendLocked(value);
      }
      return;
    case kInterruptEnable:
      if (dlab) {
        divisor_[1] = value;
      } else {
        // Asking for it while the transmitter is empty is answered at once.
        if ((value & ~interrupt_enable_ & kWantsSent) != 0) {
          sent_pending_ = true;
        }
        interrupt_enable_ = value & 0x0F;
        UpdateIrqLocked();
      }
      return;
    case kInterruptIdent:  // FIFO control
      fifos_on_ = (value & kFifosOn) != 0;
      if ((value & kClearReceived) != 0) {
        received_.clear();
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

void SerialPort::Reset() {
  vmm::MutexLock lock(&mutex_);
  interrupt_enable_ = line_control_ = modem_control_ = scratch_ = 0;
  divisor_[0] = 1;
  divisor_[1] = 0;
  sent_pending_ = fifos_on_ = false;
  UpdateIrqLocked();
}

void SerialPort::SendLocked(uint8_t byte) {
  if ((modem_control_ & kLoopback) == 0) {
    output_(static_cast<char>(byte));
  } else if (received_.size() < kFifoBytes) {
    received_.push_back(byte);
  }
  sent_pending_ = true;
  UpdateIrqLocked();
}

uint8_t SerialPort::ModemStatusLocked() const {
  if ((modem_control_ & kLoopback) == 0) return kModemReady;
  // DTR, RTS, OUT1, OUT2 come back as DSR, CTS, RI, DCD.
  const uint8_t out = modem_control_;
  return static_cast<uint8_t>((out & 0x01) << 5 | (out & 0x02) << 3 |
                              (out & 0x0C) << 4);
}

uint8_t SerialPort::IdentLocked() const {
  if (!received_.empty() && (interrupt_enable_ & kReceivedAvailable) != 0) {
    return kIdentReceived;
  }
  if (sent_pending_ && (interrupt_enable_ & kWantsSent) != 0) {
    return kIdentSent;
  }
  return kIdentNone;
}

void SerialPort::UpdateIrqLocked() {
  const bool high = IdentLocked() != kIdentNone;
  if (high == irq_high_) return;
  irq_high_ = high;
  set_irq_(high);
}

}  // namespace vmsg::example
