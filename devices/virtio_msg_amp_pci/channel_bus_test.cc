#include "devices/virtio_msg_amp_pci/channel_bus.h"

#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio/virtio_device.h"
#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::amp {
namespace {

using control::PlugState;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::vmsg::vmm::IsOk;
using ::vmsg::vmm::StatusIs;

class PluggableOfAnotherFamily final : public control::Pluggable {
 public:
  std::string_view family() const override { return "usb"; }
};

class ChannelBusTest : public testing::Test {
 protected:
  ChannelBusTest() {
    m_.guest->Start();
    m_.loop.RunUntilIdle();
    bus_->Observe(
        [this](uint32_t slot, const control::SlotReport& report) {
          reports_.emplace_back(slot, report);
        },
        nullptr);
  }

  std::unique_ptr<control::Pluggable> Dummy() {
    return std::make_unique<VirtioPluggable>(
        std::make_unique<virtio::DummyDevice>(virtio::DummyOptions{},
                                              &m_.loop));
  }
  // Lets the driver show itself, as the first thing that it does.
  void Enumerate() {
    m_.guest->Send(1, RawGetDevices(1));
    m_.Run(1);
  }

  AmpMachine m_;
  control::HotplugBus* const bus_ = m_.device->bus(1);
  std::vector<std::pair<uint32_t, control::SlotReport>> reports_;
};

TEST_F(ChannelBusTest, DescribesItself) {
  EXPECT_EQ(bus_->id(), (control::HotplugBus::Id{"amp0", 1}));
  EXPECT_EQ(bus_->slot_count(), 32u);
  EXPECT_EQ(bus_->family(), "virtio-msg");
  EXPECT_EQ(bus_->loop(), &m_.loop);
}

TEST_F(ChannelBusTest, PluggedDeviceIsAnnouncedToTheDriver) {
  Enumerate();
  ASSERT_THAT(bus_->Plug(3, 77, Dummy()), IsOk());
  EXPECT_EQ(bus_->slot_report(3).generation, 77u);
  EXPECT_EQ(bus_->slot_report(3).state, PlugState::kPendingAnnounce);

  const std::vector<Bytes> packets = m_.Run(1);
  ASSERT_THAT(packets, SizeIs(1));
  EXPECT_EQ(TypeOf(packets[0]), 0x02);
  EXPECT_EQ(IdOf(packets[0]), 0x40);
  EXPECT_EQ(PayloadWord(packets[0], 0), 3u | 1u << 16) << "slot 3, ready";
  EXPECT_EQ(m_.interrupts.count(1), 2u);
  EXPECT_EQ(bus_->slot_report(3).state, PlugState::kPresent);
  ASSERT_FALSE(reports_.empty());
  EXPECT_EQ(reports_.back().first, 3u);
  EXPECT_EQ(reports_.back().second.state, PlugState::kPresent);
}

TEST_F(ChannelBusTest, OtherFifosDoNotHearOfIt) {
  m_.guest->Send(0, RawGetDevices(1));
  Enumerate();
  ASSERT_THAT(bus_->Plug(3, 1, Dummy()), IsOk());
  const std::vector<Bytes> packets = m_.Run(0);
  EXPECT_THAT(packets, SizeIs(1)) << "the answer alone";
}

TEST_F(ChannelBusTest, RefusesWhatDoesNotFit) {
  EXPECT_THAT(
      bus_->Plug(3, 1, std::make_unique<PluggableOfAnotherFamily>()),
      StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("amp0/fifo1")));
  EXPECT_THAT(bus_->Plug(3, 1, nullptr),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(bus_->Plug(32, 1, Dummy()),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_THAT(bus_->Plug(3, 1, Dummy()), IsOk());
  EXPECT_THAT(bus_->Plug(3, 2, Dummy()),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(bus_->slot_report(3).generation, 1u);
}

TEST_F(ChannelBusTest, DeviceThatCannotBeMadeLeavesNoTrace) {
  using Made = absl::StatusOr<std::unique_ptr<virtio::VirtioDevice>>;
  EXPECT_THAT(
      bus_->Plug(3, 1, std::make_unique<VirtioPluggable>([]() -> Made {
                   return absl::UnavailableError("no entropy");
                 })),
      StatusIs(absl::StatusCode::kUnavailable, HasSubstr("no entropy")));
  EXPECT_THAT(
      bus_->Plug(3, 2, std::make_unique<VirtioPluggable>([this]() -> Made {
                   return std::make_unique<virtio::DummyDevice>(
                       virtio::DummyOptions{}, &m_.loop);
                 })),
      IsOk());
  EXPECT_EQ(bus_->slot_report(3).generation, 2u);
}

TEST_F(ChannelBusTest, UnplugsTheGenerationThatWasMeant) {
  ASSERT_THAT(bus_->Plug(3, 5, Dummy()), IsOk());
  bool gone = false;
  EXPECT_THAT(bus_->Unplug(3, 4, {}, [&] { gone = true; }),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(bus_->Unplug(4, 5, {}, [&] { gone = true; }),
              StatusIs(absl::StatusCode::kNotFound));
  EXPECT_THAT(bus_->Unplug(99, 5, {}, [&] { gone = true; }),
              StatusIs(absl::StatusCode::kNotFound));
  m_.loop.RunUntilIdle();
  EXPECT_FALSE(gone);

  ASSERT_THAT(bus_->Unplug(3, 5, {}, [&] { gone = true; }), IsOk());
  EXPECT_FALSE(gone) << "not inside the call";
  m_.loop.AdvanceTime(std::chrono::seconds(20));
  EXPECT_TRUE(gone);
  EXPECT_EQ(bus_->slot_report(3).state, PlugState::kGone);
  EXPECT_THAT(bus_->Plug(3, 6, Dummy()), IsOk());
}

TEST_F(ChannelBusTest, HandsTheDeadlineOn) {
  Enumerate();
  ASSERT_THAT(bus_->Plug(3, 5, Dummy()), IsOk());
  m_.Run(1);
  m_.guest->Send(1, RawGetDeviceInfo(3, 9));
  m_.guest->Send(1, RawSetStatus(3, 1, 3));
  m_.Run(1);
  bool gone = false;
  ASSERT_THAT(bus_->Unplug(3, 5, {.deadline = std::chrono::seconds(2)},
                           [&] { gone = true; }),
              IsOk());
  m_.loop.AdvanceTime(std::chrono::seconds(1));
  EXPECT_EQ(bus_->slot_report(3).state, PlugState::kRemoving);
  EXPECT_THAT(bus_->Unplug(3, 5, {}, [] {}),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_THAT(bus_->Unplug(3, 5, {.forced = true}, [] {}), IsOk());
  m_.guest->Send(1, RawSetStatus(3, 2, 0));
  m_.loop.AdvanceTime(std::chrono::seconds(1));
  EXPECT_TRUE(gone);
}

TEST_F(ChannelBusTest, ReportsTheStatusThatTheDriverWrites) {
  Enumerate();
  ASSERT_THAT(bus_->Plug(3, 5, Dummy()), IsOk());
  m_.Run(1);
  m_.guest->Send(1, RawGetDeviceInfo(3, 9));
  m_.guest->Send(1, RawSetStatus(3, 1, 1));
  m_.Run(1);
  EXPECT_EQ(bus_->slot_report(3).driver_status, 1u);
  EXPECT_EQ(reports_.back().second.driver_status, 1u);
  EXPECT_EQ(reports_.back().second.generation, 5u);
  bus_->Observe(nullptr, nullptr);
  const size_t before = reports_.size();
  m_.guest->Send(1, RawSetStatus(3, 2, 3));
  m_.Run(1);
  EXPECT_EQ(reports_.size(), before);
}

TEST_F(ChannelBusTest, ReportsWhatAilsADevice) {
  Enumerate();
  auto made =
      std::make_unique<virtio::DummyDevice>(virtio::DummyOptions{}, &m_.loop);
  virtio::DummyDevice* const device = made.get();
  ASSERT_THAT(
      bus_->Plug(3, 5, std::make_unique<VirtioPluggable>(std::move(made))),
      IsOk());
  m_.Run(1);
  const std::array<uint8_t, 12> version_1 = {1, 0, 0, 0, 1, 0,
                                             0, 0, 1, 0, 0, 0};
  constexpr std::array<uint8_t, 8> kTwoBlocks = {0, 0, 0, 0, 2, 0, 0, 0};
  m_.guest->Send(1, RawGetDeviceInfo(3, 9));
  m_.guest->Send(1, RawSetStatus(3, 1, 3));
  m_.guest->Send(1, RawMessage(0, 0x03, 3, 8, kTwoBlocks));
  m_.Run(1);
  m_.guest->Send(1, RawMessage(0, 0x04, 3, 2, version_1));
  m_.guest->Send(1, RawSetStatus(3, 3, 0xB));
  m_.guest->Send(1, RawSetStatus(3, 4, 0xF));
  m_.loop.AdvanceTime(std::chrono::seconds(1));
  ASSERT_EQ(bus_->slot_report(3).driver_status, 0xFu);
  EXPECT_EQ(bus_->slot_report(3).health, control::Health::kOk);

  device->SetBackendFailing(true);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(reports_.back().second.health, control::Health::kBackendFailed);
  EXPECT_EQ(reports_.back().second.health_reason, "dummy back end failed");
  device->SetBackendFailing(false);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(reports_.back().second.health, control::Health::kOk);
  device->Break("a test");
  m_.loop.RunUntilIdle();
  EXPECT_EQ(reports_.back().second.health, control::Health::kNeedsReset);
  EXPECT_EQ(reports_.back().second.health_reason, "a test");
  EXPECT_EQ(reports_.back().first, 3u);
}

TEST_F(ChannelBusTest, NamesItsCounters) {
  Enumerate();
  const control::BusReport report = bus_->bus_report();
  const auto value = [&](std::string_view name) -> uint64_t {
    for (const control::NamedCount& count : report.counters) {
      if (count.name == name) return count.value;
    }
    ADD_FAILURE() << "no counter " << name;
    return 0;
  };
  EXPECT_EQ(value("wakeups"), 1u);
  EXPECT_EQ(value("packets_in"), 1u);
  EXPECT_EQ(value("packets_out"), 1u);
  EXPECT_EQ(value("interrupts"), 1u);
  EXPECT_EQ(value("answered"), 1u);
  EXPECT_EQ(value("malformed"), 0u);
  EXPECT_EQ(value("breaks"), 0u);
}

}  // namespace
}  // namespace vmsg::amp
