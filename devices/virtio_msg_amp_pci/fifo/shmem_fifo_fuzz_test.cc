// A sequence of operations on a FIFO of layout `shmem-v1`, some of the device,
// some of a driver that shakes hands, restarts, and writes whatever it likes
// wherever it likes. Whatever happens, the device ends each operation, writes
// nothing around the window, takes no more packets at once than two looks at
// the driver's index can announce, and a driver that starts anew is served.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo/fuzz_window.h"
#include "devices/virtio_msg_amp_pci/fifo/shmem_layout.h"

namespace {

using vmsg::amp::DeviceFifo;
using vmsg::amp::FifoFault;
using vmsg::amp::FifoLayout;
using vmsg::amp::FifoState;
using vmsg::amp::kShmemPacked;
using vmsg::amp::kShmemRegion;
using vmsg::amp::kShmemSpread;
using vmsg::amp::Packet;
using vmsg::amp::ShmemPlacement;
using vmsg::amp::fuzz::DoAsDevice;
using vmsg::amp::fuzz::Input;
using vmsg::amp::fuzz::kDeviceOps;
using vmsg::amp::fuzz::Require;
using vmsg::amp::fuzz::Window;

// Every word of the layout has 16 bits, and stands in the region.
uint16_t Half(Window* window, size_t at) {
  return window->Load<uint16_t>(kShmemRegion + at);
}
void Half(Window* window, size_t at, uint16_t value) {
  window->Store(kShmemRegion + at, value);
}

void Settle(DeviceFifo* fifo) {
  for (int i = 0; i < 4 && fifo->Poll(); ++i) fifo->Step();
}

// A driver that does everything right, from whatever state.
void RequireService(Window* window, DeviceFifo* fifo,
                    const ShmemPlacement& at) {
  Half(window, at.drv_head + 2u, 0);
  Half(window, at.drv_head, 0x514F);
  Settle(fifo);
  Half(window, at.drv_head + 4u, 0);
  Half(window, at.drv_head + 6u, 0);
  Half(window, at.drv_head + 2u, 1);
  Settle(fifo);
  Half(window, at.drv_head + 2u, 2);
  Settle(fifo);
  Require(fifo->state() == FifoState::kRunning);
  Require(Half(window, at.dev_head + 2u) == 2);
  Packet packet;
  Require(!fifo->Receive(&packet));
  std::memset(window->data() + kShmemRegion + at.drv_elements, 0x77, 64);
  Half(window, at.drv_head + 4u, 1);
  Require(fifo->Receive(&packet));
  Require(packet.bytes[63] == std::byte{0x77});
  Require(fifo->Send(packet.bytes));
  fifo->CommitReceived();
  Require(fifo->CommitSent());
  Require(Half(window, at.dev_head + 4u) == 1);
  Require(Half(window, at.dev_head + 6u) == 1);
  Require(window->data()[kShmemRegion + at.dev_elements] == std::byte{0x77});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto window = std::make_unique<Window>();
  window->Fill();
  Input input(data, size);
  const bool packed = input.Byte() % 2 != 0;
  const ShmemPlacement& at = packed ? kShmemPacked : kShmemSpread;
  const std::unique_ptr<DeviceFifo> fifo = vmsg::amp::CreateDeviceFifo(
      packed ? FifoLayout::kShmemV1Packed : FifoLayout::kShmemV1,
      window->data());
  for (int steps = 0; steps < 2000 && !input.empty(); ++steps) {
    Packet packet;
    const uint8_t op = input.Byte() % 14;
    switch (op) {
      default:
        static_assert(kDeviceOps == 7);
        DoAsDevice(op, 2u * at.elements, fifo.get(), &input);
        break;
      case 7:
        fifo->Reset();
        Require(fifo->state() == FifoState::kWaiting);
        Require(Half(window.get(), at.dev_head) == 0x514F);
        Require(!fifo->Receive(&packet));
        break;
      case 8:
        fifo->DropDriver(fifo->DriverLeft());
        Require(fifo->state() == FifoState::kWaiting);
        break;
      case 9:
        // A state, with the magic.
        Half(window.get(), at.drv_head + 2u, input.Byte());
        Half(window.get(), at.drv_head, 0x514F);
        break;
      case 10:
        // An index of the driver.
        Half(window.get(), at.drv_head + 4u + 2u * (input.Byte() % 2),
             input.Byte() % 66);
        break;
      case 11:
        // One of our own words.
        Half(window.get(), at.dev_head + 2u * (input.Byte() % 4), input.Half());
        break;
      case 12: {
        const size_t where = input.Half() % (Window::kBytes - 1);
        const uint16_t value = input.Half();
        window->Store(where, value);
        break;
      }
      case 13:
        RequireService(window.get(), fifo.get(), at);
        break;
    }
    Require((fifo->state() == FifoState::kBroken) ==
            (fifo->fault() != FifoFault::kNone));
  }
  RequireService(window.get(), fifo.get(), at);
  Require(window->GuardsIntact());
  return 0;
}
