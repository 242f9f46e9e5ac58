// InProcessMachine: the driver code and the real device model in one process,
// with everything between them: PCI, MSI-X, doorbells, shared windows, DMA.

#ifndef VMSG_TESTS_IN_PROCESS_IN_PROCESS_MACHINE_H_
#define VMSG_TESTS_IN_PROCESS_IN_PROCESS_MACHINE_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "devices/virtio/rng/device.h"
#include "devices/virtio/virtio_device.h"
#include "devices/virtio_msg/monitor/rows.h"
#include "devices/virtio_msg/monitor/wire_monitor.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "gtest/gtest.h"
#include "guest/driver/testing/in_process_platform.h"
#include "guest/payload/entropy_program.h"
#include "vmm/base/mutex.h"
#include "vmm/control/hotplug_bus.h"
#include "vmm/event/epoll_event_loop.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/pci/pci_host_bridge.h"
#include "vmm/testing/manual_event_loop.h"

namespace vmsg {

struct MachineOptions {
  uint32_t functions = 1;
  uint32_t num_fifos = 2;
  amp::FifoLayout fifo_layout = amp::FifoLayout::kSpsc;
  // True: each FIFO has a loop and a thread of its own, time is real. False:
  // one loop, which runs while the driver waits; time is the test's.
  bool threads = false;
  bool with_doorbells = true;
  // False: the driver finds BARs that nobody has placed.
  bool assign_bars = true;
  // Devices see memory through an IOMMU only: the platform's; see
  // InProcessPlatform::Options.
  bool with_iommu = false;
  // Or through this one, of which the driver knows nothing. Borrowed.
  vmm::DmaTranslator* translator = nullptr;
  // As in AmpPciOptions.
  bool allow_untranslated = false;
  // The drivers of so many FIFOs of the first function do wrong on purpose, and
  // a lot of it. All others are judged.
  uint32_t hostile_fifos = 0;
};

// For INSTANTIATE_TEST_SUITE_P: letters and digits.
inline std::string LayoutTestName(
    const testing::TestParamInfo<amp::FifoLayout>& layout) {
  switch (layout.param) {
    case amp::FifoLayout::kSpsc:
      return "Spsc";
    case amp::FifoLayout::kShmemV1:
      return "ShmemV1";
    case amp::FifoLayout::kShmemV1Packed:
      return "ShmemV1Packed";
  }
  return "Unknown";
}

// Aborts the test program on errors of set-up, which are nobody's subject here.
// A wire monitor listens to each FIFO; what the driver did wrong fails the test
// when the machine ends.
class InProcessMachine {
 public:
  explicit InProcessMachine(const MachineOptions& options);
  ~InProcessMachine();

  guest::InProcessPlatform* platform() { return platform_.get(); }
  amp::AmpPciDevice* function(uint32_t n) { return functions_[n].get(); }
  vmm::PciHostBridge* bridge() { return bridge_.get(); }

  // Without threads: called, one at a time, when the driver sleeps without a
  // time limit and the device has had time to say what it has to say.
  void AddStep(absl::AnyInvocable<void()> step) {
    steps_.push_back(std::move(step));
  }

  // For a test that makes the driver break a row: that one is not held against
  // it when the machine ends.
  void Allow(msg::Row row) { allowed_.push_back(row); }

  // Runs `task` on the loop of a FIFO and returns when it is done.
  void RunOn(uint32_t function, uint32_t fifo, absl::AnyInvocable<void()> task);

  // Plugs an rng with the kernel's entropy.
  void Attach(uint32_t function, uint32_t fifo, uint32_t slot,
              const virtio::RngOptions& options = {});
  // Plugs what `make` makes on the FIFO's loop; its generation.
  uint64_t Plug(uint32_t function, uint32_t fifo, uint32_t slot,
                absl::AnyInvocable<
                    std::unique_ptr<virtio::VirtioDevice>(vmm::EventLoop* loop)>
                    make);
  // Starts a removal. gone() tells when it is over.
  void Detach(uint32_t function, uint32_t fifo, uint32_t slot,
              bool forced = false);
  bool gone(uint32_t function, uint32_t fifo, uint32_t slot);

  // Of the device that was attached there last, also after it has gone.
  virtio::RngStats rng_stats(uint32_t function, uint32_t fifo, uint32_t slot);

  control::SlotReport slot_report(uint32_t function, uint32_t fifo,
                                  uint32_t slot);

 private:
  struct Attached;

  void Pump(vmm::Duration max);
  void ExpectNoViolations(const amp::AmpPciDevice& function, uint32_t n) const;
  Attached* Find(uint32_t function, uint32_t fifo, uint32_t slot);

  const MachineOptions options_;
  vmm::ManualEventLoop manual_loop_;
  std::vector<std::unique_ptr<vmm::EpollEventLoop>> loops_;
  std::unique_ptr<guest::InProcessPlatform> platform_;
  std::vector<std::unique_ptr<amp::AmpPciDevice>> functions_;
  std::unique_ptr<vmm::PciHostBridge> bridge_;
  std::vector<std::thread> threads_;
  std::vector<std::unique_ptr<Attached>> attached_;
  uint64_t next_generation_ = 1;
  std::vector<msg::Row> allowed_;
  std::deque<absl::AnyInvocable<void()>> steps_;
  vmm::Duration idle_{0};
};

// A console whose lines a test reads, and that it types at.
//
// Threads: any.
class TestConsole final : public guest::Console {
 public:
  explicit TestConsole(guest::InProcessPlatform* platform)
      : platform_(platform) {}

  void Type(std::string_view text);
  void Close();

  std::string output() const;
  // The value of `key` in the last line with this word; "" when there is none.
  std::string Value(std::string_view word, std::string_view key) const;
  // Waits until there are `count` lines with this word; false after a time that
  // only a failing test needs. For machines with threads.
  bool WaitForLines(std::string_view word, size_t count);
  size_t Lines(std::string_view word) const;

  void Write(std::span<const char> line) override;
  bool Read(char* c) override;
  bool closed() override;
  uint64_t sleeps() override { return platform_->sleeps(); }

 private:
  size_t LinesLocked(std::string_view word) const
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  guest::InProcessPlatform* const platform_;
  mutable vmm::Mutex mutex_;
  vmm::CondVar changed_;
  std::vector<std::string> lines_ ABSL_GUARDED_BY(mutex_);
  std::deque<char> input_ ABSL_GUARDED_BY(mutex_);
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
};

// 64-bit FNV-1a as the guest prints it.
std::string HexDigest(uint64_t digest);

}  // namespace vmsg

#endif  // VMSG_TESTS_IN_PROCESS_IN_PROCESS_MACHINE_H_
