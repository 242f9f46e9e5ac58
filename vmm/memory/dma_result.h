// DmaResult: how an access of a device to guest memory ended.

#ifndef VMSG_VMM_MEMORY_DMA_RESULT_H_
#define VMSG_VMM_MEMORY_DMA_RESULT_H_

#include <cstdint>

namespace vmsg::vmm {

enum class DmaResult : uint8_t {
  kOk,
  // Some byte is in no region; or, behind a translator, not mapped, or mapped
  // and not to be read.
  kOutside,
  kReadOnly,  // a write into a region, or a mapping, that is not to be written
  kDisabled,  // the function may not master the bus
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_MEMORY_DMA_RESULT_H_
