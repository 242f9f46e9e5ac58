#include "vmm/control/reply.h"

#include <gtest/gtest.h>

#include <utility>
#include <vector>

namespace vmsg::control {
namespace {

TEST(ReplyTest, AnswersOnceEvenWhenCalledTwice) {
  std::vector<int> answers;
  Reply<int> reply = [&](OperationStatus, int value) {
    answers.push_back(value);
  };
  reply(OperationStatus{}, 7);
  reply(OperationStatus{}, 8);
  EXPECT_EQ(answers, std::vector<int>{7});
  EXPECT_FALSE(reply);
}

TEST(ReplyTest, DroppedUnansweredSaysUnavailable) {
  absl::StatusCode code = absl::StatusCode::kOk;
  {
    Reply<int> reply = [&](OperationStatus status, int) { code = status.code; };
    const Reply<int> moved = std::move(reply);
    EXPECT_EQ(code, absl::StatusCode::kOk);
  }
  EXPECT_EQ(code, absl::StatusCode::kUnavailable);
}

TEST(ReplyTest, AssignmentAnswersTheOneThatIsReplaced) {
  absl::StatusCode code = absl::StatusCode::kOk;
  Reply<int> reply = [&](OperationStatus status, int) { code = status.code; };
  reply = Reply<int>();
  EXPECT_EQ(code, absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace vmsg::control
