// Rows about what a driver and its side of the bus send and take.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <set>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/message.h"
#include "guest/driver/testing/bytes.h"
#include "tests/conformance/driver_fixture.h"

namespace vmsg::guest {
namespace {

class DriverMessageConformance : public DriverFixture {
 protected:
  // A driver whose messages have `limit` bytes at most, and whose device has
  // more configuration than fits, reads and writes all of it.
  void UseLongConfig(uint16_t limit) {
    std::array<std::byte, 100> data;
    fake_.config.resize(data.size());
    Bus bus(&platform_, &fifo_,
            {.doorbell_address = FakeDevice::kDoorbell,
             .interrupt = FakeDevice::kInterrupt,
             .timeout_ns = kTimeoutNs,
             .max_message_bytes = limit});
    VirtioDevice device;
    ASSERT_EQ(device.Probe(&bus, kDev), Error::kNone);
    ASSERT_EQ(device.Negotiate({}, {}), Error::kNone);
    ASSERT_EQ(device.ReadConfig(0, data), Error::kNone);
    ASSERT_EQ(device.WriteConfig(0, data), Error::kNone);
  }
};

MessageBytes With(MessageBytes message, size_t at, uint8_t value) {
  message.at(at) = static_cast<std::byte>(value);
  return message;
}

// --- Limits and revisions. ---

TEST_F(DriverMessageConformance, DRV_LIMIT_1_StaysBelowTheMaximum) {
  fake_.num_feature_bits = 128;
  for (const uint16_t limit : {48, 52, 64}) {
    ASSERT_NO_FATAL_FAILURE(UseLongConfig(limit));
    size_t largest = 0;
    for (const MessageBytes& message : fake_.received_of(false, 0x06)) {
      largest = std::max(largest, message.size());
    }
    EXPECT_EQ(largest, limit);
    // Nor is more asked for than fits into the answer.
    for (const MessageBytes& message : fake_.received_of(false, 0x05)) {
      EXPECT_LE(20 + Field(message, 12, 4), limit);
    }
  }
  // What a caller makes too long is refused.
  Bus small(&platform_, &fifo_,
            {.doorbell_address = FakeDevice::kDoorbell,
             .interrupt = FakeDevice::kInterrupt,
             .max_message_bytes = 48});
  const size_t before = Sent().size();
  Packet packet;
  std::array<std::byte, 29> data = {};
  ASSERT_EQ(EncodeSetConfig(kDev, 0, 0, data, packet.bytes), 49u);
  EXPECT_EQ(small.Call(packet.bytes, &packet), Error::kInvalidArgument);
  EXPECT_EQ(Sent().size(), before);
}

TEST_F(DriverMessageConformance, DRV_LIMIT_2_UsesTheMessagesOfRevisionOne) {
  DoEverything();
  for (const MessageBytes& message : Sent()) {
    const uint64_t id = Field(message, 1, 1);
    const bool bus = Field(message, 0, 1) == 2;
    EXPECT_TRUE(bus ? id == 0x02 || id == 0x03
                    : (id >= 0x02 && id <= 0x0C) || id == 0x41)
        << id;
  }
}

TEST_F(DriverMessageConformance, DRV_REV_2_UnknownMessagesAreIgnored) {
  Start();
  for (const uint8_t id : {0x00, 0x01, 0x43, 0x7F, 0xC0, 0xFF}) {
    fake_.Send(MessageBuilder(0, id, kDev, 0).U64(0).U64(0).Build());
    fake_.Send(MessageBuilder(2, id, 0, 0).U64(0).Build());
  }
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_EQ(bus_.counters().malformed, 12u);
  EXPECT_FALSE(device_.needs_reset());
  uint32_t status;
  EXPECT_EQ(device_.ReadStatus(&status), Error::kNone);
  EXPECT_EQ(status, 15u);
}

TEST_F(DriverMessageConformance, DRV_REV_3_HalfUnderstoodDataIsNotUsed) {
  fake_.config = Bytes("01 02 03 04 05 06 07 08");
  Probe();
  // Shorter than its own length says.
  fake_.OnRequest(0x05, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{
        AnswerTo(message).U32(9).U32(0).U32(4).U16(0).Build()};
  });
  std::array<std::byte, 4> data;
  EXPECT_EQ(device_.ReadConfig(0, data), Error::kBadAnswer);
  // About another range than the one asked for.
  fake_.OnRequest(0x05, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{
        AnswerTo(message).U32(9).U32(1).U32(4).U32(0).Build()};
  });
  EXPECT_EQ(device_.ReadConfig(0, data), Error::kBadAnswer);
  EXPECT_NE(device_.generation(), 9u);
  // An event whose data ends before its length does.
  fake_.intercept = nullptr;
  fake_.generation = 50;
  fake_.SendConfig(0, Bytes("aa bb"), 4);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_FALSE(device_.TakeConfigChanged());
  EXPECT_EQ(bus_.counters().malformed, 1u);
}

// --- Bytes. ---

TEST_F(DriverMessageConformance, DRV_ENDIAN_1_FieldsAreLittleEndianBothWays) {
  Packet packet;
  const Vqueue settings = {.index = 0x01020304,
                           .size = 0x05060708,
                           .desc = 0x1112131415161718,
                           .driver = 0x2122232425262728,
                           .device = 0x3132333435363738};
  ASSERT_EQ(EncodeSetVqueue(0x0A0B, settings, packet.bytes), 48u);
  EXPECT_EQ(ToVector(std::span(packet.bytes).first(48)),
            Bytes("00 0a 0b 0a 00 00 30 00  04 03 02 01 00 00 00 00"
                  "08 07 06 05 00 00 00 00  18 17 16 15 14 13 12 11"
                  "28 27 26 25 24 23 22 21  38 37 36 35 34 33 32 31"));
  const std::vector<std::byte> answer = Bytes(
      "01 09 0b 0a 00 00 30 00  04 03 02 01 40 30 20 10"
      "08 07 06 05 00 00 00 00  18 17 16 15 14 13 12 11"
      "28 27 26 25 24 23 22 21  38 37 36 35 34 33 32 31");
  Vqueue read;
  ASSERT_TRUE(DecodeVqueue(answer, &read));
  EXPECT_EQ(read.index, settings.index);
  EXPECT_EQ(read.max_size, 0x10203040u);
  EXPECT_EQ(read.size, settings.size);
  EXPECT_EQ(read.desc, settings.desc);
  EXPECT_EQ(read.driver, settings.driver);
  EXPECT_EQ(read.device, settings.device);
}

TEST_F(DriverMessageConformance, DRV_HDR_1_SendsReservedTypeBitsAsZero) {
  fake_.Send(MessageBuilder(0xFE, 0x03, 0, 9).U32(1).Build());  // a PING
  DoEverything();
  EXPECT_EQ(bus_.counters().pings_answered, 1u);
  for (const MessageBytes& message : Sent()) {
    EXPECT_EQ(Field(message, 0, 1) & 0xFC, 0u);
  }
}

TEST_F(DriverMessageConformance, DRV_HDR_2_IgnoresReservedTypeBits) {
  fake_.intercept = [](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    return std::vector<MessageBytes>{
        With(AnswerTo(message).U32(0x4F).Build(), 0, 0xFD)};
  };
  Packet packet;
  EncodeGetDeviceStatus(kDev, packet.bytes);
  ASSERT_EQ(bus_.Call(packet.bytes, &packet), Error::kNone);
  uint32_t status;
  ASSERT_TRUE(DecodeStatus(packet.bytes, &status));
  EXPECT_EQ(status, 0x4Fu);
  EXPECT_EQ(bus_.counters().malformed, 0u);
}

TEST_F(DriverMessageConformance, DRV_HDR_3_MsgSizeIsHeaderPlusPayload) {
  DoEverything();
  // Sizes of section 3 for what DoEverything() asks.
  for (const MessageBytes& message : Sent()) {
    const uint64_t id = Field(message, 1, 1);
    const bool bus = Field(message, 0, 1) == 2;
    const uint64_t expected = bus                        ? 12
                              : id == 0x02 || id == 0x07 ? 8
                              : id == 0x03 || id == 0x05 ? 16
                              : id == 0x04               ? 24
                              : id == 0x06               ? 52
                              : id == 0x0A               ? 48
                              : id == 0x41               ? 16
                                                         : 12;
    EXPECT_EQ(Field(message, 6, 2), expected) << id;
  }
}

// The field, whatever the packet has.
TEST_F(DriverMessageConformance, DRV_HDR_4_MsgSizeSaysNoMoreThanTheMaximum) {
  for (const uint16_t limit : {48, 64}) {
    ASSERT_NO_FATAL_FAILURE(UseLongConfig(limit));
    uint64_t most = 0;
    for (const MessageBytes& message : fake_.received()) {
      most = std::max<uint64_t>(most, Field(message, 6, 2));
    }
    EXPECT_EQ(most, limit);
  }
}

TEST_F(DriverMessageConformance, DRV_HDR_5_NamesTheIntendedDevice) {
  fake_.number = 9;
  ASSERT_EQ(device_.Probe(&bus_, 9), Error::kNone);
  ASSERT_EQ(device_.Negotiate({}, {}), Error::kNone);
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  ASSERT_EQ(device_.Start(), Error::kNone);
  ASSERT_EQ(AddAndNotify(), Error::kNone);
  ASSERT_EQ(device_.Reset(), Error::kNone);
  for (const MessageBytes& message : Sent()) {
    EXPECT_EQ(Field(message, 2, 2), 9u);
  }
}

TEST_F(DriverMessageConformance, DRV_HDR_6_RestOfAPacketIsZero) {
  // Fills every slot of the driver queue, so that the next ones are reused.
  std::memset(fake_.window() + 0x1080, 0xEE, 62 * 64);
  for (int i = 0; i < 70; ++i) ASSERT_EQ(bus_.Ping(0xFFFFFFFF), Error::kNone);
  for (size_t slot = 0; slot < 62; ++slot) {
    const std::byte* const packet = fake_.window() + 0x1080 + 64 * slot;
    for (size_t i = 12; i < 64; ++i) EXPECT_EQ(packet[i], std::byte{0});
  }
}

TEST_F(DriverMessageConformance, DRV_HDR_7_DriverItselfMakesNoTokens) {
  // It encodes without one; its side of the bus fills it in.
  Packet packet;
  EncodeGetDeviceInfo(kDev, packet.bytes);
  EXPECT_EQ(Field(MessageBytes(packet.bytes.begin(), packet.bytes.end()), 4, 2),
            0u);
  DoEverything();
  std::set<uint64_t> tokens;
  for (const MessageBytes& message : Sent()) {
    const uint64_t token = Field(message, 4, 2);
    const bool event = (Field(message, 1, 1) & 0x40) != 0;
    EXPECT_EQ(token == 0, event);
    EXPECT_TRUE(event || tokens.insert(token).second);
  }
}

TEST_F(DriverMessageConformance, DRV_HDR_8_TokensOfEventsDoNotMatter) {
  Start();
  for (const uint16_t token : {0, 1, 0xFFFF}) {
    fake_.Send(MessageBuilder(0, 0x42, kDev, token).U32(0).Build());
    EXPECT_EQ(device_.TakeUsed(), 1u) << token;
  }
  fake_.Send(MessageBuilder(2, 0x40, 0, 77).U16(3).U16(1).Build());
  DeviceEvent event;
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  ASSERT_TRUE(bus_.TakeDeviceEvent(&event));
  EXPECT_EQ(event.number, 3);
}

TEST_F(DriverMessageConformance, DRV_CORE_1_SendsAndReadsTheWholeSet) {
  DoEverything();
  for (uint8_t id = 0x02; id <= 0x0B; ++id) {
    EXPECT_FALSE(Sent(id).empty()) << int{id};
  }
}

TEST_F(DriverMessageConformance, FACT_SVQ_1_ReservedWordsAreZero) {
  Negotiate();
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  const std::vector<MessageBytes> sent = Sent(0x0A);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Field(sent[0], 12, 4), 0u);
  EXPECT_EQ(Field(sent[0], 20, 4), 0u);
}

TEST_F(DriverMessageConformance, FACT_EA_1_OffsetHas31BitsAndWrapIsOnTop) {
  Packet packet;
  ASSERT_EQ(EncodeEventAvail(5, 1, 5 | 1u << 31, packet.bytes), 16u);
  EXPECT_EQ(ToVector(std::span(packet.bytes).first(16)),
            Bytes("00 41 05 00 00 00 10 00 01 00 00 00 05 00 00 80"));
  // A split queue has no wrap (O-24), a packed one begins with 1.
  fake_.offered = FeatureBit(32) | FeatureBit(34) | FeatureBit(38);
  Start(Features::Of(kFeatureNotificationData));
  ASSERT_EQ(AddAndNotify(), Error::kNone);
  EXPECT_EQ(Field(Sent(0x41).at(0), 12, 4), 1u);
  Start(Features::Of(kFeatureNotificationData, kFeatureRingPacked));
  ASSERT_EQ(AddAndNotify(), Error::kNone);
  EXPECT_EQ(Field(Sent(0x41).at(1), 12, 4), 0x80000001u);
}

// --- The driver's side of the bus. ---

TEST_F(DriverMessageConformance, BUS_ERR_1_MissingAnswerIsAFailureHere) {
  Probe();
  fake_.intercept =
      [](const MessageBytes&) -> std::optional<std::vector<MessageBytes>> {
    return std::vector<MessageBytes>{};
  };
  const uint64_t start = platform_.NowNs();
  uint32_t status;
  EXPECT_EQ(device_.ReadStatus(&status), Error::kTimeout);
  EXPECT_EQ(platform_.NowNs() - start, kTimeoutNs);
  EXPECT_EQ(Sent(0x07).size(), 1u);
}

TEST_F(DriverMessageConformance, DRV_ENUM_1_EnumeratesByMessage) {
  fake_.present = 1u << 0 | 1u << 5 | 1u << 31;
  uint32_t present = 0;
  ASSERT_EQ(bus_.Enumerate(&present), Error::kNone);
  EXPECT_EQ(present, fake_.present);
  ASSERT_EQ(fake_.received_of(true, 0x02).size(), 1u);
}

TEST_F(DriverMessageConformance, ANY_PING_1_PingIsTheKeepalive) {
  Probe();
  EXPECT_EQ(device_.CheckHealth(), Error::kNone);
  EXPECT_EQ(fake_.received_of(true, 0x03).size(), 1u);
}

TEST_F(DriverMessageConformance, ANY_PING_2_LostPingLeadsToTheStatus) {
  Probe();
  fake_.intercept = [](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    if (Field(message, 0, 1) != 2) return std::nullopt;
    return std::vector<MessageBytes>{};
  };
  fake_.status = 64;
  EXPECT_EQ(device_.CheckHealth(), Error::kNeedsReset);
  EXPECT_EQ(Sent(0x07).size(), 1u);
}

TEST_F(DriverMessageConformance, FACT_PING_1_BothSidesMayPing) {
  fake_.intercept = [](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    if (Field(message, 0, 1) != 2) return std::nullopt;
    // Its own PING with the same token, before the answer.
    const auto token = static_cast<uint16_t>(Field(message, 4, 2));
    return std::vector<MessageBytes>{
        MessageBuilder(2, 0x03, 0, token).U32(0xCAFE).Build(),
        MessageBuilder(3, 0x03, 0, token)
            .U32(static_cast<uint32_t>(Field(message, 8, 4)))
            .Build()};
  };
  EXPECT_EQ(bus_.Ping(0x1234), Error::kNone);
  const std::vector<MessageBytes> sent = fake_.received();
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(Field(sent[1], 0, 1), 3u);
  EXPECT_EQ(Field(sent[1], 4, 2), Field(sent[0], 4, 2));
  EXPECT_EQ(Field(sent[1], 8, 4), 0xCAFEu);
}

}  // namespace
}  // namespace vmsg::guest
