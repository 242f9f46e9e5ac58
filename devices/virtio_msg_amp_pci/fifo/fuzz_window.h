// What the fuzz targets of both layouts share: a window with guards around it,
// the input, taken byte by byte, and the operations that know no layout.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FUZZ_WINDOW_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FUZZ_WINDOW_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"

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

// What a device does all day. A batch ends, and has `most_taken` packets at the
// most, wherever the driver's index jumps meanwhile.
inline constexpr uint8_t kDeviceOps = 7;
inline void DoAsDevice(uint8_t op, uint32_t most_taken, DeviceFifo* fifo,
                       Input* input) {
  Packet packet;
  switch (op) {
    case 0: {
      uint32_t taken = 0;
      while (fifo->Receive(&packet)) ++taken;
      Require(taken <= most_taken);
      break;
    }
    case 1:
      fifo->Receive(&packet);
      break;
    case 2:
      fifo->CommitReceived();
      break;
    case 3: {
      const std::array<std::byte, 64> message = {};
      fifo->Send(std::span(message).first(input->Byte() % 65));
      break;
    }
    case 4:
      fifo->CommitSent();
      break;
    case 5:
      if (fifo->Poll()) {
        Require(fifo->has_handshake());
        fifo->Step();
      }
      break;
    case 6:
      fifo->HasRoom();
      fifo->Unread();
      break;
  }
}

}  // namespace vmsg::amp::fuzz

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_FIFO_FUZZ_WINDOW_H_
