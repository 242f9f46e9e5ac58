#include "guest/driver/virtqueue.h"

#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

// Parts of a queue lie on cache lines of their own: the device writes only one
// of them.
constexpr uint64_t kAlignment = 64;

// Source: virtio 1.2, 2.7.5.2.
constexpr uint64_t kMaxChainBytes = uint64_t{1} << 32;

// Whether a device may get the chain, and how much of it it may write.
bool IsValidChain(std::span<const QueueBuffer> buffers, uint32_t* writable) {
  uint64_t read = 0;
  uint64_t written = 0;
  for (const QueueBuffer& buffer : buffers) {
    if (buffer.bytes == 0) return false;
    if (buffer.device_writes) {
      written += buffer.bytes;
    } else if (written != 0) {
      return false;
    } else {
      read += buffer.bytes;
    }
    if (written > UINT32_MAX || read + written > kMaxChainBytes) return false;
  }
  *writable = static_cast<uint32_t>(written);
  return !buffers.empty();
}

}  // namespace

uint64_t Virtqueue::ArenaBytes(const QueueOptions& options) {
  const uint64_t size = options.size;
  // The rings of the split format are the larger ones: flags, index, an element
  // for each descriptor, event word.
  const uint64_t rings = (6 + 2 * size) + (6 + 8 * size);
  return kDescriptorBytes * size * (1 + options.indirect_buffers) + rings +
         ChainTable::ArenaBytes(options.size) + 4 * kAlignment;
}

Error Virtqueue::Create(const QueueOptions& options, Arena* arena) {
  options_ = {};
  const uint32_t size = options.size;
  if (size == 0 || size > kMaxSize || !SizeIsValid(size) ||
      options.indirect_buffers > kMaxSize) {
    return Error::kInvalidArgument;
  }
  const AreaBytes bytes = BytesOfAreas(size);
  const DmaMemory descriptors =
      arena->Allocate(kDescriptorBytes * size, kAlignment);
  const DmaMemory driver = arena->Allocate(bytes.driver, kAlignment);
  const DmaMemory device = arena->Allocate(bytes.device, kAlignment);
  tables_ = {};
  if (options.indirect_buffers != 0) {
    tables_ = arena->Allocate(
        kDescriptorBytes * size * options.indirect_buffers, kAlignment);
  }
  if (descriptors.data == nullptr || driver.data == nullptr ||
      device.data == nullptr ||
      (options.indirect_buffers != 0 && tables_.data == nullptr) ||
      !chains_.Create(size, options.in_order, arena)) {
    return Error::kNoMemory;
  }
  ZeroShared(descriptors.data, descriptors.bytes);
  ZeroShared(driver.data, driver.bytes);
  ZeroShared(device.data, device.bytes);
  descriptors_ = descriptors.data;
  driver_ = driver.data;
  device_ = device.data;
  areas_ = {descriptors.address, driver.address, device.address};
  options_ = options;
  fault_ = QueueFault::kNone;
  interrupts_ = true;
  Begin();
  WriteInterruptWish(true);
  return Error::kNone;
}

void Virtqueue::WriteBuffer(std::byte* where, const QueueBuffer& buffer) {
  StoreRelaxed<uint64_t>(where, buffer.address);
  StoreRelaxed<uint32_t>(where + 8, buffer.bytes);
}

Error Virtqueue::Add(std::span<const QueueBuffer> buffers, uint64_t cookie) {
  if (broken()) return Error::kQueueBroken;
  uint32_t writable = 0;
  if (size() == 0 || !IsValidChain(buffers, &writable)) {
    return Error::kInvalidArgument;
  }
  const bool indirect =
      buffers.size() > 1 && buffers.size() <= options_.indirect_buffers;
  const size_t descriptors = indirect ? 1 : buffers.size();
  if (descriptors > free_descriptors()) return Error::kQueueFull;

  const uint16_t id = chains_.TakeId();
  QueueBuffer table;
  if (indirect) {
    const uint64_t offset = kDescriptorBytes * options_.indirect_buffers * id;
    for (size_t i = 0; i < buffers.size(); ++i) {
      WriteTableEntry(tables_.data + offset + kDescriptorBytes * i, buffers[i],
                      static_cast<uint16_t>(i), i + 1 == buffers.size());
    }
    table = {.address = tables_.address + offset,
             .bytes = static_cast<uint32_t>(kDescriptorBytes * buffers.size())};
    buffers = std::span(&table, 1);
  }
  const uint16_t ids = Write(id, buffers, indirect);
  chains_.Add(id, {.cookie = cookie,
                   .writable = writable,
                   .ids = ids,
                   .descriptors = static_cast<uint16_t>(descriptors)});
  return Error::kNone;
}

bool Virtqueue::Publish() {
  if (broken() || chains_.unpublished() == 0) return false;
  chains_.Publish();
  return Show();
}

Error Virtqueue::Take(UsedChain* chain) {
  if (broken()) return Error::kQueueBroken;
  if (size() == 0) return Error::kNotFound;
  if (chains_.due() == 0) {
    fault_ = Look();
    if (broken()) return Error::kQueueBroken;
    if (chains_.due() == 0) return Error::kNotFound;
  }
  Advance(chains_.Next(chain));
  if (interrupts_ && options_.event_index && chains_.due() == 0) {
    WriteInterruptWish(true);
    // Before the next look at the ring: one of the two sides sees.
    FullBarrier();
  }
  return Error::kNone;
}

void Virtqueue::EnableInterrupts(bool on) {
  interrupts_ = on;
  if (size() == 0) return;
  WriteInterruptWish(on);
  FullBarrier();
}

}  // namespace vmsg::guest
