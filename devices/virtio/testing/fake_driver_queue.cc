#include "devices/virtio/testing/fake_driver_queue.h"

#include <atomic>

namespace vmsg::virtio {
namespace {

constexpr uint64_t AlignUp(uint64_t value, uint64_t align) {
  return (value + align - 1) / align * align;
}

uint64_t DriverOffset(uint32_t size) {
  return AlignUp(SplitDescBytes(size), 64);
}

uint64_t DeviceOffset(uint32_t size) {
  return DriverOffset(size) + AlignUp(SplitDriverBytes(size), 64);
}

uint16_t FlagsOf(const FakeDriverQueue::Buffer& buffer, bool last) {
  return static_cast<uint16_t>((buffer.writable ? kDescFlagWrite : 0) |
                               (last ? 0 : kDescFlagNext));
}

}  // namespace

uint64_t FakeDriverQueue::BytesNeeded(uint32_t size) {
  return DeviceOffset(size) + AlignUp(SplitDeviceBytes(size), 64);
}

FakeDriverQueue::FakeDriverQueue(const vmm::GuestMemory* memory,
                                 vmm::GuestAddress base, uint32_t size,
                                 bool event_idx, vmm::DmaTranslator* translator)
    : FakeDriver(memory,
                 {.size = size,
                  .desc = base,
                  .driver = At(base, DriverOffset(size)),
                  .device = At(base, DeviceOffset(size))},
                 BytesNeeded(size), event_idx, translator),
      next_(size),
      chains_(size),
      free_count_(size) {
  for (uint32_t i = 0; i < size; ++i) next_[i] = static_cast<uint16_t>(i + 1);
}

void FakeDriverQueue::StartAt(uint16_t index) {
  kicked_idx_ = index;
  used_idx_ = index;
  SetAvailIdx(index);
  Store(config_.device, kUsedIdx, index, std::memory_order_release);
  if (event_idx_) {
    SetUsedEvent(index);
    Store(config_.device, AvailEventOffset(config_.size), index,
          std::memory_order_release);
  }
}

std::optional<uint16_t> FakeDriverQueue::Add(std::span<const Buffer> buffers) {
  if (buffers.empty() || buffers.size() > free_count_) return std::nullopt;
  const uint16_t head = free_head_;
  uint16_t index = head;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    WriteDescriptor(index, {.address = buffers[i].address.value,
                            .length = buffers[i].length,
                            .flags = FlagsOf(buffers[i], last),
                            .next = last ? uint16_t{0} : next_[index]});
    index = next_[index];
  }
  free_head_ = index;
  free_count_ -= static_cast<uint32_t>(buffers.size());
  chains_[head] = {.owed = true,
                   .descriptors = static_cast<uint16_t>(buffers.size())};
  ++outstanding_;
  Publish(head);
  return head;
}

std::optional<uint16_t> FakeDriverQueue::AddIndirect(
    vmm::GuestAddress table, std::span<const Buffer> buffers) {
  if (buffers.empty() || free_count_ == 0) return std::nullopt;
  for (size_t i = 0; i < buffers.size(); ++i) {
    const bool last = i + 1 == buffers.size();
    WriteDescriptorAt(table, i,
                      {.address = buffers[i].address.value,
                       .length = buffers[i].length,
                       .flags = FlagsOf(buffers[i], last),
                       .next = static_cast<uint16_t>(last ? 0 : i + 1)});
  }
  const uint16_t head = free_head_;
  WriteDescriptor(
      head, {.address = table.value,
             .length = static_cast<uint32_t>(buffers.size() * kDescriptorBytes),
             .flags = kDescFlagIndirect});
  free_head_ = next_[head];
  --free_count_;
  chains_[head] = {.owed = true, .descriptors = 1};
  ++outstanding_;
  Publish(head);
  return head;
}

// The barriers here and in EnableInterrupts() mirror those of the device: the
// index that was published already is stored once more in the single order.
bool FakeDriverQueue::ShouldKick() {
  const uint16_t before = kicked_idx_;
  kicked_idx_ = avail_idx_;
  if (before == avail_idx_) return false;
  Store(config_.driver, kAvailIdx, avail_idx_, std::memory_order_seq_cst);
  if (!event_idx_) {
    return (Load(config_.device, kUsedFlags, std::memory_order_seq_cst) &
            kUsedFlagNoNotify) == 0;
  }
  const uint16_t event = Load(config_.device, AvailEventOffset(config_.size),
                              std::memory_order_seq_cst);
  return static_cast<uint16_t>(avail_idx_ - event - 1) <
         static_cast<uint16_t>(avail_idx_ - before);
}

std::optional<FakeDriverQueue::Used> FakeDriverQueue::TakeUsed() {
  const uint16_t idx =
      Load(config_.device, kUsedIdx, std::memory_order_acquire);
  if (idx == used_idx_) return std::nullopt;
  const Used used = UsedEntry(used_idx_);
  ++used_idx_;
  if (used.id >= config_.size || !chains_[used.id].owed) {
    ++bad_used_;
    return std::nullopt;
  }
  Free(static_cast<uint16_t>(used.id));
  return used;
}

void FakeDriverQueue::Free(uint16_t head) {
  Outstanding& chain = chains_[head];
  uint16_t last = head;
  for (uint16_t i = 1; i < chain.descriptors; ++i) last = next_[last];
  next_[last] = free_head_;
  free_head_ = head;
  free_count_ += chain.descriptors;
  chain = {};
  --outstanding_;
}

bool FakeDriverQueue::EnableInterrupts() {
  if (event_idx_) {
    Store(config_.driver, UsedEventOffset(config_.size), used_idx_,
          std::memory_order_seq_cst);
  } else {
    Store(config_.driver, kAvailFlags, 0, std::memory_order_seq_cst);
  }
  return Load(config_.device, kUsedIdx, std::memory_order_seq_cst) != used_idx_;
}

void FakeDriverQueue::DisableInterrupts() {
  if (event_idx_) {
    // As far away as it gets.
    SetUsedEvent(static_cast<uint16_t>(used_idx_ - 1));
  } else {
    SetAvailFlags(kAvailFlagNoInterrupt);
  }
}

void FakeDriverQueue::WriteDescriptor(uint16_t index,
                                      const Descriptor& descriptor) {
  WriteDescriptorAt(config_.desc, index, descriptor);
}

void FakeDriverQueue::WriteDescriptorAt(vmm::GuestAddress table, uint64_t index,
                                        const Descriptor& descriptor) {
  Write(At(table, kDescriptorBytes * index), EncodeDescriptor(descriptor));
}

void FakeDriverQueue::WriteRaw(vmm::GuestAddress table, uint64_t index,
                               const RawDescriptor& descriptor) {
  WriteDescriptorAt(table, index,
                    {.address = descriptor.address,
                     .length = descriptor.length,
                     .flags = descriptor.flags});
}

void FakeDriverQueue::PublishRaw(const RawDescriptor& descriptor) {
  const uint16_t head = free_count_ == 0 ? uint16_t{0} : free_head_;
  WriteRaw(config_.desc, head, descriptor);
  Publish(head);
}

void FakeDriverQueue::SetAvailEntry(uint16_t slot, uint16_t head) {
  Store(config_.driver, kAvailRing + kAvailEntryBytes * (slot % config_.size),
        head, std::memory_order_relaxed);
}

void FakeDriverQueue::SetAvailIdx(uint16_t idx) {
  avail_idx_ = idx;
  Store(config_.driver, kAvailIdx, idx, std::memory_order_release);
}

void FakeDriverQueue::SetAvailFlags(uint16_t flags) {
  Store(config_.driver, kAvailFlags, flags, std::memory_order_relaxed);
}

void FakeDriverQueue::SetUsedEvent(uint16_t event) {
  Store(config_.driver, UsedEventOffset(config_.size), event,
        std::memory_order_relaxed);
}

void FakeDriverQueue::Publish(uint16_t head) {
  SetAvailEntry(avail_idx_, head);
  SetAvailIdx(static_cast<uint16_t>(avail_idx_ + 1));
}

uint16_t FakeDriverQueue::UsedIdx() {
  return Load(config_.device, kUsedIdx, std::memory_order_acquire);
}

uint16_t FakeDriverQueue::UsedFlags() {
  return Load(config_.device, kUsedFlags, std::memory_order_relaxed);
}

uint16_t FakeDriverQueue::AvailEvent() {
  return Load(config_.device, AvailEventOffset(config_.size),
              std::memory_order_relaxed);
}

FakeDriverQueue::Used FakeDriverQueue::UsedEntry(uint16_t slot) {
  UsedEntryBytes bytes;
  Read(At(config_.device, kUsedRing + kUsedEntryBytes * (slot % config_.size)),
       bytes);
  const std::span<const std::byte, kUsedEntryBytes> all(bytes);
  return {.id = LoadLittle<uint32_t>(all.subspan<0, 4>()),
          .length = LoadLittle<uint32_t>(all.subspan<4, 4>())};
}

}  // namespace vmsg::virtio
