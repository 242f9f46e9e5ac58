// Logging into a sink that the embedder supplies. There is no global sink and
// no default that writes anywhere: without a sink the library is silent.

#ifndef VMSG_VMM_BASE_LOG_H_
#define VMSG_VMM_BASE_LOG_H_

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

#include "vmm/base/clock.h"
#include "vmm/base/mutex.h"

namespace vmsg::vmm {

enum class LogSeverity : uint8_t { kDebug, kInfo, kWarning, kError };

std::string_view LogSeverityName(LogSeverity severity);

struct LogRecord {
  LogSeverity severity;
  // The object that speaks, by ids an operator knows: "amp0/fifo1/bus3".
  std::string_view source;
  std::string_view message;
};

// Receives log records.
//
// Threads: any, several at once. Write() is called on event loops and vCPU
// threads: it must not block for long, and must not call back into the library.
class LogSink {
 public:
  LogSink() = default;
  LogSink(const LogSink&) = delete;
  LogSink& operator=(const LogSink&) = delete;
  virtual ~LogSink() = default;

  virtual void Write(const LogRecord& record) = 0;
};

// A token bucket: at most `burst` admissions at once, refilled at one token per
// `period`. Counts what it refuses, so that the next admitted line can say how
// many were lost.
//
// Threads: any. Admit() is wait-free for refused callers apart from one short
// lock; it does not allocate.
class RateLimiter {
 public:
  // `clock` is borrowed and outlives the limiter. `burst` is at least 1,
  // `period` above 0.
  RateLimiter(const Clock* clock, uint32_t burst, Duration period);

  struct Verdict {
    bool admitted;
    uint64_t suppressed_before;  // refused since the last admission
  };
  Verdict Admit();

 private:
  const Clock* const clock_;
  const uint32_t burst_;
  const Duration period_;
  Mutex mutex_;
  uint64_t tokens_ ABSL_GUARDED_BY(mutex_);
  MonotonicTime refilled_ ABSL_GUARDED_BY(mutex_);
  uint64_t suppressed_ ABSL_GUARDED_BY(mutex_) = 0;
};

// What a component holds to speak: a sink (may be null: silent), its own name
// and a rate limit for what a guest can provoke.
//
// Threads: any.
class Logger {
 public:
  // `sink` (may be null) and `clock` are borrowed and outlive the logger.
  Logger(LogSink* sink, const Clock* clock, std::string source);

  // Host-side events: not limited.
  void Log(LogSeverity severity, std::string_view message);

  // For everything a guest can cause: at most kGuestBurst lines at once and
  // then one a second for the whole logger; a line that follows suppressed ones
  // says how many. Costs a lock and no allocation when refused, so pass a
  // constant or a view of a buffer, not a string made for the purpose.
  void LogGuest(LogSeverity severity, std::string_view message);

  const std::string& source() const { return source_; }
  LogSink* sink() const { return sink_; }

  // Enough to show the shape of a fault, few enough not to fill a disk.
  static constexpr uint32_t kGuestBurst = 4;

 private:
  LogSink* const sink_;
  const std::string source_;
  RateLimiter limiter_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BASE_LOG_H_
