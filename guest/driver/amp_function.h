// AmpFunction: one virtio-msg-amp-pci function, as its driver opens it.
// Source: amp-pci-device, sections 1 to 3.

#ifndef VMSG_GUEST_DRIVER_AMP_FUNCTION_H_
#define VMSG_GUEST_DRIVER_AMP_FUNCTION_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "guest/driver/error.h"
#include "guest/driver/pci.h"
#include "guest/driver/platform.h"

namespace vmsg::guest {

// What drivers bind on.
inline constexpr uint16_t kAmpVendorId = 0x10EE;
inline constexpr uint16_t kAmpDeviceId = 0x9039;

// Threads: one.
class AmpFunction {
 public:
  // FIFOs that this driver has storage for; a function with more has the rest
  // left alone, its vectors masked.
  static constexpr uint32_t kMaxFifos = 8;

  AmpFunction() = default;
  AmpFunction(const AmpFunction&) = delete;
  AmpFunction& operator=(const AmpFunction&) = delete;

  // Sizes the BARs (places those that nobody has placed), maps BAR 1, gives
  // each FIFO's vector an interrupt of the platform, turns MSI-X and bus
  // mastering on. The number of FIFOs is what the MSI-X table says (vector n
  // belongs to FIFO n), and BAR 1 has to have a window for each. On error the
  // function is closed again.
  //   kNotFound     not an AMP function, or a BAR or MSI-X is missing.
  //   kBadHardware  registers that contradict each other, or a version of the
  //                 registers that this driver does not know.
  //   kNoMemory     no room for a BAR, or no interrupt left.
  Error Open(Platform* platform, PciLocation where);

  // Bus mastering off (which resets the device's side), vectors masked, MSI-X
  // off, interrupts given back. Idempotent.
  void Close();

  PciLocation where() const { return where_; }
  uint32_t version() const { return version_; }
  uint32_t features() const { return features_; }
  uint32_t vectors() const { return msix_.vectors(); }

  uint32_t num_fifos() const { return num_fifos_; }
  // For n < num_fifos():
  std::byte* window(uint32_t n) const;
  uint64_t doorbell_address(uint32_t n) const;
  const Interrupt& interrupt(uint32_t n) const { return interrupts_[n]; }

 private:
  Error OpenBars();
  Error OpenBar(uint8_t index, PciBar* bar);
  Error OpenInterrupts();

  Platform* platform_ = nullptr;
  PciLocation where_;
  PciBar registers_;
  PciBar fifos_;
  MsixTable msix_;
  bool table_mapped_ = false;
  std::byte* windows_ = nullptr;
  uint32_t num_fifos_ = 0;
  uint32_t num_interrupts_ = 0;
  uint32_t version_ = 0;
  uint32_t features_ = 0;
  std::array<Interrupt, kMaxFifos> interrupts_ = {};
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_AMP_FUNCTION_H_
