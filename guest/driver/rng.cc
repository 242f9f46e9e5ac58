#include "guest/driver/rng.h"

#include "guest/driver/platform.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

constexpr uint16_t kRequestQueue = 0;
// A request is two buffers, where indirect descriptors make that one: so the
// example driver shows the whole of the queue.
constexpr uint32_t kBuffersOfRequest = 2;

uint32_t QueueSize(const RngOptions& options) {
  uint32_t size = 1;
  while (size < options.requests) size *= 2;
  return size;
}

}  // namespace

uint64_t Rng::ArenaBytes(const RngOptions& options) {
  return Virtqueue::ArenaBytes({.size = QueueSize(options),
                                .indirect_buffers = kBuffersOfRequest}) +
         uint64_t{options.requests} * options.request_bytes + 64;
}

Error Rng::Start(VirtioDevice* device, const RngOptions& options,
                 Arena* arena) {
  usable_ = false;
  device_ = device;
  if (options.requests == 0 || options.requests > kMaxRequests ||
      options.request_bytes == 0 ||
      device->info().device_id != kDeviceIdEntropy) {
    return Error::kInvalidArgument;
  }
  options_ = options;
  asked_ = {};
  constexpr Features kSupported = kRngFeatures.With(kFeatureRingPacked);
  if (const Error error = device->Negotiate(options.features & kSupported, {});
      error != Error::kNone) {
    return error;
  }
  if (const Error error = device->SetUpQueue(kRequestQueue, QueueSize(options),
                                             kBuffersOfRequest, arena, &queue_);
      error != Error::kNone) {
    return error;
  }
  buffers_ =
      arena->Allocate(uint64_t{options.requests} * options.request_bytes, 64);
  if (buffers_.data == nullptr) return Error::kNoMemory;
  if (const Error error = device->Start(); error != Error::kNone) {
    return error;
  }
  usable_ = true;
  return Error::kNone;
}

Error Rng::Submit(uint64_t* missing, uint32_t* requests) {
  for (uint32_t i = 0; i < options_.requests && *missing != 0; ++i) {
    if (asked_[i] != 0) continue;
    const auto bytes = static_cast<uint32_t>(
        *missing < options_.request_bytes ? *missing : options_.request_bytes);
    const uint64_t address =
        buffers_.address + uint64_t{i} * options_.request_bytes;
    const uint32_t half = bytes / 2;
    const std::array<QueueBuffer, kBuffersOfRequest> two = {
        QueueBuffer{address, half, true},
        QueueBuffer{address + half, bytes - half, true}};
    const QueueBuffer one = {address, bytes, true};
    // No chain is longer than the queue, behind an indirect descriptor either.
    const bool split = half != 0 && queue_->size() >= kBuffersOfRequest &&
                       device_->features().Has(kFeatureIndirectDesc);
    const Error error =
        split ? queue_->Add(two, i) : queue_->Add(std::span(&one, 1), i);
    if (error == Error::kQueueFull && queue_->outstanding() != 0) break;
    if (error != Error::kNone) return error;
    asked_[i] = bytes;
    *missing -= bytes;
    ++*requests;
  }
  return queue_->Publish() ? device_->Notify(kRequestQueue, *queue_)
                           : Error::kNone;
}

Error Rng::Reap(std::span<std::byte> out, uint64_t* received,
                uint64_t* missing) {
  UsedChain chain;
  if (const Error error = queue_->Take(&chain); error != Error::kNone) {
    return error;
  }
  const auto i = static_cast<uint32_t>(chain.cookie);
  if (chain.written == 0) return Error::kDeviceError;
  // The queue has checked `written` against what was asked for.
  CopyFromShared(out.data() + *received,
                 buffers_.data + uint64_t{i} * options_.request_bytes,
                 chain.written);
  *received += chain.written;
  *missing += asked_[i] - chain.written;
  asked_[i] = 0;
  return Error::kNone;
}

Error Rng::Read(std::span<std::byte> out, uint64_t* received,
                uint32_t* requests) {
  *received = 0;
  *requests = 0;
  if (!usable_) return Error::kNeedsReset;
  const Error error = ReadAll(out, received, requests);
  usable_ = error == Error::kNone;
  return error;
}

Error Rng::ReadAll(std::span<std::byte> out, uint64_t* received,
                   uint32_t* requests) {
  Bus* const bus = device_->bus();
  Platform* const platform = bus->platform();
  uint64_t missing = out.size();
  uint64_t deadline = DeadlineAfter(platform->NowNs(), bus->timeout_ns());
  while (*received < out.size()) {
    if (const Error error = Submit(&missing, requests); error != Error::kNone) {
      return error;
    }
    const uint64_t seen = platform->InterruptCount(bus->interrupt());
    // One queue: which one it was is known. The ring is looked at when the
    // device has said so, as on an interrupt.
    const bool used = device_->TakeUsed() != 0;
    if (device_->needs_reset()) return Error::kNeedsReset;
    bool progress = false;
    Error error = Error::kNotFound;
    while (used && (error = Reap(out, received, &missing)) == Error::kNone) {
      progress = true;
    }
    if (error != Error::kNotFound) return error;
    const uint64_t now = platform->NowNs();
    if (progress) {
      deadline = DeadlineAfter(now, bus->timeout_ns());
      continue;
    }
    if (now >= deadline) return Error::kTimeout;
    platform->WaitForInterrupt(bus->interrupt(), seen, deadline);
  }
  return Error::kNone;
}

}  // namespace vmsg::guest
