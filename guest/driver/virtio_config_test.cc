// The configuration space of a VirtioDevice, and answers that are too short.

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/testing/bytes.h"
#include "guest/driver/testing/virtio_device_fixture.h"
#include "guest/driver/virtio_device.h"

namespace vmsg::guest {
namespace {

class VirtioConfigTest : public VirtioDeviceTest {
 protected:
  VirtioConfigTest() {
    for (int i = 0; i < 100; ++i) {
      fake_.config.push_back(static_cast<std::byte>(i));
    }
    EXPECT_EQ(device_.Probe(&bus_, 5), Error::kNone);
  }
};

TEST_F(VirtioConfigTest, ReadsInPiecesThatFitTheBus) {
  std::vector<std::byte> data(100);
  ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
  EXPECT_EQ(data, fake_.config);
  std::vector<uint64_t> lengths;
  for (const MessageBytes& message : fake_.received_of(false, 0x05)) {
    lengths.push_back(Field(message, 12, 4));
  }
  EXPECT_EQ(lengths, (std::vector<uint64_t>{44, 44, 12}));
}

TEST_F(VirtioConfigTest, ReadStaysInsideTheReportedSize) {
  // DRV-INFO-2.
  std::array<std::byte, 4> data;
  EXPECT_EQ(device_.ReadConfig(97, data), Error::kInvalidArgument);
  EXPECT_EQ(device_.ReadConfig(UINT32_MAX, data), Error::kInvalidArgument);
  EXPECT_EQ(device_.WriteConfig(97, data), Error::kInvalidArgument);
  EXPECT_TRUE(fake_.received_of(false, 0x05).empty());
  EXPECT_TRUE(fake_.received_of(false, 0x06).empty());
  EXPECT_EQ(device_.ReadConfig(96, data), Error::kNone);
}

TEST_F(VirtioConfigTest, TornReadIsRepeated) {
  int reads = 0;
  fake_.OnRequest(0x05, [this, &reads](const MessageBytes& message) {
    if (++reads == 2) {
      fake_.generation = 8;
      fake_.config.assign(100, std::byte{0x88});
    }
    return std::vector<MessageBytes>{
        AnswerTo(message)
            .U32(fake_.generation)
            .U32(static_cast<uint32_t>(Field(message, 8, 4)))
            .U32(static_cast<uint32_t>(Field(message, 12, 4)))
            .Data(std::span(fake_.config)
                      .subspan(Field(message, 8, 4), Field(message, 12, 4)))
            .Build()};
  });
  std::vector<std::byte> data(60);
  ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
  EXPECT_EQ(data, std::vector<std::byte>(60, std::byte{0x88}));
  EXPECT_EQ(device_.generation(), 8u);
}

TEST_F(VirtioConfigTest, ConfigurationThatNeverStandsStillIsStale) {
  fake_.OnRequest(0x05, [this](const MessageBytes& message) {
    MessageBuilder answer = AnswerTo(message);
    answer.U32(++fake_.generation)
        .U32(static_cast<uint32_t>(Field(message, 8, 4)))
        .U32(static_cast<uint32_t>(Field(message, 12, 4)))
        .Data(std::span(fake_.config).first(Field(message, 12, 4)));
    return std::vector<MessageBytes>{answer.Build()};
  });
  std::vector<std::byte> data(60);
  EXPECT_EQ(device_.ReadConfig(0, data), Error::kStale);
}

TEST_F(VirtioConfigTest, RefusedReadIsABadAnswer) {
  fake_.OnRequest(0x05, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{
        AnswerTo(message).U32(7).U32(0).U32(0).Build()};  // O-13
  });
  std::array<std::byte, 4> data;
  EXPECT_EQ(device_.ReadConfig(0, data), Error::kBadAnswer);
}

TEST_F(VirtioConfigTest, WriteCarriesTheGenerationLastSeen) {
  // DRV-GEN-1.
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  ASSERT_EQ(device_.WriteConfig(10, Bytes("aa bb")), Error::kNone);
  EXPECT_EQ(Field(fake_.received_of(false, 0x06).at(0), 8, 4), 7u);
  EXPECT_EQ(fake_.config[10], std::byte{0xAA});
  // Of an event whose data the mirror has taken over.
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  fake_.generation = 8;
  fake_.SendConfig(0, Bytes("77"), 1);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  ASSERT_EQ(device_.WriteConfig(12, Bytes("cc")), Error::kNone);
  EXPECT_EQ(Field(fake_.received_of(false, 0x06).at(1), 8, 4), 8u);
}

TEST_F(VirtioConfigTest, WriteIsHeldBackUntilAChangeWasRead) {
  // DRV-EC-2: without data; with data, and nothing known that it would change;
  // and a count that was skipped.
  std::array<std::byte, 4> data;
  std::span<const std::byte> config;
  struct Change {
    uint32_t generation;
    std::vector<std::byte> data;
    bool view;
  };
  uint32_t last = 7;
  size_t writes = 0;
  for (const Change& change :
       {Change{8, {}, false}, Change{9, {}, true},
        Change{10, Bytes("e0"), false}, Change{12, Bytes("e1"), true}}) {
    ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
    if (change.view) {
      ASSERT_EQ(device_.Config(&config), Error::kNone);
    }
    ASSERT_EQ(device_.generation(), last);
    last = fake_.generation = change.generation;
    fake_.config[0] = static_cast<std::byte>(change.generation);
    fake_.SendConfig(50, change.data, 1);
    ASSERT_EQ(bus_.Poll(), Error::kNone);
    const size_t reads = fake_.received_of(false, 0x05).size();
    EXPECT_EQ(device_.WriteConfig(10, Bytes("aa")), Error::kStale);
    EXPECT_GT(fake_.received_of(false, 0x05).size(), reads);
    EXPECT_EQ(fake_.received_of(false, 0x06).size(), writes);
    ASSERT_EQ(device_.Config(&config), Error::kNone);
    EXPECT_EQ(config[0], fake_.config[0]);
    // Told once.
    ASSERT_EQ(device_.WriteConfig(10, Bytes("aa")), Error::kNone);
    EXPECT_EQ(Field(fake_.received_of(false, 0x06).at(writes++), 8, 4),
              change.generation);
  }
}

TEST_F(VirtioConfigTest, ReadAfterAChangeAllowsTheWrite) {
  std::array<std::byte, 4> data;
  ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
  fake_.generation = 8;
  fake_.SendConfig(0, {}, 0);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
  EXPECT_EQ(device_.WriteConfig(10, Bytes("aa")), Error::kNone);
}

TEST_F(VirtioConfigTest, NothingIsWrittenThatWasNeverRead) {
  // The count would be a guess, which may be right.
  fake_.generation = 0;
  EXPECT_EQ(device_.WriteConfig(10, Bytes("aa")), Error::kStale);
  EXPECT_TRUE(fake_.received_of(false, 0x06).empty());
  EXPECT_EQ(device_.WriteConfig(10, Bytes("aa")), Error::kNone);
}

TEST_F(VirtioConfigTest, StaleWriteIsReadAgainBeforeItIsReported) {
  // DRV-GEN-2.
  std::array<std::byte, 4> data;
  ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
  fake_.generation = 8;
  fake_.config[0] = std::byte{0x77};
  EXPECT_EQ(device_.WriteConfig(10, Bytes("aa")), Error::kStale);
  EXPECT_EQ(fake_.config[10], std::byte{10});
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  EXPECT_EQ(config[0], std::byte{0x77});
  EXPECT_EQ(device_.WriteConfig(10, Bytes("aa")), Error::kNone);
}

TEST_F(VirtioConfigTest, WriteRefusedAtTheSameGenerationIsRefused) {
  std::array<std::byte, 4> data;
  ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
  fake_.OnRequest(0x06, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{
        AnswerTo(message).U32(7).U32(10).U32(0).Build()};
  });
  EXPECT_EQ(device_.WriteConfig(10, Bytes("aa")), Error::kRefused);
}

TEST_F(VirtioConfigTest, EventWithDataUpdatesTheViewWithoutARequest) {
  // DRV-EC-1.
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  const size_t reads = fake_.received_of(false, 0x05).size();
  fake_.generation = 8;
  fake_.SendConfig(6, Bytes("ee ff"), 2);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_TRUE(device_.TakeConfigChanged());
  EXPECT_FALSE(device_.TakeConfigChanged());
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  EXPECT_EQ(config[6], std::byte{0xEE});
  EXPECT_EQ(config[7], std::byte{0xFF});
  EXPECT_EQ(fake_.received_of(false, 0x05).size(), reads);
  EXPECT_EQ(device_.generation(), 8u);
}

TEST_F(VirtioConfigTest, EventWithoutDataMakesTheViewReadAgain) {
  // DRV-EC-2.
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  fake_.generation = 8;
  fake_.config[3] = std::byte{0x33};
  fake_.SendConfig(3, {}, 1);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  EXPECT_EQ(config[3], std::byte{0x33});
}

TEST_F(VirtioConfigTest, EventAfterLostOnesMakesTheViewReadAgain) {
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  fake_.generation = 10;
  fake_.config[50] = std::byte{0x50};
  fake_.SendConfig(6, Bytes("06"), 1);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  EXPECT_EQ(config[50], std::byte{0x50});
}

TEST_F(VirtioConfigTest, EventPastTheSpaceTouchesNothing) {
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  fake_.generation = 8;
  fake_.SendConfig(99, Bytes("ee ff"), 2);
  fake_.generation = 9;
  fake_.SendConfig(0xFFFFFFFF, Bytes("ee ff"), 2);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  EXPECT_EQ(ToVector(config), fake_.config);
}

TEST_F(VirtioConfigTest, ChangeDuringAReadIsNotLost) {
  bool sent = false;
  fake_.OnRequest(0x05, [this, &sent](const MessageBytes& message) {
    MessageBuilder answer = AnswerTo(message);
    answer.U32(fake_.generation)
        .U32(static_cast<uint32_t>(Field(message, 8, 4)))
        .U32(static_cast<uint32_t>(Field(message, 12, 4)))
        .Data(std::span(fake_.config)
                  .subspan(Field(message, 8, 4), Field(message, 12, 4)));
    if (!sent && Field(message, 8, 4) == 88) {
      // The last answer, and right behind it the news.
      sent = true;
      std::vector<MessageBytes> messages = {answer.Build()};
      fake_.generation = 8;
      fake_.config[0] = std::byte{0xF0};
      messages.push_back(
          MessageBuilder(0, 0x40, 5, 0).U32(0).U32(8).U32(0).U32(0).Build());
      return messages;
    }
    return std::vector<MessageBytes>{answer.Build()};
  });
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  EXPECT_EQ(config[0], std::byte{0xF0});
  EXPECT_EQ(device_.generation(), 8u);
}

TEST_F(VirtioConfigTest, ChangeDuringAWriteIsNotLost) {
  std::span<const std::byte> config;
  for (const bool with_data : {false, true}) {
    ASSERT_EQ(device_.Config(&config), Error::kNone);
    const uint32_t before = fake_.generation;
    fake_.OnRequest(0x06, [this, with_data](const MessageBytes& message) {
      // The answer, and right behind it the news.
      MessageBuilder answer = AnswerTo(message);
      answer.U32(fake_.generation++)
          .U32(static_cast<uint32_t>(Field(message, 12, 4)))
          .U32(static_cast<uint32_t>(Field(message, 16, 4)));
      MessageBuilder event(0, 0x40, 5, 0);
      event.U32(0).U32(fake_.generation).U32(0).U32(with_data ? 1 : 0);
      if (with_data) event.Data(Bytes("00"));
      return std::vector<MessageBytes>{answer.Build(), event.Build()};
    });
    EXPECT_EQ(device_.WriteConfig(10, Bytes("aa")), Error::kNone);
    EXPECT_EQ(device_.generation(), before + 1);
    // Two pieces: what the second one is based on is old.
    ASSERT_EQ(device_.Config(&config), Error::kNone);
    const size_t writes = fake_.received_of(false, 0x06).size();
    EXPECT_EQ(device_.WriteConfig(0, std::vector<std::byte>(60)),
              Error::kStale);
    EXPECT_EQ(fake_.received_of(false, 0x06).size(), writes + 1);
    EXPECT_EQ(device_.generation(), before + 2);
  }
}

// Every request with an answer, and what a device that sends too little gets.
struct ShortAnswer {
  const char* name;
  uint8_t id;
  std::function<Error(VirtioDevice*)> call;
};

class VirtioShortAnswerTest : public VirtioConfigTest,
                              public testing::WithParamInterface<ShortAnswer> {
};

TEST_P(VirtioShortAnswerTest, IsABadAnswer) {
  fake_.OnRequest(GetParam().id, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{AnswerTo(message).Build()};
  });
  EXPECT_EQ(GetParam().call(&device_), Error::kBadAnswer);
}

INSTANTIATE_TEST_SUITE_P(
    All, VirtioShortAnswerTest,
    testing::Values(ShortAnswer{"Features", 0x03,
                                [](VirtioDevice* d) {
                                  return d->Negotiate({}, {});
                                }},
                    ShortAnswer{"SetStatus", 0x08,
                                [](VirtioDevice* d) { return d->Reset(); }},
                    ShortAnswer{"GetStatus", 0x07,
                                [](VirtioDevice* d) {
                                  uint32_t status;
                                  return d->ReadStatus(&status);
                                }},
                    ShortAnswer{"Config", 0x05,
                                [](VirtioDevice* d) {
                                  std::array<std::byte, 4> data;
                                  return d->ReadConfig(0, data);
                                }},
                    ShortAnswer{"ConfigWrite", 0x06,
                                [](VirtioDevice* d) {
                                  std::array<std::byte, 1> data;
                                  EXPECT_EQ(d->ReadConfig(0, data),
                                            Error::kNone);
                                  return d->WriteConfig(0, data);
                                }},
                    ShortAnswer{"Shm", 0x0C,
                                [](VirtioDevice* d) {
                                  SharedMemoryInfo shm;
                                  return d->GetSharedMemory(0, &shm);
                                }}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace vmsg::guest
