// Two KVM guests with the same program: ring, halt, be interrupted. One has a
// virtio-msg-amp-pci function, the other an ioeventfd and an irqfd with as
// little as possible between them.

#ifndef VMSG_BENCHMARKS_KVM_DOORBELLS_H_
#define VMSG_BENCHMARKS_KVM_DOORBELLS_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <thread>

#include "absl/status/statusor.h"
#include "benchmarks/doorbell_guest.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "vmm/base/event_fd.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/mutex.h"
#include "vmm/base/unique_fd.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/kvm/kvm_interrupt_controller.h"
#include "vmm/kvm/kvm_mmio_bus.h"
#include "vmm/kvm/kvm_vcpu.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci_host_bridge.h"

namespace vmsg::bench {

// Where a guest finds its doorbell, the window of its FIFO and what it needs of
// it.
struct DoorbellPlace {
  vmm::GuestAddress doorbell;
  vmm::GuestAddress window;
  FifoIndices fifo;
};

// VM, memory, one vCPU and the program on it. What goes wrong after KVM was
// opened fails a check.
//
// Threads: one, which constructs and destroys it too.
class DoorbellGuest {
 public:
  // The message that interrupts it.
  static constexpr vmm::MsiMessage kInterrupt = {
      .address = vmm::KvmInterruptController::kMsiBase, .data = 0x41};

  explicit DoorbellGuest(std::unique_ptr<vmm::KvmVm> vm);
  ~DoorbellGuest();

  vmm::KvmMmioBus* mmio() { return mmio_.get(); }
  vmm::KvmInterruptController* interrupts() { return &*interrupts_; }
  vmm::GuestMemory* memory() { return &memory_; }

  void Start(const DoorbellPlace& place);
  // Ends the program; before what it uses goes.
  void Stop();

  // Rings `count` doorbells, at least one. The time from the guest's first
  // instruction to its last.
  std::chrono::nanoseconds Ring(uint32_t count);

  // Of the guest's own counting.
  uint32_t interrupt_count() const;
  // Exits to user space so far.
  uint64_t exits() const { return vcpu_->total_exits(); }

 private:
  // Tells the guest how many, and stalls it until there are some.
  class Port final : public vmm::IoHandler {
   public:
    void Read(uint64_t offset, std::span<std::byte> data) override;
    void Write(uint64_t offset, std::span<const std::byte> data) override;
    std::chrono::nanoseconds Ring(uint32_t count);
    void End();

   private:
    using Time = std::chrono::steady_clock::time_point;

    // Until it waits for its next round.
    void AwaitGuest() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

    vmm::Mutex mutex_;
    vmm::CondVar changed_;
    uint32_t count_ ABSL_GUARDED_BY(mutex_) = 0;  // asked for, not begun
    bool waiting_ ABSL_GUARDED_BY(mutex_) = false;
    bool ended_ ABSL_GUARDED_BY(mutex_) = false;
    Time start_ ABSL_GUARDED_BY(mutex_);
    Time end_ ABSL_GUARDED_BY(mutex_);
  };

  void LoadProgram(const DoorbellPlace& place);

  const std::unique_ptr<vmm::KvmVm> vm_;
  const std::shared_ptr<const vmm::MemoryBacking> ram_;
  vmm::GuestMemory memory_;
  std::unique_ptr<vmm::KvmMmioBus> mmio_;
  vmm::DispatchPioBus pio_;
  std::optional<vmm::KvmInterruptController> interrupts_;
  Port port_;
  std::unique_ptr<vmm::MmioMapping> port_mapping_;
  std::unique_ptr<vmm::KvmVcpu> vcpu_;
};

// Each doorbell is a PING request that the device answers.
class AmpDoorbells {
 public:
  // As KvmVm::Create.
  static absl::StatusOr<std::unique_ptr<AmpDoorbells>> Create(
      amp::FifoLayout layout);
  ~AmpDoorbells();

  DoorbellGuest& guest() { return guest_; }
  amp::AmpPciDevice& device() { return *device_; }
  const DoorbellPlace& place() const { return place_; }

 private:
  AmpDoorbells(std::unique_ptr<vmm::KvmVm> vm, amp::FifoLayout layout);
  void OpenFunction(vmm::PciAddress where);
  // Each finds the indices, and puts a PING in each slot.
  void OpenSpscFifo();
  void OpenShmemFifo();
  void FillDriverQueue(uint64_t offset, uint32_t slots);
  // Rings until the device's 16-bit word at the offset of the window is this.
  void RingUntil(uint64_t offset, uint16_t value);

  DoorbellGuest guest_;
  const std::unique_ptr<vmm::EpollEventLoop> loop_;
  std::unique_ptr<amp::AmpPciDevice> device_;
  std::unique_ptr<vmm::PciHostBridge> bridge_;
  DoorbellPlace place_;
  std::thread thread_;
};

// Each doorbell costs one epoll_wait, one read and one write.
class MinimalDoorbells {
 public:
  // As KvmVm::Create. `place` of the other guest, so that both do the same.
  static absl::StatusOr<std::unique_ptr<MinimalDoorbells>> Create(
      const DoorbellPlace& place);
  ~MinimalDoorbells();

  DoorbellGuest& guest() { return guest_; }

 private:
  MinimalDoorbells(std::unique_ptr<vmm::KvmVm> vm, const DoorbellPlace& place);
  void ThreadMain();

  DoorbellGuest guest_;
  const vmm::EventFd doorbell_;
  const vmm::EventFd stop_;
  const vmm::UniqueFd epoll_;
  std::unique_ptr<vmm::MmioMapping> doorbell_mapping_;
  std::unique_ptr<vmm::MmioMapping> window_mapping_;
  std::unique_ptr<vmm::MsiRoute> route_;
  std::thread thread_;
};

}  // namespace vmsg::bench

#endif  // VMSG_BENCHMARKS_KVM_DOORBELLS_H_
