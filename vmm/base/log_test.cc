#include "vmm/base/log.h"

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/testing/fake_clock.h"

namespace vmsg::vmm {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::ElementsAre;

class RecordingSink : public LogSink {
 public:
  void Write(const LogRecord& record) override {
    lines.push_back(std::string(LogSeverityName(record.severity)) + "|" +
                    std::string(record.source) + "|" +
                    std::string(record.message));
  }
  std::vector<std::string> lines;
};

TEST(LogSeverityTest, NamesAreLowerCaseWords) {
  EXPECT_EQ(LogSeverityName(LogSeverity::kDebug), "debug");
  EXPECT_EQ(LogSeverityName(LogSeverity::kInfo), "info");
  EXPECT_EQ(LogSeverityName(LogSeverity::kWarning), "warning");
  EXPECT_EQ(LogSeverityName(LogSeverity::kError), "error");
}

// How many of `n` calls in a row are admitted.
int AdmittedOf(int n, RateLimiter* limiter) {
  int admitted = 0;
  for (int i = 0; i < n; ++i) admitted += limiter->Admit().admitted ? 1 : 0;
  return admitted;
}

TEST(RateLimiterTest, AdmitsTheBurstAndNoMore) {
  FakeClock clock;
  RateLimiter limiter(&clock, 3, seconds(1));
  EXPECT_EQ(AdmittedOf(10, &limiter), 3);
}

TEST(RateLimiterTest, RefillsOneTokenPerPeriod) {
  FakeClock clock;
  RateLimiter limiter(&clock, 3, seconds(1));
  AdmittedOf(3, &limiter);
  clock.Advance(milliseconds(999));
  EXPECT_EQ(AdmittedOf(10, &limiter), 0);
  clock.Advance(milliseconds(1));
  EXPECT_EQ(AdmittedOf(10, &limiter), 1);
  clock.Advance(seconds(2));
  EXPECT_EQ(AdmittedOf(10, &limiter), 2);
}

TEST(RateLimiterTest, KeepsTheFractionOfAPeriod) {
  FakeClock clock;
  RateLimiter limiter(&clock, 3, seconds(1));
  AdmittedOf(3, &limiter);
  clock.Advance(milliseconds(1600));
  EXPECT_EQ(AdmittedOf(10, &limiter), 1);
  clock.Advance(milliseconds(400));
  EXPECT_EQ(AdmittedOf(10, &limiter), 1);
}

TEST(RateLimiterTest, NeverSavesMoreThanTheBurst) {
  FakeClock clock;
  RateLimiter limiter(&clock, 3, seconds(1));
  AdmittedOf(3, &limiter);
  clock.Advance(std::chrono::hours(24 * 365));
  EXPECT_EQ(AdmittedOf(10, &limiter), 3);
}

TEST(RateLimiterTest, IdleTimeBeforeTheFirstCallGivesNothingExtra) {
  FakeClock clock;
  RateLimiter limiter(&clock, 2, seconds(1));
  clock.Advance(seconds(100));
  EXPECT_EQ(AdmittedOf(10, &limiter), 2);
  EXPECT_EQ(AdmittedOf(1, &limiter), 0);
}

TEST(RateLimiterTest, TellsHowManyWereRefusedSinceTheLastAdmission) {
  FakeClock clock;
  RateLimiter limiter(&clock, 1, seconds(1));
  EXPECT_EQ(limiter.Admit().suppressed_before, 0u);
  AdmittedOf(7, &limiter);
  clock.Advance(seconds(1));
  EXPECT_EQ(limiter.Admit().suppressed_before, 7u);
  clock.Advance(seconds(1));
  EXPECT_EQ(limiter.Admit().suppressed_before, 0u);
}

TEST(RateLimiterTest, SeveralThreadsShareOneBurst) {
  FakeClock clock;
  RateLimiter limiter(&clock, 50, seconds(1));
  std::atomic<int> admitted = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&] { admitted += AdmittedOf(40, &limiter); });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(admitted, 50);
  clock.Advance(seconds(1));
  EXPECT_EQ(limiter.Admit().suppressed_before, 70u);
}

TEST(RateLimiterDeathTest, ABurstOfNothingIsABug) {
  FakeClock clock;
  EXPECT_DEATH(RateLimiter(&clock, 0, seconds(1)), "burst");
  EXPECT_DEATH(RateLimiter(&clock, 1, seconds(0)), "period");
}

TEST(LoggerTest, HandsSeveritySourceAndMessageToTheSink) {
  FakeClock clock;
  RecordingSink sink;
  Logger logger(&sink, &clock, "amp0/fifo1");
  logger.Log(LogSeverity::kError, "no memory");
  EXPECT_THAT(sink.lines, ElementsAre("error|amp0/fifo1|no memory"));
  EXPECT_EQ(logger.source(), "amp0/fifo1");
  EXPECT_EQ(logger.sink(), &sink);
}

TEST(LoggerTest, WithoutSinkIsSilent) {
  FakeClock clock;
  Logger logger(nullptr, &clock, "amp0");
  logger.Log(LogSeverity::kError, "a");
  logger.LogGuest(LogSeverity::kError, "b");
  EXPECT_EQ(logger.sink(), nullptr);
}

TEST(LoggerTest, HostEventsAreNotLimited) {
  FakeClock clock;
  RecordingSink sink;
  Logger logger(&sink, &clock, "amp0");
  for (int i = 0; i < 100; ++i) logger.Log(LogSeverity::kInfo, "x");
  EXPECT_EQ(sink.lines.size(), 100u);
}

TEST(LoggerTest, GuestLinesAreLimitedAndTheNextSaysHowManyWereLost) {
  FakeClock clock;
  RecordingSink sink;
  Logger logger(&sink, &clock, "amp0");
  for (int i = 0; i < 1000; ++i) logger.LogGuest(LogSeverity::kWarning, "bad");
  EXPECT_EQ(sink.lines.size(), Logger::kGuestBurst);
  sink.lines.clear();

  clock.Advance(seconds(1));
  logger.LogGuest(LogSeverity::kWarning, "bad");
  EXPECT_THAT(sink.lines,
              ElementsAre("warning|amp0|bad (996 lines suppressed before)"));
}

TEST(LoggerTest, AGuestStormDoesNotSilenceHostEvents) {
  FakeClock clock;
  RecordingSink sink;
  Logger logger(&sink, &clock, "amp0");
  for (int i = 0; i < 1000; ++i) logger.LogGuest(LogSeverity::kWarning, "bad");
  sink.lines.clear();
  logger.Log(LogSeverity::kError, "host");
  EXPECT_THAT(sink.lines, ElementsAre("error|amp0|host"));
}

}  // namespace
}  // namespace vmsg::vmm
