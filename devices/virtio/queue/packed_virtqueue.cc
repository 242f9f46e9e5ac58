#include "devices/virtio/queue/packed_virtqueue.h"

#include <utility>

namespace vmsg::virtio {
namespace {

constexpr uint32_t kNotWritten = UINT32_MAX;

}  // namespace

PackedVirtqueue::PackedVirtqueue(uint16_t index, const QueueConfig& config,
                                 const Features& features, vmm::DmaSpace* dma,
                                 PackedCursor start)
    : VirtqueueBase(index, config, features, dma),
      avail_(start),
      used_(start),
      event_flags_(kNotWritten) {}

bool PackedVirtqueue::LoadFlags(std::memory_order order, uint16_t* flags) {
  return RingAccess(dma_->Load16(
      At(desc_, kDescriptorBytes * avail_.slot + kPackedFlags), order, flags));
}

Virtqueue::PopResult PackedVirtqueue::Pop(DescriptorChain* chain) {
  Clear(chain);
  if (broken()) return PopResult::kBroken;
  uint16_t flags = 0;
  // Acquire: the driver writes the flags of a chain's first descriptor after
  // everything else of it.
  if (!LoadFlags(std::memory_order_acquire, &flags)) return PopResult::kBroken;
  if (!IsPackedAvail(flags, avail_.wrap)) return PopResult::kEmpty;
  TakeStorage(chain);
  if (!ReadChain(flags, chain)) {
    RecycleStorage(chain);
    return PopResult::kBroken;
  }
  return PopResult::kChain;
}

bool PackedVirtqueue::ReadChain(uint16_t flags, DescriptorChain* chain) {
  PackedCursor at = avail_;
  uint32_t count = 0;
  for (;;) {
    // The driver may use a descriptor again when it has seen it used, and all
    // that are not lie behind us.
    if (taken_ + count == size_) {
      return Break(count == size_ ? QueueFault::kChainTooLong
                                  : QueueFault::kTooManyAvailable);
    }
    DescriptorBytes bytes;
    if (!ReadDescriptor(desc_, at.slot, /*indirect=*/false, &bytes)) {
      return false;
    }
    PackedDescriptor descriptor = DecodePackedDescriptor(bytes);
    if (count == 0) {
      // What made it available counts, not what a second look finds.
      descriptor.flags = flags;
    } else if (!IsPackedAvail(descriptor.flags, at.wrap)) {
      return Break(QueueFault::kNotAvailable);
    }
    ++count;
    at.Advance(1, size_);

    const Segment buffer{{descriptor.address}, descriptor.length};
    bool last = (descriptor.flags & kDescFlagNext) == 0;
    if ((descriptor.flags & kDescFlagIndirect) != 0) {
      // virtio 1.2, 2.8.19: a table is a chain of its own, and has no place in
      // one of several descriptors.
      if (count != 1) return Break(QueueFault::kBadIndirect);
      if (!CheckIndirect(buffer, descriptor.flags) ||
          !ReadTable(buffer, chain)) {
        return false;
      }
      last = true;
    } else if (!AddSegment(buffer, (descriptor.flags & kDescFlagWrite) != 0,
                           chain)) {
      return false;
    }
    if (last) {
      avail_ = at;
      taken_ += count;
      // virtio 1.2, 2.8.6: the id is that of the last descriptor. It means
      // something to the driver only.
      Owe(descriptor.id, static_cast<uint16_t>(count), chain);
      return true;
    }
  }
}

// virtio 1.2, 2.8.7: the buffers of a table follow each other, all of them.
bool PackedVirtqueue::ReadTable(const Segment& table, DescriptorChain* chain) {
  const uint32_t entries =
      static_cast<uint32_t>(table.length / kDescriptorBytes);
  if (entries > size_) return Break(QueueFault::kChainTooLong);
  for (uint32_t i = 0; i < entries; ++i) {
    DescriptorBytes bytes;
    if (!ReadDescriptor(table.address, i, /*indirect=*/true, &bytes)) {
      return false;
    }
    const PackedDescriptor descriptor = DecodePackedDescriptor(bytes);
    // Of the flags only WRITE means something here; the others are ignored, but
    // for the one of a table in a table.
    if ((descriptor.flags & kDescFlagIndirect) != 0) {
      return Break(QueueFault::kBadIndirect);
    }
    if (!AddSegment({{descriptor.address}, descriptor.length},
                    (descriptor.flags & kDescFlagWrite) != 0, chain)) {
      return false;
    }
  }
  return true;
}

void PackedVirtqueue::Complete(DescriptorChain chain, uint32_t written) {
  UsedChain used;
  if (!TakeBack(&chain, written, &used)) return;
  do {
    if (!Publish(used)) return;
  } while (NextInOrder(&used));
}

// One used descriptor for a chain; the places of its other descriptors are
// passed over. virtio 1.2, 2.8.6.
bool PackedVirtqueue::Publish(const UsedChain& used) {
  const vmm::GuestAddress place = At(desc_, kDescriptorBytes * used_.slot);
  if (!RingAccess(dma_->Write(At(place, kPackedLength),
                              EncodePackedUsed(used.id, used.written)))) {
    return false;
  }
  // virtio 1.2, 2.8.3 and 2.8.4: WRITE says that data was written, and that the
  // length means something.
  const uint16_t flags = static_cast<uint16_t>(
      PackedUsedFlags(used_.wrap) | (used.written != 0 ? kDescFlagWrite : 0));
  // Releases the rest of the descriptor and what was written into the buffers.
  // Sequentially consistent for ShouldNotify(), which can't store the flags
  // once more as the split ring does: by then the driver may have put another
  // chain there.
  if (!RingAccess(dma_->Store16(At(place, kPackedFlags), flags,
                                std::memory_order_seq_cst))) {
    return false;
  }
  used_.Advance(used.descriptors, size_);
  taken_ -= used.descriptors;
  unannounced_ += used.descriptors;
  return true;
}

// virtio 1.2, 2.8.10 and 2.8.14. A guest that breaks the rules here is
// notified: that costs nobody else anything, and a notification that is lost
// may cost it all.
bool PackedVirtqueue::ShouldNotify() {
  if (unannounced_ == 0) return false;
  const uint64_t unannounced = std::exchange(unannounced_, 0);
  uint16_t flags = 0;
  if (broken() ||
      !RingAccess(dma_->Load16(At(driver_, kEventFlags),
                               std::memory_order_seq_cst, &flags))) {
    return true;
  }
  flags &= kEventFlagsMask;
  if (flags != kEventDesc || !event_idx_) return flags != kEventDisable;
  // The driver writes the position before the flags.
  uint16_t word = 0;
  if (!RingAccess(dma_->Load16(At(driver_, kEventPosition),
                               std::memory_order_seq_cst, &word))) {
    return true;
  }
  const PackedCursor event = PackedCursor::Decode(word);
  if (event.slot >= size_) return true;
  // When the event is among the places that were passed.
  const uint32_t turns = 2 * size_;
  const uint32_t behind =
      (used_.InTwoTurns(size_) + turns - event.InTwoTurns(size_) - 1) % turns;
  return behind < unannounced;
}

bool PackedVirtqueue::EnableNotifications() {
  if (broken()) return false;
  // The position before the flags, which make it count.
  const bool stored =
      !event_idx_ ||
      RingAccess(dma_->Store16(At(device_, kEventPosition), avail_.Encode(),
                               std::memory_order_seq_cst));
  uint16_t flags = 0;
  // Looks again behind the stores: a chain that came before the driver could
  // see the request is found here. A fault is for Pop() to report.
  if (!stored ||
      !SetEventFlags(event_idx_ ? kEventDesc : kEventEnable,
                     std::memory_order_seq_cst) ||
      !LoadFlags(std::memory_order_seq_cst, &flags)) {
    return true;
  }
  return IsPackedAvail(flags, avail_.wrap);
}

// With the event index an event that lies behind says it already, and the next
// EnableNotifications() moves it.
void PackedVirtqueue::DisableNotifications() {
  if (broken() || event_idx_) return;
  // Relaxed: only a hint.
  SetEventFlags(kEventDisable, std::memory_order_relaxed);
}

bool PackedVirtqueue::SetEventFlags(uint16_t flags, std::memory_order order) {
  if (event_flags_ == flags) return true;
  if (!RingAccess(dma_->Store16(At(device_, kEventFlags), flags, order))) {
    return false;
  }
  event_flags_ = flags;
  return true;
}

}  // namespace vmsg::virtio
