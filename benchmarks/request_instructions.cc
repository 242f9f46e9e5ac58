// Answers GET_CONFIG requests for a tool that counts instructions:
//
//   valgrind --tool=callgrind --toggle-collect=vmsg_counted_requests PROGRAM
//
// where PROGRAM is
//
//   request_instructions served|refused [spsc|shmem-v1 FIFOS DEVICES]
//
// Prints how many requests were answered inside that function.

#include <cstdint>
#include <cstdio>
#include <optional>
#include <span>
#include <string_view>

#include "absl/strings/numbers.h"
#include "benchmarks/get_config_path.h"

using vmsg::bench::GetConfigPath;

// The name is for the tool.
extern "C" __attribute__((noinline)) void vmsg_counted_requests(
    GetConfigPath* path) {
  path->Answer();
}

namespace {

// The options after the kind of request. Nothing when they are wrong.
std::optional<GetConfigPath::Options> ParseOptions(
    std::span<const char* const> words) {
  GetConfigPath::Options options;
  if (words.empty()) return options;
  if (words.size() != 3) return std::nullopt;
  const std::string_view layout = words[0];
  if (layout == "shmem-v1") {
    options.layout = vmsg::amp::FifoLayout::kShmemV1;
  } else if (layout != "spsc") {
    return std::nullopt;
  }
  if (!absl::SimpleAtoi(words[1], &options.fifos) || options.fifos < 1 ||
      options.fifos > 8 || !absl::SimpleAtoi(words[2], &options.devices) ||
      options.devices < 1 || options.devices > 32) {
    return std::nullopt;
  }
  return options;
}

}  // namespace

int main(int argc, char** argv) {
  const std::span<const char* const> words(argv, static_cast<size_t>(argc));
  const std::string_view what = argc > 1 ? words[1] : "";
  const std::optional<GetConfigPath::Options> options =
      argc > 1 ? ParseOptions(words.subspan(2)) : std::nullopt;
  if ((what != "served" && what != "refused") || !options.has_value()) {
    std::fprintf(stderr,
                 "usage: %s served|refused [spsc|shmem-v1 FIFOS DEVICES]\n",
                 argv[0]);
    return 2;
  }
  const auto range = what == "served" ? GetConfigPath::Range::kServed
                                      : GetConfigPath::Range::kRefused;
  constexpr uint32_t kBatches = 10;
  GetConfigPath path(*options);
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
