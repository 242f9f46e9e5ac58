#include "examples/kvm_vmm/machine.h"

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "examples/kvm_vmm/guest_runner.h"
#include "gtest/gtest.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/interrupt/in_process_interrupt_controller.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/testing/manual_event_loop.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::example {
namespace {

// Address spaces, and nobody in them.
class NoGuest final : public GuestRunner {
 public:
  std::string_view accel() const override { return "none"; }
  vmm::MmioBus* mmio() override { return &mmio_; }
  vmm::PioBus* pio() override { return nullptr; }
  vmm::InterruptController* interrupts() override { return &interrupts_; }
  vmm::GuestMemory* memory() override { return &memory_; }
  absl::Status Start(EndCallback) override { return absl::OkStatus(); }
  void Input(std::string_view) override {}
  void Stop() override {}
  std::vector<std::pair<std::string, uint64_t>> exits() const override {
    return {};
  }

 private:
  vmm::GuestMemory memory_;
  vmm::DispatchMmioBus mmio_;
  vmm::InProcessInterruptController interrupts_{[](const vmm::MsiMessage&) {}};
};

TEST(MachineTest, ResetWaitsForWhatEachFifoIsAt) {
  NoGuest guest;
  vmm::ManualEventLoop control;
  ASSERT_OK_AND_ASSIGN(
      const auto machine,
      Machine::Create({{.id = "amp0"}}, &guest, {}, &control, nullptr));
  machine->Start();
  std::atomic<bool> at_work = false;
  std::atomic<bool> end = false;
  machine->functions()[0]->bus(1)->loop()->Post([&] {
    at_work = true;
    while (!end) std::this_thread::yield();
  });
  while (!at_work) std::this_thread::yield();

  std::atomic<bool> done = false;
  std::thread reset([&] {
    EXPECT_OK(machine->Reset());
    done = true;
  });
  // No time proves that it waits, but one that does not is soon there.
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_FALSE(done);
  end = true;
  reset.join();
}

TEST(MachineTest, ResetBeforeTheThreadsRunWaitsForNobody) {
  NoGuest guest;
  vmm::ManualEventLoop control;
  ASSERT_OK_AND_ASSIGN(
      const auto machine,
      Machine::Create({{.id = "amp0"}}, &guest, {}, &control, nullptr));
  EXPECT_OK(machine->Reset());
}

}  // namespace
}  // namespace vmsg::example
