#include "guest/driver/bus.h"

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/shared_memory.h"
#include "guest/driver/spsc_fifo.h"
#include "guest/driver/testing/bytes.h"
#include "guest/driver/testing/driver_judge.h"
#include "guest/driver/testing/fake_device.h"
#include "guest/driver/testing/fake_platform.h"

namespace vmsg::guest {
namespace {

constexpr uint64_t kTimeoutNs = 5'000'000;

class BusTest : public testing::Test {
 protected:
  BusTest()
      : device_(&platform_),
        fifo_(device_.window()),
        bus_(&platform_, &fifo_,
             {.doorbell_address = FakeDevice::kDoorbell,
              .interrupt = FakeDevice::kInterrupt,
              .timeout_ns = kTimeoutNs}) {
    EXPECT_TRUE(fifo_.Attach());
  }

  // Sends GET_DEVICE_STATUS, which has the simplest answer.
  Error CallStatus(uint32_t* status) {
    Packet packet;
    EncodeGetDeviceStatus(device_.number, packet.bytes);
    const Error error = bus_.Call(packet.bytes, &packet);
    if (error == Error::kNone) {
      EXPECT_TRUE(DecodeStatus(packet.bytes, status));
    }
    return error;
  }

  // Answers every request with `answers`, made from its token.
  template <typename MakeAnswers>
  void Instead(MakeAnswers make) {
    device_.intercept = [make](const MessageBytes& message)
        -> std::optional<std::vector<MessageBytes>> {
      return make(static_cast<uint16_t>(Field(message, 4, 2)));
    };
  }

  FakePlatform platform_;
  FakeDevice device_;
  DriverJudge judge_{&device_};
  SpscFifo fifo_;
  Bus bus_;
};

class Recorder final : public DeviceListener {
 public:
  void OnUsed(uint32_t queue) override { used.push_back(queue); }
  void OnConfig(const ConfigEvent& event) override {
    generations.push_back(event.generation);
    data.push_back(ToVector(event.data));
  }
  std::vector<uint32_t> used;
  std::vector<uint32_t> generations;
  std::vector<std::vector<std::byte>> data;
};

TEST_F(BusTest, AnswerToADriverOfBeforeIsNotTakenForOurs) {
  // Its first request had our first token.
  device_.Send(MessageBuilder(0x01, 0x07, device_.number, 1).U32(0x4F).Build());
  device_.status = 0;
  uint32_t status = 0xFF;
  ASSERT_EQ(CallStatus(&status), Error::kNone);
  EXPECT_EQ(status, 0u);
  EXPECT_EQ(bus_.counters().unexpected, 1u);
}

TEST_F(BusTest, CallReturnsTheAnswerAndRingsOncePerMessage) {
  device_.status = 3;
  uint32_t status = 0;
  ASSERT_EQ(CallStatus(&status), Error::kNone);
  EXPECT_EQ(status, 3u);
  EXPECT_EQ(bus_.counters().sent, 1u);
  EXPECT_EQ(platform_.registers.at(FakeDevice::kDoorbell), 1u);
  EXPECT_EQ(platform_.waits(), 0u);
}

TEST_F(BusTest, TokensAreUniqueAndNeverZero) {
  std::vector<bool> seen(65536);
  size_t count = 0;
  device_.intercept = [&](const MessageBytes& message) {
    const auto token = static_cast<uint16_t>(Field(message, 4, 2));
    count += seen[token] ? 0 : 1;
    seen[token] = true;
    return std::vector<MessageBytes>{
        MessageBuilder(1, 0x07, 5, token).U32(0).Build()};
  };
  uint32_t status;
  for (int i = 0; i < 65535; ++i) {
    ASSERT_EQ(CallStatus(&status), Error::kNone);
  }
  EXPECT_EQ(count, 65535u);
  EXPECT_FALSE(seen[0]);
}

TEST_F(BusTest, AnswersThatDoNotMatchAreDroppedAndCounted) {
  Instead([](uint16_t token) {
    const auto other = static_cast<uint16_t>(token + 1);
    return std::vector<MessageBytes>{
        MessageBuilder(1, 0x07, 5, other).U32(1).Build(),  // token
        MessageBuilder(1, 0x08, 5, token).U32(2).Build(),  // id
        MessageBuilder(1, 0x07, 6, token).U32(3).Build(),  // device number
        MessageBuilder(3, 0x07, 5, token).U32(4).Build(),  // class
        MessageBuilder(1, 0x07, 5, token).U32(5).Build(),
        MessageBuilder(1, 0x07, 5, token).U32(6).Build(),  // a second answer
    };
  });
  uint32_t status = 0;
  ASSERT_EQ(CallStatus(&status), Error::kNone);
  EXPECT_EQ(status, 5u);
  EXPECT_EQ(bus_.counters().unexpected, 5u);
}

TEST_F(BusTest, ReservedTypeBitsOfAnAnswerAreIgnored) {
  Instead([](uint16_t token) {
    return std::vector<MessageBytes>{
        MessageBuilder(0xFD, 0x07, 5, token).U32(9).Build()};
  });
  uint32_t status = 0;
  ASSERT_EQ(CallStatus(&status), Error::kNone);
  EXPECT_EQ(status, 9u);
}

TEST_F(BusTest, MissingAnswerTimesOutAndALateOneIsDropped) {
  std::optional<uint16_t> late;
  device_.intercept = [&late](const MessageBytes& message) {
    late = static_cast<uint16_t>(Field(message, 4, 2));
    return std::vector<MessageBytes>{};
  };
  uint32_t status;
  EXPECT_EQ(CallStatus(&status), Error::kTimeout);
  EXPECT_EQ(platform_.NowNs(), kTimeoutNs);
  device_.intercept = nullptr;
  device_.Send(MessageBuilder(1, 0x07, 5, *late).U32(0x55).Build());
  device_.status = 1;
  ASSERT_EQ(CallStatus(&status), Error::kNone);
  EXPECT_EQ(status, 1u);
  EXPECT_EQ(bus_.counters().unexpected, 1u);
}

TEST_F(BusTest, DeviceThatNeverStopsTalkingDoesNotKeepACallForEver) {
  device_.serve = false;
  platform_.on_wait = [this] {
    platform_.AdvanceNs(1000);
    while (device_.Send(MessageBuilder(0, 0x42, 5, 0).U32(0).Build())) {
    }
  };
  uint32_t status;
  EXPECT_EQ(CallStatus(&status), Error::kTimeout);
}

TEST_F(BusTest, CallRefusesWhatIsNoRequest) {
  Packet packet;
  EncodePingResponse(1, 2, packet.bytes);
  EXPECT_EQ(bus_.Call(packet.bytes, &packet), Error::kInvalidArgument);
  EncodeEventAvail(5, 0, 0, packet.bytes);
  EXPECT_EQ(bus_.Call(packet.bytes, &packet), Error::kInvalidArgument);
  EXPECT_TRUE(device_.received().empty());
}

TEST_F(BusTest, BusTooSmallForVirtqueueMessagesIsNotUsed) {
  // O-1: refuse to operate below 48 bytes.
  Bus small(&platform_, &fifo_,
            {.doorbell_address = FakeDevice::kDoorbell,
             .interrupt = FakeDevice::kInterrupt,
             .max_message_bytes = 44});
  EXPECT_EQ(small.Ping(1), Error::kInvalidArgument);
  EXPECT_TRUE(device_.received().empty());
}

TEST_F(BusTest, MessageAboveTheMaximumIsNotSent) {
  Bus small(&platform_, &fifo_,
            {.doorbell_address = FakeDevice::kDoorbell,
             .interrupt = FakeDevice::kInterrupt,
             .max_message_bytes = 48});
  std::array<std::byte, 40> data = {};
  Packet packet;
  ASSERT_EQ(EncodeSetConfig(5, 0, 0, data, packet.bytes), 60u);
  EXPECT_EQ(small.Call(packet.bytes, &packet), Error::kInvalidArgument);
  EXPECT_TRUE(device_.received().empty());
}

TEST_F(BusTest, FullDriverQueueIsWaitedForAndEmptiesOurOwn) {
  judge_.Allow(msg::Row::kDrvFinal3);  // the events are of no queue
  device_.serve = false;
  std::array<std::byte, 16> event;
  EncodeEventAvail(5, 0, 0, event);
  for (uint32_t i = 0; i < SpscFifo::kCapacity; ++i) {
    ASSERT_EQ(bus_.SendEvent(event), Error::kNone);
  }
  // The device can't go on while its own queue is full.
  while (device_.Send(MessageBuilder(0, 0x42, 5, 0).U32(0).Build())) {
  }
  platform_.on_wait = [this] {
    device_.serve = true;
    device_.Serve();
  };
  uint32_t status;
  EXPECT_EQ(CallStatus(&status), Error::kNone);
  EXPECT_EQ(device_.received().size(), SpscFifo::kCapacity + 1);
}

TEST_F(BusTest, FullDriverQueueThatStaysFullTimesOut) {
  device_.serve = false;
  std::array<std::byte, 16> event;
  EncodeEventAvail(5, 0, 0, event);
  for (uint32_t i = 0; i < SpscFifo::kCapacity; ++i) {
    ASSERT_EQ(bus_.SendEvent(event), Error::kNone);
  }
  EXPECT_EQ(bus_.SendEvent(event), Error::kTimeout);
  EXPECT_EQ(platform_.NowNs(), kTimeoutNs);
}

TEST_F(BusTest, BrokenFifoEndsACallAtOnce) {
  device_.intercept = [this](const MessageBytes&) {
    StoreRelease<uint32_t>(device_.window() + 0x2000, 62);
    return std::vector<MessageBytes>{};
  };
  uint32_t status;
  EXPECT_EQ(CallStatus(&status), Error::kFifoBroken);
  EXPECT_EQ(platform_.NowNs(), 0u);
  EXPECT_EQ(CallStatus(&status), Error::kFifoBroken);
}

TEST_F(BusTest, EnumeratesWithOneRequestForAllNumbers) {
  device_.present = 0x80000021;
  uint32_t present = 0;
  ASSERT_EQ(bus_.Enumerate(&present), Error::kNone);
  EXPECT_EQ(present, 0x80000021u);
  const auto requests = device_.received_of(true, 0x02);
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(Field(requests[0], 8, 2), 0u);
  EXPECT_EQ(Field(requests[0], 10, 2), 32u);
}

TEST_F(BusTest, EnumerationFollowsWindowsThatTheDeviceMadeSmaller) {
  int windows = 0;
  device_.intercept = [&windows](const MessageBytes& message) {
    ++windows;
    const auto offset = static_cast<uint16_t>(Field(message, 8, 2));
    MessageBuilder answer(3, 2, 0, static_cast<uint16_t>(Field(message, 4, 2)));
    answer.U16(offset).U16(8).U16(
        offset == 16 ? 0 : static_cast<uint16_t>(offset + 16));
    answer.U8(0x01);
    return std::vector<MessageBytes>{answer.Build()};
  };
  uint32_t present = 0;
  ASSERT_EQ(bus_.Enumerate(&present), Error::kNone);
  EXPECT_EQ(windows, 2);
  EXPECT_EQ(present, 0x00010001u);
}

struct BadWindow {
  const char* name;
  uint16_t offset;
  uint16_t count;
  uint16_t next;
};

class BusBadWindowTest : public BusTest,
                         public testing::WithParamInterface<BadWindow> {};

TEST_P(BusBadWindowTest, IsRefused) {
  const BadWindow window = GetParam();
  Instead([window](uint16_t token) {
    MessageBuilder answer(3, 2, 0, token);
    answer.U16(window.offset).U16(window.count).U16(window.next);
    for (int i = 0; i < window.count / 8; ++i) answer.U8(0xFF);
    return std::vector<MessageBytes>{answer.Build()};
  });
  uint32_t present;
  uint16_t next;
  EXPECT_EQ(bus_.GetDevices(8, 16, &present, &next), Error::kBadAnswer);
}

INSTANTIATE_TEST_SUITE_P(
    All, BusBadWindowTest,
    testing::Values(BadWindow{"OtherOffset", 0, 16, 0},
                    BadWindow{"MoreThanAskedFor", 8, 24, 0},
                    BadWindow{"NextInsideTheWindow", 8, 16, 16},
                    BadWindow{"NextUnaligned", 8, 16, 25},
                    BadWindow{"NextGoesBack", 8, 16, 8}),
    [](const auto& test) { return std::string(test.param.name); });

TEST_F(BusTest, BitsPastNumber31AreLeftOut) {
  Instead([](uint16_t token) {
    return std::vector<MessageBytes>{MessageBuilder(3, 2, 0, token)
                                         .U16(24)
                                         .U16(16)
                                         .U16(0)
                                         .U16(0xFFFF)
                                         .Build()};
  });
  uint32_t present;
  uint16_t next;
  ASSERT_EQ(bus_.GetDevices(24, 16, &present, &next), Error::kNone);
  EXPECT_EQ(present, 0xFF000000u);
}

TEST_F(BusTest, UnalignedWindowIsNotAskedFor) {
  uint32_t present;
  uint16_t next;
  EXPECT_EQ(bus_.GetDevices(1, 8, &present, &next), Error::kInvalidArgument);
  EXPECT_EQ(bus_.GetDevices(0, 4, &present, &next), Error::kInvalidArgument);
  EXPECT_EQ(bus_.GetDevices(0, 0, &present, &next), Error::kInvalidArgument);
  EXPECT_TRUE(device_.received().empty());
}

TEST_F(BusTest, PingChecksTheEcho) {
  EXPECT_EQ(bus_.Ping(0x12345678), Error::kNone);
  Instead([](uint16_t token) {
    return std::vector<MessageBytes>{
        MessageBuilder(3, 3, 0, token).U32(0x12345679).Build()};
  });
  EXPECT_EQ(bus_.Ping(0x12345678), Error::kBadAnswer);
}

TEST_F(BusTest, AnswersPingOfTheDeviceWithItsTokenAndData) {
  device_.Send(MessageBuilder(2, 3, 0, 0xBEEF).U32(0xCAFE0001).Build());
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  ASSERT_EQ(device_.received().size(), 1u);
  EXPECT_EQ(device_.received()[0],
            Bytes("03 03 00 00 ef be 0c 00 01 00 fe ca"));
}

TEST_F(BusTest, PingsInBothDirectionsWithTheSameTokenCross) {
  device_.intercept = [this](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    if (Field(message, 0, 1) != 2) return std::vector<MessageBytes>{};
    const auto token = static_cast<uint16_t>(Field(message, 4, 2));
    device_.Send(MessageBuilder(2, 3, 0, token).U32(7).Build());
    return std::nullopt;
  };
  EXPECT_EQ(bus_.Ping(1), Error::kNone);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_EQ(bus_.counters().pings_answered, 1u);
}

TEST_F(BusTest, PingIsAnsweredLaterWhenThereIsNoRoom) {
  judge_.Allow(msg::Row::kDrvFinal3);  // the events are of no queue
  device_.serve = false;
  std::array<std::byte, 16> event;
  EncodeEventAvail(5, 0, 0, event);
  for (uint32_t i = 0; i < SpscFifo::kCapacity; ++i) {
    ASSERT_EQ(bus_.SendEvent(event), Error::kNone);
  }
  // Four are kept; the fifth is one too many.
  for (uint32_t i = 0; i < 5; ++i) {
    device_.Send(MessageBuilder(2, 3, 0, 1).U32(100 + i).Build());
  }
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_EQ(bus_.counters().pings_answered, 0u);
  EXPECT_EQ(bus_.counters().pings_dropped, 1u);
  device_.serve = true;
  device_.Serve();
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_EQ(bus_.counters().pings_answered, 4u);
  EXPECT_EQ(Field(device_.received().back(), 8, 4), 103u);
}

TEST_F(BusTest, DeviceEventsComeInOrder) {
  device_.SendDeviceEvent(3, kDeviceReady);
  device_.SendDeviceEvent(4, kDeviceRemoved);
  device_.SendDeviceEvent(5, 0x8001);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  DeviceEvent event;
  ASSERT_TRUE(bus_.TakeDeviceEvent(&event));
  EXPECT_EQ(event.number, 3);
  EXPECT_EQ(event.state, kDeviceReady);
  ASSERT_TRUE(bus_.TakeDeviceEvent(&event));
  EXPECT_EQ(event.number, 4);
  ASSERT_TRUE(bus_.TakeDeviceEvent(&event));
  EXPECT_EQ(event.state, 0x8001);
  EXPECT_FALSE(bus_.TakeDeviceEvent(&event));
  EXPECT_FALSE(bus_.TakeEventsLost());
}

TEST_F(BusTest, DeviceEventDuringACallIsKept) {
  device_.intercept =
      [this](const MessageBytes&) -> std::optional<std::vector<MessageBytes>> {
    device_.SendDeviceEvent(9, kDeviceReady);
    return std::nullopt;
  };
  uint32_t status;
  ASSERT_EQ(CallStatus(&status), Error::kNone);
  DeviceEvent event;
  ASSERT_TRUE(bus_.TakeDeviceEvent(&event));
  EXPECT_EQ(event.number, 9);
}

TEST_F(BusTest, LostDeviceEventsAreReportedOnce) {
  for (int i = 0; i < 65; ++i) {
    device_.SendDeviceEvent(1, kDeviceReady);
    ASSERT_EQ(bus_.Poll(), Error::kNone);
  }
  EXPECT_TRUE(bus_.TakeEventsLost());
  EXPECT_FALSE(bus_.TakeEventsLost());
  DeviceEvent event;
  for (int i = 0; i < 64; ++i) ASSERT_TRUE(bus_.TakeDeviceEvent(&event));
  EXPECT_FALSE(bus_.TakeDeviceEvent(&event));
}

TEST_F(BusTest, EventsGoToTheListenerOfTheirDevice) {
  Recorder five;
  Recorder six;
  bus_.Listen(5, &five);
  bus_.Listen(6, &six);
  device_.SendUsed(1);
  device_.SendConfig(6, Bytes("01 00"), 2);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_EQ(five.used, std::vector<uint32_t>{1});
  EXPECT_EQ(five.generations, std::vector<uint32_t>{7});
  EXPECT_EQ(five.data[0], Bytes("01 00"));
  EXPECT_TRUE(six.used.empty());
  bus_.StopListening(5);
  device_.SendUsed(1);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_EQ(five.used.size(), 1u);
}

TEST_F(BusTest, MalformedAndUnknownMessagesAreDroppedAndCounted) {
  const std::vector<MessageBytes> bad = {
      Bytes("00 42 05 00 00 00 07 00"),              // msg_size below 8
      Bytes("00 42 05 00 00 00 41 00 00 00 00 00"),  // above the packet
      Bytes("00 42 05 00 00 00 08 00"),              // payload missing
      Bytes("00 42 20 00 00 00 0c 00 00 00 00 00"),  // device number 32
      Bytes("00 43 05 00 00 00 0c 00 00 00 00 00"),  // unknown event
      Bytes("00 05 05 00 01 00 10 00 00 00 00 00"),  // a driver's request
      Bytes("02 02 00 00 01 00 0c 00 00 00 20 00"),  // a driver's bus request
      Bytes("02 40 05 00 00 00 0c 00 05 00 01 00"),  // bus message, device 5
      Bytes("02 40 00 00 00 00 0c 00 20 00 01 00"),  // device 32 is ready
      Bytes("02 03 00 00 01 00 08 00"),              // PING without data
      Bytes("00 40 05 00 00 00 14 00 00 00 00 00"),  // short EVENT_CONFIG
  };
  for (const MessageBytes& message : bad) ASSERT_TRUE(device_.Send(message));
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_EQ(bus_.counters().malformed, bad.size());
  EXPECT_EQ(bus_.counters().received, bad.size());
  DeviceEvent event;
  EXPECT_FALSE(bus_.TakeDeviceEvent(&event));
  EXPECT_EQ(device_.received().size(), 0u);
}

}  // namespace
}  // namespace vmsg::guest
