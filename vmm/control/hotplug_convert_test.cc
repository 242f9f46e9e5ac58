#include "vmm/control/hotplug_convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <utility>

namespace vmsg::control {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

TEST(HotplugConvertTest, DeviceStatesKeepTheirMeaning) {
  for (const auto& [state, wire] :
       {std::pair(PlugState::kAttaching, pb::DEVICE_STATE_ATTACHING),
        std::pair(PlugState::kPendingAnnounce,
                  pb::DEVICE_STATE_PENDING_ANNOUNCE),
        std::pair(PlugState::kPresent, pb::DEVICE_STATE_PRESENT),
        std::pair(PlugState::kRemoving, pb::DEVICE_STATE_REMOVING),
        std::pair(PlugState::kGone, pb::DEVICE_STATE_GONE)}) {
    DeviceRecord record;
    record.state = state;
    EXPECT_EQ(ToProto(record).state(), wire);
  }
}

TEST(HotplugConvertTest, DeviceHealthKeepsItsMeaningAndReason) {
  for (const auto& [health, wire] :
       {std::pair(Health::kOk, pb::HEALTH_STATE_OK),
        std::pair(Health::kNeedsReset, pb::HEALTH_STATE_NEEDS_RESET),
        std::pair(Health::kBackendFailed, pb::HEALTH_STATE_BACKEND_FAILED),
        std::pair(Health::kUnresponsive, pb::HEALTH_STATE_UNRESPONSIVE)}) {
    DeviceRecord record;
    record.health = health;
    record.health_reason = "because";
    EXPECT_EQ(ToProto(record).health().state(), wire);
    EXPECT_EQ(ToProto(record).health().reason(), "because");
  }
}

TEST(HotplugConvertTest, FifoStatesAndItsDriversHealthKeepTheirMeaning) {
  for (const auto& [state, wire] :
       {std::pair(BusState::kRunning, pb::FIFO_STATE_RUNNING),
        std::pair(BusState::kWaiting, pb::FIFO_STATE_WAITING),
        std::pair(BusState::kBroken, pb::FIFO_STATE_BROKEN)}) {
    FifoRecord record;
    record.report.state = state;
    EXPECT_EQ(ToProto(record).state(), wire);
  }
  for (const auto& [health, wire] :
       {std::pair(DriverHealth::kUnknown, pb::DRIVER_HEALTH_UNKNOWN),
        std::pair(DriverHealth::kAnswers, pb::DRIVER_HEALTH_ANSWERS),
        std::pair(DriverHealth::kUnresponsive,
                  pb::DRIVER_HEALTH_UNRESPONSIVE)}) {
    FifoRecord record;
    record.report.driver_health = health;
    EXPECT_EQ(ToProto(record).driver_health(), wire);
  }
}

TEST(HotplugConvertTest, FifoKeepsItsCountersByName) {
  FifoRecord record;
  record.report.counters = {{"wakeups", 7}, {"malformed", 0}};
  const pb::Fifo fifo = ToProto(record);
  EXPECT_THAT(fifo.counters(),
              UnorderedElementsAre(Pair("wakeups", 7), Pair("malformed", 0)));
}

TEST(HotplugConvertTest, EventsKeepTheirKindAndOnlySyncedHasNoDevice) {
  for (const auto& [kind, wire] :
       {std::pair(DeviceEvent::Kind::kExists, pb::DEVICE_EVENT_KIND_EXISTS),
        std::pair(DeviceEvent::Kind::kSynced, pb::DEVICE_EVENT_KIND_SYNCED),
        std::pair(DeviceEvent::Kind::kAttached, pb::DEVICE_EVENT_KIND_ATTACHED),
        std::pair(DeviceEvent::Kind::kChanged, pb::DEVICE_EVENT_KIND_CHANGED),
        std::pair(DeviceEvent::Kind::kGone, pb::DEVICE_EVENT_KIND_GONE)}) {
    DeviceEvent event;
    event.kind = kind;
    event.device.id = "rng-1";
    event.sequence = 9;
    const pb::WatchDevicesResponse response = ToProto(event);
    EXPECT_EQ(response.kind(), wire);
    EXPECT_EQ(response.sequence(), 9u);
    EXPECT_EQ(response.has_device(), kind != DeviceEvent::Kind::kSynced);
  }
}

TEST(HotplugConvertTest, DetachKeepsModeAndTimes) {
  pb::DetachDeviceRequest request;
  request.set_id("rng-1");
  ASSERT_TRUE(FromProto(request).ok());
  EXPECT_FALSE(FromProto(request)->options.forced);
  EXPECT_EQ(FromProto(request)->options.deadline, RemoveOptions().deadline);

  request.set_mode(pb::DETACH_MODE_FORCED);
  request.mutable_deadline()->set_seconds(3);
  request.mutable_deadline()->set_nanos(5);
  request.mutable_wait_timeout()->set_seconds(2);
  request.set_generation(8);
  request.set_request_id("r1");
  request.set_validate_only(true);
  const absl::StatusOr<DetachRequest> detach = FromProto(request);
  ASSERT_TRUE(detach.ok()) << detach.status();
  EXPECT_EQ(detach->id, "rng-1");
  EXPECT_TRUE(detach->options.forced);
  EXPECT_EQ(detach->options.deadline,
            std::chrono::seconds(3) + std::chrono::nanoseconds(5));
  EXPECT_EQ(detach->wait_timeout, std::chrono::seconds(2));
  EXPECT_EQ(detach->generation, 8u);
  EXPECT_EQ(detach->request_id, "r1");
  EXPECT_TRUE(detach->validate_only);
}

TEST(HotplugConvertTest, TimesOfADetachThatAreNoDurationAreNamed) {
  pb::DetachDeviceRequest deadline;
  deadline.mutable_deadline()->set_seconds(1);
  deadline.mutable_deadline()->set_nanos(-1);
  EXPECT_EQ(FromProto(deadline).status().code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(std::string(FromProto(deadline).status().message()),
              HasSubstr("deadline: "));
  pb::DetachDeviceRequest wait;
  wait.mutable_wait_timeout()->set_nanos(1'000'000'000);
  EXPECT_THAT(std::string(FromProto(wait).status().message()),
              HasSubstr("wait_timeout: "));
}

// The manager refuses them; no arithmetic on the way may overflow.
TEST(HotplugConvertTest, HugeTimesStayHugeAndKeepTheirSign) {
  pb::DetachDeviceRequest request;
  request.mutable_deadline()->set_seconds(INT64_MAX);
  request.mutable_wait_timeout()->set_seconds(INT64_MIN);
  const absl::StatusOr<DetachRequest> detach = FromProto(request);
  ASSERT_TRUE(detach.ok()) << detach.status();
  EXPECT_GT(detach->options.deadline, DeviceManager::kMaxTimeout);
  EXPECT_LT(detach->wait_timeout, vmm::Duration(0));
}

}  // namespace
}  // namespace vmsg::control
