#include "guest/driver/shmem_header.h"

#include <array>
#include <cstddef>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace vmsg::guest {
namespace {

using Fault = ShmemHeaderFault;

// The usual placement, messages only.
ShmemHeader Usual() {
  ShmemHeader header;
  header.magic = 0x4C4F;
  header.length = 64;
  header.version = 1;
  header.num_queue_elements = 63;
  header.size_queue_elements = 64;
  header.sides[0] = {
      .notif_offset = 0, .queue_head_offset = 64, .queue_elements_offset = 80};
  header.sides[1] = {.notif_offset = 0,
                     .queue_head_offset = 72,
                     .queue_elements_offset = 4112};
  return header;
}

// With notification words; sound too.
ShmemHeader WithNotifications() {
  ShmemHeader header = Usual();
  header.features = 1;
  header.num_notif = 4;
  header.num_vq_notif_per_device = 16;
  header.num_queue_elements = 8;
  header.sides[0].notif_offset = 1024;  // 96 bytes each
  header.sides[1].notif_offset = 1120;
  return header;
}

struct Case {
  const char* name;
  Fault fault;
  std::function<void(ShmemHeader*)> change;
};

const std::vector<Case>& Cases() {
  static const std::vector<Case> cases = {
      {"Magic", Fault::kMagic, [](auto* h) { h->magic = 0x4C4E; }},
      {"LengthShort", Fault::kLength, [](auto* h) { h->length = 63; }},
      {"LengthLong", Fault::kLength, [](auto* h) { h->length = 65; }},
      {"VersionZero", Fault::kVersion, [](auto* h) { h->version = 0; }},
      {"VersionTwo", Fault::kVersion, [](auto* h) { h->version = 2; }},
      {"FeatureOne", Fault::kUnknownFeature, [](auto* h) { h->features = 2; }},
      {"FeatureFifteen", Fault::kUnknownFeature,
       [](auto* h) { h->features = 0x8001; }},
      {"Reserved", Fault::kReserved, [](auto* h) { h->reserved = 1; }},
      {"SixtyFiveNotifications", Fault::kNotificationCount,
       [](auto* h) { h->num_notif = 65; }},
      {"NotificationsForNoQueue", Fault::kNotificationsPerDevice,
       [](auto* h) { h->num_vq_notif_per_device = 0; }},
      {"NotificationsForThreeQueues", Fault::kNotificationsPerDevice,
       [](auto* h) { h->num_vq_notif_per_device = 3; }},
      {"NotificationsFor32Queues", Fault::kNotificationsPerDevice,
       [](auto* h) { h->num_vq_notif_per_device = 32; }},
      {"NoElements", Fault::kElementCount,
       [](auto* h) { h->num_queue_elements = 0; }},
      {"OneElement", Fault::kElementCount,
       [](auto* h) { h->num_queue_elements = 1; }},
      {"ElementsOfNothing", Fault::kElementSizeZero,
       [](auto* h) { h->size_queue_elements = 0; }},
      {"ElementsOfOtherSize", Fault::kElementSizeOther,
       [](auto* h) { h->size_queue_elements = 128; }},
      {"DeviceNotificationsNowhere", Fault::kNotificationOffsetZero,
       [](auto* h) { h->sides[0].notif_offset = 0; }},
      {"DriverNotificationsMisaligned", Fault::kNotificationMisaligned,
       [](auto* h) { h->sides[1].notif_offset = 1124; }},
      {"DriverNotificationsReachOut", Fault::kNotificationOutside,
       [](auto* h) { h->sides[1].notif_offset = 8192 - 88; }},
      {"DeviceHeadNowhere", Fault::kHeadOffsetZero,
       [](auto* h) { h->sides[0].queue_head_offset = 0; }},
      {"DriverHeadMisaligned", Fault::kHeadMisaligned,
       [](auto* h) { h->sides[1].queue_head_offset = 73; }},
      {"DriverHeadReachesOut", Fault::kHeadOutside,
       [](auto* h) { h->sides[1].queue_head_offset = 8186; }},
      {"DeviceHeadWraps", Fault::kHeadOutside,
       [](auto* h) { h->sides[0].queue_head_offset = ~uint64_t{7}; }},
      {"DeviceElementsNowhere", Fault::kElementsOffsetZero,
       [](auto* h) { h->sides[0].queue_elements_offset = 0; }},
      {"DriverElementsReachOut", Fault::kElementsOutside,
       [](auto* h) { h->sides[1].queue_elements_offset = 8192 - 511; }},
      {"DriverElementsWrap", Fault::kElementsOutside,
       [](auto* h) { h->sides[1].queue_elements_offset = ~uint64_t{0}; }},
      {"MoreElementsThanRoom", Fault::kElementsOutside,
       [](auto* h) { h->num_queue_elements = 0xFFFF; }},
      {"HeadInTheHeader", Fault::kOverlap,
       [](auto* h) { h->sides[0].queue_head_offset = 62; }},
      {"HeadsOverlap", Fault::kOverlap,
       [](auto* h) { h->sides[1].queue_head_offset = 70; }},
      {"HeadInElements", Fault::kOverlap,
       [](auto* h) { h->sides[1].queue_head_offset = 80; }},
      {"ElementsOverlap", Fault::kOverlap,
       [](auto* h) { h->sides[1].queue_elements_offset = 80 + 511; }},
      {"NotificationsOverlap", Fault::kOverlap,
       [](auto* h) { h->sides[1].notif_offset = 1112; }},
      {"NotificationsInElements", Fault::kOverlap,
       [](auto* h) { h->sides[0].notif_offset = 584; }},
  };
  return cases;
}

class ShmemHeaderFaultTest : public testing::TestWithParam<Case> {};

TEST_P(ShmemHeaderFaultTest, IsNamed) {
  ShmemHeader header = WithNotifications();
  ASSERT_EQ(CheckShmemHeader(header), Fault::kNone);
  GetParam().change(&header);
  EXPECT_EQ(CheckShmemHeader(header), GetParam().fault)
      << ShmemHeaderFaultName(CheckShmemHeader(header));
}

INSTANTIATE_TEST_SUITE_P(Each, ShmemHeaderFaultTest, testing::ValuesIn(Cases()),
                         [](const auto& param) {
                           return std::string(param.param.name);
                         });

TEST(ShmemHeaderTest, EveryFaultHasACaseAndANameOfItsOwn) {
  std::set<Fault> seen;
  for (const Case& c : Cases()) seen.insert(c.fault);
  std::set<std::string> names;
  for (int i = 0; i <= static_cast<int>(Fault::kOverlap); ++i) {
    const auto fault = static_cast<Fault>(i);
    EXPECT_EQ(seen.contains(fault), fault != Fault::kNone) << i;
    names.insert(ShmemHeaderFaultName(fault));
  }
  EXPECT_EQ(names.size(), static_cast<size_t>(Fault::kOverlap) + 1);
  EXPECT_FALSE(names.contains("unknown"));
}

TEST(ShmemHeaderTest, UsualPlacementIsSound) {
  EXPECT_EQ(CheckShmemHeader(Usual()), Fault::kNone);
}

TEST(ShmemHeaderTest, RegionsMayTouchAndEndWithTheRegion) {
  ShmemHeader header = Usual();
  header.num_queue_elements = 2;
  header.sides[1].queue_head_offset = 8192 - 8;
  header.sides[1].queue_elements_offset = 8192 - 8 - 128;
  EXPECT_EQ(CheckShmemHeader(header), Fault::kNone);
}

TEST(ShmemHeaderTest, WithoutNotificationWordsTheirFieldsDoNotMatter) {
  ShmemHeader header = Usual();
  header.num_vq_notif_per_device = 7;
  header.sides[0].notif_offset = 3;
  EXPECT_EQ(CheckShmemHeader(header), Fault::kNone);
}

TEST(ShmemHeaderTest, MaskArrayCountsOnlyWithTheFeature) {
  ShmemHeader header = WithNotifications();
  header.sides[1].notif_offset = 8192 - 64;  // tx and rx, without mask
  EXPECT_EQ(CheckShmemHeader(header), Fault::kNotificationOutside);
  header.features = 0;
  EXPECT_EQ(CheckShmemHeader(header), Fault::kNone);
}

TEST(ShmemHeaderTest, DecodesEachFieldFromItsPlace) {
  std::array<std::byte, 64> bytes;
  for (size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(i + 1);
  }
  const ShmemHeader header = DecodeShmemHeader(bytes);
  EXPECT_EQ(header.magic, 0x0201);
  EXPECT_EQ(header.length, 0x0403);
  EXPECT_EQ(header.version, 0x0605);
  EXPECT_EQ(header.features, 0x0807);
  EXPECT_EQ(header.num_notif, 9);
  EXPECT_EQ(header.num_vq_notif_per_device, 10);
  EXPECT_EQ(header.num_queue_elements, 0x0C0B);
  EXPECT_EQ(header.size_queue_elements, 0x0E0D);
  EXPECT_EQ(header.reserved, 0x100F);
  EXPECT_EQ(header.device().notif_offset, 0x1817161514131211u);
  EXPECT_EQ(header.device().queue_head_offset, 0x201F1E1D1C1B1A19u);
  EXPECT_EQ(header.device().queue_elements_offset, 0x2827262524232221u);
  EXPECT_EQ(header.driver().notif_offset, 0x302F2E2D2C2B2A29u);
  EXPECT_EQ(header.driver().queue_head_offset, 0x3837363534333231u);
  EXPECT_EQ(header.driver().queue_elements_offset, 0x403F3E3D3C3B3A39u);
}

}  // namespace
}  // namespace vmsg::guest
