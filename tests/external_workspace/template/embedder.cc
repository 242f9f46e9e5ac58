// A program of another workspace that embeds vmsg: no gRPC, no KVM.

#include <cstdio>
#include <memory>
#include <thread>
#include <utility>

// [embed]
#include "devices/virtio/rng/device.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/interrupt/in_process_interrupt_controller.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci_host_bridge.h"

using namespace vmsg;  // NOLINT: a snippet

absl::Status RunDevice() {
  // What your VMM has already. Yours implements MmioBus, PioBus and
  // InterruptController; here they are the in-process ones.
  vmm::DispatchMmioBus mmio;
  vmm::DispatchPioBus pio;
  vmm::InProcessInterruptController interrupts(
      [](const vmm::MsiMessage&) { /* inject it into your vCPU */ });
  vmm::GuestMemory memory;
  auto ram = vmm::MemoryBacking::CreateAnonymous(64 << 20, "ram");
  if (!ram.ok()) return ram.status();
  vmm::MemoryRegion region;
  region.range = {vmm::GuestAddress{0}, 64 << 20};
  region.backing = *ram;
  if (auto status = memory.Add(region); !status.ok()) return status;

  // A PCI bus with one virtio-msg function. All its message and device work
  // runs on `loop`, and nothing on a vCPU thread.
  vmm::PciHostBridge::Options pci;
  pci.ecam = vmm::GuestAddress{0xE0000000};
  pci.window_32bit = {vmm::GuestAddress{0xC0000000}, 0x20000000};
  auto loop = vmm::EpollEventLoop::Create();
  if (!loop.ok()) return loop.status();
  auto amp = amp::AmpPciDevice::Create({.id = "amp0", .num_fifos = 2}, &memory,
                                       {loop->get()}, /*log_sink=*/nullptr);
  if (!amp.ok()) return amp.status();
  // Behind the function, which it takes off the bus when it goes.
  auto bridge = vmm::PciHostBridge::Create(pci, &mmio, &pio, &interrupts);
  if (!bridge.ok()) return bridge.status();
  if (auto place = (*bridge)->Add(amp->get()); !place.ok()) {
    return place.status();
  }
  if (auto status = (*bridge)->AssignBars(); !status.ok()) return status;

  // Plug an entropy device on FIFO 1, slot 3. While the loop runs on another
  // thread, do this from a closure that you Post() to it.
  auto rng = virtio::RngDevice::Create({}, virtio::CreateGetrandomSource(),
                                       loop->get());
  if (!rng.ok()) return rng.status();
  control::HotplugBus* const bus = (*amp)->bus(1);
  absl::Status plugged =
      bus->Plug(/*slot=*/3, /*generation=*/1,
                std::make_unique<amp::VirtioPluggable>(std::move(*rng)));
  if (!plugged.ok()) return plugged;

  std::thread fifos([&] { (*loop)->Run(); });
  // Here your vCPUs run. Each access that traps goes to mmio.Read() or Write().
  (*loop)->Stop();
  fifos.join();
  return absl::OkStatus();
}
// [embed]

int main() {
  const absl::Status status = RunDevice();
  if (!status.ok()) {
    std::printf("embedder: %s\n", status.ToString().c_str());
    return 1;
  }
  std::puts("embedder: ok");
  return 0;
}
