#include "guest/driver/testing/fake_ring.h"

#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

constexpr uint16_t kNext = 1;
constexpr uint16_t kWrite = 2;
constexpr uint16_t kIndirect = 4;
constexpr uint16_t kAvail = 1 << 7;
constexpr uint16_t kUsed = 1 << 15;

}  // namespace

uint16_t FakeRing::PackedPlace(uint32_t position) const {
  const uint32_t offset = position % layout_.size;
  const bool wrap = position / layout_.size % 2 == 0;
  return static_cast<uint16_t>(offset | (wrap ? 1u << 15 : 0));
}

std::byte* FakeRing::PackedDescriptor(uint32_t position) {
  return at_(layout_.descriptors) + 16 * (position % layout_.size);
}

FakeRing::Buffer FakeRing::ReadBuffer(const std::byte* descriptor,
                                      bool device_writes) {
  return {LoadRelaxed<uint64_t>(descriptor),
          LoadRelaxed<uint32_t>(descriptor + 8), device_writes};
}

std::optional<FakeRing::Chain> FakeRing::Pop() {
  return layout_.packed ? PopPacked() : PopSplit();
}

std::optional<FakeRing::Chain> FakeRing::PopSplit() {
  const std::byte* const ring = at_(layout_.driver);
  if (LoadAcquire<uint16_t>(ring + 2) == static_cast<uint16_t>(popped_)) {
    return std::nullopt;
  }
  Chain chain;
  chain.id = LoadRelaxed<uint16_t>(ring + 4 + 2 * (popped_++ % layout_.size));
  uint64_t table = layout_.descriptors;
  uint16_t i = chain.id;
  for (;;) {
    const std::byte* const descriptor = at_(table) + 16 * i;
    const auto flags = LoadRelaxed<uint16_t>(descriptor + 12);
    if (!chain.indirect) ++chain.descriptors;
    if ((flags & kIndirect) != 0) {
      chain.indirect = true;
      table = LoadRelaxed<uint64_t>(descriptor);
      i = 0;
      continue;
    }
    chain.buffers.push_back(ReadBuffer(descriptor, (flags & kWrite) != 0));
    if ((flags & kNext) == 0) return chain;
    i = LoadRelaxed<uint16_t>(descriptor + 14);
  }
}

bool FakeRing::IsAvailable(uint32_t position) {
  const auto flags = LoadAcquire<uint16_t>(PackedDescriptor(position) + 14);
  const bool wrap = (PackedPlace(position) >> 15) != 0;
  return ((flags & kAvail) != 0) == wrap && ((flags & kUsed) != 0) != wrap;
}

std::optional<FakeRing::Chain> FakeRing::PopPacked() {
  if (!IsAvailable(popped_)) return std::nullopt;
  Chain chain;
  for (;;) {
    const std::byte* const descriptor = PackedDescriptor(popped_++);
    const auto flags = LoadRelaxed<uint16_t>(descriptor + 14);
    chain.id = LoadRelaxed<uint16_t>(descriptor + 12);
    ++chain.descriptors;
    if ((flags & kIndirect) != 0) {
      chain.indirect = true;
      const std::byte* const table = at_(LoadRelaxed<uint64_t>(descriptor));
      const uint32_t entries = LoadRelaxed<uint32_t>(descriptor + 8) / 16;
      for (uint32_t i = 0; i < entries; ++i) {
        const std::byte* const entry = table + 16 * i;
        chain.buffers.push_back(ReadBuffer(
            entry, (LoadRelaxed<uint16_t>(entry + 14) & kWrite) != 0));
      }
    } else {
      chain.buffers.push_back(ReadBuffer(descriptor, (flags & kWrite) != 0));
    }
    if ((flags & kNext) == 0) return chain;
  }
}

void FakeRing::Push(const Chain& chain, uint32_t written) {
  PushBatch(std::span(&chain, 1), written);
}

void FakeRing::PushBatch(std::span<const Chain> chains, uint32_t written) {
  uint32_t descriptors = 0;
  for (const Chain& chain : chains) descriptors += chain.descriptors;
  if (layout_.packed) {
    PushPacked(chains.back().id, written, descriptors);
  } else {
    PushSplit(chains.back().id, written, static_cast<uint32_t>(chains.size()));
  }
}

void FakeRing::PushId(uint32_t id, uint32_t written) {
  if (layout_.packed) {
    PushPacked(id, written, 1);
  } else {
    PushSplit(id, written, 1);
  }
}

void FakeRing::PushSplit(uint32_t id, uint32_t written, uint32_t chains) {
  std::byte* const ring = at_(layout_.device);
  std::byte* const element = ring + 4 + 8 * (pushed_ % layout_.size);
  StoreRelaxed<uint32_t>(element, id);
  StoreRelaxed<uint32_t>(element + 4, written);
  pushed_ += chains;
  StoreRelease<uint16_t>(ring + 2, static_cast<uint16_t>(pushed_));
}

void FakeRing::PushPacked(uint32_t id, uint32_t written, uint32_t descriptors) {
  std::byte* const descriptor = PackedDescriptor(pushed_);
  const bool wrap = (PackedPlace(pushed_) >> 15) != 0;
  StoreRelaxed<uint32_t>(descriptor + 8, written);
  StoreRelaxed<uint16_t>(descriptor + 12, static_cast<uint16_t>(id));
  StoreRelease<uint16_t>(descriptor + 14,
                         static_cast<uint16_t>((wrap ? kAvail | kUsed : 0) |
                                               (written != 0 ? kWrite : 0)));
  pushed_ += descriptors;
}

bool FakeRing::WantsInterrupt() {
  const uint32_t from = asked_;
  asked_ = pushed_;
  const std::byte* const driver = at_(layout_.driver);
  if (!layout_.packed) {
    if (!layout_.event_index) {
      return pushed_ != from && (LoadAcquire<uint16_t>(driver) & 1) == 0;
    }
    const auto event = LoadAcquire<uint16_t>(driver + 4 + 2 * layout_.size);
    for (uint32_t i = from; i != pushed_; ++i) {
      if (static_cast<uint16_t>(i) == event) return true;
    }
    return false;
  }
  const auto place = LoadAcquire<uint16_t>(driver);
  const auto flags = LoadAcquire<uint16_t>(driver + 2);
  if (flags != 2) return pushed_ != from && flags == 0;
  for (uint32_t i = from; i != pushed_; ++i) {
    if (PackedPlace(i) == place) return true;
  }
  return false;
}

void FakeRing::AskForNotifications(bool on) {
  std::byte* const device = at_(layout_.device);
  StoreRelease<uint16_t>(layout_.packed ? device + 2 : device,
                         on ? uint16_t{0} : uint16_t{1});
}

void FakeRing::AskForNotificationAt(uint32_t n) {
  std::byte* const device = at_(layout_.device);
  if (!layout_.packed) {
    StoreRelease<uint16_t>(device + 4 + 8 * layout_.size,
                           static_cast<uint16_t>(n));
    return;
  }
  StoreRelease<uint16_t>(device, PackedPlace(n));
  StoreRelease<uint16_t>(device + 2, 2);
}

}  // namespace vmsg::guest
