#include "vmm/kvm/test_machine.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <thread>
#include <utility>

#include "absl/status/status.h"
#include "vmm/boot/long_mode.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::vmm {
namespace {

constexpr uint64_t kIdt = 0x130000;
constexpr uint64_t kIdtDescriptor = 0x131000;
constexpr size_t kVectors = 256;

constexpr uint16_t kPicMasterMask = 0x21;
constexpr uint16_t kPicSlaveMask = 0xA1;
constexpr uint64_t kApicSpuriousVector = 0xFEE000F0;
constexpr uint64_t kApicEndOfInterrupt = 0xFEE000B0;
constexpr uint32_t kApicSoftwareEnable = 0x1FF;

}  // namespace

template <typename T>
GuestCode& GuestCode::Immediate(T value) {
  for (size_t i = 0; i < sizeof(T); ++i) {
    bytes_.push_back(static_cast<uint8_t>(value >> (8 * i)));
  }
  return *this;
}

GuestCode& GuestCode::Bytes(std::initializer_list<uint8_t> bytes) {
  bytes_.insert(bytes_.end(), bytes);
  return *this;
}

// movabs rbx, address
GuestCode& GuestCode::Address(uint64_t address) {
  return Bytes({0x48, 0xBB}).Immediate(address);
}

// mov dword [rbx], value
GuestCode& GuestCode::Store32(uint64_t address, uint32_t value) {
  return Address(address).Bytes({0xC7, 0x03}).Immediate(value);
}

// inc dword [rbx]
GuestCode& GuestCode::Increment32(uint64_t address) {
  return Address(address).Bytes({0xFF, 0x03});
}

// mov eax, [rbx]
GuestCode& GuestCode::Load32(uint64_t address) {
  return Address(address).Bytes({0x8B, 0x03});
}

// mov rax, [rbx]
GuestCode& GuestCode::Load64(uint64_t address) {
  return Address(address).Bytes({0x48, 0x8B, 0x03});
}

// mov [rbx], eax
GuestCode& GuestCode::StoreEax(uint64_t address) {
  return Address(address).Bytes({0x89, 0x03});
}

// mov al, value; mov dx, port; out dx, al
GuestCode& GuestCode::Out8(uint16_t port, uint8_t value) {
  return Bytes({0xB0, value, 0x66, 0xBA}).Immediate(port).Bytes({0xEE});
}

// mov dx, port; out dx, eax
GuestCode& GuestCode::OutEax(uint16_t port) {
  return Bytes({0x66, 0xBA}).Immediate(port).Bytes({0xEF});
}

// mov dx, port; in eax, dx
GuestCode& GuestCode::InEax(uint16_t port) {
  return Bytes({0x66, 0xBA}).Immediate(port).Bytes({0xED});
}

// lidt [rbx]
GuestCode& GuestCode::LoadIdt(uint64_t descriptor_address) {
  return Address(descriptor_address).Bytes({0x0F, 0x01, 0x1B});
}

// jmp rel32
GuestCode& GuestCode::JumpTo(size_t offset) {
  const int64_t end = static_cast<int64_t>(bytes_.size() + 5);
  const int64_t distance = static_cast<int64_t>(offset) - end;
  return Bytes({0xE9}).Immediate(static_cast<uint32_t>(distance));
}

void RecordingHandler::Read(uint64_t offset, std::span<std::byte> data) {
  std::memcpy(data.data(), &answer_, std::min(data.size(), sizeof(answer_)));
  Add({.offset = offset, .size = data.size()});
}

void RecordingHandler::Write(uint64_t offset, std::span<const std::byte> data) {
  Access access = {.offset = offset, .size = data.size(), .write = true};
  std::memcpy(&access.value, data.data(),
              std::min(data.size(), sizeof(access.value)));
  Add(access);
}

void RecordingHandler::Add(Access access) {
  MutexLock lock(&mutex_);
  accesses_.push_back(access);
  changed_.NotifyAll();
}

std::vector<RecordingHandler::Access> RecordingHandler::WaitFor(size_t count) {
  MutexLock lock(&mutex_);
  while (accesses_.size() < count) {
    if (!changed_.WaitFor(&mutex_, kTestTimeout)) break;
  }
  return accesses_;
}

absl::StatusOr<std::unique_ptr<TestMachine>> TestMachine::Create() {
  std::unique_ptr<TestMachine> machine(new TestMachine);
  auto vm = KvmVm::Create({});
  if (!vm.ok()) return vm.status();
  machine->vm_ = *std::move(vm);
  const absl::Status status = machine->SetUp();
  if (!status.ok()) return absl::InternalError(status.ToString());
  return machine;
}

absl::Status TestMachine::SetUp() {
  auto ram = MemoryBacking::CreateAnonymous(kRamBytes, "test_ram");
  if (!ram.ok()) return ram.status();
  ram_ = *std::move(ram);
  absl::Status status =
      memory_.Add({.range = {{0}, kRamBytes}, .backing = ram_});
  if (!status.ok()) return status;

  auto mmio = KvmMmioBus::Create(vm_.get());
  if (!mmio.ok()) return mmio.status();
  mmio_ = *std::move(mmio);
  status = mmio_->SyncGuestMemory(memory_);
  if (!status.ok()) return status;

  auto mapping = pio_.MapHandler("test port", kPort, 4, &port_);
  if (!mapping.ok()) return mapping.status();
  port_mapping_ = *std::move(mapping);

  auto vcpu = KvmVcpu::Create({}, vm_.get(), mmio_.get(), &pio_);
  if (!vcpu.ok()) return vcpu.status();
  vcpu_ = *std::move(vcpu);
  return absl::OkStatus();
}

absl::Status TestMachine::Load(const GuestCode& code) {
  WriteRam(kCode, code.bytes());
  DmaSpace dma(&memory_);
  const absl::StatusOr<CpuState> state = SetUpLongMode({kCode}, {0}, &dma);
  if (!state.ok()) return state.status();
  return vcpu_->SetState(*state);
}

absl::Status TestMachine::HandleInterrupt(const GuestCode& body,
                                          GuestCode* code) {
  GuestCode handler;
  handler.Bytes({0x50, 0x53});  // push rax; push rbx
  // If HLT was next, it is not any more: see the declaration.
  handler.Bytes({0x48, 0x8B, 0x44, 0x24, 0x10});  // mov rax, [rsp + 16]
  handler.Bytes({0x80, 0x38, 0xF4});              // cmp byte [rax], HLT
  handler.Bytes({0x75, 0x05});                    // jne past the next one
  handler.Bytes({0x48, 0xFF, 0x44, 0x24, 0x10});  // inc qword [rsp + 16]
  GuestCode tail;
  tail.Store32(kApicEndOfInterrupt, 0);
  tail.Bytes({0x5B, 0x58}).Iret();  // pop rbx; pop rax
  uint64_t at = kHandlerCode;
  for (const GuestCode* part :
       {&std::as_const(handler), &body, &std::as_const(tail)}) {
    WriteRam(at, part->bytes());
    at += part->size();
  }

  // A present 64-bit interrupt gate (Intel SDM volume 3, 6.14.1) to the code
  // segment; the handler is below 4 GiB.
  const std::array<uint64_t, 2> gate = {
      (kHandlerCode & 0xFFFF) | uint64_t{0x08} << 16 | uint64_t{0x8E00} << 32 |
          (kHandlerCode >> 16) << 48,
      0};
  WriteRam(kIdt + kVector * sizeof(gate), std::as_bytes(std::span(gate)));
  const uint16_t limit = kVectors * sizeof(gate) - 1;
  const uint64_t base = kIdt;
  WriteRam(kIdtDescriptor, std::as_bytes(std::span(&limit, 1)));
  WriteRam(kIdtDescriptor + sizeof(limit), std::as_bytes(std::span(&base, 1)));

  code->Out8(kPicMasterMask, 0xFF).Out8(kPicSlaveMask, 0xFF);
  code->LoadIdt(kIdtDescriptor);
  code->Store32(kApicSpuriousVector, kApicSoftwareEnable);
  return absl::OkStatus();
}

void TestMachine::WriteRam(uint64_t address, std::span<const std::byte> bytes) {
  CopyToShared(ram_->data() + address, bytes);
}

uint32_t TestMachine::ReadRam32(uint64_t address) {
  return LoadShared<uint32_t>(ram_->data() + address,
                              std::memory_order_acquire);
}

void TestMachine::WriteRam32(uint64_t address, uint32_t value) {
  StoreShared<uint32_t>(ram_->data() + address, value,
                        std::memory_order_release);
}

bool TestMachine::WaitForRam32(uint64_t address, uint32_t value) {
  const auto deadline = std::chrono::steady_clock::now() + kTestTimeout;
  while (ReadRam32(address) != value) {
    if (std::chrono::steady_clock::now() > deadline) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

}  // namespace vmsg::vmm
