#include "vmm/base/stream_log_sink.h"

#include <limits.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <string_view>

namespace vmsg::vmm {
namespace {

static_assert(StreamLogSink::kMaxLineBytes <= PIPE_BUF);

// A line in the making, on the stack.
class Line {
 public:
  void AppendEscaped(std::string_view text) {
    static constexpr char kHex[] = "0123456789abcdef";
    for (const char c : text) {
      const auto byte = static_cast<unsigned char>(c);
      if (byte >= 0x20 && byte < 0x7f) {
        Append({&c, 1});
      } else {
        const char escape[4] = {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
        Append({escape, sizeof(escape)});
      }
      if (cut_) return;
    }
  }

  std::string_view Finish() {
    const std::string_view end = cut_ ? kCut : "\n";
    std::memcpy(bytes_.data() + size_, end.data(), end.size());
    return {bytes_.data(), size_ + end.size()};
  }

 private:
  static constexpr std::string_view kCut = "...\n";
  static constexpr size_t kRoom = StreamLogSink::kMaxLineBytes - kCut.size();

  void Append(std::string_view text) {
    cut_ = cut_ || text.size() > kRoom - size_;
    if (cut_) return;
    std::memcpy(bytes_.data() + size_, text.data(), text.size());
    size_ += text.size();
  }

  std::array<char, StreamLogSink::kMaxLineBytes> bytes_;
  size_t size_ = 0;
  bool cut_ = false;
};

}  // namespace

void StreamLogSink::Write(const LogRecord& record) {
  if (record.severity < minimum_) return;
  Line line;
  line.AppendEscaped(LogSeverityName(record.severity));
  line.AppendEscaped(" ");
  line.AppendEscaped(record.source);
  line.AppendEscaped(": ");
  line.AppendEscaped(record.message);
  const std::string_view text = line.Finish();
  ssize_t written;
  do {
    written = write(fd_, text.data(), text.size());
  } while (written < 0 && errno == EINTR);
  if (written != static_cast<ssize_t>(text.size())) lost_lines_.Add();
}

}  // namespace vmsg::vmm
