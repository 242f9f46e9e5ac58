#include "devices/virtio/rng/backend.h"

#include <sys/random.h>

#include <cerrno>
#include <utility>

namespace vmsg::virtio {
namespace {

class GetrandomSource final : public EntropySource {
 public:
  void Fill(std::span<std::byte> to,
            absl::AnyInvocable<void(bool)> done) override {
    // More than 256 bytes may come in pieces when a signal arrives.
    while (!to.empty()) {
      const ssize_t got = getrandom(to.data(), to.size(), /*flags=*/0);
      if (got < 0) {
        if (errno == EINTR) continue;
        done(false);
        return;
      }
      to = to.subspan(static_cast<size_t>(got));
    }
    done(true);
  }
};

}  // namespace

std::unique_ptr<EntropySource> CreateGetrandomSource() {
  return std::make_unique<GetrandomSource>();
}

}  // namespace vmsg::virtio
