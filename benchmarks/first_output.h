// FirstOutput: how long a program takes from exec to its first byte of output.

#ifndef VMSG_BENCHMARKS_FIRST_OUTPUT_H_
#define VMSG_BENCHMARKS_FIRST_OUTPUT_H_

#include <chrono>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace vmsg::bench {

// Starts a program, waits for the first byte on its standard output, and ends
// the program: SIGTERM, and SIGKILL for what is still there a few seconds
// later. Standard input is empty; standard error is that of the caller.
//
// The time begins before the call that makes the process, so it has all of exec
// in it, and ends when the byte was read here. It blocks for up to `limit` and
// those few seconds. Any thread; one at a time, so that no other child gets the
// pipe.
//
// Errors: NotFound (the program can't be started), FailedPrecondition (it
// closed its output without writing), DeadlineExceeded (nothing came within
// `limit`). The process is gone in each case.
//
// `command`: the program, with its path, and its arguments; not empty.
absl::StatusOr<std::chrono::nanoseconds> FirstOutput(
    const std::vector<std::string>& command, std::chrono::milliseconds limit);

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_FIRST_OUTPUT_H_
