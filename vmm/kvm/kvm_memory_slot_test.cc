#include "vmm/kvm/kvm_memory_slot.h"

#include <memory>
#include <utility>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/kvm/test_machine.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::vmm {
namespace {

constexpr uint64_t kPage = 4096;
constexpr GuestAddress kPlace{0xD0000000};

std::shared_ptr<const MemoryBacking> Pages(uint64_t count) {
  auto backing = MemoryBacking::CreateAnonymous(count * kPage, "slot_test");
  return backing.ok() ? *std::move(backing) : nullptr;
}

TEST(KvmMemorySlotTest, RangesOutsideTheBackingAreRefused) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  const auto create = [&](uint64_t offset, uint64_t size) {
    return KvmMemorySlot::Create(machine->vm(), "slot", Pages(2), offset, size,
                                 false)
        .status();
  };
  EXPECT_OK(create(0, 2 * kPage));
  EXPECT_OK(create(kPage, kPage));
  const auto refused = StatusIs(absl::StatusCode::kInvalidArgument,
                                ::testing::HasSubstr("slot"));
  EXPECT_THAT(create(0, 0), refused);
  EXPECT_THAT(create(0, 100), refused);
  EXPECT_THAT(create(100, kPage), refused);
  EXPECT_THAT(create(kPage, 2 * kPage), refused);
  EXPECT_THAT(create(4 * kPage, kPage), refused);
  EXPECT_THAT(create(UINT64_MAX - kPage + 1, kPage), refused);
}

TEST(KvmMemorySlotTest, RefusedPlaceLeavesTheSlotWhereItWas) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(
      const auto slot,
      KvmMemorySlot::Create(machine->vm(), "slot", Pages(1), 0, kPage, false));
  EXPECT_EQ(slot->base(), std::nullopt);
  ASSERT_OK(slot->SetBase(kPlace));
  EXPECT_THAT(slot->SetBase(GuestAddress{kPlace.value + 8}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(slot->SetBase(GuestAddress{UINT64_MAX - 100}),
              StatusIs(absl::StatusCode::kInvalidArgument));
  EXPECT_THAT(slot->SetBase(GuestAddress{0}),  // RAM
              StatusIs(absl::StatusCode::kAlreadyExists));
  EXPECT_EQ(slot->base(), kPlace);
}

TEST(KvmMemorySlotTest, PlaceIsFreeAfterTheSlotLeftIt) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  ASSERT_OK_AND_ASSIGN(
      auto first,
      KvmMemorySlot::Create(machine->vm(), "a", Pages(1), 0, kPage, false));
  ASSERT_OK_AND_ASSIGN(
      const auto second,
      KvmMemorySlot::Create(machine->vm(), "b", Pages(1), 0, kPage, false));
  ASSERT_OK(first->SetBase(kPlace));
  EXPECT_THAT(second->SetBase(kPlace),
              StatusIs(absl::StatusCode::kAlreadyExists));
  ASSERT_OK(first->SetBase(std::nullopt));
  ASSERT_OK(second->SetBase(kPlace));
  ASSERT_OK(second->SetBase(GuestAddress{kPlace.value + kPage}));
  ASSERT_OK(first->SetBase(kPlace));
  first.reset();
  EXPECT_OK(second->SetBase(kPlace));
}

TEST(KvmMemorySlotTest, BackingStaysUntilTheSlotIsGone) {
  VMSG_TEST_MACHINE_OR_SKIP(machine);
  std::shared_ptr<const MemoryBacking> backing = Pages(1);
  const std::weak_ptr<const MemoryBacking> watch = backing;
  ASSERT_OK_AND_ASSIGN(
      auto slot, KvmMemorySlot::Create(machine->vm(), "slot",
                                       std::move(backing), 0, kPage, false));
  ASSERT_OK(slot->SetBase(kPlace));
  EXPECT_FALSE(watch.expired());
  slot.reset();
  EXPECT_TRUE(watch.expired());
}

}  // namespace
}  // namespace vmsg::vmm
