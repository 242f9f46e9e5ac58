// PciBar: how a device describes a base address register of its function.

#ifndef VMSG_VMM_PCI_PCI_BAR_H_
#define VMSG_VMM_PCI_PCI_BAR_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci_device.h"

namespace vmsg::vmm {

// A doorbell inside a register BAR: a 4-byte write there signals the EventFd.
struct PciDoorbell {
  uint64_t offset = 0;             // in the BAR
  const EventFd* event = nullptr;  // borrowed, outlives the function's life
};

// One memory BAR: registers (a handler), or memory (a backing), exactly one.
struct PciBar {
  PciBarInfo info;
  IoHandler* handler = nullptr;  // borrowed; typically the device itself
  // With a handler only; 4-aligned.
  std::vector<PciDoorbell> doorbells = {};
  std::shared_ptr<const MemoryBacking> memory = nullptr;  // from its start
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_PCI_BAR_H_
