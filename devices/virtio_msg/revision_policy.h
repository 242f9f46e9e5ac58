// RevisionPolicy: what differs in meaning, not in bytes, between wire
// revisions. What differs in bytes is the codec's.

#ifndef VMSG_DEVICES_VIRTIO_MSG_REVISION_POLICY_H_
#define VMSG_DEVICES_VIRTIO_MSG_REVISION_POLICY_H_

#include "devices/virtio_msg/codec.h"

namespace vmsg::msg {

struct RevisionPolicy {
  // SET_CONFIG with a generation count that is not the current one is rejected.
  // Source: virtio-msg-messages, 4.5; 10.2 for what changes later.
  bool checks_config_generation = true;
  // An EVENT_CONFIG without data names the changed range in offset and length.
  // A strict 2025 peer takes such a length for missing data, so it is 0 there.
  // Source: virtio-msg-messages, O-16.
  bool config_event_names_range_without_data = false;
};

constexpr RevisionPolicy PolicyOf(Revision revision) {
  switch (revision) {
    case Revision::k2025:
      break;
  }
  return RevisionPolicy{.checks_config_generation = true,
                        .config_event_names_range_without_data = false};
}

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_REVISION_POLICY_H_
