// An index of the other side is loaded once for one decision, whatever it is
// the next time. Two threads hardly ever show that; a place that changes with
// each load does.

#include "devices/virtio_msg_amp_pci/fifo/packet_queue.h"

#include <array>
#include <cstddef>
#include <cstdint>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "gtest/gtest.h"

namespace vmsg::amp {
namespace {

constexpr uint32_t kSlots = 8;
constexpr uint32_t kNowhere = 60'000;

struct Memory {
  alignas(8) std::array<std::byte, kSlots* kFifoPacketBytes> packets = {};
  uint32_t written = 0;
  uint32_t taken = 0;
  // The side that is not under test writes behind each load of its index.
  bool producer_is_hostile = false;
  bool consumer_is_hostile = false;
  uint32_t loads = 0;  // of the hostile side's index
};

struct ChangingPlace {
  Memory* memory;

  static uint32_t slots() { return kSlots; }
  std::byte* slot(uint32_t i) const {
    EXPECT_LT(i, kSlots);
    return memory->packets.data() + i * kFifoPacketBytes;
  }
  uint32_t LoadWritten() const {
    return Load(&memory->written, memory->producer_is_hostile);
  }
  uint32_t LoadTaken() const {
    return Load(&memory->taken, memory->consumer_is_hostile);
  }
  void StoreWritten(uint32_t index) const { memory->written = index; }
  void StoreTaken(uint32_t index) const { memory->taken = index; }

 private:
  uint32_t Load(uint32_t* index, bool hostile) const {
    const uint32_t value = *index;
    if (hostile) {
      ++memory->loads;
      *index = kNowhere;
    }
    return value;
  }
};

TEST(PacketQueueTest, ConsumerDecidesOnOneLoadOfTheProducersIndex) {
  Memory memory;
  memory.producer_is_hostile = true;
  PacketConsumer<ChangingPlace> consumer({&memory});
  memory.written = 3;
  Packet packet;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(consumer.Pop(&packet));
  EXPECT_EQ(memory.loads, 1u);
  EXPECT_EQ(consumer.fault(), FifoFault::kNone);
  // The value of the next look is another one, and is checked.
  EXPECT_FALSE(consumer.Pop(&packet));
  EXPECT_EQ(memory.loads, 2u);
  EXPECT_EQ(consumer.fault(), FifoFault::kIndexOutOfRange);
}

TEST(PacketQueueTest, ProducerDecidesOnOneLoadOfTheConsumersIndex) {
  Memory memory;
  memory.consumer_is_hostile = true;
  PacketProducer<ChangingPlace> producer({&memory});
  const std::array<std::byte, 8> message = {};
  // Until it has to look whether the consumer has taken some.
  for (uint32_t i = 0; i + 1 < kSlots; ++i) {
    ASSERT_TRUE(producer.Push(message));
    producer.Commit();
  }
  EXPECT_EQ(memory.loads, 0u);
  memory.taken = 2;
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(producer.Push(message));
  EXPECT_EQ(memory.loads, 1u);
  EXPECT_EQ(producer.fault(), FifoFault::kNone);
  EXPECT_FALSE(producer.Push(message));
  EXPECT_EQ(memory.loads, 2u);
  EXPECT_EQ(producer.fault(), FifoFault::kIndexOutOfRange);
}

TEST(PacketQueueTest, UnreadIsOfOneLoad) {
  Memory memory;
  PacketProducer<ChangingPlace> producer({&memory});
  const std::array<std::byte, 8> message = {};
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(producer.Push(message));
  producer.Commit();
  memory.consumer_is_hostile = true;
  memory.taken = 2;
  EXPECT_EQ(producer.Unread(), 3u);
  EXPECT_EQ(memory.loads, 1u);
}

}  // namespace
}  // namespace vmsg::amp
