// Station: one FIFO of a function, and the rng behind it, driven as they should
// be.

#ifndef VMSG_GUEST_ADVERSARY_STATION_H_
#define VMSG_GUEST_ADVERSARY_STATION_H_

#include <cstddef>
#include <cstdint>
#include <optional>

#include "guest/driver/amp_function.h"
#include "guest/driver/arena.h"
#include "guest/driver/bus.h"
#include "guest/driver/error.h"
#include "guest/driver/fifo.h"
#include "guest/driver/platform.h"
#include "guest/driver/rng.h"
#include "guest/driver/virtio_device.h"
#include "guest/driver/window_fifo.h"

namespace vmsg::guest {

// Threads: one.
class Station {
 public:
  // Bytes of one canonical read, and what the arena has to have for it.
  static constexpr uint32_t kReadBytes = 64;
  static uint64_t ArenaBytes() { return Rng::ArenaBytes(kRng); }

  Station() = default;
  Station(const Station&) = delete;
  Station& operator=(const Station&) = delete;

  // All borrowed but the arena, which is the station's own. `function` may be
  // opened again, and so may the station then.
  void Place(Platform* platform, AmpFunction* function, uint32_t fifo,
             const Arena& arena, uint64_t timeout_ns);

  // Joins the FIFO as a driver that has just been loaded, and finds the first
  // rng. Errors as JoinFifo, Bus::Enumerate and VirtioDevice::Probe; kNotFound
  // without an rng.
  Error Open();

  // Takes the rng from whatever state to DRIVER_OK, by a reset.
  Error Start();
  // Reads kReadBytes from the started rng. kBadAnswer when they all have the
  // same value, which no entropy does.
  Error Read();

  AmpFunction* function() { return function_; }
  uint32_t fifo_index() const { return index_; }
  std::byte* window() { return function_->window(index_); }
  Fifo* fifo() { return fifo_; }
  Bus* bus() { return &*bus_; }
  VirtioDevice* device() { return &device_; }
  uint16_t slot() const { return slot_; }
  uint32_t interrupt() const { return function_->interrupt(index_).id; }
  uint64_t doorbell_address() const {
    return function_->doorbell_address(index_);
  }
  void Ring() { platform_->WriteMmio(doorbell_address(), 4, 1); }

 private:
  // Two requests: a chain of two buffers needs a queue of two.
  static constexpr RngOptions kRng = {.requests = 2,
                                      .request_bytes = kReadBytes / 2};

  Platform* platform_ = nullptr;
  AmpFunction* function_ = nullptr;
  uint32_t index_ = 0;
  Arena arena_;
  uint64_t timeout_ns_ = 0;
  WindowFifo window_;
  Fifo* fifo_ = nullptr;
  std::optional<Bus> bus_;
  VirtioDevice device_;
  Rng rng_;
  uint16_t slot_ = 0;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_ADVERSARY_STATION_H_
