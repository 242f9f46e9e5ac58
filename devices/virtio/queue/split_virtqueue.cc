#include "devices/virtio/queue/split_virtqueue.h"

#include <utility>

#include "vmm/base/check.h"

namespace vmsg::virtio {
namespace {

vmm::GuestAddress At(vmm::GuestAddress start, uint64_t offset) {
  // Can't wrap for the rings, which lay in guest memory once; for an indirect
  // table it may, and the access that follows is then checked like any other.
  return {start.value + offset};
}

}  // namespace

SplitVirtqueue::SplitVirtqueue(uint16_t index, const QueueConfig& config,
                               const Features& features, vmm::DmaSpace* dma,
                               Position position)
    : index_(index),
      size_(config.size),
      desc_(config.desc),
      driver_(config.driver),
      device_(config.device),
      indirect_(features.Has(kFeatureIndirectDesc)),
      event_idx_(features.Has(kFeatureEventIdx)),
      dma_(dma),
      next_avail_(position.next_avail),
      avail_seen_(position.next_avail),
      next_used_(position.next_used) {
  // Never more vectors than chains owed at once, so this never grows.
  spare_.reserve(size_);
}

void SplitVirtqueue::Break(QueueFault fault) {
  if (!broken()) fault_ = fault;
}

bool SplitVirtqueue::RingAccess(vmm::DmaResult result) {
  if (result == vmm::DmaResult::kOk) return true;
  Break(result == vmm::DmaResult::kDisabled ? QueueFault::kDmaDisabled
                                            : QueueFault::kRingOutsideMemory);
  return false;
}

bool SplitVirtqueue::LoadAvail(uint64_t offset, std::memory_order order,
                               uint16_t* value) {
  return RingAccess(dma_->Load16(At(driver_, offset), order, value));
}

bool SplitVirtqueue::StoreUsed(uint64_t offset, uint16_t value,
                               std::memory_order order) {
  return RingAccess(dma_->Store16(At(device_, offset), value, order));
}

bool SplitVirtqueue::RefreshAvail(std::memory_order order) {
  uint16_t avail = 0;
  if (!LoadAvail(kAvailIdx, order, &avail)) return false;
  // A driver that counts right never has more chains outstanding than the queue
  // has descriptors: those that are new to us, and those that we owe.
  const uint32_t fresh = static_cast<uint16_t>(avail - next_avail_);
  if (fresh + owed_ > size_) {
    Break(QueueFault::kTooManyAvailable);
    return false;
  }
  avail_seen_ = avail;
  return true;
}

Virtqueue::PopResult SplitVirtqueue::Pop(DescriptorChain* chain) {
  chain->valid_ = false;
  chain->segments_.clear();
  chain->readable_count_ = 0;
  chain->readable_bytes_ = 0;
  chain->writable_bytes_ = 0;
  if (broken()) return PopResult::kBroken;
  if (next_avail_ == avail_seen_) {
    // Acquire: entries and descriptors were written before the index.
    if (!RefreshAvail(std::memory_order_acquire)) return PopResult::kBroken;
    if (next_avail_ == avail_seen_) return PopResult::kEmpty;
  }
  const uint64_t slot = next_avail_ & (size_ - 1);
  uint16_t head = 0;
  if (!LoadAvail(kAvailRing + kAvailEntryBytes * slot,
                 std::memory_order_relaxed, &head)) {
    return PopResult::kBroken;
  }
  TakeStorage(chain);
  if (!ReadChain(head, chain)) {
    RecycleStorage(chain);
    return PopResult::kBroken;
  }
  chain->id_ = head;
  chain->valid_ = true;
  ++next_avail_;
  ++owed_;
  owed_segments_ += chain->segments_.size();
  return PopResult::kChain;
}

bool SplitVirtqueue::ReadChain(uint16_t head, DescriptorChain* chain) {
  Table table{.start = desc_, .entries = size_};
  uint32_t next = head;
  for (;;) {
    if (next >= table.entries) {
      Break(QueueFault::kHeadOutOfRange);
      return false;
    }
    DescriptorBytes bytes;
    const vmm::DmaResult result =
        dma_->Read(At(table.start, kDescriptorBytes * next), bytes);
    if (result == vmm::DmaResult::kOutside && table.indirect) {
      Break(QueueFault::kBufferOutsideMemory);
      return false;
    }
    if (!RingAccess(result)) return false;
    const Descriptor descriptor = DecodeDescriptor(bytes);

    if ((descriptor.flags & kDescFlagIndirect) != 0) {
      if (table.indirect) {
        Break(QueueFault::kBadIndirect);
        return false;
      }
      if (!EnterIndirect(descriptor, &table)) return false;
      next = 0;
      continue;
    }
    if (!AddSegment(descriptor, chain)) return false;
    if ((descriptor.flags & kDescFlagNext) == 0) return true;
    next = descriptor.next;
  }
}

// virtio 1.2, 2.7.5.3: buffers may come before the indirect descriptor, none
// after it; its write flag means nothing.
bool SplitVirtqueue::EnterIndirect(const Descriptor& descriptor, Table* table) {
  if (!indirect_ || (descriptor.flags & kDescFlagNext) != 0 ||
      descriptor.length == 0 || descriptor.length % kDescriptorBytes != 0) {
    Break(QueueFault::kBadIndirect);
    return false;
  }
  // The table may be longer than a chain may be: what counts is what is used.
  const vmm::GuestAddress start{descriptor.address};
  if (!vmm::GuestRange{start, descriptor.length}.IsValid()) {
    Break(QueueFault::kBufferOutsideMemory);
    return false;
  }
  *table = {
      .start = start,
      .entries = static_cast<uint32_t>(descriptor.length / kDescriptorBytes),
      .indirect = true};
  return true;
}

bool SplitVirtqueue::AddSegment(const Descriptor& descriptor,
                                DescriptorChain* chain) {
  const bool writable = (descriptor.flags & kDescFlagWrite) != 0;
  const size_t count = chain->segments_.size();
  const auto refuse = [this](QueueFault fault) {
    Break(fault);
    return false;
  };
  if (count == size_) return refuse(QueueFault::kChainTooLong);
  if (owed_segments_ + count == kMaxOwedSegments) {
    return refuse(QueueFault::kTooManySegments);
  }
  if (descriptor.length == 0) return refuse(QueueFault::kZeroLength);
  if (!writable && chain->readable_count_ != count) {
    return refuse(QueueFault::kReadableAfterWritable);
  }
  switch (dma_->Check({{descriptor.address}, descriptor.length}, writable)) {
    case vmm::DmaResult::kOk:
      break;
    case vmm::DmaResult::kOutside:
      return refuse(QueueFault::kBufferOutsideMemory);
    case vmm::DmaResult::kReadOnly:
      return refuse(QueueFault::kBufferReadOnly);
    case vmm::DmaResult::kDisabled:
      return refuse(QueueFault::kDmaDisabled);
  }
  uint32_t& total = writable ? chain->writable_bytes_ : chain->readable_bytes_;
  if (descriptor.length > UINT32_MAX - total) {
    return refuse(QueueFault::kTooManyBytes);
  }
  total += descriptor.length;
  if (!writable) ++chain->readable_count_;
  chain->segments_.push_back({{descriptor.address}, descriptor.length});
  return true;
}

void SplitVirtqueue::Complete(DescriptorChain chain, uint32_t written) {
  VMSG_CHECK(chain.valid_ && owed_ != 0, "a chain is completed once");
  VMSG_CHECK(written <= chain.writable_bytes_, "more written than there is");
  --owed_;
  owed_segments_ -= chain.segments_.size();
  const uint16_t id = chain.id_;
  RecycleStorage(&chain);
  if (broken()) return;

  const uint64_t slot = next_used_ & (size_ - 1);
  if (!RingAccess(dma_->Write(At(device_, kUsedRing + kUsedEntryBytes * slot),
                              EncodeUsedEntry(id, written)))) {
    return;
  }
  // Release: publishes the entry and all that was written into its buffers.
  if (!StoreUsed(kUsedIdx, static_cast<uint16_t>(next_used_ + 1),
                 std::memory_order_release)) {
    return;
  }
  ++next_used_;
  ++unannounced_;
}

// The barrier that both forms of suppression need lies between the used index
// and the driver's word: without it the driver could set its word and not see
// the entry, and we publish the entry and not see its word. It is had by
// storing the index, which already has this value, once more in the single
// order of sequentially consistent accesses: once a batch, and ThreadSanitizer
// understands it, which is not true of a fence.
bool SplitVirtqueue::ShouldNotify() {
  if (broken() || unannounced_ == 0) return false;
  const uint64_t unannounced = std::exchange(unannounced_, 0);
  if (!StoreUsed(kUsedIdx, next_used_, std::memory_order_seq_cst)) return false;
  uint16_t word = 0;
  const uint64_t offset = event_idx_ ? UsedEventOffset(size_) : kAvailFlags;
  if (!LoadAvail(offset, std::memory_order_seq_cst, &word)) return false;
  if (!event_idx_) return (word & kAvailFlagNoInterrupt) == 0;
  // virtio 1.2, 2.7.7.2: when the entry with index used_event is among those
  // written since. With 65536 or more of them it is, wherever it points.
  const uint16_t behind = static_cast<uint16_t>(next_used_ - word - 1);
  return behind < unannounced;
}

bool SplitVirtqueue::EnableNotifications() {
  if (broken()) return false;
  const bool stored = event_idx_
                          ? StoreUsed(AvailEventOffset(size_), next_avail_,
                                      std::memory_order_seq_cst)
                          : StoreUsed(kUsedFlags, 0, std::memory_order_seq_cst);
  // Looks again behind the store: a chain that came before the driver could see
  // the request is found here. A fault is for Pop() to report.
  if (!stored || !RefreshAvail(std::memory_order_seq_cst)) return true;
  return next_avail_ != avail_seen_;
}

// With the event index an event that lies behind says it already, and the next
// EnableNotifications() moves it. virtio 1.2, 2.7.10.1.
void SplitVirtqueue::DisableNotifications() {
  if (broken() || event_idx_) return;
  // Relaxed: only a hint.
  StoreUsed(kUsedFlags, kUsedFlagNoNotify, std::memory_order_relaxed);
}

void SplitVirtqueue::TakeStorage(DescriptorChain* chain) {
  if (chain->segments_.capacity() != 0 || spare_.empty()) return;
  spare_segments_ -= spare_.back().capacity();
  chain->segments_ = std::move(spare_.back());
  spare_.pop_back();
}

// Keeps what a queue full of short chains needs, or a few long ones.
void SplitVirtqueue::RecycleStorage(DescriptorChain* chain) {
  chain->segments_.clear();
  const uint64_t capacity = chain->segments_.capacity();
  if (capacity == 0 || spare_.size() == size_ ||
      spare_segments_ + capacity > kMaxOwedSegments) {
    return;
  }
  spare_segments_ += capacity;
  spare_.push_back(std::move(chain->segments_));
  chain->segments_ = {};
}

}  // namespace vmsg::virtio
