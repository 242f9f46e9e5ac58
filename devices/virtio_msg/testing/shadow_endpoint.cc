#include "devices/virtio_msg/testing/shadow_endpoint.h"

#include <algorithm>
#include <bit>

namespace vmsg::msg {
namespace {

// Source: virtio 1.2, 2.1 and 6.
constexpr uint32_t kAcknowledge = 1;
constexpr uint32_t kDriver = 2;
constexpr uint32_t kDriverOk = 4;
constexpr uint32_t kFeaturesOk = 8;
constexpr uint32_t kNeedsReset = 64;
constexpr uint32_t kFailed = 128;
constexpr uint32_t kIndirectDesc = 28;
constexpr uint32_t kEventIdx = 29;
constexpr uint32_t kVersion1 = 32;
constexpr uint32_t kRingReset = 40;
constexpr uint32_t kSomeHighBit = 70;

// Bits from here on are forgotten by a reset only; nothing offers them.
constexpr uint64_t kBitsTakenBack = 32 * 68;

Bytes Append(const Payload& payload, std::span<const std::byte> data) {
  Bytes bytes = payload.bytes();
  bytes.insert(bytes.end(), data.begin(), data.end());
  return bytes;
}

}  // namespace

const std::set<uint32_t>& ShadowEndpoint::Offered() {
  static const auto& bits = *new std::set<uint32_t>{
      kIndirectDesc, kEventIdx, kVersion1, kRingReset, kSomeHighBit};
  return bits;
}

const std::set<uint32_t>& ShadowEndpoint::Required() {
  static const auto& bits = *new std::set<uint32_t>{kVersion1, kIndirectDesc};
  return bits;
}

Bytes ShadowEndpoint::GetDeviceInfo() const {
  const uint32_t blocks = *Offered().rbegin() / 32 + 1;
  return Payload()
      .U32(kDeviceId)
      .U32(kVendorId)
      .U32(32 * blocks)
      .U32(kConfigSize)
      .U32(kNumQueues)
      .U16(0)
      .U16(0)
      .bytes();
}

Bytes ShadowEndpoint::GetDeviceFeatures(uint32_t block, uint32_t count) const {
  const uint32_t fits = (kMaxMessageBytes - 16) / 4;
  const uint32_t words = std::min(count, fits);
  Payload payload;
  payload.U32(block).U32(words);
  for (uint32_t k = 0; k < words; ++k) {
    uint32_t word = 0;
    for (const uint64_t bit : Offered()) {
      if (bit / 32 == uint64_t{block} + k) word |= uint32_t{1} << (bit % 32);
    }
    payload.U32(word);
  }
  return payload.bytes();
}

void ShadowEndpoint::SetDriverFeatures(uint32_t block,
                                       std::span<const uint32_t> words) {
  if (has(kFeaturesOk)) return;
  for (size_t k = 0; k < words.size(); ++k) {
    for (uint32_t i = 0; i < 32; ++i) {
      const uint64_t bit = 32 * (uint64_t{block} + k) + i;
      if ((words[k] >> i & 1) != 0) {
        acked_.insert(bit);
      } else if (bit < kBitsTakenBack) {
        acked_.erase(bit);
      }
    }
  }
}

Bytes ShadowEndpoint::GetConfig(uint32_t offset, uint32_t length) const {
  const bool fits = length <= kMaxMessageBytes - 20 &&
                    uint64_t{offset} + length <= kConfigSize;
  const Payload head =
      Payload().U32(generation_).U32(offset).U32(fits ? length : 0);
  if (!fits) return head.bytes();
  return Append(head, std::span(config_).subspan(offset, length));
}

Bytes ShadowEndpoint::SetConfig(uint32_t generation, uint32_t offset,
                                std::span<const std::byte> data) {
  const bool applied = generation == generation_ && !data.empty() &&
                       offset >= kReadOnlyConfigBytes &&
                       uint64_t{offset} + data.size() <= kConfigSize;
  if (applied) std::copy(data.begin(), data.end(), config_.begin() + offset);
  return Payload()
      .U32(generation_)
      .U32(offset)
      .U32(applied ? static_cast<uint32_t>(data.size()) : 0)
      .bytes();
}

bool ShadowEndpoint::FeaturesAcceptable() const {
  return std::ranges::all_of(
             acked_,
             [](uint64_t bit) {
               return bit <= UINT32_MAX &&
                      Offered().contains(static_cast<uint32_t>(bit));
             }) &&
         std::ranges::all_of(Required(),
                             [this](uint32_t bit) { return acked(bit); });
}

bool ShadowEndpoint::WouldActivate(uint32_t status) const {
  const uint32_t bits = status & 0xFF;
  const bool driver = has(kDriver) || (bits & kDriver) != 0;
  const bool negotiated = has(kFeaturesOk) || ((bits & kFeaturesOk) != 0 &&
                                               driver && FeaturesAcceptable());
  return bits != 0 && (bits & kDriverOk) != 0 && negotiated &&
         (bits & kFailed) == 0 && !has(kDriverOk | kNeedsReset | kFailed);
}

Bytes ShadowEndpoint::SetStatus(uint32_t status, bool activation_fails,
                                std::optional<Bytes>* event) {
  const uint32_t bits = status & 0xFF;
  if (bits == 0) {
    status_ = 0;
    acked_.clear();
    queues_.assign(kNumQueues, {});
    if (config_ != initial_config_) {
      config_ = initial_config_;
      ++generation_;
      *event = ConfigEvent(kReadOnlyConfigBytes,
                           std::span(config_).subspan(kReadOnlyConfigBytes));
    }
    return Status();
  }
  const bool activates = WouldActivate(status);
  status_ |= bits & (kAcknowledge | kDriver | kFailed);
  if ((bits & kFeaturesOk) != 0 && has(kDriver) && FeaturesAcceptable()) {
    status_ |= kFeaturesOk;
  }
  if (activates && activation_fails) {
    status_ |= kNeedsReset;
    *event = StatusEvent();
  } else if (activates) {
    status_ |= kDriverOk;
  }
  return Status();
}

Bytes ShadowEndpoint::GetVqueue(uint32_t index) const {
  const bool exists = index < kNumQueues;
  const Queue queue = exists ? queues_[index] : Queue();
  return Payload()
      .U32(index)
      .U32(exists ? kMaxQueueSize : 0)
      .U32(queue.size)
      .U32(0)
      .U64(queue.desc)
      .U64(queue.driver)
      .U64(queue.device)
      .bytes();
}

bool ShadowEndpoint::InMemory(uint64_t address, uint64_t length,
                              uint64_t alignment) {
  return address % alignment == 0 && address <= kMemoryBytes &&
         length <= kMemoryBytes - address;
}

void ShadowEndpoint::SetVqueue(uint32_t index, uint32_t size, uint64_t desc,
                               uint64_t driver, uint64_t device) {
  if (index >= kNumQueues || !has(kFeaturesOk)) return;
  Queue& queue = queues_[index];
  if (has(kDriverOk) && (queue.size != 0 || has(kNeedsReset))) return;
  if (!std::has_single_bit(size) || size > kMaxQueueSize) return;
  if (!InMemory(desc, uint64_t{16} * size, 16) ||
      !InMemory(driver, 6 + uint64_t{2} * size, 2) ||
      !InMemory(device, 6 + uint64_t{8} * size, 4)) {
    return;
  }
  queue = {.size = size, .desc = desc, .driver = driver, .device = device};
}

void ShadowEndpoint::ResetVqueue(uint32_t index) {
  if (index < kNumQueues && has(kFeaturesOk) && acked(kRingReset)) {
    queues_[index] = {};
  }
}

Bytes ShadowEndpoint::GetShm(uint32_t index) const {
  const bool exists = index == 0;
  return Payload()
      .U32(index)
      .U32(exists ? kShmLength : 0)
      .U32(exists ? static_cast<uint32_t>(kShmAddress) : 0)
      .bytes();
}

Bytes ShadowEndpoint::ChangeConfig(uint32_t offset,
                                   std::span<const std::byte> data) {
  std::copy(data.begin(), data.end(), config_.begin() + offset);
  std::copy(data.begin(), data.end(), initial_config_.begin() + offset);
  ++generation_;
  return ConfigEvent(offset, data);
}

Bytes ShadowEndpoint::ConfigEvent(uint32_t offset,
                                  std::span<const std::byte> data) const {
  return Append(Payload()
                    .U32(status_)
                    .U32(generation_)
                    .U32(data.empty() ? 0 : offset)
                    .U32(static_cast<uint32_t>(data.size())),
                data);
}

std::optional<Bytes> ShadowEndpoint::NeedsReset() {
  if (has(kNeedsReset)) return std::nullopt;
  status_ |= kNeedsReset;
  return StatusEvent();
}

Bytes ShadowEndpoint::StatusEvent() const {
  return Payload().U32(status_).U32(generation_).U32(0).U32(0).bytes();
}

}  // namespace vmsg::msg
