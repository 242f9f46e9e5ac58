// StreamLogSink: a log sink that writes lines to a descriptor.

#ifndef VMSG_VMM_BASE_STREAM_LOG_SINK_H_
#define VMSG_VMM_BASE_STREAM_LOG_SINK_H_

#include <cstddef>
#include <cstdint>

#include "vmm/base/counter.h"
#include "vmm/base/log.h"

namespace vmsg::vmm {

// Writes each record as one line, "warning amp0/fifo1: text", by one write(2),
// so that lines of several threads do not mix. A byte outside printable ASCII
// is written as \xNN: a guest's text can't forge a line or drive a terminal. A
// line longer than kMaxLineBytes ends in "...".
//
// Threads: any. Allocates nothing. Blocks as long as write(2) on the descriptor
// does; give it a non-blocking one to lose lines instead.
class StreamLogSink final : public LogSink {
 public:
  // Not above PIPE_BUF, up to which a write to a pipe is atomic.
  static constexpr size_t kMaxLineBytes = 1024;

  // `fd` is borrowed and stays open while the sink lives; STDERR_FILENO is
  // usual. Records below `minimum` are left out.
  explicit StreamLogSink(int fd, LogSeverity minimum = LogSeverity::kInfo)
      : fd_(fd), minimum_(minimum) {}

  void Write(const LogRecord& record) override;

  // Lines that the descriptor did not take whole.
  uint64_t lost_lines() const { return lost_lines_.value(); }

 private:
  const int fd_;
  const LogSeverity minimum_;
  Counter lost_lines_;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_BASE_STREAM_LOG_SINK_H_
