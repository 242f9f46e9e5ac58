#include "devices/virtio/queue/split_virtqueue.h"

#include <utility>

namespace vmsg::virtio {

SplitVirtqueue::SplitVirtqueue(uint16_t index, const QueueConfig& config,
                               const Features& features, vmm::DmaSpace* dma,
                               Position position)
    : VirtqueueBase(index, config, features, dma),
      next_avail_(position.next_avail),
      avail_seen_(position.next_avail),
      next_used_(position.next_used) {}

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
  // has descriptors: those that are new to us, and those that it waits for.
  const uint32_t fresh = static_cast<uint16_t>(avail - next_avail_);
  if (fresh + unpublished() > size_) {
    return Break(QueueFault::kTooManyAvailable);
  }
  avail_seen_ = avail;
  return true;
}

Virtqueue::PopResult SplitVirtqueue::Pop(DescriptorChain* chain) {
  Clear(chain);
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
  ++next_avail_;
  Owe(head, /*descriptors=*/0, chain);
  return PopResult::kChain;
}

bool SplitVirtqueue::ReadChain(uint16_t head, DescriptorChain* chain) {
  Table table{.start = desc_, .entries = size_};
  uint32_t next = head;
  for (;;) {
    if (next >= table.entries) return Break(QueueFault::kHeadOutOfRange);
    DescriptorBytes bytes;
    if (!ReadDescriptor(table.start, next, table.indirect, &bytes)) {
      return false;
    }
    const Descriptor descriptor = DecodeDescriptor(bytes);

    if ((descriptor.flags & kDescFlagIndirect) != 0) {
      if (table.indirect) return Break(QueueFault::kBadIndirect);
      if (!EnterIndirect(descriptor, &table)) return false;
      next = 0;
      continue;
    }
    if (!AddSegment({{descriptor.address}, descriptor.length},
                    (descriptor.flags & kDescFlagWrite) != 0, chain)) {
      return false;
    }
    if ((descriptor.flags & kDescFlagNext) == 0) return true;
    next = descriptor.next;
  }
}

// virtio 1.2, 2.7.5.3: buffers may come before the indirect descriptor, none
// after it; its write flag means nothing.
bool SplitVirtqueue::EnterIndirect(const Descriptor& descriptor, Table* table) {
  const Segment place{{descriptor.address}, descriptor.length};
  if (!CheckIndirect(place, descriptor.flags)) return false;
  *table = {.start = place.address,
            .entries = static_cast<uint32_t>(place.length / kDescriptorBytes),
            .indirect = true};
  return true;
}

void SplitVirtqueue::Complete(DescriptorChain chain, uint32_t written) {
  UsedChain used;
  if (!TakeBack(&chain, written, &used)) return;
  do {
    if (!Publish(used)) return;
  } while (NextInOrder(&used));
}

bool SplitVirtqueue::Publish(const UsedChain& used) {
  const uint64_t slot = next_used_ & (size_ - 1);
  if (!RingAccess(dma_->Write(At(device_, kUsedRing + kUsedEntryBytes * slot),
                              EncodeUsedEntry(used.id, used.written)))) {
    return false;
  }
  // Release: publishes the entry and all that was written into its buffers.
  if (!StoreUsed(kUsedIdx, static_cast<uint16_t>(next_used_ + 1),
                 std::memory_order_release)) {
    return false;
  }
  ++next_used_;
  ++unannounced_;
  return true;
}

// The barrier that both forms of suppression need lies between the used index
// and the driver's word: without it the driver could set its word and not see
// the entry, and we publish the entry and not see its word. It is had by
// storing the index, which already has this value, once more in the single
// order of sequentially consistent accesses: once a batch, and ThreadSanitizer
// understands it, which is not true of a fence.
bool SplitVirtqueue::ShouldNotify() {
  if (unannounced_ == 0) return false;
  const uint64_t unannounced = std::exchange(unannounced_, 0);
  if (broken() || !StoreUsed(kUsedIdx, next_used_, std::memory_order_seq_cst)) {
    return true;
  }
  uint16_t word = 0;
  const uint64_t offset = event_idx_ ? UsedEventOffset(size_) : kAvailFlags;
  if (!LoadAvail(offset, std::memory_order_seq_cst, &word)) return true;
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

}  // namespace vmsg::virtio
