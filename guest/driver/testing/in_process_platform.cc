#include "guest/driver/testing/in_process_platform.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace vmsg::guest {
namespace {

// Where messages of this platform go, and the data of its first interrupt: as
// an x86 guest would choose them.
constexpr uint64_t kMsiAddress = 0xFEE00000;
constexpr uint32_t kFirstVector = 0x30;

uint64_t PageBytes() { return static_cast<uint64_t>(sysconf(_SC_PAGESIZE)); }

uint64_t EcamOffset(PciLocation where, uint16_t offset) {
  return uint64_t{where.device} << 15 | uint64_t{where.function} << 12 | offset;
}

}  // namespace

// Memory once more, the last page first: what a processor's page tables do.
class InProcessPlatform::ReversedView {
 public:
  // ResourceExhausted: no address space.
  static absl::StatusOr<std::unique_ptr<const ReversedView>> Create(
      const vmm::MemoryBacking& memory) {
    const uint64_t bytes = memory.size();
    void* const place =
        mmap(nullptr, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (place == MAP_FAILED) {
      return absl::ResourceExhaustedError("no room for a view of guest memory");
    }
    std::unique_ptr<const ReversedView> view(
        new ReversedView(static_cast<std::byte*>(place), bytes));
    const uint64_t page = PageBytes();
    for (uint64_t at = 0; at < bytes; at += page) {
      const auto offset =
          static_cast<off_t>(memory.fd_offset() + bytes - page - at);
      if (mmap(view->data_ + at, page, PROT_READ | PROT_WRITE,
               MAP_SHARED | MAP_FIXED, memory.fd(), offset) == MAP_FAILED) {
        return absl::ResourceExhaustedError("a page of guest memory");
      }
    }
    return view;
  }

  ReversedView(const ReversedView&) = delete;
  ReversedView& operator=(const ReversedView&) = delete;
  ~ReversedView() { munmap(data_, bytes_); }

  std::byte* data() const { return data_; }

 private:
  ReversedView(std::byte* data, uint64_t bytes) : data_(data), bytes_(bytes) {}

  std::byte* const data_;
  const uint64_t bytes_;
};

InProcessPlatform::~InProcessPlatform() = default;

absl::Status InProcessPlatform::SetUpIommu(vmm::GuestRange ram) {
  absl::StatusOr<std::unique_ptr<const ReversedView>> view =
      ReversedView::Create(*ram_);
  if (!view.ok()) return view.status();
  const uint64_t page = PageBytes();
  for (uint64_t at = 0; at < ram.size; at += page) {
    const absl::Status status =
        iommu_.Map({.iova = {{kIova.value + at}, page},
                    .physical = {ram.start.value + ram.size - page - at}});
    if (!status.ok()) return status;
  }
  view_ = *std::move(view);
  arena_ = Arena({view_->data(), ram.size}, kIova.value);
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<InProcessPlatform>> InProcessPlatform::Create(
    Options options) {
  absl::StatusOr<std::shared_ptr<const vmm::MemoryBacking>> ram =
      vmm::MemoryBacking::CreateAnonymous(options.ram.size, "guest-ram");
  if (!ram.ok()) return ram.status();
  const vmm::GuestRange where = options.ram;
  const bool with_iommu = options.with_iommu;
  vmm::MemoryRegion region;
  region.range = options.ram;
  region.backing = *ram;
  std::unique_ptr<InProcessPlatform> platform(
      new InProcessPlatform(std::move(options), *std::move(ram)));
  if (absl::Status status = platform->memory_.Add(std::move(region));
      !status.ok()) {
    return status;
  }
  // On the bus, too, so that nothing else is put on top of it.
  absl::StatusOr<std::unique_ptr<vmm::MmioMapping>> mapping =
      platform->mmio_.MapMemory("RAM", platform->ram_, 0,
                                platform->ram_->size());
  if (!mapping.ok()) return mapping.status();
  if (absl::Status status = (*mapping)->SetBase(where.start); !status.ok()) {
    return status;
  }
  platform->ram_mapping_ = *std::move(mapping);
  if (with_iommu) {
    if (absl::Status status = platform->SetUpIommu(where); !status.ok()) {
      return status;
    }
  }
  return platform;
}

InProcessPlatform::InProcessPlatform(
    Options options, std::shared_ptr<const vmm::MemoryBacking> ram)
    : ecam_(options.ecam),
      clock_(options.clock != nullptr ? options.clock : &steady_clock_),
      pump_(std::move(options.pump)),
      next_bar_(options.pci_window.start.value),
      bar_end_(options.pci_window.start.value + options.pci_window.size),
      ram_(std::move(ram)),
      arena_({ram_->data(), ram_->size()}, options.ram.start.value),
      mmio_(options.with_doorbells),
      controller_(
          [this](const vmm::MsiMessage& message) { OnMessage(message); }) {}

void InProcessPlatform::OnMessage(const vmm::MsiMessage& message) {
  vmm::MutexLock lock(&mutex_);
  const uint32_t id = message.data - kFirstVector;
  if (message.address != kMsiAddress || id >= kMaxInterrupts ||
      !counted_[id].in_use) {
    ++stray_;
    return;
  }
  ++counted_[id].count;
  ++total_;
  changed_.NotifyAll();
}

void InProcessPlatform::Wake() {
  vmm::MutexLock lock(&mutex_);
  ++total_;
  changed_.NotifyAll();
}

void InProcessPlatform::Shutdown() {
  vmm::MutexLock lock(&mutex_);
  shut_down_ = true;
  changed_.NotifyAll();
}

uint64_t InProcessPlatform::sleeps() const {
  vmm::MutexLock lock(&mutex_);
  return sleeps_;
}

uint64_t InProcessPlatform::stray_interrupts() const {
  vmm::MutexLock lock(&mutex_);
  return stray_;
}

// --- PCI and MMIO. ---

uint32_t InProcessPlatform::ReadConfig(PciLocation where, uint16_t offset,
                                       uint8_t width) {
  return static_cast<uint32_t>(
      ReadMmio(ecam_.value + EcamOffset(where, offset), width));
}

void InProcessPlatform::WriteConfig(PciLocation where, uint16_t offset,
                                    uint8_t width, uint32_t value) {
  WriteMmio(ecam_.value + EcamOffset(where, offset), width, value);
}

uint64_t InProcessPlatform::ReadMmio(uint64_t address, uint8_t width) {
  std::array<std::byte, 8> bytes = {};
  mmio_.Read({address}, std::span(bytes).first(width));
  uint64_t value = 0;
  for (size_t i = width; i-- > 0;) {
    value = value << 8 | std::to_integer<uint64_t>(bytes[i]);
  }
  return value;
}

void InProcessPlatform::WriteMmio(uint64_t address, uint8_t width,
                                  uint64_t value) {
  std::array<std::byte, 8> bytes;
  for (size_t i = 0; i < width; ++i) {
    bytes[i] = static_cast<std::byte>(value >> (8 * i));
  }
  mmio_.Write({address}, std::span(bytes).first(width));
}

std::byte* InProcessPlatform::MapMemory(uint64_t address, uint64_t bytes) {
  vmm::DispatchMmioBus::Direct direct = mmio_.Translate({{address}, bytes});
  if (direct.data == nullptr) return nullptr;
  mapped_.push_back(direct);
  return direct.data;
}

uint64_t InProcessPlatform::PlaceBar(uint64_t bytes) {
  const uint64_t address = (next_bar_ + bytes - 1) & ~(bytes - 1);
  if (address == 0 || address > bar_end_ || bytes > bar_end_ - address) {
    return 0;
  }
  next_bar_ = address + bytes;
  return address;
}

// --- Interrupts and time. ---

bool InProcessPlatform::CreateInterrupt(Interrupt* interrupt) {
  vmm::MutexLock lock(&mutex_);
  for (uint32_t id = 0; id < kMaxInterrupts; ++id) {
    if (counted_[id].in_use) continue;
    counted_[id] = {true, 0};
    *interrupt = {id, kMsiAddress, kFirstVector + id};
    return true;
  }
  return false;
}

void InProcessPlatform::ReleaseInterrupt(const Interrupt& interrupt) {
  vmm::MutexLock lock(&mutex_);
  counted_[interrupt.id].in_use = false;
}

uint64_t InProcessPlatform::CountLocked(uint32_t id) const {
  return id == kAnyInterrupt ? total_ : counted_[id].count;
}

uint64_t InProcessPlatform::InterruptCount(uint32_t id) {
  vmm::MutexLock lock(&mutex_);
  return CountLocked(id);
}

bool InProcessPlatform::NoteSleep(uint32_t id, uint64_t seen) {
  vmm::MutexLock lock(&mutex_);
  if (shut_down_ || CountLocked(id) != seen) return false;
  ++sleeps_;
  return true;
}

void InProcessPlatform::WaitForInterrupt(uint32_t id, uint64_t seen,
                                         uint64_t deadline_ns) {
  if (NowNs() >= deadline_ns || !NoteSleep(id, seen)) return;
  if (pump_) {
    while (InterruptCount(id) == seen) {
      const uint64_t now = NowNs();
      if (now >= deadline_ns) return;
      const uint64_t left = deadline_ns - now;
      pump_(std::chrono::nanoseconds(
          std::min<uint64_t>(left, std::chrono::nanoseconds::max().count())));
    }
    return;
  }
  // A wait without a deadline wakes up now and then, which costs nothing and
  // keeps the arithmetic of the condition variable in range.
  constexpr uint64_t kMaxSleepNs = 1'000'000'000;
  vmm::MutexLock lock(&mutex_);
  while (!shut_down_ && CountLocked(id) == seen) {
    const auto now =
        static_cast<uint64_t>(clock_->Now().time_since_epoch().count());
    if (now >= deadline_ns) return;
    changed_.WaitFor(&mutex_, std::chrono::nanoseconds(std::min<uint64_t>(
                                  deadline_ns - now, kMaxSleepNs)));
  }
}

uint64_t InProcessPlatform::NowNs() {
  {
    vmm::MutexLock lock(&mutex_);
    if (shut_down_) return kNoDeadline;
  }
  return static_cast<uint64_t>(clock_->Now().time_since_epoch().count());
}

}  // namespace vmsg::guest
