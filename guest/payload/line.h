// Line: one line of output, "vmsg-guest: word key=value ...".

#ifndef VMSG_GUEST_PAYLOAD_LINE_H_
#define VMSG_GUEST_PAYLOAD_LINE_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace vmsg::guest {

// Of fixed size: what does not fit is cut off, the line end is not.
class Line {
 public:
  // "vmsg-guest: <word>".
  explicit Line(const char* word);

  // " <key>=<value>".
  Line& Text(const char* key, const char* value);
  Line& Number(const char* key, uint64_t value);
  // "0x" and at least `digits` digits.
  Line& Hex(const char* key, uint64_t value, int digits = 1);
  // " <key><index>=<value>".
  Line& Indexed(const char* key, uint32_t index, uint64_t value);
  // " address=00:DD.F".
  Line& PciAddress(uint8_t device, uint8_t function);

  // The whole line with its '\n'. Add nothing after it.
  std::span<const char> Finish();

 private:
  static constexpr size_t kMaxBytes = 256;

  void Key(const char* key);
  void Put(char c);
  void Put(const char* text);
  void PutNumber(uint64_t value, uint32_t base, int digits);

  std::array<char, kMaxBytes> text_;
  size_t size_ = 0;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_PAYLOAD_LINE_H_
