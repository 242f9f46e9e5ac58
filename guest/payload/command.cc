#include "guest/payload/command.h"

#include <span>

namespace vmsg::guest {
namespace {

// Whether `line` starts with `word`; `*rest` is what follows it.
bool StartsWith(std::span<const char> line, const char* word,
                std::span<const char>* rest) {
  size_t i = 0;
  for (; word[i] != '\0'; ++i) {
    if (i == line.size() || line[i] != word[i]) return false;
  }
  *rest = line.subspan(i);
  return true;
}

// A decimal number from 1 to kMaxReadBytes, or 0.
uint32_t ParseBytes(std::span<const char> text) {
  uint32_t value = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return 0;
    value = value * 10 + static_cast<uint32_t>(c - '0');
    if (value > kMaxReadBytes) return 0;
  }
  return value;
}

}  // namespace

bool CommandReader::Add(char c, Command* command) {
  if (c == '\r') return false;
  if (c != '\n') {
    if (size_ < kMaxLine) {
      line_[size_++] = c;
    } else {
      too_long_ = true;
    }
    return false;
  }
  const bool empty = size_ == 0;
  *command = too_long_ ? Command{} : Parse();
  size_ = 0;
  too_long_ = false;
  return !empty;
}

Command CommandReader::Parse() const {
  const std::span<const char> line = std::span(line_).first(size_);
  std::span<const char> rest;
  if (StartsWith(line, "report", &rest) && rest.empty()) {
    return {.kind = Command::Kind::kReport};
  }
  if (StartsWith(line, "ping", &rest) && rest.empty()) {
    return {.kind = Command::Kind::kPing};
  }
  if (StartsWith(line, "poweroff", &rest) && rest.empty()) {
    return {.kind = Command::Kind::kPowerOff};
  }
  if (StartsWith(line, "read ", &rest)) {
    if (const uint32_t bytes = ParseBytes(rest); bytes != 0) {
      return {.kind = Command::Kind::kRead, .bytes = bytes};
    }
  }
  return {};
}

}  // namespace vmsg::guest
