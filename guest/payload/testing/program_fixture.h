// ProgramFixture: a machine of fakes in which EntropyProgram runs.

#ifndef VMSG_GUEST_PAYLOAD_TESTING_PROGRAM_FIXTURE_H_
#define VMSG_GUEST_PAYLOAD_TESTING_PROGRAM_FIXTURE_H_

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

#include "gtest/gtest.h"
#include "guest/driver/testing/driver_judge.h"
#include "guest/driver/testing/fake_device.h"
#include "guest/driver/testing/fake_platform.h"
#include "guest/payload/console.h"
#include "guest/payload/entropy_program.h"

namespace vmsg::guest {

class FakeConsole final : public Console {
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

// One function with one FIFO, and FakeDevice behind it, which fills requests
// and is judged.
// Each step runs when the program sleeps.
class ProgramFixture : public testing::Test {
 protected:
  static constexpr uint64_t kFifoBar = 0xE0100000;

  ProgramFixture() : fake_(&platform_) {
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
      fake_.FillQueue(queue);
      fake_.SendUsed(queue);
    };
    platform_.on_wait = [this] {
      if (steps_.empty()) return;
      auto step = std::move(steps_.front());
      steps_.pop_front();
      step();
    };
  }

  void Step(std::function<void()> step) { steps_.push_back(std::move(step)); }

  // Runs the program until it has done the steps and was told to end. What it
  // returned.
  bool Run(const EntropyProgramOptions& options) {
    Step([this] { console_.input = "poweroff\n"; });
    return std::make_unique<EntropyProgram>(&platform_, &console_, options)
        ->Run();
  }

  // How many of its lines begin so.
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
  FakeConsole console_;

 private:
  std::deque<std::function<void()>> steps_;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_TESTING_PROGRAM_FIXTURE_H_
