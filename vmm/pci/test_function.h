// TestFunction: a function with every kind of BAR, for the tests of this
// package.

#ifndef VMSG_VMM_PCI_TEST_FUNCTION_H_
#define VMSG_VMM_PCI_TEST_FUNCTION_H_

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "vmm/base/event_fd.h"
#include "vmm/base/mutex.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci_function.h"

namespace vmsg::vmm {

// Its registers are counted and read as kRegisterByte. It signals a doorbell
// for each 4-byte write to one that the handler gets.
class TestRegisters final : public IoHandler {
 public:
  static constexpr std::byte kRegisterByte{0x5A};
  static constexpr uint64_t kDoorbellOffset = 0x20;
  static constexpr uint32_t kDoorbells = 2;

  void Read(uint64_t, std::span<std::byte> data) override {
    ++reads;
    std::fill(data.begin(), data.end(), kRegisterByte);
  }
  void Write(uint64_t offset, std::span<const std::byte> data) override {
    ++writes;
    for (uint32_t i = 0; i < kDoorbells; ++i) {
      if (offset == kDoorbellOffset + 4 * i && data.size() == 4) {
        events[i].Signal();
      }
    }
  }

  std::atomic<int> reads = 0;
  std::atomic<int> writes = 0;
  std::vector<EventFd> events = MakeEvents();

 private:
  static std::vector<EventFd> MakeEvents() {
    std::vector<EventFd> made;
    for (uint32_t i = 0; i < kDoorbells; ++i) {
      made.push_back(EventFd::Create().value());
    }
    return made;
  }
};

// BAR 0: registers, 16 KiB, with doorbells. BAR 1: 8 KiB of memory,
// prefetchable. BAR 2: MSI-X, 4 KiB. BAR 4 and 5: registers, 64-bit.
class TestFunction final : public PciFunction {
 public:
  static constexpr uint64_t kBar0Bytes = 16384;
  static constexpr uint64_t kBar1Bytes = 8192;
  static constexpr uint32_t kVectors = 3;
  static constexpr uint32_t kPendingOffset = 0x800;
  static constexpr PciIdentity kIdentity = {.vendor_id = 0x10EE,
                                            .device_id = 0x9039,
                                            .revision = 1,
                                            .class_code = 0x08,
                                            .subclass = 0x80,
                                            .subsystem_vendor_id = 0x1AF4,
                                            .subsystem_id = 0x1100};

  struct Parts {
    std::shared_ptr<const MemoryBacking> memory;
    std::unique_ptr<TestRegisters> registers;
    std::unique_ptr<TestRegisters> registers64;
  };

  // `bar4_bytes` is the size of the 64-bit BAR.
  static std::unique_ptr<TestFunction> Create(std::string id,
                                              uint64_t bar4_bytes = 1 << 20) {
    Parts parts = {
        .memory = MemoryBacking::CreateAnonymous(kBar1Bytes, id).value(),
        .registers = std::make_unique<TestRegisters>(),
        .registers64 = std::make_unique<TestRegisters>()};
    return std::unique_ptr<TestFunction>(
        new TestFunction(std::move(id), std::move(parts), bar4_bytes));
  }
  ~TestFunction() override { Disconnect(); }

  TestRegisters& registers() { return *parts_.registers; }
  TestRegisters& registers64() { return *parts_.registers64; }
  const MemoryBacking& memory() const { return *parts_.memory; }

  // What the hooks were told, in order.
  std::vector<bool> bus_master_calls() const {
    MutexLock lock(&log_mutex_);
    return bus_master_calls_;
  }
  int resets() const { return resets_.load(); }

  // Called inside OnBusMasterChanged; set before use.
  std::function<void(bool)> on_bus_master;
  // Called inside OnReset.
  std::function<void()> on_reset;

 private:
  TestFunction(std::string id, Parts parts, uint64_t bar4_bytes)
      : PciFunction(std::move(id), kIdentity, MakeBars(parts, bar4_bytes),
                    {.bar = 2,
                     .vectors = kVectors,
                     .table_offset = 0,
                     .pending_offset = kPendingOffset,
                     .bar_size_bytes = 4096}),
        parts_(std::move(parts)) {}

  static std::vector<PciBar> MakeBars(const Parts& parts, uint64_t bar4_bytes) {
    PciBar registers = {.info = {.index = 0, .size_bytes = kBar0Bytes},
                        .handler = parts.registers.get()};
    for (uint32_t i = 0; i < TestRegisters::kDoorbells; ++i) {
      registers.doorbells.push_back(
          {.offset = TestRegisters::kDoorbellOffset + 4 * i,
           .event = &parts.registers->events[i]});
    }
    return {
        std::move(registers),
        {.info = {.index = 1, .size_bytes = kBar1Bytes, .prefetchable = true},
         .memory = parts.memory},
        {.info = {.index = 4,
                  .size_bytes = bar4_bytes,
                  .is_64bit = true,
                  .prefetchable = true},
         .handler = parts.registers64.get()}};
  }

  void OnBusMasterChanged(bool enabled) override {
    {
      MutexLock lock(&log_mutex_);
      bus_master_calls_.push_back(enabled);
    }
    if (on_bus_master) on_bus_master(enabled);
  }
  void OnReset() override {
    ++resets_;
    if (on_reset) on_reset();
  }

  const Parts parts_;
  mutable Mutex log_mutex_;
  std::vector<bool> bus_master_calls_ ABSL_GUARDED_BY(log_mutex_);
  std::atomic<int> resets_ = 0;
};

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_PCI_TEST_FUNCTION_H_
