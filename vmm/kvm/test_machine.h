// A small KVM machine and an assembler for its guest code, for the tests of
// vmm/kvm.

#ifndef VMSG_VMM_KVM_TEST_MACHINE_H_
#define VMSG_VMM_KVM_TEST_MACHINE_H_

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "vmm/base/guest_address.h"
#include "vmm/base/mutex.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/bus/mmio_bus.h"
#include "vmm/kvm/kvm_mmio_bus.h"
#include "vmm/kvm/kvm_vcpu.h"
#include "vmm/kvm/kvm_vm.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::vmm {

// Longer than any step of a test takes on a slow machine without hardware
// virtualization; only a failing test waits that long.
inline constexpr std::chrono::seconds kTestTimeout{30};

// Emits 64-bit guest code. Uses RAX, RBX and RDX.
class GuestCode {
 public:
  GuestCode& Store32(uint64_t address, uint32_t value);
  // Adds 1 to the 32-bit word at `address`.
  GuestCode& Increment32(uint64_t address);
  GuestCode& Load32(uint64_t address);  // into EAX
  GuestCode& Load64(uint64_t address);  // into RAX
  GuestCode& StoreEax(uint64_t address);
  GuestCode& Out8(uint16_t port, uint8_t value);
  GuestCode& OutEax(uint16_t port);
  GuestCode& InEax(uint16_t port);
  GuestCode& LoadIdt(uint64_t descriptor_address);
  GuestCode& Sti() { return Bytes({0xFB}); }
  GuestCode& Cli() { return Bytes({0xFA}); }
  GuestCode& Hlt() { return Bytes({0xF4}); }
  GuestCode& Iret() { return Bytes({0x48, 0xCF}); }
  GuestCode& InvalidOpcode() { return Bytes({0x0F, 0x0B}); }
  // Back to the byte at `offset` of this code.
  GuestCode& JumpTo(size_t offset);
  GuestCode& JumpToSelf() { return JumpTo(bytes_.size()); }
  GuestCode& Bytes(std::initializer_list<uint8_t> bytes);

  size_t size() const { return bytes_.size(); }
  std::span<const std::byte> bytes() const {
    return std::as_bytes(std::span(bytes_));
  }

 private:
  GuestCode& Address(uint64_t address);  // into RBX
  template <typename T>
  GuestCode& Immediate(T value);

  std::vector<uint8_t> bytes_;
};

// Records the accesses that reach it and answers reads with a set value.
class RecordingHandler final : public IoHandler {
 public:
  struct Access {
    uint64_t offset = 0;
    size_t size = 0;
    bool write = false;
    uint64_t value = 0;  // of a write

    friend bool operator==(const Access&, const Access&) = default;
  };

  explicit RecordingHandler(uint64_t answer = 0) : answer_(answer) {}

  void Read(uint64_t offset, std::span<std::byte> data) override;
  void Write(uint64_t offset, std::span<const std::byte> data) override;

  // Waits until there were `count` accesses, and returns all so far; fewer when
  // kTestTimeout passed.
  std::vector<Access> WaitFor(size_t count);

 private:
  void Add(Access access);

  const uint64_t answer_;
  Mutex mutex_;
  CondVar changed_;
  std::vector<Access> accesses_ ABSL_GUARDED_BY(mutex_);
};

// 4 MiB of RAM from 0 up, a port (kPort) that the guest speaks through, one
// vCPU that starts at kCode in long mode.
class TestMachine {
 public:
  static constexpr uint64_t kRamBytes = 4 << 20;
  static constexpr uint64_t kCode = 0x100000;
  static constexpr uint64_t kHandlerCode = 0x110000;  // of interrupts
  static constexpr uint64_t kData = 0x120000;         // for the tests
  static constexpr uint16_t kPort = 0xF4;
  static constexpr uint8_t kVector = 0x41;  // HandleInterrupt's

  // As KvmVm::Create; every other failure is Internal.
  static absl::StatusOr<std::unique_ptr<TestMachine>> Create();

  // Puts code where the vCPU starts, with fresh start-up structures.
  absl::Status Load(const GuestCode& code);

  // Makes an IDT whose kVector runs `body`, then signals end of interrupt and
  // returns. Appends to `code` what loads it, masks the PICs and turns the
  // local APIC on. An interrupt that comes before HLT makes the guest skip it:
  // that STI holds interrupts off until HLT has begun is something that
  // emulated processors forget now and then.
  absl::Status HandleInterrupt(const GuestCode& body, GuestCode* code);

  void WriteRam(uint64_t address, std::span<const std::byte> bytes);
  uint32_t ReadRam32(uint64_t address);
  void WriteRam32(uint64_t address, uint32_t value);
  // Waits until the word has the value; false after kTestTimeout.
  bool WaitForRam32(uint64_t address, uint32_t value);

  KvmVm* vm() { return vm_.get(); }
  GuestMemory* memory() { return &memory_; }
  KvmMmioBus* mmio() { return mmio_.get(); }
  DispatchPioBus* pio() { return &pio_; }
  KvmVcpu* vcpu() { return vcpu_.get(); }
  RecordingHandler* port() { return &port_; }

 private:
  TestMachine() = default;
  absl::Status SetUp();

  std::unique_ptr<KvmVm> vm_;
  GuestMemory memory_;
  std::shared_ptr<const MemoryBacking> ram_;
  std::unique_ptr<KvmMmioBus> mmio_;
  DispatchPioBus pio_;
  RecordingHandler port_{0xA5A5A5A5};
  std::unique_ptr<MmioMapping> port_mapping_;
  std::unique_ptr<KvmVcpu> vcpu_;
};

// Defines `machine`, or skips the test when KVM can't be opened here.
#define VMSG_TEST_MACHINE_OR_SKIP(machine)                               \
  auto machine##_or = ::vmsg::vmm::TestMachine::Create();                \
  if (::vmsg::vmm::KvmVm::CannotBeOpened(machine##_or.status())) {       \
    GTEST_SKIP() << "no KVM here: " << machine##_or.status().ToString(); \
  }                                                                      \
  ASSERT_OK(machine##_or);                                               \
  /* NOLINTNEXTLINE(bugprone-macro-parentheses): a name. */              \
  const std::unique_ptr<::vmsg::vmm::TestMachine> machine =              \
      *std::move(machine##_or)

}  // namespace vmsg::vmm

#endif  // VMSG_VMM_KVM_TEST_MACHINE_H_
