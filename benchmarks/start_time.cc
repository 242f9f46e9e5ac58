// Measures how long a program takes from exec to its first byte of output:
//
//   start_time RUNS PROGRAM ARGUMENT...
//
// Prints milliseconds, one line a run. One more run comes first and does not
// count: it brings the files into the cache.

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "benchmarks/first_output.h"

int main(int argc, char** argv) {
  constexpr std::chrono::seconds kLimit{60};
  uint32_t runs = 0;
  if (argc < 3 || !absl::SimpleAtoi(argv[1], &runs)) {
    std::fprintf(stderr, "usage: %s RUNS PROGRAM ARGUMENT...\n", argv[0]);
    return 2;
  }
  const std::vector<std::string> command(argv + 2, argv + argc);
  for (uint32_t i = 0; i <= runs; ++i) {
    const auto time = vmsg::bench::FirstOutput(command, kLimit);
    if (!time.ok()) {
      std::fprintf(stderr, "start_time: %s\n",
                   std::string(time.status().message()).c_str());
      return 1;
    }
    if (i == 0) continue;
    std::printf("%.3f\n",
                std::chrono::duration<double, std::milli>(*time).count());
  }
  return 0;
}
