#include "guest/payload/entropy_program.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/features.h"
#include "guest/driver/message.h"
#include "guest/driver/testing/fake_device.h"
#include "guest/payload/testing/program_fixture.h"

namespace vmsg::guest {
namespace {

class EntropyProgramTest : public ProgramFixture {
 protected:
  bool Run() {
    return ProgramFixture::Run(
        {.read_bytes = 256, .rng = rng_options_, .timeout_ns = 10'000'000});
  }

  RngOptions rng_options_;
};

TEST_F(EntropyProgramTest, PrintsTheLinesOfTheProtocol) {
  fake_.present = 1u << 5;
  EXPECT_TRUE(Run());
  const std::vector<std::string> expected = {
      "start version=1\n",
      "pci address=00:02.0 vendor=0x10ee device=0x9039 class=0x000000\n",
      "function function=0 address=00:02.0 version=0x1 fifos=1 vectors=1\n",
      "bus function=0 fifo=0 present=0x00000020\n",
      "probe function=0 fifo=0 slot=5 device=4 vendor=0x1af4 queues=1"
      " config=0\n",
      "started function=0 fifo=0 slot=5 device=4"
      " features=0x0000000100000000\n",
      // FNV-1a of 256 bytes 0x5A.
      "entropy function=0 fifo=0 slot=5 bytes=256 requests=1 total=256"
      " fnv1a=0x5cfbca074d82db25\n",
      "ready functions=1 buses=1 devices=1\n",
      "removed function=0 fifo=0 slot=5 reset=1\n",
  };
  ASSERT_GE(console_.lines.size(), expected.size());
  for (size_t i = 0; i < expected.size(); ++i) {
    EXPECT_EQ(console_.lines[i], "vmsg-guest: " + expected[i]);
  }
  EXPECT_EQ(Lines("interrupts function=0 vector0="), 1u);
  EXPECT_EQ(Lines("memory used="), 1u);
  EXPECT_EQ(console_.lines.back(), "vmsg-guest: end result=ok\n");
}

TEST_F(EntropyProgramTest, RingsArePackedWhereItIsToldToAndTheDeviceHasThem) {
  rng_options_.features.Set(kFeatureRingPacked);
  fake_.present = 1u << 5;
  Step([this] { fake_.SendDeviceEvent(5, kDeviceRemoved); });
  Step([this] {
    fake_.offered |= uint64_t{1} << 34;
    fake_.SendDeviceEvent(5, kDeviceReady);
  });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("started function=0 fifo=0 slot=5 device=4"
                  " features=0x0000000100000000\n"),
            1u);
  EXPECT_EQ(Lines("started function=0 fifo=0 slot=5 device=4"
                  " features=0x0000000500000000\n"),
            1u);
  EXPECT_EQ(Lines("entropy function=0 fifo=0 slot=5 bytes=256 requests=1"
                  " total=256 fnv1a=0x5cfbca074d82db25\n"),
            2u);
}

TEST_F(EntropyProgramTest, DeviceThatBreaksItsQueueIsToldWhatItDid) {
  fake_.present = 1u << 5;
  fake_.on_avail = [this](uint32_t queue) {
    fake_.PushUsed(queue, *fake_.PopAvailable(queue), 257);
    fake_.SendUsed(queue);
  };
  EXPECT_FALSE(Run());
  EXPECT_EQ(Lines("error what=read error=queue-broken function=0 fifo=0 slot=5"
                  " fault=too-much-written\n"),
            1u);
}

TEST_F(EntropyProgramTest, MachineWithoutFunctionsIsNoFailure) {
  platform_.function({2, 0}).Set(0x00, 4, 0xFFFFFFFF);
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("ready functions=0 buses=0 devices=0\n"), 1u);
}

TEST_F(EntropyProgramTest, ReadyIsProbedAndRemovedReleases) {
  // DRV-EVDEV-1, DRV-EVDEV-2.
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  Step([this] {
    EXPECT_EQ(fake_.status, 15u);
    fake_.SendDeviceEvent(5, kDeviceRemoved);
  });
  Step([this] { EXPECT_EQ(fake_.status, 0u); });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("event function=0 fifo=0 slot=5 state=ready\n"), 1u);
  EXPECT_EQ(Lines("event function=0 fifo=0 slot=5 state=removed\n"), 1u);
  EXPECT_EQ(Lines("removed function=0 fifo=0 slot=5 reset=1\n"), 1u);
}

TEST_F(EntropyProgramTest, RepeatedReadyLeavesARunningDeviceAlone) {
  // DRV-EVDEV-3.
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("started"), 1u);
  EXPECT_EQ(Lines("removed"), 1u);  // at the end
}

TEST_F(EntropyProgramTest, ReadyOfANewDeviceAfterALostRemovedStartsIt) {
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  Step([this] {
    fake_.status = 0;
    fake_.queues.clear();
    fake_.SendDeviceEvent(5, kDeviceReady);
  });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("started"), 2u);
  EXPECT_EQ(Lines("entropy"), 2u);
}

TEST_F(EntropyProgramTest, EventsAboutNothingAreTolerated) {
  Step([this] {
    fake_.SendDeviceEvent(9, kDeviceRemoved);  // never seen
    fake_.SendDeviceEvent(9, 0x8001);          // the bus's own
    fake_.SendDeviceEvent(6, kDeviceReady);    // gone again already
  });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("event function=0 fifo=0 slot=9 state=32769\n"), 1u);
  EXPECT_EQ(Lines("probe"), 0u);
  EXPECT_EQ(Lines("error"), 0u);
}

TEST_F(EntropyProgramTest, LostEventsAreMadeUpForByEnumeration) {
  Step([this] {
    // Two PINGs without a look at the events between: more than the bus stores.
    fake_.intercept = [this](const MessageBytes& message)
        -> std::optional<std::vector<MessageBytes>> {
      if (Field(message, 0, 1) != 2 || Field(message, 1, 1) != kBusMsgPing) {
        return std::nullopt;
      }
      for (int i = 0; i < 40; ++i) fake_.SendDeviceEvent(9, 0x8001);
      return std::nullopt;
    };
    fake_.present = 1u << 5;  // its READY is among what was lost
    console_.input = "ping\nping\n";
  });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("event function=0 fifo=0 slot=9"), 64u);
  EXPECT_EQ(Lines("bus function=0 fifo=0 present=0x00000020\n"), 1u);
  EXPECT_EQ(Lines("started function=0 fifo=0 slot=5"), 1u);
}

TEST_F(EntropyProgramTest, OtherDeviceTypesAreLeftAlone) {
  fake_.device_id = 2;
  fake_.present = 1u << 5;
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("unsupported function=0 fifo=0 slot=5 device=2\n"), 1u);
  EXPECT_TRUE(fake_.received_of(false, kMsgSetDeviceStatus).empty());
}

TEST_F(EntropyProgramTest, DeviceThatNeedsAResetIsStartedAgain) {
  // DRV-RESET-3.
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  Step([this] {
    fake_.status |= kStatusNeedsReset;
    fake_.SendConfig(0, {}, 0);
  });
  Step([this] {
    EXPECT_EQ(fake_.status, 15u);
    console_.input = "read 10\n";
  });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("started"), 2u);
  EXPECT_EQ(Lines("entropy function=0 fifo=0 slot=5 bytes=10"), 1u);
}

TEST_F(EntropyProgramTest, DeviceThatDoesNotStartIsReportedAndReleased) {
  fake_.offered = 0;
  fake_.present = 1u << 5;
  EXPECT_FALSE(Run());
  EXPECT_EQ(Lines("error what=start error=refused function=0 fifo=0 slot=5\n"),
            1u);
  EXPECT_EQ(Lines("removed"), 1u);
  EXPECT_EQ(Lines("end result=fail\n"), 1u);
}

TEST_F(EntropyProgramTest, MemoryOfADeviceThatDoesNotResetIsNotUsedAgain) {
  std::vector<uint64_t> queues;
  const auto note_queue = [this, &queues] {
    queues.push_back(fake_.queues.at(0).desc);
  };
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  Step([this, &note_queue] {
    note_queue();
    fake_.SendDeviceEvent(5, kDeviceRemoved);
  });
  // Reset in good order: the same memory again.
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  Step([this, &note_queue] {
    note_queue();
    fake_.intercept = [](const MessageBytes& message)
        -> std::optional<std::vector<MessageBytes>> {
      if (Field(message, 1, 1) != kMsgSetDeviceStatus) return std::nullopt;
      return std::vector<MessageBytes>{};
    };
    fake_.SendDeviceEvent(5, kDeviceRemoved);
  });
  Step([] {});  // the wait for the answer
  Step([this] {
    fake_.intercept = nullptr;
    fake_.SendDeviceEvent(5, kDeviceReady);
  });
  Step([&note_queue] { note_queue(); });
  EXPECT_TRUE(Run());
  EXPECT_EQ(Lines("removed function=0 fifo=0 slot=5 reset=0\n"), 1u);
  ASSERT_EQ(queues.size(), 3u);
  EXPECT_EQ(queues[0], queues[1]);
  EXPECT_NE(queues[1], queues[2]);
}

TEST_F(EntropyProgramTest, BrokenFifoIsReportedOnceAndLeftAlone) {
  Step([this] { fake_.SendDeviceEvent(5, kDeviceReady); });
  Step([this] {
    StoreRelease<uint32_t>(fake_.window() + 0x2000, 62);
    platform_.Raise(fake_.interrupt);
  });
  Step([this] { platform_.Raise(fake_.interrupt); });
  Step([this] { console_.input = "ping\n"; });
  EXPECT_FALSE(Run());
  EXPECT_EQ(Lines("error what=fifo error=fifo-broken"), 1u);
  EXPECT_EQ(Lines("ping function=0 fifo=0 result=fifo-broken\n"), 1u);
  EXPECT_EQ(Lines("removed function=0 fifo=0 slot=5 reset=0\n"), 1u);
}

TEST_F(EntropyProgramTest, SilentDeviceDoesNotStopTheProgram) {
  fake_.serve = false;
  EXPECT_FALSE(Run());
  EXPECT_EQ(Lines("error what=enumerate error=timeout function=0 fifo=0"), 1u);
  EXPECT_EQ(Lines("ready functions=1 buses=1 devices=0\n"), 1u);
}

TEST_F(EntropyProgramTest, UnknownCommandIsAnError) {
  Step([this] { console_.input = "fly\nreport\n"; });
  EXPECT_FALSE(Run());
  EXPECT_EQ(Lines("error what=command error=invalid-argument\n"), 1u);
  EXPECT_EQ(Lines("memory"), 2u);
}

}  // namespace
}  // namespace vmsg::guest
