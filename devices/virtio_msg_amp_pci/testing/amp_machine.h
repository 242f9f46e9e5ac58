// AmpMachine: one function with everything around it, on a loop and a clock
// that the test drives.

#ifndef VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_AMP_MACHINE_H_
#define VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_AMP_MACHINE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "devices/virtio_msg/testing/broken_rows.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "vmm/base/check.h"
#include "vmm/base/log.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/testing/fake_interrupt_controller.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg::amp {

// Keeps the lines.
class RememberingLogSink final : public vmm::LogSink {
 public:
  void Write(const vmm::LogRecord& record) override {
    lines.push_back(std::string(record.source) + ": " +
                    std::string(record.message));
  }
  std::vector<std::string> lines;
};

// The drivers of all FIFOs are judged by wire monitors: the test fails at the
// end of the machine when one has broken other rows than DriverBreaks() says.
struct AmpMachine {
  static constexpr vmm::GuestAddress kRam{0x100000};
  static constexpr uint64_t kRamBytes = 0x100000;

  // The guest has not started: call guest->Start().
  explicit AmpMachine(const AmpPciOptions& options = {},
                      bool bus_doorbells = true)
      : mmio(bus_doorbells) {
    auto made = vmm::MemoryBacking::CreateAnonymous(kRamBytes, "ram");
    VMSG_CHECK(made.ok());
    ram = *std::move(made);
    VMSG_CHECK(memory.Add({.range = {kRam, kRamBytes}, .backing = ram}).ok());
    AmpPciOptions watched = options;
    watched.wire_monitor = true;
    auto created = AmpPciDevice::Create(watched, &memory, {&loop}, &log);
    VMSG_CHECK(created.ok());
    device = *std::move(created);
    verdicts.resize(device->num_fifos());
    guest.emplace(device.get(), &mmio, &interrupts);
  }
  ~AmpMachine() {
    for (uint32_t n = 0; n < verdicts.size(); ++n) {
      verdicts[n].Check(*device->wire_monitor(n),
                        absl::StrJoin(log.lines, "\n"));
    }
  }

  // The rows that the driver of FIFO `n` breaks, by their ids in the order of
  // the table: "DRV-INIT-1 DRV-VQ-1".
  void DriverBreaks(std::string_view rows, uint32_t n = 0) {
    verdicts[n].Expect(rows);
  }
  void DriverMayBreakAnything(uint32_t n) { verdicts[n].ExpectAnything(); }

  // Moves what can move; then the packets that FIFO `n` has for the driver.
  std::vector<Bytes> Run(uint32_t n = 0) {
    loop.RunUntilIdle();
    return guest->TakeAll(n);
  }

  RememberingLogSink log;
  std::shared_ptr<const vmm::MemoryBacking> ram;
  vmm::ManualEventLoop loop;
  vmm::GuestMemory memory;
  vmm::DispatchMmioBus mmio;
  vmm::FakeInterruptController interrupts;
  std::unique_ptr<AmpPciDevice> device;
  std::vector<msg::DriverVerdict> verdicts;  // by FIFO
  std::optional<RawGuest> guest;  // goes first: disconnects the device
};

}  // namespace vmsg::amp

#endif  // VMSG_DEVICES_VIRTIO_MSG_AMP_PCI_TESTING_AMP_MACHINE_H_
