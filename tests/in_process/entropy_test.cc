// The whole path in one process: the program of the guest against the device.

#include <memory>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "guest/payload/entropy_program.h"
#include "tests/in_process/in_process_machine.h"

namespace vmsg {
namespace {

class EntropyTest : public testing::TestWithParam<amp::FifoLayout> {
 protected:
  void Create(MachineOptions options = {}) {
    options.fifo_layout = GetParam();
    machine_.emplace(options);
    console_.emplace(machine_->platform());
    program_ = std::make_unique<guest::EntropyProgram>(machine_->platform(),
                                                       &*console_);
  }
  void ExpectDigestOf(uint32_t function, uint32_t fifo, uint32_t slot) {
    const virtio::RngStats stats = machine_->rng_stats(function, fifo, slot);
    EXPECT_EQ(console_->Value("entropy", "fnv1a"), HexDigest(stats.digest));
    EXPECT_EQ(console_->Value("entropy", "total"), absl::StrCat(stats.bytes));
    EXPECT_EQ(console_->Value("entropy", "fifo"), absl::StrCat(fifo));
    EXPECT_EQ(console_->Value("entropy", "slot"), absl::StrCat(slot));
  }
  void ExpectInterruptsOf(uint32_t function) {
    for (const uint32_t fifo : {0u, 1u}) {
      // The device counts after it has delivered: let its turn end.
      machine_->RunOn(function, fifo, [] {});
      EXPECT_EQ(console_->Value("interrupts", absl::StrCat("vector", fifo)),
                absl::StrCat(
                    machine_->function(function)->interrupts_delivered(fifo)));
    }
  }

  std::optional<InProcessMachine> machine_;
  std::optional<TestConsole> console_;
  std::unique_ptr<guest::EntropyProgram> program_;
};

INSTANTIATE_TEST_SUITE_P(Layouts, EntropyTest,
                         testing::Values(amp::FifoLayout::kSpsc,
                                         amp::FifoLayout::kShmemV1,
                                         amp::FifoLayout::kShmemV1Packed),
                         LayoutTestName);

TEST_P(EntropyTest, DeviceIsPluggedReadRemovedAndPluggedElsewhere) {
  Create();
  machine_->AddStep([this] {
    EXPECT_EQ(console_->Value("ready", "devices"), "0");
    EXPECT_EQ(console_->Value("bus", "present"), "0x00000000");
    machine_->Attach(0, 1, 3);
  });
  machine_->AddStep([this] {
    EXPECT_EQ(console_->Value("entropy", "bytes"), "4096");
    EXPECT_EQ(console_->Value("entropy", "requests"), "4");
    ExpectDigestOf(0, 1, 3);
    EXPECT_EQ(machine_->slot_report(0, 1, 3).state,
              control::PlugState::kPresent);
    machine_->Detach(0, 1, 3);
  });
  machine_->AddStep([this] {
    EXPECT_EQ(console_->Value("removed", "reset"), "1");
    EXPECT_TRUE(machine_->gone(0, 1, 3));
    machine_->Attach(0, 0, 31);
  });
  machine_->AddStep([this] {
    EXPECT_EQ(console_->Lines("entropy"), 2u);
    ExpectDigestOf(0, 0, 31);
    console_->Type("poweroff\n");
  });
  EXPECT_TRUE(program_->Run()) << console_->output();
  EXPECT_EQ(console_->Value("end", "result"), "ok");
  ExpectInterruptsOf(0);
  EXPECT_EQ(machine_->platform()->stray_interrupts(), 0u);
  EXPECT_EQ(machine_->function(0)->bad_accesses().value(), 0u);
}

TEST_P(EntropyTest, DevicePresentAtTheStartIsFoundByEnumeration) {
  Create();
  machine_->Attach(0, 0, 5);
  machine_->AddStep([this] {
    EXPECT_EQ(console_->Value("ready", "devices"), "1");
    EXPECT_EQ(console_->Lines("entropy"), 1u);
    ExpectDigestOf(0, 0, 5);
    console_->Type("poweroff\n");
  });
  EXPECT_TRUE(program_->Run()) << console_->output();
}

TEST_P(EntropyTest, CommandsAreAnswered) {
  Create();
  machine_->Attach(0, 1, 0);
  machine_->AddStep([this] { console_->Type("ping\nread 10000\nreport\n"); });
  machine_->AddStep([this] {
    EXPECT_EQ(console_->Lines("ping"), 2u);
    EXPECT_EQ(console_->Value("ping", "result"), "ok");
    EXPECT_EQ(console_->Value("entropy", "bytes"), "10000");
    EXPECT_EQ(console_->Value("entropy", "total"), "14096");
    ExpectDigestOf(0, 1, 0);
    ExpectInterruptsOf(0);
    console_->Type("poweroff\n");
  });
  EXPECT_TRUE(program_->Run()) << console_->output();
}

TEST_P(EntropyTest, WorksWithoutDoorbellsAndWithBarsThatTheDriverPlaces) {
  Create({.num_fifos = 8, .with_doorbells = false, .assign_bars = false});
  machine_->AddStep([this] { machine_->Attach(0, 7, 1); });
  machine_->AddStep([this] {
    ExpectDigestOf(0, 7, 1);
    console_->Type("poweroff\n");
  });
  EXPECT_TRUE(program_->Run()) << console_->output();
  EXPECT_EQ(console_->Value("ready", "buses"), "8");
}

TEST_P(EntropyTest, RateLimitedDeviceIsWaitedFor) {
  Create();
  machine_->AddStep([this] {
    virtio::RngOptions slow;
    slow.max_bytes_per_period = 1000;
    machine_->Attach(0, 0, 2, slow);
  });
  machine_->AddStep([this] {
    EXPECT_EQ(console_->Value("entropy", "bytes"), "4096");
    ExpectDigestOf(0, 0, 2);
    console_->Type("poweroff\n");
  });
  EXPECT_TRUE(program_->Run()) << console_->output();
}

TEST_P(EntropyTest, ForcedRemovalIsSurvivedToo) {
  Create();
  machine_->AddStep([this] { machine_->Attach(0, 0, 2); });
  machine_->AddStep([this] { machine_->Detach(0, 0, 2, /*forced=*/true); });
  machine_->AddStep([this] {
    EXPECT_EQ(console_->Value("removed", "reset"), "1");
    EXPECT_TRUE(machine_->gone(0, 0, 2));
    machine_->Attach(0, 0, 2);
  });
  machine_->AddStep([this] {
    EXPECT_EQ(console_->Lines("entropy"), 2u);
    ExpectDigestOf(0, 0, 2);
    console_->Type("poweroff\n");
  });
  EXPECT_TRUE(program_->Run()) << console_->output();
}

TEST_P(EntropyTest, EverySlotOfEveryFifoOfTwoFunctionsCanBeUsed) {
  Create({.functions = 2, .num_fifos = 1});
  for (uint32_t slot = 0; slot < 32; ++slot) {
    machine_->Attach(0, 0, slot);
    machine_->Attach(1, 0, slot);
  }
  machine_->AddStep([this] {
    EXPECT_EQ(console_->Lines("entropy"), 64u);
    ExpectDigestOf(1, 0, 31);
    console_->Type("poweroff\n");
  });
  EXPECT_TRUE(program_->Run()) << console_->output();
}

TEST_P(EntropyTest, DriverThatLeftIsFollowedByAnother) {
  Create();
  machine_->Attach(0, 1, 4);
  machine_->AddStep([this] { console_->Type("poweroff\n"); });
  ASSERT_TRUE(program_->Run()) << console_->output();
  const uint64_t bytes_before = machine_->rng_stats(0, 1, 4).bytes;

  TestConsole console(machine_->platform());
  auto program =
      std::make_unique<guest::EntropyProgram>(machine_->platform(), &console);
  machine_->AddStep([&console] { console.Type("poweroff\n"); });
  EXPECT_TRUE(program->Run()) << console.output();
  EXPECT_EQ(console.Value("entropy", "bytes"), "4096");
  EXPECT_EQ(machine_->rng_stats(0, 1, 4).bytes, bytes_before + 4096);
}

TEST_P(EntropyTest, GuestRebootsInTheMiddleOfEverything) {
  Create();
  machine_->Attach(0, 0, 4);
  // A driver that has a device running, whose function is reset under it, and
  // that stops. Without a handshake it goes on from its own indices, so that
  // the device finds the cleared packets before them.
  if (GetParam() == amp::FifoLayout::kSpsc) {
    machine_->Allow(msg::Row::kDrvHdr3);
  }
  {
    auto first = std::make_unique<TestConsole>(machine_->platform());
    auto program = std::make_unique<guest::EntropyProgram>(machine_->platform(),
                                                           first.get());
    machine_->AddStep([&] {
      EXPECT_EQ(first->Lines("entropy"), 1u);
      ASSERT_TRUE(machine_->bridge()->ResetAll().ok());
      first->Close();
    });
    program->Run();
  }
  machine_->AddStep([this] { console_->Type("poweroff\n"); });
  EXPECT_TRUE(program_->Run()) << console_->output();
  EXPECT_EQ(console_->Value("entropy", "bytes"), "4096");
}

// With real threads: the program on its own, each FIFO on its own.
TEST_P(EntropyTest, HotPlugWhileTheGuestRunsOnItsOwnThread) {
  Create({.threads = true});
  bool ok = false;
  std::thread guest([this, &ok] { ok = program_->Run(); });
  EXPECT_TRUE(console_->WaitForLines("ready", 1));
  for (uint32_t round = 0; round < 4; ++round) {
    const uint32_t fifo = round % 2;
    const uint32_t slot = round + 3;
    machine_->Attach(0, fifo, slot);
    ASSERT_TRUE(console_->WaitForLines("entropy", round + 1))
        << console_->output();
    ExpectDigestOf(0, fifo, slot);
    machine_->Detach(0, fifo, slot);
    ASSERT_TRUE(console_->WaitForLines("removed", round + 1))
        << console_->output();
  }
  console_->Type("poweroff\n");
  guest.join();
  EXPECT_TRUE(ok) << console_->output();
  ExpectInterruptsOf(0);
}

}  // namespace
}  // namespace vmsg
