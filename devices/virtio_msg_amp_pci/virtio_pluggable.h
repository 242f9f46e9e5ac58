// VirtioPluggable: a virtio device on its way to a slot of a virtio-msg bus.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_VIRTIO_PLUGGABLE_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_VIRTIO_PLUGGABLE_H_

#include <memory>
#include <string_view>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "absl/status/statusor.h"
#include "devices/virtio/virtio_device.h"
#include "vmm/control/hotplug_bus.h"

namespace vmsg::amp {

// The family of Pluggable whose concrete type is VirtioPluggable.
inline constexpr std::string_view kVirtioMsgFamily = "virtio-msg";

// What factories of virtio devices return.
//
// A device lives on its bus's loop from its first moment: there it makes its
// timers. A factory runs elsewhere, so it opens what the device needs and
// leaves the making to the bus.
class VirtioPluggable final : public control::Pluggable {
 public:
  // Makes the device, on the loop that it will live on. Does not block. An
  // error fails the plug and leaves no trace.
  using Maker = absl::AnyInvocable<
      absl::StatusOr<std::unique_ptr<virtio::VirtioDevice>>()>;

  explicit VirtioPluggable(Maker make) : make_(std::move(make)) {}

  // For a caller who is on that loop already.
  explicit VirtioPluggable(std::unique_ptr<virtio::VirtioDevice> device)
      : device_(std::move(device)) {}

  std::string_view family() const override { return kVirtioMsgFamily; }

  // Once, on the loop.
  absl::StatusOr<std::unique_ptr<virtio::VirtioDevice>> TakeDevice() {
    if (device_ == nullptr) return make_();
    return std::move(device_);
  }

 private:
  Maker make_;
  std::unique_ptr<virtio::VirtioDevice> device_;
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_VIRTIO_PLUGGABLE_H_
