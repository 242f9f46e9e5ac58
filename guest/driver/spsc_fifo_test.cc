#include "guest/driver/spsc_fifo.h"

#include <array>
#include <cstddef>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/shared_memory.h"
#include "guest/driver/testing/bytes.h"

namespace vmsg::guest {
namespace {

// Places in the window. Source: amp-pci-device, 3.1.
constexpr size_t kDriverHead = 0x1000;
constexpr size_t kDriverTail = 0x1040;
constexpr size_t kDriverPackets = 0x1080;
constexpr size_t kDeviceHead = 0x2000;
constexpr size_t kDeviceTail = 0x2040;
constexpr size_t kDevicePackets = 0x2080;

class SpscFifoTest : public testing::Test {
 protected:
  SpscFifoTest() : window_(new Window()), fifo_(window_->bytes.data()) {}

  uint32_t Word(size_t offset) {
    return LoadAcquire<uint32_t>(&window_->bytes[offset]);
  }
  void SetWord(size_t offset, uint32_t value) {
    StoreRelease<uint32_t>(&window_->bytes[offset], value);
  }
  std::vector<std::byte> PacketAt(size_t offset) {
    return ToVector(std::span(window_->bytes).subspan(offset, kPacketBytes));
  }

  struct alignas(4096) Window {
    std::array<std::byte, kFifoWindowBytes> bytes = {};
  };
  std::unique_ptr<Window> window_;
  SpscFifo fifo_;
};

TEST_F(SpscFifoTest, SendWritesThePacketThenPublishesTheHead) {
  ASSERT_TRUE(fifo_.Attach());
  ASSERT_TRUE(fifo_.Send(Bytes("01 02 03")));
  EXPECT_EQ(Word(kDriverHead), 0u);
  fifo_.CommitSent();
  EXPECT_EQ(Word(kDriverHead), 1u);
  std::vector<std::byte> expected = Bytes("01 02 03");
  expected.resize(kPacketBytes);
  EXPECT_EQ(PacketAt(kDriverPackets), expected);
}

TEST_F(SpscFifoTest, ShortMessageOverwritesTheWholeOldPacket) {
  std::memset(&window_->bytes[kDriverPackets], 0xEE, kPacketBytes);
  ASSERT_TRUE(fifo_.Attach());
  ASSERT_TRUE(fifo_.Send(Bytes("01 02 03 04 05 06 07 08 09")));
  std::vector<std::byte> expected = Bytes("01 02 03 04 05 06 07 08 09");
  expected.resize(kPacketBytes);
  EXPECT_EQ(PacketAt(kDriverPackets), expected);
}

TEST_F(SpscFifoTest, TakesWhatTheDevicePublished) {
  ASSERT_TRUE(fifo_.Attach());
  Packet packet;
  EXPECT_FALSE(fifo_.Receive(&packet));
  for (size_t i = 0; i < kPacketBytes; ++i) {
    window_->bytes[kDevicePackets + i] = static_cast<std::byte>(i);
  }
  SetWord(kDeviceHead, 1);
  ASSERT_TRUE(fifo_.Receive(&packet));
  EXPECT_EQ(ToVector(packet.bytes), PacketAt(kDevicePackets));
  EXPECT_EQ(Word(kDeviceTail), 0u);
  fifo_.CommitReceived();
  EXPECT_EQ(Word(kDeviceTail), 1u);
  EXPECT_FALSE(fifo_.Receive(&packet));
}

TEST_F(SpscFifoTest, HoldsSixtyOnePackets) {
  ASSERT_TRUE(fifo_.Attach());
  for (uint32_t i = 0; i < SpscFifo::kCapacity; ++i) {
    ASSERT_TRUE(fifo_.Send(Bytes("01")));
  }
  fifo_.CommitSent();
  EXPECT_FALSE(fifo_.Send(Bytes("01")));
  EXPECT_EQ(Word(kDriverHead), 61u);
  SetWord(kDriverTail, 1);
  EXPECT_TRUE(fifo_.Send(Bytes("01")));
  EXPECT_FALSE(fifo_.Send(Bytes("01")));
  fifo_.CommitSent();
  EXPECT_EQ(Word(kDriverHead), 0u);  // wrapped
  EXPECT_EQ(fifo_.state(), FifoState::kRunning);
}

TEST_F(SpscFifoTest, RefusesMessagesThatAreEmptyOrTooLong) {
  ASSERT_TRUE(fifo_.Attach());
  const std::array<std::byte, 65> bytes = {};
  EXPECT_FALSE(fifo_.Send({}));
  EXPECT_FALSE(fifo_.Send(bytes));
  EXPECT_TRUE(fifo_.Send(std::span(bytes).first(64)));
}

TEST_F(SpscFifoTest, AttachCarriesOnAtTheIndicesItFinds) {
  // amp-pci-device, 3.1: a driver starts from the indices that it finds.
  SetWord(kDriverHead, 61);
  SetWord(kDriverTail, 61);
  SetWord(kDeviceHead, 2);
  SetWord(kDeviceTail, 1);
  window_->bytes[kDevicePackets + kPacketBytes] = std::byte{0x77};
  ASSERT_TRUE(fifo_.Attach());
  ASSERT_TRUE(fifo_.Send(Bytes("55")));
  fifo_.CommitSent();
  EXPECT_EQ(Word(kDriverHead), 0u);
  EXPECT_EQ(PacketAt(kDriverPackets + 61 * kPacketBytes)[0], std::byte{0x55});
  Packet packet;
  ASSERT_TRUE(fifo_.Receive(&packet));
  EXPECT_EQ(packet.bytes[0], std::byte{0x77});
  EXPECT_FALSE(fifo_.Receive(&packet));
}

class SpscFifoAttachTest : public SpscFifoTest,
                           public testing::WithParamInterface<size_t> {};

TEST_P(SpscFifoAttachTest, RefusesAnIndexPastTheQueue) {
  SetWord(GetParam(), 62);
  EXPECT_FALSE(fifo_.Attach());
  EXPECT_EQ(fifo_.state(), FifoState::kBroken);
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexOutOfRange);
  SetWord(GetParam(), 0);
  EXPECT_TRUE(fifo_.Attach());
  EXPECT_EQ(fifo_.state(), FifoState::kRunning);
}

TEST_P(SpscFifoAttachTest, NamesThatIndexWhateverWentWrongBefore) {
  ASSERT_TRUE(fifo_.Attach());
  Packet packet;
  SetWord(kDeviceHead, 5);
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(fifo_.Receive(&packet));
  SetWord(kDeviceHead, 3);
  EXPECT_FALSE(fifo_.Receive(&packet));
  ASSERT_EQ(fifo_.fault(), FifoFault::kIndexWentBack);
  SetWord(GetParam(), 62);
  EXPECT_FALSE(fifo_.Attach());
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexOutOfRange);
}

INSTANTIATE_TEST_SUITE_P(EachIndex, SpscFifoAttachTest,
                         testing::Values(kDriverHead, kDriverTail, kDeviceHead,
                                         kDeviceTail));

TEST_F(SpscFifoTest, DeviceHeadPastTheQueueBreaksAndStaysBroken) {
  ASSERT_TRUE(fifo_.Attach());
  SetWord(kDeviceHead, 62);
  Packet packet;
  EXPECT_FALSE(fifo_.Receive(&packet));
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexOutOfRange);
  SetWord(kDeviceHead, 1);
  EXPECT_FALSE(fifo_.Receive(&packet));
  EXPECT_FALSE(fifo_.Send(Bytes("01")));
  EXPECT_EQ(fifo_.state(), FifoState::kBroken);
}

TEST_F(SpscFifoTest, DeviceHeadThatTakesPacketsBackBreaks) {
  ASSERT_TRUE(fifo_.Attach());
  SetWord(kDeviceHead, 5);
  Packet packet;
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(fifo_.Receive(&packet));
  // Room for slots 0 to 4 has not been given back, so 3 can't be new packets.
  SetWord(kDeviceHead, 3);
  EXPECT_FALSE(fifo_.Receive(&packet));
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexWentBack);
}

TEST_F(SpscFifoTest, DeviceTailPastTheQueueBreaks) {
  ASSERT_TRUE(fifo_.Attach());
  for (uint32_t i = 0; i < SpscFifo::kCapacity; ++i) {
    ASSERT_TRUE(fifo_.Send(Bytes("01")));
  }
  fifo_.CommitSent();
  SetWord(kDriverTail, 0xFFFFFFFF);
  EXPECT_FALSE(fifo_.Send(Bytes("01")));
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexOutOfRange);
}

TEST_F(SpscFifoTest, DeviceTailThatClaimsUnpublishedPacketsBreaks) {
  ASSERT_TRUE(fifo_.Attach());
  for (uint32_t i = 0; i < SpscFifo::kCapacity; ++i) {
    ASSERT_TRUE(fifo_.Send(Bytes("01")));
  }
  // Nothing is published yet, so nothing can be consumed.
  SetWord(kDriverTail, 7);
  EXPECT_FALSE(fifo_.Send(Bytes("01")));
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexWentBack);
}

TEST_F(SpscFifoTest, OwnHeadWrittenByTheDeviceBreaksWhenRoomIsLookedFor) {
  ASSERT_TRUE(fifo_.Attach());
  for (uint32_t i = 0; i < SpscFifo::kCapacity; ++i) {
    ASSERT_TRUE(fifo_.Send(Bytes("01")));
  }
  fifo_.CommitSent();
  SetWord(kDriverHead, 9);
  SetWord(kDriverTail, 3);
  EXPECT_FALSE(fifo_.Send(Bytes("01")));
  EXPECT_EQ(fifo_.fault(), FifoFault::kForeignIndexWrite);
  EXPECT_EQ(Word(kDriverHead), 9u);
}

TEST_F(SpscFifoTest, OwnTailWrittenByTheDeviceBreaks) {
  ASSERT_TRUE(fifo_.Attach());
  SetWord(kDeviceHead, 1);
  Packet packet;
  ASSERT_TRUE(fifo_.Receive(&packet));
  fifo_.CommitReceived();
  SetWord(kDeviceTail, 4);
  SetWord(kDeviceHead, 2);
  EXPECT_FALSE(fifo_.Receive(&packet));
  EXPECT_EQ(fifo_.fault(), FifoFault::kForeignIndexWrite);
}

// A device that sends back what it gets, on the other thread.
TEST_F(SpscFifoTest, CarriesPacketsInOrderBetweenThreads) {
  constexpr uint32_t kPackets = 20000;
  ASSERT_TRUE(fifo_.Attach());
  std::thread device([this] {
    uint32_t driver_tail = 0;
    uint32_t device_head = 0;
    for (uint32_t i = 0; i < kPackets; ++i) {
      while (Word(kDriverHead) == driver_tail) std::this_thread::yield();
      Packet packet;
      CopyFromShared(packet.bytes.data(),
                     &window_->bytes[kDriverPackets + 64 * driver_tail], 64);
      driver_tail = (driver_tail + 1) % 62;
      SetWord(kDriverTail, driver_tail);
      while ((device_head + 1) % 62 == Word(kDeviceTail)) {
        std::this_thread::yield();
      }
      CopyToShared(&window_->bytes[kDevicePackets + 64 * device_head],
                   packet.bytes.data(), 64);
      device_head = (device_head + 1) % 62;
      SetWord(kDeviceHead, device_head);
    }
  });
  uint32_t sent = 0;
  uint32_t received = 0;
  while (received < kPackets) {
    std::array<std::byte, 64> message;
    for (size_t i = 0; i < 64; i += 4) std::memcpy(&message[i], &sent, 4);
    if (sent < kPackets && fifo_.Send(message)) {
      fifo_.CommitSent();
      ++sent;
    }
    Packet packet;
    if (!fifo_.Receive(&packet)) {
      ASSERT_EQ(fifo_.state(), FifoState::kRunning);
      std::this_thread::yield();
      continue;
    }
    fifo_.CommitReceived();
    for (size_t i = 0; i < 64; i += 4) {
      uint32_t word;
      std::memcpy(&word, &packet.bytes[i], 4);
      ASSERT_EQ(word, received);
    }
    ++received;
  }
  device.join();
}

TEST(SharedMemoryTest, CopiesAnyAlignmentAndLength) {
  for (size_t skew = 0; skew < 8; ++skew) {
    for (size_t length = 0; length < 40; ++length) {
      alignas(8) std::array<std::byte, 64> shared = {};
      std::array<std::byte, 40> from;
      for (size_t i = 0; i < from.size(); ++i) {
        from[i] = static_cast<std::byte>(i + 1);
      }
      CopyToShared(&shared[8 + skew], from.data(), length);
      EXPECT_EQ(shared[8 + skew - 1], std::byte{0});
      EXPECT_EQ(shared[8 + skew + length], std::byte{0});
      std::array<std::byte, 40> to = {};
      CopyFromShared(to.data(), &shared[8 + skew], length);
      EXPECT_EQ(std::memcmp(to.data(), from.data(), length), 0);
      ZeroShared(&shared[8 + skew], length);
      EXPECT_EQ(shared, (std::array<std::byte, 64>{}));
    }
  }
}

}  // namespace
}  // namespace vmsg::guest
