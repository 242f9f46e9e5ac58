// A sequence of operations on a FIFO, some of the device, some of a driver that
// writes whatever it likes wherever it likes. Whatever happens, the device ends
// each operation, writes nothing around the window, and takes no more packets
// at once than two looks at the driver's index can announce.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo/spsc_layout.h"

namespace {

using vmsg::amp::DeviceFifo;
using vmsg::amp::FifoState;
using vmsg::amp::Packet;

void Require(bool condition) {
  if (!condition) std::abort();
}

struct Window {
  static constexpr size_t kGuard = 4096;
  alignas(4096) std::array<std::byte, kGuard + 16384 + kGuard> bytes;
  std::byte* data() { return bytes.data() + kGuard; }
};

class Input {
 public:
  Input(const uint8_t* data, size_t size) : data_(data), size_(size) {}
  bool empty() const { return size_ == 0; }
  uint8_t Byte() {
    if (size_ == 0) return 0;
    --size_;
    return *data_++;
  }
  uint32_t Word() {
    uint32_t value = 0;
    for (int i = 0; i < 4; ++i) value = value << 8 | Byte();
    return value;
  }

 private:
  const uint8_t* data_;
  size_t size_;
};

uint32_t Index(Window* window, size_t at) {
  uint32_t value;
  std::memcpy(&value, window->data() + at, sizeof(value));
  return value;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto window = std::make_unique<Window>();
  window->bytes.fill(std::byte{0x5A});
  const std::unique_ptr<DeviceFifo> fifo =
      vmsg::amp::CreateDeviceFifo(vmsg::amp::FifoLayout::kSpsc, window->data());
  Input input(data, size);
  constexpr std::array<size_t, 4> kIndices = {0x1000, 0x1040, 0x2000, 0x2040};
  uint32_t mark = 0;
  for (int steps = 0; steps < 2000 && !input.empty(); ++steps) {
    Packet packet;
    switch (input.Byte() % 13) {
      case 0: {
        uint32_t taken = 0;
        while (fifo->Receive(&packet)) ++taken;
        Require(taken <= 2 * vmsg::amp::kSpscCapacity);
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
        fifo->Send(std::span(message).first(input.Byte() % 65));
        break;
      }
      case 4:
        fifo->CommitSent();
        break;
      case 5:
        Require(!fifo->Poll());
        break;
      case 6:
        fifo->HasRoom();
        fifo->HasUnread();
        break;
      case 7:
        fifo->Reset();
        Require(fifo->state() == FifoState::kRunning);
        Require(!fifo->Receive(&packet));
        break;
      case 8:
        mark = fifo->DriverLeft();
        break;
      case 9:
        fifo->DropDriver(mark);
        break;
      case 10: {
        const size_t at = kIndices[input.Byte() % kIndices.size()];
        const uint32_t value = input.Byte() % 64;
        std::memcpy(window->data() + at, &value, sizeof(value));
        break;
      }
      case 11: {
        const size_t at = input.Word() % (16384 - 3);
        const uint32_t value = input.Word();
        std::memcpy(window->data() + at, &value, sizeof(value));
        break;
      }
      case 12:
        fifo->ClearWindow();
        fifo->Restart();
        Require(Index(window.get(), 0x1000) == 0);
        break;
    }
    Require((fifo->state() == FifoState::kBroken) ==
            (fifo->fault() != vmsg::amp::FifoFault::kNone));
  }
  // Nothing was written around the window.
  const auto untouched = [](std::byte b) { return b == std::byte{0x5A}; };
  Require(std::all_of(window->bytes.begin(),
                      window->bytes.begin() + Window::kGuard, untouched));
  Require(std::all_of(window->bytes.end() - Window::kGuard, window->bytes.end(),
                      untouched));
  return 0;
}
