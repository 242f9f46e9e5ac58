#include "devices/virtio/queue/virtqueue.h"

#include <algorithm>
#include <bit>
#include <string>
#include <string_view>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_format.h"
#include "devices/virtio/queue/packed_virtqueue.h"
#include "devices/virtio/queue/split_virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"

namespace vmsg::virtio {
namespace {

// Runs `copy(address, from, length)` for each piece of `segments` that holds
// bytes [offset, offset + length) of them; stops at the first failure.
template <typename Copy>
vmm::DmaResult ForEachPiece(std::span<const Segment> segments, uint64_t offset,
                            size_t length, size_t* copied, const Copy& copy) {
  *copied = 0;
  size_t done = 0;
  for (const Segment& segment : segments) {
    if (done == length) break;
    if (offset >= segment.length) {
      offset -= segment.length;
      continue;
    }
    const size_t piece =
        std::min<uint64_t>(segment.length - offset, length - done);
    const vmm::DmaResult result =
        copy(vmm::GuestAddress{segment.address.value + offset}, done, piece);
    if (result != vmm::DmaResult::kOk) return result;
    done += piece;
    offset = 0;
  }
  *copied = done;
  return vmm::DmaResult::kOk;
}

// What the device does with an area.
enum class Use { kRead, kWrite, kReadAndWrite };

// Behind a translator memory may be writable and not readable.
vmm::DmaResult CheckUse(vmm::GuestRange range, Use use, vmm::DmaSpace* dma) {
  if (use != Use::kWrite) {
    const vmm::DmaResult result = dma->Check(range, /*writable=*/false);
    if (result != vmm::DmaResult::kOk || use == Use::kRead) return result;
  }
  return dma->Check(range, /*writable=*/true);
}

absl::Status CheckArea(std::string_view name, vmm::GuestAddress start,
                       uint64_t bytes, uint64_t align, Use use,
                       vmm::DmaSpace* dma) {
  const auto refuse = [&](std::string_view why) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%s area [%#x,+%#x) %s", std::string(name), start.value,
                        bytes, std::string(why)));
  };
  if (start.value % align != 0) return refuse("is not aligned");
  switch (CheckUse({start, bytes}, use, dma)) {
    case vmm::DmaResult::kOk:
      return absl::OkStatus();
    case vmm::DmaResult::kOutside:
      return refuse("is not in guest memory");
    case vmm::DmaResult::kReadOnly:
      return refuse("is in read-only memory");
    case vmm::DmaResult::kDisabled:
      return refuse("can't be reached: DMA is disabled");
  }
  return refuse("can't be reached");
}

}  // namespace

DescriptorChain::DescriptorChain(DescriptorChain&& other) noexcept
    : segments_(std::move(other.segments_)),
      readable_count_(std::exchange(other.readable_count_, 0)),
      readable_bytes_(std::exchange(other.readable_bytes_, 0)),
      writable_bytes_(std::exchange(other.writable_bytes_, 0)),
      id_(other.id_),
      descriptors_(other.descriptors_),
      turn_(other.turn_),
      valid_(std::exchange(other.valid_, false)) {
  other.segments_.clear();
}

DescriptorChain& DescriptorChain::operator=(DescriptorChain&& other) noexcept {
  if (this == &other) return *this;
  segments_ = std::move(other.segments_);
  other.segments_.clear();
  readable_count_ = std::exchange(other.readable_count_, 0);
  readable_bytes_ = std::exchange(other.readable_bytes_, 0);
  writable_bytes_ = std::exchange(other.writable_bytes_, 0);
  id_ = other.id_;
  descriptors_ = other.descriptors_;
  turn_ = other.turn_;
  valid_ = std::exchange(other.valid_, false);
  return *this;
}

vmm::DmaResult DescriptorChain::Read(vmm::DmaSpace* dma, uint64_t offset,
                                     std::span<std::byte> to,
                                     size_t* copied) const {
  return ForEachPiece(readable(), offset, to.size(), copied,
                      [&](vmm::GuestAddress from, size_t done, size_t piece) {
                        return dma->Read(from, to.subspan(done, piece));
                      });
}

vmm::DmaResult DescriptorChain::Write(vmm::DmaSpace* dma, uint64_t offset,
                                      std::span<const std::byte> from,
                                      size_t* copied) const {
  return ForEachPiece(writable(), offset, from.size(), copied,
                      [&](vmm::GuestAddress to, size_t done, size_t piece) {
                        return dma->Write(to, from.subspan(done, piece));
                      });
}

std::string_view QueueFaultName(QueueFault fault) {
  switch (fault) {
    case QueueFault::kNone:
      return "no fault";
    case QueueFault::kRingOutsideMemory:
      return "ring area not in guest memory";
    case QueueFault::kTooManyAvailable:
      return "more available entries than the queue has";
    case QueueFault::kHeadOutOfRange:
      return "descriptor index out of range";
    case QueueFault::kNotAvailable:
      return "descriptor chain goes on where nothing is available";
    case QueueFault::kChainTooLong:
      return "descriptor chain longer than the queue";
    case QueueFault::kZeroLength:
      return "descriptor of length 0";
    case QueueFault::kBufferOutsideMemory:
      return "buffer not in guest memory";
    case QueueFault::kBufferReadOnly:
      return "writable buffer in read-only memory";
    case QueueFault::kReadableAfterWritable:
      return "readable descriptor after a writable one";
    case QueueFault::kTooManyBytes:
      return "4 GiB or more in one chain";
    case QueueFault::kTooManySegments:
      return "too many buffers in flight";
    case QueueFault::kBadIndirect:
      return "bad indirect descriptor";
    case QueueFault::kDmaDisabled:
      return "DMA is disabled";
  }
  return "unknown fault";
}

absl::Status CheckQueueConfig(const QueueConfig& config, uint32_t max_size,
                              const Features& features, vmm::DmaSpace* dma) {
  if (config.size == 0 || config.size > max_size ||
      config.size > kMaxQueueSize) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "queue size %u is not from 1 to %u", config.size, max_size));
  }
  const bool packed = features.Has(kFeatureRingPacked);
  if (!packed && !std::has_single_bit(config.size)) {
    return absl::InvalidArgumentError(
        absl::StrFormat("queue size %u is not a power of two", config.size));
  }
  const uint64_t driver_bytes =
      packed ? kPackedEventBytes : SplitDriverBytes(config.size);
  const uint64_t device_bytes =
      packed ? kPackedEventBytes : SplitDeviceBytes(config.size);
  absl::Status status =
      CheckArea("descriptor", config.desc, kDescriptorBytes * config.size,
                kDescAlign, packed ? Use::kReadAndWrite : Use::kRead, dma);
  if (status.ok()) {
    status = CheckArea("driver", config.driver, driver_bytes,
                       packed ? kPackedEventAlign : kSplitDriverAlign,
                       Use::kRead, dma);
  }
  if (status.ok()) {
    status = CheckArea("device", config.device, device_bytes,
                       packed ? kPackedEventAlign : kSplitDeviceAlign,
                       Use::kWrite, dma);
  }
  return status;
}

absl::StatusOr<std::unique_ptr<Virtqueue>> CreateVirtqueue(
    uint16_t index, const QueueConfig& config, uint32_t max_size,
    const Features& features, vmm::DmaSpace* dma,
    std::optional<Virtqueue::Position> position) {
  if (absl::Status status = CheckQueueConfig(config, max_size, features, dma);
      !status.ok()) {
    return status;
  }
  if (position.has_value() && position->next_avail != position->next_used) {
    return absl::InvalidArgumentError(
        absl::StrFormat("positions %u and %u differ: chains are owed",
                        position->next_avail, position->next_used));
  }
  if (!features.Has(kFeatureRingPacked)) {
    return std::make_unique<SplitVirtqueue>(
        index, config, features, dma, position.value_or(Virtqueue::Position{}));
  }
  // The wrap counter is 1 at first. Source: virtio 1.2, 2.8.1.
  PackedCursor start;
  if (position.has_value()) {
    start = PackedCursor::Decode(position->next_avail);
    if (start.slot >= config.size) {
      return absl::InvalidArgumentError(absl::StrFormat(
          "position %u is not in a queue of %u", start.slot, config.size));
    }
  }
  return std::make_unique<PackedVirtqueue>(index, config, features, dma, start);
}

}  // namespace vmsg::virtio
