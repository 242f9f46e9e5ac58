// FakeEntropySource: bytes that a test can predict, when the test wants them.

#ifndef VMSG_DEVICES_VIRTIO_RNG_FAKE_ENTROPY_SOURCE_H_
#define VMSG_DEVICES_VIRTIO_RNG_FAKE_ENTROPY_SOURCE_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "absl/functional/any_invocable.h"
#include "devices/virtio/rng/backend.h"
#include "vmm/base/check.h"

namespace vmsg::virtio {

// Byte i of all that it ever gave out is i * 7 + i / 256: no two blocks alike.
//
// Threads: one.
class FakeEntropySource final : public EntropySource {
 public:
  // Outlives the source, which its device destroys.
  struct Control {
    bool fail = false;  // answer `false` from now on
    bool hold = false;  // do not answer until Release()
    uint64_t fills = 0;
    uint64_t bytes = 0;
    bool destroyed = false;
    FakeEntropySource* source = nullptr;

    bool holding() const { return source != nullptr && source->done_; }
    // Answers the request that is held.
    void Release() { source->Answer(); }
  };

  static std::byte ByteAt(uint64_t i) {
    return static_cast<std::byte>(i * 7 + i / 256);
  }

  explicit FakeEntropySource(Control* control) : control_(control) {
    control_->source = this;
  }
  ~FakeEntropySource() override {
    // A thread of a source may be writing until now.
    if (done_) std::fill(to_.begin(), to_.end(), std::byte{0xff});
    control_->source = nullptr;
    control_->destroyed = true;
  }

  void Fill(std::span<std::byte> to,
            absl::AnyInvocable<void(bool)> done) override {
    VMSG_CHECK(!done_, "one request at a time");
    ++control_->fills;
    to_ = to;
    done_ = std::move(done);
    if (!control_->hold) Answer();
  }

 private:
  void Answer() {
    VMSG_CHECK(static_cast<bool>(done_), "there is a request");
    if (!control_->fail) {
      for (std::byte& byte : to_) byte = ByteAt(control_->bytes++);
    }
    std::exchange(done_, nullptr)(!control_->fail);
  }

  Control* const control_;
  std::span<std::byte> to_;
  absl::AnyInvocable<void(bool)> done_;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_RNG_FAKE_ENTROPY_SOURCE_H_
