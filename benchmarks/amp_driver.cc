#include "benchmarks/amp_driver.h"

#include <utility>

#include "vmm/base/check.h"

namespace vmsg::bench {
namespace {

constexpr vmm::GuestRange kPciWindow{{0xE8000000}, 0x1000000};

// What a benchmark can't go on without.
template <typename T>
T Value(absl::StatusOr<T> value) {
  VMSG_CHECK(value.ok(), std::string(value.status().message()));
  return *std::move(value);
}

}  // namespace

AmpDriver::AmpDriver(const amp::AmpPciOptions& options, vmm::EventLoop* loop,
                     vmm::InterruptController* interrupts) {
  guest::InProcessPlatform::Options machine;
  const vmm::GuestAddress ecam = machine.ecam;
  platform_ = Value(guest::InProcessPlatform::Create(std::move(machine)));
  device_ = Value(
      amp::AmpPciDevice::Create(options, platform_->memory(), {loop}, nullptr));
  bridge_ = Value(vmm::PciHostBridge::Create(
      {.ecam = ecam, .window_32bit = kPciWindow, .window_64bit = {}},
      platform_->mmio(), nullptr, interrupts));
  const vmm::PciAddress where = Value(bridge_->Add(device_.get()));
  VMSG_CHECK(bridge_->AssignBars().ok());

  VMSG_CHECK(function_.Open(platform_.get(), {where.device, where.function}) ==
             guest::Error::kNone);
  VMSG_CHECK(function_.num_fifos() == options.num_fifos);
  for (uint32_t n = 0; n < options.num_fifos; ++n) {
    fifos_[n] = windows_[n].Open(function_.window(n));
    VMSG_CHECK(fifos_[n]->Attach());
  }
}

void AmpDriver::Join(absl::FunctionRef<void()> run_loop) {
  constexpr int kRounds = 100;  // many more than it takes
  for (uint32_t n = 0; n < function_.num_fifos(); ++n) {
    guest::Fifo& joining = fifo(n);
    for (int i = 0; joining.state() != guest::FifoState::kRunning; ++i) {
      VMSG_CHECK(i < kRounds, "the device does not join");
      while (joining.Step()) {
      }
      RingDoorbell(n);
      run_loop();
    }
  }
}

AmpDriver::~AmpDriver() {
  function_.Close();
  bridge_.reset();
}

}  // namespace vmsg::bench
