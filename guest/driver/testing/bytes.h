// Bytes written as the specification prints them.

#ifndef VMSG_GUEST_DRIVER_TESTING_BYTES_H_
#define VMSG_GUEST_DRIVER_TESTING_BYTES_H_

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace vmsg::guest {

// "00 02 05" to its bytes. Anything but hexadecimal digits separates bytes.
inline std::vector<std::byte> Bytes(std::string_view hex) {
  std::vector<std::byte> result;
  int digits = 0;
  unsigned value = 0;
  for (const char c : hex) {
    int digit = -1;
    if (c >= '0' && c <= '9') digit = c - '0';
    if (c >= 'a' && c <= 'f') digit = c - 'a' + 10;
    if (digit < 0) {
      digits = 0;
      value = 0;
      continue;
    }
    value = value << 4 | static_cast<unsigned>(digit);
    if (++digits == 2) {
      result.push_back(static_cast<std::byte>(value));
      digits = 0;
      value = 0;
    }
  }
  return result;
}

inline std::vector<std::byte> ToVector(std::span<const std::byte> bytes) {
  return std::vector<std::byte>(bytes.begin(), bytes.end());
}

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_TESTING_BYTES_H_
