#include "guest/driver/message.h"

namespace vmsg::guest {
namespace {

// Payload fields are addressed by their offset in the message (column M).
template <typename T>
constexpr T Get(std::span<const std::byte> message, size_t at) {
  T value = 0;
  for (size_t i = sizeof(T); i-- > 0;) {
    value = static_cast<T>(static_cast<uint64_t>(value) << 8 |
                           static_cast<uint64_t>(message[at + i]));
  }
  return value;
}

template <typename T>
constexpr void Put(std::span<std::byte> message, size_t at, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    message[at + i] =
        static_cast<std::byte>(static_cast<uint64_t>(value) >> (8 * i));
  }
}

// Starts a message of `size` bytes in `out`. False when it does not fit.
bool Begin(uint8_t type, uint8_t msg_id, uint16_t dev_num, uint64_t size,
           std::span<std::byte> out) {
  if (size > out.size() || size > UINT16_MAX) return false;
  Put<uint8_t>(out, 0, type);
  Put<uint8_t>(out, 1, msg_id);
  Put<uint16_t>(out, 2, dev_num);
  Put<uint16_t>(out, 4, 0);
  Put<uint16_t>(out, 6, static_cast<uint16_t>(size));
  return true;
}

size_t EncodeBare(uint8_t msg_id, uint16_t dev_num, std::span<std::byte> out) {
  return Begin(0, msg_id, dev_num, 8, out) ? 8 : 0;
}

// A transport request of one word.
size_t EncodeWord(uint8_t msg_id, uint16_t dev_num, uint32_t word,
                  std::span<std::byte> out) {
  if (!Begin(0, msg_id, dev_num, 12, out)) return 0;
  Put<uint32_t>(out, 8, word);
  return 12;
}

size_t EncodeTwoWords(uint8_t msg_id, uint16_t dev_num, uint32_t first,
                      uint32_t second, std::span<std::byte> out) {
  if (!Begin(0, msg_id, dev_num, 16, out)) return 0;
  Put<uint32_t>(out, 8, first);
  Put<uint32_t>(out, 12, second);
  return 16;
}

// The bytes that the message says it has; less than a header: not a message.
std::span<const std::byte> Whole(std::span<const std::byte> message) {
  if (message.size() < kHeaderBytes) return {};
  const size_t size = Get<uint16_t>(message, 6);
  return size <= message.size() ? message.first(size)
                                : std::span<const std::byte>();
}

// Whether `message` holds a fixed part of `fixed` bytes (header included) and
// `count` elements after it.
bool Holds(std::span<const std::byte> message, uint64_t fixed,
           uint64_t count = 0, uint64_t element_bytes = 1) {
  return fixed + count * element_bytes <= message.size();
}

}  // namespace

size_t EncodeGetDeviceInfo(uint16_t dev_num, std::span<std::byte> out) {
  return EncodeBare(kMsgGetDeviceInfo, dev_num, out);
}

size_t EncodeGetDeviceFeatures(uint16_t dev_num, uint32_t block_index,
                               uint32_t num_blocks, std::span<std::byte> out) {
  return EncodeTwoWords(kMsgGetDeviceFeatures, dev_num, block_index, num_blocks,
                        out);
}

size_t EncodeSetDriverFeatures(uint16_t dev_num, uint32_t block_index,
                               uint32_t num_blocks, const Features& features,
                               std::span<std::byte> out) {
  const uint64_t size = 16 + uint64_t{4} * num_blocks;
  if (!Begin(0, kMsgSetDriverFeatures, dev_num, size, out)) return 0;
  Put<uint32_t>(out, 8, block_index);
  Put<uint32_t>(out, 12, num_blocks);
  for (uint32_t i = 0; i < num_blocks; ++i) {
    Put<uint32_t>(out, 16 + size_t{4} * i,
                  features.block(uint64_t{block_index} + i));
  }
  return size;
}

size_t EncodeGetConfig(uint16_t dev_num, uint32_t offset, uint32_t length,
                       std::span<std::byte> out) {
  return EncodeTwoWords(kMsgGetConfig, dev_num, offset, length, out);
}

size_t EncodeSetConfig(uint16_t dev_num, uint32_t generation, uint32_t offset,
                       std::span<const std::byte> data,
                       std::span<std::byte> out) {
  const uint64_t size = 20 + data.size();
  if (!Begin(0, kMsgSetConfig, dev_num, size, out)) return 0;
  Put<uint32_t>(out, 8, generation);
  Put<uint32_t>(out, 12, offset);
  Put<uint32_t>(out, 16, static_cast<uint32_t>(data.size()));
  for (size_t i = 0; i < data.size(); ++i) out[20 + i] = data[i];
  return size;
}

size_t EncodeGetDeviceStatus(uint16_t dev_num, std::span<std::byte> out) {
  return EncodeBare(kMsgGetDeviceStatus, dev_num, out);
}

size_t EncodeSetDeviceStatus(uint16_t dev_num, uint32_t status,
                             std::span<std::byte> out) {
  return EncodeWord(kMsgSetDeviceStatus, dev_num, status, out);
}

size_t EncodeGetVqueue(uint16_t dev_num, uint32_t index,
                       std::span<std::byte> out) {
  return EncodeWord(kMsgGetVqueue, dev_num, index, out);
}

size_t EncodeSetVqueue(uint16_t dev_num, const Vqueue& vqueue,
                       std::span<std::byte> out) {
  if (!Begin(0, kMsgSetVqueue, dev_num, 48, out)) return 0;
  Put<uint32_t>(out, 8, vqueue.index);
  Put<uint32_t>(out, 12, 0);
  Put<uint32_t>(out, 16, vqueue.size);
  Put<uint32_t>(out, 20, 0);
  Put<uint64_t>(out, 24, vqueue.desc);
  Put<uint64_t>(out, 32, vqueue.driver);
  Put<uint64_t>(out, 40, vqueue.device);
  return 48;
}

size_t EncodeResetVqueue(uint16_t dev_num, uint32_t index,
                         std::span<std::byte> out) {
  return EncodeWord(kMsgResetVqueue, dev_num, index, out);
}

size_t EncodeGetShm(uint16_t dev_num, uint32_t index,
                    std::span<std::byte> out) {
  return EncodeWord(kMsgGetShm, dev_num, index, out);
}

size_t EncodeEventAvail(uint16_t dev_num, uint32_t vq_index,
                        uint32_t next_offset, std::span<std::byte> out) {
  return EncodeTwoWords(kMsgEventAvail, dev_num, vq_index, next_offset, out);
}

size_t EncodeGetDevices(uint16_t offset, uint16_t count,
                        std::span<std::byte> out) {
  if (!Begin(kTypeBus, kBusMsgGetDevices, 0, 12, out)) return 0;
  Put<uint16_t>(out, 8, offset);
  Put<uint16_t>(out, 10, count);
  return 12;
}

size_t EncodePing(uint32_t data, std::span<std::byte> out) {
  if (!Begin(kTypeBus, kBusMsgPing, 0, 12, out)) return 0;
  Put<uint32_t>(out, 8, data);
  return 12;
}

size_t EncodePingResponse(uint16_t token, uint32_t data,
                          std::span<std::byte> out) {
  if (!Begin(kTypeBus | kTypeResponse, kBusMsgPing, 0, 12, out)) return 0;
  SetToken(out, token);
  Put<uint32_t>(out, 8, data);
  return 12;
}

void SetToken(std::span<std::byte> message, uint16_t token) {
  Put<uint16_t>(message, 4, token);
}

bool DecodeHeader(std::span<const std::byte> bytes, size_t max_bytes,
                  Header* header) {
  if (bytes.size() < kHeaderBytes) return false;
  header->type = Get<uint8_t>(bytes, 0) & kTypeMask;
  header->msg_id = Get<uint8_t>(bytes, 1);
  header->dev_num = Get<uint16_t>(bytes, 2);
  header->token = Get<uint16_t>(bytes, 4);
  header->msg_size = Get<uint16_t>(bytes, 6);
  return header->msg_size >= kHeaderBytes && header->msg_size <= bytes.size() &&
         header->msg_size <= max_bytes;
}

bool DecodeDeviceInfo(std::span<const std::byte> message, DeviceInfo* out) {
  message = Whole(message);
  if (!Holds(message, 32)) return false;
  out->device_id = Get<uint32_t>(message, 8);
  out->vendor_id = Get<uint32_t>(message, 12);
  out->num_feature_bits = Get<uint32_t>(message, 16);
  out->config_size = Get<uint32_t>(message, 20);
  out->max_virtqueues = Get<uint32_t>(message, 24);
  out->admin_vq_start = Get<uint16_t>(message, 28);
  out->admin_vq_count = Get<uint16_t>(message, 30);
  return out->num_feature_bits % 32 == 0;
}

bool DecodeDeviceFeatures(std::span<const std::byte> message,
                          FeatureBlocks* out) {
  message = Whole(message);
  if (!Holds(message, 16)) return false;
  out->block_index = Get<uint32_t>(message, 8);
  out->num_blocks = Get<uint32_t>(message, 12);
  if (!Holds(message, 16, out->num_blocks, 4)) return false;
  out->words = message.subspan(16, size_t{4} * out->num_blocks);
  return true;
}

bool DecodeConfig(std::span<const std::byte> message, ConfigData* out) {
  message = Whole(message);
  if (!Holds(message, 20)) return false;
  out->generation = Get<uint32_t>(message, 8);
  out->offset = Get<uint32_t>(message, 12);
  out->length = Get<uint32_t>(message, 16);
  if (!Holds(message, 20, out->length)) return false;
  out->data = message.subspan(20, out->length);
  return true;
}

bool DecodeConfigWritten(std::span<const std::byte> message, ConfigData* out) {
  message = Whole(message);
  if (!Holds(message, 20)) return false;
  out->generation = Get<uint32_t>(message, 8);
  out->offset = Get<uint32_t>(message, 12);
  out->length = Get<uint32_t>(message, 16);
  out->data = {};
  if (message.size() == 20) return true;  // without the echo
  if (!Holds(message, 20, out->length)) return false;
  out->data = message.subspan(20, out->length);
  return true;
}

bool DecodeStatus(std::span<const std::byte> message, uint32_t* status) {
  message = Whole(message);
  if (!Holds(message, 12)) return false;
  *status = Get<uint32_t>(message, 8) & kStatusMask;
  return true;
}

bool DecodeVqueue(std::span<const std::byte> message, Vqueue* out) {
  message = Whole(message);
  if (!Holds(message, 48)) return false;
  out->index = Get<uint32_t>(message, 8);
  out->max_size = Get<uint32_t>(message, 12);
  out->size = Get<uint32_t>(message, 16);
  out->desc = Get<uint64_t>(message, 24);
  out->driver = Get<uint64_t>(message, 32);
  out->device = Get<uint64_t>(message, 40);
  return true;
}

bool DecodeShm(std::span<const std::byte> message, SharedMemoryInfo* out) {
  message = Whole(message);
  if (!Holds(message, 20)) return false;
  out->index = Get<uint32_t>(message, 8);
  out->length = Get<uint32_t>(message, 12);
  out->address = Get<uint32_t>(message, 16);
  return true;
}

bool DecodeEventConfig(std::span<const std::byte> message, ConfigEvent* out) {
  message = Whole(message);
  if (!Holds(message, 24)) return false;
  out->status = Get<uint32_t>(message, 8) & kStatusMask;
  out->generation = Get<uint32_t>(message, 12);
  out->offset = Get<uint32_t>(message, 16);
  out->length = Get<uint32_t>(message, 20);
  out->data = {};
  // 24 means no data, whatever the length says (O-16).
  if (message.size() == 24) return true;
  if (!Holds(message, 24, out->length)) return false;
  out->data = message.subspan(24, out->length);
  return true;
}

bool DecodeEventUsed(std::span<const std::byte> message, uint32_t* vq_index) {
  message = Whole(message);
  if (!Holds(message, 12)) return false;
  *vq_index = Get<uint32_t>(message, 8);
  return true;
}

bool DecodeDevices(std::span<const std::byte> message, DeviceWindow* out) {
  message = Whole(message);
  if (!Holds(message, 14)) return false;
  out->offset = Get<uint16_t>(message, 8);
  out->count = Get<uint16_t>(message, 10);
  out->next_offset = Get<uint16_t>(message, 12);
  if (out->count % 8 != 0) return false;
  if (!Holds(message, 14, out->count / 8)) return false;
  out->bitmap = message.subspan(14, out->count / 8);
  return true;
}

bool DecodePing(std::span<const std::byte> message, uint32_t* data) {
  message = Whole(message);
  if (!Holds(message, 12)) return false;
  *data = Get<uint32_t>(message, 8);
  return true;
}

bool DecodeEventDevice(std::span<const std::byte> message, DeviceEvent* out) {
  message = Whole(message);
  if (!Holds(message, 12)) return false;
  out->number = Get<uint16_t>(message, 8);
  out->state = Get<uint16_t>(message, 10);
  return true;
}

uint32_t FeatureWord(const FeatureBlocks& blocks, uint32_t i) {
  return Get<uint32_t>(blocks.words, size_t{4} * i);
}

}  // namespace vmsg::guest
