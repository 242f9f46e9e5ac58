// VirtioPluggable: a virtio device on its way to a slot of a virtio-msg bus.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_VIRTIO_PLUGGABLE_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_VIRTIO_PLUGGABLE_H_

#include <memory>
#include <string_view>
#include <utility>

#include "devices/virtio/virtio_device.h"
#include "vmm/control/hotplug_bus.h"

namespace vmsg::amp {

// The family of Pluggable whose concrete type is VirtioPluggable.
inline constexpr std::string_view kVirtioMsgFamily = "virtio-msg";

// What factories of virtio devices return.
class VirtioPluggable final : public control::Pluggable {
 public:
  explicit VirtioPluggable(std::unique_ptr<virtio::VirtioDevice> device)
      : device_(std::move(device)) {}

  std::string_view family() const override { return kVirtioMsgFamily; }

  // Null after the first call.
  std::unique_ptr<virtio::VirtioDevice> TakeDevice() {
    return std::move(device_);
  }

 private:
  std::unique_ptr<virtio::VirtioDevice> device_;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_VIRTIO_PLUGGABLE_H_
