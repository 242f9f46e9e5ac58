// FakeNotifier: a DriverNotifier that remembers.

#ifndef VMSG_DEVICES_VIRTIO_TESTING_FAKE_NOTIFIER_H_
#define VMSG_DEVICES_VIRTIO_TESTING_FAKE_NOTIFIER_H_

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "devices/virtio/virtio_device.h"

namespace vmsg::virtio {

// Threads: NotifyUsed() and used() any; all else the loop's.
class FakeNotifier final : public DriverNotifier {
 public:
  static constexpr uint16_t kMaxQueues = 64;

  struct ConfigChange {
    uint32_t offset = 0;
    uint32_t length = 0;
    friend bool operator==(const ConfigChange&, const ConfigChange&) = default;
  };
  struct Health {
    bool healthy = true;
    std::string reason;
    friend bool operator==(const Health&, const Health&) = default;
  };

  // `queue` is below kMaxQueues.
  void NotifyUsed(uint16_t queue) override;
  void NotifyConfigChanged(uint32_t offset, uint32_t length) override {
    config_changes_.push_back({offset, length});
  }
  void NotifyNeedsReset(std::string_view reason) override {
    needs_reset_.emplace_back(reason);
  }
  void NotifyBackendHealth(bool healthy, std::string_view reason) override {
    health_.push_back({healthy, std::string(reason)});
  }

  // How often NotifyUsed(queue) was called.
  uint64_t used(uint16_t queue) const {
    return used_[queue].load(std::memory_order_acquire);
  }
  // Over all queues.
  uint64_t used() const;

  const std::vector<ConfigChange>& config_changes() const {
    return config_changes_;
  }
  const std::vector<std::string>& needs_reset() const { return needs_reset_; }
  const std::vector<Health>& health() const { return health_; }

  // Tells calls of NotifyUsed() that come from now on from earlier ones: after
  // a reset there may be none.
  void Forbid() { forbidden_.store(true, std::memory_order_release); }
  uint64_t forbidden_calls() const {
    return forbidden_calls_.load(std::memory_order_acquire);
  }

 private:
  std::array<std::atomic<uint64_t>, kMaxQueues> used_ = {};
  std::atomic<bool> forbidden_{false};
  std::atomic<uint64_t> forbidden_calls_{0};
  std::vector<ConfigChange> config_changes_;
  std::vector<std::string> needs_reset_;
  std::vector<Health> health_;
};

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_TESTING_FAKE_NOTIFIER_H_
