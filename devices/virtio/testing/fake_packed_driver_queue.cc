#include "devices/virtio/testing/fake_packed_driver_queue.h"

#include <utility>

#include "vmm/base/check.h"

namespace vmsg::virtio {
namespace {

constexpr uint64_t kEventSpacing = 64;

uint64_t EventsOffset(uint32_t size) {
  return (kDescriptorBytes * size + kEventSpacing - 1) / kEventSpacing *
         kEventSpacing;
}

}  // namespace

uint64_t FakePackedDriverQueue::BytesNeeded(uint32_t size) {
  return EventsOffset(size) + 2 * kEventSpacing;
}

FakePackedDriverQueue::FakePackedDriverQueue(const vmm::GuestMemory* memory,
                                             vmm::GuestAddress base,
                                             uint32_t size, bool event_idx,
                                             vmm::DmaTranslator* translator)
    : FakeDriver(memory,
                 {.size = size,
                  .desc = base,
                  .driver = At(base, EventsOffset(size)),
                  .device = At(base, EventsOffset(size) + kEventSpacing)},
                 BytesNeeded(size), event_idx, translator),
      chains_(size),
      next_id_(static_cast<uint16_t>(size / 2)),
      free_count_(size) {}

void FakePackedDriverQueue::StartAt(PackedCursor cursor) {
  avail_ = cursor;
  used_ = cursor;
  // What the turn before left: each place was used, with the wrap counter that
  // was then there.
  for (uint32_t i = 0; i < config_.size; ++i) {
    const bool wrap = i < cursor.slot ? cursor.wrap : !cursor.wrap;
    WriteDescriptor(static_cast<uint16_t>(i), {.flags = PackedUsedFlags(wrap)});
  }
  if (event_idx_) EnableInterrupts();
}

uint16_t FakePackedDriverQueue::TakeId(uint16_t descriptors) {
  while (chains_[next_id_].owed) {
    next_id_ = static_cast<uint16_t>((next_id_ + 1u) % config_.size);
  }
  const uint16_t id = next_id_;
  chains_[id] = {.owed = true, .descriptors = descriptors};
  next_id_ = static_cast<uint16_t>((next_id_ + 1u) % config_.size);
  free_count_ -= descriptors;
  ++outstanding_;
  return id;
}

std::optional<uint16_t> FakePackedDriverQueue::Add(
    std::span<const Buffer> buffers) {
  if (buffers.empty() || buffers.size() > free_count_) return std::nullopt;
  const uint16_t id = TakeId(static_cast<uint16_t>(buffers.size()));
  const uint16_t head = avail_.slot;
  uint16_t head_flags = 0;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    const uint16_t flags =
        static_cast<uint16_t>(PackedAvailFlags(avail_.wrap) |
                              (buffers[i].writable ? kDescFlagWrite : 0) |
                              (last ? 0 : kDescFlagNext));
    PackedDescriptor descriptor = {.address = buffers[i].address.value,
                                   .length = buffers[i].length,
                                   // Means something in the last one only.
                                   .id = last ? id : uint16_t{0xffff},
                                   .flags = flags};
    if (i == 0) {
      // Not yet available.
      head_flags = flags;
      descriptor.flags = PackedUsedFlags(!avail_.wrap);
    }
    WriteDescriptor(avail_.slot, descriptor);
    avail_.Advance(1, config_.size);
  }
  unannounced_ += buffers.size();
  StoreFlags(head, head_flags);
  return id;
}

std::optional<uint16_t> FakePackedDriverQueue::AddIndirect(
    vmm::GuestAddress table, std::span<const Buffer> buffers) {
  if (buffers.empty() || free_count_ == 0) return std::nullopt;
  for (size_t i = 0; i < buffers.size(); ++i) {
    WriteDescriptorAt(
        table, i,
        {.address = buffers[i].address.value,
         .length = buffers[i].length,
         .flags = buffers[i].writable ? kDescFlagWrite : uint16_t{0}});
  }
  const uint16_t id = TakeId(1);
  Publish({.address = table.value,
           .length = static_cast<uint32_t>(buffers.size() * kDescriptorBytes),
           .id = id,
           .flags = kDescFlagIndirect});
  return id;
}

void FakePackedDriverQueue::Publish(PackedDescriptor descriptor) {
  const uint16_t flags =
      static_cast<uint16_t>(descriptor.flags | PackedAvailFlags(avail_.wrap));
  const uint16_t slot = avail_.slot;
  descriptor.flags = PackedUsedFlags(!avail_.wrap);
  WriteDescriptor(slot, descriptor);
  avail_.Advance(1, config_.size);
  ++unannounced_;
  StoreFlags(slot, flags);
}

// The barrier lies between the flags of what was added and the device's words:
// both are accessed in the single order.
bool FakePackedDriverQueue::ShouldKick() {
  const uint64_t added = std::exchange(unannounced_, 0);
  if (added == 0) return false;
  const uint16_t flags =
      Load(config_.device, kEventFlags, std::memory_order_seq_cst);
  if (flags != kEventDesc) return flags != kEventDisable;
  VMSG_CHECK(event_idx_, "the device asks for what was not negotiated");
  const PackedCursor event = PackedCursor::Decode(
      Load(config_.device, kEventPosition, std::memory_order_seq_cst));
  const uint32_t size = config_.size;
  VMSG_CHECK(event.slot < size, "the device's event is in the ring");
  const uint32_t behind =
      (avail_.InTwoTurns(size) + 2 * size - event.InTwoTurns(size) - 1) %
      (2 * size);
  return behind < added;
}

bool FakePackedDriverQueue::NextIsUsed(std::memory_order order) {
  const uint16_t flags =
      Load(config_.desc, kDescriptorBytes * used_.slot + kPackedFlags, order);
  return (flags & (kDescFlagAvail | kDescFlagUsed)) ==
         PackedUsedFlags(used_.wrap);
}

std::optional<FakePackedDriverQueue::Used> FakePackedDriverQueue::TakeUsed() {
  if (!NextIsUsed(std::memory_order_acquire)) return std::nullopt;
  const PackedDescriptor used = ReadDescriptor(used_.slot);
  if (used.id >= config_.size || !chains_[used.id].owed) {
    used_.Advance(1, config_.size);
    ++bad_used_;
    return std::nullopt;
  }
  const Chain chain = std::exchange(chains_[used.id], {});
  used_.Advance(chain.descriptors, config_.size);
  free_count_ += chain.descriptors;
  --outstanding_;
  return Used{.id = used.id,
              .length = (used.flags & kDescFlagWrite) != 0 ? used.length : 0};
}

bool FakePackedDriverQueue::EnableInterrupts() {
  if (event_idx_) {
    Store(config_.driver, kEventPosition, used_.Encode(),
          std::memory_order_seq_cst);
  }
  Store(config_.driver, kEventFlags, event_idx_ ? kEventDesc : kEventEnable,
        std::memory_order_seq_cst);
  return NextIsUsed(std::memory_order_seq_cst);
}

void FakePackedDriverQueue::DisableInterrupts() {
  Store(config_.driver, kEventFlags, kEventDisable, std::memory_order_relaxed);
}

void FakePackedDriverQueue::WriteDescriptor(
    uint16_t slot, const PackedDescriptor& descriptor) {
  WriteDescriptorAt(config_.desc, slot, descriptor);
}

void FakePackedDriverQueue::WriteDescriptorAt(
    vmm::GuestAddress table, uint64_t index,
    const PackedDescriptor& descriptor) {
  Write(At(table, kDescriptorBytes * index),
        EncodePackedDescriptor(descriptor));
}

void FakePackedDriverQueue::WriteRaw(vmm::GuestAddress table, uint64_t index,
                                     const RawDescriptor& descriptor) {
  WriteDescriptorAt(table, index,
                    {.address = descriptor.address,
                     .length = descriptor.length,
                     .flags = descriptor.flags});
}

void FakePackedDriverQueue::PublishRaw(const RawDescriptor& descriptor) {
  Publish({.address = descriptor.address,
           .length = descriptor.length,
           .flags = descriptor.flags});
}

PackedDescriptor FakePackedDriverQueue::ReadDescriptor(uint16_t slot) {
  DescriptorBytes bytes;
  Read(At(config_.desc, kDescriptorBytes * slot), bytes);
  return DecodePackedDescriptor(bytes);
}

void FakePackedDriverQueue::SetEvent(uint16_t position, uint16_t flags) {
  Store(config_.driver, kEventPosition, position, std::memory_order_relaxed);
  Store(config_.driver, kEventFlags, flags, std::memory_order_release);
}

uint16_t FakePackedDriverQueue::DeviceEventPosition() {
  return Load(config_.device, kEventPosition, std::memory_order_relaxed);
}

uint16_t FakePackedDriverQueue::DeviceEventFlags() {
  return Load(config_.device, kEventFlags, std::memory_order_relaxed);
}

void FakePackedDriverQueue::StoreFlags(uint16_t slot, uint16_t flags) {
  Store(config_.desc, kDescriptorBytes * slot + kPackedFlags, flags,
        std::memory_order_seq_cst);
}

}  // namespace vmsg::virtio
