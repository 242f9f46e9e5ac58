// ShadowEndpoint: what an endpoint has to answer, said a second time.

#ifndef VMSG_DEVICES_VIRTIO_MSG_TESTING_SHADOW_ENDPOINT_H_
#define VMSG_DEVICES_VIRTIO_MSG_TESTING_SHADOW_ENDPOINT_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "devices/virtio_msg/testing/wire.h"

namespace vmsg::msg {

// A model of a transport endpoint with a device of few parts, written from the
// documents and sharing no code with the endpoint: for each request the payload
// of its answer, for each act of the device the event that the driver gets.
// Nothing takes time in it. Source: virtio-msg-messages, 4 and 6;
// amp-pci-device, 4.
class ShadowEndpoint {
 public:
  // What the device is; the real one has to be made to match.
  static constexpr uint32_t kDeviceId = 0xFE0;
  static constexpr uint32_t kVendorId = 0x1AF4;
  static constexpr uint32_t kConfigSize = 16;
  static constexpr uint32_t kReadOnlyConfigBytes = 4;
  static constexpr uint32_t kNumQueues = 3;
  static constexpr uint32_t kMaxQueueSize = 64;
  static constexpr uint64_t kMemoryBytes = 1 << 20;
  static constexpr uint64_t kShmAddress = 0x8000'0000;
  static constexpr uint32_t kShmLength = 0x4000;
  static constexpr uint32_t kMaxMessageBytes = 64;
  // The bits that it offers on the wire, and those without which it refuses.
  static const std::set<uint32_t>& Offered();
  static const std::set<uint32_t>& Required();

  Bytes GetDeviceInfo() const;
  Bytes GetDeviceFeatures(uint32_t block, uint32_t count) const;
  void SetDriverFeatures(uint32_t block, std::span<const uint32_t> words);
  Bytes GetConfig(uint32_t offset, uint32_t length) const;
  Bytes SetConfig(uint32_t generation, uint32_t offset,
                  std::span<const std::byte> data);
  Bytes Status() const { return Payload().U32(status_).bytes(); }
  // Also the event: when the activation fails, which is what
  // `activation_fails` says, or when a reset changes the configuration.
  Bytes SetStatus(uint32_t status, bool activation_fails,
                  std::optional<Bytes>* event);
  // Whether this write makes the device start.
  bool WouldActivate(uint32_t status) const;
  Bytes GetVqueue(uint32_t index) const;
  void SetVqueue(uint32_t index, uint32_t size, uint64_t desc, uint64_t driver,
                 uint64_t device);
  void ResetVqueue(uint32_t index);
  Bytes GetShm(uint32_t index) const;

  // The device changes its configuration, or asks for a reset. The payload of
  // the EVENT_CONFIG, if one is due.
  Bytes ChangeConfig(uint32_t offset, std::span<const std::byte> data);
  std::optional<Bytes> NeedsReset();

  uint32_t generation() const { return generation_; }

 private:
  struct Queue {
    uint32_t size = 0;
    uint64_t desc = 0;
    uint64_t driver = 0;
    uint64_t device = 0;
  };

  bool has(uint32_t bit) const { return (status_ & bit) != 0; }
  bool acked(uint32_t bit) const { return acked_.contains(bit); }
  bool FeaturesAcceptable() const;
  Bytes StatusEvent() const;
  Bytes ConfigEvent(uint32_t offset, std::span<const std::byte> data) const;
  static bool InMemory(uint64_t address, uint64_t length, uint64_t alignment);

  uint32_t status_ = 0;
  uint32_t generation_ = 0;
  std::set<uint64_t> acked_;  // bits; those of any block
  // Without what the driver wrote.
  std::vector<std::byte> initial_config_ = std::vector<std::byte>(kConfigSize);
  std::vector<std::byte> config_ = std::vector<std::byte>(kConfigSize);
  std::vector<Queue> queues_ = std::vector<Queue>(kNumQueues);
};

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_TESTING_SHADOW_ENDPOINT_H_
