// A sequence of operations on a FIFO, some of the device, some of a driver that
// writes whatever it likes wherever it likes. Whatever happens, the device ends
// each operation, writes nothing around the window, takes no more packets at
// once than two looks at the driver's index can announce, and works after a
// reset.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo/fuzz_window.h"
#include "devices/virtio_msg_amp_pci/fifo/spsc_layout.h"

namespace {

using vmsg::amp::DeviceFifo;
using vmsg::amp::FifoState;
using vmsg::amp::kSpscDeviceQueue;
using vmsg::amp::kSpscDriverQueue;
using vmsg::amp::kSpscHead;
using vmsg::amp::kSpscPacketBytes;
using vmsg::amp::kSpscPackets;
using vmsg::amp::kSpscTail;
using vmsg::amp::Packet;
using vmsg::amp::fuzz::DoAsDevice;
using vmsg::amp::fuzz::Input;
using vmsg::amp::fuzz::kDeviceOps;
using vmsg::amp::fuzz::Require;
using vmsg::amp::fuzz::Window;

// A reset of the function, and the first packet each way after it.
void RequireService(Window* window, DeviceFifo* fifo) {
  fifo->ClearWindow();
  fifo->Restart();
  Require(fifo->state() == FifoState::kRunning);
  Packet packet;
  Require(!fifo->Receive(&packet));
  std::memset(window->data() + kSpscDriverQueue + kSpscPackets, 0x77,
              kSpscPacketBytes);
  window->Store<uint32_t>(kSpscDriverQueue + kSpscHead, 1);
  Require(fifo->Receive(&packet));
  Require(packet.bytes[63] == std::byte{0x77});
  Require(fifo->Send(packet.bytes));
  fifo->CommitReceived();
  Require(fifo->CommitSent());
  Require(window->Load<uint32_t>(kSpscDriverQueue + kSpscTail) == 1);
  Require(window->Load<uint32_t>(kSpscDeviceQueue + kSpscHead) == 1);
  Require(window->data()[kSpscDeviceQueue + kSpscPackets + 63] ==
          std::byte{0x77});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto window = std::make_unique<Window>();
  window->Fill();
  const std::unique_ptr<DeviceFifo> fifo =
      vmsg::amp::CreateDeviceFifo(vmsg::amp::FifoLayout::kSpsc, window->data());
  Input input(data, size);
  constexpr std::array<size_t, 4> kIndices = {0x1000, 0x1040, 0x2000, 0x2040};
  uint32_t mark = 0;
  for (int steps = 0; steps < 2000 && !input.empty(); ++steps) {
    Packet packet;
    const uint8_t op = input.Byte() % 13;
    switch (op) {
      default:
        static_assert(kDeviceOps == 7);
        DoAsDevice(op, 2 * vmsg::amp::kSpscCapacity, fifo.get(), &input);
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
        window->Store(at, value);
        break;
      }
      case 11: {
        const size_t at = input.Word() % (Window::kBytes - 3);
        const uint32_t value = input.Word();
        window->Store(at, value);
        break;
      }
      case 12:
        fifo->ClearWindow();
        fifo->Restart();
        Require(window->Load<uint32_t>(0x1000) == 0);
        break;
    }
    Require((fifo->state() == FifoState::kBroken) ==
            (fifo->fault() != vmsg::amp::FifoFault::kNone));
  }
  RequireService(window.get(), fifo.get());
  Require(window->GuardsIntact());
  return 0;
}
