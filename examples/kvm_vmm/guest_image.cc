#include "examples/kvm_vmm/guest_image.h"

#include <array>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "examples/kvm_vmm/guest_runner.h"
#include "vmm/boot/acpi_tables.h"
#include "vmm/boot/elf_loader.h"
#include "vmm/boot/linux_loader.h"
#include "vmm/boot/long_mode.h"
#include "vmm/boot/read_file.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::example {
namespace {

constexpr uint64_t kMaxKernelBytes = uint64_t{1} << 30;

absl::Status Annotate(const std::string& path, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat(path, ": ", status.message()));
}

// See the contract in vmm/boot/long_mode.h.
absl::StatusOr<vmm::CpuState> LoadBareMetal(std::span<const std::byte> kernel,
                                            const GuestImage& image,
                                            const vmm::RamLayout& ram,
                                            vmm::DmaSpace* memory) {
  const absl::StatusOr<vmm::LoadedElf> elf = vmm::LoadElf(kernel, {}, memory);
  if (!elf.ok()) return elf.status();
  vmm::BootInfo info = {};
  info.ram_bytes = ram.low.size;
  info.ecam_base = kEcamBase.value;
  info.ecam_bytes = kEcamBytes;
  info.pci_window_base = kPciWindow.start.value;
  info.pci_window_bytes = kPciWindow.size;
  const absl::StatusOr<vmm::GuestAddress> boot_info =
      vmm::WriteBootInfo(info, image.command_line, memory);
  if (!boot_info.ok()) return boot_info.status();
  return vmm::SetUpLongMode(elf->entry, *boot_info, memory);
}

absl::StatusOr<vmm::CpuState> LoadLinuxGuest(std::span<const std::byte> kernel,
                                             const GuestImage& image,
                                             const vmm::RamLayout& ram,
                                             vmm::DmaSpace* memory) {
  std::vector<std::byte> initrd;
  if (!image.initrd.empty()) {
    absl::StatusOr<std::vector<std::byte>> file =
        vmm::ReadFile(image.initrd, ram.low.size);
    if (!file.ok()) return file.status();
    initrd = std::move(*file);
  }
  const vmm::GuestRange ecam = {kEcamBase, kEcamBytes};
  const absl::StatusOr<vmm::GuestAddress> rsdp =
      vmm::WriteAcpiTables({.vcpus = image.vcpus,
                            .ecam = ecam,
                            .window_32bit = kPciWindow,
                            .window_64bit = kHighPciWindow},
                           memory);
  if (!rsdp.ok()) return rsdp.status();
  vmm::LinuxBoot boot;
  boot.command_line = image.command_line;
  boot.map = vmm::ComputeMemoryMap(ram, std::array{ecam});
  boot.rsdp = *rsdp;
  return vmm::LoadLinux(kernel, initrd, boot, memory);
}

}  // namespace

absl::StatusOr<vmm::CpuState> LoadGuestImage(const GuestImage& image,
                                             const vmm::RamLayout& ram,
                                             vmm::GuestMemory* memory) {
  const absl::StatusOr<std::vector<std::byte>> kernel =
      vmm::ReadFile(image.kernel, kMaxKernelBytes);
  if (!kernel.ok()) return kernel.status();
  vmm::DmaSpace dma(memory);
  absl::StatusOr<vmm::CpuState> state;
  if (vmm::IdentifyKernel(*kernel) == vmm::KernelKind::kElf) {
    if (!image.initrd.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          image.kernel,
          ": an ELF file without PVH entry point: no Linux, or truncated, and "
          "another guest takes no initramfs"));
    }
    state = LoadBareMetal(*kernel, image, ram, &dma);
  } else {
    state = LoadLinuxGuest(*kernel, image, ram, &dma);
  }
  if (!state.ok()) return Annotate(image.kernel, state.status());
  return state;
}

}  // namespace vmsg::example
