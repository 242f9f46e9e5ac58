#include "guest/driver/virtio_device.h"

#include "guest/driver/platform.h"

namespace vmsg::guest {
namespace {

// Bytes of GET_CONFIG's answer and of SET_CONFIG before the data.
constexpr size_t kConfigOverhead = 20;
constexpr size_t kFeatureOverhead = 16;

// Reads at one generation are tried this often: a device that changes its
// configuration faster than we can read it is not waited for.
constexpr int kConfigTries = 8;

// Between two looks at a reset that takes time.
constexpr uint64_t kResetPollNs = 1'000'000;

uint32_t LargestPowerOfTwoUpTo(uint32_t value) {
  uint32_t result = 1;
  while (result <= value / 2) result *= 2;
  return result;
}

}  // namespace

std::span<std::byte> VirtioDevice::Out(Packet* packet) const {
  return std::span(packet->bytes).first(bus_->max_message_bytes());
}

// --- Events. ---

void VirtioDevice::OnUsed(uint32_t queue) {
  if (queue < kMaxQueues) used_ |= uint64_t{1} << queue;
}

void VirtioDevice::OnConfig(const ConfigEvent& event) {
  if ((event.status & kStatusNeedsReset) != 0) needs_reset_ = true;
  const bool status_only = event.generation == generation_ &&
                           event.length == 0 && event.data.empty();
  if (status_only) return;
  config_changed_ = true;
  ++config_events_;
  const bool in_order =
      mirror_valid_ && !event.data.empty() &&
      uint64_t{event.offset} + event.data.size() <= mirrored() &&
      event.generation == generation_ + 1;
  generation_ = event.generation;
  if (!in_order) {
    // Without data, or after events that we have not seen: read it when it is
    // wanted, and before anything is written.
    mirror_valid_ = false;
    config_unread_ = true;
    return;
  }
  for (size_t i = 0; i < event.data.size(); ++i) {
    mirror_[event.offset + i] = event.data[i];
  }
}

uint64_t VirtioDevice::TakeUsed() {
  // A broken FIFO shows in the next request.
  if (bus_ != nullptr && bus_->Poll() != Error::kNone) needs_reset_ = true;
  const uint64_t used = used_;
  used_ = 0;
  return used;
}

// --- Set-up. ---

Error VirtioDevice::Probe(Bus* bus, uint16_t number) {
  if (number >= Bus::kDeviceNumbers) return Error::kInvalidArgument;
  Detach();
  bus_ = bus;
  number_ = number;
  Packet packet;
  EncodeGetDeviceInfo(number, Out(&packet));
  Error error = bus->Call(packet.bytes, &packet);
  DeviceInfo info;
  if (error == Error::kNone && !DecodeDeviceInfo(packet.bytes, &info)) {
    error = Error::kBadAnswer;
  }
  if (error == Error::kNone && info.device_id == 0) error = Error::kNotFound;
  if (error != Error::kNone) {
    bus_ = nullptr;
    return error;
  }
  info_ = info;
  features_ = {};
  status_ = 0;
  queues_ = 0;
  used_ = 0;
  needs_reset_ = false;
  generation_ = 0;
  mirror_valid_ = false;
  config_unread_ = true;
  config_changed_ = false;
  bus->Listen(number, this);
  return Error::kNone;
}

void VirtioDevice::Detach() {
  if (bus_ == nullptr) return;
  bus_->StopListening(number_);
  bus_ = nullptr;
}

Error VirtioDevice::SetStatus(uint32_t status, uint32_t* result) {
  Packet packet;
  EncodeSetDeviceStatus(number_, status, Out(&packet));
  if (const Error error = bus_->Call(packet.bytes, &packet);
      error != Error::kNone) {
    return error;
  }
  if (!DecodeStatus(packet.bytes, result)) return Error::kBadAnswer;
  if ((*result & kStatusNeedsReset) != 0) needs_reset_ = true;
  // The bit is the device's: it is not sent back.
  status_ = *result & ~kStatusNeedsReset;
  return Error::kNone;
}

Error VirtioDevice::ReadStatus(uint32_t* status) {
  Packet packet;
  EncodeGetDeviceStatus(number_, Out(&packet));
  if (const Error error = bus_->Call(packet.bytes, &packet);
      error != Error::kNone) {
    return error;
  }
  if (!DecodeStatus(packet.bytes, status)) return Error::kBadAnswer;
  if ((*status & kStatusNeedsReset) != 0) needs_reset_ = true;
  return Error::kNone;
}

Error VirtioDevice::Reset() {
  Platform* const platform = bus_->platform();
  const uint64_t deadline =
      DeadlineAfter(platform->NowNs(), bus_->timeout_ns());
  uint32_t status;
  Error error = SetStatus(0, &status);
  // A device may answer before it is done: the status is 0 when it is.
  while (error == Error::kNone && status != 0) {
    const uint64_t now = platform->NowNs();
    if (now >= deadline) return Error::kTimeout;
    platform->WaitForInterrupt(bus_->interrupt(),
                               platform->InterruptCount(bus_->interrupt()),
                               DeadlineAfter(now, kResetPollNs));
    error = ReadStatus(&status);
  }
  if (error != Error::kNone) return error;
  features_ = {};
  status_ = 0;
  queues_ = 0;
  used_ = 0;
  needs_reset_ = false;
  mirror_valid_ = false;
  return Error::kNone;
}

Error VirtioDevice::Fail() {
  uint32_t status;
  return SetStatus(status_ | kStatusFailed, &status);
}

Error VirtioDevice::ReadFeatures(Features* offered) {
  const auto per_message =
      static_cast<uint32_t>((bus_->max_message_bytes() - kFeatureOverhead) / 4);
  const uint32_t blocks = info_.num_feature_bits / 32;
  const uint32_t wanted =
      blocks < Features::kBlocks ? blocks : Features::kBlocks;
  uint32_t block = 0;
  while (block < wanted) {
    const uint32_t left = wanted - block;
    const uint32_t asked = left < per_message ? left : per_message;
    Packet packet;
    EncodeGetDeviceFeatures(number_, block, asked, Out(&packet));
    if (const Error error = bus_->Call(packet.bytes, &packet);
        error != Error::kNone) {
      return error;
    }
    FeatureBlocks answer;
    if (!DecodeDeviceFeatures(packet.bytes, &answer) ||
        answer.block_index != block || answer.num_blocks == 0 ||
        answer.num_blocks > asked) {
      return Error::kBadAnswer;
    }
    for (uint32_t i = 0; i < answer.num_blocks; ++i) {
      offered->set_block(block + i, FeatureWord(answer, i));
    }
    block += answer.num_blocks;
  }
  return Error::kNone;
}

Error VirtioDevice::WriteFeatures(const Features& features) {
  // All blocks fit into one message of the smallest size allowed.
  static_assert(kFeatureOverhead + size_t{4} * Features::kBlocks <=
                kMinMaxMessageBytes);
  const uint32_t blocks = info_.num_feature_bits / 32;
  Packet packet;
  EncodeSetDriverFeatures(
      number_, 0, blocks < Features::kBlocks ? blocks : Features::kBlocks,
      features, Out(&packet));
  return bus_->Call(packet.bytes, &packet);
}

Error VirtioDevice::Negotiate(const Features& supported,
                              const Features& required) {
  if (const Error error = Reset(); error != Error::kNone) return error;
  uint32_t status;
  if (const Error error = SetStatus(kStatusAcknowledge, &status);
      error != Error::kNone) {
    return error;
  }
  if (const Error error =
          SetStatus(kStatusAcknowledge | kStatusDriver, &status);
      error != Error::kNone) {
    return error;
  }
  Features offered;
  if (const Error error = ReadFeatures(&offered); error != Error::kNone) {
    return error;
  }
  Features wanted = supported & offered;
  if (offered.Has(kFeatureVersion1)) wanted.Set(kFeatureVersion1);
  // virtio 1.2, 6.1: without the feature a device is given guest-physical
  // addresses only, and the platform has none to give.
  const bool reachable =
      !bus_->platform()->translates_dma() || wanted.Has(kFeatureAccessPlatform);
  if (!wanted.Has(kFeatureVersion1) || !wanted.Contains(required) ||
      !reachable) {
    const Error error = Fail();
    return error == Error::kNone ? Error::kRefused : error;
  }
  if (const Error error = WriteFeatures(wanted); error != Error::kNone) {
    return error;
  }
  if (const Error error = SetStatus(status_ | kStatusFeaturesOk, &status);
      error != Error::kNone) {
    return error;
  }
  if ((status & kStatusFeaturesOk) == 0) {
    const Error error = Fail();
    return error == Error::kNone ? Error::kRefused : error;
  }
  features_ = wanted;
  return Error::kNone;
}

Error VirtioDevice::GetQueue(uint16_t index, Vqueue* vqueue) {
  Packet packet;
  EncodeGetVqueue(number_, index, Out(&packet));
  if (const Error error = bus_->Call(packet.bytes, &packet);
      error != Error::kNone) {
    return error;
  }
  if (!DecodeVqueue(packet.bytes, vqueue) || vqueue->index != index) {
    return Error::kBadAnswer;
  }
  return Error::kNone;
}

Error VirtioDevice::ResetQueue(uint16_t index) {
  if (index >= kMaxQueues || index >= info_.max_virtqueues) {
    return Error::kNotFound;
  }
  if (!features_.Has(kFeatureRingReset)) return Error::kRefused;
  // No notification for a queue that may be gone.
  queues_ &= ~(uint64_t{1} << index);
  Packet packet;
  EncodeResetVqueue(number_, index, Out(&packet));
  if (const Error error = bus_->Call(packet.bytes, &packet);
      error != Error::kNone) {
    return error;
  }
  // The answer is the same for success and failure: ask.
  Vqueue current;
  if (const Error error = GetQueue(index, &current); error != Error::kNone) {
    return error;
  }
  return current.size == 0 ? Error::kNone : Error::kRefused;
}

Error VirtioDevice::SetUpQueue(uint16_t index, uint32_t wanted,
                               uint32_t indirect_buffers, Arena* arena,
                               AnyVirtqueue* queue) {
  if (index >= kMaxQueues || index >= info_.max_virtqueues || wanted == 0) {
    return Error::kNotFound;
  }
  if ((status_ & kStatusFeaturesOk) == 0) return Error::kInvalidArgument;
  Vqueue current;
  if (const Error error = GetQueue(index, &current); error != Error::kNone) {
    return error;
  }
  if (current.max_size == 0) return Error::kNotFound;
  if (current.size != 0) {
    if (const Error error = ResetQueue(index); error != Error::kNone) {
      return error;
    }
  }

  const bool packed = features_.Has(kFeatureRingPacked);
  uint32_t size = wanted < current.max_size ? wanted : current.max_size;
  if (size > Virtqueue::kMaxSize) size = Virtqueue::kMaxSize;
  if (!packed) size = LargestPowerOfTwoUpTo(size);
  const QueueOptions options = {
      .size = size,
      .event_index = features_.Has(kFeatureEventIdx),
      .in_order = features_.Has(kFeatureInOrder),
      .indirect_buffers =
          features_.Has(kFeatureIndirectDesc) ? indirect_buffers : 0};
  queue->Choose(packed ? RingFormat::kPacked : RingFormat::kSplit);
  if (const Error error = (*queue)->Create(options, arena);
      error != Error::kNone) {
    return error;
  }
  const Vqueue settings = {.index = index,
                           .size = size,
                           .desc = (*queue)->areas().descriptors,
                           .driver = (*queue)->areas().driver,
                           .device = (*queue)->areas().device};
  Packet packet;
  EncodeSetVqueue(number_, settings, Out(&packet));
  if (const Error error = bus_->Call(packet.bytes, &packet);
      error != Error::kNone) {
    return error;
  }
  // The answer is the same for success and failure: ask.
  Vqueue confirmed;
  if (const Error error = GetQueue(index, &confirmed); error != Error::kNone) {
    return error;
  }
  if (confirmed.size != settings.size || confirmed.desc != settings.desc ||
      confirmed.driver != settings.driver ||
      confirmed.device != settings.device) {
    return Error::kRefused;
  }
  queues_ |= uint64_t{1} << index;
  return Error::kNone;
}

Error VirtioDevice::Start() {
  if ((status_ & kStatusFeaturesOk) == 0) return Error::kInvalidArgument;
  uint32_t status;
  if (const Error error = SetStatus(status_ | kStatusDriverOk, &status);
      error != Error::kNone) {
    return error;
  }
  if ((status & (kStatusNeedsReset | kStatusFailed)) != 0) {
    needs_reset_ = true;
    return Error::kNeedsReset;
  }
  return (status & kStatusDriverOk) != 0 ? Error::kNone : Error::kRefused;
}

// --- Operation. ---

Error VirtioDevice::Notify(uint16_t index, const Virtqueue& queue) {
  if (index >= kMaxQueues || (queues_ >> index & 1) == 0 ||
      (status_ & kStatusDriverOk) == 0) {
    return Error::kInvalidArgument;
  }
  const uint32_t position =
      features_.Has(kFeatureNotificationData) ? queue.position() : 0;
  Packet packet;
  const size_t size = EncodeEventAvail(number_, index, position, Out(&packet));
  return bus_->SendEvent(std::span(packet.bytes).first(size));
}

Error VirtioDevice::CheckHealth() {
  constexpr uint32_t kAnyValue = 0x50494e47;
  const Error ping = bus_->Ping(kAnyValue);
  if (ping == Error::kFifoBroken) return ping;
  if (ping != Error::kNone) {
    uint32_t status;
    if (const Error error = ReadStatus(&status); error != Error::kNone) {
      return error;
    }
  }
  return needs_reset_ ? Error::kNeedsReset : Error::kNone;
}

Error VirtioDevice::GetSharedMemory(uint32_t id, SharedMemoryInfo* info) {
  Packet packet;
  EncodeGetShm(number_, id, Out(&packet));
  if (const Error error = bus_->Call(packet.bytes, &packet);
      error != Error::kNone) {
    return error;
  }
  if (!DecodeShm(packet.bytes, info) || info->index != id) {
    return Error::kBadAnswer;
  }
  return info->length == 0 ? Error::kNotFound : Error::kNone;
}

// --- Configuration space. ---

bool VirtioDevice::InConfig(uint32_t offset, size_t length) const {
  return offset <= info_.config_size && length <= info_.config_size - offset;
}

uint32_t VirtioDevice::mirrored() const {
  return info_.config_size < kMaxConfig ? info_.config_size : kMaxConfig;
}

Error VirtioDevice::ReadChunk(uint32_t offset, std::span<std::byte> to,
                              uint32_t* generation) {
  Packet packet;
  EncodeGetConfig(number_, offset, static_cast<uint32_t>(to.size()),
                  Out(&packet));
  if (const Error error = bus_->Call(packet.bytes, &packet);
      error != Error::kNone) {
    return error;
  }
  ConfigData answer;
  if (!DecodeConfig(packet.bytes, &answer) || answer.offset != offset ||
      answer.length != to.size()) {
    return Error::kBadAnswer;
  }
  for (size_t i = 0; i < to.size(); ++i) to[i] = answer.data[i];
  *generation = answer.generation;
  return Error::kNone;
}

Error VirtioDevice::ReadConfig(uint32_t offset, std::span<std::byte> to) {
  if (to.empty() || !InConfig(offset, to.size())) {
    return Error::kInvalidArgument;
  }
  const size_t chunk = bus_->max_message_bytes() - kConfigOverhead;
  for (int i = 0; i < kConfigTries; ++i) {
    uint32_t first = 0;
    bool same = true;
    const uint32_t events = config_events_;
    for (size_t at = 0; at < to.size() && same; at += chunk) {
      const size_t left = to.size() - at;
      uint32_t generation;
      if (const Error error = ReadChunk(
              static_cast<uint32_t>(offset + at),
              to.subspan(at, left < chunk ? left : chunk), &generation);
          error != Error::kNone) {
        return error;
      }
      if (at == 0) first = generation;
      same = generation == first;
    }
    // An event that came meanwhile may be newer than what was read.
    if (same && events == config_events_) {
      // What the mirror holds is of another generation.
      if (first != generation_) mirror_valid_ = false;
      generation_ = first;
      config_unread_ = false;
      return Error::kNone;
    }
  }
  return Error::kStale;
}

Error VirtioDevice::RefreshMirror() {
  if (mirrored() == 0) {
    mirror_valid_ = true;
    return Error::kNone;
  }
  if (const Error error = ReadConfig(0, std::span(mirror_).first(mirrored()));
      error != Error::kNone) {
    return error;
  }
  mirror_valid_ = true;
  return Error::kNone;
}

Error VirtioDevice::ReadInsteadOfWrite() {
  const Error error = RefreshMirror();
  return error == Error::kNone ? Error::kStale : error;
}

Error VirtioDevice::WriteConfig(uint32_t offset,
                                std::span<const std::byte> from) {
  if (from.empty() || !InConfig(offset, from.size())) {
    return Error::kInvalidArgument;
  }
  const size_t chunk = bus_->max_message_bytes() - kConfigOverhead;
  const uint32_t events = config_events_;
  for (size_t at = 0; at < from.size(); at += chunk) {
    // The count would tell the device that `from` takes account of what has
    // changed.
    if (config_unread_ || events != config_events_) return ReadInsteadOfWrite();
    const size_t left = from.size() - at;
    const std::span<const std::byte> piece =
        from.subspan(at, left < chunk ? left : chunk);
    const auto piece_offset = static_cast<uint32_t>(offset + at);
    const uint32_t sent = generation_;
    Packet packet;
    EncodeSetConfig(number_, sent, piece_offset, piece, Out(&packet));
    if (const Error error = bus_->Call(packet.bytes, &packet);
        error != Error::kNone) {
      return error;
    }
    ConfigData answer;
    if (!DecodeConfigWritten(packet.bytes, &answer) ||
        answer.offset != piece_offset) {
      return Error::kBadAnswer;
    }
    if (answer.length == 0) {
      return answer.generation == sent ? Error::kRefused : ReadInsteadOfWrite();
    }
    if (answer.length != piece.size()) return Error::kBadAnswer;
    // An event that came meanwhile may be newer than the answer. Where it is
    // older the device rejects the next write.
    if (events == config_events_) generation_ = answer.generation;
    mirror_valid_ = false;  // the device may store something else than we sent
  }
  return Error::kNone;
}

Error VirtioDevice::Config(std::span<const std::byte>* config) {
  if (!mirror_valid_) {
    if (const Error error = RefreshMirror(); error != Error::kNone) {
      return error;
    }
  }
  *config = std::span(mirror_).first(mirrored());
  return Error::kNone;
}

bool VirtioDevice::TakeConfigChanged() {
  const bool changed = config_changed_;
  config_changed_ = false;
  return changed;
}

}  // namespace vmsg::guest
