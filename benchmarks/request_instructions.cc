// Answers GET_CONFIG requests for a tool that counts instructions:
//
//   valgrind --tool=callgrind --toggle-collect=vmsg_counted_requests PROGRAM
//
// where PROGRAM is `request_instructions served` or `... refused`. Prints how
// many requests were answered inside that function.

#include <cstdint>
#include <cstdio>
#include <string_view>

#include "benchmarks/get_config_path.h"

using vmsg::bench::GetConfigPath;

// The name is for the tool.
extern "C" __attribute__((noinline)) void vmsg_counted_requests(
    GetConfigPath* path) {
  path->Answer();
}

int main(int argc, char** argv) {
  const std::string_view what = argc == 2 ? argv[1] : "";
  if (what != "served" && what != "refused") {
    std::fprintf(stderr, "usage: %s served|refused\n", argv[0]);
    return 2;
  }
  const auto range = what == "served" ? GetConfigPath::Range::kServed
                                      : GetConfigPath::Range::kRefused;
  constexpr uint32_t kBatches = 10;
  GetConfigPath path(/*packets_per_turn=*/1);
  // The first one goes to the dynamic linker too.
  path.Put(range);
  path.Answer();
  path.Take(range);
  for (uint32_t i = 0; i < kBatches; ++i) {
    path.Put(range);
    vmsg_counted_requests(&path);
    path.Take(range);
  }
  std::printf("%u\n", kBatches * GetConfigPath::kBatch);
  return 0;
}
