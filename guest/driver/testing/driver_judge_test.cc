#include "guest/driver/testing/driver_judge.h"

#include <array>
#include <cstddef>
#include <memory>

#include "gtest/gtest-spi.h"
#include "gtest/gtest.h"
#include "guest/driver/bus.h"
#include "guest/driver/message.h"
#include "guest/driver/spsc_fifo.h"
#include "guest/driver/testing/fake_device.h"
#include "guest/driver/testing/fake_platform.h"

namespace vmsg::guest {
namespace {

class DriverJudgeTest : public testing::Test {
 protected:
  DriverJudgeTest() { EXPECT_TRUE(fifo_.Attach()); }

  // EVENT_AVAIL of a queue that is not there.
  void BreakFinal3() {
    std::array<std::byte, 16> event;
    EncodeEventAvail(device_.number, 0, 0, event);
    EXPECT_EQ(bus_.SendEvent(event), Error::kNone);
  }

  FakePlatform platform_;
  FakeDevice device_{&platform_};
  SpscFifo fifo_{device_.window()};
  Bus bus_{&platform_,
           &fifo_,
           {.doorbell_address = FakeDevice::kDoorbell,
            .interrupt = FakeDevice::kInterrupt}};
};

TEST_F(DriverJudgeTest, RowThatIsBrokenFailsTheTest) {
  DriverJudge judge(&device_);
  EXPECT_NONFATAL_FAILURE(BreakFinal3(), "the driver breaks DRV-FINAL-3");
}

TEST_F(DriverJudgeTest, RowThatIsAllowedMayBeBrokenAndNoOther) {
  DriverJudge judge(&device_);
  judge.Allow(msg::Row::kDrvFinal3);
  BreakFinal3();
  BreakFinal3();
  Packet packet;
  EncodeGetConfig(device_.number, 0, 0, packet.bytes);
  EXPECT_NONFATAL_FAILURE(
      EXPECT_EQ(bus_.Call(packet.bytes, &packet), Error::kNone), "DRV-INIT-1");
}

TEST_F(DriverJudgeTest, RowThatIsAllowedForNothingFailsTheTest) {
  auto judge = std::make_unique<DriverJudge>(&device_);
  judge->Allow(msg::Row::kDrvFinal3);
  EXPECT_NONFATAL_FAILURE(judge.reset(), "DRV-FINAL-3 was allowed");
  BreakFinal3();  // nobody listens any more
}

}  // namespace
}  // namespace vmsg::guest
