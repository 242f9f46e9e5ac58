#include "devices/virtio_msg/codec.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <variant>
#include <vector>

#include "devices/virtio_msg/testing/wire.h"
#include "gtest/gtest.h"

namespace vmsg::msg {
namespace {

constexpr size_t kMax = 64;

struct Decoded {
  DecodeError error;
  Header header;
  DriverMessage message;
};

// A message that no decoding gives, to see that it is left alone.
Decoded Decode(const Bytes& bytes, size_t max = kMax) {
  Decoded decoded;
  decoded.message = PingResponse{.data = 0xDEAD};
  decoded.error = DecodeFromDriver(Revision::k2025, max, bytes, &decoded.header,
                                   &decoded.message);
  return decoded;
}

template <typename T>
T DecodeAs(const Bytes& bytes, size_t max = kMax) {
  const Decoded decoded = Decode(bytes, max);
  EXPECT_EQ(decoded.error, DecodeError::kNone);
  const T* const message = std::get_if<T>(&decoded.message);
  EXPECT_NE(message, nullptr);
  return message != nullptr ? *message : T{};
}

// Room for the largest message, filled so that a byte written too far shows.
class Out {
 public:
  Out() { bytes_.fill(std::byte{0xEE}); }
  std::span<std::byte> span() { return bytes_; }
  Bytes First(size_t size) const {
    for (size_t i = size; i < bytes_.size(); ++i) {
      EXPECT_EQ(bytes_[i], std::byte{0xEE}) << "byte " << i;
    }
    return Bytes(bytes_.begin(), bytes_.begin() + size);
  }

 private:
  std::array<std::byte, kMaxMessageBytes> bytes_;
};

Header RequestHeader(uint8_t msg_id) {
  return Header{.msg_id = msg_id, .dev_num = 5, .token = 0x1234};
}
Header BusRequestHeader(uint8_t msg_id) {
  return Header{.is_bus = true, .msg_id = msg_id, .token = 0x1234};
}

// --- The byte examples of virtio-msg-messages, 9. ---

TEST(CodecExampleTest, GetDeviceInfoRequest) {
  const Decoded decoded = Decode(Hex("00 02 05 00 34 12 08 00"));
  EXPECT_EQ(decoded.error, DecodeError::kNone);
  EXPECT_TRUE(std::holds_alternative<GetDeviceInfo>(decoded.message));
  EXPECT_FALSE(decoded.header.is_response);
  EXPECT_FALSE(decoded.header.is_bus);
  EXPECT_EQ(decoded.header.msg_id, 0x02);
  EXPECT_EQ(decoded.header.dev_num, 5u);
  EXPECT_EQ(decoded.header.token, 0x1234);
}

TEST(CodecExampleTest, GetDeviceInfoResponse) {
  Out out;
  const size_t size = EncodeDeviceInfo(Revision::k2025, RequestHeader(0x02),
                                       DeviceInfoResponse{
                                           .device_id = 2,
                                           .vendor_id = 0x1AF4,
                                           .num_feature_bits = 64,
                                           .config_size = 96,
                                           .max_virtqueues = 1,
                                       },
                                       out.span());
  EXPECT_EQ(out.First(size),
            Hex("01 02 05 00 34 12 20 00 02 00 00 00 f4 1a 00 00"
                "40 00 00 00 60 00 00 00 01 00 00 00 00 00 00 00"));
}

TEST(CodecExampleTest, GetDeviceFeaturesRequest) {
  const auto get = DecodeAs<GetDeviceFeatures>(
      Hex("00 03 05 00 34 12 10 00 00 00 00 00 02 00 00 00"));
  EXPECT_EQ(get.block_index, 0u);
  EXPECT_EQ(get.num_blocks, 2u);
}

TEST(CodecExampleTest, GetDeviceFeaturesResponse) {
  Out out;
  const size_t size =
      EncodeDeviceFeatures(Revision::k2025, RequestHeader(0x03), 0, 2,
                           virtio::Features{28, 32, 40}, out.span());
  EXPECT_EQ(out.First(size),
            Hex("01 03 05 00 34 12 18 00 00 00 00 00 02 00 00 00"
                "00 00 00 10 01 01 00 00"));
}

TEST(CodecExampleTest, SetDriverFeaturesRequest) {
  const Bytes bytes =
      Hex("00 04 05 00 34 12 14 00 01 00 00 00 01 00 00 00"
          "01 00 00 00");
  const auto set = DecodeAs<SetDriverFeatures>(bytes);
  EXPECT_EQ(set.block_index, 1u);
  ASSERT_EQ(set.words.size(), 1u);
  EXPECT_EQ(set.words[0], 1u);
}

TEST(CodecExampleTest, EmptyResponses) {
  Out out;
  EXPECT_EQ(out.First(EncodeEmpty(RequestHeader(0x04), out.span())),
            Hex("01 04 05 00 34 12 08 00"));
  EXPECT_EQ(out.First(EncodeEmpty(RequestHeader(0x0A), out.span())),
            Hex("01 0a 05 00 34 12 08 00"));
}

TEST(CodecExampleTest, GetConfigRequest) {
  const auto get = DecodeAs<GetConfig>(
      Hex("00 05 05 00 34 12 10 00 00 00 00 00 08 00 00 00"));
  EXPECT_EQ(get.offset, 0u);
  EXPECT_EQ(get.length, 8u);
}

TEST(CodecExampleTest, GetConfigResponse) {
  Out out;
  std::span<std::byte> data;
  const size_t size =
      EncodeConfig(RequestHeader(0x05), 7, 0, 8, out.span(), &data);
  ASSERT_EQ(data.size(), 8u);
  const Bytes value = Hex("00 20 00 00 00 00 00 00");
  std::copy(value.begin(), value.end(), data.begin());
  EXPECT_EQ(out.First(size),
            Hex("01 05 05 00 34 12 1c 00 07 00 00 00 00 00 00 00"
                "08 00 00 00 00 20 00 00 00 00 00 00"));
}

TEST(CodecExampleTest, SetConfigRequest) {
  const Bytes bytes =
      Hex("00 06 05 00 34 12 15 00 07 00 00 00 20 00 00 00"
          "01 00 00 00 01");
  const auto set = DecodeAs<SetConfig>(bytes);
  EXPECT_EQ(set.generation, 7u);
  EXPECT_EQ(set.offset, 32u);
  EXPECT_EQ(Bytes(set.data.begin(), set.data.end()), Hex("01"));
}

TEST(CodecExampleTest, SetConfigResponse) {
  Out out;
  EXPECT_EQ(
      out.First(EncodeConfigWritten(RequestHeader(0x06), 8, 32, 0, out.span())),
      Hex("01 06 05 00 34 12 14 00 08 00 00 00 20 00 00 00"
          "00 00 00 00"));
}

TEST(CodecExampleTest, SetDeviceStatusRequest) {
  EXPECT_EQ(
      DecodeAs<SetDeviceStatus>(Hex("00 08 05 00 34 12 0c 00 0b 00 00 00"))
          .status,
      0x0Bu);
}

TEST(CodecExampleTest, SetDeviceStatusResponse) {
  Out out;
  EXPECT_EQ(out.First(EncodeStatus(RequestHeader(0x08), 3, out.span())),
            Hex("01 08 05 00 34 12 0c 00 03 00 00 00"));
}

TEST(CodecExampleTest, SetVqueueRequest) {
  const auto set = DecodeAs<SetVqueue>(
      Hex("00 0a 05 00 34 12 30 00 00 00 00 00 00 00 00 00"
          "80 00 00 00 00 00 00 00 00 10 00 40 00 00 00 00"
          "00 18 00 40 00 00 00 00 00 20 00 40 00 00 00 00"));
  EXPECT_EQ(set.index, 0u);
  EXPECT_EQ(set.config.size, 128u);
  EXPECT_EQ(set.config.desc.value, 0x40001000u);
  EXPECT_EQ(set.config.driver.value, 0x40001800u);
  EXPECT_EQ(set.config.device.value, 0x40002000u);
  // Revision 2025 has no flags: every request enables and keeps nothing.
  EXPECT_EQ(set.enable, SetVqueue::Enable::kEnable);
  EXPECT_FALSE(set.keep_size || set.keep_desc || set.keep_driver ||
               set.keep_device);
}

TEST(CodecExampleTest, GetVqueueResponse) {
  Out out;
  const size_t size =
      EncodeVqueue(Revision::k2025, RequestHeader(0x09),
                   VqueueResponse{.index = 0,
                                  .max_size = 256,
                                  .enabled = true,
                                  .config = {.size = 128,
                                             .desc = {0x40001000},
                                             .driver = {0x40001800},
                                             .device = {0x40002000}}},
                   out.span());
  EXPECT_EQ(out.First(size),
            Hex("01 09 05 00 34 12 30 00 00 00 00 00 00 01 00 00"
                "80 00 00 00 00 00 00 00 00 10 00 40 00 00 00 00"
                "00 18 00 40 00 00 00 00 00 20 00 40 00 00 00 00"));
}

TEST(CodecExampleTest, GetShmResponse) {
  Out out;
  const size_t size = EncodeShm(Revision::k2025, RequestHeader(0x0C),
                                ShmResponse{.index = 1}, out.span());
  EXPECT_EQ(out.First(size), Hex("01 0c 05 00 34 12 14 00 01 00 00 00 00 00 00"
                                 "00 00 00 00 00"));
}

TEST(CodecExampleTest, ConfigEventWithoutData) {
  Out out;
  const size_t size = EncodeConfigEvent(
      5, ConfigEvent{.status = 0x4F, .generation = 8}, {}, out.span());
  EXPECT_EQ(out.First(size),
            Hex("00 40 05 00 00 00 18 00 4f 00 00 00 08 00 00 00"
                "00 00 00 00 00 00 00 00"));
}

TEST(CodecExampleTest, ConfigEventWithData) {
  Out out;
  const size_t size = EncodeConfigEvent(
      5, ConfigEvent{.status = 0x0F, .generation = 9, .offset = 6, .length = 2},
      Hex("01 00"), out.span());
  EXPECT_EQ(out.First(size),
            Hex("00 40 05 00 00 00 1a 00 0f 00 00 00 09 00 00 00"
                "06 00 00 00 02 00 00 00 01 00"));
}

TEST(CodecExampleTest, AvailEvent) {
  const auto avail = DecodeAs<EventAvail>(
      Hex("00 41 05 00 00 00 10 00 01 00 00 00 05 00 00 80"));
  EXPECT_EQ(avail.index, 1u);
  EXPECT_EQ(avail.next_offset, 5u);
  EXPECT_TRUE(avail.next_wrap);
}

TEST(CodecExampleTest, UsedEvent) {
  Out out;
  EXPECT_EQ(out.First(EncodeUsedEvent(5, 1, out.span())),
            Hex("00 42 05 00 00 00 0c 00 01 00 00 00"));
}

TEST(CodecExampleTest, GetDevicesRequest) {
  const Decoded decoded = Decode(Hex("02 02 00 00 34 12 0c 00 00 00 10 00"));
  EXPECT_EQ(decoded.error, DecodeError::kNone);
  EXPECT_TRUE(decoded.header.is_bus);
  const GetDevices get = std::get<GetDevices>(decoded.message);
  EXPECT_EQ(get.offset, 0u);
  EXPECT_EQ(get.count, 16u);
}

TEST(CodecExampleTest, GetDevicesResponse) {
  Out out;
  const size_t size = EncodeDevices(
      Revision::k2025, BusRequestHeader(0x02), 0, 16, 16,
      uint64_t{1} << 0 | uint64_t{1} << 2 | uint64_t{1} << 5, out.span());
  EXPECT_EQ(out.First(size),
            Hex("03 02 00 00 34 12 10 00 00 00 10 00 10 00 25 00"));
}

TEST(CodecExampleTest, Ping) {
  EXPECT_EQ(DecodeAs<Ping>(Hex("02 03 00 00 34 12 0c 00 78 56 34 12")).data,
            0x12345678u);
  Out out;
  EXPECT_EQ(
      out.First(EncodePing(BusRequestHeader(0x03), 0x12345678, out.span())),
      Hex("03 03 00 00 34 12 0c 00 78 56 34 12"));
  EXPECT_EQ(out.First(EncodePingRequest(0x1234, 0x12345678, out.span())),
            Hex("02 03 00 00 34 12 0c 00 78 56 34 12"));
  EXPECT_EQ(
      DecodeAs<PingResponse>(Hex("03 03 00 00 34 12 0c 00 78 56 34 12")).data,
      0x12345678u);
}

TEST(CodecExampleTest, DeviceEvent) {
  Out out;
  EXPECT_EQ(out.First(EncodeDeviceEvent(5, DeviceBusState::kReady, out.span())),
            Hex("02 40 00 00 00 00 0c 00 05 00 01 00"));
  EXPECT_EQ(
      out.First(EncodeDeviceEvent(31, DeviceBusState::kRemoved, out.span())),
      Hex("02 40 00 00 00 00 0c 00 1f 00 02 00"));
}

// --- Header: virtio-msg-messages, 2. ---

TEST(CodecHeaderTest, FewerThanEightBytesAreTooShort) {
  const Bytes whole = GetStatusRequest(5);
  for (size_t size = 0; size < 8; ++size) {
    const Decoded decoded = Decode(Bytes(whole.begin(), whole.begin() + size));
    EXPECT_EQ(decoded.error, DecodeError::kTooShort) << size;
    EXPECT_TRUE(std::holds_alternative<PingResponse>(decoded.message));
  }
}

// 2.6, 1.
TEST(CodecHeaderTest, MsgSizeBelowEightIsBad) {
  for (uint8_t size = 0; size < 8; ++size) {
    Bytes bytes = GetStatusRequest(5);
    bytes[6] = std::byte{size};
    EXPECT_EQ(Decode(bytes).error, DecodeError::kBadSize) << int{size};
  }
}

TEST(CodecHeaderTest, MsgSizeAboveWhatArrivedIsBad) {
  Bytes bytes = GetStatusRequest(5);
  bytes[6] = std::byte{9};
  EXPECT_EQ(Decode(bytes).error, DecodeError::kBadSize);
  bytes[7] = std::byte{0xFF};
  EXPECT_EQ(Decode(bytes).error, DecodeError::kBadSize);
}

TEST(CodecHeaderTest, MsgSizeAboveTheMaximumIsBad) {
  Bytes bytes = GetStatusRequest(5);
  bytes.resize(kMax + 1);
  bytes[6] = static_cast<std::byte>(kMax);
  EXPECT_EQ(Decode(bytes).error, DecodeError::kNone);
  bytes[6] = static_cast<std::byte>(kMax + 1);
  EXPECT_EQ(Decode(bytes).error, DecodeError::kBadSize);
  EXPECT_EQ(Decode(bytes, kMax + 1).error, DecodeError::kNone);
}

// 2.5, O-26.
TEST(CodecHeaderTest, SurplusBytesAreIgnored) {
  Bytes bytes = GetConfigRequest(5, 3, 4);
  bytes.resize(kMax, std::byte{0xFF});
  for (size_t size = 16; size <= kMax; ++size) {
    bytes[6] = static_cast<std::byte>(size);
    const auto get = DecodeAs<GetConfig>(bytes);
    EXPECT_EQ(get.offset, 3u);
    EXPECT_EQ(get.length, 4u);
  }
}

// 2.1: bits 2 to 7 are ignored on receive.
TEST(CodecHeaderTest, ReservedTypeBitsAreIgnored) {
  for (uint32_t high = 0; high < 64; ++high) {
    Bytes transport = GetStatusRequest(5);
    transport[0] = static_cast<std::byte>(high << 2);
    EXPECT_EQ(Decode(transport).error, DecodeError::kNone);
    Bytes ping = PingRequest(1);
    ping[0] = static_cast<std::byte>(high << 2 | 2);
    EXPECT_EQ(Decode(ping).error, DecodeError::kNone);
    Bytes answer = GetStatusRequest(5);
    answer[0] = static_cast<std::byte>(high << 2 | 1);
    EXPECT_EQ(Decode(answer).error, DecodeError::kWrongDirection);
  }
}

// 2.2: bit 1 of type chooses the id space.
TEST(CodecHeaderTest, EveryIdOfEverySpaceIsKnownUnknownOrNotTheDrivers) {
  for (uint32_t type = 0; type < 4; ++type) {
    for (uint32_t id = 0; id < 256; ++id) {
      Bytes bytes =
          Message(static_cast<uint8_t>(type), static_cast<uint8_t>(id), 0);
      bytes.resize(kMax);
      bytes[6] = static_cast<std::byte>(kMax);  // enough for each fixed part
      DecodeError want = DecodeError::kUnknownId;
      if (type == 0 && ((id >= 0x02 && id <= 0x0C) || id == 0x41)) {
        want = DecodeError::kNone;
      } else if (type == 1 &&
                 ((id >= 0x02 && id <= 0x0C) || (id >= 0x40 && id <= 0x42))) {
        want = DecodeError::kWrongDirection;
      } else if (type == 0 && (id == 0x40 || id == 0x42)) {
        want = DecodeError::kWrongDirection;
      } else if (type == 2 && (id == 0x02 || id == 0x03)) {
        want = DecodeError::kNone;
      } else if (type == 3 && id == 0x03) {
        want = DecodeError::kNone;
      } else if ((type == 3 && (id == 0x02 || id == 0x40)) ||
                 (type == 2 && id == 0x40)) {
        want = DecodeError::kWrongDirection;
      }
      EXPECT_EQ(Decode(bytes).error, want) << "type " << type << " id " << id;
    }
  }
}

// 2.3.
TEST(CodecHeaderTest, BusMessageWithADeviceNumberIsMalformed) {
  for (const uint16_t dev : {1, 5, 0x100, 0xFFFF}) {
    EXPECT_EQ(Decode(Message(2, 0x03, dev, Payload().U32(1))).error,
              DecodeError::kBadDeviceNumber);
  }
}

TEST(CodecHeaderTest, DeviceNumberAndTokenHaveSixteenBits) {
  const Decoded decoded = Decode(Message(0, 0x07, 0xFFFE, {}, 0xABCD));
  EXPECT_EQ(decoded.error, DecodeError::kNone);
  EXPECT_EQ(decoded.header.dev_num, 0xFFFEu);
  EXPECT_EQ(decoded.header.token, 0xABCD);
}

TEST(CodecHeaderTest, HeaderOfABadMessageIsStillReadable) {
  const Decoded decoded = Decode(Message(3, 0x77, 9, {}, 0xABCD));
  EXPECT_EQ(decoded.error, DecodeError::kUnknownId);
  EXPECT_TRUE(decoded.header.is_response);
  EXPECT_TRUE(decoded.header.is_bus);
  EXPECT_EQ(decoded.header.msg_id, 0x77);
  EXPECT_EQ(decoded.header.dev_num, 9u);
  EXPECT_EQ(decoded.header.token, 0xABCD);
}

// --- Payloads. ---

struct FixedPart {
  uint8_t type;
  uint8_t id;
  size_t bytes;  // whole message; virtio-msg-messages, 3
};

class CodecFixedPartTest : public testing::TestWithParam<FixedPart> {};

// 2.6, 4.
TEST_P(CodecFixedPartTest, OneByteShortIsMalformedAndExactIsNot) {
  Bytes bytes(kMax);
  bytes[0] = std::byte{GetParam().type};
  bytes[1] = std::byte{GetParam().id};
  for (size_t size = 8; size <= kMax; ++size) {
    bytes[6] = static_cast<std::byte>(size);
    EXPECT_EQ(Decode(bytes).error, size < GetParam().bytes
                                       ? DecodeError::kShortPayload
                                       : DecodeError::kNone)
        << size;
  }
}

INSTANTIATE_TEST_SUITE_P(
    AllDriverMessages, CodecFixedPartTest,
    testing::Values(FixedPart{0, 0x02, 8}, FixedPart{0, 0x03, 16},
                    FixedPart{0, 0x04, 16}, FixedPart{0, 0x05, 16},
                    FixedPart{0, 0x06, 20}, FixedPart{0, 0x07, 8},
                    FixedPart{0, 0x08, 12}, FixedPart{0, 0x09, 12},
                    FixedPart{0, 0x0A, 48}, FixedPart{0, 0x0B, 12},
                    FixedPart{0, 0x0C, 12}, FixedPart{0, 0x41, 16},
                    FixedPart{2, 0x02, 12}, FixedPart{2, 0x03, 12},
                    FixedPart{3, 0x03, 12}));

// 2.6, 5: computed in 64 bits.
TEST(CodecPayloadTest, FeatureCountThatDoesNotFitIsMalformed) {
  const Bytes one_word = SetDriverFeaturesRequest(5, 0, {7});
  for (const uint32_t count :
       {2u, 0x3FFFFFFFu, 0x40000000u, 0x40000001u, 0xFFFFFFFFu}) {
    Bytes bytes = one_word;
    for (size_t i = 0; i < 4; ++i) {
      bytes[12 + i] = static_cast<std::byte>(count >> (8 * i));
    }
    EXPECT_EQ(Decode(bytes).error, DecodeError::kBadCount) << count;
  }
  EXPECT_EQ(DecodeAs<SetDriverFeatures>(one_word).words.size(), 1u);
}

TEST(CodecPayloadTest, FeatureCountZeroHasNoWords) {
  EXPECT_EQ(DecodeAs<SetDriverFeatures>(SetDriverFeaturesRequest(5, 0, {}))
                .words.size(),
            0u);
}

TEST(CodecPayloadTest, FeatureWordsAreLittleEndian) {
  const Bytes bytes = SetDriverFeaturesRequest(5, 0, {0x01020304, 0xF0E0D0C0});
  const auto set = DecodeAs<SetDriverFeatures>(bytes);
  EXPECT_EQ(set.words[0], 0x01020304u);
  EXPECT_EQ(set.words[1], 0xF0E0D0C0u);
}

TEST(CodecPayloadTest, ConfigLengthThatDoesNotFitIsMalformed) {
  const Bytes two_bytes = SetConfigRequest(5, 1, 2, {8, 9});
  for (const uint32_t length : {3u, 0x80000000u, 0xFFFFFFECu, 0xFFFFFFFFu}) {
    Bytes bytes = two_bytes;
    for (size_t i = 0; i < 4; ++i) {
      bytes[16 + i] = static_cast<std::byte>(length >> (8 * i));
    }
    EXPECT_EQ(Decode(bytes).error, DecodeError::kBadCount) << length;
  }
  EXPECT_EQ(DecodeAs<SetConfig>(two_bytes).data.size(), 2u);
}

TEST(CodecPayloadTest, ConfigDataMayBeEmpty) {
  EXPECT_TRUE(DecodeAs<SetConfig>(SetConfigRequest(5, 1, 2, {})).data.empty());
}

// 6.4, O-23.
TEST(CodecPayloadTest, UnalignedDeviceWindowIsDiscarded) {
  for (uint16_t value = 1; value < 8; ++value) {
    EXPECT_EQ(Decode(GetDevicesRequest(value, 8)).error,
              DecodeError::kUnaligned);
    EXPECT_EQ(Decode(GetDevicesRequest(8, value)).error,
              DecodeError::kUnaligned);
  }
  const auto get = DecodeAs<GetDevices>(GetDevicesRequest(0xFFF8, 0xFFF8));
  EXPECT_EQ(get.offset, 0xFFF8u);
  EXPECT_EQ(get.count, 0xFFF8u);
}

TEST(CodecPayloadTest, IndexRequestsKeepAllThirtyTwoBits) {
  EXPECT_EQ(DecodeAs<GetVqueue>(GetVqueueRequest(5, 0xFEDCBA98)).index,
            0xFEDCBA98u);
  EXPECT_EQ(DecodeAs<ResetVqueue>(ResetVqueueRequest(5, 0xFEDCBA98)).index,
            0xFEDCBA98u);
  EXPECT_EQ(DecodeAs<GetShm>(GetShmRequest(5, 0xFEDCBA98)).index, 0xFEDCBA98u);
}

// O-19: reserved words are ignored.
TEST(CodecPayloadTest, SetVqueueIgnoresItsReservedWords) {
  Bytes bytes = SetVqueueRequest(5, 1, 8, 0x1000, 0x2000, 0x3000);
  for (const size_t at : {12, 13, 14, 15, 20, 21, 22, 23}) {
    bytes[at] = std::byte{0xFF};
  }
  const auto set = DecodeAs<SetVqueue>(bytes);
  EXPECT_EQ(set.config.size, 8u);
  EXPECT_EQ(set.enable, SetVqueue::Enable::kEnable);
}

TEST(CodecPayloadTest, SetVqueueAddressesHaveSixtyFourBits) {
  const auto set = DecodeAs<SetVqueue>(SetVqueueRequest(
      5, 1, 8, 0xFFFFFFFFFFFFFFF0, 0x0123456789ABCDEF, 0x8000000000000000));
  EXPECT_EQ(set.config.desc.value, 0xFFFFFFFFFFFFFFF0u);
  EXPECT_EQ(set.config.driver.value, 0x0123456789ABCDEFu);
  EXPECT_EQ(set.config.device.value, 0x8000000000000000u);
}

TEST(CodecPayloadTest, AvailOffsetAndWrapAreApart) {
  const auto plain = DecodeAs<EventAvail>(
      Message(0, 0x41, 5, Payload().U32(0).U32(0x7FFFFFFF), 0));
  EXPECT_EQ(plain.next_offset, 0x7FFFFFFFu);
  EXPECT_FALSE(plain.next_wrap);
  const auto wrapped = DecodeAs<EventAvail>(
      Message(0, 0x41, 5, Payload().U32(0).U32(0x80000000), 0));
  EXPECT_EQ(wrapped.next_offset, 0u);
  EXPECT_TRUE(wrapped.next_wrap);
}

// --- Encoding at the edges. ---

// 4.2: computed in 64 bits so that it can't wrap.
TEST(CodecEncodeTest, FeatureBlocksPastTheEndAreZero) {
  Out out;
  const size_t size =
      EncodeDeviceFeatures(Revision::k2025, RequestHeader(0x03), 0xFFFFFFFF, 2,
                           virtio::Features{0}, out.span());
  const Received answer(out.First(size));
  EXPECT_EQ(answer.msg_size(), 24u);
  EXPECT_EQ(answer.u32(0), 0xFFFFFFFFu);
  EXPECT_EQ(answer.u32(4), 2u);
  EXPECT_EQ(answer.u32(8), 0u);
  EXPECT_EQ(answer.u32(12), 0u);  // not block 0
}

// O-8.
TEST(CodecEncodeTest, RegionThatThirtyTwoBitsCanNotDescribeDoesNotExist) {
  struct Case {
    uint64_t length;
    uint64_t address;
    bool exists;
  };
  for (const Case& c : std::vector<Case>{
           {0x1000, 0x10000, true},
           {0x1000, 0xFFFFF000, true},  // its last byte is the last address
           {0x1001, 0xFFFFF000, false},
           {0xFFFFFFFF, 1, true},
           {uint64_t{1} << 32, 0, false},
           {0x1000, uint64_t{1} << 32, false},
           {UINT64_MAX, UINT64_MAX, false},
           {0, 0x1000, false},
       }) {
    Out out;
    const size_t size = EncodeShm(
        Revision::k2025, RequestHeader(0x0C),
        ShmResponse{.index = 3, .length = c.length, .address = c.address},
        out.span());
    const Received answer(out.First(size));
    EXPECT_EQ(answer.u32(0), 3u);
    EXPECT_EQ(answer.u32(4), c.exists ? c.length : 0) << c.length;
    EXPECT_EQ(answer.u32(8), c.exists ? c.address : 0) << c.address;
  }
}

TEST(CodecEncodeTest, DeviceWindowPastTheBitmapIsEmpty) {
  Out out;
  const size_t size = EncodeDevices(Revision::k2025, BusRequestHeader(0x02), 56,
                                    24, 0, UINT64_MAX, out.span());
  const Received answer(out.First(size));
  EXPECT_EQ(answer.msg_size(), 17u);
  EXPECT_EQ(answer.u8(6), 0xFF);
  EXPECT_EQ(answer.u8(7), 0);
  EXPECT_EQ(answer.u8(8), 0);
}

TEST(CodecEncodeTest, ResponseTakesOverIdDeviceNumberAndToken) {
  Out out;
  const Header header{.msg_id = 0x07, .dev_num = 0x1F, .token = 0xBEEF};
  const Received answer(
      out.First(EncodeStatus(header, 0x01020304, out.span())));
  EXPECT_EQ(answer.type(), 1);
  EXPECT_EQ(answer.id(), 7);
  EXPECT_EQ(answer.dev(), 0x1F);
  EXPECT_EQ(answer.token(), 0xBEEF);
  EXPECT_EQ(answer.u32(0), 0x01020304u);
}

// virtio-msg-messages, 3: the table of what fits.
TEST(CodecLimitsTest, WhatFitsFollowsFromTheMaximumMessageSize) {
  EXPECT_EQ(MaxFeatureBlocks(48), 8u);
  EXPECT_EQ(MaxFeatureBlocks(64), 12u);
  EXPECT_EQ(MaxFeatureBlocks(264), 62u);
  EXPECT_EQ(MaxConfigBytes(48), 28u);
  EXPECT_EQ(MaxConfigBytes(64), 44u);
  EXPECT_EQ(MaxConfigBytes(264), 244u);
  EXPECT_EQ(MaxConfigEventBytes(64), 40u);
  EXPECT_EQ(MaxConfigEventBytes(264), 240u);
  EXPECT_EQ(MaxDevicesCount(64), 400u);
  EXPECT_EQ(MaxDevicesCount(264), 2000u);
}

TEST(DecodeErrorTest, EveryErrorHasAName) {
  for (int i = 0; i <= static_cast<int>(DecodeError::kUnaligned); ++i) {
    EXPECT_NE(DecodeErrorName(static_cast<DecodeError>(i)), "?");
  }
}

}  // namespace
}  // namespace vmsg::msg
