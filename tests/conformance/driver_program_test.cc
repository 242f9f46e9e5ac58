// Rows about what a driver does with devices that come, go and break, proved on
// the program that uses guest/driver as an operating system would.

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/message.h"
#include "guest/driver/testing/fake_device.h"
#include "guest/payload/testing/program_fixture.h"

namespace vmsg::guest {
namespace {

class DriverProgramConformance : public ProgramFixture {
 protected:
  bool Run() {
    return ProgramFixture::Run({.read_bytes = 64, .timeout_ns = 10'000'000});
  }
};

TEST_F(DriverProgramConformance, BUS_DISC_2_PresentDeviceIsProbedAndBound) {
  fake_.present = 1u << 5;
  Step([this] {
    const std::vector<MessageBytes> infos =
        fake_.received_of(false, kMsgGetDeviceInfo);
    ASSERT_EQ(infos.size(), 1u);
    EXPECT_EQ(Field(infos[0], 2, 2), 5u);
    EXPECT_EQ(fake_.status, 15u);
  });
  EXPECT_TRUE(Run());
}

TEST_F(DriverProgramConformance, BUS_PLUG_2_NewDeviceIsAskedAndRegistered) {
  Step([this] {
    EXPECT_TRUE(fake_.received_of(false, kMsgGetDeviceInfo).empty());
    fake_.SendDeviceEvent(5, kDeviceReady);
  });
  EXPECT_TRUE(Run());
  EXPECT_EQ(fake_.received_of(false, kMsgGetDeviceInfo).size(), 1u);
  EXPECT_EQ(Lines("probe function=0 fifo=0 slot=5 device=4"), 1u);
}

TEST_F(DriverProgramConformance, BUS_PLUG_3_RemovalReleasesTheDriver) {
  fake_.present = 1u << 5;
  Step([this] { fake_.SendDeviceEvent(5, kDeviceRemoved); });
  Step([this] {
    EXPECT_EQ(Lines("removed function=0 fifo=0 slot=5 reset=1"), 1u);
    console_.input = "read 10\n";  // finds no device
  });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("entropy"), 1u);
}

TEST_F(DriverProgramConformance, DRV_EVDEV_1_ReadyIsProbedAndInitialized) {
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  Step([this] {
    EXPECT_EQ(fake_.status, 15u);
    // A probe that finds nothing ends there.
    fake_.SendDeviceEvent(6, kDeviceReady);
  });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("started"), 1u);
  for (const MessageBytes& message :
       fake_.received_of(false, kMsgSetDeviceStatus)) {
    EXPECT_EQ(Field(message, 2, 2), 5u);
  }
}

TEST_F(DriverProgramConformance, DRV_EVDEV_2_RemovedStopsAndResets) {
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  size_t avails = 0;
  Step([this, &avails] {
    avails = fake_.received_of(false, kMsgEventAvail).size();
    fake_.SendDeviceEvent(5, kDeviceRemoved);
  });
  Step([this, &avails] {
    EXPECT_EQ(fake_.status, 0u);
    EXPECT_EQ(fake_.received_of(false, kMsgEventAvail).size(), avails);
    fake_.SendUsed(0);  // late: of nobody
  });
  EXPECT_TRUE(Run());
  EXPECT_EQ(fake_.received_of(false, kMsgEventAvail).size(), avails);
  EXPECT_EQ(Lines("removed function=0 fifo=0 slot=5 reset=1"), 1u);
}

TEST_F(DriverProgramConformance, DRV_EVDEV_3_RepeatedAndEarlyEventsAreFine) {
  Step([this] { fake_.SendDeviceEvent(5, kDeviceRemoved); });  // too early
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  Step([this] {
    EXPECT_EQ(fake_.status, 15u);
    fake_.SendDeviceEvent(5, kDeviceRemoved);
    fake_.SendDeviceEvent(5, kDeviceRemoved);
  });
  Step([this] { fake_.SendDeviceEvent(9, 0x8001); });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("started"), 1u);
  EXPECT_EQ(Lines("removed"), 1u);
  EXPECT_EQ(Lines("error"), 0u);
}

TEST_F(DriverProgramConformance, DRV_EVDEV_4_PingMonitorsBesides) {
  fake_.present = 1u << 5;
  Step([this] { console_.input = "ping\n"; });
  EXPECT_TRUE(Run());
  EXPECT_EQ(fake_.received_of(true, kBusMsgPing).size(), 1u);
  EXPECT_EQ(Lines("ping function=0 fifo=0 result="), 1u);
}

TEST_F(DriverProgramConformance, DRV_RESET_3_DeviceInNeedIsResetAndRestarted) {
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  size_t statuses = 0;
  Step([this, &statuses] {
    statuses = fake_.received_of(false, kMsgSetDeviceStatus).size();
    fake_.status |= kStatusNeedsReset;
    fake_.SendConfig(0, {}, 0);
  });
  Step([this, &statuses] {
    const std::vector<MessageBytes> sent =
        fake_.received_of(false, kMsgSetDeviceStatus);
    ASSERT_GT(sent.size(), statuses);
    EXPECT_EQ(Field(sent[statuses], 8, 4), 0u);
    EXPECT_EQ(fake_.status, 15u);
  });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("started"), 2u);
}

}  // namespace
}  // namespace vmsg::guest
