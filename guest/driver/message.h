// Messages of the driver side: requests to bytes, answers and events from them.
//
// Transport revision 1 as of December 2025. Source: virtio-msg-messages,
// sections 2 to 5. This is an implementation of its own: it shares nothing with
// the device's codec, so that a mistake of either shows.

#ifndef VMSG_GUEST_DRIVER_MESSAGE_H_
#define VMSG_GUEST_DRIVER_MESSAGE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "guest/driver/features.h"

namespace vmsg::guest {

// --- Header, section 2. ---

inline constexpr size_t kHeaderBytes = 8;
// What a bus needs to carry every fixed-size message (O-1).
inline constexpr size_t kMinMaxMessageBytes = 48;

inline constexpr uint8_t kTypeResponse = 0x01;
inline constexpr uint8_t kTypeBus = 0x02;
inline constexpr uint8_t kTypeMask = 0x03;  // the rest is reserved

inline constexpr uint8_t kMsgGetDeviceInfo = 0x02;
inline constexpr uint8_t kMsgGetDeviceFeatures = 0x03;
inline constexpr uint8_t kMsgSetDriverFeatures = 0x04;
inline constexpr uint8_t kMsgGetConfig = 0x05;
inline constexpr uint8_t kMsgSetConfig = 0x06;
inline constexpr uint8_t kMsgGetDeviceStatus = 0x07;
inline constexpr uint8_t kMsgSetDeviceStatus = 0x08;
inline constexpr uint8_t kMsgGetVqueue = 0x09;
inline constexpr uint8_t kMsgSetVqueue = 0x0A;
inline constexpr uint8_t kMsgResetVqueue = 0x0B;
inline constexpr uint8_t kMsgGetShm = 0x0C;
inline constexpr uint8_t kMsgEventConfig = 0x40;
inline constexpr uint8_t kMsgEventAvail = 0x41;
inline constexpr uint8_t kMsgEventUsed = 0x42;
inline constexpr uint8_t kBusMsgGetDevices = 0x02;
inline constexpr uint8_t kBusMsgPing = 0x03;
inline constexpr uint8_t kBusMsgEventDevice = 0x40;

struct Header {
  uint8_t type = 0;  // masked with kTypeMask
  uint8_t msg_id = 0;
  uint16_t dev_num = 0;
  uint16_t token = 0;
  uint16_t msg_size = 0;

  constexpr bool is_response() const { return (type & kTypeResponse) != 0; }
  constexpr bool is_bus() const { return (type & kTypeBus) != 0; }
};

// --- Contents. ---

// Status bits, section 7.
inline constexpr uint32_t kStatusAcknowledge = 1;
inline constexpr uint32_t kStatusDriver = 2;
inline constexpr uint32_t kStatusDriverOk = 4;
inline constexpr uint32_t kStatusFeaturesOk = 8;
inline constexpr uint32_t kStatusNeedsReset = 64;
inline constexpr uint32_t kStatusFailed = 128;
inline constexpr uint32_t kStatusMask = 0xFF;  // the rest has no meaning (O-32)

struct DeviceInfo {
  uint32_t device_id = 0;  // 0: no device
  uint32_t vendor_id = 0;
  uint32_t num_feature_bits = 0;  // a multiple of 32
  uint32_t config_size = 0;       // bytes
  uint32_t max_virtqueues = 0;
  uint16_t admin_vq_start = 0;
  uint16_t admin_vq_count = 0;
};

struct FeatureBlocks {
  uint32_t block_index = 0;
  uint32_t num_blocks = 0;
  std::span<const std::byte> words;  // 4 * num_blocks bytes of the message
};

struct ConfigData {
  uint32_t generation = 0;
  uint32_t offset = 0;
  uint32_t length = 0;
  std::span<const std::byte> data;  // of the message; may be empty
};

struct Vqueue {
  uint32_t index = 0;
  uint32_t max_size = 0;  // 0: no such queue
  uint32_t size = 0;      // 0: not configured
  uint64_t desc = 0;
  uint64_t driver = 0;
  uint64_t device = 0;
};

struct SharedMemoryInfo {
  uint32_t index = 0;
  uint32_t length = 0;  // bytes; 0: no such region
  uint32_t address = 0;
};

struct ConfigEvent {
  uint32_t status = 0;
  uint32_t generation = 0;
  uint32_t offset = 0;
  uint32_t length = 0;              // as sent; may name a range without data
  std::span<const std::byte> data;  // of the message; may be empty
};

// Device numbers offset to offset + count - 1; bit n of `bitmap` (least
// significant first) is number offset + n.
struct DeviceWindow {
  uint16_t offset = 0;
  uint16_t count = 0;
  uint16_t next_offset = 0;
  std::span<const std::byte> bitmap;  // count / 8 bytes of the message
};

inline constexpr uint16_t kDeviceReady = 1;
inline constexpr uint16_t kDeviceRemoved = 2;

struct DeviceEvent {
  uint16_t number = 0;
  uint16_t state = 0;
};

// --- Requests and events to the device. ---
//
// Each writes one message at the start of `out`, token 0, and returns its size,
// or 0 when `out` is too small: give it a span no longer than the bus's maximum
// message size.

size_t EncodeGetDeviceInfo(uint16_t dev_num, std::span<std::byte> out);
size_t EncodeGetDeviceFeatures(uint16_t dev_num, uint32_t block_index,
                               uint32_t num_blocks, std::span<std::byte> out);
// Blocks [block_index, block_index + num_blocks) of `features`.
size_t EncodeSetDriverFeatures(uint16_t dev_num, uint32_t block_index,
                               uint32_t num_blocks, const Features& features,
                               std::span<std::byte> out);
size_t EncodeGetConfig(uint16_t dev_num, uint32_t offset, uint32_t length,
                       std::span<std::byte> out);
size_t EncodeSetConfig(uint16_t dev_num, uint32_t generation, uint32_t offset,
                       std::span<const std::byte> data,
                       std::span<std::byte> out);
size_t EncodeGetDeviceStatus(uint16_t dev_num, std::span<std::byte> out);
size_t EncodeSetDeviceStatus(uint16_t dev_num, uint32_t status,
                             std::span<std::byte> out);
size_t EncodeGetVqueue(uint16_t dev_num, uint32_t index,
                       std::span<std::byte> out);
// vqueue.max_size is not sent; both reserved words are 0.
size_t EncodeSetVqueue(uint16_t dev_num, const Vqueue& vqueue,
                       std::span<std::byte> out);
size_t EncodeResetVqueue(uint16_t dev_num, uint32_t index,
                         std::span<std::byte> out);
size_t EncodeGetShm(uint16_t dev_num, uint32_t index, std::span<std::byte> out);
// `next_offset`: bits 30 to 0 the offset, bit 31 the wrap; 0 without
// VIRTIO_F_NOTIFICATION_DATA.
size_t EncodeEventAvail(uint16_t dev_num, uint32_t vq_index,
                        uint32_t next_offset, std::span<std::byte> out);
size_t EncodeGetDevices(uint16_t offset, uint16_t count,
                        std::span<std::byte> out);
size_t EncodePing(uint32_t data, std::span<std::byte> out);
// The answer to a PING of the device.
size_t EncodePingResponse(uint16_t token, uint32_t data,
                          std::span<std::byte> out);

// Puts a token into an encoded message.
void SetToken(std::span<std::byte> message, uint16_t token);

// --- What the device sends. ---

// Reads the header and checks msg_size against what arrived (`bytes`) and
// `max_bytes`. False: malformed, drop it.
bool DecodeHeader(std::span<const std::byte> bytes, size_t max_bytes,
                  Header* header);

// Each takes a whole message that passed DecodeHeader, checks that its payload
// is as long as the id and the counts inside ask for, and fills its result, of
// which spans view `message`. Surplus bytes are ignored (O-26). False: too
// short or contradicting itself; the result is then undefined. None looks at
// type, id or device number.
bool DecodeDeviceInfo(std::span<const std::byte> message, DeviceInfo* out);
bool DecodeDeviceFeatures(std::span<const std::byte> message,
                          FeatureBlocks* out);
bool DecodeConfig(std::span<const std::byte> message, ConfigData* out);
// Data is optional in the answer to SET_CONFIG.
bool DecodeConfigWritten(std::span<const std::byte> message, ConfigData* out);
bool DecodeStatus(std::span<const std::byte> message, uint32_t* status);
bool DecodeVqueue(std::span<const std::byte> message, Vqueue* out);
bool DecodeShm(std::span<const std::byte> message, SharedMemoryInfo* out);
bool DecodeEventConfig(std::span<const std::byte> message, ConfigEvent* out);
bool DecodeEventUsed(std::span<const std::byte> message, uint32_t* vq_index);
bool DecodeDevices(std::span<const std::byte> message, DeviceWindow* out);
bool DecodePing(std::span<const std::byte> message, uint32_t* data);
bool DecodeEventDevice(std::span<const std::byte> message, DeviceEvent* out);

// Word `i` (below num_blocks) of a feature answer.
uint32_t FeatureWord(const FeatureBlocks& blocks, uint32_t i);

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_MESSAGE_H_
