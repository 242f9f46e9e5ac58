// The "--device DRIVER,key=value,..." syntax that QEMU made common.

#ifndef VMSG_DEVICES_FACTORIES_DEVICE_OPTION_H_
#define VMSG_DEVICES_FACTORIES_DEVICE_OPTION_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "vmm/control/device_manager.h"

namespace vmsg::devices {

struct DeviceOption {
  std::string driver;  // "virtio-rng-device"
  std::map<std::string, std::string> properties;
};

// InvalidArgument for an empty driver or key, a property without '=', a key
// that comes twice; the text quotes the option.
absl::StatusOr<DeviceOption> ParseDeviceOption(const std::string& text);

// "virtio-msg-amp-pci" with id=, num-fifos=, fifo-layout=, and what the fields
// of msg::PingOptions are: ping-interval=MILLISECONDS,
// ping-timeout=MILLISECONDS, ping-misses=, ping-first=on|off.
bool IsAmpPciFunction(const DeviceOption& option);
// InvalidArgument names the property.
absl::StatusOr<amp::AmpPciOptions> ToAmpPciOptions(const DeviceOption& option);

// A virtio device: id=, bus=FUNCTION/fifoN/busM (each part may be left out, M
// is the slot), and the properties of its kind:
//   virtio-rng-device  max-bytes=BYTES, period=MILLISECONDS
// The result is what an attach over the API would ask for.
//   InvalidArgument    names the property, or lists the known drivers.
absl::StatusOr<control::AttachRequest> ToAttachRequest(
    const DeviceOption& option);

// For --help: one line a driver.
extern const char kDeviceOptionHelp[];

}  // namespace vmsg::devices

#endif  // VMSG_DEVICES_FACTORIES_DEVICE_OPTION_H_
