// InProcessPlatform: runs driver code in a process of the host against the real
// device model, without a guest. Used by tests, fuzzers, benchmarks, and by
// VMMs where there is no KVM.

#ifndef VMSG_GUEST_DRIVER_TESTING_IN_PROCESS_PLATFORM_H_
#define VMSG_GUEST_DRIVER_TESTING_IN_PROCESS_PLATFORM_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "guest/driver/arena.h"
#include "guest/driver/platform.h"
#include "vmm/base/clock.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/interrupt/in_process_interrupt_controller.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/iova_map.h"

namespace vmsg::guest {

// The machine around the driver code: RAM (all of it is the DMA arena), maybe
// an IOMMU, an MMIO bus, and an interrupt controller that counts. PCI is
// reached through ECAM, as by a guest: create the host bridge with ECAM at
// `ecam`, on mmio() and interrupts().
//
// Threads: any, but dma_arena(), MapMemory() and PlaceBar(), which are for one
// thread at a time. So several threads can each drive FIFOs of their own.
class InProcessPlatform final : public Platform {
 public:
  struct Options {
    // Whole pages; nothing else can be mapped there.
    vmm::GuestRange ram{{0x100000}, 4 << 20};
    vmm::GuestAddress ecam{0xE0000000};
    // For BARs that nobody has placed; where PciHostBridge::AssignBars did it,
    // leave it empty.
    vmm::GuestRange pci_window{};
    // Single-threaded use: called instead of sleeping, until the wait is over.
    // It does some of the device's work, or lets the clock go on by at most
    // `max`.
    absl::AnyInvocable<void(vmm::Duration max)> pump;
    // Borrowed, outlives the platform. Null: CLOCK_MONOTONIC, which only works
    // without a pump, or with one that takes real time.
    const vmm::Clock* clock = nullptr;
    // Devices reach RAM through iommu() only, as a guest with an IOMMU has it:
    // what is contiguous to the driver and to devices is in another order in
    // guest-physical memory, page by page.
    bool with_iommu = false;
    // False: doorbell writes go to the device's handler.
    bool with_doorbells = true;
  };

  // Where devices see RAM with an IOMMU; above what is 32 bits wide.
  static constexpr vmm::GuestAddress kIova{uint64_t{0x5a} << 32};

  // Errors are those of making the RAM and of mapping it.
  static absl::StatusOr<std::unique_ptr<InProcessPlatform>> Create(
      Options options);

  ~InProcessPlatform();

  // What devices are connected to. They are gone before the platform.
  vmm::DispatchMmioBus* mmio() { return &mmio_; }
  vmm::InterruptController* interrupts() { return &controller_; }
  vmm::GuestMemory* memory() { return &memory_; }
  // Null without. All of RAM is mapped at kIova, in pages.
  vmm::IovaMap* iommu() { return view_ != nullptr ? &iommu_ : nullptr; }

  // Counts as an interrupt of nobody: ends waits for kAnyInterrupt.
  void Wake();

  // Ends all waits, now and later, by letting time run out: NowNs() is
  // kNoDeadline from now on. For stopping a driver from outside.
  void Shutdown();

  // Waits that did sleep (or pump).
  uint64_t sleeps() const;
  // Messages to no interrupt of this platform: a device's mistake.
  uint64_t stray_interrupts() const;

  // --- Platform. ---

  uint32_t ReadConfig(PciLocation where, uint16_t offset,
                      uint8_t width) override;
  void WriteConfig(PciLocation where, uint16_t offset, uint8_t width,
                   uint32_t value) override;
  uint64_t ReadMmio(uint64_t address, uint8_t width) override;
  void WriteMmio(uint64_t address, uint8_t width, uint64_t value) override;
  std::byte* MapMemory(uint64_t address, uint64_t bytes) override;
  uint64_t PlaceBar(uint64_t bytes) override;
  Arena* dma_arena() override { return &arena_; }
  bool translates_dma() const override { return view_ != nullptr; }
  bool CreateInterrupt(Interrupt* interrupt) override;
  void ReleaseInterrupt(const Interrupt& interrupt) override;
  uint64_t InterruptCount(uint32_t id) override;
  void WaitForInterrupt(uint32_t id, uint64_t seen,
                        uint64_t deadline_ns) override;
  uint64_t NowNs() override;
  void Log(const char*) override {}

 private:
  static constexpr uint32_t kMaxInterrupts = 64;

  class ReversedView;

  InProcessPlatform(Options options,
                    std::shared_ptr<const vmm::MemoryBacking> ram);

  absl::Status SetUpIommu(vmm::GuestRange ram);

  void OnMessage(const vmm::MsiMessage& message);
  uint64_t CountLocked(uint32_t id) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool NoteSleep(uint32_t id, uint64_t seen);

  const vmm::GuestAddress ecam_;
  const vmm::SteadyClock steady_clock_;
  const vmm::Clock* const clock_;
  absl::AnyInvocable<void(vmm::Duration)> pump_;  // the driver's thread
  uint64_t next_bar_;
  const uint64_t bar_end_;

  const std::shared_ptr<const vmm::MemoryBacking> ram_;
  vmm::GuestMemory memory_;
  vmm::IovaMap iommu_;
  std::unique_ptr<const ReversedView> view_;  // with an IOMMU
  Arena arena_;
  vmm::DispatchMmioBus mmio_;
  std::unique_ptr<vmm::MmioMapping> ram_mapping_;
  vmm::InProcessInterruptController controller_;
  // Memory behind BARs that was mapped; it stays until the end.
  std::vector<vmm::DispatchMmioBus::Direct> mapped_;

  mutable vmm::Mutex mutex_;
  vmm::CondVar changed_;
  struct Counted {
    bool in_use = false;
    uint64_t count = 0;
  };
  std::array<Counted, kMaxInterrupts> counted_ ABSL_GUARDED_BY(mutex_) = {};
  // All interrupts, also of released numbers, and wakes.
  uint64_t total_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t stray_ ABSL_GUARDED_BY(mutex_) = 0;
  uint64_t sleeps_ ABSL_GUARDED_BY(mutex_) = 0;
  bool shut_down_ ABSL_GUARDED_BY(mutex_) = false;
};

}  // namespace vmsg::guest

#endif  // VMSG_GUEST_DRIVER_TESTING_IN_PROCESS_PLATFORM_H_
