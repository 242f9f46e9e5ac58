#include "devices/virtio_msg/monitor/device_message.h"

#include <algorithm>

#include "devices/virtio/little_endian.h"
#include "devices/virtio_msg/layout.h"

namespace vmsg::msg {
namespace {

using layout::Field;

template <typename T>
T Load(std::span<const std::byte> from, Field<T> field) {
  return virtio::LoadLittle<T>(
      std::span<const std::byte, sizeof(T)>(&from[field.offset], sizeof(T)));
}

bool DecodeTransport(const Header& header, std::span<const std::byte> bytes,
                     DeviceMessage* message) {
  const auto has = [&](size_t size) { return bytes.size() >= size; };
  if (!header.is_response) {
    *message = std::monostate{};
    using L = layout::ConfigEventFields;
    if (header.msg_id != layout::kEventConfig) return true;
    if (!has(L::kFixedBytes)) return false;
    *message = ConfigChanged{.status = Load(bytes, L::kStatus),
                             .generation = Load(bytes, L::kGeneration),
                             .has_data = bytes.size() > L::kData};
    return true;
  }
  switch (header.msg_id) {
    case layout::kGetDeviceInfo: {
      using L = layout::DeviceInfo;
      if (!has(L::kBytes)) return false;
      *message = DeviceInfoResponse{
          .device_id = Load(bytes, L::kDeviceId),
          .vendor_id = Load(bytes, L::kVendorId),
          .num_feature_bits = Load(bytes, L::kNumFeatureBits),
          .config_size = Load(bytes, L::kConfigSize),
          .max_virtqueues = Load(bytes, L::kMaxVirtqueues)};
      return true;
    }
    case layout::kGetDeviceFeatures: {
      using L = layout::FeatureBlocks;
      if (!has(L::kFixedBytes)) return false;
      const uint64_t words =
          std::min<uint64_t>(Load(bytes, L::kNumBlocks),
                             (bytes.size() - L::kFixedBytes) / L::kWordBytes);
      *message = FeaturesAnswer{.block_index = Load(bytes, L::kBlockIndex),
                                .words = FeatureWords(bytes.subspan(
                                    L::kWords, words * L::kWordBytes))};
      return true;
    }
    case layout::kGetConfig:
    case layout::kSetConfig: {
      using L = layout::ConfigData;
      if (!has(L::kFixedBytes)) return false;
      *message = ConfigAnswer{.generation = Load(bytes, L::kGeneration),
                              .length = Load(bytes, L::kLength)};
      return true;
    }
    case layout::kGetDeviceStatus:
    case layout::kSetDeviceStatus:
      if (!has(layout::Status::kBytes)) return false;
      *message = StatusAnswer{.status = Load(bytes, layout::Status::kStatus)};
      return true;
    case layout::kGetVqueue: {
      using L = layout::VqueueInfo;
      if (!has(L::kBytes)) return false;
      *message = VqueueAnswer{.index = Load(bytes, L::kIndex),
                              .max_size = Load(bytes, L::kMaxSize),
                              .cur_size = Load(bytes, L::kCurSize)};
      return true;
    }
    default:
      *message = OtherAnswer{};
      return true;
  }
}

bool DecodeBus(const Header& header, std::span<const std::byte> bytes,
               DeviceMessage* message) {
  const auto has = [&](size_t size) { return bytes.size() >= size; };
  *message = std::monostate{};
  if (header.is_response) {
    using L = layout::DevicesResponse;
    if (header.msg_id != layout::kGetDevices) return true;
    if (!has(L::kFixedBytes)) return false;
    *message = DevicesAnswer{.offset = Load(bytes, L::kOffset),
                             .bitmap = bytes.subspan(L::kBitmap)};
  } else if (header.msg_id == layout::kEventDevice) {
    using L = layout::DeviceEvent;
    if (!has(L::kBytes)) return false;
    *message = DeviceStateEvent{.device_number = Load(bytes, L::kDeviceNumber),
                                .state = Load(bytes, L::kState)};
  } else if (header.msg_id == layout::kPing) {
    if (!has(layout::PingData::kBytes)) return false;
    *message = Ping{.data = Load(bytes, layout::PingData::kData)};
  }
  return true;
}

}  // namespace

bool DecodeFromDevice(std::span<const std::byte> bytes, Header* header,
                      DeviceMessage* message) {
  if (bytes.size() < layout::kHeaderBytes) return false;
  const size_t size = Load(bytes, layout::kMsgSize);
  if (size < layout::kHeaderBytes || size > bytes.size()) return false;
  const uint8_t type = Load(bytes, layout::kType);
  *header = Header{.is_response = (type & layout::kTypeResponse) != 0,
                   .is_bus = (type & layout::kTypeBus) != 0,
                   .msg_id = Load(bytes, layout::kMsgId),
                   .dev_num = Load(bytes, layout::kDevNum),
                   .token = Load(bytes, layout::kToken)};
  const std::span<const std::byte> whole = bytes.first(size);
  return header->is_bus ? DecodeBus(*header, whole, message)
                        : DecodeTransport(*header, whole, message);
}

}  // namespace vmsg::msg
