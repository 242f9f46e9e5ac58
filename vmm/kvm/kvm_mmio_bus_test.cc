#include "vmm/kvm/kvm_mmio_bus.h"

#include <memory>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/event_fd.h"
#include "vmm/kvm/kvm_memory_slot.h"
#include "vmm/kvm/test_machine.h"
#include "vmm/memory/shared_copy.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Access = RecordingHandler::Access;

constexpr uint64_t kPage = 4096;
constexpr GuestAddress kBar{0xD0000000};
constexpr GuestAddress kOtherBar{0xD8000000};

std::shared_ptr<const MemoryBacking> Pages(uint64_t count) {
  auto backing = MemoryBacking::CreateAnonymous(count * kPage, "bus_test");
  return backing.ok() ? *std::move(backing) : nullptr;
}

uint32_t Word(const MemoryBacking& backing, uint64_t offset) {
  return LoadShared<uint32_t>(backing.data() + offset,
                              std::memory_order_acquire);
}

// Runs `code` until it has written 1 to the port.
void RunToPort(TestMachine* machine, GuestCode code) {
  code.Out8(TestMachine::kPort, 1).Hlt();
  ASSERT_OK(machine->Load(code));
  const size_t before = machine->port()->WaitFor(0).size();
  ASSERT_OK(machine->vcpu()->Start());
  ASSERT_EQ(machine->port()->WaitFor(before + 1).size(), before + 1);
  machine->vcpu()->Stop();
  ASSERT_EQ(machine->vcpu()->Wait().reason, VcpuEnd::Reason::kStopped);
}

uint64_t MmioExits(const KvmVcpu* vcpu) {
  return vcpu->exits(VcpuExit::kMmioRead) + vcpu->exits(VcpuExit::kMmioWrite);
}

TEST(KvmMmioBusTest, GuestAccessReachesTheHandler) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  RecordingHandler handler(0x1122334455667788);
  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       machine->mmio()->MapHandler("bar0", kPage, &handler));
  ASSERT_OK(mapping->SetBase(kBar));

  RunToPort(machine.get(), GuestCode()
                               .Store32(kBar.value + 0x10, 0xCAFE)
                               .Load64(kBar.value + 0x20)
                               .StoreEax(TestMachine::kData));

  EXPECT_THAT(handler.WaitFor(2),
              ElementsAre(Access{0x10, 4, true, 0xCAFE}, Access{0x20, 8}));
  EXPECT_EQ(machine->ReadRam32(TestMachine::kData), 0x55667788u);
  EXPECT_EQ(machine->vcpu()->exits(VcpuExit::kMmioWrite), 1u);
  EXPECT_EQ(machine->vcpu()->exits(VcpuExit::kMmioRead), 1u);
}

TEST(KvmMmioBusTest, AddressOfNobodyReadsAllOnes) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  RunToPort(machine.get(), GuestCode()
                               .Store32(kBar.value, 1)
                               .Load32(kBar.value)
                               .StoreEax(TestMachine::kData));
  EXPECT_EQ(machine->ReadRam32(TestMachine::kData), 0xFFFFFFFFu);
  EXPECT_EQ(machine->mmio()->unclaimed().value(), 2u);
}

TEST(KvmMmioBusTest, MemoryIsSharedBothWaysWithoutAnExit) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  const auto backing = Pages(3);
  ASSERT_OK_AND_ASSIGN(const auto mapping, machine->mmio()->MapMemory(
                                               "bar1", backing, kPage, kPage));
  ASSERT_OK(mapping->SetBase(kBar));
  StoreShared<uint32_t>(backing->data() + kPage + 8, 0xBEEF,
                        std::memory_order_release);

  RunToPort(machine.get(), GuestCode()
                               .Store32(kBar.value, 0xF00D)
                               .Load32(kBar.value + 8)
                               .StoreEax(TestMachine::kData));

  EXPECT_EQ(Word(*backing, kPage), 0xF00Du);
  EXPECT_EQ(machine->ReadRam32(TestMachine::kData), 0xBEEFu);
  EXPECT_EQ(MmioExits(machine->vcpu()), 0u);
}

TEST(KvmMmioBusTest, MovedMemoryIsAtItsNewPlaceOnly) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  const auto backing = Pages(1);
  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       machine->mmio()->MapMemory("bar1", backing, 0, kPage));
  ASSERT_OK(mapping->SetBase(kBar));
  RunToPort(machine.get(), GuestCode().Store32(kBar.value, 0x51));
  ASSERT_OK(mapping->SetBase(kOtherBar));

  RunToPort(machine.get(), GuestCode()
                               .Load32(kOtherBar.value)
                               .StoreEax(TestMachine::kData)
                               .Store32(kBar.value, 0x52)
                               .Store32(kOtherBar.value + 4, 0x53));

  EXPECT_EQ(machine->ReadRam32(TestMachine::kData), 0x51u);
  EXPECT_EQ(Word(*backing, 0), 0x51u);
  EXPECT_EQ(Word(*backing, 4), 0x53u);
  EXPECT_EQ(machine->mmio()->unclaimed().value(), 1u);
}

TEST(KvmMmioBusTest, UnplacedMemoryIsNowhere) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  const auto backing = Pages(1);
  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       machine->mmio()->MapMemory("bar1", backing, 0, kPage));
  ASSERT_OK(mapping->SetBase(kBar));
  ASSERT_OK(mapping->SetBase(std::nullopt));
  RunToPort(machine.get(), GuestCode().Store32(kBar.value, 0x51));
  EXPECT_EQ(Word(*backing, 0), 0u);
  EXPECT_EQ(machine->mmio()->unclaimed().value(), 1u);
}

// A handler on the vCPU thread moves the memory, as a config write does.
TEST(KvmMmioBusTest, MemoryMovesFromWithinAHandlerWhileTheGuestRuns) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  class Mover final : public IoHandler {
   public:
    void Read(uint64_t, std::span<std::byte>) override {}
    void Write(uint64_t, std::span<const std::byte>) override {
      moved = mapping->SetBase(kOtherBar).ok();
    }
    MmioMapping* mapping = nullptr;
    bool moved = false;
  };
  const auto backing = Pages(1);
  ASSERT_OK_AND_ASSIGN(const auto memory,
                       machine->mmio()->MapMemory("bar1", backing, 0, kPage));
  ASSERT_OK(memory->SetBase(kBar));
  Mover mover;
  mover.mapping = memory.get();
  ASSERT_OK_AND_ASSIGN(const auto config,
                       machine->mmio()->MapHandler("config", kPage, &mover));
  ASSERT_OK(config->SetBase(GuestAddress{0xE0000000}));

  RunToPort(machine.get(), GuestCode()
                               .Store32(kBar.value, 1)
                               .Store32(0xE0000000, 0)
                               .Store32(kOtherBar.value + 4, 2));

  EXPECT_TRUE(mover.moved);
  EXPECT_EQ(Word(*backing, 0), 1u);
  EXPECT_EQ(Word(*backing, 4), 2u);
}

// The guest stores to both places without a pause while the host moves the
// memory to and fro: each store of the guest's lands, or hits nothing, and the
// vCPU goes on.
TEST(KvmMmioBusTest, MemoryMovesUnderAGuestThatUsesIt) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  constexpr int kMoves = 50;
  const auto backing = Pages(1);
  ASSERT_OK_AND_ASSIGN(const auto mapping,
                       machine->mmio()->MapMemory("bar1", backing, 0, kPage));
  ASSERT_OK(mapping->SetBase(kBar));
  GuestCode code;
  code.Increment32(kBar.value).Increment32(kOtherBar.value + 4).JumpTo(0);
  ASSERT_OK(machine->Load(code));
  ASSERT_OK(machine->vcpu()->Start());
  for (int i = 0; i < kMoves; ++i) {
    const uint32_t first = Word(*backing, 0);
    const uint32_t second = Word(*backing, 4);
    const auto deadline = std::chrono::steady_clock::now() + kTestTimeout;
    while (Word(*backing, 0) == first && Word(*backing, 4) == second) {
      ASSERT_LT(std::chrono::steady_clock::now(), deadline);
    }
    ASSERT_OK(mapping->SetBase(i % 2 == 0 ? kOtherBar : kBar));
  }
  machine->vcpu()->Stop();
  EXPECT_EQ(machine->vcpu()->Wait().reason, VcpuEnd::Reason::kStopped);
}

TEST(KvmMmioBusTest, OverlapsAreRefusedAndNamed) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  RecordingHandler handler;
  ASSERT_OK_AND_ASSIGN(const auto io,
                       machine->mmio()->MapHandler("bar0", kPage, &handler));
  ASSERT_OK_AND_ASSIGN(const auto memory, machine->mmio()->MapMemory(
                                              "bar1", Pages(2), 0, 2 * kPage));
  ASSERT_OK(io->SetBase(kBar));
  const auto taken = [](const char* a, const char* b) {
    return StatusIs(absl::StatusCode::kAlreadyExists,
                    AllOf(HasSubstr(a), HasSubstr(b)));
  };
  EXPECT_THAT(memory->SetBase(kBar), taken("bar1", "bar0"));
  EXPECT_THAT(memory->SetBase(GuestAddress{TestMachine::kRamBytes - kPage}),
              taken("bar1", "RAM"));
  EXPECT_THAT(io->SetBase(GuestAddress{0x100000}), taken("bar0", "RAM"));
  EXPECT_THAT(memory->SetBase(KvmVm::kLocalApic.start),
              taken("bar1", "local APIC"));
  EXPECT_THAT(memory->SetBase(KvmVm::kIoApic.start), taken("bar1", "I/O APIC"));
  EXPECT_THAT(io->SetBase(KvmVm::kInternal.start), taken("bar0", "KVM"));
  EXPECT_OK(memory->SetBase(kOtherBar));
  EXPECT_THAT(io->SetBase(kOtherBar), taken("bar0", "bar1"));
}

TEST(KvmMmioBusTest, RefusedMoveLeavesMemoryWhereItWas) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  const auto backing = Pages(1);
  ASSERT_OK_AND_ASSIGN(const auto memory,
                       machine->mmio()->MapMemory("bar1", backing, 0, kPage));
  ASSERT_OK(memory->SetBase(kBar));
  EXPECT_THAT(memory->SetBase(GuestAddress{0}),
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_THAT(memory->SetBase(GuestAddress{kBar.value + 4}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  RunToPort(machine.get(), GuestCode().Store32(kBar.value, 0x51));
  EXPECT_EQ(Word(*backing, 0), 0x51u);
  EXPECT_EQ(MmioExits(machine->vcpu()), 0u);
}

// KVM refuses what the table knows nothing of: a slot made behind the bus's
// back.
TEST(KvmMmioBusTest, PlaceThatOnlyKvmRefusesIsTakenBackFromTheTable) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(const auto hidden,
                       KvmMemorySlot::Create(machine->vm(), "hidden", Pages(1),
                                             0, kPage, false));
  ASSERT_OK(hidden->SetBase(kOtherBar));
  const auto backing = Pages(1);
  ASSERT_OK_AND_ASSIGN(const auto memory,
                       machine->mmio()->MapMemory("bar1", backing, 0, kPage));
  ASSERT_OK(memory->SetBase(kBar));
  EXPECT_THAT(memory->SetBase(kOtherBar),
              StatusIs(absl::StatusCode::kAlreadyExists));

  RecordingHandler handler;
  ASSERT_OK_AND_ASSIGN(const auto io,
                       machine->mmio()->MapHandler("bar0", kPage, &handler));
  EXPECT_OK(io->SetBase(kOtherBar));
  EXPECT_THAT(io->SetBase(kBar), StatusIs(absl::StatusCode::kAlreadyExists));
  RunToPort(machine.get(), GuestCode().Store32(kBar.value, 0x51));
  EXPECT_EQ(Word(*backing, 0), 0x51u);
}

TEST(KvmMmioBusTest, DoorbellSignalsWithoutAnExit) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  RecordingHandler handler;
  ASSERT_OK_AND_ASSIGN(const auto io,
                       machine->mmio()->MapHandler("bar0", kPage, &handler));
  ASSERT_OK(io->SetBase(kBar));
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  ASSERT_OK_AND_ASSIGN(const auto doorbell,
                       machine->mmio()->MapDoorbell("notify0", 4, &event));
  ASSERT_OK(doorbell->SetBase(GuestAddress{kBar.value + 0x100}));

  RunToPort(machine.get(), GuestCode()
                               .Store32(kBar.value + 0x100, 0)
                               .Store32(kBar.value + 0x100, 0xFFFFFFFF)
                               .Store32(kBar.value + 0x100, 7));

  EXPECT_EQ(event.Drain(), 3u);
  EXPECT_EQ(MmioExits(machine->vcpu()), 0u);
  EXPECT_EQ(handler.WaitFor(0).size(), 0u);
}

TEST(KvmMmioBusTest, OtherAccessesAtADoorbellGoToTheHandler) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  RecordingHandler handler;
  ASSERT_OK_AND_ASSIGN(const auto io,
                       machine->mmio()->MapHandler("bar0", kPage, &handler));
  ASSERT_OK(io->SetBase(kBar));
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  ASSERT_OK_AND_ASSIGN(const auto doorbell,
                       machine->mmio()->MapDoorbell("notify0", 4, &event));
  ASSERT_OK(doorbell->SetBase(GuestAddress{kBar.value + 0x100}));

  RunToPort(machine.get(),
            GuestCode()
                .Load32(kBar.value + 0x100)
                .Bytes({0xB0, 0x09, 0x88, 0x03})  // mov al, 9; mov [rbx], al
                .Store32(kBar.value + 0x104, 5));

  EXPECT_EQ(event.Drain(), 0u);
  EXPECT_THAT(handler.WaitFor(3),
              ElementsAre(Access{0x100, 4}, Access{0x100, 1, true, 9},
                          Access{0x104, 4, true, 5}));
}

TEST(KvmMmioBusTest, MovedDoorbellRingsAtItsNewPlaceOnly) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  ASSERT_OK_AND_ASSIGN(const auto doorbell,
                       machine->mmio()->MapDoorbell("notify0", 4, &event));
  ASSERT_OK(doorbell->SetBase(kBar));
  ASSERT_OK(doorbell->SetBase(kOtherBar));
  RunToPort(machine.get(),
            GuestCode().Store32(kBar.value, 1).Store32(kOtherBar.value, 1));
  EXPECT_EQ(event.Drain(), 1u);
  EXPECT_EQ(machine->mmio()->unclaimed().value(), 1u);

  ASSERT_OK(doorbell->SetBase(std::nullopt));
  RunToPort(machine.get(), GuestCode().Store32(kOtherBar.value, 1));
  EXPECT_EQ(event.Drain(), 0u);
  EXPECT_EQ(machine->mmio()->unclaimed().value(), 2u);
}

TEST(KvmMmioBusTest, TwoDoorbellsAtOnePlaceAreRefused) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  ASSERT_OK_AND_ASSIGN(const auto a,
                       machine->mmio()->MapDoorbell("notify0", 4, &event));
  ASSERT_OK_AND_ASSIGN(const auto b,
                       machine->mmio()->MapDoorbell("notify1", 4, &event));
  ASSERT_OK(a->SetBase(kBar));
  EXPECT_THAT(b->SetBase(kBar),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       AllOf(HasSubstr("notify0"), HasSubstr("notify1"))));
}

TEST(KvmMmioBusTest, DoorbellOfAnotherWidthIsRefused) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  EXPECT_THAT(machine->mmio()->MapDoorbell("notify0", 2, &event),
              StatusIs(absl::StatusCode::kInvalidArgument));
}

TEST(KvmMmioBusTest, DestroyedMappingsLeaveTheirPlacesFree) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(const EventFd event, EventFd::Create());
  {
    ASSERT_OK_AND_ASSIGN(const auto doorbell,
                         machine->mmio()->MapDoorbell("notify0", 4, &event));
    ASSERT_OK(doorbell->SetBase(kOtherBar));
    ASSERT_OK_AND_ASSIGN(const auto memory, machine->mmio()->MapMemory(
                                                "bar1", Pages(1), 0, kPage));
    ASSERT_OK(memory->SetBase(kBar));
  }
  RunToPort(machine.get(),
            GuestCode().Store32(kBar.value, 1).Store32(kOtherBar.value, 1));
  EXPECT_EQ(event.Drain(), 0u);
  EXPECT_EQ(machine->mmio()->unclaimed().value(), 2u);
}

TEST(KvmMmioBusTest, ReadOnlyRegionIsRomToTheGuest) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  const auto rom = Pages(1);
  StoreShared<uint32_t>(rom->data(), 0x5A5A, std::memory_order_release);
  ASSERT_OK(machine->memory()->Add(
      {.range = {kBar, kPage}, .read_only = true, .backing = rom}));
  ASSERT_OK(machine->mmio()->SyncGuestMemory(*machine->memory()));

  RunToPort(machine.get(), GuestCode()
                               .Store32(kBar.value, 1)
                               .Load32(kBar.value)
                               .StoreEax(TestMachine::kData));

  EXPECT_EQ(machine->ReadRam32(TestMachine::kData), 0x5A5Au);
  EXPECT_EQ(Word(*rom, 0), 0x5A5Au);
  EXPECT_EQ(machine->mmio()->rom_writes().value(), 1u);
  EXPECT_EQ(machine->vcpu()->exits(VcpuExit::kMmioRead), 0u);
}

TEST(KvmMmioBusTest, GuestMemoryFollowsItsMap) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  const GuestRange range = {kBar, kPage};
  const auto first = Pages(1);
  const auto second = Pages(1);
  ASSERT_OK(machine->memory()->Add({.range = range, .backing = first}));
  ASSERT_OK(machine->mmio()->SyncGuestMemory(*machine->memory()));
  RunToPort(machine.get(), GuestCode().Store32(kBar.value, 1));

  // Other memory at the same place.
  ASSERT_OK(machine->memory()->Remove(range));
  ASSERT_OK(machine->memory()->Add({.range = range, .backing = second}));
  ASSERT_OK(machine->mmio()->SyncGuestMemory(*machine->memory()));
  RunToPort(machine.get(), GuestCode().Store32(kBar.value, 2));

  ASSERT_OK(machine->memory()->Remove(range));
  ASSERT_OK(machine->mmio()->SyncGuestMemory(*machine->memory()));
  RunToPort(machine.get(), GuestCode().Store32(kBar.value, 3));

  EXPECT_EQ(Word(*first, 0), 1u);
  EXPECT_EQ(Word(*second, 0), 2u);
  EXPECT_EQ(machine->mmio()->unclaimed().value(), 1u);
}

TEST(KvmMmioBusTest, MemoryOverADeviceIsRefusedUntilTheDeviceIsGone) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  RecordingHandler handler;
  ASSERT_OK_AND_ASSIGN(const auto io,
                       machine->mmio()->MapHandler("bar0", kPage, &handler));
  ASSERT_OK(io->SetBase(kBar));
  ASSERT_OK(
      machine->memory()->Add({.range = {kBar, kPage}, .backing = Pages(1)}));
  EXPECT_THAT(machine->mmio()->SyncGuestMemory(*machine->memory()),
              StatusIs(absl::StatusCode::kAlreadyExists,
                       AllOf(HasSubstr("bar0"), HasSubstr("RAM"))));
  ASSERT_OK(io->SetBase(std::nullopt));
  EXPECT_OK(machine->mmio()->SyncGuestMemory(*machine->memory()));
}

}  // namespace
}  // namespace vmsg::vmm
