#include "vmm/base/log.h"

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "vmm/base/check.h"

namespace vmsg::vmm {
namespace {

constexpr Duration kGuestPeriod = std::chrono::seconds(1);

}  // namespace

std::string_view LogSeverityName(LogSeverity severity) {
  switch (severity) {
    case LogSeverity::kDebug:
      return "debug";
    case LogSeverity::kInfo:
      return "info";
    case LogSeverity::kWarning:
      return "warning";
    case LogSeverity::kError:
      return "error";
  }
  return "unknown";
}

RateLimiter::RateLimiter(const Clock* clock, uint32_t burst, Duration period)
    : clock_(clock),
      burst_(burst),
      period_(period),
      tokens_(burst),
      refilled_(clock->Now()) {
  VMSG_CHECK(burst >= 1);
  VMSG_CHECK(period > Duration::zero());
}

RateLimiter::Verdict RateLimiter::Admit() {
  const MonotonicTime now = clock_->Now();
  MutexLock lock(&mutex_);
  // Another thread may have taken the lock with a later time.
  if (now > refilled_) {
    const uint64_t periods = static_cast<uint64_t>((now - refilled_) / period_);
    if (periods >= burst_ - tokens_) {
      // Full: time that fills nothing is not saved up.
      tokens_ = burst_;
      refilled_ = now;
    } else {
      tokens_ += periods;
      refilled_ += period_ * static_cast<int64_t>(periods);
    }
  }
  if (tokens_ == 0) {
    ++suppressed_;
    return {.admitted = false, .suppressed_before = 0};
  }
  --tokens_;
  return {.admitted = true, .suppressed_before = std::exchange(suppressed_, 0)};
}

Logger::Logger(LogSink* sink, const Clock* clock, std::string source)
    : sink_(sink),
      source_(std::move(source)),
      limiter_(clock, kGuestBurst, kGuestPeriod) {}

void Logger::Log(LogSeverity severity, std::string_view message) {
  if (sink_ == nullptr) return;
  sink_->Write({.severity = severity, .source = source_, .message = message});
}

void Logger::LogGuest(LogSeverity severity, std::string_view message) {
  if (sink_ == nullptr) return;
  const RateLimiter::Verdict verdict = limiter_.Admit();
  if (!verdict.admitted) return;
  if (verdict.suppressed_before == 0) return Log(severity, message);
  Log(severity,
      absl::StrCat(std::string(message), " (", verdict.suppressed_before,
                   " lines suppressed before)"));
}

}  // namespace vmsg::vmm
