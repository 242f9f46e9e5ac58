#include "devices/virtio_msg_amp_pci/fifo/fifo.h"

#include "devices/virtio_msg_amp_pci/fifo/spsc_fifo.h"
#include "vmm/base/check.h"

namespace vmsg::amp {

std::string_view FifoStateName(FifoState state) {
  switch (state) {
    case FifoState::kRunning:
      return "RUNNING";
    case FifoState::kWaiting:
      return "WAITING";
    case FifoState::kBroken:
      return "BROKEN";
  }
  return "UNKNOWN";
}

std::string_view FifoFaultName(FifoFault fault) {
  switch (fault) {
    case FifoFault::kNone:
      return "none";
    case FifoFault::kIndexOutOfRange:
      return "the driver's index is past the end of the queue";
    case FifoFault::kOwnIndexChanged:
      return "an index that only the device writes was overwritten";
  }
  return "unknown";
}

std::unique_ptr<DeviceFifo> CreateDeviceFifo(FifoLayout layout,
                                             std::byte* window) {
  switch (layout) {
    case FifoLayout::kSpsc:
      return std::make_unique<SpscFifo>(window);
  }
  VMSG_CHECK(false, "unknown FIFO layout");
  return nullptr;
}

}  // namespace vmsg::amp
