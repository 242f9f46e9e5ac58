#include "benchmarks/first_output.h"

#include <gtest/gtest.h>
#include <sys/wait.h>

#include <chrono>

#include "absl/status/status.h"

namespace vmsg::bench {
namespace {

using std::chrono::milliseconds;

auto Shell(const char* script, milliseconds limit = milliseconds(60'000)) {
  return FirstOutput({"/bin/sh", "-c", script}, limit);
}

bool NoChildIsLeft() { return wait(nullptr) == -1 && errno == ECHILD; }

TEST(FirstOutputTest, WaitsForTheByte) {
  const auto time = Shell("sleep 0.2; echo; sleep 1000");
  ASSERT_TRUE(time.ok()) << time.status();
  EXPECT_GE(*time, milliseconds(200));
  EXPECT_TRUE(NoChildIsLeft());
}

TEST(FirstOutputTest, DoesNotWaitForTheProgramsEnd) {
  const auto start = std::chrono::steady_clock::now();
  ASSERT_TRUE(Shell("echo; exec sleep 1000").ok());
  EXPECT_LT(std::chrono::steady_clock::now() - start, milliseconds(60'000));
}

TEST(FirstOutputTest, ProgramWithoutOutputIsAnError) {
  EXPECT_EQ(Shell("echo to nobody >&2").status().code(),
            absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(NoChildIsLeft());
}

TEST(FirstOutputTest, SilentProgramIsEndedWhenTimeIsUp) {
  EXPECT_EQ(Shell("exec sleep 1000", milliseconds(50)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
  EXPECT_TRUE(NoChildIsLeft());
}

TEST(FirstOutputTest, MissingProgramIsAnError) {
  EXPECT_EQ(
      FirstOutput({"/no/such/program"}, milliseconds(1000)).status().code(),
      absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace vmsg::bench
