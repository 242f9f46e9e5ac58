// Rows about what a driver does with devices that come, go and break, proved on
// the program that uses guest/driver as an operating system would.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/driver/message.h"
#include "guest/driver/testing/fake_device.h"
#include "guest/driver/testing/fake_platform.h"
#include "guest/payload/entropy_program.h"
#include "tests/conformance/driver_judge.h"

namespace vmsg::guest {
namespace {

constexpr uint64_t kFifoBar = 0xE0100000;

class LineConsole final : public Console {
 public:
  void Write(std::span<const char> line) override {
    lines.emplace_back(line.begin(), line.end());
  }
  bool Read(char* c) override {
    if (input.empty()) return false;
    *c = input.front();
    input.erase(0, 1);
    return true;
  }
  bool closed() override { return false; }
  uint64_t sleeps() override { return 0; }

  std::vector<std::string> lines;
  std::string input;
};

// One function with one FIFO, and FakeDevice behind it. Each step runs when the
// program sleeps.
class DriverProgramConformance : public testing::Test {
 protected:
  DriverProgramConformance() : fake_(&platform_) {
    FakeConfigSpace& config = platform_.function({2, 0});
    config.Set(0x00, 4, 0x903910EE);
    config.Set(0x06, 2, 0x10);
    config.writable[0x04] = 0x06;
    config.SetBar(0, 0x4000, 0, 0xE0000000);
    config.SetBar(1, 0x4000, 8, kFifoBar);
    config.SetBar(2, 0x1000, 0, 0xE0200000);
    config.Set(0x34, 1, 0x40);
    config.Set(0x40, 1, 0x11);
    config.Set(0x44, 4, 2);
    config.writable[0x43] = 0xC0;
    platform_.registers[0xE0000000] = 1;
    platform_.memory_address = kFifoBar;
    platform_.memory = std::span(fake_.window(), kFifoWindowBytes);
    fake_.interrupt = 0;  // the first that the platform gives out
    fake_.present = 0;
    fake_.on_avail = [this](uint32_t queue) {
      while (const auto head = fake_.PopAvailable(queue)) {
        uint32_t written = 0;
        for (const auto& buffer : fake_.Writable(queue, *head)) {
          written += buffer.second;
        }
        fake_.PushUsed(queue, *head, written);
      }
      fake_.SendUsed(queue);
    };
    platform_.on_wait = [this] {
      if (steps_.empty()) return;
      auto step = std::move(steps_.front());
      steps_.pop_front();
      step();
    };
  }

  void TearDown() override {
    EXPECT_THAT(judge_.violations(), testing::IsEmpty());
  }

  void Step(std::function<void()> step) { steps_.push_back(std::move(step)); }
  bool Run() {
    Step([this] { console_.input = "poweroff\n"; });
    auto program = std::make_unique<EntropyProgram>(
        &platform_, &console_,
        EntropyProgramOptions{.read_bytes = 64, .timeout_ns = 10'000'000});
    return program->Run();
  }
  size_t Lines(std::string_view start) const {
    size_t count = 0;
    for (const std::string& line : console_.lines) {
      count += line.starts_with("vmsg-guest: " + std::string(start)) ? 1 : 0;
    }
    return count;
  }

  FakePlatform platform_;
  FakeDevice fake_;
  DriverJudge judge_{&fake_};
  LineConsole console_;
  std::deque<std::function<void()>> steps_;
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
