#include "devices/virtio_msg_amp_pci/fifo/fifo.h"

#include "devices/virtio_msg_amp_pci/fifo/shmem_fifo.h"
#include "devices/virtio_msg_amp_pci/fifo/shmem_layout.h"
#include "devices/virtio_msg_amp_pci/fifo/spsc_fifo.h"
#include "vmm/base/check.h"

namespace vmsg::amp {

std::string_view FifoLayoutName(FifoLayout layout) {
  switch (layout) {
    case FifoLayout::kSpsc:
      return "spsc";
    case FifoLayout::kShmemV1:
      return "shmem-v1";
    case FifoLayout::kShmemV1Packed:
      return "shmem-v1-packed";
  }
  return "unknown";
}

std::optional<FifoLayout> FifoLayoutByName(std::string_view name) {
  for (const FifoLayout layout :
       {FifoLayout::kSpsc, FifoLayout::kShmemV1, FifoLayout::kShmemV1Packed}) {
    if (FifoLayoutName(layout) == name) return layout;
  }
  return std::nullopt;
}

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
    case FifoFault::kOwnStateChanged:
      return "the device's handshake state was overwritten";
    case FifoFault::kUnknownState:
      return "the driver's handshake state does not exist";
  }
  return "unknown";
}

std::unique_ptr<DeviceFifo> CreateDeviceFifo(FifoLayout layout,
                                             std::byte* window) {
  switch (layout) {
    case FifoLayout::kSpsc:
      return std::make_unique<SpscFifo>(window);
    case FifoLayout::kShmemV1:
      return std::make_unique<ShmemFifo>(window, kShmemSpread);
    case FifoLayout::kShmemV1Packed:
      return std::make_unique<ShmemFifo>(window, kShmemPacked);
  }
  VMSG_CHECK(false, "unknown FIFO layout");
  return nullptr;
}

}  // namespace vmsg::amp
