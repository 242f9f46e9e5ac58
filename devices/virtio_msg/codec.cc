#include "devices/virtio_msg/codec.h"

#include <algorithm>
#include <array>

#include "devices/virtio/little_endian.h"
#include "devices/virtio_msg/layout.h"
#include "vmm/base/check.h"

namespace vmsg::msg {
namespace {

using layout::Field;

static_assert(MaxFeatureBlocks(64) ==
              (64 - layout::FeatureBlocks::kFixedBytes) /
                  layout::FeatureBlocks::kWordBytes);
static_assert(MaxConfigBytes(64) == 64 - layout::ConfigData::kFixedBytes);
static_assert(MaxConfigEventBytes(64) ==
              64 - layout::ConfigEventFields::kFixedBytes);
static_assert(MaxDevicesCount(64) ==
              8 * (64 - layout::DevicesResponse::kFixedBytes));

template <typename T>
T Load(std::span<const std::byte> from, Field<T> field) {
  return virtio::LoadLittle<T>(
      std::span<const std::byte, sizeof(T)>(&from[field.offset], sizeof(T)));
}

// What does not fit the field is our own bug and has been looked at by the
// caller.
template <typename T, typename V>
void Store(std::span<std::byte> out, Field<T> field, V value) {
  virtio::StoreLittle<T>(
      static_cast<T>(value),
      std::span<std::byte, sizeof(T)>(&out[field.offset], sizeof(T)));
}

void StoreHeader(std::span<std::byte> out, uint8_t type, uint8_t msg_id,
                 uint32_t dev_num, uint16_t token, size_t msg_size) {
  VMSG_CHECK(out.size() >= msg_size, "buffer below the message size");
  Store(out, layout::kType, type);
  Store(out, layout::kMsgId, msg_id);
  Store(out, layout::kDevNum, dev_num);
  Store(out, layout::kToken, token);
  Store(out, layout::kMsgSize, msg_size);
}

size_t StoreResponse(const Header& request, size_t msg_size,
                     std::span<std::byte> out) {
  const uint8_t type = static_cast<uint8_t>(
      layout::kTypeResponse | (request.is_bus ? layout::kTypeBus : 0));
  StoreHeader(out, type, request.msg_id, request.dev_num, request.token,
              msg_size);
  return msg_size;
}

// An event has bit 0 clear (O-5) and token 0 (O-4).
size_t StoreEvent(uint8_t msg_id, uint32_t dev_num, size_t msg_size,
                  std::span<std::byte> out) {
  StoreHeader(out, 0, msg_id, dev_num, 0, msg_size);
  return msg_size;
}

// What the header of a message is checked against.
struct Shape {
  uint8_t fixed_bytes = 0;  // least msg_size; 0: undefined id
  bool from_driver = false;
  constexpr bool known() const { return fixed_bytes != 0; }
};

// By id. Source: section 3.
constexpr auto kTransportShapes = [] {
  std::array<Shape, layout::kEventUsed + 1> shapes = {};
  const auto from_driver = [&](uint8_t id, size_t fixed_bytes) {
    shapes[id] = {static_cast<uint8_t>(fixed_bytes), true};
  };
  from_driver(layout::kGetDeviceInfo, layout::kEmptyBytes);
  from_driver(layout::kGetDeviceFeatures, layout::FeatureBlocks::kFixedBytes);
  from_driver(layout::kSetDriverFeatures, layout::FeatureBlocks::kFixedBytes);
  from_driver(layout::kGetConfig, layout::GetConfigRequest::kBytes);
  from_driver(layout::kSetConfig, layout::ConfigData::kFixedBytes);
  from_driver(layout::kGetDeviceStatus, layout::kEmptyBytes);
  from_driver(layout::kSetDeviceStatus, layout::Status::kBytes);
  from_driver(layout::kGetVqueue, layout::IndexRequest::kBytes);
  from_driver(layout::kSetVqueue, layout::VqueueSettings::kBytes);
  from_driver(layout::kResetVqueue, layout::IndexRequest::kBytes);
  from_driver(layout::kGetShm, layout::IndexRequest::kBytes);
  from_driver(layout::kEventAvail, layout::Avail::kBytes);
  shapes[layout::kEventConfig] = {layout::ConfigEventFields::kFixedBytes,
                                  false};
  shapes[layout::kEventUsed] = {layout::Used::kBytes, false};
  return shapes;
}();

DecodeError DecodeTransport(const Header& header,
                            std::span<const std::byte> bytes,
                            DriverMessage* message) {
  const size_t size = bytes.size();
  if (header.msg_id >= kTransportShapes.size()) return DecodeError::kUnknownId;
  const Shape shape = kTransportShapes[header.msg_id];
  if (!shape.known()) return DecodeError::kUnknownId;
  if (header.is_response || !shape.from_driver) {
    return DecodeError::kWrongDirection;
  }
  if (size < shape.fixed_bytes) return DecodeError::kShortPayload;

  switch (header.msg_id) {
    case layout::kGetDeviceInfo:
      *message = GetDeviceInfo{};
      return DecodeError::kNone;
    case layout::kGetDeviceFeatures: {
      using L = layout::FeatureBlocks;
      *message = GetDeviceFeatures{.block_index = Load(bytes, L::kBlockIndex),
                                   .num_blocks = Load(bytes, L::kNumBlocks)};
      return DecodeError::kNone;
    }
    case layout::kSetDriverFeatures: {
      using L = layout::FeatureBlocks;
      const uint64_t words_bytes =
          uint64_t{Load(bytes, L::kNumBlocks)} * L::kWordBytes;
      if (words_bytes > size - L::kFixedBytes) return DecodeError::kBadCount;
      *message = SetDriverFeatures{
          .block_index = Load(bytes, L::kBlockIndex),
          .words = FeatureWords(bytes.subspan(L::kWords, words_bytes))};
      return DecodeError::kNone;
    }
    case layout::kGetConfig: {
      using L = layout::GetConfigRequest;
      *message = GetConfig{.offset = Load(bytes, L::kOffset),
                           .length = Load(bytes, L::kLength)};
      return DecodeError::kNone;
    }
    case layout::kSetConfig: {
      using L = layout::ConfigData;
      const uint32_t length = Load(bytes, L::kLength);
      if (length > size - L::kFixedBytes) return DecodeError::kBadCount;
      *message = SetConfig{.generation = Load(bytes, L::kGeneration),
                           .offset = Load(bytes, L::kOffset),
                           .data = bytes.subspan(L::kData, length)};
      return DecodeError::kNone;
    }
    case layout::kGetDeviceStatus:
      *message = GetDeviceStatus{};
      return DecodeError::kNone;
    case layout::kSetDeviceStatus: {
      using L = layout::Status;
      *message = SetDeviceStatus{.status = Load(bytes, L::kStatus)};
      return DecodeError::kNone;
    }
    case layout::kSetVqueue: {
      using L = layout::VqueueSettings;
      SetVqueue set;
      set.index = Load(bytes, L::kIndex);
      set.config.size = Load(bytes, L::kSize);
      set.config.desc.value = Load(bytes, L::kDescAddr);
      set.config.driver.value = Load(bytes, L::kDriverAddr);
      set.config.device.value = Load(bytes, L::kDeviceAddr);
      *message = set;
      return DecodeError::kNone;
    }
    case layout::kEventAvail: {
      using L = layout::Avail;
      const uint32_t next = Load(bytes, L::kNextOffset);
      *message = EventAvail{.index = Load(bytes, L::kVqIndex),
                            .next_offset = next & L::kOffsetMask,
                            .next_wrap = (next & L::kWrapBit) != 0};
      return DecodeError::kNone;
    }
    default:
      break;
  }

  // GET_VQUEUE, RESET_VQUEUE, GET_SHM.
  using L = layout::IndexRequest;
  const uint32_t index = Load(bytes, L::kIndex);
  if (header.msg_id == layout::kGetVqueue) {
    *message = GetVqueue{.index = index};
  } else if (header.msg_id == layout::kResetVqueue) {
    *message = ResetVqueue{.index = index};
  } else {
    *message = GetShm{.index = index};
  }
  return DecodeError::kNone;
}

DecodeError DecodeBus(const Header& header, std::span<const std::byte> bytes,
                      DriverMessage* message) {
  switch (header.msg_id) {
    case layout::kGetDevices:
      if (header.is_response) return DecodeError::kWrongDirection;
      break;
    case layout::kPing:
      break;
    case layout::kEventDevice:
      return DecodeError::kWrongDirection;
    default:
      return DecodeError::kUnknownId;
  }
  if (header.dev_num != 0) return DecodeError::kBadDeviceNumber;

  if (header.msg_id == layout::kGetDevices) {
    using L = layout::DevicesRequest;
    if (bytes.size() < L::kBytes) return DecodeError::kShortPayload;
    const uint32_t offset = Load(bytes, L::kOffset);
    const uint32_t count = Load(bytes, L::kCount);
    if (offset % L::kGrain != 0 || count % L::kGrain != 0) {
      return DecodeError::kUnaligned;
    }
    *message = GetDevices{.offset = offset, .count = count};
    return DecodeError::kNone;
  }

  using L = layout::PingData;
  if (bytes.size() < L::kBytes) return DecodeError::kShortPayload;
  const uint32_t data = Load(bytes, L::kData);
  if (header.is_response) {
    *message = PingResponse{.data = data};
  } else {
    *message = Ping{.data = data};
  }
  return DecodeError::kNone;
}

}  // namespace

std::string_view DecodeErrorName(DecodeError error) {
  switch (error) {
    case DecodeError::kNone:
      return "none";
    case DecodeError::kTooShort:
      return "too short";
    case DecodeError::kBadSize:
      return "bad size";
    case DecodeError::kUnknownId:
      return "unknown id";
    case DecodeError::kWrongDirection:
      return "wrong direction";
    case DecodeError::kBadDeviceNumber:
      return "bad device number";
    case DecodeError::kShortPayload:
      return "short payload";
    case DecodeError::kBadCount:
      return "bad count";
    case DecodeError::kUnaligned:
      return "unaligned";
  }
  return "?";
}

DecodeError DecodeFromDriver(Revision revision, size_t max_message_bytes,
                             std::span<const std::byte> bytes, Header* header,
                             DriverMessage* message) {
  VMSG_CHECK(revision == Revision::k2025, "revision without a codec");
  *header = Header{};
  if (bytes.size() < layout::kHeaderBytes) return DecodeError::kTooShort;
  const uint8_t type = Load(bytes, layout::kType);
  header->is_response = (type & layout::kTypeResponse) != 0;
  header->is_bus = (type & layout::kTypeBus) != 0;
  header->msg_id = Load(bytes, layout::kMsgId);
  header->dev_num = Load(bytes, layout::kDevNum);
  header->token = Load(bytes, layout::kToken);
  const size_t msg_size = Load(bytes, layout::kMsgSize);
  if (msg_size < layout::kHeaderBytes || msg_size > bytes.size() ||
      msg_size > max_message_bytes) {
    return DecodeError::kBadSize;
  }
  const std::span<const std::byte> whole = bytes.first(msg_size);
  return header->is_bus ? DecodeBus(*header, whole, message)
                        : DecodeTransport(*header, whole, message);
}

size_t EncodeDeviceInfo(Revision revision, const Header& request,
                        const DeviceInfoResponse& info,
                        std::span<std::byte> out) {
  VMSG_CHECK(revision == Revision::k2025, "revision without a codec");
  using L = layout::DeviceInfo;
  const size_t size = StoreResponse(request, L::kBytes, out);
  Store(out, L::kDeviceId, info.device_id);
  Store(out, L::kVendorId, info.vendor_id);
  Store(out, L::kNumFeatureBits, info.num_feature_bits);
  Store(out, L::kConfigSize, info.config_size);
  Store(out, L::kMaxVirtqueues, info.max_virtqueues);
  Store(out, L::kAdminVqStart, info.admin_vq_start);
  Store(out, L::kAdminVqCount, info.admin_vq_count);
  return size;
}

size_t EncodeDeviceFeatures(Revision revision, const Header& request,
                            uint32_t block_index, uint32_t num_blocks,
                            const virtio::Features& features,
                            std::span<std::byte> out) {
  VMSG_CHECK(revision == Revision::k2025, "revision without a codec");
  using L = layout::FeatureBlocks;
  const size_t size = StoreResponse(
      request, L::kFixedBytes + size_t{num_blocks} * L::kWordBytes, out);
  Store(out, L::kBlockIndex, block_index);
  Store(out, L::kNumBlocks, num_blocks);
  for (uint32_t k = 0; k < num_blocks; ++k) {
    Store(out, Field<uint32_t>{L::kWords + size_t{k} * L::kWordBytes},
          features.block(uint64_t{block_index} + k));
  }
  return size;
}

size_t EncodeEmpty(const Header& request, std::span<std::byte> out) {
  return StoreResponse(request, layout::kEmptyBytes, out);
}

size_t EncodeConfig(const Header& request, uint32_t generation, uint32_t offset,
                    uint32_t length, std::span<std::byte> out,
                    std::span<std::byte>* data) {
  using L = layout::ConfigData;
  const size_t size =
      StoreResponse(request, L::kFixedBytes + size_t{length}, out);
  Store(out, L::kGeneration, generation);
  Store(out, L::kOffset, offset);
  Store(out, L::kLength, length);
  *data = out.subspan(L::kData, length);
  return size;
}

size_t EncodeConfigWritten(const Header& request, uint32_t generation,
                           uint32_t offset, uint32_t length,
                           std::span<std::byte> out) {
  using L = layout::ConfigData;
  const size_t size = StoreResponse(request, L::kFixedBytes, out);
  Store(out, L::kGeneration, generation);
  Store(out, L::kOffset, offset);
  Store(out, L::kLength, length);
  return size;
}

size_t EncodeStatus(const Header& request, uint32_t status,
                    std::span<std::byte> out) {
  using L = layout::Status;
  const size_t size = StoreResponse(request, L::kBytes, out);
  Store(out, L::kStatus, status);
  return size;
}

size_t EncodeVqueue(Revision revision, const Header& request,
                    const VqueueResponse& vqueue, std::span<std::byte> out) {
  VMSG_CHECK(revision == Revision::k2025, "revision without a codec");
  using L = layout::VqueueInfo;
  const size_t size = StoreResponse(request, L::kBytes, out);
  Store(out, L::kIndex, vqueue.index);
  Store(out, L::kMaxSize, vqueue.max_size);
  Store(out, L::kCurSize, vqueue.config.size);
  Store(out, L::kReserved, 0);
  Store(out, L::kDescAddr, vqueue.config.desc.value);
  Store(out, L::kDriverAddr, vqueue.config.driver.value);
  Store(out, L::kDeviceAddr, vqueue.config.device.value);
  return size;
}

size_t EncodeShm(Revision revision, const Header& request,
                 const ShmResponse& shm, std::span<std::byte> out) {
  VMSG_CHECK(revision == Revision::k2025, "revision without a codec");
  using L = layout::Shm;
  // The last byte of the region, too, has to have a 32-bit address.
  constexpr uint64_t kLimit = uint64_t{1} << 32;
  const bool fits = shm.length < kLimit && shm.address < kLimit &&
                    shm.length <= kLimit - shm.address;
  const bool exists = fits && shm.length != 0;
  const size_t size = StoreResponse(request, L::kBytes, out);
  Store(out, L::kIndex, shm.index);
  Store(out, L::kLength, exists ? shm.length : 0);
  Store(out, L::kAddress, exists ? shm.address : 0);
  return size;
}

size_t EncodeDevices(Revision revision, const Header& request, uint32_t offset,
                     uint32_t count, uint32_t next_offset, uint64_t present,
                     std::span<std::byte> out) {
  VMSG_CHECK(revision == Revision::k2025, "revision without a codec");
  using L = layout::DevicesResponse;
  const size_t bitmap_bytes = count / 8;
  const size_t size =
      StoreResponse(request, L::kFixedBytes + bitmap_bytes, out);
  Store(out, L::kOffset, offset);
  Store(out, L::kCount, count);
  Store(out, L::kNextOffset, next_offset);
  for (size_t i = 0; i < bitmap_bytes; ++i) {
    const uint64_t first = uint64_t{offset} + 8 * i;
    out[L::kBitmap + i] =
        static_cast<std::byte>(first < 64 ? present >> first : 0);
  }
  return size;
}

size_t EncodePing(const Header& request, uint32_t data,
                  std::span<std::byte> out) {
  using L = layout::PingData;
  const size_t size = StoreResponse(request, L::kBytes, out);
  Store(out, L::kData, data);
  return size;
}

size_t EncodeConfigEvent(uint32_t dev_num, const ConfigEvent& event,
                         std::span<const std::byte> data,
                         std::span<std::byte> out) {
  using L = layout::ConfigEventFields;
  const size_t size = StoreEvent(layout::kEventConfig, dev_num,
                                 L::kFixedBytes + data.size(), out);
  Store(out, L::kStatus, event.status);
  Store(out, L::kGeneration, event.generation);
  Store(out, L::kOffset, event.offset);
  Store(out, L::kLength, event.length);
  std::copy(data.begin(), data.end(), out.begin() + L::kData);
  return size;
}

size_t EncodeUsedEvent(uint32_t dev_num, uint32_t vq_index,
                       std::span<std::byte> out) {
  using L = layout::Used;
  const size_t size = StoreEvent(layout::kEventUsed, dev_num, L::kBytes, out);
  Store(out, L::kVqIndex, vq_index);
  return size;
}

size_t EncodeDeviceEvent(uint32_t device_number, DeviceBusState state,
                         std::span<std::byte> out) {
  using L = layout::DeviceEvent;
  StoreHeader(out, layout::kTypeBus, layout::kEventDevice, 0, 0, L::kBytes);
  Store(out, L::kDeviceNumber, device_number);
  Store(out, L::kState, static_cast<uint16_t>(state));
  return L::kBytes;
}

size_t EncodePingRequest(uint16_t token, uint32_t data,
                         std::span<std::byte> out) {
  using L = layout::PingData;
  StoreHeader(out, layout::kTypeBus, layout::kPing, 0, token, L::kBytes);
  Store(out, L::kData, data);
  return L::kBytes;
}

}  // namespace vmsg::msg
