#include "vmm/kvm/kvm_interrupt_controller.h"

#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/kvm/test_machine.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kInterrupts = TestMachine::kData;
constexpr uint64_t kWakeUps = TestMachine::kData + 4;

// To local APIC 0, fixed delivery.
MsiMessage Message(uint8_t vector = TestMachine::kVector) {
  return {.address = 0xFEE00000, .data = vector, .requester_id = 8};
}

// A guest that counts interrupts and the times HLT was left, and says on the
// port when it is ready.
void StartIdleGuest(TestMachine* machine) {
  GuestCode code;
  ASSERT_OK(
      machine->HandleInterrupt(GuestCode().Increment32(kInterrupts), &code));
  code.Out8(TestMachine::kPort, 1);
  const size_t idle = code.size();
  // An interrupt that comes before HLT waits for it.
  code.Sti().Hlt().Cli().Increment32(kWakeUps).JumpTo(idle);
  ASSERT_OK(machine->Load(code));
  ASSERT_OK(machine->vcpu()->Start());
  ASSERT_EQ(machine->port()->WaitFor(1).size(), 1u);
}

TEST(KvmInterruptControllerTest, TriggerWakesAHaltedGuest) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  KvmInterruptController controller(machine->vm());
  ASSERT_OK_AND_ASSIGN(const auto route, controller.CreateMsiRoute());
  ASSERT_OK(route->Update(Message()));
  ASSERT_NO_FATAL_FAILURE(StartIdleGuest(machine.get()));
  const uint64_t exits = machine->vcpu()->total_exits();

  for (uint32_t i = 1; i <= 3; ++i) {
    ASSERT_OK(route->Trigger());
    ASSERT_TRUE(machine->WaitForRam32(kWakeUps, i));
    EXPECT_EQ(machine->ReadRam32(kInterrupts), i);
  }
  // Neither HLT nor the interrupt was an exit to us.
  EXPECT_EQ(machine->vcpu()->total_exits(), exits);
}

TEST(KvmInterruptControllerTest, TriggerBeforeAMessageIsRefused) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  KvmInterruptController controller(machine->vm());
  ASSERT_OK_AND_ASSIGN(const auto route, controller.CreateMsiRoute());
  EXPECT_THAT(route->Trigger(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK(route->Update(Message()));
  EXPECT_OK(route->Trigger());
}

TEST(KvmInterruptControllerTest, AddressThatIsNoLocalApicIsRefused) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  KvmInterruptController controller(machine->vm());
  ASSERT_OK_AND_ASSIGN(const auto route, controller.CreateMsiRoute());
  for (const uint64_t address :
       {uint64_t{0}, uint64_t{0xFEDFFFFC}, uint64_t{0xFEF00000},
        uint64_t{0x1FEE00000}, UINT64_MAX}) {
    EXPECT_THAT(route->Update({.address = address, .data = 0x41}),
                StatusIs(absl::StatusCode::kInvalidArgument,
                         HasSubstr("no local APIC")));
  }
  EXPECT_THAT(route->Trigger(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  EXPECT_EQ(controller.table_updates(), 0u);
}

TEST(KvmInterruptControllerTest, RefusedUpdateKeepsTheOldMessage) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  KvmInterruptController controller(machine->vm());
  ASSERT_OK_AND_ASSIGN(const auto route, controller.CreateMsiRoute());
  ASSERT_OK(route->Update(Message()));
  ASSERT_NO_FATAL_FAILURE(StartIdleGuest(machine.get()));
  EXPECT_THAT(route->Update({.address = 0, .data = 0x42}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  ASSERT_OK(route->Trigger());
  EXPECT_TRUE(machine->WaitForRam32(kInterrupts, 1));
}

TEST(KvmInterruptControllerTest, SameMessageMakesNoSystemCall) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  KvmInterruptController controller(machine->vm());
  ASSERT_OK_AND_ASSIGN(const auto route, controller.CreateMsiRoute());
  ASSERT_OK(route->Update(Message()));
  ASSERT_OK(route->Update(Message()));
  EXPECT_EQ(controller.table_updates(), 1u);
  ASSERT_OK(route->Update(Message(0x42)));
  EXPECT_EQ(controller.table_updates(), 2u);
}

TEST(KvmInterruptControllerTest, UpdateChangesTheVectorOfItsRouteOnly) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  KvmInterruptController controller(machine->vm());
  ASSERT_OK_AND_ASSIGN(const auto first, controller.CreateMsiRoute());
  ASSERT_OK_AND_ASSIGN(const auto second, controller.CreateMsiRoute());
  ASSERT_OK(first->Update(Message(0x50)));  // nobody handles it
  ASSERT_OK(second->Update(Message()));
  ASSERT_NO_FATAL_FAILURE(StartIdleGuest(machine.get()));
  ASSERT_OK(first->Update(Message()));
  ASSERT_OK(first->Trigger());
  ASSERT_TRUE(machine->WaitForRam32(kWakeUps, 1));
  ASSERT_OK(second->Trigger());
  ASSERT_TRUE(machine->WaitForRam32(kWakeUps, 2));
  EXPECT_EQ(machine->ReadRam32(kInterrupts), 2u);
}

// A route that takes over the number of one that is gone must not inherit its
// message.
TEST(KvmInterruptControllerTest, NumberOfADestroyedRouteStartsAfresh) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  KvmInterruptController controller(machine->vm());
  {
    ASSERT_OK_AND_ASSIGN(const auto route, controller.CreateMsiRoute());
    ASSERT_OK(route->Update(Message(0x50)));
  }
  ASSERT_OK_AND_ASSIGN(const auto route, controller.CreateMsiRoute());
  EXPECT_THAT(route->Trigger(),
              StatusIs(absl::StatusCode::kFailedPrecondition));
  ASSERT_OK(route->Update(Message()));
  ASSERT_NO_FATAL_FAILURE(StartIdleGuest(machine.get()));
  ASSERT_OK(route->Trigger());
  EXPECT_TRUE(machine->WaitForRam32(kInterrupts, 1));
}

TEST(KvmInterruptControllerTest, PinsKeepWorkingBesideMessages) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  KvmInterruptController controller(machine->vm());
  ASSERT_OK_AND_ASSIGN(const auto route, controller.CreateMsiRoute());
  ASSERT_OK(route->Update(Message(0x50)));
  GuestCode code;
  ASSERT_OK(
      machine->HandleInterrupt(GuestCode().Increment32(kInterrupts), &code));
  // Pin 4 of the I/O APIC: the test's vector, edge-triggered.
  code.Store32(0xFEC00000, 0x19).Store32(0xFEC00010, 0);
  code.Store32(0xFEC00000, 0x18).Store32(0xFEC00010, TestMachine::kVector);
  code.Out8(TestMachine::kPort, 1);
  const size_t idle = code.size();
  code.Sti().Hlt().JumpTo(idle);
  ASSERT_OK(machine->Load(code));
  ASSERT_OK(machine->vcpu()->Start());
  ASSERT_EQ(machine->port()->WaitFor(1).size(), 1u);
  ASSERT_OK(machine->vm()->SetIrqLine(4, true));
  EXPECT_TRUE(machine->WaitForRam32(kInterrupts, 1));
}

TEST(KvmInterruptControllerTest, RoutesEndWithResourceExhausted) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  KvmInterruptController controller(machine->vm());
  const uint32_t limit = machine->vm()->limits().gsi_routes;
  std::vector<std::unique_ptr<MsiRoute>> routes;
  absl::Status status;
  while (status.ok() && routes.size() <= limit) {
    auto route = controller.CreateMsiRoute();
    status = route.status();
    if (route.ok()) routes.push_back(*std::move(route));
  }
  // Of routes, or before that of the process's descriptors.
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kResourceExhausted));
  ASSERT_FALSE(routes.empty());
  EXPECT_OK(routes.back()->Update(Message()));
  routes.pop_back();
  EXPECT_OK(controller.CreateMsiRoute());
}

}  // namespace
}  // namespace vmsg::vmm
