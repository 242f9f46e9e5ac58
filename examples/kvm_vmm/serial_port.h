// SerialPort: as much of a 16550 as a guest's console needs.

#ifndef VMSG_EXAMPLES_KVM_VMM_SERIAL_PORT_H_
#define VMSG_EXAMPLES_KVM_VMM_SERIAL_PORT_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string_view>

#include "absl/functional/any_invocable.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/mmio_bus.h"

namespace vmsg::example {

// Always ready to send: a byte is out before the write of it returns, and then,
// if the guest has asked for it, comes the interrupt that says so. Receives
// through Receive(), with an interrupt while a byte waits and the guest has
// asked for it. Loopback and FIFO bits are what drivers probe for. Source:
// PC16550D data sheet, 8.
//
// Threads: any.
class SerialPort final : public vmm::IoHandler {
 public:
  static constexpr uint16_t kPorts = 8;

  // `output` gets each byte that the guest writes, `set_irq` the level of the
  // interrupt line; both are called on vCPU threads with a lock held.
  SerialPort(absl::AnyInvocable<void(char)> output,
             absl::AnyInvocable<void(bool)> set_irq);

  void Receive(std::string_view bytes);

  // To the state at power-on; what was received stays.
  void Reset();

  void Read(uint64_t offset, std::span<std::byte> data) override;
  void Write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  uint8_t ReadLocked(uint64_t reg) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void WriteLocked(uint64_t reg, uint8_t value)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t IdentLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  uint8_t ModemStatusLocked() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void SendLocked(uint8_t byte) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void UpdateIrqLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  vmm::Mutex mutex_;
  absl::AnyInvocable<void(char)> output_ ABSL_GUARDED_BY(mutex_);
  absl::AnyInvocable<void(bool)> set_irq_ ABSL_GUARDED_BY(mutex_);
  std::deque<uint8_t> received_ ABSL_GUARDED_BY(mutex_);
  // The transmitter has become empty, and the guest does not know yet.
  bool sent_pending_ ABSL_GUARDED_BY(mutex_) = false;
  bool fifos_on_ ABSL_GUARDED_BY(mutex_) = false;
  bool irq_high_ ABSL_GUARDED_BY(mutex_) = false;
  uint8_t interrupt_enable_ ABSL_GUARDED_BY(mutex_) = 0;
  uint8_t line_control_ ABSL_GUARDED_BY(mutex_) = 0;
  uint8_t modem_control_ ABSL_GUARDED_BY(mutex_) = 0;
  uint8_t scratch_ ABSL_GUARDED_BY(mutex_) = 0;
  uint8_t divisor_[2] ABSL_GUARDED_BY(mutex_) = {1, 0};
};

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_SERIAL_PORT_H_
