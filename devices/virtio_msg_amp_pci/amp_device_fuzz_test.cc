// A guest that does whatever it likes, and an operator who plugs and unplugs
// meanwhile. Whatever happens, each step ends, the loop becomes idle, and after
// a function reset a driver finds a device that works.

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg_amp_pci/amp_device_fuzz_input.h"
#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "vmm/base/check.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp::fuzz {
namespace {

class Run {
 public:
  explicit Run(Input input) : input_(input) { m_.guest->Start(); }

  void Steps() {
    for (uint32_t i = 0; i < kMaxSteps && !input_.empty(); ++i) OneStep();
  }

  void ExpectWorkingDevice() {
    m_.device->Reset();
    m_.guest->Start();
    m_.loop.RunUntilIdle();
    for (uint32_t n = 0; n < kFifos; ++n) {
      VMSG_CHECK(m_.device->bus(n)->bus_report().state ==
                 control::BusState::kRunning);
      m_.guest->Attach(n);
      m_.guest->Send(n, RawPing(0x1234, n));
      m_.loop.RunUntilIdle();
      uint32_t answers = 0;
      for (const Bytes& packet : m_.guest->TakeAll(n)) {
        if (TypeOf(packet) != 0x03) continue;  // READY of what is plugged
        VMSG_CHECK(TokenOf(packet) == 0x1234 && PayloadWord(packet, 0) == n);
        ++answers;
      }
      VMSG_CHECK(answers == 1);
    }
  }

 private:
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
        constexpr std::array<size_t, 4> kIndices = {
            RawGuest::kDriverHead, RawGuest::kDriverTail, RawGuest::kDeviceHead,
            RawGuest::kDeviceTail};
        const uint32_t fifo = Fifo();
        const size_t index = kIndices[input_.Byte() % kIndices.size()];
        m_.guest->SetIndex(fifo, index, input_.Byte() % 64);
        break;
      }
      case Step::kPut:
        Put();
        break;
      case Step::kRing:
        m_.guest->Ring(Fifo());
        break;
      case Step::kTake: {
        const uint32_t fifo = Fifo();
        m_.guest->SetIndex(fifo, RawGuest::kDeviceTail,
                           m_.guest->Index(fifo, RawGuest::kDeviceHead));
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
    const uint32_t fifo = Fifo();
    const std::vector<std::byte> message = ShortBytes(64);
    const uint32_t head = m_.guest->Index(fifo, RawGuest::kDriverHead) % 62;
    vmm::CopyToShared(m_.guest->window(fifo) + 0x1080 + size_t{64} * head,
                      message);
    m_.guest->SetIndex(fifo, RawGuest::kDriverHead, (head + 1) % 62);
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
  AmpMachine m_{
      {.num_fifos = kFifos, .max_packets_per_wakeup = 8, .wire_monitor = true}};
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
