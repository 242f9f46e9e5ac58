// The contract of Timer.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <memory>
#include <random>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/clock.h"
#include "vmm/event/event_loop.h"
#include "vmm/event/event_loop_contract_fixture.h"

namespace vmsg::vmm {
namespace {

using std::chrono::milliseconds;
using std::chrono::nanoseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

class TimerTest : public EventLoopContractTest {};

VMSG_FOR_EACH_EVENT_LOOP(TimerTest);

TEST_P(TimerTest, ATimerFiresOnceAtItsDeadlineAndNotEarlier) {
  const auto timer = loop().CreateTimer(Note("fired"));
  timer->Arm(milliseconds(10));
  RunUntilIdle();
  clock().Advance(milliseconds(10) - nanoseconds(1));
  RunUntilIdle();
  EXPECT_THAT(TakeJournal(), IsEmpty());
  EXPECT_TRUE(timer->armed());
  clock().Advance(nanoseconds(1));
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("fired"));
  EXPECT_FALSE(timer->armed());
  clock().Advance(seconds(1));
  EXPECT_EQ(RunOnce(), 0);
}

TEST_P(TimerTest, AZeroOrNegativeDelayFiresInTheNextRoundNotInsideArm) {
  const auto zero = loop().CreateTimer(Note("zero"));
  const auto negative = loop().CreateTimer(Note("negative"));
  zero->Arm(Duration::zero());
  negative->Arm(seconds(-5));
  EXPECT_THAT(TakeJournal(), IsEmpty());
  EXPECT_EQ(RunOnce(), 2);
  EXPECT_THAT(TakeJournal(), ElementsAre("zero", "negative"));
}

TEST_P(TimerTest, TimersFireByDeadlineThenByOrderOfArming) {
  const auto c = loop().CreateTimer(Note("c"));
  const auto b = loop().CreateTimer(Note("b"));
  const auto a = loop().CreateTimer(Note("a"));
  c->Arm(milliseconds(2));
  a->Arm(milliseconds(1));
  b->Arm(milliseconds(1));
  clock().Advance(milliseconds(2));
  EXPECT_EQ(RunOnce(), 3);
  EXPECT_THAT(TakeJournal(), ElementsAre("a", "b", "c"));
}

TEST_P(TimerTest, ArmingAnArmedTimerMovesIt) {
  const auto timer = loop().CreateTimer(Note("fired"));
  timer->Arm(milliseconds(1));
  timer->Arm(milliseconds(10));
  clock().Advance(milliseconds(9));
  EXPECT_EQ(RunOnce(), 0);
  timer->Arm(Duration::zero());
  EXPECT_EQ(RunOnce(), 1);
  clock().Advance(seconds(1));
  EXPECT_EQ(RunOnce(), 0);
  EXPECT_THAT(TakeJournal(), ElementsAre("fired"));
}

TEST_P(TimerTest, ATimerArmedInItsCallbackFiresInTheNextRound) {
  std::unique_ptr<Timer> timer;
  timer = loop().CreateTimer([&] {
    journal_.push_back("fired");
    EXPECT_FALSE(timer->armed());
    timer->Arm(Duration::zero());
  });
  timer->Arm(Duration::zero());
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_TRUE(timer->armed());
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("fired", "fired"));
}

TEST_P(TimerTest, ATimerArmedForNowInACallbackDoesNotHoldUpDueOnes) {
  const auto now = loop().CreateTimer(Note("now"));
  const auto first = loop().CreateTimer([&] {
    journal_.push_back("first");
    now->Arm(Duration::zero());
  });
  const auto second = loop().CreateTimer(Note("second"));
  first->Arm(milliseconds(1));
  second->Arm(milliseconds(1));
  clock().Advance(milliseconds(1));
  EXPECT_EQ(RunOnce(), 2);
  EXPECT_THAT(TakeJournal(), ElementsAre("first", "second"));
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("now"));
}

TEST_P(TimerTest, ACancelledTimerDoesNotFireUntilArmedAgain) {
  const auto timer = loop().CreateTimer(Note("fired"));
  timer->Arm(milliseconds(1));
  timer->Cancel();
  timer->Cancel();
  EXPECT_FALSE(timer->armed());
  clock().Advance(milliseconds(1));
  EXPECT_EQ(RunOnce(), 0);
  timer->Arm(milliseconds(1));
  clock().Advance(milliseconds(1));
  EXPECT_EQ(RunOnce(), 1);
}

TEST_P(TimerTest, ATimerCancelledWhileDueInTheSameRoundDoesNotFire) {
  std::unique_ptr<Timer> other = loop().CreateTimer(Note("other"));
  const auto timer = loop().CreateTimer([&] {
    journal_.push_back("timer");
    other->Cancel();
  });
  timer->Arm(milliseconds(1));
  other->Arm(milliseconds(1));
  clock().Advance(milliseconds(1));
  RunUntilIdle();
  EXPECT_THAT(TakeJournal(), ElementsAre("timer"));
}

TEST_P(TimerTest, ATimerMovedWhileDueInTheSameRoundFiresAtItsNewTime) {
  std::unique_ptr<Timer> other = loop().CreateTimer(Note("other"));
  const auto timer = loop().CreateTimer([&] { other->Arm(milliseconds(5)); });
  timer->Arm(milliseconds(1));
  other->Arm(milliseconds(1));
  clock().Advance(milliseconds(1));
  RunUntilIdle();
  EXPECT_THAT(TakeJournal(), IsEmpty());
  clock().Advance(milliseconds(5));
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("other"));
}

TEST_P(TimerTest, ATimerDestroyedWhileDueInTheSameRoundDoesNotFire) {
  std::unique_ptr<Timer> other = loop().CreateTimer(Note("other"));
  const auto timer = loop().CreateTimer([&] { other.reset(); });
  timer->Arm(milliseconds(1));
  other->Arm(milliseconds(1));
  clock().Advance(milliseconds(1));
  RunUntilIdle();
  EXPECT_THAT(TakeJournal(), IsEmpty());
}

TEST_P(TimerTest, ATimerMayBeDestroyedInItsOwnCallback) {
  Sentinel sentinel;
  const std::weak_ptr<bool> alive = sentinel.Watch();
  std::unique_ptr<Timer> timer;
  timer = loop().CreateTimer([&, hold = sentinel.Hold()] {
    timer->Arm(Duration::zero());
    timer.reset();
    // The callback object lives until it returns.
    EXPECT_TRUE(*hold);
    journal_.push_back("fired");
  });
  timer->Arm(Duration::zero());
  RunUntilIdle();
  EXPECT_THAT(TakeJournal(), ElementsAre("fired"));
  EXPECT_TRUE(alive.expired());
}

TEST_P(TimerTest, ATimerThatIsNeverDueDoesNotOverflow) {
  const auto never = loop().CreateTimer(Note("never"));
  const auto soon = loop().CreateTimer(Note("soon"));
  never->Arm(Duration::max());
  soon->Arm(seconds(1));
  clock().Advance(seconds(1));
  RunUntilIdle();
  EXPECT_THAT(TakeJournal(), ElementsAre("soon"));
  EXPECT_TRUE(never->armed());
}

// Against a model, because a heap has more shapes than one thinks of.
TEST_P(TimerTest, ManyTimersArmedMovedAndCancelledFireInOrder) {
  constexpr size_t kTimers = 200;
  std::minstd_rand random(1);
  std::vector<std::unique_ptr<Timer>> timers;
  std::vector<size_t> fired;
  for (size_t i = 0; i < kTimers; ++i) {
    timers.push_back(loop().CreateTimer([&fired, i] { fired.push_back(i); }));
  }
  struct Armed {
    nanoseconds delay;
    int sequence;
    size_t timer;
    auto operator<=>(const Armed&) const = default;
  };
  std::vector<Armed> model(kTimers, {nanoseconds(-1), 0, 0});
  for (int step = 0; step < 2000; ++step) {
    const size_t i = random() % kTimers;
    if (random() % 3 == 0) {
      timers[i]->Cancel();
      model[i].delay = nanoseconds(-1);
    } else {
      model[i] = {nanoseconds(random() % 50), step, i};
      timers[i]->Arm(model[i].delay);
    }
  }
  std::erase_if(model, [](const Armed& a) { return a.delay.count() < 0; });
  std::sort(model.begin(), model.end());
  std::vector<size_t> expected;
  for (const Armed& armed : model) expected.push_back(armed.timer);

  clock().Advance(nanoseconds(50));
  EXPECT_EQ(RunOnce(), static_cast<int>(expected.size()));
  EXPECT_EQ(fired, expected);
}

}  // namespace
}  // namespace vmsg::vmm
