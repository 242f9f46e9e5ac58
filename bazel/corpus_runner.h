// Runs a libFuzzer entry point over a corpus without libFuzzer.

#ifndef VMSG_BAZEL_CORPUS_RUNNER_H_
#define VMSG_BAZEL_CORPUS_RUNNER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace vmsg::fuzz {

using Input = std::vector<uint8_t>;

// Called once for each input; aborts the process when it finds a bug.
using Target = std::function<void(const uint8_t* data, size_t size)>;

struct CorpusRunOptions {
  // Folder with one input a file, searched recursively.
  std::string corpus;
  // How many mutated inputs follow the corpus, whatever its size. The same
  // corpus and count always give the same inputs.
  size_t mutations = 4096;
  // File that holds the input being run, so that an input which ended the
  // process is left behind. Removed at the end. None when empty.
  std::string current_input_file;
};

// Runs `target` over every file of the corpus in the order of their names, then
// over mutations of them. Returns how many inputs ran, or 0 with a message on
// stderr when the corpus is missing, unreadable or has no file, or when
// `current_input_file` can't be written.
// Blocks until done; one thread.
size_t RunCorpus(const CorpusRunOptions& options, const Target& target);

}  // namespace vmsg::fuzz

#endif  // VMSG_BAZEL_CORPUS_RUNNER_H_
