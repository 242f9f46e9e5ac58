// FakeDevice: the other end of a FIFO window, with one virtio device behind it.
// It speaks the wire format from bytes of its own, answers correctly, and a
// test makes it lie.

#ifndef VMSG_GUEST_DRIVER_TESTING_FAKE_DEVICE_H_
#define VMSG_GUEST_DRIVER_TESTING_FAKE_DEVICE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "guest/driver/fifo.h"
#include "guest/driver/testing/fake_platform.h"
#include "guest/driver/testing/fake_ring.h"

namespace vmsg::guest {

using MessageBytes = std::vector<std::byte>;

// Builds a message: "type, id, device number, token", then fields.
class MessageBuilder {
 public:
  MessageBuilder(uint8_t type, uint8_t msg_id, uint16_t dev_num,
                 uint16_t token);
  MessageBuilder& U8(uint8_t value) { return Put(value, 1); }
  MessageBuilder& U16(uint16_t value) { return Put(value, 2); }
  MessageBuilder& U32(uint32_t value) { return Put(value, 4); }
  MessageBuilder& U64(uint64_t value) { return Put(value, 8); }
  MessageBuilder& Data(std::span<const std::byte> bytes);
  // With msg_size filled in.
  MessageBytes Build();

 private:
  MessageBuilder& Put(uint64_t value, size_t bytes);
  MessageBytes bytes_;
};

// A little-endian field of a message.
uint64_t Field(const MessageBytes& message, size_t offset, size_t bytes);

// The answer to a request, so far without fields.
MessageBuilder AnswerTo(const MessageBytes& request);

// Threads: one; it acts inside the driver's doorbell writes.
class FakeDevice {
 public:
  static constexpr uint64_t kDoorbell = 0xE0000020;
  static constexpr uint32_t kInterrupt = 7;

  // Takes over platform->on_mmio_write for the doorbell.
  explicit FakeDevice(FakePlatform* platform);

  std::byte* window() { return window_->data(); }

  // --- The device; change at will. ---

  uint32_t interrupt = kInterrupt;  // Interrupt::id that it raises
  uint16_t number = 5;
  uint32_t present = 1u << 5;  // what GET_DEVICES shows
  uint32_t device_id = 4;
  uint32_t num_feature_bits = 64;
  uint64_t offered = uint64_t{1} << 32;
  uint64_t accepted_mask = UINT64_MAX;  // FEATURES_OK is refused outside it
  std::vector<std::byte> config;
  uint32_t generation = 7;
  uint32_t max_queues = 1;
  uint32_t queue_max_size = 256;
  struct Queue {
    uint32_t size = 0;
    uint64_t desc = 0;
    uint64_t driver = 0;
    uint64_t device = 0;
    // In the format that was negotiated.
    std::shared_ptr<FakeRing> ring = nullptr;
    std::map<uint16_t, FakeRing::Chain> popped = {};  // and not used yet
  };
  std::map<uint32_t, Queue> queues;
  uint32_t status = 0;
  uint64_t driver_features = 0;

  // Looks at each message first. A value: these are sent instead of the usual
  // answer.
  std::function<std::optional<std::vector<MessageBytes>>(const MessageBytes&)>
      intercept;
  // Told of everything that goes over the FIFO, whole packets of the driver.
  std::function<void(bool by_driver, const MessageBytes&)> tap;
  // EVENT_AVAIL for a queue that is set up.
  std::function<void(uint32_t queue)> on_avail;
  bool serve = true;  // false: leaves messages on the driver queue

  // Intercepts the transport requests with this id: `make(request)` are sent.
  void OnRequest(
      uint8_t id,
      std::function<std::vector<MessageBytes>(const MessageBytes&)> make);

  // --- What a test does and sees. ---

  // Everything received, in order; and only those of one id.
  const std::vector<MessageBytes>& received() const { return received_; }
  std::vector<MessageBytes> received_of(bool bus, uint8_t msg_id) const;

  // Puts a message on the device queue and raises the interrupt. False when
  // there is no room.
  bool Send(const MessageBytes& message);
  // Takes what the driver has sent; also done at each doorbell while `serve`.
  void Serve();

  // EVENT_USED, EVENT_CONFIG, EVENT_DEVICE.
  void SendUsed(uint32_t queue);
  void SendConfig(uint32_t offset, std::span<const std::byte> data,
                  uint32_t length);
  void SendDeviceEvent(uint16_t device, uint16_t state);

  // Serves every available chain of a queue: `write` fills what is writable of
  // it, as (address, length), and says how many bytes it wrote. EVENT_USED is
  // the caller's to send.
  using Buffers = std::vector<std::pair<uint64_t, uint32_t>>;
  void ServeQueue(uint32_t queue,
                  const std::function<uint32_t(const Buffers&)>& write);
  // The same, with all of it filled with kFiller.
  static constexpr std::byte kFiller{0x5A};
  void FillQueue(uint32_t queue);

  // The next available chain of a queue: its id, or nothing.
  std::optional<uint16_t> PopAvailable(uint32_t queue);
  // Writable bytes of a chain that was popped, as (address, length).
  Buffers Writable(uint32_t queue, uint16_t id);
  // Says that a chain was used, be it one that was popped or not.
  void PushUsed(uint32_t queue, uint32_t id, uint32_t written);

 private:
  std::vector<MessageBytes> Answer(const MessageBytes& message);
  std::vector<MessageBytes> AnswerBus(const MessageBytes& message);
  void SetStatus(uint32_t wanted);
  void SetQueue(uint32_t index, Queue queue);

  FakePlatform* const platform_;
  struct alignas(4096) Window : std::array<std::byte, kFifoWindowBytes> {};
  std::unique_ptr<Window> window_;
  std::vector<MessageBytes> received_;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_TESTING_FAKE_DEVICE_H_
