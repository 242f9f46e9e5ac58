#include "guest/driver/split_virtqueue.h"

#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

// Both rings: flags, index, elements, event word.
constexpr uint64_t kFlags = 0;
constexpr uint64_t kIndex = 2;
constexpr uint64_t kRing = 4;
constexpr uint64_t kAvailableBytes = 2;
constexpr uint64_t kUsedBytes = 8;
constexpr uint16_t kNoInterrupt = 1;  // in the available ring
constexpr uint16_t kNoNotify = 1;     // in the used ring

// A descriptor: address, length, flags, next.
void WriteDescriptor(std::byte* where, uint16_t flags, uint16_t next) {
  StoreRelaxed<uint16_t>(where + 12, flags);
  StoreRelaxed<uint16_t>(where + 14, next);
}

}  // namespace

bool SplitVirtqueue::SizeIsValid(uint32_t size) const {
  return (size & (size - 1)) == 0;
}

Virtqueue::AreaBytes SplitVirtqueue::BytesOfAreas(uint32_t size) const {
  return {.driver = kRing + kAvailableBytes * size + 2,
          .device = kRing + kUsedBytes * size + 2};
}

void SplitVirtqueue::Begin() { available_ = published_ = taken_ = 0; }

uint16_t SplitVirtqueue::Write(uint16_t id,
                               std::span<const QueueBuffer> buffers,
                               bool indirect) {
  uint16_t at = id;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    const uint16_t next = last ? uint16_t{0} : chains_.TakeId();
    WriteBuffer(descriptor(at), buffers[i]);
    WriteDescriptor(
        descriptor(at),
        static_cast<uint16_t>((last ? 0 : kFlagNext) |
                              (buffers[i].device_writes ? kFlagWrite : 0) |
                              (indirect ? kFlagIndirect : 0)),
        next);
    at = next;
  }
  StoreRelaxed<uint16_t>(
      driver_area() + kRing + kAvailableBytes * (available_ & (size() - 1)),
      id);
  ++available_;
  return static_cast<uint16_t>(buffers.size());
}

void SplitVirtqueue::WriteTableEntry(std::byte* where,
                                     const QueueBuffer& buffer, uint16_t i,
                                     bool last) {
  WriteBuffer(where, buffer);
  WriteDescriptor(
      where,
      static_cast<uint16_t>((last ? 0 : kFlagNext) |
                            (buffer.device_writes ? kFlagWrite : 0)),
      last ? uint16_t{0} : static_cast<uint16_t>(i + 1));
}

bool SplitVirtqueue::Show() {
  const uint16_t old = published_;
  published_ = available_;
  // Release: descriptors and ring entries before the index.
  StoreRelease<uint16_t>(driver_area() + kIndex, published_);
  FullBarrier();
  if (options().event_index) {
    const uint16_t wanted =
        LoadRelaxed<uint16_t>(device_area() + kRing + kUsedBytes * size());
    // Whether old <= wanted < published_, around the 16-bit circle.
    return static_cast<uint16_t>(published_ - wanted - 1) <
           static_cast<uint16_t>(published_ - old);
  }
  return (LoadRelaxed<uint16_t>(device_area() + kFlags) & kNoNotify) == 0;
}

QueueFault SplitVirtqueue::Look() {
  const uint16_t used = LoadAcquire<uint16_t>(device_area() + kIndex);
  const auto news = static_cast<uint16_t>(used - taken_);
  if (news == 0) return QueueFault::kNone;
  // Only what was published can come back.
  if (news > chains_.outstanding() - chains_.unpublished()) {
    return QueueFault::kIndexPastOutstanding;
  }
  const std::byte* const element =
      device_area() + kRing + kUsedBytes * (taken_ & (size() - 1));
  const QueueFault fault = chains_.Use(LoadRelaxed<uint32_t>(element),
                                       LoadRelaxed<uint32_t>(element + 4));
  if (fault != QueueFault::kNone) return fault;
  // A batch counts in the used index as all of its chains.
  return chains_.due() <= news ? QueueFault::kNone : QueueFault::kOutOfOrder;
}

void SplitVirtqueue::WriteInterruptWish(bool on) {
  if (options().event_index) {
    // Off: an index that is not reached soon.
    StoreRelaxed<uint16_t>(driver_area() + kRing + kAvailableBytes * size(),
                           on ? taken_ : static_cast<uint16_t>(taken_ - 1));
  } else {
    StoreRelaxed<uint16_t>(driver_area() + kFlags,
                           on ? uint16_t{0} : kNoInterrupt);
  }
}

}  // namespace vmsg::guest
