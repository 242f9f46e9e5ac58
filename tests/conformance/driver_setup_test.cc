// Rows about the order in which a driver brings a device up.

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/message.h"
#include "tests/conformance/driver_fixture.h"

namespace vmsg::guest {
namespace {

class DriverSetupConformance : public DriverFixture {
 protected:
  // Position of the first message with this id (and first payload word).
  size_t First(uint64_t id, int64_t word = -1) const {
    for (size_t i = 0; i < Sent().size(); ++i) {
      const MessageBytes message = Sent()[i];
      if (Field(message, 1, 1) == id &&
          (word < 0 || Field(message, 8, 4) == static_cast<uint64_t>(word))) {
        return i;
      }
    }
    ADD_FAILURE() << "no message " << id;
    return 0;
  }
};

TEST_F(DriverSetupConformance, DRV_INIT_1_InfoComesFirst) {
  Start();
  EXPECT_EQ(Ids().at(0), 0x02u);
}

TEST_F(DriverSetupConformance, DRV_INIT_2_QueuesComeAfterFeaturesOk) {
  Start();
  EXPECT_LT(First(0x08, 11), First(0x0A));
  // Without the confirmation there are none.
  ASSERT_EQ(device_.Reset(), Error::kNone);
  fake_.accepted_mask = 0;
  const size_t before = Sent(0x0A).size();
  EXPECT_EQ(device_.Negotiate({}, {}), Error::kRefused);
  EXPECT_EQ(SetUpQueue(), Error::kInvalidArgument);
  EXPECT_EQ(Sent(0x0A).size(), before);
}

TEST_F(DriverSetupConformance, DRV_INIT_3_QueueIsConfirmedByReadingItBack) {
  Negotiate();
  const size_t before = Sent().size();
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  const std::vector<uint64_t> ids = Ids();
  EXPECT_EQ(std::vector<uint64_t>(ids.begin() + before, ids.end()),
            (std::vector<uint64_t>{0x09, 0x0A, 0x09}));
  // A device that took something else is not used.
  ASSERT_EQ(device_.Reset(), Error::kNone);
  ASSERT_EQ(device_.Negotiate({}, {}), Error::kNone);
  fake_.intercept = [this](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    if (Field(message, 1, 1) != 0x09) return std::nullopt;
    const auto queue = fake_.queues[0];
    return std::vector<MessageBytes>{AnswerTo(message)
                                         .U32(0)
                                         .U32(256)
                                         .U32(queue.size)
                                         .U32(0)
                                         .U64(queue.desc)
                                         .U64(queue.driver + 2)
                                         .U64(queue.device)
                                         .Build()};
  };
  EXPECT_EQ(SetUpQueue(), Error::kRefused);
}

TEST_F(DriverSetupConformance, DRV_INIT_4_DriverOkComesBeforeIo) {
  Start();
  ASSERT_EQ(AddAndNotify(), Error::kNone);
  EXPECT_LT(First(0x08, 15), First(0x41));
}

TEST_F(DriverSetupConformance, DRV_INFO_2_ConfigAccessStaysInsideTheSpace) {
  fake_.config.resize(10);
  Probe();
  std::array<std::byte, 4> data = {};
  for (const uint32_t offset : {7u, 10u, 11u, 0xFFFFFFFFu}) {
    EXPECT_EQ(device_.ReadConfig(offset, data), Error::kInvalidArgument);
    EXPECT_EQ(device_.WriteConfig(offset, data), Error::kInvalidArgument);
  }
  EXPECT_TRUE(Sent(0x05).empty());
  EXPECT_TRUE(Sent(0x06).empty());
  EXPECT_EQ(device_.ReadConfig(6, data), Error::kNone);
  EXPECT_EQ(device_.WriteConfig(6, data), Error::kNone);
}

TEST_F(DriverSetupConformance, DRV_GDI_1_LimitsAreThoseOfTheInfo) {
  fake_.config.resize(6);
  fake_.max_queues = 3;
  fake_.num_feature_bits = 96;
  Negotiate();
  EXPECT_EQ(Field(Sent(0x03).at(0), 12, 4), 3u);
  EXPECT_EQ(SetUpQueue(16, 3), Error::kNotFound);
  EXPECT_TRUE(Sent(0x09).empty());
  EXPECT_EQ(SetUpQueue(16, 2), Error::kNone);
  std::array<std::byte, 6> data;
  EXPECT_EQ(device_.ReadConfig(0, data), Error::kNone);
  EXPECT_EQ(device_.ReadConfig(1, data), Error::kInvalidArgument);
}

// --- Features. ---

TEST_F(DriverSetupConformance, DRV_FEAT_1_OfferedFeaturesAreAskedFor) {
  fake_.offered = FeatureBit(32) | FeatureBit(29);
  Negotiate(Features::Of(kFeatureEventIdx, kFeatureIndirectDesc));
  EXPECT_LT(First(0x03), First(0x04));
  EXPECT_TRUE(device_.features().Has(kFeatureEventIdx));
  EXPECT_FALSE(device_.features().Has(kFeatureIndirectDesc));
}

TEST_F(DriverSetupConformance, DRV_FEAT_2_OnlyWantedFeaturesAreWritten) {
  fake_.offered = ~uint64_t{0};
  Negotiate(Features::Of(kFeatureIndirectDesc));
  const std::vector<MessageBytes> sent = Sent(0x04);
  ASSERT_EQ(sent.size(), 1u);
  EXPECT_EQ(Field(sent[0], 8, 4), 0u);
  EXPECT_EQ(Field(sent[0], 12, 4), 2u);
  EXPECT_EQ(Field(sent[0], 16, 8), FeatureBit(28) | FeatureBit(32));
}

TEST_F(DriverSetupConformance, DRV_FEAT_3_FeaturesOkFollowsTheFeatures) {
  Negotiate();
  const size_t at = First(0x04);
  ASSERT_GT(Sent().size(), at + 1);
  EXPECT_EQ(Sent()[at + 1],
            MessageBuilder(0, 0x08, kDev,
                           static_cast<uint16_t>(Field(Sent()[at + 1], 4, 2)))
                .U32(11)
                .Build());
}

TEST_F(DriverSetupConformance, DRV_FEAT_4_AnswerDecidesWhetherItWasAccepted) {
  Probe();
  fake_.accepted_mask = ~FeatureBit(32);
  EXPECT_EQ(device_.Negotiate({}, {}), Error::kRefused);
  EXPECT_NE(fake_.status & kStatusFailed, 0u);
  fake_.accepted_mask = ~uint64_t{0};
  EXPECT_EQ(device_.Negotiate({}, {}), Error::kNone);
}

TEST_F(DriverSetupConformance, DRV_GDF_1_FeaturesAreBlocksOf32Bits) {
  fake_.num_feature_bits = 128;
  fake_.offered = FeatureBit(29) | FeatureBit(32);
  // One block at a time; past the offered bits zero.
  fake_.OnRequest(0x03, [](const MessageBytes& message) {
    const auto block = static_cast<uint32_t>(Field(message, 8, 4));
    const uint32_t word = block == 0 ? 1u << 29 : block == 1 ? 1u : 0u;
    return std::vector<MessageBytes>{
        AnswerTo(message).U32(block).U32(1).U32(word).Build()};
  });
  Negotiate(Features::Of(kFeatureEventIdx));
  EXPECT_EQ(Sent(0x03).size(), 4u);
  EXPECT_EQ(device_.features(),
            Features::Of(kFeatureEventIdx, kFeatureVersion1));
}

// --- Configuration space. ---

TEST_F(DriverSetupConformance, DRV_GEN_1_WriteCarriesTheLastCountSeen) {
  fake_.config.resize(8);
  Probe();
  std::array<std::byte, 2> data = {};
  ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
  ASSERT_EQ(device_.WriteConfig(0, data), Error::kNone);
  // In an event, with what has changed.
  fake_.generation = 0x80000000;
  std::span<const std::byte> config;
  ASSERT_EQ(device_.Config(&config), Error::kNone);
  fake_.generation = 0x80000001;
  fake_.SendConfig(4, data, 2);
  ASSERT_EQ(bus_.Poll(), Error::kNone);
  ASSERT_EQ(device_.WriteConfig(0, data), Error::kNone);
  fake_.generation = 3;
  ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
  ASSERT_EQ(device_.WriteConfig(0, data), Error::kNone);
  const std::vector<MessageBytes> sent = Sent(0x06);
  ASSERT_EQ(sent.size(), 3u);
  EXPECT_EQ(Field(sent[0], 8, 4), 7u);
  EXPECT_EQ(Field(sent[1], 8, 4), 0x80000001u);
  EXPECT_EQ(Field(sent[2], 8, 4), 3u);
}

TEST_F(DriverSetupConformance, DRV_GEN_2_RejectedWriteIsReadAnewFirst) {
  fake_.config.resize(8);
  Probe();
  std::array<std::byte, 2> data = {};
  ASSERT_EQ(device_.ReadConfig(0, data), Error::kNone);
  const size_t reads = Sent(0x05).size();
  fake_.generation = 8;
  EXPECT_EQ(device_.WriteConfig(0, data), Error::kStale);
  EXPECT_EQ(Sent(0x05).size(), reads + 1);
  EXPECT_EQ(Sent(0x06).size(), 1u);
  EXPECT_EQ(device_.generation(), 8u);
  EXPECT_EQ(device_.WriteConfig(0, data), Error::kNone);
}

// --- Queues. ---

TEST_F(DriverSetupConformance, DRV_VQ_1_QueueIsLookedAtBeforeItIsProgrammed) {
  Negotiate();
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  EXPECT_LT(First(0x09), First(0x0A));
  // It is active now, and nothing allows to stop it.
  EXPECT_EQ(SetUpQueue(), Error::kRefused);
  EXPECT_EQ(Sent(0x0A).size(), 1u);
}

TEST_F(DriverSetupConformance, DRV_VQ_2_SizeStaysWithinTheMaximum) {
  for (const uint32_t maximum : {1u, 7u, 64u}) {
    fake_.queue_max_size = maximum;
    Negotiate();
    ASSERT_EQ(SetUpQueue(128), Error::kNone);
    EXPECT_LE(Field(Sent(0x0A).back(), 16, 4), maximum);
  }
}

TEST_F(DriverSetupConformance, DRV_VQ_3_AddressesAreThoseOfTheQueue) {
  Negotiate();
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  const MessageBytes sent = Sent(0x0A).at(0);
  EXPECT_EQ(Field(sent, 24, 8), queue_->areas().descriptors);
  EXPECT_EQ(Field(sent, 32, 8), queue_->areas().driver);
  EXPECT_EQ(Field(sent, 40, 8), queue_->areas().device);
  for (const size_t at : {24u, 32u, 40u}) {
    EXPECT_GE(Field(sent, at, 8), FakePlatform::kArenaAddress);
    EXPECT_LT(Field(sent, at, 8),
              FakePlatform::kArenaAddress + FakePlatform::kArenaBytes);
  }
}

TEST_F(DriverSetupConformance, DRV_SVQ_2_AddressesAreAligned) {
  // virtio 1.2, 2.7 and 2.8.10.1.
  fake_.offered = FeatureBit(32) | FeatureBit(34);
  for (const bool packed : {false, true}) {
    for (const uint32_t size : {1u, 2u, 16u, 256u}) {
      Negotiate(packed ? Features::Of(kFeatureRingPacked) : Features());
      ASSERT_EQ(device_.features().Has(kFeatureRingPacked), packed);
      // An odd start of what the arena has left.
      platform_.dma_arena()->Allocate(1, 1);
      ASSERT_EQ(SetUpQueue(size), Error::kNone);
      const MessageBytes sent = Sent(0x0A).back();
      EXPECT_EQ(Field(sent, 24, 8) % 16, 0u);
      EXPECT_EQ(Field(sent, 32, 8) % (packed ? 4 : 2), 0u);
      EXPECT_EQ(Field(sent, 40, 8) % 4, 0u);
    }
  }
}

TEST_F(DriverSetupConformance, DRV_VQ_4_ActiveQueueIsResetBeforeItIsChanged) {
  fake_.offered = FeatureBit(32) | FeatureBit(40);
  Start(Features::Of(kFeatureRingReset));
  const size_t before = Sent().size();
  ASSERT_EQ(SetUpQueue(4), Error::kNone);
  const std::vector<uint64_t> ids = Ids();
  EXPECT_EQ(std::vector<uint64_t>(ids.begin() + before, ids.end()),
            (std::vector<uint64_t>{0x09, 0x0B, 0x09, 0x0A, 0x09}));
}

TEST_F(DriverSetupConformance, DRV_RVQ_1_NoQueueResetWithoutTheFeature) {
  fake_.offered = FeatureBit(32) | FeatureBit(40);
  Start();  // offered, not negotiated
  EXPECT_EQ(SetUpQueue(4), Error::kRefused);
  EXPECT_TRUE(Sent(0x0B).empty());
  // Nor with it where there is no need.
  ASSERT_EQ(device_.Reset(), Error::kNone);
  Start(Features::Of(kFeatureRingReset));
  EXPECT_TRUE(Sent(0x0B).empty());
}

// --- Status. ---

TEST_F(DriverSetupConformance, DRV_STATUS_1_ErrorsAreDiagnosedByTheStatus) {
  Start();
  // A device that says nothing to a PING, but has a status.
  fake_.intercept = [](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    if (Field(message, 0, 1) != 0x02) return std::nullopt;
    return std::vector<MessageBytes>{};
  };
  fake_.status |= kStatusNeedsReset;
  ASSERT_TRUE(Sent(0x07).empty());
  EXPECT_EQ(device_.CheckHealth(), Error::kNeedsReset);
  EXPECT_EQ(Sent(0x07).size(), 1u);
  EXPECT_TRUE(device_.needs_reset());
}

TEST_F(DriverSetupConformance, DRV_STATUS_2_StatusGoesUpStepByStep) {
  Start();
  std::vector<uint64_t> written;
  for (const MessageBytes& message : Sent(0x08)) {
    written.push_back(Field(message, 8, 4));
  }
  EXPECT_EQ(written, (std::vector<uint64_t>{0, 1, 3, 11, 15}));
}

TEST_F(DriverSetupConformance, DRV_STATUS_3_ResetIsAWriteOfZero) {
  Start();
  ASSERT_EQ(device_.Reset(), Error::kNone);
  EXPECT_EQ(Field(Sent(0x08).back(), 8, 4), 0u);
}

TEST_F(DriverSetupConformance, DRV_SDS_2_ResetIsConfirmedByTheStatus) {
  Negotiate();
  int looks = 0;
  fake_.intercept = [&looks](const MessageBytes& message)
      -> std::optional<std::vector<MessageBytes>> {
    if (Field(message, 1, 1) == 0x07) ++looks;
    return std::vector<MessageBytes>{
        AnswerTo(message).U32(looks < 3 ? 11 : 0).Build()};
  };
  ASSERT_EQ(device_.Reset(), Error::kNone);
  EXPECT_EQ(looks, 3);
}

// --- The end of the set-up. ---

TEST_F(DriverSetupConformance, DRV_FINAL_1_DriverOkComesLast) {
  Negotiate();
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  ASSERT_EQ(device_.Start(), Error::kNone);
  EXPECT_LT(First(0x08, 11), First(0x08, 15));
  EXPECT_LT(First(0x0A), First(0x08, 15));
  // Not before FEATURES_OK.
  ASSERT_EQ(device_.Reset(), Error::kNone);
  const size_t before = Sent().size();
  EXPECT_EQ(device_.Start(), Error::kInvalidArgument);
  EXPECT_EQ(Sent().size(), before);
}

TEST_F(DriverSetupConformance, DRV_FINAL_2_NoIoUntilDriverOkWasReported) {
  Negotiate();
  ASSERT_EQ(SetUpQueue(), Error::kNone);
  EXPECT_EQ(AddAndNotify(), Error::kInvalidArgument);
  fake_.OnRequest(0x08, [](const MessageBytes& message) {
    return std::vector<MessageBytes>{AnswerTo(message).U32(11).Build()};
  });
  EXPECT_EQ(device_.Start(), Error::kRefused);
  EXPECT_EQ(AddAndNotify(), Error::kInvalidArgument);
  EXPECT_TRUE(Sent(0x41).empty());
}

TEST_F(DriverSetupConformance, DRV_FINAL_3_NoEventsForUnconfiguredQueues) {
  fake_.max_queues = 2;
  Start();
  EXPECT_EQ(device_.Notify(1, *queue_), Error::kInvalidArgument);
  EXPECT_EQ(device_.Notify(64, *queue_), Error::kInvalidArgument);
  EXPECT_TRUE(Sent(0x41).empty());
  EXPECT_EQ(device_.Notify(0, *queue_), Error::kNone);
}

}  // namespace
}  // namespace vmsg::guest
