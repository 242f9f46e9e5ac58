// Numbers of the wire: offsets, ids and sizes. Only the codec, the monitor and
// their tests look at them. Source: virtio-msg-messages (revision 1, December
// 2025).

#ifndef VMSG_DEVICES_VIRTIO_MSG_LAYOUT_H_
#define VMSG_DEVICES_VIRTIO_MSG_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace vmsg::msg::layout {

// A field of a message, a little-endian integer of type T: where it starts,
// counted in bytes from the start of the message (column M of the tables).
template <typename T>
struct Field {
  size_t offset;
  constexpr size_t end() const { return offset + sizeof(T); }
};

// Section 2: common header.
inline constexpr Field<uint8_t> kType{0};
inline constexpr Field<uint8_t> kMsgId{1};
inline constexpr Field<uint16_t> kDevNum{2};
inline constexpr Field<uint16_t> kToken{4};
inline constexpr Field<uint16_t> kMsgSize{6};
inline constexpr size_t kHeaderBytes = 8;
static_assert(kMsgId.offset == kType.end());
static_assert(kDevNum.offset == kMsgId.end());
static_assert(kToken.offset == kDevNum.end());
static_assert(kMsgSize.offset == kToken.end());
static_assert(kHeaderBytes == kMsgSize.end());

// Section 2.1: type. Bits 2 to 7 are reserved.
inline constexpr uint8_t kTypeResponse = 1u << 0;
inline constexpr uint8_t kTypeBus = 1u << 1;
inline constexpr uint8_t kTypeMask = kTypeResponse | kTypeBus;

// Section 2.2: ids of the transport space.
inline constexpr uint8_t kGetDeviceInfo = 0x02;
inline constexpr uint8_t kGetDeviceFeatures = 0x03;
inline constexpr uint8_t kSetDriverFeatures = 0x04;
inline constexpr uint8_t kGetConfig = 0x05;
inline constexpr uint8_t kSetConfig = 0x06;
inline constexpr uint8_t kGetDeviceStatus = 0x07;
inline constexpr uint8_t kSetDeviceStatus = 0x08;
inline constexpr uint8_t kGetVqueue = 0x09;
inline constexpr uint8_t kSetVqueue = 0x0A;
inline constexpr uint8_t kResetVqueue = 0x0B;
inline constexpr uint8_t kGetShm = 0x0C;
inline constexpr uint8_t kEventConfig = 0x40;
inline constexpr uint8_t kEventAvail = 0x41;
inline constexpr uint8_t kEventUsed = 0x42;

// Section 2.2: ids of the bus space.
inline constexpr uint8_t kGetDevices = 0x02;
inline constexpr uint8_t kPing = 0x03;
inline constexpr uint8_t kEventDevice = 0x40;

// A message without variable part, or its fixed part: size of the whole.
inline constexpr size_t kEmptyBytes = kHeaderBytes;

// Section 4.1.
struct DeviceInfo {
  static constexpr Field<uint32_t> kDeviceId{8};
  static constexpr Field<uint32_t> kVendorId{12};
  static constexpr Field<uint32_t> kNumFeatureBits{16};
  static constexpr Field<uint32_t> kConfigSize{20};
  static constexpr Field<uint32_t> kMaxVirtqueues{24};
  static constexpr Field<uint16_t> kAdminVqStart{28};
  static constexpr Field<uint16_t> kAdminVqCount{30};
  static constexpr size_t kBytes = 32;
};
static_assert(DeviceInfo::kDeviceId.offset == kHeaderBytes);
static_assert(DeviceInfo::kVendorId.offset == DeviceInfo::kDeviceId.end());
static_assert(DeviceInfo::kNumFeatureBits.offset ==
              DeviceInfo::kVendorId.end());
static_assert(DeviceInfo::kConfigSize.offset ==
              DeviceInfo::kNumFeatureBits.end());
static_assert(DeviceInfo::kMaxVirtqueues.offset ==
              DeviceInfo::kConfigSize.end());
static_assert(DeviceInfo::kAdminVqStart.offset ==
              DeviceInfo::kMaxVirtqueues.end());
static_assert(DeviceInfo::kAdminVqCount.offset ==
              DeviceInfo::kAdminVqStart.end());
static_assert(DeviceInfo::kBytes == DeviceInfo::kAdminVqCount.end());

// Sections 4.2 and 4.3: both directions share the fixed part.
struct FeatureBlocks {
  static constexpr Field<uint32_t> kBlockIndex{8};
  static constexpr Field<uint32_t> kNumBlocks{12};
  static constexpr size_t kWords = 16;  // where the le32 words start
  static constexpr size_t kWordBytes = 4;
  static constexpr size_t kFixedBytes = 16;
};
static_assert(FeatureBlocks::kBlockIndex.offset == kHeaderBytes);
static_assert(FeatureBlocks::kNumBlocks.offset ==
              FeatureBlocks::kBlockIndex.end());
static_assert(FeatureBlocks::kFixedBytes == FeatureBlocks::kNumBlocks.end());
static_assert(FeatureBlocks::kWords == FeatureBlocks::kFixedBytes);

// Section 4.4, request.
struct GetConfigRequest {
  static constexpr Field<uint32_t> kOffset{8};
  static constexpr Field<uint32_t> kLength{12};
  static constexpr size_t kBytes = 16;
};
static_assert(GetConfigRequest::kOffset.offset == kHeaderBytes);
static_assert(GetConfigRequest::kLength.offset ==
              GetConfigRequest::kOffset.end());
static_assert(GetConfigRequest::kBytes == GetConfigRequest::kLength.end());

// Section 4.4, response, and 4.5, both directions.
struct ConfigData {
  static constexpr Field<uint32_t> kGeneration{8};
  static constexpr Field<uint32_t> kOffset{12};
  static constexpr Field<uint32_t> kLength{16};
  static constexpr size_t kData = 20;
  static constexpr size_t kFixedBytes = 20;
};
static_assert(ConfigData::kGeneration.offset == kHeaderBytes);
static_assert(ConfigData::kOffset.offset == ConfigData::kGeneration.end());
static_assert(ConfigData::kLength.offset == ConfigData::kOffset.end());
static_assert(ConfigData::kFixedBytes == ConfigData::kLength.end());
static_assert(ConfigData::kData == ConfigData::kFixedBytes);

// Sections 4.6 and 4.7: the response of both and the request of 4.7.
struct Status {
  static constexpr Field<uint32_t> kStatus{8};
  static constexpr size_t kBytes = 12;
};
static_assert(Status::kStatus.offset == kHeaderBytes);
static_assert(Status::kBytes == Status::kStatus.end());

// Sections 4.8, 4.10 and 4.11: requests that hold nothing but an index.
struct IndexRequest {
  static constexpr Field<uint32_t> kIndex{8};
  static constexpr size_t kBytes = 12;
};
static_assert(IndexRequest::kIndex.offset == kHeaderBytes);
static_assert(IndexRequest::kBytes == IndexRequest::kIndex.end());

// Section 4.8, response.
struct VqueueInfo {
  static constexpr Field<uint32_t> kIndex{8};
  static constexpr Field<uint32_t> kMaxSize{12};
  static constexpr Field<uint32_t> kCurSize{16};
  static constexpr Field<uint32_t> kReserved{20};
  static constexpr Field<uint64_t> kDescAddr{24};
  static constexpr Field<uint64_t> kDriverAddr{32};
  static constexpr Field<uint64_t> kDeviceAddr{40};
  static constexpr size_t kBytes = 48;
};
static_assert(VqueueInfo::kIndex.offset == kHeaderBytes);
static_assert(VqueueInfo::kMaxSize.offset == VqueueInfo::kIndex.end());
static_assert(VqueueInfo::kCurSize.offset == VqueueInfo::kMaxSize.end());
static_assert(VqueueInfo::kReserved.offset == VqueueInfo::kCurSize.end());
static_assert(VqueueInfo::kDescAddr.offset == VqueueInfo::kReserved.end());
static_assert(VqueueInfo::kDriverAddr.offset == VqueueInfo::kDescAddr.end());
static_assert(VqueueInfo::kDeviceAddr.offset == VqueueInfo::kDriverAddr.end());
static_assert(VqueueInfo::kBytes == VqueueInfo::kDeviceAddr.end());

// Section 4.9, request.
struct VqueueSettings {
  static constexpr Field<uint32_t> kIndex{8};
  static constexpr Field<uint32_t> kReserved0{12};
  static constexpr Field<uint32_t> kSize{16};
  static constexpr Field<uint32_t> kReserved1{20};
  static constexpr Field<uint64_t> kDescAddr{24};
  static constexpr Field<uint64_t> kDriverAddr{32};
  static constexpr Field<uint64_t> kDeviceAddr{40};
  static constexpr size_t kBytes = 48;
};
static_assert(VqueueSettings::kIndex.offset == kHeaderBytes);
static_assert(VqueueSettings::kReserved0.offset ==
              VqueueSettings::kIndex.end());
static_assert(VqueueSettings::kSize.offset == VqueueSettings::kReserved0.end());
static_assert(VqueueSettings::kReserved1.offset == VqueueSettings::kSize.end());
static_assert(VqueueSettings::kDescAddr.offset ==
              VqueueSettings::kReserved1.end());
static_assert(VqueueSettings::kDriverAddr.offset ==
              VqueueSettings::kDescAddr.end());
static_assert(VqueueSettings::kDeviceAddr.offset ==
              VqueueSettings::kDriverAddr.end());
static_assert(VqueueSettings::kBytes == VqueueSettings::kDeviceAddr.end());

// Section 4.11, response.
struct Shm {
  static constexpr Field<uint32_t> kIndex{8};
  static constexpr Field<uint32_t> kLength{12};
  static constexpr Field<uint32_t> kAddress{16};
  static constexpr size_t kBytes = 20;
};
static_assert(Shm::kIndex.offset == kHeaderBytes);
static_assert(Shm::kLength.offset == Shm::kIndex.end());
static_assert(Shm::kAddress.offset == Shm::kLength.end());
static_assert(Shm::kBytes == Shm::kAddress.end());

// Section 4.12.
struct ConfigEventFields {
  static constexpr Field<uint32_t> kStatus{8};
  static constexpr Field<uint32_t> kGeneration{12};
  static constexpr Field<uint32_t> kOffset{16};
  static constexpr Field<uint32_t> kLength{20};
  static constexpr size_t kData = 24;
  static constexpr size_t kFixedBytes = 24;
};
static_assert(ConfigEventFields::kStatus.offset == kHeaderBytes);
static_assert(ConfigEventFields::kGeneration.offset ==
              ConfigEventFields::kStatus.end());
static_assert(ConfigEventFields::kOffset.offset ==
              ConfigEventFields::kGeneration.end());
static_assert(ConfigEventFields::kLength.offset ==
              ConfigEventFields::kOffset.end());
static_assert(ConfigEventFields::kFixedBytes ==
              ConfigEventFields::kLength.end());
static_assert(ConfigEventFields::kData == ConfigEventFields::kFixedBytes);

// Section 4.13.
struct Avail {
  static constexpr Field<uint32_t> kVqIndex{8};
  static constexpr Field<uint32_t> kNextOffset{12};
  static constexpr uint32_t kOffsetMask = 0x7FFFFFFF;
  static constexpr uint32_t kWrapBit = 0x80000000;
  static constexpr size_t kBytes = 16;
};
static_assert(Avail::kVqIndex.offset == kHeaderBytes);
static_assert(Avail::kNextOffset.offset == Avail::kVqIndex.end());
static_assert(Avail::kBytes == Avail::kNextOffset.end());

// Section 4.14.
struct Used {
  static constexpr Field<uint32_t> kVqIndex{8};
  static constexpr size_t kBytes = 12;
};
static_assert(Used::kVqIndex.offset == kHeaderBytes);
static_assert(Used::kBytes == Used::kVqIndex.end());

// Section 5.1, request.
struct DevicesRequest {
  static constexpr Field<uint16_t> kOffset{8};
  static constexpr Field<uint16_t> kCount{10};
  static constexpr size_t kBytes = 12;
  static constexpr uint32_t kGrain = 8;  // both values are multiples of it
};
static_assert(DevicesRequest::kOffset.offset == kHeaderBytes);
static_assert(DevicesRequest::kCount.offset == DevicesRequest::kOffset.end());
static_assert(DevicesRequest::kBytes == DevicesRequest::kCount.end());

// Section 5.1, response.
struct DevicesResponse {
  static constexpr Field<uint16_t> kOffset{8};
  static constexpr Field<uint16_t> kCount{10};
  static constexpr Field<uint16_t> kNextOffset{12};
  static constexpr size_t kBitmap = 14;
  static constexpr size_t kFixedBytes = 14;
};
static_assert(DevicesResponse::kOffset.offset == kHeaderBytes);
static_assert(DevicesResponse::kCount.offset == DevicesResponse::kOffset.end());
static_assert(DevicesResponse::kNextOffset.offset ==
              DevicesResponse::kCount.end());
static_assert(DevicesResponse::kFixedBytes ==
              DevicesResponse::kNextOffset.end());
static_assert(DevicesResponse::kBitmap == DevicesResponse::kFixedBytes);

// Section 5.2, both directions.
struct PingData {
  static constexpr Field<uint32_t> kData{8};
  static constexpr size_t kBytes = 12;
};
static_assert(PingData::kData.offset == kHeaderBytes);
static_assert(PingData::kBytes == PingData::kData.end());

// Section 5.3.
struct DeviceEvent {
  static constexpr Field<uint16_t> kDeviceNumber{8};
  static constexpr Field<uint16_t> kState{10};
  static constexpr size_t kBytes = 12;
};
static_assert(DeviceEvent::kDeviceNumber.offset == kHeaderBytes);
static_assert(DeviceEvent::kState.offset == DeviceEvent::kDeviceNumber.end());
static_assert(DeviceEvent::kBytes == DeviceEvent::kState.end());

}  // namespace vmsg::msg::layout

#endif  // VMSG_DEVICES_VIRTIO_MSG_LAYOUT_H_
