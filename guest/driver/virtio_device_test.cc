#include "guest/driver/virtio_device.h"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/features.h"
#include "guest/driver/testing/bytes.h"
#include "guest/driver/testing/fake_platform.h"
#include "guest/driver/testing/fake_ring.h"
#include "guest/driver/testing/virtio_device_fixture.h"

namespace vmsg::guest {
namespace {

constexpr uint64_t Bit(uint32_t bit) { return uint64_t{1} << bit; }

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

TEST_F(VirtioDeviceTest,
       NeedsResetInTheAnswerToAStatusIsNoticedAndNotSentBack) {
  fake_.OnRequest(0x08, [this](const MessageBytes& message) {
    fake_.status = static_cast<uint32_t>(Field(message, 8, 4));
    const uint32_t told = fake_.status == 11 ? 11u | 64u : fake_.status;
    return std::vector<MessageBytes>{AnswerTo(message).U32(told).Build()};
  });
  ASSERT_EQ(Negotiate(), Error::kNone);
  EXPECT_TRUE(device_.needs_reset());
  ASSERT_EQ(device_.Start(), Error::kNone);
  EXPECT_EQ(fake_.status, 15u);
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

}  // namespace
}  // namespace vmsg::guest
