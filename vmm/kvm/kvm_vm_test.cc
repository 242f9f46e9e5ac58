#include "vmm/kvm/kvm_vm.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/unique_fd.h"
#include "vmm/kvm/test_machine.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

TEST(KvmVmTest, MissingDeviceCannotBeOpened) {
  const auto vm = KvmVm::Create({.device = "/no/such/kvm"});
  EXPECT_THAT(vm,
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/no/such/kvm")));
  EXPECT_TRUE(KvmVm::CannotBeOpened(vm.status()));
}

TEST(KvmVmTest, DeviceThatRefusesToOpenCannotBeOpened) {
  // open(2) of a socket's name fails for every user, root included.
  // Not in TempDir(): a socket address holds 107 characters.
  char folder[] = "/tmp/kvm_vm_test.XXXXXX";
  ASSERT_NE(mkdtemp(folder), nullptr);
  const std::string path = std::string(folder) + "/socket";
  sockaddr_un name = {};
  name.sun_family = AF_UNIX;
  ASSERT_LT(path.size(), sizeof(name.sun_path));
  std::memcpy(name.sun_path, path.c_str(), path.size() + 1);
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&name),
                 sizeof(name)),
            0);
  const auto vm = KvmVm::Create({.device = path});
  unlink(path.c_str());
  rmdir(folder);
  EXPECT_THAT(vm, StatusIs(absl::StatusCode::kUnavailable, HasSubstr(path)));
  EXPECT_TRUE(KvmVm::CannotBeOpened(vm.status()));
}

TEST(KvmVmTest, DeviceThatOpensButIsNoKvmIsAnErrorOfAnotherKind) {
  const auto vm = KvmVm::Create({.device = "/dev/null"});
  EXPECT_THAT(vm, StatusIs(absl::StatusCode::kUnimplemented,
                           HasSubstr("KVM_GET_API_VERSION")));
  EXPECT_FALSE(KvmVm::CannotBeOpened(vm.status()));
}

TEST(KvmVmTest, SuccessIsNotAFailureToOpen) {
  EXPECT_FALSE(KvmVm::CannotBeOpened(absl::OkStatus()));
}

TEST(KvmVmTest, LimitsAreThoseOfARealVm) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  const KvmVm::Limits& limits = machine->vm()->limits();
  EXPECT_GE(limits.memory_slots, 32u);
  EXPECT_GE(limits.gsi_routes, 64u);
  EXPECT_GE(limits.vcpus, 1u);
}

TEST(KvmVmTest, ReleasedSlotIsGivenOutAgain) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(const uint32_t first, machine->vm()->AllocateSlot());
  ASSERT_OK_AND_ASSIGN(const uint32_t second, machine->vm()->AllocateSlot());
  EXPECT_NE(first, second);
  machine->vm()->ReleaseSlot(first);
  ASSERT_OK_AND_ASSIGN(const uint32_t third, machine->vm()->AllocateSlot());
  EXPECT_EQ(third, first);
}

TEST(KvmVmTest, AbandonedSlotKeepsItsMemoryAndIsNotGivenOutAgain) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(std::shared_ptr<const MemoryBacking> backing,
                       MemoryBacking::CreateAnonymous(4096, "abandoned"));
  const std::weak_ptr<const MemoryBacking> watch = backing;
  ASSERT_OK_AND_ASSIGN(const uint32_t slot, machine->vm()->AllocateSlot());
  machine->vm()->AbandonSlot(std::move(backing));
  EXPECT_FALSE(watch.expired());
  ASSERT_OK_AND_ASSIGN(const uint32_t next, machine->vm()->AllocateSlot());
  EXPECT_NE(next, slot);
}

TEST(KvmVmTest, SlotsEndAtTheLimit) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  const uint32_t limit = machine->vm()->limits().memory_slots;
  // The machine's RAM has slot 0.
  for (uint32_t i = 1; i < limit; ++i) {
    ASSERT_OK(machine->vm()->AllocateSlot());
  }
  EXPECT_THAT(machine->vm()->AllocateSlot(),
              StatusIs(absl::StatusCode::kResourceExhausted));
}

TEST(KvmVmTest, PinPastTheLastIsRefused) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  EXPECT_OK(machine->vm()->SetIrqLine(23, false));
  EXPECT_THAT(machine->vm()->SetIrqLine(24, false),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

// Programs pin 4 of the I/O APIC as edge-triggered with the test's vector.
TEST(KvmVmTest, RisingEdgeOfALineInterruptsTheGuest) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  constexpr uint64_t kIoRegSel = 0xFEC00000;
  constexpr uint64_t kIoWin = 0xFEC00010;
  constexpr uint32_t kPin = 4;
  GuestCode code;
  ASSERT_OK(machine->HandleInterrupt(
      GuestCode().Increment32(TestMachine::kData), &code));
  code.Store32(kIoRegSel, 0x10 + 2 * kPin + 1).Store32(kIoWin, 0);
  code.Store32(kIoRegSel, 0x10 + 2 * kPin)
      .Store32(kIoWin, TestMachine::kVector);
  code.Sti().Out8(TestMachine::kPort, 1);
  const size_t idle = code.size();
  code.Hlt().JumpTo(idle);
  ASSERT_OK(machine->Load(code));
  ASSERT_OK(machine->vcpu()->Start());
  ASSERT_EQ(machine->port()->WaitFor(1).size(), 1u);

  ASSERT_OK(machine->vm()->SetIrqLine(kPin, true));
  EXPECT_TRUE(machine->WaitForRam32(TestMachine::kData, 1));
  ASSERT_OK(machine->vm()->SetIrqLine(kPin, false));
  ASSERT_OK(machine->vm()->SetIrqLine(kPin, true));
  EXPECT_TRUE(machine->WaitForRam32(TestMachine::kData, 2));

  // Reset forgets what the guest programmed: the pin is masked again.
  machine->vcpu()->Stop();
  machine->vcpu()->Wait();
  ASSERT_OK(machine->vm()->SetIrqLine(kPin, false));
  ASSERT_OK(machine->vm()->Reset());
  ASSERT_OK(machine->vcpu()->Start());
  ASSERT_OK(machine->vm()->SetIrqLine(kPin, true));
  ASSERT_OK(machine->vm()->SetIrqLine(kPin, false));
  machine->vcpu()->Stop();
  machine->vcpu()->Wait();
  EXPECT_EQ(machine->ReadRam32(TestMachine::kData), 2u);
}

TEST(KvmVmTest, VmWithAPitResets) {
  const auto vm = KvmVm::Create({.with_pit = true});
  if (KvmVm::CannotBeOpened(vm.status())) {
    GTEST_SKIP() << "no KVM here: " << vm.status().ToString();
  }
  ASSERT_OK(vm);
  EXPECT_OK((*vm)->Reset());
}

}  // namespace
}  // namespace vmsg::vmm
