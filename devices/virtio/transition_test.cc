#include "devices/virtio/transition.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::virtio {
namespace {

class TransitionTest : public ::testing::Test {
 protected:
  VirtioDevice::Completion CountTo(int* count) {
    return [count] { ++*count; };
  }

  vmm::ManualEventLoop loop_;
  Transition transition_{&loop_};
};

TEST_F(TransitionTest, CompletionRunsOnceInALaterTurn) {
  int done = 0;
  transition_.Begin(CountTo(&done));
  transition_.Finish();
  transition_.Finish();
  EXPECT_EQ(done, 0);
  EXPECT_TRUE(transition_.running());
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 1);
  EXPECT_FALSE(transition_.running());
}

TEST_F(TransitionTest, NothingRunsBeforeTheEnd) {
  int done = 0;
  transition_.Begin(CountTo(&done));
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 0);
  EXPECT_TRUE(transition_.running());
}

TEST_F(TransitionTest, StatusReachesTheCompletion) {
  std::optional<absl::Status> result;
  transition_.Begin(VirtioDevice::StatusCompletion(
      [&result](absl::Status status) { result = std::move(status); }));
  transition_.Finish(absl::UnavailableError("no back end"));
  loop_.RunUntilIdle();
  ASSERT_TRUE(result.has_value());
  EXPECT_EQ(result->code(), absl::StatusCode::kUnavailable);
}

TEST_F(TransitionTest, OvertakenCompletionIsNeverCalled) {
  int overtaken = 0;
  int done = 0;
  transition_.Begin(CountTo(&overtaken));
  transition_.Finish();  // on its way already
  transition_.Begin(CountTo(&done));
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 0) << "the second one has not ended";
  transition_.Finish();
  loop_.RunUntilIdle();
  EXPECT_EQ(overtaken, 0);
  EXPECT_EQ(done, 1);
}

TEST_F(TransitionTest, OvertakenCompletionIsDestroyedAtOnce) {
  auto held = std::make_shared<int>();
  transition_.Begin(VirtioDevice::Completion([held] {}));
  EXPECT_EQ(held.use_count(), 2);
  transition_.Begin(VirtioDevice::Completion([] {}));
  EXPECT_EQ(held.use_count(), 1);
}

TEST_F(TransitionTest, CompletionMayBeginTheNextTransition) {
  int done = 0;
  transition_.Begin(VirtioDevice::Completion([&] {
    EXPECT_FALSE(transition_.running());
    transition_.Begin(CountTo(&done));
    transition_.Finish();
    EXPECT_EQ(done, 0);
  }));
  transition_.Finish();
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 1);
}

TEST_F(TransitionTest, CompletionMayDestroyItsOwner) {
  auto owner = std::make_unique<Transition>(&loop_);
  int done = 0;
  owner->Begin(VirtioDevice::Completion([&] {
    owner = nullptr;
    ++done;
  }));
  owner->Finish();
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 1);
}

TEST_F(TransitionTest, DestroyedOwnerCallsNothing) {
  auto owner = std::make_unique<Transition>(&loop_);
  int done = 0;
  owner->Begin(CountTo(&done));
  owner->Finish();
  owner = nullptr;
  loop_.RunUntilIdle();
  EXPECT_EQ(done, 0);
}

}  // namespace
}  // namespace vmsg::virtio
