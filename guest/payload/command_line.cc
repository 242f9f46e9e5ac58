#include "guest/payload/command_line.h"

#include <cstddef>

#include "guest/driver/features.h"

namespace vmsg::guest {
namespace {

bool IsWord(std::span<const char> text, const char* word) {
  size_t i = 0;
  for (; i < text.size() && word[i] != '\0'; ++i) {
    if (text[i] != word[i]) return false;
  }
  return i == text.size() && word[i] == '\0';
}

}  // namespace

Error ApplyCommandLine(std::span<const char> text,
                       EntropyProgramOptions* options) {
  Features& features = options->rng.features;
  size_t begin = 0;
  while (begin < text.size()) {
    size_t end = begin;
    while (end < text.size() && text[end] != ' ') ++end;
    const std::span<const char> word = text.subspan(begin, end - begin);
    begin = end + 1;
    if (IsWord(word, "ring=split")) {
      features = features.Without(kFeatureRingPacked);
    } else if (IsWord(word, "ring=packed")) {
      features = features.With(kFeatureRingPacked);
    } else if (!word.empty()) {
      return Error::kInvalidArgument;
    }
  }
  return Error::kNone;
}

}  // namespace vmsg::guest
