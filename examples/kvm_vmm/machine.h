// Machine: PCI, the virtio-msg functions, their loops, and the control plane.

#ifndef VMSG_EXAMPLES_KVM_VMM_MACHINE_H_
#define VMSG_EXAMPLES_KVM_VMM_MACHINE_H_

#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "examples/kvm_vmm/guest_runner.h"
#include "vmm/base/log.h"
#include "vmm/control/device_manager.h"
#include "vmm/control/hotplug_bus.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/pci/pci_host_bridge.h"

namespace vmsg::example {

// One thread per FIFO. The control loop is run by the caller.
//
// Life: Create; Start; the guest runs; the guest is stopped; destroy.
class Machine {
 public:
  // Everything is borrowed and outlives the machine.
  static absl::StatusOr<std::unique_ptr<Machine>> Create(
      const std::vector<amp::AmpPciOptions>& functions, GuestRunner* guest,
      std::vector<control::PluggableFactory*> factories,
      vmm::EventLoop* control_loop, vmm::LogSink* log_sink);

  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;
  ~Machine();

  // Starts the FIFO threads.
  void Start();

  // Resets PCI and all functions, for a guest that starts again and does not
  // run now. Plugged devices stay. When it returns no device writes to the
  // guest's memory any more; waits for what each FIFO thread is at. Errors are
  // those of vmm::PciHostBridge::ResetAll.
  absl::Status Reset();

  control::DeviceManager* manager() { return manager_.get(); }
  const std::vector<std::unique_ptr<amp::AmpPciDevice>>& functions() const {
    return functions_;
  }

 private:
  Machine() = default;

  std::vector<std::unique_ptr<vmm::EpollEventLoop>> loops_;
  std::vector<std::thread> threads_;
  std::vector<std::unique_ptr<amp::AmpPciDevice>> functions_;
  std::unique_ptr<vmm::PciHostBridge> bridge_;
  std::unique_ptr<control::DeviceManager> manager_;
};

}  // namespace vmsg::example

#endif  // VMSG_EXAMPLES_KVM_VMM_MACHINE_H_
