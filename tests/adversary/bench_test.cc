// The judge is judged: what a control or the victim does behind a case's back
// fails the case.

#include "guest/adversary/bench.h"

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <thread>

#include "gtest/gtest.h"
#include "guest/adversary/case.h"
#include "guest/driver/error.h"
#include "guest/driver/shared_memory.h"
#include "tests/in_process/in_process_machine.h"
#include "vmm/control/hotplug_bus.h"

namespace vmsg::guest {
namespace {

// Long for an answer, short for a test that waits in vain.
constexpr uint64_t kAnswerNs = 2'000'000'000;

// Public: cases are functions, and know the fixture as self_.
class BenchTest : public testing::Test, public Operator {
 public:
  BenchTest() {
    machine_.Attach(0, 0, 5);
    machine_.Attach(0, 1, 0);
    machine_.Attach(1, 0, 31);
    self_ = this;
  }

  void SetUp() override { ASSERT_EQ(bench_->SetUp(), Error::kNone); }

  CaseResult Run(Reaction (*run)(Bench& bench),
                 Verdict expected = Verdict::kPass) {
    const Case one = {"name", expected, run};
    return bench_->Run({"group", {&one, 1}}, one);
  }

  // From here on the device behind a FIFO does nothing, until Release().
  void Hold(uint32_t function, uint32_t fifo) {
    released_ = false;
    held_ = false;
    holder_ = std::thread([this, function, fifo] {
      machine_.RunOn(function, fifo, [this] {
        held_ = true;
        held_.notify_all();
        released_.wait(false);
      });
    });
    held_.wait(false);
  }
  void Release() {
    released_ = true;
    released_.notify_all();
    holder_.join();
  }

  bool ResetFifo(uint32_t function, uint32_t fifo) override {
    if (attach_anew_) machine_.Attach(0, 0, 5);
    attach_anew_ = false;
    machine_.RunOn(function, fifo, [this, function, fifo] {
      machine_.function(function)->bus(fifo)->ResetBus();
    });
    return true;
  }

  bool IsBroken(uint32_t function, uint32_t fifo) {
    bool broken = false;
    machine_.RunOn(function, fifo, [&] {
      broken = machine_.function(function)->bus(fifo)->bus_report().state ==
               control::BusState::kBroken;
    });
    return broken;
  }

  // The operator plugs the victim's device again before it resets a FIFO.
  void AttachAnew() { attach_anew_ = true; }

  // For the functions of cases.
  static BenchTest* self_;

  InProcessMachine machine_{
      {.functions = 2, .num_fifos = 2, .threads = true, .hostile_fifos = 1}};
  std::unique_ptr<Bench> bench_ = std::make_unique<Bench>(
      machine_.platform(), this, nullptr, BenchOptions{.answer_ns = kAnswerNs});

 private:
  std::atomic<bool> held_{false};
  std::atomic<bool> released_{false};
  std::thread holder_;
  bool attach_anew_ = false;
};

BenchTest* BenchTest::self_ = nullptr;

TEST_F(BenchTest, ACaseThatTouchesNothingPasses) {
  const CaseResult result = Run([](Bench& b) {
    b.Idle(1);
    return Reaction::kTaken;
  });
  EXPECT_TRUE(result.ok) << result.why;
}

TEST_F(BenchTest, ASiblingThatIsSilentOnlyWhileACaseIdlesFailsIt) {
  const CaseResult result = Run([](Bench& b) {
    self_->Hold(0, 1);
    b.Idle(100'000'000);
    self_->Release();
    return Reaction::kTaken;
  });
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(std::string_view(result.why), "control-during");
}

TEST_F(BenchTest, AnotherFunctionThatIsSilentOnlyWhileACaseIdlesFailsIt) {
  const CaseResult result = Run([](Bench& b) {
    self_->Hold(1, 0);
    b.Idle(100'000'000);
    self_->Release();
    return Reaction::kTaken;
  });
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(std::string_view(result.why), "control-during");
}

TEST_F(BenchTest, AControlThatIsSilentOnlyInAFloodFailsTheCase) {
  const CaseResult result = Run([](Bench& b) {
    self_->Hold(0, 1);
    for (int i = 0; i < 100; ++i) b.Ring();
    self_->Release();
    return Reaction::kTaken;
  });
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(std::string_view(result.why), "control-during");
}

TEST_F(BenchTest, ControlsAreAskedAsOftenAsACaseIsLong) {
  const CaseResult result = Run([](Bench& b) {
    for (int i = 0; i < 3200; ++i) b.Ring();
    return Reaction::kTaken;
  });
  EXPECT_TRUE(result.ok) << result.why;
  EXPECT_GE(result.watched, 100u);
}

TEST_F(BenchTest, ADeviceThatDoesNotSurviveItsResetFailsACaseThatPasses) {
  // One that is on its way out serves until then, and not any more.
  const CaseResult result = Run([](Bench&) {
    self_->machine_.Detach(0, 0, 5);
    self_->AttachAnew();
    return Reaction::kTaken;
  });
  EXPECT_EQ(result.verdict, Verdict::kPass);
  EXPECT_EQ(result.recovery, Recovery::kOperator);
  EXPECT_FALSE(result.ok);
  EXPECT_EQ(std::string_view(result.why), "recovery");
}

TEST_F(BenchTest, ACaseThatBreaksTheFifoMayTakeWhatItsGroupSays) {
  const auto break_fifo = [](Bench& b) {
    StoreRelease<uint32_t>(b.window() + 0x1000, UINT32_MAX);
    b.Ring();
    // Before the device has looked the next message would mend the index.
    while (!self_->IsBroken(0, 0)) b.Idle(1'000'000);
    return Reaction::kTaken;
  };
  const Case one = {"name", Verdict::kDegraded, break_fifo};
  const Group no_more_than_a_reset = {"group", {&one, 1}};
  const CaseResult strict = bench_->Run(no_more_than_a_reset, one);
  EXPECT_FALSE(strict.ok);
  EXPECT_EQ(std::string_view(strict.why), "recovery");
  Group operator_helps = no_more_than_a_reset;
  operator_helps.degraded = Recovery::kOperator;
  const CaseResult result = bench_->Run(operator_helps, one);
  EXPECT_TRUE(result.ok) << result.why;
  EXPECT_EQ(result.recovery, Recovery::kOperator);
}

}  // namespace
}  // namespace vmsg::guest
