// PciDevice: a conventional PCI function, as the host bridge sees it.

#ifndef VMSG_VMM_PCI_PCI_DEVICE_H_
#define VMSG_VMM_PCI_PCI_DEVICE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "vmm/base/guest_address.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/interrupt/interrupt_controller.h"

namespace vmsg::vmm {

// Bus, device, function.
struct PciAddress {
  uint8_t bus = 0;
  uint8_t device = 0;    // 0 to 31
  uint8_t function = 0;  // 0 to 7

  constexpr uint16_t requester_id() const {
    return static_cast<uint16_t>(bus << 8 | device << 3 | function);
  }
  friend constexpr auto operator<=>(const PciAddress&,
                                    const PciAddress&) = default;
};

// A base address register, as firmware needs to know it.
struct PciBarInfo {
  uint8_t index = 0;        // 0 to 5; a 64-bit BAR takes index + 1 too
  uint64_t size_bytes = 0;  // a power of two, at least 16
  bool is_64bit = false;
  bool prefetchable = false;
};

// A PCI function.
//
// Life: created; Connect() when it gets a place; used by vCPU threads;
// Disconnect() when it leaves; destroyed. Config accesses come only between the
// two.
class PciDevice {
 public:
  PciDevice() = default;
  PciDevice(const PciDevice&) = delete;
  PciDevice& operator=(const PciDevice&) = delete;
  virtual ~PciDevice() = default;

  // For logs and for operators; unique in the VM: "amp0".
  virtual const std::string& id() const = 0;

  // Gives the function its place. `mmio` and `interrupts` are borrowed until
  // Disconnect(). On error the function is as before.
  // Threads: control thread.
  virtual absl::Status Connect(PciAddress address, MmioBus* mmio,
                               InterruptController* interrupts) = 0;

  // Stops DMA and interrupts, takes the BARs off the bus and waits for running
  // register handlers. Not on a vCPU thread; a function may ask for more.
  virtual void Disconnect() = 0;

  // Configuration space, 256 bytes. `width` is 1, 2 or 4 and offset + width at
  // most 256; any alignment inside a 32-bit word; an access that crosses words
  // reads all ones and writes nothing. Unused bytes read 0. What the access
  // implies (BAR moved, decoding or bus mastering switched, vectors masked) is
  // in effect when Write returns.
  // Threads: any vCPU thread; the function synchronizes. Waits for nothing but
  // other vCPUs' writes of the same function.
  // Source: PCI Local Bus 3.0, chapter 6.
  virtual uint32_t ReadConfig(uint16_t offset, uint8_t width) = 0;
  virtual void WriteConfig(uint16_t offset, uint8_t width, uint32_t value) = 0;

  // For the party that assigns addresses before the guest starts.
  virtual std::span<const PciBarInfo> bars() const = 0;

  // What RST# does: config registers to their initial values, BARs off the bus,
  // DMA and interrupts off, and the device's own state, including what runs on
  // event loops, back to power-on. The latter may end after this call returns;
  // the function behaves as reset from the guest's view at once, but for a DMA
  // write that had begun on a loop: wait for a turn of that loop before guest
  // memory is used for something else.
  // Threads: any; not concurrently with config accesses of this function (the
  // vCPUs are stopped, or the caller serializes).
  virtual void Reset() = 0;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_PCI_DEVICE_H_
