#include "guest/driver/packed_virtqueue.h"

#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

// A descriptor: address, length, id, flags.
constexpr uint64_t kLength = 8;
constexpr uint64_t kId = 12;
constexpr uint64_t kDescriptorFlags = 14;
constexpr uint16_t kFlagAvailable = 1u << 7;
constexpr uint16_t kFlagUsed = 1u << 15;

// Event suppression of either side: a place and flags, in one word, so that
// they are read and written together.
constexpr uint64_t kSuppressionBytes = 4;
constexpr uint32_t kOffsetMask = 0x7FFF;
constexpr uint32_t kWrapBit = 0x8000;
constexpr int kEventShift = 16;
constexpr uint32_t kEventMask = 3;
constexpr uint32_t kEventsOn = 0;
constexpr uint32_t kEventsOff = 1;
constexpr uint32_t kEventAtPlace = 2;

}  // namespace

void PackedVirtqueue::Place::Advance(uint32_t descriptors, uint32_t size) {
  // No chain is longer than the ring.
  uint32_t to = offset + descriptors;
  if (to >= size) {
    to -= size;
    wrap = !wrap;
  }
  offset = static_cast<uint16_t>(to);
}

uint32_t PackedVirtqueue::position() const {
  return published_.offset | (published_.wrap ? uint32_t{1} << 31 : 0);
}

Virtqueue::AreaBytes PackedVirtqueue::BytesOfAreas(uint32_t) const {
  return {.driver = kSuppressionBytes, .device = kSuppressionBytes};
}

void PackedVirtqueue::Begin() {
  free_ = size();
  next_ = published_ = used_ = {};
  held_back_ = 0;
}

uint16_t PackedVirtqueue::Write(uint16_t id,
                                std::span<const QueueBuffer> buffers,
                                bool indirect) {
  for (size_t i = 0; i < buffers.size(); ++i) {
    std::byte* const where = descriptor(next_.offset);
    const bool last = i + 1 == buffers.size();
    const auto flags = static_cast<uint16_t>(
        (last ? 0 : kFlagNext) | (buffers[i].device_writes ? kFlagWrite : 0) |
        (indirect ? kFlagIndirect : 0) |
        (next_.wrap ? kFlagAvailable : kFlagUsed));
    WriteBuffer(where, buffers[i]);
    StoreRelaxed<uint16_t>(where + kId, id);
    if (held_back_ == 0) {
      held_flags_ = flags;
    } else {
      StoreRelaxed<uint16_t>(where + kDescriptorFlags, flags);
    }
    ++held_back_;
    next_.Advance(1, size());
  }
  free_ -= static_cast<uint32_t>(buffers.size());
  return 1;
}

void PackedVirtqueue::WriteTableEntry(std::byte* where,
                                      const QueueBuffer& buffer, uint16_t,
                                      bool) {
  // The length of the table says which entry is the last.
  WriteBuffer(where, buffer);
  StoreRelaxed<uint16_t>(where + kId, 0);
  StoreRelaxed<uint16_t>(where + kDescriptorFlags,
                         buffer.device_writes ? kFlagWrite : uint16_t{0});
}

bool PackedVirtqueue::Show() {
  // Release: everything else before the flags that the device waits for.
  StoreRelease<uint16_t>(descriptor(published_.offset) + kDescriptorFlags,
                         held_flags_);
  const uint32_t shown = held_back_;
  published_ = next_;
  held_back_ = 0;
  FullBarrier();
  const uint32_t wish = LoadRelaxed<uint32_t>(device_area());
  const uint32_t events = wish >> kEventShift & kEventMask;
  if (events == kEventsOff) return false;
  const uint32_t offset = wish & kOffsetMask;
  if (events != kEventAtPlace || !options().event_index || offset >= size()) {
    return true;
  }
  // How far the place lies behind where we are, as the wrap counters have it:
  // in this round, or in the one before. It was passed just now, or it was not.
  const bool same_round = ((wish & kWrapBit) != 0) == published_.wrap;
  const uint32_t behind =
      published_.offset + (same_round ? 0 : size()) - offset;
  return behind - 1 < shown;
}

QueueFault PackedVirtqueue::Look() {
  const std::byte* const where = descriptor(used_.offset);
  const uint16_t flags = LoadAcquire<uint16_t>(where + kDescriptorFlags);
  const bool available = (flags & kFlagAvailable) != 0;
  const bool used = (flags & kFlagUsed) != 0;
  if (available != used || used != used_.wrap) return QueueFault::kNone;
  // Without the flag nothing was written, and the length means nothing.
  const uint32_t written =
      (flags & kFlagWrite) != 0 ? LoadRelaxed<uint32_t>(where + kLength) : 0;
  return chains_.Use(LoadRelaxed<uint16_t>(where + kId), written);
}

void PackedVirtqueue::Advance(uint16_t descriptors) {
  used_.Advance(descriptors, size());
  free_ += descriptors;
}

void PackedVirtqueue::WriteInterruptWish(bool on) {
  uint32_t wish = kEventsOff << kEventShift;
  if (on && options().event_index) {
    wish = kEventAtPlace << kEventShift | (used_.wrap ? kWrapBit : 0) |
           used_.offset;
  } else if (on) {
    wish = kEventsOn << kEventShift;
  }
  StoreRelaxed<uint32_t>(driver_area(), wish);
}

}  // namespace vmsg::guest
