#include "guest/adversary/station.h"

#include <array>
#include <span>

namespace vmsg::guest {

void Station::Place(Platform* platform, AmpFunction* function, uint32_t fifo,
                    const Arena& arena, uint64_t timeout_ns) {
  platform_ = platform;
  function_ = function;
  index_ = fifo;
  arena_ = arena;
  timeout_ns_ = timeout_ns;
}

Error Station::Open() {
  device_.Detach();
  fifo_ = window_.Open(window());
  bus_.emplace(platform_, fifo_,
               BusOptions{.doorbell_address = doorbell_address(),
                          .interrupt = interrupt(),
                          .timeout_ns = timeout_ns_});
  Error error =
      JoinFifo(platform_, fifo_, doorbell_address(), interrupt(), timeout_ns_);
  if (error != Error::kNone) return error;
  uint32_t present;
  error = bus_->Enumerate(&present);
  if (error != Error::kNone) return error;
  for (uint16_t n = 0; n < Bus::kDeviceNumbers; ++n) {
    if ((present >> n & 1) == 0) continue;
    error = device_.Probe(&*bus_, n);
    if (error == Error::kNotFound) continue;
    if (error != Error::kNone) return error;
    if (device_.info().device_id != kDeviceIdEntropy) continue;
    slot_ = n;
    return Error::kNone;
  }
  return Error::kNotFound;
}

Error Station::Start() {
  // Only a reset that is confirmed gives the memory back.
  if (const Error error = device_.Reset(); error != Error::kNone) return error;
  arena_.Reset();
  return rng_.Start(&device_, kRng, &arena_);
}

Error Station::Read() {
  std::array<std::byte, kReadBytes> bytes = {};
  uint64_t received;
  uint32_t requests;
  const Error error = rng_.Read(bytes, &received, &requests);
  if (error != Error::kNone) return error;
  for (const std::byte b : bytes) {
    if (b != bytes[0]) return Error::kNone;
  }
  return Error::kBadAnswer;
}

}  // namespace vmsg::guest
