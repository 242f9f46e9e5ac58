#include "guest/driver/virtio_device.h"

#include <array>
#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/any_virtqueue.h"
#include "guest/driver/bus.h"
#include "guest/driver/features.h"
#include "guest/driver/spsc_fifo.h"
#include "guest/driver/testing/bytes.h"
#include "guest/driver/testing/driver_judge.h"
#include "guest/driver/testing/fake_device.h"
#include "guest/driver/testing/fake_platform.h"
#include "guest/driver/testing/fake_ring.h"

namespace vmsg::guest {
namespace {

constexpr uint64_t Bit(uint32_t bit) { return uint64_t{1} << bit; }

class VirtioDeviceTest : public testing::Test {
 protected:
  VirtioDeviceTest()
      : fake_(&platform_),
        fifo_(fake_.window()),
        bus_(&platform_, &fifo_,
             {.doorbell_address = FakeDevice::kDoorbell,
              .interrupt = FakeDevice::kInterrupt,
              .timeout_ns = 20'000'000}) {
    EXPECT_TRUE(fifo_.Attach());
  }

  Error Negotiate(Features supported = {}) {
    const Error error = device_.Probe(&bus_, fake_.number);
    return error == Error::kNone ? device_.Negotiate(supported, {}) : error;
  }
  Error SetUpQueue(uint32_t wanted = 16) {
    return device_.SetUpQueue(0, wanted, 0, platform_.dma_arena(), &queue_);
  }

  // Ids of the transport messages sent, in order.
  std::vector<uint64_t> Ids() {
    std::vector<uint64_t> ids;
    for (const MessageBytes& message : fake_.received()) {
      ids.push_back(Field(message, 1, 1));
    }
    return ids;
  }

  FakePlatform platform_;
  FakeDevice fake_;
  DriverJudge judge_{&fake_};
  SpscFifo fifo_;
  Bus bus_;
  AnyVirtqueue queue_;
  VirtioDevice device_;  // before the bus goes
};

TEST_F(VirtioDeviceTest, ProbeTakesItsKnowledgeFromDeviceInfo) {
  fake_.config = Bytes("01 02 03");
  ASSERT_EQ(device_.Probe(&bus_, 5), Error::kNone);
  EXPECT_EQ(device_.info().device_id, 4u);
  EXPECT_EQ(device_.info().vendor_id, 0x1AF4u);
  EXPECT_EQ(device_.info().config_size, 3u);
  EXPECT_EQ(Ids(), std::vector<uint64_t>{0x02});
}

TEST_F(VirtioDeviceTest, NumberWithoutADeviceIsNotFound) {
  // amp-pci-device, 4: all fields 0 says "no device here".
  EXPECT_EQ(device_.Probe(&bus_, 6), Error::kNotFound);
  EXPECT_EQ(device_.Probe(&bus_, 32), Error::kInvalidArgument);
}

TEST_F(VirtioDeviceTest, FollowsTheOrderOfInitialization) {
  // DRV-INIT-1 to DRV-INIT-4.
  ASSERT_EQ(Negotiate(), Error::kNone);
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  ASSERT_EQ(device_.Start(), Error::kNone);
  EXPECT_EQ(Ids(),
            (std::vector<uint64_t>{0x02,              // GET_DEVICE_INFO
                                   0x08, 0x08, 0x08,  // 0, ACKNOWLEDGE, DRIVER
                                   0x03, 0x04, 0x08,  // features, FEATURES_OK
                                   0x09, 0x0A, 0x09,  // queue and confirmation
                                   0x08}));           // DRIVER_OK
  std::vector<uint64_t> statuses;
  for (const MessageBytes& message : fake_.received_of(false, 0x08)) {
    statuses.push_back(Field(message, 8, 4));
  }
  EXPECT_EQ(statuses, (std::vector<uint64_t>{0, 1, 3, 11, 15}));
}

TEST_F(VirtioDeviceTest, EnablesOnlyWhatItSupportsAndTheDeviceOffers) {
  fake_.offered = Bit(32) | Bit(28) | Bit(34) | Bit(5);
  const Features supported =
      Features::Of(kFeatureVersion1, kFeatureIndirectDesc, kFeatureEventIdx);
  ASSERT_EQ(Negotiate(supported), Error::kNone);
  EXPECT_EQ(fake_.driver_features, Bit(32) | Bit(28));
  EXPECT_EQ(device_.features(),
            Features::Of(kFeatureVersion1, kFeatureIndirectDesc));
}

TEST_F(VirtioDeviceTest, ReadsFeaturesInAsManyMessagesAsTheDeviceNeeds) {
  fake_.num_feature_bits = 128;
  // A device that gives one block at a time (O-12).
  fake_.OnRequest(0x03, [this](const MessageBytes& message) {
    const auto block = static_cast<uint32_t>(Field(message, 8, 4));
    return std::vector<MessageBytes>{
        AnswerTo(message)
            .U32(block)
            .U32(1)
            .U32(block < 2 ? static_cast<uint32_t>(fake_.offered >> 32 * block)
                           : 0)
            .Build()};
  });
  ASSERT_EQ(Negotiate(), Error::kNone);
  EXPECT_EQ(fake_.received_of(false, 0x03).size(), 4u);
  EXPECT_TRUE(device_.features().Has(kFeatureVersion1));
}

TEST_F(VirtioDeviceTest, HugeFeatureCountCostsNoMoreThanWhatIsUsed) {
  fake_.num_feature_bits = 0xFFFFFFE0;
  ASSERT_EQ(Negotiate(), Error::kNone);
  const auto requests = fake_.received_of(false, 0x03);
  ASSERT_EQ(requests.size(), 1u);
  EXPECT_EQ(Field(requests[0], 12, 4), 4u);
}

TEST_F(VirtioDeviceTest, FeatureAnswerForOtherBlocksIsRefused) {
  fake_.OnRequest(0x03, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{
        AnswerTo(message).U32(1).U32(1).U32(1).Build()};
  });
  EXPECT_EQ(Negotiate(), Error::kBadAnswer);
}

TEST_F(VirtioDeviceTest, EmptyFeatureAnswerIsRefused) {
  fake_.OnRequest(0x03, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{AnswerTo(message).U32(0).U32(0).Build()};
  });
  EXPECT_EQ(Negotiate(), Error::kBadAnswer);
}

TEST_F(VirtioDeviceTest, LegacyDeviceIsGivenUp) {
  fake_.offered = Bit(28);
  EXPECT_EQ(Negotiate(Features::Of(kFeatureIndirectDesc)), Error::kRefused);
  EXPECT_NE(fake_.status & kStatusFailed, 0u);
}

TEST_F(VirtioDeviceTest, MissingRequiredFeatureIsGivenUp) {
  ASSERT_EQ(device_.Probe(&bus_, 5), Error::kNone);
  const Features required = Features::Of(kFeatureRingReset);
  EXPECT_EQ(device_.Negotiate(required, required), Error::kRefused);
  EXPECT_NE(fake_.status & kStatusFailed, 0u);
  EXPECT_TRUE(fake_.received_of(false, 0x04).empty());
}

// virtio 1.2, 6.1: without the feature a driver gives guest-physical addresses.
TEST_F(VirtioDeviceTest, TranslatedAddressesAreForDevicesThatKnowOfThem) {
  platform_.dma_translated = true;
  fake_.offered = Bit(32) | Bit(28);
  const Features supported =
      Features::Of(kFeatureVersion1, kFeatureAccessPlatform);
  EXPECT_EQ(Negotiate(supported), Error::kRefused);
  EXPECT_NE(fake_.status & kStatusFailed, 0u);
  EXPECT_TRUE(fake_.received_of(false, 0x04).empty());

  fake_.offered |= Bit(33);
  EXPECT_EQ(Negotiate(Features::Of(kFeatureVersion1)), Error::kRefused);
  ASSERT_EQ(Negotiate(supported), Error::kNone);
  EXPECT_EQ(fake_.driver_features, Bit(32) | Bit(33));
}

TEST_F(VirtioDeviceTest, DeviceBehindATranslatorIsUsedWithoutOneToo) {
  fake_.offered = Bit(32) | Bit(33);
  ASSERT_EQ(Negotiate(Features::Of(kFeatureVersion1, kFeatureAccessPlatform)),
            Error::kNone);
  EXPECT_EQ(fake_.driver_features, Bit(32) | Bit(33));
}

TEST_F(VirtioDeviceTest, RefusedFeaturesEndBeforeAnyQueue) {
  fake_.offered = Bit(32) | Bit(28);
  fake_.accepted_mask = ~Bit(28);
  EXPECT_EQ(Negotiate(Features::Of(kFeatureIndirectDesc)), Error::kRefused);
  EXPECT_EQ(SetUpQueue(), Error::kInvalidArgument);
  EXPECT_EQ(device_.Start(), Error::kInvalidArgument);
  EXPECT_TRUE(fake_.received_of(false, 0x0A).empty());
}

// --- Queues. ---

TEST_F(VirtioDeviceTest, QueueSizeStaysWithinTheDevicesMaximum) {
  fake_.queue_max_size = 12;  // the ring needs a power of two
  ASSERT_EQ(Negotiate(), Error::kNone);
  ASSERT_EQ(SetUpQueue(256), Error::kNone);
  EXPECT_EQ(queue_->size(), 8u);
  EXPECT_EQ(fake_.queues.at(0).size, 8u);
  EXPECT_EQ(fake_.queues.at(0).desc, queue_->areas().descriptors);
}

TEST_F(VirtioDeviceTest, QueueThatDoesNotExistIsNotFound) {
  fake_.max_queues = 2;
  fake_.queue_max_size = 0;  // O-18
  ASSERT_EQ(Negotiate(), Error::kNone);
  EXPECT_EQ(SetUpQueue(), Error::kNotFound);
  EXPECT_EQ(device_.SetUpQueue(2, 16, 0, platform_.dma_arena(), &queue_),
            Error::kNotFound);
  EXPECT_TRUE(fake_.received_of(false, 0x0A).empty());
}

TEST_F(VirtioDeviceTest, SettingsThatTheDeviceDidNotTakeAreNoticed) {
  ASSERT_EQ(Negotiate(), Error::kNone);
  fake_.OnRequest(0x0A, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{AnswerTo(message).Build()};
  });
  EXPECT_EQ(SetUpQueue(), Error::kRefused);
  // DRV-FINAL-3: no notification for a queue that is not configured.
  ASSERT_EQ(device_.Start(), Error::kNone);
  EXPECT_EQ(device_.Notify(0, *queue_), Error::kInvalidArgument);
  EXPECT_TRUE(fake_.received_of(false, 0x41).empty());
}

TEST_F(VirtioDeviceTest, AnswerAboutAnotherQueueIsRefused) {
  ASSERT_EQ(Negotiate(), Error::kNone);
  fake_.OnRequest(0x09, [](const MessageBytes& message) {
    MessageBuilder answer = AnswerTo(message);
    answer.U32(3).U32(256).U32(0).U32(0).U64(0).U64(0).U64(0);
    return std::vector<MessageBytes>{answer.Build()};
  });
  EXPECT_EQ(SetUpQueue(), Error::kBadAnswer);
}

// In both formats of the ring.
class VirtioRingTest : public VirtioDeviceTest,
                       public testing::WithParamInterface<bool> {
 protected:
  // The device offers these and the format, and the driver wants all of it.
  void Start(Features features = {}) {
    if (GetParam()) features.Set(kFeatureRingPacked);
    features.Set(kFeatureVersion1);
    fake_.offered = uint64_t{features.block(1)} << 32 | features.block(0);
    ASSERT_EQ(Negotiate(features), Error::kNone);
    ASSERT_EQ(SetUpQueue(), Error::kNone);
    ASSERT_EQ(device_.Start(), Error::kNone);
  }
  void Add(uint64_t cookie) {
    const QueueBuffer buffer = {FakePlatform::kArenaAddress, 1, true};
    ASSERT_EQ(queue_->Add(std::span(&buffer, 1), cookie), Error::kNone);
    queue_->Publish();
  }
};

INSTANTIATE_TEST_SUITE_P(Formats, VirtioRingTest, testing::Bool(),
                         [](const testing::TestParamInfo<bool>& packed) {
                           return packed.param ? "Packed" : "Split";
                         });

TEST_P(VirtioRingTest, ActiveQueueIsResetFirstWhereThatWasNegotiated) {
  // DRV-VQ-4.
  Start(Features::Of(kFeatureRingReset));
  ASSERT_EQ(SetUpQueue(4), Error::kNone);
  EXPECT_EQ(fake_.received_of(false, 0x0B).size(), 1u);
  EXPECT_EQ(fake_.queues.at(0).size, 4u);
}

TEST_P(VirtioRingTest, QueueBeginsAnewAfterItsReset) {
  Start(Features::Of(kFeatureRingReset, kFeatureEventIdx));
  for (uint64_t round = 0; round < 3; ++round) {
    // Ends with chains at the device, in the middle of the ring.
    for (uint64_t i = 0; i < 5; ++i) {
      Add(i);
      const std::optional<uint16_t> id = fake_.PopAvailable(0);
      ASSERT_TRUE(id.has_value());
      if (i == 4) break;
      fake_.PushUsed(0, *id, 1);
      UsedChain chain;
      ASSERT_EQ(queue_->Take(&chain), Error::kNone);
      EXPECT_EQ(chain.cookie, i);
    }
    ASSERT_EQ(device_.ResetQueue(0), Error::kNone);
    EXPECT_EQ(fake_.queues.at(0).size, 0u);
    EXPECT_EQ(device_.Notify(0, *queue_), Error::kInvalidArgument);
    platform_.dma_arena()->Reset();
    ASSERT_EQ(SetUpQueue(), Error::kNone);
    EXPECT_EQ(queue_->outstanding(), 0u);
    EXPECT_EQ(device_.Notify(0, *queue_), Error::kNone);
  }
}

TEST_P(VirtioRingTest, QueueThatStaysActiveWasNotReset) {
  Start(Features::Of(kFeatureRingReset));
  fake_.OnRequest(0x0B, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{AnswerTo(message).Build()};
  });
  EXPECT_EQ(device_.ResetQueue(0), Error::kRefused);
  EXPECT_EQ(device_.ResetQueue(1), Error::kNotFound);
  EXPECT_EQ(SetUpQueue(), Error::kRefused);
}

TEST_P(VirtioRingTest, QueueIsNotResetWithoutRingReset) {
  Start();
  EXPECT_EQ(device_.ResetQueue(0), Error::kRefused);
  EXPECT_TRUE(fake_.received_of(false, 0x0B).empty());
}

TEST_P(VirtioRingTest, NotifyCarriesThePositionWhereNegotiated) {
  // DRV-NOTIF-3, DRV-EA-2 (O-24).
  Start(Features::Of(kFeatureNotificationData));
  for (uint64_t i = 0; i < 3; ++i) Add(i);
  ASSERT_EQ(device_.Notify(0, *queue_), Error::kNone);
  EXPECT_EQ(Field(fake_.received_of(false, 0x41).at(0), 12, 4),
            GetParam() ? 0x80000003u : 3u);
}

TEST_P(VirtioRingTest, InOrderAndEventIndexReachTheQueue) {
  Start(Features::Of(kFeatureInOrder, kFeatureEventIdx));
  for (uint64_t i = 0; i < 3; ++i) Add(i);
  std::vector<FakeRing::Chain> chains;
  FakeRing* const ring = fake_.queues.at(0).ring.get();
  while (const auto chain = ring->Pop()) chains.push_back(*chain);
  ASSERT_EQ(chains.size(), 3u);
  ring->AskForNotificationAt(9);
  Add(3);
  EXPECT_FALSE(queue_->Publish());
  ring->PushBatch(chains, 1);
  UsedChain chain;
  for (uint64_t i = 0; i < 3; ++i) {
    ASSERT_EQ(queue_->Take(&chain), Error::kNone);
    EXPECT_EQ(chain.cookie, i);
  }
}

TEST_F(VirtioDeviceTest, PackedQueueMayHaveAnySize) {
  fake_.offered = Bit(32) | Bit(34);
  fake_.queue_max_size = 12;
  ASSERT_EQ(Negotiate(Features::Of(kFeatureRingPacked)), Error::kNone);
  ASSERT_EQ(SetUpQueue(256), Error::kNone);
  EXPECT_EQ(queue_->size(), 12u);
  EXPECT_EQ(fake_.queues.at(0).size, 12u);
}

TEST_F(VirtioDeviceTest, RingIsPackedOnlyWhereBothWantIt) {
  for (const bool offered : {false, true}) {
    for (const bool wanted : {false, true}) {
      fake_.offered = Bit(32) | (offered ? Bit(34) : 0);
      ASSERT_EQ(
          Negotiate(wanted ? Features::Of(kFeatureRingPacked) : Features()),
          Error::kNone);
      ASSERT_EQ(SetUpQueue(12), Error::kNone);
      const bool packed = queue_->size() == 12;  // not in a split one
      EXPECT_EQ(packed, offered && wanted);
      EXPECT_EQ(device_.features().Has(kFeatureRingPacked), packed);
    }
  }
}

TEST_F(VirtioDeviceTest, ActiveQueueIsLeftAloneWithoutRingReset) {
  // DRV-RVQ-1.
  ASSERT_EQ(Negotiate(), Error::kNone);
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  EXPECT_EQ(SetUpQueue(), Error::kRefused);
  EXPECT_TRUE(fake_.received_of(false, 0x0B).empty());
}

// --- Status, notifications, reset. ---

TEST_F(VirtioDeviceTest, StartNeedsDriverOkInTheAnswer) {
  ASSERT_EQ(Negotiate(), Error::kNone);
  uint32_t answer = 11;
  fake_.OnRequest(0x08, [&answer](const MessageBytes& message) {
    return std::vector<MessageBytes>{AnswerTo(message).U32(answer).Build()};
  });
  EXPECT_EQ(device_.Start(), Error::kRefused);
  answer = 15 | kStatusNeedsReset;
  EXPECT_EQ(device_.Start(), Error::kNeedsReset);
  EXPECT_TRUE(device_.needs_reset());
}

TEST_F(VirtioDeviceTest, NotifyBeforeDriverOkIsRefused) {
  // DRV-FINAL-2.
  ASSERT_EQ(Negotiate(), Error::kNone);
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  EXPECT_EQ(device_.Notify(0, *queue_), Error::kInvalidArgument);
  EXPECT_TRUE(fake_.received_of(false, 0x41).empty());
}

TEST_F(VirtioDeviceTest, NotifyNamesTheQueueAndLeavesTheOffsetZero) {
  // DRV-NOTIF-2, DRV-NOTIF-4.
  fake_.offered = Bit(32) | Bit(38);
  ASSERT_EQ(Negotiate(), Error::kNone);
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  ASSERT_EQ(device_.Start(), Error::kNone);
  const QueueBuffer buffer = {FakePlatform::kArenaAddress, 1, true};
  ASSERT_EQ(queue_->Add(std::span(&buffer, 1), 0), Error::kNone);
  queue_->Publish();
  ASSERT_EQ(device_.Notify(0, *queue_), Error::kNone);
  const auto events = fake_.received_of(false, 0x41);
  ASSERT_EQ(events.size(), 1u);
  EXPECT_EQ(Field(events[0], 4, 2), 0u);  // events have no token
  EXPECT_EQ(Field(events[0], 8, 4), 0u);
  EXPECT_EQ(Field(events[0], 12, 4), 0u);
}

TEST_F(VirtioDeviceTest, UsedEventsAreCollectedPerQueue) {
  ASSERT_EQ(Negotiate(), Error::kNone);
  fake_.SendUsed(0);
  fake_.SendUsed(3);
  fake_.SendUsed(3);
  fake_.SendUsed(64);  // past every queue: ignored
  EXPECT_EQ(device_.TakeUsed(), 0x9u);
  EXPECT_EQ(device_.TakeUsed(), 0u);
}

TEST_F(VirtioDeviceTest, ResetWaitsUntilTheStatusIsZero) {
  ASSERT_EQ(Negotiate(), Error::kNone);
  int looks = 0;
  fake_.intercept = [&looks](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    const bool set = Field(message, 1, 1) == 0x08;
    const uint32_t status = set || ++looks < 3 ? 11 : 0;
    return std::vector<MessageBytes>{AnswerTo(message).U32(status).Build()};
  };
  ASSERT_EQ(device_.Reset(), Error::kNone);
  EXPECT_EQ(looks, 3);
}

TEST_F(VirtioDeviceTest, ResetThatNeverEndsTimesOut) {
  ASSERT_EQ(Negotiate(), Error::kNone);
  fake_.intercept = [](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    return std::vector<MessageBytes>{AnswerTo(message).U32(11).Build()};
  };
  EXPECT_EQ(device_.Reset(), Error::kTimeout);
}

TEST_F(VirtioDeviceTest, DeviceCanBeSetUpAgainAfterReset) {
  ASSERT_EQ(Negotiate(), Error::kNone);
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  ASSERT_EQ(device_.Start(), Error::kNone);
  ASSERT_EQ(device_.Reset(), Error::kNone);
  EXPECT_EQ(device_.Notify(0, *queue_), Error::kInvalidArgument);
  ASSERT_EQ(device_.Negotiate({}, {}), Error::kNone);
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  ASSERT_EQ(device_.Start(), Error::kNone);
}

TEST_F(VirtioDeviceTest, NeedsResetIsSeenInEventsAndStatus) {
  // DRV-RESET-3 begins here.
  ASSERT_EQ(Negotiate(), Error::kNone);
  fake_.status |= kStatusNeedsReset;
  fake_.SendConfig(0, {}, 0);
  device_.TakeUsed();
  EXPECT_TRUE(device_.needs_reset());
  EXPECT_FALSE(device_.TakeConfigChanged() && device_.generation() != 7);
  fake_.status = 0;
  ASSERT_EQ(device_.Reset(), Error::kNone);
  EXPECT_FALSE(device_.needs_reset());
  fake_.status |= kStatusNeedsReset;
  uint32_t status;
  ASSERT_EQ(device_.ReadStatus(&status), Error::kNone);
  EXPECT_TRUE(device_.needs_reset());
}

TEST_F(VirtioDeviceTest, HealthCheckLooksAtTheStatusWhenThePingIsLost) {
  // ANY-PING-2.
  ASSERT_EQ(Negotiate(), Error::kNone);
  EXPECT_EQ(device_.CheckHealth(), Error::kNone);
  EXPECT_TRUE(fake_.received_of(false, 0x07).empty());
  fake_.intercept = [](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    if (Field(message, 0, 1) != 2) return std::nullopt;
    return std::vector<MessageBytes>{};
  };
  EXPECT_EQ(device_.CheckHealth(), Error::kNone);
  EXPECT_EQ(fake_.received_of(false, 0x07).size(), 1u);
  fake_.status |= kStatusNeedsReset;
  EXPECT_EQ(device_.CheckHealth(), Error::kNeedsReset);
}

TEST_F(VirtioDeviceTest, AbsentSharedMemoryIsNotFound) {
  ASSERT_EQ(device_.Probe(&bus_, 5), Error::kNone);
  SharedMemoryInfo shm;
  EXPECT_EQ(device_.GetSharedMemory(1, &shm), Error::kNotFound);
  fake_.OnRequest(0x0C, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{
        AnswerTo(message).U32(1).U32(0x1000).U32(0xD0000000).Build()};
  });
  ASSERT_EQ(device_.GetSharedMemory(1, &shm), Error::kNone);
  EXPECT_EQ(shm.address, 0xD0000000u);
  EXPECT_EQ(device_.GetSharedMemory(2, &shm), Error::kBadAnswer);
}

// --- Configuration space. ---

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
