// RegisterFile: BAR 0, the registers and doorbells of a virtio-msg-amp-pci
// function. Source: amp-pci-device, 2.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_REGISTER_FILE_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_REGISTER_FILE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include "vmm/base/counter.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/log.h"
#include "vmm/bus/mmio_bus.h"

namespace vmsg::amp {

// Trapped accesses to BAR 0. A 32-bit aligned access to a register does what
// that register says; every other one reads zeroes, writes nothing, is counted
// and logged at a limited rate. A write to a read-only register is no fault.
//
// A doorbell write that gets here found no doorbell of the bus before it, so it
// signals the EventFd itself.
//
// Threads: any vCPU thread, several at once.
class RegisterFile final : public vmm::IoHandler {
 public:
  // One doorbell per FIFO. Both are borrowed and outlive this.
  RegisterFile(std::span<const vmm::EventFd> doorbells, vmm::Logger* log)
      : doorbells_(doorbells), log_(log) {}

  void Read(uint64_t offset, std::span<std::byte> data) override;
  void Write(uint64_t offset, std::span<const std::byte> data) override;

  const vmm::Counter& bad_accesses() const { return bad_accesses_; }

 private:
  struct Register {
    uint32_t value = 0;                      // what a read gives
    const vmm::EventFd* doorbell = nullptr;  // what a write signals
  };
  // nullopt for an access that is not a 32-bit one to a register.
  std::optional<Register> Find(uint64_t offset, size_t size) const;
  void NoteBadAccess();

  const std::span<const vmm::EventFd> doorbells_;
  vmm::Logger* const log_;
  vmm::Counter bad_accesses_;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_REGISTER_FILE_H_
