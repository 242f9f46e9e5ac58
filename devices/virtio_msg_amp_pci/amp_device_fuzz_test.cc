// A guest that does whatever it likes, and an operator who plugs and unplugs
// meanwhile. Whatever happens, each step ends, the loop becomes idle, and after
// a function reset a driver finds a device that works.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg_amp_pci/amp_device_fuzz_input.h"
#include "devices/virtio_msg_amp_pci/amp_device_fuzz_window.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/layout_driver.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "guest/driver/fifo.h"
#include "guest/driver/window_fifo.h"
#include "vmm/base/check.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp::fuzz {
namespace {

class Run {
 public:
  explicit Run(Input input)
      : input_(input),
        options_(input_.Options()),
        m_(MachineOptions(options_)) {
    for (uint32_t n = 0; n < kFifos; ++n) m_.DriverMayBreakAnything(n);
    m_.guest->Start();
  }

  void Steps() {
    for (uint32_t i = 0; i < kMaxSteps && !input_.empty(); ++i) OneStep();
  }

  void ExpectWorkingDevice() {
    m_.device->Reset();
    m_.guest->Start();
    m_.loop.RunUntilIdle();
    for (uint32_t n = 0; n < kFifos; ++n) {
      LayoutDriver driver(&m_, n);
      driver.Attach();
      VMSG_CHECK(m_.device->bus(n)->bus_report().state ==
                 control::BusState::kRunning);
      uint32_t answers = 0;
      for (const Bytes& packet : driver.Ask(RawPing(0x1234, n))) {
        // READY of what is plugged, and a PING of the device.
        if (TypeOf(packet) != 0x03) continue;
        VMSG_CHECK(TokenOf(packet) == 0x1234 && PayloadWord(packet, 0) == n);
        ++answers;
      }
      VMSG_CHECK(answers == 1);
    }
  }

 private:
  static FifoLayout Layout(uint8_t options) {
    switch (options & kLayoutMask) {
      case 1:
        return FifoLayout::kShmemV1;
      case 2:
        return FifoLayout::kShmemV1Packed;
      default:
        return FifoLayout::kSpsc;
    }
  }
  static AmpPciOptions MachineOptions(uint8_t options) {
    constexpr std::chrono::milliseconds kPing(20);
    AmpPciOptions machine = {.num_fifos = kFifos,
                             .fifo_layout = Layout(options),
                             .max_packets_per_wakeup = 8};
    if ((options & kPingBit) != 0) {
      machine.ping = {.interval = kPing, .timeout = kPing, .ask_first = true};
    }
    return machine;
  }
  Window WindowOf(uint32_t fifo) {
    return Window(m_.guest->window(fifo), Layout(options_));
  }

  uint32_t Fifo() { return input_.Byte() % kFifos; }

  std::vector<std::byte> ShortBytes(size_t limit) {
    std::vector<std::byte> bytes(input_.Byte() % (limit + 1));
    for (std::byte& byte : bytes) byte = std::byte{input_.Byte()};
    return bytes;
  }

  void OneStep() {
    switch (input_.NextStep()) {
      case Step::kMmioWrite: {
        const uint32_t bar = input_.Byte() % 3;
        const uint16_t offset = input_.Half();
        m_.guest->Write(bar, offset, ShortBytes(16));
        break;
      }
      case Step::kMmioRead: {
        const uint32_t bar = input_.Byte() % 3;
        const uint16_t offset = input_.Half();
        std::vector<std::byte> data(input_.Byte() % 17);
        m_.guest->Read(bar, offset, data);
        break;
      }
      case Step::kConfigWrite: {
        const uint8_t offset = input_.Byte();
        const uint8_t width = Width(offset);
        m_.guest->SetConfig(offset, width, input_.Word());
        break;
      }
      case Step::kConfigRead: {
        const uint8_t offset = input_.Byte();
        m_.guest->Config(offset, Width(offset));
        break;
      }
      case Step::kScribble: {
        const uint32_t fifo = Fifo();
        const size_t offset = input_.Half() % 0x4000 / 4 * 4;
        m_.guest->SetIndex(fifo, offset, input_.Word());
        break;
      }
      case Step::kSetIndex: {
        const Window window = WindowOf(Fifo());
        const uint32_t word = input_.Byte() % window.words();
        window.Store(static_cast<Window::Word>(word), input_.Byte() % 64);
        break;
      }
      case Step::kPut:
        Put();
        break;
      case Step::kRing:
        m_.guest->Ring(Fifo());
        break;
      case Step::kTake: {
        const Window window = WindowOf(Fifo());
        window.Store(Window::kDriverTook, window.Load(Window::kDevicePut));
        break;
      }
      case Step::kRun:
        m_.loop.RunUntilIdle();
        break;
      case Step::kRunOnce:
        m_.loop.RunOnce();
        break;
      case Step::kAdvance:
        m_.loop.AdvanceTime(std::chrono::milliseconds(input_.Byte()));
        break;
      case Step::kWriteRam: {
        const uint16_t offset = input_.Half();
        vmm::CopyToShared(m_.ram->data() + offset, ShortBytes(64));
        break;
      }
      case Step::kPlug:
        Plug();
        break;
      case Step::kUnplug: {
        const uint32_t fifo = Fifo();
        const uint32_t slot = input_.Byte() % 34;
        const bool forced = input_.Byte() % 2 != 0;
        m_.device->bus(fifo)
            ->Unplug(slot, generations_[fifo][slot], {.forced = forced}, [] {})
            .IgnoreError();
        break;
      }
      case Step::kResetFifo:
        m_.device->bus(Fifo())->ResetBus();
        break;
      case Step::kReset:
        m_.device->Reset();
        m_.guest->Start();
        break;
      case Step::kBusMaster:
        m_.guest->SetBusMaster(input_.Byte() % 2 != 0);
        break;
      case Step::kJoin:
        Join();
        break;
      case Step::kCount:
        break;
    }
  }

  // 1, 2 or 4, inside the configuration space.
  uint8_t Width(uint8_t offset) {
    uint8_t width = static_cast<uint8_t>(1 << input_.Byte() % 3);
    while (offset + width > 256) width /= 2;
    return width;
  }

  void Put() {
    const Window window = WindowOf(Fifo());
    const std::vector<std::byte> message = ShortBytes(64);
    const uint32_t at = window.Load(Window::kDriverPut) % window.slots();
    vmm::CopyToShared(window.DriverPacket(at), message);
    window.Store(Window::kDriverPut, (at + 1) % window.slots());
  }

  // The device may go along or not; it is asked for each step of a handshake.
  void Join() {
    constexpr int kMostSteps = 4;
    const uint32_t n = Fifo();
    guest::WindowFifo window;
    guest::Fifo* const fifo = window.Open(m_.guest->window(n));
    if (!fifo->Attach()) return;
    for (int i = 0; i < kMostSteps; ++i) {
      m_.guest->Ring(n);
      m_.loop.RunUntilIdle();
      if (fifo->state() == guest::FifoState::kRunning) return;
      fifo->Step();
    }
  }

  void Plug() {
    const uint32_t fifo = Fifo();
    const uint32_t slot = input_.Byte() % 34;
    const uint64_t generation = ++last_generation_;
    auto device = std::make_unique<virtio::DummyDevice>(
        virtio::DummyOptions{.seed = generation}, &m_.loop);
    if (m_.device->bus(fifo)
            ->Plug(slot, generation,
                   std::make_unique<VirtioPluggable>(std::move(device)))
            .ok()) {
      generations_[fifo][slot] = generation;
    }
  }

  Input input_;
  const uint8_t options_;
  AmpMachine m_;
  uint64_t last_generation_ = 0;
  std::array<std::array<uint64_t, 34>, kFifos> generations_ = {};
};

}  // namespace
}  // namespace vmsg::amp::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  vmsg::amp::fuzz::Run run{vmsg::amp::fuzz::Input(std::span(data, size))};
  run.Steps();
  run.ExpectWorkingDevice();
  return 0;
}
