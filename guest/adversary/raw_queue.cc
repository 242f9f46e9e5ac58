#include "guest/adversary/raw_queue.h"

#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

// Both rings: flags, index, elements.
constexpr size_t kFlags = 0;
constexpr size_t kIndex = 2;
constexpr size_t kRing = 4;

}  // namespace

bool RawQueue::Create(Arena* arena) {
  desc_ = arena->Allocate(uint64_t{16} * kSize, 64);
  driver_ = arena->Allocate(kRing + size_t{2} * kSize + 2, 64);
  device_ = arena->Allocate(kRing + size_t{8} * kSize + 2, 64);
  buffer_ = arena->Allocate(kBufferBytes, 64);
  table_ = arena->Allocate(kBufferBytes, 64);
  if (desc_.data == nullptr || driver_.data == nullptr ||
      device_.data == nullptr || buffer_.data == nullptr ||
      table_.data == nullptr) {
    return false;
  }
  Clear();
  return true;
}

void RawQueue::Clear() {
  for (const DmaMemory* memory : {&desc_, &driver_, &device_, &table_}) {
    ZeroShared(memory->data, memory->bytes);
  }
  available_ = taken_ = 0;
}

void RawQueue::Write(std::byte* where, const Entry& entry) {
  StoreRelaxed<uint64_t>(where, entry.address);
  StoreRelaxed<uint32_t>(where + 8, entry.bytes);
  StoreRelaxed<uint16_t>(where + 12, entry.flags);
  StoreRelaxed<uint16_t>(where + 14, entry.next);
}

void RawQueue::Offer(uint16_t head) {
  StoreRelaxed<uint16_t>(
      driver_.data + kRing + size_t{2} * (available_ % kSize), head);
  SetAvailableIndex(static_cast<uint16_t>(available_ + 1));
}

void RawQueue::SetAvailableIndex(uint16_t index) {
  available_ = index;
  StoreRelease<uint16_t>(driver_.data + kIndex, index);
}

void RawQueue::SetAvailableFlags(uint16_t flags) {
  StoreRelease<uint16_t>(driver_.data + kFlags, flags);
}

void RawQueue::SetUsedIndex(uint16_t index) {
  StoreRelease<uint16_t>(device_.data + kIndex, index);
}

void RawQueue::SetUsedFlags(uint16_t flags) {
  StoreRelease<uint16_t>(device_.data + kFlags, flags);
}

bool RawQueue::Take(Used* used) {
  if (LoadAcquire<uint16_t>(device_.data + kIndex) == taken_) return false;
  const std::byte* const element =
      device_.data + kRing + size_t{8} * (taken_ % kSize);
  *used = {LoadRelaxed<uint32_t>(element), LoadRelaxed<uint32_t>(element + 4)};
  ++taken_;
  return true;
}

}  // namespace vmsg::guest
