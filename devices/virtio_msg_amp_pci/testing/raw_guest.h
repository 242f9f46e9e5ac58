// RawGuest: a guest that drives one function with its bare hands, for tests
// that look at single bytes or break the rules. Its numbers are written out
// once more from amp-pci-device, so a mistake in the device's own would show.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_RAW_GUEST_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_RAW_GUEST_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "vmm/bus/dispatch_bus.h"
#include "vmm/interrupt/interrupt_controller.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci_device.h"

namespace vmsg::amp {

// Bytes of a message, from 32-bit words and such.
using Bytes = std::vector<std::byte>;

// Threads: one, which may be another than the device's loops.
class RawGuest {
 public:
  // Connects `device` at `where`. All borrowed; they outlive the guest.
  // BAR 0, 1, 2 are put at `base`, + 1 MiB, + 2 MiB by PlaceBars().
  RawGuest(vmm::PciDevice* device, vmm::DispatchMmioBus* mmio,
           vmm::InterruptController* interrupts,
           vmm::PciAddress where = {.device = 1}, uint64_t base = 0xE0000000);
  ~RawGuest();

  // --- Set-up. ---

  // Places the BARs and turns memory decoding on.
  void PlaceBars();
  void SetBusMaster(bool on);
  // MSI-X on, each vector unmasked with address 0xFEE00000 and data 0x40 + n.
  void EnableInterrupts();
  // All of these.
  void Start();

  // --- PCI. ---

  uint32_t Config(uint16_t offset, uint8_t width = 4);
  void SetConfig(uint16_t offset, uint8_t width, uint32_t value);
  uint64_t bar_address(uint32_t bar) const { return base_ + bar * 0x100000; }
  // False: nobody answers there.
  bool Read(uint32_t bar, uint64_t offset, std::span<std::byte> data);
  bool Write(uint32_t bar, uint64_t offset, std::span<const std::byte> data);
  uint32_t Read32(uint32_t bar, uint64_t offset);
  void Write32(uint32_t bar, uint64_t offset, uint32_t value);

  // --- FIFO n. ---

  // The window in BAR 1.
  std::byte* window(uint32_t n);
  uint32_t Index(uint32_t n, size_t offset);
  void SetIndex(uint32_t n, size_t offset, uint32_t value);
  static constexpr size_t kDriverHead = 0x1000;
  static constexpr size_t kDriverTail = 0x1040;
  static constexpr size_t kDeviceHead = 0x2000;
  static constexpr size_t kDeviceTail = 0x2040;

  // What a driver does when it is loaded: starts from the indices it finds.
  void Attach(uint32_t n);
  // Puts a packet on the driver queue, without the doorbell. False: full.
  bool Put(uint32_t n, const Bytes& message);
  void Ring(uint32_t n);
  void Send(uint32_t n, const Bytes& message);  // Put and Ring
  // The next packet of the device queue, 64 bytes.
  std::optional<Bytes> Take(uint32_t n);
  std::vector<Bytes> TakeAll(uint32_t n);

 private:
  struct Place {
    uint32_t head = 0;
    uint32_t tail = 0;
  };

  vmm::PciDevice* const device_;
  vmm::DispatchMmioBus* const mmio_;
  const uint64_t base_;
  std::shared_ptr<const vmm::MemoryBacking> hold_;
  std::byte* windows_ = nullptr;
  std::array<Place, 8> places_ = {};
};

// --- Messages by hand. virtio-msg-messages, 3 to 5. ---

Bytes RawMessage(uint8_t type, uint8_t id, uint16_t dev_num, uint16_t token,
                 std::span<const uint8_t> payload);
Bytes RawPing(uint16_t token, uint32_t data);
Bytes RawGetDevices(uint16_t token);  // offset 0, count 32
Bytes RawGetDeviceInfo(uint16_t dev_num, uint16_t token);
Bytes RawSetStatus(uint16_t dev_num, uint16_t token, uint32_t status);
Bytes RawGetStatus(uint16_t dev_num, uint16_t token);

uint8_t TypeOf(const Bytes& packet);
uint8_t IdOf(const Bytes& packet);
uint16_t DevNumOf(const Bytes& packet);
uint16_t TokenOf(const Bytes& packet);
uint16_t SizeOf(const Bytes& packet);
// The 32-bit word at byte `offset` of the payload.
uint32_t PayloadWord(const Bytes& packet, size_t offset);

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_RAW_GUEST_H_
