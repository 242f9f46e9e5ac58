// Rings the doorbell of a device as often as it is told, each time with one
// PING, for a tool that counts system calls:
//
//   strace -f -o FILE doorbell_calls COUNT [spsc|shmem-v1]
//
// Prints the id of the thread that runs the device's loop. What that thread
// does once (it starts and ends) falls out of the difference between two runs
// with different counts.

#include <cstdint>
#include <cstdio>
#include <string_view>

#include "absl/strings/numbers.h"
#include "benchmarks/doorbell_loops.h"

int main(int argc, char** argv) {
  uint32_t count = 0;
  const std::string_view layout = argc == 3 ? argv[2] : "spsc";
  if (argc < 2 || argc > 3 || !absl::SimpleAtoi(argv[1], &count) ||
      (layout != "spsc" && layout != "shmem-v1")) {
    std::fprintf(stderr, "usage: %s COUNT [spsc|shmem-v1]\n", argv[0]);
    return 2;
  }
  vmsg::bench::AmpDoorbellLoop loop(layout == "spsc"
                                        ? vmsg::amp::FifoLayout::kSpsc
                                        : vmsg::amp::FifoLayout::kShmemV1);
  vmsg::bench::DoorbellThread thread(&loop);
  std::printf("%d\n", static_cast<int>(thread.id()));
  for (uint32_t i = 0; i < count; ++i) thread.Ping();
  return 0;
}
