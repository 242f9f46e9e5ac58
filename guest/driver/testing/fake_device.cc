#include "guest/driver/testing/fake_device.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

// Places in the window. Source: amp-pci-device, 3.1.
constexpr size_t kDriverHead = 0x1000;
constexpr size_t kDriverTail = 0x1040;
constexpr size_t kDriverPackets = 0x1080;
constexpr size_t kDeviceHead = 0x2000;
constexpr size_t kDeviceTail = 0x2040;
constexpr size_t kDevicePackets = 0x2080;
constexpr uint32_t kSlots = 62;

// Bits of virtio features. Source: virtio 1.2, 6.
constexpr uint32_t kEventIndexBit = 29;
constexpr uint32_t kRingPackedBit = 34;

}  // namespace

MessageBuilder::MessageBuilder(uint8_t type, uint8_t msg_id, uint16_t dev_num,
                               uint16_t token) {
  U8(type).U8(msg_id).U16(dev_num).U16(token).U16(0);
}

MessageBuilder& MessageBuilder::Put(uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) {
    bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
  return *this;
}

MessageBuilder& MessageBuilder::Data(std::span<const std::byte> bytes) {
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  return *this;
}

MessageBytes MessageBuilder::Build() {
  bytes_[6] = static_cast<std::byte>(bytes_.size());
  bytes_[7] = static_cast<std::byte>(bytes_.size() >> 8);
  return bytes_;
}

uint64_t Field(const MessageBytes& message, size_t offset, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = bytes; i-- > 0;) {
    value = value << 8 | static_cast<uint64_t>(message.at(offset + i));
  }
  return value;
}

MessageBuilder AnswerTo(const MessageBytes& request) {
  return MessageBuilder(static_cast<uint8_t>(Field(request, 0, 1) | 1),
                        static_cast<uint8_t>(Field(request, 1, 1)),
                        static_cast<uint16_t>(Field(request, 2, 2)),
                        static_cast<uint16_t>(Field(request, 4, 2)));
}

FakeDevice::FakeDevice(FakePlatform* platform)
    : platform_(platform), window_(std::make_unique<Window>()) {
  std::memset(window_->data(), 0, window_->size());
  platform->on_mmio_write = [this](uint64_t address, uint64_t) {
    if (address == kDoorbell && serve) Serve();
  };
}

std::vector<MessageBytes> FakeDevice::received_of(bool bus,
                                                  uint8_t msg_id) const {
  std::vector<MessageBytes> result;
  for (const MessageBytes& message : received_) {
    if (Field(message, 0, 1) == (bus ? 2u : 0u) &&
        Field(message, 1, 1) == msg_id) {
      result.push_back(message);
    }
  }
  return result;
}

void FakeDevice::OnRequest(
    uint8_t id,
    std::function<std::vector<MessageBytes>(const MessageBytes&)> make) {
  intercept = [id, make = std::move(make)](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    if (Field(message, 0, 1) != 0 || Field(message, 1, 1) != id) {
      return std::nullopt;
    }
    return make(message);
  };
}

bool FakeDevice::Send(const MessageBytes& message) {
  std::byte* const window = window_->data();
  const uint32_t head = LoadAcquire<uint32_t>(window + kDeviceHead);
  const uint32_t next = (head + 1) % kSlots;
  if (next == LoadAcquire<uint32_t>(window + kDeviceTail)) return false;
  std::byte* const slot = window + kDevicePackets + kPacketBytes * head;
  ZeroShared(slot, kPacketBytes);
  CopyToShared(slot, message.data(), std::min(message.size(), kPacketBytes));
  StoreRelease<uint32_t>(window + kDeviceHead, next);
  if (tap) tap(/*by_driver=*/false, message);
  platform_->Raise(interrupt);
  return true;
}

void FakeDevice::Serve() {
  std::byte* const window = window_->data();
  for (;;) {
    const uint32_t tail = LoadAcquire<uint32_t>(window + kDriverTail);
    if (tail == LoadAcquire<uint32_t>(window + kDriverHead)) return;
    std::array<std::byte, kPacketBytes> packet;
    CopyFromShared(packet.data(), window + kDriverPackets + kPacketBytes * tail,
                   kPacketBytes);
    StoreRelease<uint32_t>(window + kDriverTail, (tail + 1) % kSlots);
    MessageBytes message(packet.begin(), packet.end());
    if (tap) tap(/*by_driver=*/true, message);
    message.resize(std::clamp<size_t>(Field(message, 6, 2), 8, kPacketBytes));
    received_.push_back(message);
    std::optional<std::vector<MessageBytes>> answers;
    if (intercept) answers = intercept(message);
    if (!answers.has_value()) answers = Answer(message);
    for (const MessageBytes& answer : *answers) Send(answer);
  }
}

void FakeDevice::SetStatus(uint32_t wanted) {
  status = wanted;
  if (wanted == 0) {
    queues.clear();
    driver_features = 0;
  }
  if ((wanted & 8) != 0 &&
      (driver_features & ~(offered & accepted_mask)) != 0) {
    status &= ~8u;
  }
}

void FakeDevice::SetQueue(uint32_t index, Queue queue) {
  queue.ring = std::make_shared<FakeRing>(
      FakeRing::Layout{
          .packed = (driver_features >> kRingPackedBit & 1) != 0,
          .event_index = (driver_features >> kEventIndexBit & 1) != 0,
          .size = queue.size,
          .descriptors = queue.desc,
          .driver = queue.driver,
          .device = queue.device},
      [this](uint64_t address) { return platform_->At(address); });
  queues[index] = std::move(queue);
}

std::vector<MessageBytes> FakeDevice::AnswerBus(const MessageBytes& message) {
  const auto id = static_cast<uint8_t>(Field(message, 1, 1));
  const auto token = static_cast<uint16_t>(Field(message, 4, 2));
  if (Field(message, 0, 1) != 2) return {};  // the answer to a PING of ours
  MessageBuilder answer(3, id, 0, token);
  if (id == 0x03) return {answer.U32(Field(message, 8, 4)).Build()};
  const auto offset = static_cast<uint16_t>(Field(message, 8, 2));
  const auto count = static_cast<uint16_t>(
      std::min<uint64_t>(Field(message, 10, 2), 32u - offset));
  answer.U16(offset).U16(count).U16(0);
  for (uint32_t i = 0; i < count; i += 8) {
    answer.U8(static_cast<uint8_t>(present >> (offset + i)));
  }
  return {answer.Build()};
}

std::vector<MessageBytes> FakeDevice::Answer(const MessageBytes& message) {
  if ((Field(message, 0, 1) & 2) != 0) return AnswerBus(message);
  const auto id = static_cast<uint8_t>(Field(message, 1, 1));
  const auto target = static_cast<uint16_t>(Field(message, 2, 2));
  const auto token = static_cast<uint16_t>(Field(message, 4, 2));
  const auto word = [&message](size_t i) {
    return static_cast<uint32_t>(Field(message, 8 + 4 * i, 4));
  };
  MessageBuilder answer(1, id, target, token);
  const bool here = target == number;
  switch (id) {
    case 0x02:
      if (!here) return {answer.U64(0).U64(0).U64(0).Build()};
      return {answer.U32(device_id)
                  .U32(0x1AF4)
                  .U32(num_feature_bits)
                  .U32(static_cast<uint32_t>(config.size()))
                  .U32(max_queues)
                  .U32(0)
                  .Build()};
    case 0x03:
      answer.U32(word(0)).U32(word(1));
      for (uint32_t i = 0; i < word(1); ++i) {
        const uint32_t block = word(0) + i;
        answer.U32(block < 2 ? static_cast<uint32_t>(offered >> (32 * block))
                             : 0);
      }
      return {answer.Build()};
    case 0x04:
      for (uint32_t i = 0; i < word(1); ++i) {
        const uint32_t block = word(0) + i;
        if (block > 1) continue;
        driver_features &= ~(uint64_t{UINT32_MAX} << (32 * block));
        driver_features |= uint64_t{word(2 + i)} << (32 * block);
      }
      return {answer.Build()};
    case 0x05:
      return {answer.U32(generation)
                  .U32(word(0))
                  .U32(word(1))
                  .Data(std::span(config).subspan(word(0), word(1)))
                  .Build()};
    case 0x06: {
      const bool current = word(0) == generation;
      if (current) {
        std::copy_n(message.begin() + 20, word(2), config.begin() + word(1));
      }
      return {answer.U32(generation)
                  .U32(word(1))
                  .U32(current ? word(2) : 0)
                  .Build()};
    }
    case 0x07:
      return {answer.U32(status).Build()};
    case 0x08:
      SetStatus(word(0));
      return {answer.U32(status).Build()};
    case 0x09: {
      const bool exists = word(0) < max_queues;
      const Queue queue = queues[word(0)];
      return {answer.U32(word(0))
                  .U32(exists ? queue_max_size : 0)
                  .U32(queue.size)
                  .U32(0)
                  .U64(queue.desc)
                  .U64(queue.driver)
                  .U64(queue.device)
                  .Build()};
    }
    case 0x0A:
      SetQueue(word(0), {.size = word(2),
                         .desc = Field(message, 24, 8),
                         .driver = Field(message, 32, 8),
                         .device = Field(message, 40, 8)});
      return {answer.Build()};
    case 0x0B:
      queues.erase(word(0));
      return {answer.Build()};
    case 0x0C:
      return {answer.U32(word(0)).U32(0).U32(0).Build()};
    case 0x41:
      if (on_avail && queues.contains(word(0))) on_avail(word(0));
      return {};
    default:
      return {};
  }
}

void FakeDevice::SendUsed(uint32_t queue) {
  Send(MessageBuilder(0, 0x42, number, 0).U32(queue).Build());
}

void FakeDevice::SendConfig(uint32_t offset, std::span<const std::byte> data,
                            uint32_t length) {
  Send(MessageBuilder(0, 0x40, number, 0)
           .U32(status)
           .U32(generation)
           .U32(offset)
           .U32(length)
           .Data(data)
           .Build());
}

void FakeDevice::SendDeviceEvent(uint16_t device, uint16_t state) {
  Send(MessageBuilder(2, 0x40, 0, 0).U16(device).U16(state).Build());
}

void FakeDevice::ServeQueue(
    uint32_t queue, const std::function<uint32_t(const Buffers&)>& write) {
  while (const std::optional<uint16_t> id = PopAvailable(queue)) {
    PushUsed(queue, *id, write(Writable(queue, *id)));
  }
}

void FakeDevice::FillQueue(uint32_t queue) {
  ServeQueue(queue, [this](const Buffers& buffers) {
    uint32_t written = 0;
    for (const auto& [address, length] : buffers) {
      for (uint32_t i = 0; i < length; ++i)
        *platform_->At(address + i) = kFiller;
      written += length;
    }
    return written;
  });
}

std::optional<uint16_t> FakeDevice::PopAvailable(uint32_t index) {
  Queue& queue = queues.at(index);
  const std::optional<FakeRing::Chain> chain = queue.ring->Pop();
  if (!chain.has_value()) return std::nullopt;
  queue.popped[chain->id] = *chain;
  return chain->id;
}

FakeDevice::Buffers FakeDevice::Writable(uint32_t index, uint16_t id) {
  Buffers result;
  for (const FakeRing::Buffer& buffer :
       queues.at(index).popped.at(id).buffers) {
    if (buffer.device_writes) {
      result.emplace_back(buffer.address, buffer.bytes);
    }
  }
  return result;
}

void FakeDevice::PushUsed(uint32_t index, uint32_t id, uint32_t written) {
  Queue& queue = queues.at(index);
  const auto popped = queue.popped.find(static_cast<uint16_t>(id));
  if (id > UINT16_MAX || popped == queue.popped.end()) {
    queue.ring->PushId(id, written);
    return;
  }
  queue.ring->Push(popped->second, written);
  queue.popped.erase(popped);
}

}  // namespace vmsg::guest
