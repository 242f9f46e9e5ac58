// Rings the doorbell of a device as often as it is told, each time with one
// PING, for a tool that counts system calls:
//
//   strace -f -o FILE doorbell_calls COUNT
//
// Prints the id of the thread that runs the device's loop. What that thread
// does once (it starts and ends) falls out of the difference between two runs
// with different counts.

#include <cstdint>
#include <cstdio>

#include "absl/strings/numbers.h"
#include "benchmarks/doorbell_loops.h"

int main(int argc, char** argv) {
  uint32_t count = 0;
  if (argc != 2 || !absl::SimpleAtoi(argv[1], &count)) {
    std::fprintf(stderr, "usage: %s COUNT\n", argv[0]);
    return 2;
  }
  vmsg::bench::AmpDoorbellLoop loop;
  vmsg::bench::DoorbellThread thread(&loop);
  std::printf("%d\n", static_cast<int>(thread.id()));
  for (uint32_t i = 0; i < count; ++i) thread.Ping();
  return 0;
}
