#include "devices/virtio/testing/fake_notifier.h"

#include "vmm/base/check.h"

namespace vmsg::virtio {

void FakeNotifier::NotifyUsed(uint16_t queue) {
  VMSG_CHECK(queue < kMaxQueues);
  used_[queue].fetch_add(1, std::memory_order_acq_rel);
  if (forbidden_.load(std::memory_order_acquire)) {
    forbidden_calls_.fetch_add(1, std::memory_order_acq_rel);
  }
}

uint64_t FakeNotifier::used() const {
  uint64_t sum = 0;
  for (const auto& count : used_) sum += count.load(std::memory_order_acquire);
  return sum;
}

}  // namespace vmsg::virtio
