#include "vmm/base/stream_log_sink.h"

#include <fcntl.h>
#include <unistd.h>

#include <string>
#include <thread>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/unique_fd.h"

namespace vmsg::vmm {
namespace {

using ::testing::EndsWith;
using ::testing::StartsWith;

class StreamLogSinkTest : public ::testing::Test {
 protected:
  StreamLogSinkTest() {
    int ends[2] = {-1, -1};
    EXPECT_EQ(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    reader_.reset(ends[0]);
    writer_.reset(ends[1]);
  }

  std::string Written() {
    std::string text;
    char buffer[4096];
    ssize_t n;
    while ((n = read(reader_.get(), buffer, sizeof(buffer))) > 0) {
      text.append(buffer, static_cast<size_t>(n));
    }
    return text;
  }

  UniqueFd reader_;
  UniqueFd writer_;
};

TEST_F(StreamLogSinkTest, WritesOneLinePerRecord) {
  StreamLogSink sink(writer_.get());
  sink.Write({LogSeverity::kInfo, "amp0", "ready"});
  sink.Write({LogSeverity::kError, "amp0/fifo1", "broken"});
  EXPECT_EQ(Written(), "info amp0: ready\nerror amp0/fifo1: broken\n");
  EXPECT_EQ(sink.lost_lines(), 0u);
}

TEST_F(StreamLogSinkTest, LeavesOutWhatIsBelowTheMinimum) {
  StreamLogSink sink(writer_.get(), LogSeverity::kWarning);
  sink.Write({LogSeverity::kDebug, "a", "1"});
  sink.Write({LogSeverity::kInfo, "a", "2"});
  sink.Write({LogSeverity::kWarning, "a", "3"});
  EXPECT_EQ(Written(), "warning a: 3\n");
}

TEST_F(StreamLogSinkTest, EscapesWhatCouldForgeALineOrDriveATerminal) {
  StreamLogSink sink(writer_.get());
  sink.Write({LogSeverity::kInfo, "a", "x\nerror b: \x1b[2J\xff"});
  EXPECT_EQ(Written(), "info a: x\\x0aerror b: \\x1b[2J\\xff\n");
}

TEST_F(StreamLogSinkTest, CutsALongLineAndSaysSo) {
  StreamLogSink sink(writer_.get());
  sink.Write({LogSeverity::kInfo, "a", std::string(5000, 'x')});
  const std::string line = Written();
  EXPECT_EQ(line.size(), StreamLogSink::kMaxLineBytes);
  EXPECT_THAT(line, StartsWith("info a: xxx"));
  EXPECT_THAT(line, EndsWith("xxx...\n"));
}

TEST_F(StreamLogSinkTest, NeverCutsInsideAnEscape) {
  StreamLogSink sink(writer_.get());
  // Four bytes an escape: one of these lengths ends inside one.
  for (int pad = 0; pad < 4; ++pad) {
    sink.Write({LogSeverity::kInfo, "a",
                std::string(pad, 'p') + std::string(1000, '\n')});
    EXPECT_THAT(Written(), EndsWith("\\x0a...\n"));
  }
}

TEST_F(StreamLogSinkTest, ALineThatJustFitsIsNotCut) {
  StreamLogSink sink(writer_.get());
  const std::string text(StreamLogSink::kMaxLineBytes - 4 - 8, 'x');
  sink.Write({LogSeverity::kInfo, "a", text});
  EXPECT_EQ(Written(), "info a: " + text + "\n");
}

TEST_F(StreamLogSinkTest, CountsLinesThatAFullPipeRefused) {
  StreamLogSink sink(writer_.get());
  const std::string text(900, 'x');
  while (sink.lost_lines() == 0) sink.Write({LogSeverity::kInfo, "a", text});
  sink.Write({LogSeverity::kInfo, "a", text});
  EXPECT_EQ(sink.lost_lines(), 2u);
}

TEST_F(StreamLogSinkTest, LinesOfSeveralThreadsStayWhole) {
  StreamLogSink sink(writer_.get());
  std::vector<std::thread> threads;
  for (int i = 0; i < 3; ++i) {
    threads.emplace_back([&sink] {
      for (int n = 0; n < 50; ++n) sink.Write({LogSeverity::kInfo, "a", "abc"});
    });
  }
  for (std::thread& thread : threads) thread.join();
  std::string expected;
  for (int n = 0; n < 150; ++n) expected += "info a: abc\n";
  EXPECT_EQ(Written(), expected);
}

}  // namespace
}  // namespace vmsg::vmm
