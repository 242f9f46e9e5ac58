#include "guest/payload/line.h"

namespace vmsg::guest {

Line::Line(const char* word) {
  Put("vmsg-guest: ");
  Put(word);
}

void Line::Put(char c) {
  // One place is kept for the line end.
  if (size_ + 1 < kMaxBytes) text_[size_++] = c;
}

void Line::Put(const char* text) {
  for (; *text != '\0'; ++text) Put(*text);
}

void Line::PutNumber(uint64_t value, uint32_t base, int digits) {
  std::array<char, 20> reversed;  // UINT64_MAX has 20 decimal digits
  int count = 0;
  do {
    const auto digit = static_cast<char>(value % base);
    reversed[static_cast<size_t>(count++)] =
        static_cast<char>(digit < 10 ? '0' + digit : 'a' + digit - 10);
    value /= base;
  } while (value != 0);
  for (int i = count; i < digits; ++i) Put('0');
  while (count > 0) Put(reversed[static_cast<size_t>(--count)]);
}

void Line::Key(const char* key) {
  Put(' ');
  Put(key);
  Put('=');
}

Line& Line::Text(const char* key, const char* value) {
  Key(key);
  Put(value);
  return *this;
}

Line& Line::Number(const char* key, uint64_t value) {
  Key(key);
  PutNumber(value, 10, 1);
  return *this;
}

Line& Line::Hex(const char* key, uint64_t value, int digits) {
  Key(key);
  Put("0x");
  PutNumber(value, 16, digits);
  return *this;
}

Line& Line::Indexed(const char* key, uint32_t index, uint64_t value) {
  Put(' ');
  Put(key);
  PutNumber(index, 10, 1);
  Put('=');
  PutNumber(value, 10, 1);
  return *this;
}

Line& Line::PciAddress(uint8_t device, uint8_t function) {
  Key("address");
  Put("00:");
  PutNumber(device, 16, 2);
  Put('.');
  PutNumber(function, 16, 1);
  return *this;
}

std::span<const char> Line::Finish() {
  text_[size_++] = '\n';
  return std::span(text_).first(size_);
}

}  // namespace vmsg::guest
