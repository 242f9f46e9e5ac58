// Little-endian integers in byte sequences, for either byte order of the host.
// Everything that virtio 1 puts into memory is little-endian: virtio 1.2, 1.4.

#ifndef VMSG_DEVICES_VIRTIO_LITTLE_ENDIAN_H_
#define VMSG_DEVICES_VIRTIO_LITTLE_ENDIAN_H_

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace vmsg::virtio {

// T is an unsigned integer.
template <typename T>
inline T LoadLittle(std::span<const std::byte, sizeof(T)> bytes) {
  T value = 0;
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(&value, bytes.data(), sizeof(T));
  } else {
    for (size_t i = 0; i < sizeof(T); ++i) {
      value = static_cast<T>(value | (static_cast<T>(bytes[i]) << (8 * i)));
    }
  }
  return value;
}

template <typename T>
inline void StoreLittle(T value, std::span<std::byte, sizeof(T)> bytes) {
  if constexpr (std::endian::native == std::endian::little) {
    std::memcpy(bytes.data(), &value, sizeof(T));
  } else {
    for (size_t i = 0; i < sizeof(T); ++i) {
      bytes[i] = static_cast<std::byte>(value >> (8 * i));
    }
  }
}

}  // namespace vmsg::virtio

#endif  // VMSG_DEVICES_VIRTIO_LITTLE_ENDIAN_H_
