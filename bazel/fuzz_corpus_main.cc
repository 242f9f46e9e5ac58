// main() of a vmsg_fuzz_test that is built without libFuzzer.

#include <cstdio>
#include <cstdlib>

#include "bazel/corpus_runner.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: %s CORPUS_FOLDER\n", argv[0]);
    return 2;
  }
  vmsg::fuzz::CorpusRunOptions options;
  options.corpus = argv[1];
  // Bazel keeps this folder and reports it with the test's result.
  if (const char* outputs = std::getenv("TEST_UNDECLARED_OUTPUTS_DIR")) {
    options.current_input_file = std::string(outputs) + "/crash_input";
  }
  const size_t ran =
      vmsg::fuzz::RunCorpus(options, [](const uint8_t* data, size_t size) {
        LLVMFuzzerTestOneInput(data, size);
      });
  if (ran == 0) return 1;
  std::printf("%zu inputs, %zu of them mutations\n", ran, options.mutations);
  return 0;
}
