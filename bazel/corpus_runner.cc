#include "bazel/corpus_runner.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <system_error>

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
    inputs.push_back(std::move(input));
  }
  if (inputs.empty()) {
    std::fprintf(stderr, "corpus %s has no input\n", folder.c_str());
    return false;
  }
  return true;
}

void RunOne(const CorpusRunOptions& options, const Target& target,
            const Input& input) {
  if (!options.current_input_file.empty()) {
    std::ofstream file(options.current_input_file,
                       std::ios::binary | std::ios::trunc);
    file.write(reinterpret_cast<const char*>(input.data()),
               static_cast<std::streamsize>(input.size()));
  }
  // A copy of the exact size, so that AddressSanitizer sees every access
  // past its end.
  const Input exact(input.begin(), input.end());
  target(exact.data(), exact.size());
}

}  // namespace

size_t RunCorpus(const CorpusRunOptions& options, const Target& target) {
  std::vector<Input> inputs;
  if (!ReadCorpus(options.corpus, inputs)) return 0;
  for (const Input& input : inputs) RunOne(options, target, input);

  Mutator mutator;
  for (size_t i = 0; i < options.mutations; ++i) {
    const Input& other = inputs[mutator.Below(inputs.size())];
    RunOne(options, target, mutator.Mutate(inputs[i % inputs.size()], other));
  }
  if (!options.current_input_file.empty()) {
    std::error_code ignored;
    fs::remove(options.current_input_file, ignored);
  }
  return inputs.size() + options.mutations;
}

}  // namespace vmsg::fuzz
