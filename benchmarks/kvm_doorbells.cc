#include "benchmarks/kvm_doorbells.h"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>

#include "guest/driver/message.h"
#include "vmm/base/check.h"
#include "vmm/boot/long_mode.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::bench {
namespace {

constexpr uint64_t kRamBytes = 4 << 20;
// A round of doorbells takes milliseconds.
constexpr std::chrono::seconds kPatience(60);
constexpr uint64_t kCode = 0x100000;
constexpr uint64_t kIdt = 0x110000;
constexpr uint64_t kParameters = 0x120000;
constexpr vmm::GuestRange kPciWindow{{0xE0000000}, 0x1000000};

// amp-pci-device, 3.1.
constexpr uint64_t kSpscDriverQueue = 0x1000;
constexpr uint64_t kSpscDeviceQueue = 0x2000;
constexpr uint64_t kSpscHead = 0;
constexpr uint64_t kSpscTail = 0x40;
constexpr uint64_t kSpscPackets = 0x80;
constexpr uint32_t kSpscSlots = 62;

// Section 3.2: in the header, and in a queue head.
constexpr uint64_t kShmemRegion = 0x1000;
constexpr uint64_t kShmemElements = 10;
constexpr uint64_t kShmemDeviceHead = 24;
constexpr uint64_t kShmemDriverHead = 48;
constexpr uint64_t kShmemDriverElements = 56;
constexpr uint64_t kShmemStatus = 2;
constexpr uint64_t kShmemTail = 4;
constexpr uint64_t kShmemHead = 6;
constexpr uint16_t kShmemMagic = 0x514F;
constexpr uint16_t kShmemReady = 1;
constexpr uint16_t kShmemRun = 2;

// PCI Local Bus 3.0, 6.1 and 6.8.2.
constexpr uint16_t kCommand = 0x04;
constexpr uint32_t kMemoryAndBusMaster = 0x6;
constexpr uint16_t kBar0 = 0x10;
constexpr uint16_t kCapabilities = 0x34;
constexpr uint8_t kMsixCapability = 0x11;
constexpr uint32_t kMsixEnable = 0x8000;

template <typename T>
T Value(absl::StatusOr<T> value) {
  VMSG_CHECK(value.ok(), std::string(value.status().message()));
  return *std::move(value);
}

void Require(const absl::Status& status) {
  VMSG_CHECK(status.ok(), std::string(status.message()));
}

vmm::GuestAddress At(vmm::GuestAddress base, uint64_t offset) {
  return {base.value + offset};
}

template <typename T>
T ReadWord(vmm::KvmMmioBus* mmio, vmm::GuestAddress where) {
  T value = 0;
  VMSG_CHECK(mmio->Read(where, std::as_writable_bytes(std::span(&value, 1))));
  return value;
}

template <typename T>
void WriteWord(vmm::KvmMmioBus* mmio, vmm::GuestAddress where, T value) {
  VMSG_CHECK(mmio->Write(where, std::as_bytes(std::span(&value, 1))));
}

// An interrupt gate to 64-bit code below 4 GiB (Intel SDM volume 3, 6.14.1),
// with the code segment of vmm/boot/long_mode.h.
std::array<uint64_t, 2> InterruptGate(uint64_t handler) {
  return {(handler & 0xFFFF) | uint64_t{0x08} << 16 | uint64_t{0x8E00} << 32 |
              (handler >> 16) << 48,
          0};
}

}  // namespace

// --- DoorbellGuest. ---

void DoorbellGuest::Port::Read(uint64_t /*offset*/, std::span<std::byte> data) {
  vmm::MutexLock lock(&mutex_);
  end_ = std::chrono::steady_clock::now();
  waiting_ = true;
  changed_.NotifyAll();
  while (count_ == 0 && !ended_) changed_.Wait(&mutex_);
  waiting_ = false;
  const uint32_t count = std::exchange(count_, 0);
  for (size_t i = 0; i < data.size(); ++i) {
    data[i] = static_cast<std::byte>(count >> (8 * i));
  }
  start_ = std::chrono::steady_clock::now();
}

void DoorbellGuest::Port::Write(uint64_t /*offset*/,
                                std::span<const std::byte> /*data*/) {}

std::chrono::nanoseconds DoorbellGuest::Port::Ring(uint32_t count) {
  vmm::MutexLock lock(&mutex_);
  AwaitGuest();
  count_ = count;
  waiting_ = false;
  changed_.NotifyAll();
  AwaitGuest();
  return end_ - start_;
}

void DoorbellGuest::Port::AwaitGuest() {
  while (!waiting_) {
    VMSG_CHECK(changed_.WaitFor(&mutex_, kPatience),
               "a doorbell has not become an interrupt");
  }
}

void DoorbellGuest::Port::End() {
  vmm::MutexLock lock(&mutex_);
  ended_ = true;
  changed_.NotifyAll();
}

DoorbellGuest::DoorbellGuest(std::unique_ptr<vmm::KvmVm> vm)
    : vm_(std::move(vm)),
      ram_(Value(vmm::MemoryBacking::CreateAnonymous(kRamBytes, "ram"))) {
  Require(memory_.Add({.range = {{0}, kRamBytes}, .backing = ram_}));
  mmio_ = Value(vmm::KvmMmioBus::Create(vm_.get()));
  Require(mmio_->SyncGuestMemory(memory_));
  interrupts_.emplace(vm_.get());
  port_mapping_ = Value(pio_.MapHandler("rounds", kGuestPort, 4, &port_));
  vcpu_ = Value(vmm::KvmVcpu::Create({}, vm_.get(), mmio_.get(), &pio_));
}

DoorbellGuest::~DoorbellGuest() { Stop(); }

void DoorbellGuest::LoadProgram(const DoorbellPlace& place) {
  vmm::CopyToShared(ram_->data() + kCode, DoorbellGuestCode());
  const auto gate = InterruptGate(kCode + DoorbellGuestHandlerOffset());
  vmm::CopyToShared(ram_->data() + kIdt + kInterrupt.data * sizeof(gate),
                    std::as_bytes(std::span(gate)));
  GuestParameters parameters;
  parameters.idt_limit =
      static_cast<uint16_t>((kInterrupt.data + 1) * sizeof(gate) - 1);
  std::memcpy(parameters.idt_base, &kIdt, sizeof(kIdt));
  parameters.doorbell = place.doorbell.value;
  parameters.fifo = place.fifo;
  vmm::CopyToShared(ram_->data() + kParameters,
                    std::as_bytes(std::span(&parameters, 1)));
}

void DoorbellGuest::Start(const DoorbellPlace& place) {
  LoadProgram(place);
  vmm::DmaSpace dma(&memory_);
  Require(
      vcpu_->SetState(Value(vmm::SetUpLongMode({kCode}, {kParameters}, &dma))));
  Require(vcpu_->Start([](const vmm::VcpuEnd& end) {
    VMSG_CHECK(end.reason == vmm::VcpuEnd::Reason::kStopped, end.detail);
  }));
}

void DoorbellGuest::Stop() {
  vcpu_->Stop();
  port_.End();
  vcpu_->Wait();
}

std::chrono::nanoseconds DoorbellGuest::Ring(uint32_t count) {
  VMSG_CHECK(count != 0);
  return port_.Ring(count);
}

uint32_t DoorbellGuest::interrupt_count() const {
  return vmm::LoadShared<uint32_t>(
      ram_->data() + kParameters + offsetof(GuestParameters, interrupts),
      std::memory_order_acquire);
}

// --- AmpDoorbells. ---

absl::StatusOr<std::unique_ptr<AmpDoorbells>> AmpDoorbells::Create(
    amp::FifoLayout layout) {
  absl::StatusOr<std::unique_ptr<vmm::KvmVm>> vm = vmm::KvmVm::Create({});
  if (!vm.ok()) return vm.status();
  return std::unique_ptr<AmpDoorbells>(
      new AmpDoorbells(*std::move(vm), layout));
}

AmpDoorbells::AmpDoorbells(std::unique_ptr<vmm::KvmVm> vm,
                           amp::FifoLayout layout)
    : guest_(std::move(vm)), loop_(Value(vmm::EpollEventLoop::Create())) {
  device_ =
      Value(amp::AmpPciDevice::Create({.num_fifos = 1, .fifo_layout = layout},
                                      guest_.memory(), {loop_.get()}, nullptr));
  bridge_ = Value(vmm::PciHostBridge::Create(
      {.ecam = {}, .window_32bit = kPciWindow, .window_64bit = {}},
      guest_.mmio(), nullptr, guest_.interrupts()));
  const vmm::PciAddress where = Value(bridge_->Add(device_.get()));
  Require(bridge_->AssignBars());
  OpenFunction(where);
  thread_ = std::thread([this] { loop_->Run(); });
  if (layout == amp::FifoLayout::kSpsc) {
    OpenSpscFifo();
  } else {
    OpenShmemFifo();
  }
  guest_.Start(place_);
}

// The guest is too small to bring up a function itself.
void AmpDoorbells::OpenFunction(vmm::PciAddress where) {
  const auto bar = [&](uint32_t index) {
    return vmm::GuestAddress{
        bridge_->ReadConfig(where, static_cast<uint16_t>(kBar0 + 4 * index),
                            4) &
        ~0xFu};
  };
  place_.doorbell = At(bar(amp::kRegisterBar), amp::kRegNotify);
  place_.window = bar(amp::kFifoBar);

  const vmm::GuestAddress table = At(bar(amp::kMsixBar), amp::kMsixTableOffset);
  WriteWord(guest_.mmio(), table,
            static_cast<uint32_t>(DoorbellGuest::kInterrupt.address));
  WriteWord(guest_.mmio(), At(table, 4), uint32_t{0});
  WriteWord(guest_.mmio(), At(table, 8), DoorbellGuest::kInterrupt.data);
  WriteWord(guest_.mmio(), At(table, 12), uint32_t{0});
  const auto msix =
      static_cast<uint16_t>(bridge_->ReadConfig(where, kCapabilities, 1));
  VMSG_CHECK(bridge_->ReadConfig(where, msix, 1) == kMsixCapability);
  bridge_->WriteConfig(where, msix + 2, 2, kMsixEnable);
  bridge_->WriteConfig(where, kCommand, 2, kMemoryAndBusMaster);
}

void AmpDoorbells::FillDriverQueue(uint64_t offset, uint32_t slots) {
  std::array<std::byte, amp::kPacketBytes> ping = {};
  VMSG_CHECK(guest::EncodePing(0x600DF00D, ping) != 0);
  guest::SetToken(ping, 1);
  for (uint32_t i = 0; i < slots; ++i) {
    VMSG_CHECK(guest_.mmio()->Write(At(place_.window, offset + i * ping.size()),
                                    ping));
  }
  place_.fifo.slots = slots;
}

void AmpDoorbells::OpenSpscFifo() {
  FillDriverQueue(kSpscDriverQueue + kSpscPackets, kSpscSlots);
  const uint64_t window = place_.window.value;
  place_.fifo.driver_put = window + kSpscDriverQueue + kSpscHead;
  place_.fifo.device_put = window + kSpscDeviceQueue + kSpscHead;
  place_.fifo.driver_took = window + kSpscDeviceQueue + kSpscTail;
}

void AmpDoorbells::RingUntil(uint64_t offset, uint16_t value) {
  while (ReadWord<uint16_t>(guest_.mmio(), At(place_.window, offset)) !=
         value) {
    WriteWord(guest_.mmio(), place_.doorbell, uint32_t{1});
    std::this_thread::yield();
  }
}

void AmpDoorbells::OpenShmemFifo() {
  const auto field = [this]<typename T>(uint64_t at, T) {
    return ReadWord<T>(guest_.mmio(), At(place_.window, kShmemRegion + at));
  };
  const uint64_t device = kShmemRegion + field(kShmemDeviceHead, uint64_t());
  const uint64_t driver = kShmemRegion + field(kShmemDriverHead, uint64_t());
  FillDriverQueue(kShmemRegion + field(kShmemDriverElements, uint64_t()),
                  field(kShmemElements, uint16_t()));
  const uint64_t window = place_.window.value;
  place_.fifo.driver_put = window + driver + kShmemTail;
  place_.fifo.device_put = window + device + kShmemTail;
  place_.fifo.driver_took = window + driver + kShmemHead;

  // The window is as a reset left it: state INIT, and both indices 0.
  const auto put = [this](uint64_t at, uint16_t value) {
    WriteWord(guest_.mmio(), At(place_.window, at), value);
  };
  put(driver, kShmemMagic);
  RingUntil(device + kShmemStatus, kShmemReady);
  put(driver + kShmemStatus, kShmemReady);
  RingUntil(device + kShmemStatus, kShmemRun);
  put(driver + kShmemStatus, kShmemRun);
}

AmpDoorbells::~AmpDoorbells() {
  guest_.Stop();
  loop_->Stop();
  thread_.join();
  bridge_.reset();
  device_.reset();
}

// --- MinimalDoorbells. ---

absl::StatusOr<std::unique_ptr<MinimalDoorbells>> MinimalDoorbells::Create(
    const DoorbellPlace& place) {
  absl::StatusOr<std::unique_ptr<vmm::KvmVm>> vm = vmm::KvmVm::Create({});
  if (!vm.ok()) return vm.status();
  return std::unique_ptr<MinimalDoorbells>(
      new MinimalDoorbells(*std::move(vm), place));
}

MinimalDoorbells::MinimalDoorbells(std::unique_ptr<vmm::KvmVm> vm,
                                   const DoorbellPlace& place)
    : guest_(std::move(vm)),
      doorbell_(Value(vmm::EventFd::Create())),
      stop_(Value(vmm::EventFd::Create())),
      epoll_(epoll_create1(EPOLL_CLOEXEC)) {
  doorbell_mapping_ =
      Value(guest_.mmio()->MapDoorbell("doorbell", 4, &doorbell_));
  Require(doorbell_mapping_->SetBase(place.doorbell));
  window_mapping_ =
      Value(guest_.mmio()->MapMemory("window",
                                     Value(vmm::MemoryBacking::CreateAnonymous(
                                         amp::kFifoWindowBytes, "window")),
                                     0, amp::kFifoWindowBytes));
  Require(window_mapping_->SetBase(place.window));
  route_ = Value(guest_.interrupts()->CreateMsiRoute());
  Require(route_->Update(DoorbellGuest::kInterrupt));

  VMSG_CHECK(epoll_.valid());
  for (const vmm::EventFd* const event : {&doorbell_, &stop_}) {
    epoll_event wanted = {.events = EPOLLIN, .data = {.fd = event->fd()}};
    VMSG_CHECK(epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, event->fd(), &wanted) ==
               0);
  }
  thread_ = std::thread([this] { ThreadMain(); });
  guest_.Start(place);
}

MinimalDoorbells::~MinimalDoorbells() {
  guest_.Stop();
  stop_.Signal();
  thread_.join();
}

void MinimalDoorbells::ThreadMain() {
  while (true) {
    epoll_event ready;
    const int count = epoll_wait(epoll_.get(), &ready, 1, -1);
    VMSG_CHECK(count == 1 || errno == EINTR);
    if (count != 1) continue;
    if (ready.data.fd != doorbell_.fd()) return;
    doorbell_.Drain();
    Require(route_->Trigger());
  }
}

}  // namespace vmsg::bench
