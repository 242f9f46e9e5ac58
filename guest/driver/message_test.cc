#include "guest/driver/message.h"

#include <array>
#include <cstddef>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/testing/bytes.h"

namespace vmsg::guest {
namespace {

constexpr uint16_t kDevice = 5;
constexpr uint16_t kToken = 0x1234;

// The examples of virtio-msg-messages, section 9, are the vectors here.
class MessageTest : public testing::Test {
 protected:
  // The message of `size` bytes in buffer_, with the token of the examples.
  std::vector<std::byte> Request(size_t size) {
    SetToken(buffer_, kToken);
    return ToVector(std::span(buffer_).first(size));
  }
  std::vector<std::byte> Event(size_t size) {
    return ToVector(std::span(buffer_).first(size));
  }

  // Filled, so that a byte that an encoder forgets shows.
  std::array<std::byte, 64> buffer_ = [] {
    std::array<std::byte, 64> bytes;
    bytes.fill(std::byte{0xA5});
    return bytes;
  }();
};

TEST_F(MessageTest, EncodesGetDeviceInfo) {
  EXPECT_EQ(Request(EncodeGetDeviceInfo(kDevice, buffer_)),
            Bytes("00 02 05 00 34 12 08 00"));
}

TEST_F(MessageTest, EncodesGetDeviceFeatures) {
  EXPECT_EQ(Request(EncodeGetDeviceFeatures(kDevice, 0, 2, buffer_)),
            Bytes("00 03 05 00 34 12 10 00 00 00 00 00 02 00 00 00"));
}

TEST_F(MessageTest, EncodesSetDriverFeatures) {
  const Features features = Features::Of(kFeatureVersion1);
  EXPECT_EQ(Request(EncodeSetDriverFeatures(kDevice, 1, 1, features, buffer_)),
            Bytes("00 04 05 00 34 12 14 00 01 00 00 00 01 00 00 00"
                  " 01 00 00 00"));
}

TEST_F(MessageTest, EncodesGetConfig) {
  EXPECT_EQ(Request(EncodeGetConfig(kDevice, 0, 8, buffer_)),
            Bytes("00 05 05 00 34 12 10 00 00 00 00 00 08 00 00 00"));
}

TEST_F(MessageTest, EncodesSetConfig) {
  const std::vector<std::byte> data = Bytes("01");
  EXPECT_EQ(Request(EncodeSetConfig(kDevice, 7, 32, data, buffer_)),
            Bytes("00 06 05 00 34 12 15 00 07 00 00 00 20 00 00 00"
                  " 01 00 00 00 01"));
}

TEST_F(MessageTest, EncodesSetDeviceStatus) {
  EXPECT_EQ(Request(EncodeSetDeviceStatus(
                kDevice, kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk,
                buffer_)),
            Bytes("00 08 05 00 34 12 0c 00 0b 00 00 00"));
}

TEST_F(MessageTest, EncodesSetVqueueWithReservedWordsZero) {
  const Vqueue vqueue = {.index = 0,
                         .max_size = 256,  // must not show
                         .size = 128,
                         .desc = 0x40001000,
                         .driver = 0x40001800,
                         .device = 0x40002000};
  EXPECT_EQ(Request(EncodeSetVqueue(kDevice, vqueue, buffer_)),
            Bytes("00 0a 05 00 34 12 30 00 00 00 00 00 00 00 00 00"
                  " 80 00 00 00 00 00 00 00 00 10 00 40 00 00 00 00"
                  " 00 18 00 40 00 00 00 00 00 20 00 40 00 00 00 00"));
}

TEST_F(MessageTest, EncodesRequestsOfOneWordOrNone) {
  EXPECT_EQ(Request(EncodeGetDeviceStatus(kDevice, buffer_)),
            Bytes("00 07 05 00 34 12 08 00"));
  EXPECT_EQ(Request(EncodeGetVqueue(kDevice, 3, buffer_)),
            Bytes("00 09 05 00 34 12 0c 00 03 00 00 00"));
  EXPECT_EQ(Request(EncodeResetVqueue(kDevice, 3, buffer_)),
            Bytes("00 0b 05 00 34 12 0c 00 03 00 00 00"));
  EXPECT_EQ(Request(EncodeGetShm(kDevice, 3, buffer_)),
            Bytes("00 0c 05 00 34 12 0c 00 03 00 00 00"));
}

TEST_F(MessageTest, EncodesEventAvailWithWrapInTheTopBit) {
  EXPECT_EQ(Event(EncodeEventAvail(kDevice, 1, 5 | 0x80000000u, buffer_)),
            Bytes("00 41 05 00 00 00 10 00 01 00 00 00 05 00 00 80"));
}

TEST_F(MessageTest, EncodesBusRequests) {
  EXPECT_EQ(Request(EncodeGetDevices(0, 16, buffer_)),
            Bytes("02 02 00 00 34 12 0c 00 00 00 10 00"));
  EXPECT_EQ(Request(EncodePing(0x12345678, buffer_)),
            Bytes("02 03 00 00 34 12 0c 00 78 56 34 12"));
}

TEST_F(MessageTest, EncodesPingResponseWithTheTokenOfTheRequest) {
  EXPECT_EQ(Event(EncodePingResponse(kToken, 0x12345678, buffer_)),
            Bytes("03 03 00 00 34 12 0c 00 78 56 34 12"));
}

TEST_F(MessageTest, EncodersRefuseWhatTheBusDoesNotCarry) {
  const std::span<std::byte> short_of_vqueue = std::span(buffer_).first(47);
  EXPECT_EQ(EncodeSetVqueue(kDevice, {}, short_of_vqueue), 0u);
  // 64 bytes carry 44 bytes of configuration and 12 feature blocks.
  const std::array<std::byte, 45> data = {};
  EXPECT_EQ(EncodeSetConfig(kDevice, 0, 0, data, buffer_), 0u);
  EXPECT_EQ(EncodeSetConfig(kDevice, 0, 0, std::span(data).first(44), buffer_),
            64u);
  EXPECT_EQ(EncodeSetDriverFeatures(kDevice, 0, 13, {}, buffer_), 0u);
  EXPECT_EQ(EncodeSetDriverFeatures(kDevice, 0, 12, {}, buffer_), 64u);
  EXPECT_EQ(EncodeSetDriverFeatures(kDevice, 0, UINT32_MAX, {}, buffer_), 0u);
}

TEST(MessageHeaderTest, ReadsFieldsAndIgnoresReservedTypeBits) {
  Header header;
  ASSERT_TRUE(DecodeHeader(Bytes("fd 02 05 00 34 12 08 00"), /*max_bytes=*/64,
                           &header));
  EXPECT_EQ(header.type, kTypeResponse);
  EXPECT_TRUE(header.is_response());
  EXPECT_FALSE(header.is_bus());
  EXPECT_EQ(header.msg_id, kMsgGetDeviceInfo);
  EXPECT_EQ(header.dev_num, 5);
  EXPECT_EQ(header.token, kToken);
  EXPECT_EQ(header.msg_size, 8);
}

TEST(MessageHeaderTest, RefusesSizesThatDoNotFit) {
  Header header;
  // Fewer bytes than a header.
  EXPECT_FALSE(DecodeHeader(Bytes("01 02 05 00 34 12 08"), 64, &header));
  // msg_size below the header.
  EXPECT_FALSE(DecodeHeader(Bytes("01 02 05 00 34 12 07 00"), 64, &header));
  // msg_size above what arrived.
  EXPECT_FALSE(DecodeHeader(Bytes("01 02 05 00 34 12 09 00"), 64, &header));
  // msg_size above what the bus carries.
  EXPECT_FALSE(DecodeHeader(Bytes("01 02 05 00 34 12 09 00 00"), 8, &header));
}

TEST(MessageDecodeTest, DeviceInfo) {
  DeviceInfo info;
  ASSERT_TRUE(DecodeDeviceInfo(
      Bytes("01 02 05 00 34 12 20 00 02 00 00 00 f4 1a 00 00"
            " 40 00 00 00 60 00 00 00 01 00 00 00 03 00 02 00"),
      &info));
  EXPECT_EQ(info.device_id, 2u);
  EXPECT_EQ(info.vendor_id, 0x1AF4u);
  EXPECT_EQ(info.num_feature_bits, 64u);
  EXPECT_EQ(info.config_size, 96u);
  EXPECT_EQ(info.max_virtqueues, 1u);
  EXPECT_EQ(info.admin_vq_start, 3u);
  EXPECT_EQ(info.admin_vq_count, 2u);
}

TEST(MessageDecodeTest, DeviceInfoWithFeatureCountThatIsNoMultipleOf32Fails) {
  DeviceInfo info;
  EXPECT_FALSE(DecodeDeviceInfo(
      Bytes("01 02 05 00 34 12 20 00 02 00 00 00 f4 1a 00 00"
            " 41 00 00 00 60 00 00 00 01 00 00 00 00 00 00 00"),
      &info));
}

TEST(MessageDecodeTest, DeviceFeatures) {
  const std::vector<std::byte> message = Bytes(
      "01 03 05 00 34 12 18 00 00 00 00 00 02 00 00 00"
      " 00 00 00 10 01 01 00 00");
  FeatureBlocks blocks;
  ASSERT_TRUE(DecodeDeviceFeatures(message, &blocks));
  EXPECT_EQ(blocks.block_index, 0u);
  ASSERT_EQ(blocks.num_blocks, 2u);
  Features features;
  features.set_block(0, FeatureWord(blocks, 0));
  features.set_block(1, FeatureWord(blocks, 1));
  EXPECT_EQ(features, Features::Of(kFeatureIndirectDesc, kFeatureVersion1,
                                   kFeatureRingReset));
}

TEST(MessageDecodeTest, DeviceFeaturesWithMoreBlocksThanBytesFail) {
  FeatureBlocks blocks;
  EXPECT_FALSE(DecodeDeviceFeatures(
      Bytes("01 03 05 00 34 12 18 00 00 00 00 00 03 00 00 00"
            " 00 00 00 10 01 01 00 00"),
      &blocks));
  // 4 * num_blocks wraps to 0 in 32 bits.
  EXPECT_FALSE(DecodeDeviceFeatures(
      Bytes("01 03 05 00 34 12 10 00 00 00 00 00 00 00 00 40"), &blocks));
}

TEST(MessageDecodeTest, Config) {
  const std::vector<std::byte> message = Bytes(
      "01 05 05 00 34 12 1c 00 07 00 00 00 00 00 00 00"
      " 08 00 00 00 00 20 00 00 00 00 00 00");
  ConfigData config;
  ASSERT_TRUE(DecodeConfig(message, &config));
  EXPECT_EQ(config.generation, 7u);
  EXPECT_EQ(config.offset, 0u);
  EXPECT_EQ(config.length, 8u);
  EXPECT_EQ(ToVector(config.data), Bytes("00 20 00 00 00 00 00 00"));
}

TEST(MessageDecodeTest, ConfigLongerThanTheMessageFails) {
  ConfigData config;
  EXPECT_FALSE(
      DecodeConfig(Bytes("01 05 05 00 34 12 15 00 07 00 00 00 00 00 00 00"
                         " 02 00 00 00 00 20"),
                   &config));
}

TEST(MessageDecodeTest, RejectedConfigWrite) {
  ConfigData config;
  ASSERT_TRUE(DecodeConfigWritten(
      Bytes("01 06 05 00 34 12 14 00 08 00 00 00 20 00 00 00 00 00 00 00"),
      &config));
  EXPECT_EQ(config.generation, 8u);
  EXPECT_EQ(config.offset, 32u);
  EXPECT_EQ(config.length, 0u);
}

TEST(MessageDecodeTest, ConfigWriteIsAcceptedWithAndWithoutEcho) {
  ConfigData config;
  ASSERT_TRUE(DecodeConfigWritten(
      Bytes("01 06 05 00 34 12 14 00 08 00 00 00 20 00 00 00 01 00 00 00"),
      &config));
  EXPECT_EQ(config.length, 1u);
  EXPECT_TRUE(config.data.empty());
  ASSERT_TRUE(DecodeConfigWritten(
      Bytes("01 06 05 00 34 12 15 00 08 00 00 00 20 00 00 00 01 00 00 00 99"),
      &config));
  EXPECT_EQ(config.length, 1u);
  EXPECT_EQ(config.data.size(), 1u);
}

TEST(MessageDecodeTest, StatusWithoutBitsThatHaveNoMeaning) {
  uint32_t status = 0;
  ASSERT_TRUE(
      DecodeStatus(Bytes("01 08 05 00 34 12 0c 00 03 00 00 00"), &status));
  EXPECT_EQ(status, kStatusAcknowledge | kStatusDriver);
  ASSERT_TRUE(
      DecodeStatus(Bytes("01 08 05 00 34 12 0c 00 03 01 00 80"), &status));
  EXPECT_EQ(status, kStatusAcknowledge | kStatusDriver);
}

TEST(MessageDecodeTest, Vqueue) {
  Vqueue vqueue;
  ASSERT_TRUE(
      DecodeVqueue(Bytes("01 09 05 00 34 12 30 00 00 00 00 00 00 01 00 00"
                         " 80 00 00 00 00 00 00 00 00 10 00 40 00 00 00 00"
                         " 00 18 00 40 00 00 00 00 00 20 00 40 00 00 00 00"),
                   &vqueue));
  EXPECT_EQ(vqueue.index, 0u);
  EXPECT_EQ(vqueue.max_size, 256u);
  EXPECT_EQ(vqueue.size, 128u);
  EXPECT_EQ(vqueue.desc, 0x40001000u);
  EXPECT_EQ(vqueue.driver, 0x40001800u);
  EXPECT_EQ(vqueue.device, 0x40002000u);
}

TEST(MessageDecodeTest, SharedMemoryThatDoesNotExist) {
  SharedMemoryInfo shm;
  ASSERT_TRUE(DecodeShm(
      Bytes("01 0c 05 00 34 12 14 00 01 00 00 00 00 00 00 00 00 00 00 00"),
      &shm));
  EXPECT_EQ(shm.index, 1u);
  EXPECT_EQ(shm.length, 0u);
  EXPECT_EQ(shm.address, 0u);
}

TEST(MessageDecodeTest, ConfigEventWithoutData) {
  ConfigEvent event;
  ASSERT_TRUE(
      DecodeEventConfig(Bytes("00 40 05 00 00 00 18 00 4f 00 00 00 08 00 00 00"
                              " 00 00 00 00 00 00 00 00"),
                        &event));
  EXPECT_EQ(event.status, 0x4Fu);
  EXPECT_EQ(event.generation, 8u);
  EXPECT_TRUE(event.data.empty());
}

TEST(MessageDecodeTest, ConfigEventWithData) {
  const std::vector<std::byte> message = Bytes(
      "00 40 05 00 00 00 1a 00 0f 00 00 00 09 00 00 00"
      " 06 00 00 00 02 00 00 00 01 00");
  ConfigEvent event;
  ASSERT_TRUE(DecodeEventConfig(message, &event));
  EXPECT_EQ(event.status, 0x0Fu);
  EXPECT_EQ(event.generation, 9u);
  EXPECT_EQ(event.offset, 6u);
  EXPECT_EQ(ToVector(event.data), Bytes("01 00"));
}

TEST(MessageDecodeTest, ConfigEventMayNameARangeAndOmitTheData) {
  ConfigEvent event;
  ASSERT_TRUE(
      DecodeEventConfig(Bytes("00 40 05 00 00 00 18 00 0f 00 00 00 09 00 00 00"
                              " 06 00 00 00 02 00 00 00"),
                        &event));
  EXPECT_EQ(event.length, 2u);
  EXPECT_TRUE(event.data.empty());
}

TEST(MessageDecodeTest, ConfigEventWithPartOfItsDataFails) {
  ConfigEvent event;
  EXPECT_FALSE(
      DecodeEventConfig(Bytes("00 40 05 00 00 00 19 00 0f 00 00 00 09 00 00 00"
                              " 06 00 00 00 02 00 00 00 01"),
                        &event));
}

TEST(MessageDecodeTest, UsedEvent) {
  uint32_t queue = 0;
  ASSERT_TRUE(
      DecodeEventUsed(Bytes("00 42 05 00 00 00 0c 00 01 00 00 00"), &queue));
  EXPECT_EQ(queue, 1u);
}

TEST(MessageDecodeTest, Devices) {
  const std::vector<std::byte> message =
      Bytes("03 02 00 00 34 12 10 00 00 00 10 00 10 00 25 00");
  DeviceWindow window;
  ASSERT_TRUE(DecodeDevices(message, &window));
  EXPECT_EQ(window.offset, 0u);
  EXPECT_EQ(window.count, 16u);
  EXPECT_EQ(window.next_offset, 16u);
  EXPECT_EQ(ToVector(window.bitmap), Bytes("25 00"));
}

TEST(MessageDecodeTest, DevicesWithACountThatDoesNotFitFail) {
  DeviceWindow window;
  // 24 numbers need 3 bytes.
  EXPECT_FALSE(DecodeDevices(
      Bytes("03 02 00 00 34 12 10 00 00 00 18 00 00 00 25 00"), &window));
  // Not a multiple of 8.
  EXPECT_FALSE(DecodeDevices(
      Bytes("03 02 00 00 34 12 10 00 00 00 0f 00 00 00 25 00"), &window));
}

TEST(MessageDecodeTest, PingAndDeviceEvent) {
  uint32_t data = 0;
  ASSERT_TRUE(DecodePing(Bytes("03 03 00 00 34 12 0c 00 78 56 34 12"), &data));
  EXPECT_EQ(data, 0x12345678u);
  DeviceEvent event;
  ASSERT_TRUE(
      DecodeEventDevice(Bytes("02 40 00 00 00 00 0c 00 05 00 01 00"), &event));
  EXPECT_EQ(event.number, 5u);
  EXPECT_EQ(event.state, kDeviceReady);
}

// Every decoder, with the size of its fixed part.
struct Decoder {
  const char* name;
  size_t fixed_bytes;
  bool (*decode)(std::span<const std::byte>);
};

template <typename Result, bool (*kDecode)(std::span<const std::byte>, Result*)>
bool Decodes(std::span<const std::byte> message) {
  Result result;
  return kDecode(message, &result);
}

class DecoderTest : public testing::TestWithParam<Decoder> {
 protected:
  // A packet of zeroes that claims `size` bytes.
  static std::vector<std::byte> Message(size_t size) {
    std::vector<std::byte> bytes(64);
    bytes[6] = static_cast<std::byte>(size);
    return bytes;
  }
};

TEST_P(DecoderTest, AcceptsTheFixedPartAndIgnoresSurplus) {
  EXPECT_TRUE(GetParam().decode(Message(GetParam().fixed_bytes)));
  EXPECT_TRUE(GetParam().decode(Message(64)));
}

TEST_P(DecoderTest, RefusesLessThanTheFixedPart) {
  // The bytes are there in the packet, but not part of the message.
  EXPECT_FALSE(GetParam().decode(Message(GetParam().fixed_bytes - 1)));
  EXPECT_FALSE(GetParam().decode(Message(8)));
}

INSTANTIATE_TEST_SUITE_P(
    All, DecoderTest,
    testing::Values(
        Decoder{"DeviceInfo", 32, Decodes<DeviceInfo, DecodeDeviceInfo>},
        Decoder{"Features", 16, Decodes<FeatureBlocks, DecodeDeviceFeatures>},
        Decoder{"Config", 20, Decodes<ConfigData, DecodeConfig>},
        Decoder{"ConfigWritten", 20, Decodes<ConfigData, DecodeConfigWritten>},
        Decoder{"Status", 12, Decodes<uint32_t, DecodeStatus>},
        Decoder{"Vqueue", 48, Decodes<Vqueue, DecodeVqueue>},
        Decoder{"Shm", 20, Decodes<SharedMemoryInfo, DecodeShm>},
        Decoder{"EventConfig", 24, Decodes<ConfigEvent, DecodeEventConfig>},
        Decoder{"EventUsed", 12, Decodes<uint32_t, DecodeEventUsed>},
        Decoder{"Devices", 14, Decodes<DeviceWindow, DecodeDevices>},
        Decoder{"Ping", 12, Decodes<uint32_t, DecodePing>},
        Decoder{"EventDevice", 12, Decodes<DeviceEvent, DecodeEventDevice>}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace vmsg::guest
