#include "examples/kvm_vmm/machine.h"

#include <pthread.h>

#include <future>
#include <string>
#include <utility>
#include <vector>

namespace vmsg::example {

absl::StatusOr<std::unique_ptr<Machine>> Machine::Create(
    const std::vector<amp::AmpPciOptions>& functions, GuestRunner* guest,
    std::vector<control::PluggableFactory*> factories,
    vmm::EventLoop* control_loop, vmm::LogSink* log_sink) {
  std::unique_ptr<Machine> machine(new Machine);

  vmm::PciHostBridge::Options pci;
  pci.ecam = kEcamBase;
  pci.window_32bit = kPciWindow;
  absl::StatusOr<std::unique_ptr<vmm::PciHostBridge>> bridge =
      vmm::PciHostBridge::Create(pci, guest->mmio(), guest->pio(),
                                 guest->interrupts());
  if (!bridge.ok()) return bridge.status();
  machine->bridge_ = std::move(*bridge);

  std::vector<control::HotplugBus*> buses;
  for (const amp::AmpPciOptions& options : functions) {
    std::vector<vmm::EventLoop*> loops;
    for (uint32_t i = 0; i < options.num_fifos; ++i) {
      absl::StatusOr<std::unique_ptr<vmm::EpollEventLoop>> loop =
          vmm::EpollEventLoop::Create();
      if (!loop.ok()) return loop.status();
      loops.push_back(loop->get());
      machine->loops_.push_back(std::move(*loop));
    }
    absl::StatusOr<std::unique_ptr<amp::AmpPciDevice>> function =
        amp::AmpPciDevice::Create(options, guest->memory(), std::move(loops),
                                  log_sink);
    if (!function.ok()) return function.status();
    const absl::StatusOr<vmm::PciAddress> place =
        machine->bridge_->Add(function->get());
    if (!place.ok()) return place.status();
    for (uint32_t i = 0; i < (*function)->num_fifos(); ++i) {
      buses.push_back((*function)->bus(i));
    }
    machine->functions_.push_back(std::move(*function));
  }
  // What firmware would do.
  if (absl::Status status = machine->bridge_->AssignBars(); !status.ok()) {
    return status;
  }

  absl::StatusOr<std::unique_ptr<control::DeviceManager>> manager =
      control::DeviceManager::Create(control_loop, std::move(buses),
                                     std::move(factories), log_sink);
  if (!manager.ok()) return manager.status();
  machine->manager_ = std::move(*manager);
  return machine;
}

void Machine::Start() {
  for (size_t i = 0; i < loops_.size(); ++i) {
    threads_.emplace_back([loop = loops_[i].get()] { loop->Run(); });
    // For who looks at the threads: the FIFOs of all functions, in order.
    pthread_setname_np(threads_.back().native_handle(),
                       ("fifo" + std::to_string(i)).c_str());
  }
}

absl::Status Machine::Reset() {
  const absl::Status status = bridge_->ResetAll();
  if (threads_.empty()) return status;  // nobody would take a turn
  // DMA is off, but a copy that had begun goes on.
  std::vector<std::future<void>> turns;
  for (const auto& loop : loops_) {
    std::promise<void> turn;
    turns.push_back(turn.get_future());
    loop->Post([turn = std::move(turn)]() mutable { turn.set_value(); });
  }
  // Ready, too, when a loop that has stopped dropped it.
  for (std::future<void>& turn : turns) turn.wait();
  return status;
}

Machine::~Machine() {
  manager_.reset();
  for (const auto& loop : loops_) loop->Stop();
  for (std::thread& thread : threads_) thread.join();
  bridge_.reset();
  functions_.clear();
}

}  // namespace vmsg::example
