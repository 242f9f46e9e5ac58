// EntropySource: where virtio-rng gets its bytes.

#ifndef VMSG_DEVICES_VIRTIO_RNG_BACKEND_H_
#define VMSG_DEVICES_VIRTIO_RNG_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/functional/any_invocable.h"

namespace vmsg::virtio {

// Threads: the device's loop.
class EntropySource {
 public:
  EntropySource() = default;
  EntropySource(const EntropySource&) = delete;
  EntropySource& operator=(const EntropySource&) = delete;
  // Drops requests in progress without calling back.
  virtual ~EntropySource() = default;

  // Fills `to` and calls `done(true)`, or `done(false)` when no entropy can be
  // had. `to` stays valid until then, or until the source has been destroyed.
  // May call back inside the call. One request at a time.
  virtual void Fill(std::span<std::byte> to,
                    absl::AnyInvocable<void(bool)> done) = 0;
};

// getrandom(2) without flags set: never blocks once the host has booted.
std::unique_ptr<EntropySource> CreateGetrandomSource();

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_RNG_BACKEND_H_
