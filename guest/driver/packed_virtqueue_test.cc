#include "guest/driver/packed_virtqueue.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "gtest/gtest.h"
#include "guest/driver/testing/virtqueue_fixture.h"

namespace vmsg::guest {
namespace {

constexpr uint16_t kNext = 1;
constexpr uint16_t kWrite = 2;
constexpr uint16_t kIndirect = 4;
constexpr uint16_t kAvail = 0x80;
constexpr uint16_t kUsed = 0x8000;

// A descriptor as the device reads it.
struct Descriptor {
  uint64_t address;
  uint32_t length;
  uint16_t id;
  uint16_t flags;
};

class PackedVirtqueueTest : public VirtqueueFixture {
 protected:
  PackedVirtqueueTest() : VirtqueueFixture(RingFormat::kPacked) {}

  Descriptor Desc(uint32_t i) { return Entry(ring(), i); }
  Descriptor Entry(uint64_t table, uint32_t i) {
    Descriptor result;
    std::memcpy(&result, At(table + 16 * i), 16);
    return result;
  }
  void SetFlags(uint32_t i, uint16_t flags) {
    Store<uint16_t>(ring() + 16 * i + 14, flags);
  }
  uint64_t ring() { return queue_->areas().descriptors; }
  uint16_t InterruptPlace() { return Load<uint16_t>(queue_->areas().driver); }
  uint16_t InterruptFlags() {
    return Load<uint16_t>(queue_->areas().driver + 2);
  }
  void AskForNotification(uint16_t place, uint16_t flags) {
    Store<uint16_t>(queue_->areas().device, place);
    Store<uint16_t>(queue_->areas().device + 2, flags);
  }
  // The device uses `n` chains of one descriptor, to get further.
  void Turn(uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) {
      AddAndPublish(i);
      device_->Push(device_->Pop().value(), 1);
      UsedChain used;
      ASSERT_EQ(queue_->Take(&used), Error::kNone);
    }
  }
};

TEST_F(PackedVirtqueueTest, SizeNeedNotBeAPowerOfTwo) {
  Create({.size = 5});
  for (uint64_t i = 0; i < 5; ++i) ASSERT_EQ(Add(i), Error::kNone);
  EXPECT_EQ(Add(5), Error::kQueueFull);
}

TEST_F(PackedVirtqueueTest, AreasAreAlignedAndTheRingIsZero) {
  // virtio 1.2, 2.8.10.1: 16, 4 and 4.
  Create({.size = kSize});
  EXPECT_EQ(ring() % 16, 0u);
  EXPECT_EQ(queue_->areas().driver % 4, 0u);
  EXPECT_EQ(queue_->areas().device % 4, 0u);
  for (uint64_t i = 0; i < 2 * kSize; ++i) {
    EXPECT_EQ(Load<uint64_t>(ring() + 8 * i), 0u);
  }
  EXPECT_EQ(Load<uint32_t>(queue_->areas().driver), 0u);
  EXPECT_EQ(Load<uint32_t>(queue_->areas().device), 0u);
}

TEST_F(PackedVirtqueueTest, ChainIsWrittenInRingOrderWithItsIdInTheLast) {
  // virtio 1.2, 2.8.6.
  Create({.size = kSize});
  const std::array<QueueBuffer, 3> buffers = {QueueBuffer{0x1000, 16, false},
                                              QueueBuffer{0x2000, 512, true},
                                              QueueBuffer{0x3000, 1, true}};
  Turn(1);
  ASSERT_EQ(queue_->Add(buffers, 42), Error::kNone);
  EXPECT_EQ(Desc(1).flags, 0u);
  queue_->Publish();
  EXPECT_EQ(Desc(1).address, 0x1000u);
  EXPECT_EQ(Desc(1).length, 16u);
  EXPECT_EQ(Desc(1).flags, kAvail | kNext);
  EXPECT_EQ(Desc(2).address, 0x2000u);
  EXPECT_EQ(Desc(2).flags, kAvail | kNext | kWrite);
  EXPECT_EQ(Desc(3).address, 0x3000u);
  EXPECT_EQ(Desc(3).flags, kAvail | kWrite);
  device_->PushId(Desc(3).id, 513);
  ExpectTaken(42, 513);
}

TEST_F(PackedVirtqueueTest, FlagsTurnAroundWithEachRound) {
  // virtio 1.2, 2.8.1. A chain that goes over the end changes in the middle.
  Create({.size = 4});
  Turn(3);
  AddAndPublish(1, /*buffers=*/2);
  EXPECT_EQ(Desc(3).flags, kAvail | kNext | kWrite);
  EXPECT_EQ(Desc(0).flags, kUsed | kWrite);
  device_->Push(Pop(), 200);
  EXPECT_EQ(Desc(3).flags, kAvail | kUsed | kWrite);
  EXPECT_EQ(Desc(0).flags, kUsed | kWrite);  // skipped
  ExpectTaken(1, 200);
  AddAndPublish(2);
  device_->Push(Pop(), 1);
  EXPECT_EQ(Desc(1).flags, kWrite);
  ExpectTaken(2, 1);
}

TEST_F(PackedVirtqueueTest, FirstDescriptorOfABatchIsShownLast) {
  Create({.size = kSize});
  ASSERT_EQ(Add(1, 2), Error::kNone);
  ASSERT_EQ(Add(2, 2), Error::kNone);
  EXPECT_EQ(Desc(0).flags, 0u);
  EXPECT_NE(Desc(2).flags, 0u);  // out of sight behind it
  queue_->Publish();
  EXPECT_EQ(Desc(0).flags, kAvail | kNext | kWrite);
}

TEST_F(PackedVirtqueueTest, IndirectTableHasNoFlagsButWrite) {
  // virtio 1.2, 2.8.7 and 2.8.19.
  Create({.size = 2, .indirect_buffers = 3});
  const std::array<QueueBuffer, 3> buffers = {QueueBuffer{0x1000, 16, false},
                                              QueueBuffer{0x2000, 512, true},
                                              QueueBuffer{0x3000, 1, true}};
  ASSERT_EQ(queue_->Add(buffers, 1), Error::kNone);
  queue_->Publish();
  EXPECT_EQ(Desc(0).flags, kAvail | kIndirect);
  EXPECT_EQ(Desc(0).length, 48u);
  const uint64_t table = Desc(0).address;
  EXPECT_EQ(table % 16, 0u);
  EXPECT_EQ(Entry(table, 0).flags, 0u);
  EXPECT_EQ(Entry(table, 1).flags, kWrite);
  EXPECT_EQ(Entry(table, 2).flags, kWrite);
  for (const uint32_t i : {0u, 1u, 2u}) EXPECT_EQ(Entry(table, i).id, 0u);
}

TEST_F(PackedVirtqueueTest, LengthCountsOnlyWithTheWriteFlag) {
  // virtio 1.2, 2.8.4.
  Create({.size = kSize});
  AddAndPublish(1);
  Pop();
  Store<uint32_t>(ring() + 8, 0xFFFFFFFF);
  SetFlags(0, kAvail | kUsed);
  ExpectTaken(1, 0);
}

TEST_F(PackedVirtqueueTest, OtherFlagsOfAUsedDescriptorAreIgnored) {
  // virtio 1.2, 2.8.6.
  Create({.size = kSize});
  AddAndPublish(1);
  Pop();
  SetFlags(0, static_cast<uint16_t>(~0u));
  ExpectTaken(1, 100);
}

TEST_F(PackedVirtqueueTest, InterruptWishIsInTheFlags) {
  Create({.size = kSize});
  EXPECT_EQ(InterruptFlags(), 0u);
  queue_->EnableInterrupts(false);
  EXPECT_EQ(InterruptFlags(), 1u);
  queue_->EnableInterrupts(true);
  EXPECT_EQ(InterruptFlags(), 0u);
}

TEST_F(PackedVirtqueueTest, InterruptPlaceFollowsWhatWasTaken) {
  Create({.size = 3, .event_index = true});
  EXPECT_EQ(InterruptFlags(), 2u);
  EXPECT_EQ(InterruptPlace(), 0x8000u);
  Turn(2);
  EXPECT_EQ(InterruptPlace(), 0x8002u);
  AddAndPublish(1, /*buffers=*/2);  // over the end
  device_->Push(Pop(), 1);
  ExpectTaken(1, 1);
  EXPECT_EQ(InterruptPlace(), 0x0001u);
  queue_->EnableInterrupts(false);
  EXPECT_EQ(InterruptFlags(), 1u);
  Turn(1);
  EXPECT_EQ(InterruptFlags(), 1u);
  queue_->EnableInterrupts(true);
  EXPECT_EQ(InterruptFlags(), 2u);
  EXPECT_EQ(InterruptPlace(), 0x0002u);
}

TEST_F(PackedVirtqueueTest, WishThatMakesNoSenseGetsANotification) {
  struct Wish {
    uint16_t place;
    uint16_t flags;
    bool event_index;
  };
  for (const Wish& wish :
       {Wish{0, 3, true},                                  // reserved
        Wish{0x8000 + kSize, 2, true},                     // past the ring
        Wish{0x7FFF, 2, true}, Wish{0x8005, 2, false}}) {  // not negotiated
    Create({.size = kSize, .event_index = wish.event_index});
    AskForNotification(wish.place, wish.flags);
    ASSERT_EQ(Add(1), Error::kNone);
    EXPECT_TRUE(queue_->Publish()) << wish.place << " " << wish.flags;
  }
}

TEST_F(PackedVirtqueueTest, ReservedBitsOfAWishAreIgnored) {
  Create({.size = kSize});
  AskForNotification(0, 0xFFFD);
  ASSERT_EQ(Add(1), Error::kNone);
  EXPECT_FALSE(queue_->Publish());
}

TEST_F(PackedVirtqueueTest, PositionIsOffsetAndWrapCounter) {
  // virtio-msg-messages, 4.13; virtio 1.2, 2.9.
  Create({.size = 3});
  EXPECT_EQ(queue_->position(), 0x80000000u);
  ASSERT_EQ(Add(1, /*buffers=*/2), Error::kNone);
  EXPECT_EQ(queue_->position(), 0x80000000u);  // not published yet
  queue_->Publish();
  EXPECT_EQ(queue_->position(), 0x80000002u);
  device_->Push(Pop(), 1);
  ExpectTaken(1, 1);
  ASSERT_EQ(Add(2), Error::kNone);  // the last of its round
  EXPECT_EQ(queue_->position(), 0x80000002u);
  queue_->Publish();
  EXPECT_EQ(queue_->position(), 0x00000000u);
  device_->Push(Pop(), 1);
  ExpectTaken(2, 1);
  AddAndPublish(3, /*buffers=*/3);
  EXPECT_EQ(queue_->position(), 0x80000000u);
}

TEST_F(PackedVirtqueueTest, LargestRingGoesAround) {
  Create({.size = Virtqueue::kMaxSize});
  EXPECT_EQ(Add(0, Virtqueue::kMaxSize), Error::kNone);
  queue_->Publish();
  EXPECT_EQ(queue_->position(), 0u);
  FakeRing::Chain chain = Pop();
  EXPECT_EQ(chain.buffers.size(), Virtqueue::kMaxSize);
  device_->Push(chain, 1);
  ExpectTaken(0, 1);
  Turn(Virtqueue::kMaxSize + 5);
  EXPECT_EQ(queue_->position(), 0x80000005u);
}

// --- A device that lies. ---

TEST_F(PackedVirtqueueTest, UsedDescriptorWithNothingOutstandingBreaks) {
  Create({.size = kSize});
  SetFlags(0, kAvail | kUsed);
  ExpectBroken(QueueFault::kUnknownChain);
}

TEST_F(PackedVirtqueueTest, HeldBackDescriptorCannotComeBack) {
  Create({.size = kSize});
  ASSERT_EQ(Add(1), Error::kNone);
  SetFlags(0, kAvail | kUsed);
  ExpectBroken(QueueFault::kUnpublishedChain);
}

TEST_F(PackedVirtqueueTest, UsedFlagsOfTheOtherRoundAreNoNews) {
  Create({.size = kSize});
  AddAndPublish(1);
  SetFlags(0, 0);
  ExpectNothing();
  SetFlags(0, kUsed);
  ExpectNothing();
  SetFlags(0, kAvail);
  ExpectNothing();
  SetFlags(0, kAvail | kUsed | kWrite);
  ExpectTaken(1, 100);
}

}  // namespace
}  // namespace vmsg::guest
