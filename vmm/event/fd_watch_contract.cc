// The contract of FdWatch, and the order of a round.

#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/unique_fd.h"
#include "vmm/event/event_loop.h"
#include "vmm/event/event_loop_contract_fixture.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::UnorderedElementsAre;

std::string Name(FdEvents events) {
  std::string name;
  if (Has(events, FdEvents::kReadable)) name += "r";
  if (Has(events, FdEvents::kWritable)) name += "w";
  return name;
}

class FdWatchTest : public EventLoopContractTest {
 protected:
  FdWatchTest() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
    socket_.reset(ends[0]);
    peer_.reset(ends[1]);
  }

  void MakeReadable() { EXPECT_EQ(write(peer_.get(), "x", 1), 1); }

  // Watches with a callback that adds the events, after `prefix`, to the
  // journal.
  std::unique_ptr<FdWatch> WatchAndNote(int fd, FdEvents events,
                                        std::string prefix = "") {
    auto watch = loop().Watch(
        fd, events, [this, prefix = std::move(prefix)](FdEvents ready) {
          journal_.push_back(prefix + Name(ready));
        });
    EXPECT_OK(watch);
    return *std::move(watch);
  }

  UniqueFd socket_;
  UniqueFd peer_;
};

VMSG_FOR_EACH_EVENT_LOOP(FdWatchTest);

TEST_P(FdWatchTest, CallsAsLongAsTheDescriptorIsReady) {
  const auto watch = WatchAndNote(socket_.get(), FdEvents::kReadable);
  EXPECT_EQ(RunOnce(), 0);
  MakeReadable();
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("r", "r"));
  char byte;
  ASSERT_EQ(read(socket_.get(), &byte, 1), 1);
  EXPECT_EQ(RunOnce(), 0);
}

TEST_P(FdWatchTest, SignalsOfAnEventFdMergeUntilTheCall) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  int calls = 0;
  ASSERT_OK_AND_ASSIGN(const auto watch,
                       loop().WatchEventFd(&event, [&] { ++calls; }));
  EXPECT_EQ(RunOnce(), 0);
  for (int round = 1; round <= 3; ++round) {
    event.Signal();
    event.Signal();
    EXPECT_EQ(RunOnce(), 1);
    EXPECT_EQ(calls, round);
    EXPECT_EQ(RunOnce(), 0);
  }
}

TEST_P(FdWatchTest, ASignalOfAnEventFdDuringTheCallGivesAnother) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  int calls = 0;
  ASSERT_OK_AND_ASSIGN(const auto watch, loop().WatchEventFd(&event, [&] {
    if (++calls == 1) event.Signal();
  }));
  event.Signal();
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(calls, 2);
  EXPECT_EQ(RunOnce(), 0);
}

TEST_P(FdWatchTest, SignalsOfAnEventFdBeforeTheWatchAndInAPauseAreNotLost) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  int calls = 0;
  event.Signal();
  ASSERT_OK_AND_ASSIGN(const auto watch,
                       loop().WatchEventFd(&event, [&] { ++calls; }));
  EXPECT_EQ(RunOnce(), 1);
  watch->SetEvents(FdEvents::kNone);
  event.Signal();
  EXPECT_EQ(RunOnce(), 0);
  watch->SetEvents(FdEvents::kReadable);
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(calls, 2);
}

TEST_P(FdWatchTest, ReportsOnlyWhatWasAskedFor) {
  const auto watch = WatchAndNote(socket_.get(), FdEvents::kWritable);
  MakeReadable();
  RunOnce();
  watch->SetEvents(FdEvents::kReadable);
  RunOnce();
  watch->SetEvents(FdEvents::kReadable | FdEvents::kWritable);
  RunOnce();
  EXPECT_THAT(TakeJournal(), ElementsAre("w", "r", "rw"));
}

TEST_P(FdWatchTest, APausedWatchIsSilentUntilItResumes) {
  const auto watch = WatchAndNote(socket_.get(), FdEvents::kNone);
  MakeReadable();
  EXPECT_EQ(RunOnce(), 0);
  watch->SetEvents(FdEvents::kReadable);
  EXPECT_EQ(RunOnce(), 1);
  watch->SetEvents(FdEvents::kNone);
  EXPECT_EQ(RunOnce(), 0);
  watch->SetEvents(FdEvents::kReadable);
  EXPECT_EQ(RunOnce(), 1);
}

TEST_P(FdWatchTest, AHangUpIsReportedAsReadableAndWritable) {
  const auto watch = WatchAndNote(socket_.get(), FdEvents::kReadable);
  peer_.reset();
  RunOnce();
  EXPECT_THAT(TakeJournal(), ElementsAre("rw"));
}

TEST_P(FdWatchTest, AnErrorIsReportedAsReadableAndWritable) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  const auto watch = WatchAndNote(writer.get(), FdEvents::kReadable);
  EXPECT_EQ(RunOnce(), 0);
  reader.reset();
  RunOnce();
  EXPECT_THAT(TakeJournal(), ElementsAre("rw"));
}

TEST_P(FdWatchTest, APausedWatchLearnsOfAHangUpWhenItResumes) {
  const auto watch = WatchAndNote(socket_.get(), FdEvents::kNone);
  peer_.reset();
  EXPECT_EQ(RunOnce(), 0);
  EXPECT_EQ(RunOnce(), 0);
  EXPECT_THAT(TakeJournal(), IsEmpty());
  watch->SetEvents(FdEvents::kReadable);
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("rw", "rw"));
}

TEST_P(FdWatchTest, NoCallComesAfterTheWatchIsGone) {
  auto watch = WatchAndNote(socket_.get(), FdEvents::kReadable);
  MakeReadable();
  watch.reset();
  EXPECT_EQ(RunOnce(), 0);
  EXPECT_THAT(TakeJournal(), IsEmpty());
}

TEST_P(FdWatchTest, ADescriptorCanBeWatchedAgainAfterItsWatchIsGone) {
  auto watch = WatchAndNote(socket_.get(), FdEvents::kReadable, "first ");
  MakeReadable();
  watch.reset();
  watch = WatchAndNote(socket_.get(), FdEvents::kReadable, "second ");
  RunOnce();
  EXPECT_THAT(TakeJournal(), ElementsAre("second r"));
}

TEST_P(FdWatchTest, MayBeDestroyedInItsOwnCallback) {
  Sentinel sentinel;
  const std::weak_ptr<bool> alive = sentinel.Watch();
  std::unique_ptr<FdWatch> watch;
  ASSERT_OK_AND_ASSIGN(watch,
                       loop().Watch(socket_.get(), FdEvents::kReadable,
                                    [&, hold = sentinel.Hold()](FdEvents) {
                                      watch.reset();
                                      // The callback lives until it returns.
                                      EXPECT_TRUE(*hold);
                                      journal_.push_back("called");
                                    }));
  MakeReadable();
  RunUntilIdle();
  EXPECT_THAT(TakeJournal(), ElementsAre("called"));
  EXPECT_TRUE(alive.expired());
}

TEST_P(FdWatchTest, MayBeReplacedInItsOwnCallback) {
  std::unique_ptr<FdWatch> watch;
  ASSERT_OK_AND_ASSIGN(
      watch, loop().Watch(socket_.get(), FdEvents::kReadable, [&](FdEvents) {
        journal_.push_back("first");
        watch.reset();
        watch = WatchAndNote(socket_.get(), FdEvents::kReadable, "second ");
      }));
  MakeReadable();
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("first", "second r"));
}

// Both are ready in one round, and either may come first: it ends the other.
TEST_P(FdWatchTest, DestroyedByAnotherCallbackOfItsRoundIsNotCalled) {
  ASSERT_OK_AND_ASSIGN(const EventFd a, EventFd::Create());
  ASSERT_OK_AND_ASSIGN(const EventFd b, EventFd::Create());
  std::unique_ptr<FdWatch> watch_a;
  std::unique_ptr<FdWatch> watch_b;
  ASSERT_OK_AND_ASSIGN(watch_a,
                       loop().Watch(a.fd(), FdEvents::kReadable, [&](FdEvents) {
                         watch_b.reset();
                         journal_.push_back("called");
                       }));
  ASSERT_OK_AND_ASSIGN(watch_b,
                       loop().Watch(b.fd(), FdEvents::kReadable, [&](FdEvents) {
                         watch_a.reset();
                         journal_.push_back("called");
                       }));
  a.Signal();
  b.Signal();
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_THAT(TakeJournal(), ElementsAre("called"));
}

TEST_P(FdWatchTest, PausedByAnotherCallbackOfItsRoundIsNotCalled) {
  ASSERT_OK_AND_ASSIGN(const EventFd a, EventFd::Create());
  ASSERT_OK_AND_ASSIGN(const EventFd b, EventFd::Create());
  std::unique_ptr<FdWatch> watch_a;
  std::unique_ptr<FdWatch> watch_b;
  ASSERT_OK_AND_ASSIGN(watch_a,
                       loop().Watch(a.fd(), FdEvents::kReadable, [&](FdEvents) {
                         watch_b->SetEvents(FdEvents::kNone);
                       }));
  ASSERT_OK_AND_ASSIGN(watch_b,
                       loop().Watch(b.fd(), FdEvents::kReadable, [&](FdEvents) {
                         watch_a->SetEvents(FdEvents::kNone);
                       }));
  a.Signal();
  b.Signal();
  EXPECT_EQ(RunOnce(), 1);
}

// The new descriptor has the number of the old one, and nothing to read; what
// the kernel reported of the old one must not reach its watch.
TEST_P(FdWatchTest, AReusedDescriptorNumberDoesNotInheritTheRound) {
  UniqueFd fds[2];
  std::unique_ptr<FdWatch> watches[2];
  for (UniqueFd& fd : fds) {
    int ends[2];
    ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
    fd.reset(ends[0]);
    close(ends[1]);  // At once ready: hung up.
  }
  std::unique_ptr<EventFd> idle;
  for (int i = 0; i < 2; ++i) {
    ASSERT_OK_AND_ASSIGN(
        watches[i],
        loop().Watch(fds[i].get(), FdEvents::kReadable, [&, i](FdEvents) {
          const int other = 1 - i;
          const int number = fds[other].get();
          watches[other].reset();
          fds[other].reset();
          ASSERT_OK_AND_ASSIGN(EventFd fresh, EventFd::Create());
          ASSERT_EQ(fresh.fd(), number);
          idle = std::make_unique<EventFd>(std::move(fresh));
          watches[other] =
              WatchAndNote(idle->fd(), FdEvents::kReadable, "fresh ");
          watches[i]->SetEvents(FdEvents::kNone);
          journal_.push_back("called");
        }));
  }
  RunUntilIdle();
  EXPECT_THAT(TakeJournal(), ElementsAre("called"));
  idle->Signal();
  RunOnce();
  EXPECT_THAT(TakeJournal(), ElementsAre("fresh r"));
  watches[0].reset();
  watches[1].reset();
}

TEST_P(FdWatchTest, AWatchMadeInACallbackStartsWithTheNextRound) {
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  event.Signal();
  std::unique_ptr<FdWatch> inner;
  const auto outer =
      loop().Watch(socket_.get(), FdEvents::kReadable, [&](FdEvents) {
        journal_.push_back("outer");
        if (inner == nullptr) {
          inner = WatchAndNote(event.fd(), FdEvents::kReadable, "inner ");
        }
      });
  ASSERT_OK(outer);
  MakeReadable();
  EXPECT_EQ(RunOnce(), 1);
  EXPECT_EQ(RunOnce(), 2);
  EXPECT_THAT(TakeJournal(), UnorderedElementsAre("outer", "outer", "inner r"));
}

TEST_P(FdWatchTest, RefusesADescriptorThatIsWatched) {
  const auto watch = WatchAndNote(socket_.get(), FdEvents::kReadable);
  EXPECT_THAT(loop().Watch(socket_.get(), FdEvents::kWritable, [](FdEvents) {}),
              StatusIs(absl::StatusCode::kAlreadyExists));
  watch->SetEvents(FdEvents::kNone);
  EXPECT_THAT(loop().Watch(socket_.get(), FdEvents::kWritable, [](FdEvents) {}),
              StatusIs(absl::StatusCode::kAlreadyExists));
  // The refusal changed nothing.
  watch->SetEvents(FdEvents::kReadable);
  MakeReadable();
  RunOnce();
  EXPECT_THAT(TakeJournal(), ElementsAre("r"));
}

TEST_P(FdWatchTest, RefusesWhatCannotBeWatched) {
  char path[] = "/tmp/fd_watch_test.XXXXXX";
  const UniqueFd file(mkstemp(path));
  ASSERT_TRUE(file.valid());
  unlink(path);
  EXPECT_THAT(loop().Watch(file.get(), FdEvents::kReadable, [](FdEvents) {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(loop().Watch(-1, FdEvents::kReadable, [](FdEvents) {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  const int closed = peer_.get();
  peer_.reset();
  EXPECT_THAT(loop().Watch(closed, FdEvents::kReadable, [](FdEvents) {}),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST_P(FdWatchTest, ARoundRunsDescriptorsThenTimersThenTheQueue) {
  loop().Post(Note("post"));
  const auto source = loop().CreateWakeSource(Note("source"));
  source->Signal();
  const auto timer = loop().CreateTimer(Note("timer"));
  timer->Arm(Duration::zero());
  const auto watch = WatchAndNote(socket_.get(), FdEvents::kReadable);
  MakeReadable();
  EXPECT_EQ(RunOnce(), 4);
  EXPECT_THAT(TakeJournal(), ElementsAre("r", "timer", "post", "source"));
}

// A source that signals itself for ever leaves descriptors and timers their
// turn.
TEST_P(FdWatchTest, ABusySourceHoldsUpNobody) {
  std::unique_ptr<WakeSource> busy;
  busy = loop().CreateWakeSource([&] { busy->Signal(); });
  busy->Signal();
  const auto watch = WatchAndNote(socket_.get(), FdEvents::kReadable);
  const auto timer = loop().CreateTimer(Note("timer"));
  RunOnce();
  MakeReadable();
  timer->Arm(Duration::zero());
  RunOnce();
  EXPECT_THAT(TakeJournal(), ElementsAre("r", "timer"));
}

}  // namespace
}  // namespace vmsg::vmm
