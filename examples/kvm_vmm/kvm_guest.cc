#include "examples/kvm_vmm/kvm_guest.h"

#include <atomic>
#include <cstddef>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "examples/kvm_vmm/serial_port.h"
#include "vmm/boot/elf_loader.h"
#include "vmm/boot/long_mode.h"
#include "vmm/boot/read_file.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/kvm/kvm_interrupt_controller.h"
#include "vmm/kvm/kvm_mmio_bus.h"
#include "vmm/kvm/kvm_vcpu.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::example {
namespace {

constexpr uint16_t kSerialPort = 0x3F8;
constexpr uint32_t kSerialIrq = 4;
constexpr uint16_t kPowerPort = 0x501;
constexpr uint64_t kMaxKernelBytes = 256 << 20;

class PowerSwitch final : public vmm::IoHandler {
 public:
  explicit PowerSwitch(absl::AnyInvocable<void(uint8_t)> pressed)
      : pressed_(std::move(pressed)) {}

  void Read(uint64_t /*offset*/, std::span<std::byte> data) override {
    for (std::byte& b : data) b = std::byte{0};
  }
  void Write(uint64_t /*offset*/, std::span<const std::byte> data) override {
    if (!was_pressed_.exchange(true)) {
      pressed_(std::to_integer<uint8_t>(data[0]));
    }
  }

 private:
  absl::AnyInvocable<void(uint8_t)> pressed_;
  std::atomic<bool> was_pressed_{false};
};

class KvmGuest final : public GuestRunner {
 public:
  explicit KvmGuest(ConsoleOutput console)
      : serial_(std::move(console),
                [this](bool high) {
                  // The pin exists; the kernel has no reason to refuse.
                  vm_->SetIrqLine(kSerialIrq, high).IgnoreError();
                }),
        power_([this](uint8_t code) {
          end_code_ = code;
          vcpu_->Stop();
        }) {}

  ~KvmGuest() override { vcpu_.reset(); }

  absl::Status Open(const std::string& kernel_path, uint64_t memory_bytes) {
    absl::StatusOr<std::unique_ptr<vmm::KvmVm>> vm = vmm::KvmVm::Create({});
    if (!vm.ok()) return vm.status();
    vm_ = std::move(*vm);
    absl::StatusOr<std::unique_ptr<vmm::KvmMmioBus>> mmio =
        vmm::KvmMmioBus::Create(vm_.get());
    if (!mmio.ok()) return mmio.status();
    mmio_ = std::move(*mmio);
    interrupts_ = std::make_unique<vmm::KvmInterruptController>(vm_.get());

    absl::StatusOr<std::shared_ptr<const vmm::MemoryBacking>> ram =
        vmm::MemoryBacking::CreateAnonymous(memory_bytes, "guest-ram");
    if (!ram.ok()) return ram.status();
    vmm::MemoryRegion region;
    region.range = {{0}, memory_bytes};
    region.backing = std::move(*ram);
    absl::Status status = memory_.Add(std::move(region));
    if (status.ok()) status = mmio_->SyncGuestMemory(memory_);
    if (!status.ok()) return status;

    absl::StatusOr<std::unique_ptr<vmm::KvmVcpu>> vcpu =
        vmm::KvmVcpu::Create({}, vm_.get(), mmio_.get(), &pio_);
    if (!vcpu.ok()) return vcpu.status();
    vcpu_ = std::move(*vcpu);
    status = Map(kSerialPort, SerialPort::kPorts, "serial", &serial_,
                 &serial_mapping_);
    if (status.ok()) {
      status = Map(kPowerPort, 1, "power switch", &power_, &power_mapping_);
    }
    if (status.ok()) status = Load(kernel_path, memory_bytes);
    return status;
  }

  std::string_view accel() const override { return "kvm"; }
  vmm::MmioBus* mmio() override { return mmio_.get(); }
  vmm::PioBus* pio() override { return &pio_; }
  vmm::InterruptController* interrupts() override { return interrupts_.get(); }
  vmm::GuestMemory* memory() override { return &memory_; }

  absl::Status Start(EndCallback on_end) override {
    return vcpu_->Start(
        [this, on_end = std::move(on_end)](const vmm::VcpuEnd& end) mutable {
          on_end(Describe(end));
        });
  }

  void Input(std::string_view bytes) override { serial_.Receive(bytes); }

  void Stop() override {
    vcpu_->Stop();
    vcpu_->Wait();
  }

  std::vector<std::pair<std::string, uint64_t>> exits() const override {
    std::vector<std::pair<std::string, uint64_t>> result;
    for (size_t i = 0; i < vmm::kVcpuExitCount; ++i) {
      const auto exit = static_cast<vmm::VcpuExit>(i);
      result.emplace_back(vmm::VcpuExitName(exit), vcpu_->exits(exit));
    }
    return result;
  }

 private:
  absl::Status Map(uint16_t port, uint16_t count, const char* name,
                   vmm::IoHandler* handler,
                   std::unique_ptr<vmm::MmioMapping>* mapping) {
    absl::StatusOr<std::unique_ptr<vmm::MmioMapping>> mapped =
        pio_.MapHandler(name, port, count, handler);
    if (!mapped.ok()) return mapped.status();
    *mapping = std::move(*mapped);
    return absl::OkStatus();
  }

  absl::Status Load(const std::string& path, uint64_t memory_bytes) {
    const absl::StatusOr<std::vector<std::byte>> image =
        vmm::ReadFile(path, kMaxKernelBytes);
    if (!image.ok()) return image.status();
    vmm::DmaSpace memory(&memory_);
    const absl::StatusOr<vmm::LoadedElf> elf =
        vmm::LoadElf(*image, {}, &memory);
    if (!elf.ok()) {
      return absl::Status(
          elf.status().code(),
          absl::StrCat(path, ": ", std::string(elf.status().message())));
    }
    vmm::BootInfo info = {};
    info.ram_bytes = memory_bytes;
    info.ecam_base = kEcamBase.value;
    info.ecam_bytes = kEcamBytes;
    info.pci_window_base = kPciWindow.start.value;
    info.pci_window_bytes = kPciWindow.size;
    const absl::StatusOr<vmm::GuestAddress> boot_info =
        vmm::WriteBootInfo(info, "", &memory);
    if (!boot_info.ok()) return boot_info.status();
    const absl::StatusOr<vmm::CpuState> state =
        vmm::SetUpLongMode(elf->entry, *boot_info, &memory);
    if (!state.ok()) return state.status();
    return vcpu_->SetState(*state);
  }

  GuestEnd Describe(const vmm::VcpuEnd& end) const {
    const int code = end_code_;
    if (end.reason != vmm::VcpuEnd::Reason::kStopped) {
      return {false,
              absl::StrCat(std::string(vmm::VcpuEndReasonName(end.reason)),
                           "\n", end.detail)};
    }
    if (code < 0) return {false, "stopped from outside"};
    if (code != 0) {
      return {false, absl::StrCat("the guest ended with code ", code)};
    }
    return {true, ""};
  }

  std::unique_ptr<vmm::KvmVm> vm_;
  std::unique_ptr<vmm::KvmMmioBus> mmio_;
  vmm::DispatchPioBus pio_;
  std::unique_ptr<vmm::KvmInterruptController> interrupts_;
  vmm::GuestMemory memory_;
  SerialPort serial_;
  PowerSwitch power_;
  std::atomic<int> end_code_{-1};
  std::unique_ptr<vmm::MmioMapping> serial_mapping_;
  std::unique_ptr<vmm::MmioMapping> power_mapping_;
  std::unique_ptr<vmm::KvmVcpu> vcpu_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<GuestRunner>> CreateKvmGuest(
    const std::string& kernel_path, uint64_t memory_bytes,
    GuestRunner::ConsoleOutput console) {
  auto guest = std::make_unique<KvmGuest>(std::move(console));
  if (absl::Status status = guest->Open(kernel_path, memory_bytes);
      !status.ok()) {
    return status;
  }
  return guest;
}

}  // namespace vmsg::example
