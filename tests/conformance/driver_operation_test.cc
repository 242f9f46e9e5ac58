// Rows about a driver at work: notifications, configuration changes, resets.

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/message.h"
#include "guest/driver/testing/bytes.h"
#include "guest/driver/virtqueue.h"
#include "tests/conformance/driver_fixture.h"

namespace vmsg::guest {
namespace {

class DriverOperationConformance : public DriverFixture {};

// --- Notifications. ---

TEST_F(DriverOperationConformance, DRV_NOTIF_1_NewBuffersAreAnnounced) {
  Probe();
  Rng rng;
  ASSERT_EQ(rng.Start(&device_, {.requests = 1, .request_bytes = 8},
                      platform_.dma_arena()),
            Error::kNone);
  EXPECT_TRUE(Sent(0x41).empty());
  fake_.on_avail = [this](uint32_t queue) {
    fake_.FillQueue(queue);
    fake_.SendUsed(queue);
  };
  std::array<std::byte, 8> out;
  uint64_t received;
  uint32_t requests;
  for (size_t i = 1; i <= 3; ++i) {
    ASSERT_EQ(rng.Read(out, &received, &requests), Error::kNone);
    EXPECT_EQ(Sent(0x41).size(), i);
  }
}

TEST_F(DriverOperationConformance, DRV_NOTIF_2_EventNamesTheQueue) {
  fake_.max_queues = 8;
  Negotiate();
  ASSERT_EQ(SetUpQueue(16, 6), Error::kNone);
  ASSERT_EQ(device_.Start(), Error::kNone);
  ASSERT_EQ(device_.Notify(6, *queue_), Error::kNone);
  const std::vector<MessageBytes> sent = Sent(0x41);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Field(sent[0], 8, 4), 6u);
}

TEST_F(DriverOperationConformance, DRV_NOTIF_3_PositionIsSentWhereNegotiated) {
  fake_.offered = FeatureBit(32) | FeatureBit(34) | FeatureBit(38);
  for (const bool packed : {false, true}) {
    Features features = Features::Of(kFeatureNotificationData);
    if (packed) features.Set(kFeatureRingPacked);
    Negotiate(features);
    ASSERT_EQ(device_.features().Has(kFeatureRingPacked), packed);
    ASSERT_EQ(SetUpQueue(4), Error::kNone);
    ASSERT_EQ(device_.Start(), Error::kNone);
    // More than twice around: a split ring's position is an index that counts
    // on (O-24), a packed one's a place with the wrap counter, which begins
    // as 1.
    for (uint32_t i = 1; i <= 10; ++i) {
      ASSERT_EQ(AddAndNotify(), Error::kNone);
      const uint32_t wrap = i / 4 % 2 == 0 ? 0x80000000u : 0;
      EXPECT_EQ(Field(Sent(0x41).back(), 12, 4), packed ? i % 4 | wrap : i);
      fake_.FillQueue(0);
      UsedChain chain;
      ASSERT_EQ(queue_->Take(&chain), Error::kNone);
    }
  }
}

TEST_F(DriverOperationConformance, DRV_NOTIF_4_PositionIsZeroOtherwise) {
  fake_.offered = FeatureBit(32) | FeatureBit(38);
  Start();
  for (int i = 0; i < 3; ++i) {
    ASSERT_EQ(AddAndNotify(), Error::kNone);
    EXPECT_EQ(Field(Sent(0x41).back(), 12, 4), 0u);
  }
}

TEST_F(DriverOperationConformance, DRV_EVT_2_UsedEventLeadsToTheQueue) {
  Probe();
  Rng rng;
  ASSERT_EQ(rng.Start(&device_, {.requests = 1, .request_bytes = 8},
                      platform_.dma_arena()),
            Error::kNone);
  // The device answers while the driver sleeps, and only then.
  platform_.on_wait = [this] {
    fake_.FillQueue(0);
    fake_.SendUsed(0);
  };
  std::array<std::byte, 8> out = {};
  uint64_t received = 0;
  uint32_t requests = 0;
  ASSERT_EQ(rng.Read(out, &received, &requests), Error::kNone);
  EXPECT_EQ(received, 8u);
  EXPECT_EQ(out[7], FakeDevice::kFiller);
  EXPECT_GE(platform_.waits(), 1u);
  // Which queue it was is kept apart.
  fake_.SendUsed(3);
  fake_.SendUsed(1);
  EXPECT_EQ(device_.TakeUsed(), 0xAu);
}

// --- Configuration. ---

TEST_F(DriverOperationConformance, DRV_EVT_1_ChangeIsSeenBeforeTheNextUse) {
  fake_.config = Bytes("00 01 02 03");
  Start();
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  // Each way to tell of a change: with its data, and without.
  fake_.config[1] = std::byte{0x81};
  fake_.generation = 8;
  fake_.SendConfig(1, Bytes("81"), 1);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_TRUE(device_.TakeConfigChanged());
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  EXPECT_EQ(ToVector(config), fake_.config);
  fake_.config[2] = std::byte{0x82};
  fake_.generation = 9;
  fake_.SendConfig(0, {}, 0);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  EXPECT_TRUE(device_.TakeConfigChanged());
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  EXPECT_EQ(ToVector(config), fake_.config);
}

TEST_F(DriverOperationConformance, DRV_EC_1_DataInTheEventIsApplied) {
  fake_.config = Bytes("00 01 02 03 04 05 06 07");
  Probe();
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  const size_t reads = Sent(0x05).size();
  fake_.generation = 8;
  fake_.SendConfig(6, Bytes("ee ff"), 2);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  EXPECT_EQ(ToVector(config), Bytes("00 01 02 03 04 05 ee ff"));
  EXPECT_EQ(Sent(0x05).size(), reads);
  EXPECT_EQ(device_.generation(), 8u);
}

TEST_F(DriverOperationConformance, DRV_EC_2_WithoutDataTheRangeIsRead) {
  fake_.config = Bytes("00 01 02 03");
  Probe();
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  // Length 0, a range that is named without data, and one after a lost event.
  struct Event {
    uint32_t generation;
    uint32_t length;
    bool with_data;
  };
  for (const Event event :
       {Event{8, 0, false}, Event{9, 2, false}, Event{11, 1, true}}) {
    const size_t reads = Sent(0x05).size();
    fake_.generation = event.generation;
    fake_.config[3] = static_cast<std::byte>(event.generation);
    fake_.SendConfig(0, event.with_data ? Bytes("00") : Bytes(""),
                     event.length);
    ASSERT_EQ(bus_.Poll(), Error::kNone);
    ASSERT_EQ(device_.Config(&config), Error::kNone);
    EXPECT_EQ(config[3], fake_.config[3]);
    EXPECT_EQ(Sent(0x05).size(), reads + 1);
  }
  // Nor is anything written on what was known before.
  size_t writes = 0;
  for (const Event event :
       {Event{12, 0, false}, Event{13, 2, false}, Event{15, 1, true}}) {
    const size_t reads = Sent(0x05).size();
    fake_.generation = event.generation;
    fake_.config[3] = static_cast<std::byte>(event.generation);
    fake_.SendConfig(0, event.with_data ? Bytes("00") : Bytes(""),
                     event.length);
    ASSERT_EQ(bus_.Poll(), Error::kNone);
    EXPECT_EQ(device_.WriteConfig(0, Bytes("a0")), Error::kStale);
    EXPECT_EQ(Sent(0x05).size(), reads + 1);
    EXPECT_EQ(Sent(0x06).size(), writes);
    ASSERT_EQ(device_.Config(&config), Error::kNone);
    EXPECT_EQ(config[3], fake_.config[3]);
    EXPECT_EQ(Sent(0x05).size(), reads + 1);
    ASSERT_EQ(device_.WriteConfig(0, Bytes("a0")), Error::kNone);
    EXPECT_EQ(Field(Sent(0x06).at(writes++), 8, 4), event.generation);
    ASSERT_EQ(device_.Config(&config), Error::kNone);
  }
}

TEST_F(DriverOperationConformance, DRV_RTCFG_1_WritesAfterDriverOk) {
  fake_.config.resize(8);
  Start();
  std::array<std::byte, 2> data = {std::byte{1}, std::byte{2}};
  ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
  data = {std::byte{0xA1}, std::byte{0xA2}};
  ASSERT_EQ(device_.WriteConfig(6, data), Error::kNone);
  EXPECT_EQ(Field(Sent(0x06).at(0), 8, 4), 7u);
  EXPECT_EQ(fake_.config[7], std::byte{0xA2});
  EXPECT_EQ(device_.WriteConfig(7, data), Error::kInvalidArgument);
  EXPECT_EQ(Sent(0x06).size(), 1u);
}

// --- Queues and resets. ---

TEST_F(DriverOperationConformance, DRV_RTVQ_1_QueueIsAddedAfterDriverOk) {
  fake_.max_queues = 2;
  Start();
  const size_t before = Sent().size();
  AnyVirtqueue second;
  ASSERT_EQ(device_.SetUpQueue(1, 8, 0, platform_.dma_arena(), &second),
            Error::kNone);
  const std::vector<uint64_t> ids = Ids();
  EXPECT_EQ(
      std::vector<uint64_t>(ids.begin() + static_cast<long>(before), ids.end()),
      (std::vector<uint64_t>{0x09, 0x0A, 0x09}));
  EXPECT_EQ(device_.Notify(1, *second), Error::kNone);
}

TEST_F(DriverOperationConformance, DRV_RESET_1_ResetIsAllowedAtAnyTime) {
  Probe();
  EXPECT_EQ(device_.Reset(), Error::kNone);
  ASSERT_EQ(device_.Negotiate({}, {}), Error::kNone);
  EXPECT_EQ(device_.Reset(), Error::kNone);
  ASSERT_EQ(device_.Negotiate({}, {}), Error::kNone);
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  ASSERT_EQ(device_.Start(), Error::kNone);
  ASSERT_EQ(AddAndNotify(), Error::kNone);  // with a buffer at the device
  EXPECT_EQ(device_.Reset(), Error::kNone);
  EXPECT_EQ(fake_.status, 0u);
}

TEST_F(DriverOperationConformance, DRV_RESET_2_DeviceIsSetUpAgain) {
  Start();
  ASSERT_EQ(device_.Reset(), Error::kNone);
  EXPECT_EQ(device_.Notify(0, *queue_), Error::kInvalidArgument);
  ASSERT_EQ(device_.Negotiate({}, {}), Error::kNone);
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  ASSERT_EQ(device_.Start(), Error::kNone);
  EXPECT_EQ(AddAndNotify(), Error::kNone);
}

}  // namespace
}  // namespace vmsg::guest
