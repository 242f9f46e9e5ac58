// Codec: bytes to messages and back. Source: virtio-msg-messages, 2 to 5.

#ifndef VMSG_DEVICES_VIRTIO_MSG_CODEC_H_
#define VMSG_DEVICES_VIRTIO_MSG_CODEC_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "devices/virtio/features.h"
#include "devices/virtio_msg/message.h"

namespace vmsg::msg {

// The largest message that any bus of this library carries, and so the size of
// the buffers that hold one. Source: virtio-msg-messages, 6.11.
inline constexpr size_t kMaxMessageBytes = 264;
// The least that carries every fixed-size message (O-1).
inline constexpr size_t kMinMessageBytes = 48;

// Which wire. See RevisionPolicy for what differs in meaning.
enum class Revision : uint8_t { k2025 };

// Why a message is malformed: it is dropped without an answer. Source: 2.6.
enum class DecodeError : uint8_t {
  kNone,
  kTooShort,        // fewer than 8 bytes
  kBadSize,         // msg_size below 8, above what arrived or above the maximum
  kUnknownId,       // not defined in its space, or reserved
  kWrongDirection,  // an event with the response bit, or what only devices send
  kBadDeviceNumber,  // a bus message with a device number
  kShortPayload,     // below the fixed part
  kBadCount,         // a count inside does not fit msg_size
  kUnaligned,        // GET_DEVICES with a value that is no multiple of 8 (6.4)
};
std::string_view DecodeErrorName(DecodeError error);

// What fits under a maximum message size, which is at least kMinMessageBytes.
// Source: section 3.
constexpr uint32_t MaxFeatureBlocks(uint32_t max_message_bytes) {
  return (max_message_bytes - 16) / 4;
}
constexpr uint32_t MaxConfigBytes(uint32_t max_message_bytes) {
  return max_message_bytes - 20;
}
constexpr uint32_t MaxConfigEventBytes(uint32_t max_message_bytes) {
  return max_message_bytes - 24;
}
constexpr uint32_t MaxDevicesCount(uint32_t max_message_bytes) {
  return 8 * (max_message_bytes - 14);
}

// Decodes what a driver sent. `bytes` is private memory, at most
// kMaxMessageBytes of it meaningful; the result views it. Surplus bytes after
// the payload are ignored (O-26). On error `*header` holds what could be read
// and `*message` is unchanged. Neither allocates nor blocks; any thread.
DecodeError DecodeFromDriver(Revision revision, size_t max_message_bytes,
                             std::span<const std::byte> bytes, Header* header,
                             DriverMessage* message);

// Encoders. Each writes one whole message at the start of `out`, with msg_size,
// and returns its size in bytes; what follows in `out` is untouched. `request`
// is the header that is answered: id, device number and token are taken over.
// REQUIRES: out.size() is at least the message size of section 3.
size_t EncodeDeviceInfo(Revision revision, const Header& request,
                        const DeviceInfoResponse& info,
                        std::span<std::byte> out);
// Words block_index to block_index + num_blocks - 1 of `features`.
size_t EncodeDeviceFeatures(Revision revision, const Header& request,
                            uint32_t block_index, uint32_t num_blocks,
                            const virtio::Features& features,
                            std::span<std::byte> out);
// The bare header: SET_DRIVER_FEATURES, SET_VQUEUE, RESET_VQUEUE.
size_t EncodeEmpty(const Header& request, std::span<std::byte> out);
// GET_CONFIG. Returns where the `length` data bytes go; the caller fills them.
size_t EncodeConfig(const Header& request, uint32_t generation, uint32_t offset,
                    uint32_t length, std::span<std::byte> out,
                    std::span<std::byte>* data);
// SET_CONFIG without echoed data; `length` 0 is a rejection.
size_t EncodeConfigWritten(const Header& request, uint32_t generation,
                           uint32_t offset, uint32_t length,
                           std::span<std::byte> out);
size_t EncodeStatus(const Header& request, uint32_t status,
                    std::span<std::byte> out);
size_t EncodeVqueue(Revision revision, const Header& request,
                    const VqueueResponse& vqueue, std::span<std::byte> out);
// A region that the revision can't describe (4 GiB or more, or above 4 GiB, in
// 2025) is answered with length 0 (O-8).
size_t EncodeShm(Revision revision, const Header& request,
                 const ShmResponse& shm, std::span<std::byte> out);
// Bit n of `present` stands for device number n; the window is
// [offset, offset + count).
size_t EncodeDevices(Revision revision, const Header& request, uint32_t offset,
                     uint32_t count, uint32_t next_offset, uint64_t present,
                     std::span<std::byte> out);
size_t EncodePing(const Header& request, uint32_t data,
                  std::span<std::byte> out);

size_t EncodeConfigEvent(uint32_t dev_num, const ConfigEvent& event,
                         std::span<const std::byte> data,
                         std::span<std::byte> out);
size_t EncodeUsedEvent(uint32_t dev_num, uint32_t vq_index,
                       std::span<std::byte> out);
size_t EncodeDeviceEvent(uint32_t device_number, DeviceBusState state,
                         std::span<std::byte> out);
size_t EncodePingRequest(uint16_t token, uint32_t data,
                         std::span<std::byte> out);

}  // namespace vmsg::msg

#endif  // VMSG_DEVICES_VIRTIO_MSG_CODEC_H_
