// BarMapping: what one BAR has on the bus, moved as a whole. Internal to this
// package.

#ifndef VMSG_VMM_PCI_BAR_MAPPING_H_
#define VMSG_VMM_PCI_BAR_MAPPING_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/pci/pci_bar.h"

namespace vmsg::vmm {

// Threads: one at a time. Destroying it waits, as destroying a mapping does.
class BarMapping {
 public:
  // Maps `bar` unplaced. Where the bus has no doorbells, none are mapped.
  // Errors are those of mapping.
  static absl::StatusOr<std::unique_ptr<BarMapping>> Create(
      const std::string& name, const PciBar& bar, MmioBus* mmio);

  // Puts registers or memory, and all doorbells, at `base`, or nowhere.
  //
  // When the bus refuses a part, everything is back at the old base. When it
  // refuses that as well (somebody else took the place meanwhile), everything
  // is nowhere. base() tells.
  absl::Status SetBase(std::optional<GuestAddress> base);

  std::optional<GuestAddress> base() const { return base_; }
  // Whether the bus serves the doorbells. False without any.
  bool has_doorbells() const { return !doorbells_.empty(); }

 private:
  struct Doorbell {
    uint64_t offset;
    std::unique_ptr<MmioMapping> mapping;
  };

  explicit BarMapping(std::unique_ptr<MmioMapping> range)
      : range_(std::move(range)) {}
  static absl::Status Place(const Doorbell& doorbell,
                            std::optional<GuestAddress> base);

  const std::unique_ptr<MmioMapping> range_;
  std::vector<Doorbell> doorbells_;
  std::optional<GuestAddress> base_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_BAR_MAPPING_H_
