// What the fuzz targets of both layouts share: a window with guards around it,
// and the input, taken byte by byte.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FUZZ_WINDOW_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FUZZ_WINDOW_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace vmsg::amp::fuzz {

inline void Require(bool condition) {
  if (!condition) std::abort();
}

// A FIFO's memory. Its bytes are a driver's, who leaves them as they come.
class Window {
 public:
  static constexpr size_t kBytes = 16384;

  // Of a driver that was never there.
  void Fill() { std::memset(bytes_.data(), kFill, bytes_.size()); }

  std::byte* data() { return bytes_.data() + kGuard; }

  // `at` + sizeof(T) is within the window.
  template <typename T>
  T Load(size_t at) {
    T value;
    std::memcpy(&value, data() + at, sizeof(value));
    return value;
  }
  template <typename T>
  void Store(size_t at, T value) {
    std::memcpy(data() + at, &value, sizeof(value));
  }

  // Nothing was written around the window since Fill().
  bool GuardsIntact() const {
    std::array<std::byte, kGuard> expected;
    std::memset(expected.data(), kFill, kGuard);
    return std::memcmp(bytes_.data(), expected.data(), kGuard) == 0 &&
           std::memcmp(bytes_.data() + kGuard + kBytes, expected.data(),
                       kGuard) == 0;
  }

 private:
  static constexpr size_t kGuard = 4096;
  static constexpr int kFill = 0x5A;

  alignas(4096) std::array<std::byte, kGuard + kBytes + kGuard> bytes_;
};

// Zeroes once it has ended.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint16_t Half() {
    const int high = Byte();
    return static_cast<uint16_t>(high << 8 | Byte());
  }
  uint32_t Word() {
    const uint32_t high = Half();
    return high << 16 | Half();
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

}  // namespace vmsg::amp::fuzz

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FUZZ_WINDOW_H_
