// WindowFifo: the driver's end of a FIFO in whatever layout its window has.

#ifndef VMSG_GUEST_DRIVER_WINDOW_FIFO_H_
#define VMSG_GUEST_DRIVER_WINDOW_FIFO_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "guest/driver/error.h"
#include "guest/driver/fifo.h"
#include "guest/driver/platform.h"
#include "guest/driver/shmem_fifo.h"
#include "guest/driver/spsc_fifo.h"

namespace vmsg::guest {

// Storage for the FIFO of a window.
class WindowFifo {
 public:
  WindowFifo() = default;
  WindowFifo(const WindowFifo&) = delete;
  WindowFifo& operator=(const WindowFifo&) = delete;

  // Looks which layout the window has. The result belongs to this object, until
  // it opens another, and is not attached yet. `window` is borrowed.
  Fifo* Open(std::byte* window) {
    shmem_.reset();
    spsc_.reset();
    if (ShmemFifo::IsHere(window)) return &shmem_.emplace(window);
    return &spsc_.emplace(window);
  }

 private:
  std::optional<SpscFifo> spsc_;
  std::optional<ShmemFifo> shmem_;
};

// Attaches `fifo` and sees its handshake through, ringing the doorbell where
// the device should look, and looking again every millisecond. `interrupt` is
// what ends a sleep early, if the device raises it.
//   kFifoBroken  see fifo->fault().
//   kTimeout     the device has not joined in time; the driver has left again.
Error JoinFifo(Platform* platform, Fifo* fifo, uint64_t doorbell_address,
               uint32_t interrupt, uint64_t timeout_ns);

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_WINDOW_FIFO_H_
