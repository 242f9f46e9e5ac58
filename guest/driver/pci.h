// PCI as a driver needs it: functions of bus 0, capabilities, BARs, MSI-X.
// Source: PCI Local Bus 3.0, chapter 6.

#ifndef VMSG_GUEST_DRIVER_PCI_H_
#define VMSG_GUEST_DRIVER_PCI_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/error.h"
#include "guest/driver/platform.h"

namespace vmsg::guest {

inline constexpr uint8_t kCapabilityMsix = 0x11;

// What the header of a function says.
struct PciFunctionInfo {
  PciLocation where;
  uint16_t vendor_id = 0;
  uint16_t device_id = 0;
  uint8_t revision = 0;
  uint32_t class_code = 0;  // class, subclass, interface: 0xCCSSII
};

// A memory BAR.
struct PciBar {
  uint64_t address = 0;  // 0: not placed
  uint64_t bytes = 0;    // a power of two
  bool is_64bit = false;
  bool prefetchable = false;
};

// Calls `visit` for each function of bus 0, in order of device and function;
// functions above 0 are looked at where the header says multi-function.
// `visit` returns false to stop.
class PciVisitor {
 public:
  PciVisitor(const PciVisitor&) = delete;
  PciVisitor& operator=(const PciVisitor&) = delete;
  virtual bool Visit(const PciFunctionInfo& info) = 0;

 protected:
  PciVisitor() = default;
  ~PciVisitor() = default;
};
void VisitPciFunctions(Platform* platform, PciVisitor* visitor);

// Fills `found` with the functions of this vendor and device id, in order.
// Returns how many there are, which may be more than found.size().
uint32_t FindPciFunctions(Platform* platform, uint16_t vendor_id,
                          uint16_t device_id, std::span<PciLocation> found);

// Offset of the first capability with this id in the list of the function.
//   kNotFound     not in the list, or there is no list.
//   kBadHardware  the list has a loop, or points into the header.
Error FindCapability(Platform* platform, PciLocation where, uint8_t id,
                     uint16_t* offset);

// Reads address and size of memory BAR `index` (0 to 5). The BAR answers at
// another address for a moment unless decoding is off: SetMemoryDecode before.
//   kNotFound     not implemented, or an I/O BAR.
//   kBadHardware  a size that is no power of two, or a 64-bit BAR at index 5.
Error ReadBar(Platform* platform, PciLocation where, uint8_t index,
              PciBar* bar);

// Places an unplaced BAR with Platform::PlaceBar, and reads it back.
//   kNoMemory     no room for it.
//   kBadHardware  the register did not take the address.
Error PlaceBar(Platform* platform, PciLocation where, uint8_t index,
               PciBar* bar);

// Bits of the command register.
void SetMemoryDecode(Platform* platform, PciLocation where, bool on);
void SetBusMaster(Platform* platform, PciLocation where, bool on);

// The MSI-X table of one function. Masked vectors stay pending in the device.
class MsixTable {
 public:
  // Reads the capability. MSI-X stays as it is.
  //   kNotFound     no MSI-X.
  //   kBadHardware  the capability is malformed.
  Error Open(Platform* platform, PciLocation where);

  uint32_t vectors() const { return vectors_; }  // 1 to 2048
  uint8_t table_bar() const { return table_bar_; }
  uint64_t table_offset() const { return table_offset_; }

  // `bar` is the placed BAR table_bar(). Masks every vector.
  //   kBadHardware  the table does not fit into the BAR.
  Error MapTable(const PciBar& bar);

  // Writes address and data of a vector (masked meanwhile), reads them back and
  // unmasks it. REQUIRES: vector < vectors(), MapTable succeeded.
  //   kBadHardware  the entry reads back as something else.
  Error Program(uint32_t vector, const Interrupt& interrupt);
  void Mask(uint32_t vector, bool masked);

  void Enable(bool on);

 private:
  uint64_t Entry(uint32_t vector) const {
    return table_address_ + uint64_t{16} * vector;
  }

  Platform* platform_ = nullptr;
  PciLocation where_;
  uint16_t capability_ = 0;
  uint32_t vectors_ = 0;
  uint8_t table_bar_ = 0;
  uint64_t table_offset_ = 0;
  uint64_t table_address_ = 0;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_PCI_H_
