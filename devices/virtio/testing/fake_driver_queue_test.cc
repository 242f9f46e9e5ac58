// The fake on its own: what it leaves in memory, by the bytes. That it and the
// device side understand each other is tested with the queue.

#include "devices/virtio/testing/fake_driver_queue.h"

#include <gtest/gtest.h>

#include <vector>

#include "devices/virtio/little_endian.h"
#include "devices/virtio/testing/test_memory.h"

namespace vmsg::virtio {
namespace {

using Buffer = FakeDriverQueue::Buffer;
using Used = FakeDriverQueue::Used;

constexpr uint32_t kSize = 4;
constexpr vmm::GuestAddress kBuffer = TestMemory::kBuffers;

class FakeDriverQueueTest : public ::testing::Test {
 protected:
  uint16_t Word(vmm::GuestAddress area, uint64_t offset) {
    const auto bytes = memory_.Read({area.value + offset}, 2);
    return LoadLittle<uint16_t>(std::span(bytes).first<2>());
  }
  void PutUsed(uint16_t slot, uint32_t id, uint32_t length, uint16_t idx) {
    const UsedEntryBytes entry = EncodeUsedEntry(id, length);
    memory_.Write(
        {driver_.config().device.value + kUsedRing + kUsedEntryBytes * slot},
        {entry.begin(), entry.end()});
    std::vector<std::byte> word(2);
    StoreLittle(idx, std::span(word).first<2>());
    memory_.Write({driver_.config().device.value + kUsedIdx}, word);
  }

  TestMemory memory_;
  FakeDriverQueue driver_{memory_.memory(), TestMemory::kRam, kSize};
};

TEST_F(FakeDriverQueueTest, ChainLiesInTheTableAsTheStandardSays) {
  // virtio 1.2, 2.7.5: addr, len, flags, next.
  driver_.Add(std::vector<Buffer>{{kBuffer, 0x1234}, {kBuffer, 8, true}});
  const auto bytes = memory_.Read(driver_.config().desc, 32);
  const std::span<const std::byte> all(bytes);
  EXPECT_EQ(LoadLittle<uint64_t>(all.subspan<0, 8>()), kBuffer.value);
  EXPECT_EQ(LoadLittle<uint32_t>(all.subspan<8, 4>()), 0x1234u);
  EXPECT_EQ(LoadLittle<uint16_t>(all.subspan<12, 2>()), 1);  // NEXT
  EXPECT_EQ(LoadLittle<uint16_t>(all.subspan<14, 2>()), 1);
  EXPECT_EQ(LoadLittle<uint16_t>(all.subspan<28, 2>()), 2);  // WRITE
  EXPECT_EQ(Word(driver_.config().driver, 2), 1);            // idx
  EXPECT_EQ(Word(driver_.config().driver, 4), 0);            // ring[0]
}

TEST_F(FakeDriverQueueTest, NoChainWithoutEnoughFreeDescriptors) {
  const std::vector<Buffer> three(3, Buffer{kBuffer, 8});
  EXPECT_TRUE(driver_.Add(three).has_value());
  EXPECT_FALSE(driver_.Add(three).has_value());
  EXPECT_EQ(driver_.outstanding(), 1u);
  EXPECT_EQ(driver_.avail_idx(), 1);
}

TEST_F(FakeDriverQueueTest, UsedEntryFreesItsDescriptors) {
  const std::vector<Buffer> three(3, Buffer{kBuffer, 8});
  const auto head = driver_.Add(three);
  PutUsed(0, *head, 5, 1);
  EXPECT_EQ(driver_.TakeUsed(), (Used{*head, 5}));
  EXPECT_EQ(driver_.TakeUsed(), std::nullopt);
  EXPECT_TRUE(driver_.Add(three).has_value());
}

TEST_F(FakeDriverQueueTest, UsedEntryThatIsNotOwedIsBad) {
  PutUsed(0, 2, 0, 1);
  EXPECT_EQ(driver_.TakeUsed(), std::nullopt);
  EXPECT_EQ(driver_.bad_used(), 1u);
  PutUsed(1, 0xffffffff, 0, 2);
  EXPECT_EQ(driver_.TakeUsed(), std::nullopt);
  EXPECT_EQ(driver_.bad_used(), 2u);
}

TEST_F(FakeDriverQueueTest, KicksOnlyForNewBuffers) {
  EXPECT_FALSE(driver_.ShouldKick());
  driver_.Add(std::vector<Buffer>{{kBuffer, 8}});
  EXPECT_TRUE(driver_.ShouldKick());
  EXPECT_FALSE(driver_.ShouldKick());
}

}  // namespace
}  // namespace vmsg::virtio
