#include "guest/driver/virtqueue.h"

#include <new>

#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

// Descriptor: address, length, flags, next.
constexpr uint64_t kDescriptorBytes = 16;
constexpr uint16_t kFlagNext = 1;
constexpr uint16_t kFlagWrite = 2;
constexpr uint16_t kFlagIndirect = 4;

// Both rings: flags, index, elements, event word.
constexpr uint64_t kFlags = 0;
constexpr uint64_t kIndex = 2;
constexpr uint64_t kRing = 4;
constexpr uint64_t kAvailableBytes = 2;
constexpr uint64_t kUsedBytes = 8;
constexpr uint16_t kNoInterrupt = 1;  // in the available ring
constexpr uint16_t kNoNotify = 1;     // in the used ring

constexpr uint32_t kMaxSize = 32768;

uint64_t DriverBytes(uint32_t size) {
  return kRing + kAvailableBytes * size + 2;
}
uint64_t DeviceBytes(uint32_t size) { return kRing + kUsedBytes * size + 2; }

}  // namespace

uint64_t SplitQueue::ArenaBytes(const SplitQueueOptions& options) {
  const uint64_t size = options.size;
  // The last term is for alignment.
  return size * (kDescriptorBytes * (1 + options.indirect_buffers) +
                 sizeof(Record)) +
         DriverBytes(options.size) + DeviceBytes(options.size) + 5 * 64;
}

Error SplitQueue::Create(const SplitQueueOptions& options, Arena* arena) {
  size_ = 0;
  const uint32_t size = options.size;
  if (size == 0 || size > kMaxSize || (size & (size - 1)) != 0 ||
      options.indirect_buffers > kMaxSize) {
    return Error::kInvalidArgument;
  }
  // Lines of their own: the device writes only the last of the three.
  desc_ = arena->Allocate(kDescriptorBytes * size, 64);
  driver_ = arena->Allocate(DriverBytes(size), 64);
  device_ = arena->Allocate(DeviceBytes(size), 64);
  const DmaMemory records = arena->Allocate(sizeof(Record) * size, 64);
  indirect_ = {};
  if (options.indirect_buffers != 0) {
    indirect_ =
        arena->Allocate(kDescriptorBytes * options.indirect_buffers * size, 64);
  }
  if (desc_.data == nullptr || driver_.data == nullptr ||
      device_.data == nullptr || records.data == nullptr ||
      (options.indirect_buffers != 0 && indirect_.data == nullptr)) {
    return Error::kNoMemory;
  }
  ZeroShared(desc_.data, desc_.bytes);
  ZeroShared(driver_.data, driver_.bytes);
  ZeroShared(device_.data, device_.bytes);
  records_ = reinterpret_cast<Record*>(records.data);
  for (uint32_t i = 0; i < size; ++i) {
    new (&records_[i]) Record{.next = static_cast<uint16_t>(i + 1)};
  }
  size_ = size;
  event_index_ = options.event_index;
  indirect_buffers_ = options.indirect_buffers;
  free_head_ = 0;
  free_count_ = size;
  outstanding_ = 0;
  added_ = published_ = taken_ = 0;
  interrupts_ = true;
  broken_ = false;
  return Error::kNone;
}

Error SplitQueue::Break() {
  broken_ = true;
  return Error::kQueueBroken;
}

Error SplitQueue::Add(std::span<const QueueBuffer> buffers, uint64_t cookie) {
  if (broken_) return Error::kQueueBroken;
  if (buffers.empty() || size_ == 0) return Error::kInvalidArgument;
  uint64_t writable = 0;
  for (const QueueBuffer& buffer : buffers) {
    if (buffer.bytes == 0) return Error::kInvalidArgument;
    if (buffer.device_writes) {
      writable += buffer.bytes;
    } else if (writable != 0) {
      return Error::kInvalidArgument;
    }
  }
  if (writable > UINT32_MAX) return Error::kInvalidArgument;

  const bool indirect =
      buffers.size() > 1 && buffers.size() <= indirect_buffers_;
  const size_t needed = indirect ? 1 : buffers.size();
  if (needed > free_count_) return Error::kQueueFull;

  const uint16_t head = free_head_;
  if (indirect) {
    AddIndirect(buffers, head);
  } else {
    AddDirect(buffers, head);
  }
  Record& record = records_[head];
  record.cookie = cookie;
  record.writable = static_cast<uint32_t>(writable);
  record.count = static_cast<uint16_t>(needed);
  free_count_ -= static_cast<uint32_t>(needed);

  StoreRelaxed<uint16_t>(
      driver_.data + kRing + kAvailableBytes * (added_ & (size_ - 1)), head);
  ++added_;
  ++outstanding_;
  return Error::kNone;
}

void SplitQueue::WriteDescriptor(std::byte* where, const QueueBuffer& buffer,
                                 uint16_t extra_flags, uint16_t next) {
  const auto flags = static_cast<uint16_t>(
      extra_flags | (buffer.device_writes ? kFlagWrite : 0));
  StoreRelaxed<uint64_t>(where, buffer.address);
  StoreRelaxed<uint32_t>(where + 8, buffer.bytes);
  StoreRelaxed<uint16_t>(where + 12, flags);
  StoreRelaxed<uint16_t>(where + 14, next);
}

void SplitQueue::AddIndirect(std::span<const QueueBuffer> buffers,
                             uint16_t head) {
  const uint64_t offset = kDescriptorBytes * indirect_buffers_ * head;
  std::byte* const table = indirect_.data + offset;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    WriteDescriptor(table + kDescriptorBytes * i, buffers[i],
                    last ? 0 : kFlagNext,
                    last ? uint16_t{0} : static_cast<uint16_t>(i + 1));
  }
  const QueueBuffer whole = {
      .address = indirect_.address + offset,
      .bytes = static_cast<uint32_t>(kDescriptorBytes * buffers.size())};
  WriteDescriptor(desc_.data + kDescriptorBytes * head, whole, kFlagIndirect,
                  0);
  free_head_ = records_[head].next;
}

void SplitQueue::AddDirect(std::span<const QueueBuffer> buffers,
                           uint16_t head) {
  uint16_t at = head;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    const uint16_t next = records_[at].next;
    WriteDescriptor(desc_.data + kDescriptorBytes * at, buffers[i],
                    last ? 0 : kFlagNext, last ? uint16_t{0} : next);
    at = next;
  }
  free_head_ = at;
}

bool SplitQueue::Publish() {
  if (added_ == published_ || broken_) return false;
  const uint16_t old = published_;
  published_ = added_;
  // Release: descriptors and ring entries before the index.
  StoreRelease<uint16_t>(driver_.data + kIndex, published_);
  FullBarrier();
  if (event_index_) {
    const uint16_t wanted =
        LoadRelaxed<uint16_t>(device_.data + kRing + kUsedBytes * size_);
    // Whether old <= wanted < published_, around the 16-bit circle.
    return static_cast<uint16_t>(published_ - wanted - 1) <
           static_cast<uint16_t>(published_ - old);
  }
  return (LoadRelaxed<uint16_t>(device_.data + kFlags) & kNoNotify) == 0;
}

Error SplitQueue::Take(UsedChain* chain) {
  if (broken_) return Error::kQueueBroken;
  if (size_ == 0) return Error::kNotFound;
  const uint16_t used = LoadAcquire<uint16_t>(device_.data + kIndex);
  if (used == taken_) return Error::kNotFound;
  // Only what was published can come back.
  const auto unpublished = static_cast<uint16_t>(added_ - published_);
  if (static_cast<uint16_t>(used - taken_) > outstanding_ - unpublished) {
    return Break();
  }
  const std::byte* const element =
      device_.data + kRing + kUsedBytes * (taken_ & (size_ - 1));
  const uint32_t id = LoadRelaxed<uint32_t>(element);
  const uint32_t written = LoadRelaxed<uint32_t>(element + 4);
  if (id >= size_ || records_[id].count == 0 ||
      written > records_[id].writable) {
    return Break();
  }
  Record& head = records_[id];
  *chain = {head.cookie, written};

  // The chain goes back to the front of the free list.
  uint16_t last = static_cast<uint16_t>(id);
  for (uint16_t i = 1; i < head.count; ++i) last = records_[last].next;
  records_[last].next = free_head_;
  free_head_ = static_cast<uint16_t>(id);
  free_count_ += head.count;
  head.count = 0;

  --outstanding_;
  ++taken_;
  if (interrupts_) WriteUsedEvent();
  return Error::kNone;
}

void SplitQueue::WriteUsedEvent() {
  if (!event_index_) return;
  StoreRelaxed<uint16_t>(driver_.data + kRing + kAvailableBytes * size_,
                         taken_);
  // Before the next look at the used index: one of the two sides sees.
  FullBarrier();
}

void SplitQueue::EnableInterrupts(bool on) {
  interrupts_ = on;
  if (size_ == 0) return;
  if (event_index_) {
    // Off: an index that is not reached soon.
    if (on) {
      WriteUsedEvent();
    } else {
      StoreRelaxed<uint16_t>(driver_.data + kRing + kAvailableBytes * size_,
                             static_cast<uint16_t>(taken_ - 1));
    }
    return;
  }
  StoreRelaxed<uint16_t>(driver_.data + kFlags,
                         on ? uint16_t{0} : kNoInterrupt);
  FullBarrier();
}

}  // namespace vmsg::guest
