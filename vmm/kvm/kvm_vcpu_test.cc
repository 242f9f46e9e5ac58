#include "vmm/kvm/kvm_vcpu.h"

#include <atomic>
#include <csignal>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/kvm/test_machine.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using Access = RecordingHandler::Access;
using Reason = VcpuEnd::Reason;

VcpuEnd StopAndWait(KvmVcpu* vcpu) {
  vcpu->Stop();
  return vcpu->Wait();
}

TEST(KvmVcpuTest, EveryExitAndEndHasAName) {
  std::set<std::string_view> names;
  for (size_t i = 0; i < kVcpuExitCount; ++i) {
    names.insert(VcpuExitName(static_cast<VcpuExit>(i)));
  }
  EXPECT_EQ(names.size(), kVcpuExitCount);
  EXPECT_EQ(VcpuExitName(static_cast<VcpuExit>(200)), "unknown");
  EXPECT_EQ(VcpuEndReasonName(Reason::kTripleFault), "triple fault");
  EXPECT_EQ(VcpuEndReasonName(static_cast<Reason>(200)), "unknown");
}

TEST(KvmVcpuTest, GuestStartsInLongModeAsPromised) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK(machine->Load(GuestCode()
                              // SSE is on: movups xmm0, [rsp - 16]
                              .Bytes({0x0F, 0x10, 0x44, 0x24, 0xF0})
                              .Bytes({0x48, 0x89, 0xE0})  // mov rax, rsp
                              .StoreEax(TestMachine::kData)
                              .Bytes({0x9C, 0x58})  // pushfq; pop rax
                              .StoreEax(TestMachine::kData + 4)
                              .Bytes({0x66, 0x8C, 0xC8})  // mov ax, cs
                              .StoreEax(TestMachine::kData + 8)
                              .Out8(TestMachine::kPort, 1)
                              .Hlt()));
  ASSERT_OK(machine->vcpu()->Start());
  ASSERT_THAT(machine->port()->WaitFor(1), ElementsAre(Access{0, 1, true, 1}));
  EXPECT_EQ(machine->ReadRam32(TestMachine::kData), 0x80000u);
  EXPECT_EQ(machine->ReadRam32(TestMachine::kData + 4), 2u);
  EXPECT_EQ(machine->ReadRam32(TestMachine::kData + 8) & 0xFFFF, 0x08u);
}

TEST(KvmVcpuTest, PortAccessesReachTheHandler) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK(machine->Load(GuestCode()
                              .Out8(TestMachine::kPort, 0x21)
                              .InEax(TestMachine::kPort)
                              .StoreEax(TestMachine::kData)
                              .OutEax(TestMachine::kPort)
                              .Hlt()));
  ASSERT_OK(machine->vcpu()->Start());
  EXPECT_THAT(machine->port()->WaitFor(3),
              ElementsAre(Access{0, 1, true, 0x21}, Access{0, 4},
                          Access{0, 4, true, 0xA5A5A5A5}));
  EXPECT_EQ(StopAndWait(machine->vcpu()).reason, Reason::kStopped);
  EXPECT_EQ(machine->ReadRam32(TestMachine::kData), 0xA5A5A5A5u);
  EXPECT_EQ(machine->vcpu()->exits(VcpuExit::kPortWrite), 2u);
  EXPECT_EQ(machine->vcpu()->exits(VcpuExit::kPortRead), 1u);
}

TEST(KvmVcpuTest, PortOfNobodyReadsAllOnes) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK(machine->Load(
      GuestCode().InEax(0x1234).OutEax(TestMachine::kPort).Hlt()));
  ASSERT_OK(machine->vcpu()->Start());
  EXPECT_THAT(machine->port()->WaitFor(1),
              ElementsAre(Access{0, 4, true, 0xFFFFFFFF}));
}

TEST(KvmVcpuTest, StringOutputArrivesUnitByUnitInOrder) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  machine->WriteRam32(TestMachine::kData, 0x04030201);
  ASSERT_OK(machine->Load(
      GuestCode()
          .Bytes({0xBE, 0x00, 0x00, 0x12, 0x00})  // mov esi, kData
          .Bytes({0xB9, 0x04, 0x00, 0x00, 0x00})  // mov ecx, 4
          .Bytes({0x66, 0xBA, 0xF4, 0x00})        // mov dx, kPort
          .Bytes({0xF3, 0x6E})                    // rep outsb
          .Hlt()));
  ASSERT_OK(machine->vcpu()->Start());
  EXPECT_THAT(machine->port()->WaitFor(4),
              ElementsAre(Access{0, 1, true, 1}, Access{0, 1, true, 2},
                          Access{0, 1, true, 3}, Access{0, 1, true, 4}));
}

TEST(KvmVcpuTest, StopEndsAHaltedGuest) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK(machine->Load(GuestCode().Out8(TestMachine::kPort, 1).Cli().Hlt()));
  ASSERT_OK(machine->vcpu()->Start());
  ASSERT_EQ(machine->port()->WaitFor(1).size(), 1u);
  EXPECT_TRUE(machine->vcpu()->running());
  const VcpuEnd end = StopAndWait(machine->vcpu());
  EXPECT_EQ(end.reason, Reason::kStopped);
  EXPECT_THAT(end.detail, IsEmpty());
  EXPECT_FALSE(machine->vcpu()->running());
}

TEST(KvmVcpuTest, StopEndsAGuestThatSpins) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK(
      machine->Load(GuestCode().Out8(TestMachine::kPort, 1).JumpToSelf()));
  ASSERT_OK(machine->vcpu()->Start());
  ASSERT_EQ(machine->port()->WaitFor(1).size(), 1u);
  EXPECT_EQ(StopAndWait(machine->vcpu()).reason, Reason::kStopped);
}

TEST(KvmVcpuTest, StopRightAfterStartIsNotLost) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  constexpr int kRounds = 100;
  ASSERT_OK(machine->Load(GuestCode().Cli().JumpToSelf()));
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_OK(machine->vcpu()->Start());
    ASSERT_EQ(StopAndWait(machine->vcpu()).reason, Reason::kStopped);
  }
}

TEST(KvmVcpuTest, StopAndWaitWithoutARunReturnAtOnce) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  EXPECT_EQ(StopAndWait(machine->vcpu()).reason, Reason::kStopped);
  EXPECT_EQ(machine->vcpu()->total_exits(), 0u);
}

// A power-off port does this.
TEST(KvmVcpuTest, StopFromAHandlerCompletesTheAccess) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  class Stopper final : public IoHandler {
   public:
    void Read(uint64_t, std::span<std::byte> data) override {
      std::fill(data.begin(), data.end(), std::byte{0x77});
      vcpu->Stop();
    }
    void Write(uint64_t, std::span<const std::byte>) override {}
    KvmVcpu* vcpu = nullptr;
  };
  Stopper stopper;
  stopper.vcpu = machine->vcpu();
  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       machine->pio()->MapHandler("stop", 0x500, 4, &stopper));
  ASSERT_OK(machine->Load(
      GuestCode().InEax(0x500).StoreEax(TestMachine::kData).Hlt()));
  ASSERT_OK(machine->vcpu()->Start());
  EXPECT_EQ(machine->vcpu()->Wait().reason, Reason::kStopped);
  // It goes on behind the access, with the value that was read.
  ASSERT_OK(machine->vcpu()->Start());
  EXPECT_TRUE(machine->WaitForRam32(TestMachine::kData, 0x77777777));
  EXPECT_EQ(machine->vcpu()->exits(VcpuExit::kPortRead), 1u);
}

TEST(KvmVcpuTest, StoppedGuestGoesOnWhereItWas) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  constexpr int kRounds = 10;
  ASSERT_OK(
      machine->Load(GuestCode().Increment32(TestMachine::kData).JumpTo(0)));
  uint32_t last = 0;
  for (int i = 0; i < kRounds; ++i) {
    ASSERT_OK(machine->vcpu()->Start());
    const auto deadline = std::chrono::steady_clock::now() + kTestTimeout;
    while (machine->ReadRam32(TestMachine::kData) == last) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    }
    ASSERT_EQ(StopAndWait(machine->vcpu()).reason, Reason::kStopped);
    last = machine->ReadRam32(TestMachine::kData);
  }
}

TEST(KvmVcpuTest, TripleFaultIsReportedWithRegisters) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK(machine->Load(GuestCode().InvalidOpcode()));
  ASSERT_OK(machine->vcpu()->Start());
  const VcpuEnd end = machine->vcpu()->Wait();
  EXPECT_EQ(end.reason, Reason::kTripleFault);
  EXPECT_THAT(end.detail, AllOf(HasSubstr("vcpu0: triple fault"),
                                HasSubstr("rip"), HasSubstr("cr3")));
  EXPECT_EQ(machine->vcpu()->exits(VcpuExit::kShutdown), 1u);
}

TEST(KvmVcpuTest, CodeInDeviceSpaceEndsWithAnErrorAndNotForEver) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  // mov eax, 0xD0000000; jmp rax
  ASSERT_OK(machine->Load(
      GuestCode().Bytes({0xB8, 0x00, 0x00, 0x00, 0xD0, 0xFF, 0xE0})));
  ASSERT_OK(machine->vcpu()->Start());
  const VcpuEnd end = machine->vcpu()->Wait();
  EXPECT_NE(end.reason, Reason::kStopped);
  EXPECT_THAT(end.detail, HasSubstr("rip 00000000d0000000"));
}

TEST(KvmVcpuTest, CallbackSeesTheEndBeforeWaitReturns) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK(machine->Load(GuestCode().InvalidOpcode()));
  Reason reason = Reason::kStopped;
  const auto held = std::make_shared<int>();
  ASSERT_OK(machine->vcpu()->Start(
      [&reason, held](const VcpuEnd& end) { reason = end.reason; }));
  machine->vcpu()->Wait();
  EXPECT_EQ(reason, Reason::kTripleFault);
  EXPECT_EQ(held.use_count(), 1);
}

TEST(KvmVcpuTest, SeveralThreadsMayStopAndWait) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK(machine->Load(GuestCode().JumpToSelf()));
  ASSERT_OK(machine->vcpu()->Start());
  std::vector<std::thread> threads;
  std::atomic<int> stopped = 0;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      if (StopAndWait(machine->vcpu()).reason == Reason::kStopped) ++stopped;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(stopped, 4);
}

TEST(KvmVcpuTest, RunningVcpuRefusesToBeChanged) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK(machine->Load(GuestCode().JumpToSelf()));
  ASSERT_OK(machine->vcpu()->Start());
  const auto refused = StatusIs(absl::StatusCode::kFailedPrecondition,
                                HasSubstr("vcpu0 is running"));
  EXPECT_THAT(machine->vcpu()->SetState({}), refused);
  EXPECT_THAT(machine->vcpu()->Reset(), refused);
  EXPECT_THAT(machine->vcpu()->Start(), refused);
  EXPECT_THAT(machine->vcpu()->DumpRegisters(), refused);
}

TEST(KvmVcpuTest, ResetRestoresTheStateAfterCreation) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(const std::string fresh,
                       machine->vcpu()->DumpRegisters());
  ASSERT_OK(machine->Load(GuestCode().InvalidOpcode()));
  ASSERT_OK(machine->vcpu()->Start());
  ASSERT_EQ(machine->vcpu()->Wait().reason, Reason::kTripleFault);
  ASSERT_OK(machine->vcpu()->Reset());
  EXPECT_THAT(machine->vcpu()->DumpRegisters(),
              ::testing::Property(&absl::StatusOr<std::string>::ok, true));
  ASSERT_OK_AND_ASSIGN(const std::string reset,
                       machine->vcpu()->DumpRegisters());
  EXPECT_EQ(reset, fresh);
}

// A reboot: the first run leaves the local APIC on with an interrupt pending,
// an MSR changed and the vCPU halted; the second must find none of it.
TEST(KvmVcpuTest, RebootedGuestStartsFromAFreshProcessor) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  constexpr uint64_t kSpurious = 0xFEE000F0;
  constexpr uint64_t kSelfIpi = 0xFEE00300;
  const auto read_lstar = [](GuestCode* code) {
    code->Bytes({0xB9, 0x82, 0x00, 0x00, 0xC0, 0x0F, 0x32});  // rdmsr
  };
  GuestCode first;
  first.Store32(kSpurious, 0x1FF);
  first.Store32(kSelfIpi, 0x40000 | TestMachine::kVector);
  first
      .Bytes({0xB8, 0x44, 0x33, 0x22, 0x11, 0x31, 0xD2})   // eax, edx
      .Bytes({0xB9, 0x82, 0x00, 0x00, 0xC0, 0x0F, 0x30});  // wrmsr LSTAR
  read_lstar(&first);
  first.StoreEax(TestMachine::kData).Out8(TestMachine::kPort, 1).Cli().Hlt();
  ASSERT_OK(machine->Load(first));
  ASSERT_OK(machine->vcpu()->Start());
  ASSERT_EQ(machine->port()->WaitFor(1).size(), 1u);
  ASSERT_EQ(StopAndWait(machine->vcpu()).reason, Reason::kStopped);
  ASSERT_EQ(machine->ReadRam32(TestMachine::kData), 0x11223344u);

  ASSERT_OK(machine->vcpu()->Reset());
  ASSERT_OK(machine->vm()->Reset());
  GuestCode second;
  second.Load32(kSpurious).StoreEax(TestMachine::kData + 4);
  read_lstar(&second);
  second.StoreEax(TestMachine::kData).Sti().Out8(TestMachine::kPort, 2).Hlt();
  ASSERT_OK(machine->Load(second));
  ASSERT_OK(machine->vcpu()->Start());
  // With the interrupt still there, STI would have ended in a triple fault.
  ASSERT_EQ(machine->port()->WaitFor(2).size(), 2u);
  EXPECT_EQ(StopAndWait(machine->vcpu()).reason, Reason::kStopped);
  EXPECT_EQ(machine->ReadRam32(TestMachine::kData), 0u);
  EXPECT_EQ(machine->ReadRam32(TestMachine::kData + 4), 0xFFu);
}

TEST(KvmVcpuTest, ApplicationProcessorWaitsAndStops) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(const auto second,
                       KvmVcpu::Create({.id = 1, .vcpus = 2}, machine->vm(),
                                       machine->mmio(), machine->pio()));
  ASSERT_OK(second->Start());
  EXPECT_EQ(StopAndWait(second.get()).reason, Reason::kStopped);
}

// The guest starts it by INIT and SIPI; it runs in real mode and tells the APIC
// id that CPUID gives it.
TEST(KvmVcpuTest, ApplicationProcessorStartsAtTheSipiWithItsOwnApicId) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  constexpr uint32_t kId = 3;
  constexpr uint64_t kIcrLow = 0xFEE00300;
  constexpr uint64_t kIcrHigh = 0xFEE00310;
  constexpr uint64_t kStartPage = 0x20;
  ASSERT_OK_AND_ASSIGN(
      const auto second,
      KvmVcpu::Create({.id = kId, .vcpus = kId + 1}, machine->vm(),
                      machine->mmio(), machine->pio()));
  GuestCode real_mode;
  real_mode
      .Bytes({0x66, 0xB8, 0x01, 0x00, 0x00, 0x00})  // mov eax, 1
      .Bytes({0x0F, 0xA2})                          // cpuid
      .Bytes({0x66, 0x89, 0xD8})                    // mov eax, ebx
      .Bytes({0xBA, 0xF4, 0x00})                    // mov dx, kPort
      .Bytes({0x66, 0xEF, 0xF4});                   // out dx, eax; hlt
  machine->WriteRam(kStartPage << 12, real_mode.bytes());
  ASSERT_OK(machine->Load(GuestCode()
                              .Store32(0xFEE000F0, 0x1FF)
                              .Store32(kIcrHigh, kId << 24)
                              .Store32(kIcrLow, 0x4500)
                              .Store32(kIcrLow, 0x4600 | kStartPage)
                              .Hlt()));
  ASSERT_OK(second->Start());
  ASSERT_OK(machine->vcpu()->Start());
  const std::vector<Access> said = machine->port()->WaitFor(1);
  ASSERT_EQ(said.size(), 1u);
  EXPECT_EQ(said[0].value >> 24, kId);
  EXPECT_EQ(StopAndWait(second.get()).reason, Reason::kStopped);
}

TEST(KvmVcpuTest, BadIdsAndSignalsAreRefused) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  const auto create = [&](KvmVcpu::Options options) {
    return KvmVcpu::Create(options, machine->vm(), machine->mmio(),
                           machine->pio())
        .status();
  };
  EXPECT_THAT(create({.id = 1}), StatusIs(absl::StatusCode::kInvalidArgument))
      << "one of one";
  EXPECT_THAT(create({.id = 255, .vcpus = 256}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(create({.id = 0}), StatusIs(absl::StatusCode::kAlreadyExists));
  for (const int signal : {-1, 65, SIGKILL, SIGSTOP, SIGSEGV, SIGABRT}) {
    EXPECT_THAT(create({.id = 1, .vcpus = 2, .kick_signal = signal}),
                StatusIs(absl::StatusCode::kInvalidArgument));
  }
  EXPECT_OK(create({.id = 1, .vcpus = 2, .kick_signal = SIGUSR1}));
}

std::atomic<int> handled_signals = 0;

// The embedder uses the same signal for itself: our kicks are none of its
// handler's business, and its disposition stays.
TEST(KvmVcpuTest, KickIsNeverDelivered) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  struct sigaction mine = {};
  mine.sa_handler = [](int) { ++handled_signals; };
  struct sigaction before;
  ASSERT_EQ(sigaction(SIGRTMIN, &mine, &before), 0);
  ASSERT_OK(machine->Load(GuestCode().JumpToSelf()));
  for (int i = 0; i < 20; ++i) {
    ASSERT_OK(machine->vcpu()->Start());
    StopAndWait(machine->vcpu());
  }
  struct sigaction now;
  ASSERT_EQ(sigaction(SIGRTMIN, &before, &now), 0);
  EXPECT_EQ(handled_signals, 0);
  EXPECT_EQ(now.sa_handler, mine.sa_handler);
}

// Whatever the disposition is: default (it would end the process) and ignored.
TEST(KvmVcpuTest, KickWorksWithEveryDisposition) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK(machine->Load(GuestCode().Cli().Hlt()));
  for (void (*disposition)(int) : {SIG_DFL, SIG_IGN}) {
    struct sigaction mine = {};
    mine.sa_handler = disposition;
    struct sigaction before;
    ASSERT_EQ(sigaction(SIGRTMIN, &mine, &before), 0);
    ASSERT_OK(machine->vcpu()->Start());
    EXPECT_EQ(StopAndWait(machine->vcpu()).reason, Reason::kStopped);
    ASSERT_EQ(sigaction(SIGRTMIN, &before, nullptr), 0);
  }
}

TEST(KvmVcpuTest, SignalMaskOfTheCallerStays) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  sigset_t before;
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, nullptr, &before), 0);
  ASSERT_OK(machine->Load(GuestCode().Cli().Hlt()));
  ASSERT_OK(machine->vcpu()->Start());
  sigset_t after;
  ASSERT_EQ(pthread_sigmask(SIG_SETMASK, nullptr, &after), 0);
  for (int signal = 1; signal <= SIGRTMAX; ++signal) {
    EXPECT_EQ(sigismember(&before, signal), sigismember(&after, signal));
  }
}

}  // namespace
}  // namespace vmsg::vmm
