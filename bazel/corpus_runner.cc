#include "bazel/corpus_runner.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <system_error>
#include <utility>

namespace vmsg::fuzz {
namespace {

namespace fs = std::filesystem;

// A mutated input stays small: time goes into many inputs, not long ones.
constexpr size_t kMaxMutatedBytes = 4096;
// Any fixed number will do; it makes a failure happen again.
constexpr uint64_t kSeed = 0x766d7367;

// Values at which sizes, indices and flags change their meaning.
constexpr std::array<uint32_t, 10> kEdgeValues = {
    0,      1,          0x7f,       0x80,       0xff,
    0xffff, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff};

class Mutator {
 public:
  Input Mutate(const Input& seed, const Input& other) {
    Input input = seed;
    const size_t steps = 1 + Below(4);
    for (size_t i = 0; i < steps; ++i) Step(input, other);
    if (input.size() > kMaxMutatedBytes) input.resize(kMaxMutatedBytes);
    return input;
  }

  // In [0, limit); limit > 0. Not std::uniform_int_distribution, whose numbers
  // differ between standard libraries.
  size_t Below(size_t limit) { return random_() % limit; }

 private:
  void Step(Input& input, const Input& other) {
    if (input.empty()) {
      input.push_back(static_cast<uint8_t>(random_()));
      return;
    }
    const size_t at = Below(input.size());
    switch (Below(7)) {
      case 0:
        input[at] ^= static_cast<uint8_t>(1u << Below(8));
        break;
      case 1:
        input[at] = static_cast<uint8_t>(random_());
        break;
      case 2:
        OverwriteWithEdgeValue(input, at);
        break;
      case 3:
        input.resize(at);
        break;
      case 4:
        input.erase(input.begin() + static_cast<ptrdiff_t>(at));
        break;
      case 5: {
        // Repeats a piece of itself.
        const size_t length =
            1 + Below(std::min<size_t>(64, input.size() - at));
        const Input piece(input.begin() + static_cast<ptrdiff_t>(at),
                          input.begin() + static_cast<ptrdiff_t>(at + length));
        input.insert(input.end(), piece.begin(), piece.end());
        break;
      }
      default: {
        // The tail of another input.
        if (other.empty()) break;
        const size_t from = Below(other.size());
        input.resize(at);
        input.insert(input.end(), other.begin() + static_cast<ptrdiff_t>(from),
                     other.end());
        break;
      }
    }
  }

  void OverwriteWithEdgeValue(Input& input, size_t at) {
    const uint32_t value = kEdgeValues[Below(kEdgeValues.size())];
    const size_t width = size_t{1} << Below(3);
    for (size_t i = 0; i < width && at + i < input.size(); ++i) {
      input[at + i] = static_cast<uint8_t>(value >> (8 * i));
    }
  }

  std::mt19937_64 random_{kSeed};
};

bool ReadCorpus(const std::string& folder, std::vector<Input>& inputs) {
  std::vector<fs::path> paths;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error);
  for (; !error && it != fs::recursive_directory_iterator();
       it.increment(error)) {
    if (it->is_regular_file()) paths.push_back(it->path());
  }
  if (error) {
    std::fprintf(stderr, "corpus %s: %s\n", folder.c_str(),
                 error.message().c_str());
    return false;
  }
  std::sort(paths.begin(), paths.end());
  for (const fs::path& path : paths) {
    std::ifstream file(path, std::ios::binary);
    Input input((std::istreambuf_iterator<char>(file)), {});
    if (!file) {
      std::fprintf(stderr, "cannot read %s\n", path.c_str());
      return false;
    }
    inputs.emplace_back(input.begin(), input.end());
  }
  if (inputs.empty()) {
    std::fprintf(stderr, "corpus %s has no input\n", folder.c_str());
    return false;
  }
  return true;
}

// The file with the input being run.
class CurrentInputFile {
 public:
  explicit CurrentInputFile(std::string path) : path_(std::move(path)) {
    if (!path_.empty()) {
      fd_ =
          ::open(path_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    }
  }
  CurrentInputFile(const CurrentInputFile&) = delete;
  CurrentInputFile& operator=(const CurrentInputFile&) = delete;
  ~CurrentInputFile() {
    if (fd_ < 0) return;
    ::close(fd_);
    ::unlink(path_.c_str());
  }

  bool ok() const { return path_.empty() || fd_ >= 0; }

  bool Write(const Input& input) const {
    if (fd_ < 0) return true;
    const auto size = static_cast<ssize_t>(input.size());
    return ::ftruncate(fd_, 0) == 0 &&
           ::pwrite(fd_, input.data(), input.size(), 0) == size;
  }

 private:
  const std::string path_;
  int fd_ = -1;
};

}  // namespace

size_t RunCorpus(const CorpusRunOptions& options, const Target& target) {
  std::vector<Input> inputs;
  if (!ReadCorpus(options.corpus, inputs)) return 0;
  const CurrentInputFile current(options.current_input_file);
  const auto run = [&](const Input& input) {
    if (!current.ok() || !current.Write(input)) {
      std::fprintf(stderr, "cannot write %s\n",
                   options.current_input_file.c_str());
      return false;
    }
    target(input.data(), input.size());
    return true;
  };

  for (const Input& input : inputs) {
    if (!run(input)) return 0;
  }
  Mutator mutator;
  for (size_t i = 0; i < options.mutations; ++i) {
    const Input& other = inputs[mutator.Below(inputs.size())];
    // Copied, so that the capacity is the size and AddressSanitizer sees every
    // access past the end.
    const Input mutated = mutator.Mutate(inputs[i % inputs.size()], other);
    if (!run(Input(mutated.begin(), mutated.end()))) return 0;
  }
  return inputs.size() + options.mutations;
}

}  // namespace vmsg::fuzz
