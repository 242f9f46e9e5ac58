#include "examples/kvm_vmm/kvm_guest.h"

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "examples/kvm_vmm/platform_ports.h"
#include "examples/kvm_vmm/serial_port.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/kvm/kvm_interrupt_controller.h"
#include "vmm/kvm/kvm_mmio_bus.h"
#include "vmm/kvm/kvm_vcpu.h"
#include "vmm/kvm/kvm_vm.h"

namespace vmsg::example {
namespace {

constexpr uint16_t kSerialPort = 0x3F8;
constexpr uint32_t kSerialIrq = 4;
constexpr uint16_t kPowerPort = 0x501;

class PowerSwitch final : public vmm::IoHandler {
 public:
  explicit PowerSwitch(absl::AnyInvocable<void(uint8_t)> pressed)
      : pressed_(std::move(pressed)) {}

  void Read(uint64_t /*offset*/, std::span<std::byte> data) override {
    for (std::byte& b : data) b = std::byte{0};
  }
  void Write(uint64_t /*offset*/, std::span<const std::byte> data) override {
    pressed_(std::to_integer<uint8_t>(data[0]));
  }

 private:
  absl::AnyInvocable<void(uint8_t)> pressed_;
};

GuestEnd EndWithCode(uint8_t code) {
  if (code == 0) return {.ok = true};
  return {.detail = absl::StrCat("the guest ended with code ", code)};
}

class KvmGuest final : public GuestRunner {
 public:
  KvmGuest(GuestImage image, ConsoleOutput console)
      : image_(std::move(image)),
        serial_(std::move(console),
                [this](bool high) {
                  // The pin exists; the kernel has no reason to refuse.
                  vm_->SetIrqLine(kSerialIrq, high).IgnoreError();
                }),
        power_([this](uint8_t code) { EndRun(EndWithCode(code)); }),
        ports_([this] { EndRun({.ok = true}); },
               [this] { EndRun({.ok = true, .reboot = true}); }) {}

  ~KvmGuest() override {
    Stop();
    vcpus_.clear();
  }

  absl::Status Open(uint64_t memory_bytes) {
    const absl::StatusOr<vmm::RamLayout> ram =
        vmm::ComputeRamLayout(memory_bytes);
    if (!ram.ok()) return ram.status();
    ram_ = *ram;
    absl::StatusOr<std::unique_ptr<vmm::KvmVm>> vm =
        vmm::KvmVm::Create({.with_pit = true});
    if (!vm.ok()) return vm.status();
    vm_ = std::move(*vm);
    absl::StatusOr<std::unique_ptr<vmm::KvmMmioBus>> mmio =
        vmm::KvmMmioBus::Create(vm_.get());
    if (!mmio.ok()) return mmio.status();
    mmio_ = std::move(*mmio);
    interrupts_ = std::make_unique<vmm::KvmInterruptController>(vm_.get());

    absl::Status status = AddRam();
    for (uint32_t id = 0; status.ok() && id < image_.vcpus; ++id) {
      auto vcpu = vmm::KvmVcpu::Create({.id = id, .vcpus = image_.vcpus},
                                       vm_.get(), mmio_.get(), &pio_);
      if (!vcpu.ok()) return vcpu.status();
      vcpus_.push_back(std::move(*vcpu));
    }
    if (status.ok()) {
      status = Map(kSerialPort, SerialPort::kPorts, "serial", &serial_,
                   &serial_mapping_);
    }
    if (status.ok()) {
      status = Map(kPowerPort, 1, "power switch", &power_, &power_mapping_);
    }
    if (status.ok()) status = ports_.Map(&pio_);
    return status;
  }

  std::string_view accel() const override { return "kvm"; }
  vmm::MmioBus* mmio() override { return mmio_.get(); }
  vmm::PioBus* pio() override { return &pio_; }
  vmm::InterruptController* interrupts() override { return interrupts_.get(); }
  vmm::GuestMemory* memory() override { return &memory_; }

  absl::Status Start(EndCallback on_end) override {
    absl::Status status = started_ ? ResetAll() : absl::OkStatus();
    started_ = true;
    if (!status.ok()) return status;
    const absl::StatusOr<vmm::CpuState> state =
        LoadGuestImage(image_, ram_, &memory_);
    if (!state.ok()) return state.status();
    status = vcpus_[0]->SetState(*state);
    if (!status.ok()) return status;
    {
      vmm::MutexLock lock(&mutex_);
      end_.reset();
      on_end_ = std::move(on_end);
    }
    // The others wait for the first one to wake them.
    // NOLINTNEXTLINE(modernize-loop-convert): backwards.
    for (auto vcpu = vcpus_.rbegin(); vcpu != vcpus_.rend(); ++vcpu) {
      status =
          (*vcpu)->Start([this](const vmm::VcpuEnd& end) { OnVcpuEnd(end); });
      if (!status.ok()) return status;
    }
    return absl::OkStatus();
  }

  void Input(std::string_view bytes) override { serial_.Receive(bytes); }

  void Stop() override {
    for (const auto& vcpu : vcpus_) vcpu->Stop();
    for (const auto& vcpu : vcpus_) vcpu->Wait();
  }

  std::vector<std::pair<std::string, uint64_t>> exits() const override {
    std::vector<std::pair<std::string, uint64_t>> result;
    for (size_t i = 0; i < vmm::kVcpuExitCount; ++i) {
      const auto exit = static_cast<vmm::VcpuExit>(i);
      uint64_t count = 0;
      for (const auto& vcpu : vcpus_) count += vcpu->exits(exit);
      result.emplace_back(vmm::VcpuExitName(exit), count);
    }
    return result;
  }

 private:
  absl::Status AddRam() {
    const absl::StatusOr<std::shared_ptr<const vmm::MemoryBacking>> backing =
        vmm::MemoryBacking::CreateAnonymous(ram_.bytes(), "guest-ram");
    if (!backing.ok()) return backing.status();
    absl::Status status = memory_.Add({.range = ram_.low, .backing = *backing});
    if (status.ok() && ram_.high.size != 0) {
      status = memory_.Add({.range = ram_.high,
                            .backing = *backing,
                            .backing_offset = ram_.low.size});
    }
    return status.ok() ? mmio_->SyncGuestMemory(memory_) : status;
  }

  absl::Status Map(uint16_t port, uint16_t count, const char* name,
                   vmm::IoHandler* handler,
                   std::unique_ptr<vmm::MmioMapping>* mapping) {
    absl::StatusOr<std::unique_ptr<vmm::MmioMapping>> mapped =
        pio_.MapHandler(name, port, count, handler);
    if (!mapped.ok()) return mapped.status();
    *mapping = std::move(*mapped);
    return absl::OkStatus();
  }

  absl::Status ResetAll() {
    serial_.Reset();  // lowers its line, too
    ports_.Reset();
    absl::Status status = vm_->Reset();
    for (const auto& vcpu : vcpus_) {
      if (status.ok()) status = vcpu->Reset();
    }
    return status;
  }

  // On a vCPU thread, from a handler: the guest ends itself. The first one
  // counts.
  void EndRun(GuestEnd end) {
    {
      vmm::MutexLock lock(&mutex_);
      if (!end_.has_value()) end_ = std::move(end);
    }
    for (const auto& vcpu : vcpus_) vcpu->Stop();
  }

  // On a vCPU thread, its last act. The first one reports the end of all.
  void OnVcpuEnd(const vmm::VcpuEnd& end) {
    EndCallback on_end;
    GuestEnd result;
    {
      vmm::MutexLock lock(&mutex_);
      if (!end_.has_value()) end_ = Describe(end);
      result = *end_;
      on_end = std::exchange(on_end_, nullptr);
    }
    if (on_end != nullptr) on_end(std::move(result));
  }

  static GuestEnd Describe(const vmm::VcpuEnd& end) {
    if (end.reason == vmm::VcpuEnd::Reason::kStopped) {
      return {.detail = "stopped from outside"};
    }
    return {.detail =
                absl::StrCat(std::string(vmm::VcpuEndReasonName(end.reason)),
                             "\n", end.detail)};
  }

  const GuestImage image_;
  vmm::RamLayout ram_;
  std::unique_ptr<vmm::KvmVm> vm_;
  std::unique_ptr<vmm::KvmMmioBus> mmio_;
  vmm::DispatchPioBus pio_;
  std::unique_ptr<vmm::KvmInterruptController> interrupts_;
  vmm::GuestMemory memory_;
  SerialPort serial_;
  PowerSwitch power_;
  PlatformPorts ports_;
  std::unique_ptr<vmm::MmioMapping> serial_mapping_;
  std::unique_ptr<vmm::MmioMapping> power_mapping_;
  std::vector<std::unique_ptr<vmm::KvmVcpu>> vcpus_;
  bool started_ = false;  // before: control thread

  vmm::Mutex mutex_;
  std::optional<GuestEnd> end_ ABSL_GUARDED_BY(mutex_);  // of this run
  EndCallback on_end_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace

absl::StatusOr<std::unique_ptr<GuestRunner>> CreateKvmGuest(
    const GuestImage& image, uint64_t memory_bytes,
    GuestRunner::ConsoleOutput console) {
  auto guest = std::make_unique<KvmGuest>(image, std::move(console));
  if (absl::Status status = guest->Open(memory_bytes); !status.ok()) {
    return status;
  }
  return guest;
}

}  // namespace vmsg::example
