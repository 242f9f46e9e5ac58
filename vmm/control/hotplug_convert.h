// Between the API's messages and DeviceManager's structs.

#ifndef VMSG_VMM_CONTROL_HOTPLUG_CONVERT_H_
#define VMSG_VMM_CONTROL_HOTPLUG_CONVERT_H_

#include "absl/status/statusor.h"
#include "proto/vmsg/control/v1alpha1/hotplug.pb.h"
#include "vmm/control/device_manager.h"

namespace vmsg::control {

namespace pb = ::vmsg::control::v1alpha1;

// InvalidArgument names the field. What the manager checks itself (ranges of
// times, ids) is passed on.
absl::StatusOr<AttachRequest> FromProto(const pb::AttachDeviceRequest& request);
absl::StatusOr<DetachRequest> FromProto(const pb::DetachDeviceRequest& request);

// The one message that is set in the kind, whichever it is: a kind that the API
// learns later needs no code here.
absl::StatusOr<DeviceConfig> FromProto(const pb::DeviceSpec& spec);

pb::Device ToProto(const DeviceRecord& record);
pb::Fifo ToProto(const FifoRecord& record);
pb::WatchDevicesResponse ToProto(const DeviceEvent& event);

}  // namespace vmsg::control

#endif  // VMSG_VMM_CONTROL_HOTPLUG_CONVERT_H_
