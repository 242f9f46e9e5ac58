// How vmsgctl shows things.

#ifndef VMSG_TOOLS_VMSGCTL_PRINT_H_
#define VMSG_TOOLS_VMSGCTL_PRINT_H_

#include <ostream>
#include <string>

#include "proto/vmsg/control/v1alpha1/hotplug.pb.h"

namespace vmsg::vmsgctl {

namespace pb = ::vmsg::control::v1alpha1;

// One JSON object on one line, with the field names of the .proto file, and
// with fields that have their default value.
std::string ToJson(const google::protobuf::Message& message);

void PrintDevices(const pb::ListDevicesResponse& list, std::ostream& out);
void PrintDevice(const pb::Device& device, std::ostream& out);
void PrintFifos(const pb::ListFifosResponse& list, std::ostream& out);
void PrintEvent(const pb::WatchDevicesResponse& event, std::ostream& out);

}  // namespace vmsg::vmsgctl

#endif  // VMSG_TOOLS_VMSGCTL_PRINT_H_
