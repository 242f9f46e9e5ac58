#include "devices/virtio/queue/virtqueue_base.h"

#include <utility>

#include "vmm/base/check.h"

namespace vmsg::virtio {

VirtqueueBase::VirtqueueBase(uint16_t index, const QueueConfig& config,
                             const Features& features, vmm::DmaSpace* dma)
    : size_(config.size),
      desc_(config.desc),
      driver_(config.driver),
      device_(config.device),
      event_idx_(features.Has(kFeatureEventIdx)),
      dma_(dma),
      index_(index),
      indirect_(features.Has(kFeatureIndirectDesc)),
      in_order_(features.Has(kFeatureInOrder)),
      turns_(in_order_ ? config.size : 0) {
  // Never more vectors than chains owed at once, so this never grows.
  spare_.reserve(size_);
}

bool VirtqueueBase::BreakOnDma(vmm::DmaResult result) {
  return Break(result == vmm::DmaResult::kDisabled
                   ? QueueFault::kDmaDisabled
                   : QueueFault::kRingOutsideMemory);
}

bool VirtqueueBase::BreakOnDescriptor(vmm::DmaResult result, bool indirect) {
  if (result == vmm::DmaResult::kOutside && indirect) {
    return Break(QueueFault::kBufferOutsideMemory);
  }
  return BreakOnDma(result);
}

// The table may be longer than a chain may be: what counts is what is used.
bool VirtqueueBase::CheckIndirect(const Segment& table, uint16_t flags) {
  if (!indirect_ || (flags & kDescFlagNext) != 0 || table.length == 0 ||
      table.length % kDescriptorBytes != 0) {
    return Break(QueueFault::kBadIndirect);
  }
  if (!vmm::GuestRange{table.address, table.length}.IsValid()) {
    return Break(QueueFault::kBufferOutsideMemory);
  }
  return true;
}

bool VirtqueueBase::AddSegment(const Segment& buffer, bool writable,
                               DescriptorChain* chain) {
  const size_t count = chain->segments_.size();
  if (count == size_) return Break(QueueFault::kChainTooLong);
  if (owed_segments_ + count == kMaxOwedSegments) {
    return Break(QueueFault::kTooManySegments);
  }
  if (buffer.length == 0) return Break(QueueFault::kZeroLength);
  if (!writable && chain->readable_count_ != count) {
    return Break(QueueFault::kReadableAfterWritable);
  }
  switch (dma_->Check({buffer.address, buffer.length}, writable)) {
    case vmm::DmaResult::kOk:
      break;
    case vmm::DmaResult::kOutside:
      return Break(QueueFault::kBufferOutsideMemory);
    case vmm::DmaResult::kReadOnly:
      return Break(QueueFault::kBufferReadOnly);
    case vmm::DmaResult::kDisabled:
      return Break(QueueFault::kDmaDisabled);
  }
  uint32_t& total = writable ? chain->writable_bytes_ : chain->readable_bytes_;
  const uint64_t others =
      uint64_t{chain->readable_bytes_} + chain->writable_bytes_;
  if (buffer.length > UINT32_MAX - total ||
      buffer.length > kMaxChainBytes - others) {
    return Break(QueueFault::kTooManyBytes);
  }
  total += buffer.length;
  if (!writable) ++chain->readable_count_;
  chain->segments_.push_back(buffer);
  return true;
}

void VirtqueueBase::Owe(uint16_t id, uint16_t descriptors,
                        DescriptorChain* chain) {
  chain->id_ = id;
  chain->descriptors_ = descriptors;
  chain->turn_ = next_turn_;
  chain->valid_ = true;
  if (in_order_) next_turn_ = TurnAfter(next_turn_);
  ++owed_;
  owed_segments_ += chain->segments_.size();
  owed_capacity_ += chain->segments_.capacity();
}

bool VirtqueueBase::TakeBack(DescriptorChain* chain, uint32_t written,
                             UsedChain* used) {
  VMSG_CHECK(chain->valid_ && owed_ != 0, "a chain is completed once");
  VMSG_CHECK(written <= chain->writable_bytes_, "more written than there is");
  --owed_;
  owed_segments_ -= chain->segments_.size();
  owed_capacity_ -= chain->segments_.capacity();
  *used = {
      .id = chain->id_, .descriptors = chain->descriptors_, .written = written};
  RecycleStorage(chain);
  if (broken()) return false;
  return !in_order_ || !HoldBack(*chain, *used);
}

// virtio 1.2, 2.7.9 and 2.8.9: with the feature, buffers are used in the order
// in which they were made available, which is the one they were taken in.
bool VirtqueueBase::HoldBack(const DescriptorChain& chain,
                             const UsedChain& used) {
  if (chain.turn_ == due_turn_) return false;
  Turn& turn = turns_[chain.turn_];
  VMSG_CHECK(!turn.completed, "a chain is completed once");
  turn = {.used = used, .completed = true};
  ++held_back_;
  return true;
}

bool VirtqueueBase::NextCompleted(UsedChain* used) {
  due_turn_ = TurnAfter(due_turn_);
  Turn& turn = turns_[due_turn_];
  if (!turn.completed) return false;
  turn.completed = false;
  *used = turn.used;
  --held_back_;
  return true;
}

void VirtqueueBase::TakeStorage(DescriptorChain* chain) {
  if (chain->segments_.capacity() != 0 || spare_.empty()) return;
  spare_capacity_ -= spare_.back().capacity();
  chain->segments_ = std::move(spare_.back());
  spare_.pop_back();
}

// Keeps what a queue full of short chains needs, or a few long ones, and so
// much less as chains that are owed have of it: else a guest could have all of
// them hold storage of the longest.
void VirtqueueBase::RecycleStorage(DescriptorChain* chain) {
  chain->segments_.clear();
  const uint64_t capacity = chain->segments_.capacity();
  if (capacity == 0 || spare_.size() == size_ ||
      owed_capacity_ + spare_capacity_ + capacity > kMaxOwedSegments) {
    return;
  }
  spare_capacity_ += capacity;
  spare_.push_back(std::move(chain->segments_));
  chain->segments_ = {};
}

}  // namespace vmsg::virtio
