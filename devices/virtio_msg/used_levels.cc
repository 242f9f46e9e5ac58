#include "devices/virtio_msg/used_levels.h"

#include <array>
#include <bit>
#include <cstddef>
#include <span>

#include "devices/virtio_msg/codec.h"
#include "vmm/base/check.h"

namespace vmsg::msg {
namespace {

constexpr uint64_t Bit(uint32_t queue) { return uint64_t{1} << (queue % 64); }

}  // namespace

UsedLevels::UsedLevels(uint32_t queues)
    : queues_(queues),
      words_((queues + 63) / 64),
      bits_(std::make_unique<std::atomic<uint64_t>[]>(words_)) {
  VMSG_CHECK(queues > 0);
}

bool UsedLevels::Raise(uint32_t queue) {
  VMSG_CHECK(queue < queues_, "used buffers of no queue");
  const uint64_t before =
      bits_[queue / 64].fetch_or(Bit(queue), std::memory_order_acq_rel);
  return (before & Bit(queue)) == 0;
}

bool UsedLevels::Send(uint32_t dev_num, Outbox* outbox) {
  const uint32_t first = next_ / 64;
  const uint64_t from_next = ~uint64_t{0} << (next_ % 64);
  if (!SendWord(first, from_next, dev_num, outbox)) return false;
  for (uint32_t step = 1; step < words_; ++step) {
    const uint32_t word = (first + step) % words_;
    if (!SendWord(word, ~uint64_t{0}, dev_num, outbox)) return false;
  }
  return SendWord(first, ~from_next, dev_num, outbox);
}

bool UsedLevels::SendWord(uint32_t word, uint64_t mask, uint32_t dev_num,
                          Outbox* outbox) {
  if ((bits_[word].load(std::memory_order_relaxed) & mask) == 0) return true;
  // Cleared before it is sent: a buffer used from here on gives another event.
  uint64_t bits = bits_[word].fetch_and(~mask, std::memory_order_acq_rel);
  for (bits &= mask; bits != 0; bits &= bits - 1) {
    const uint32_t queue =
        word * 64 + static_cast<uint32_t>(std::countr_zero(bits));
    std::array<std::byte, kMinMessageBytes> out;
    const size_t size = EncodeUsedEvent(dev_num, queue, out);
    if (!outbox->SendEvent(std::span(out).first(size))) {
      bits_[word].fetch_or(bits, std::memory_order_acq_rel);
      next_ = queue;
      return false;
    }
  }
  return true;
}

bool UsedLevels::Any() const {
  for (uint32_t word = 0; word < words_; ++word) {
    if (bits_[word].load(std::memory_order_relaxed) != 0) return true;
  }
  return false;
}

void UsedLevels::Clear() {
  for (uint32_t word = 0; word < words_; ++word) {
    bits_[word].store(0, std::memory_order_relaxed);
  }
}

void UsedLevels::Clear(uint32_t queue) {
  bits_[queue / 64].fetch_and(~Bit(queue), std::memory_order_relaxed);
}

}  // namespace vmsg::msg
