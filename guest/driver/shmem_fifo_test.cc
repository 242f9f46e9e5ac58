#include "guest/driver/shmem_fifo.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

constexpr uint16_t kInit = 0;
constexpr uint16_t kReady = 1;
constexpr uint16_t kRun = 2;
constexpr uint16_t kShutdown = 3;
constexpr uint16_t kPeerDead = 4;

std::vector<std::byte> Message(uint32_t number, size_t size = 64) {
  std::vector<std::byte> message(size);
  for (size_t i = 0; i < size; ++i) {
    message[i] = static_cast<std::byte>(number * 5 + i + 1);
  }
  for (size_t i = 0; i < 4; ++i) {
    message[i] = static_cast<std::byte>(number >> 8 * i);
  }
  return message;
}

// A device, by hand, with everything at places that the test chooses.
class RawDevice {
 public:
  struct Places {
    uint16_t count = 63;
    uint16_t dev_head = 64;
    uint16_t drv_head = 72;
    uint16_t dev_elements = 80;
    uint16_t drv_elements = 4112;
  };

  explicit RawDevice(const Places& at) : at_(at) {
    window_.fill(std::byte{0xA5});
    ZeroShared(region(), 0x2000);
    Half(2, 64);
    Half(4, 1);
    Half(10, at.count);
    Half(12, 64);
    Half(24, at.dev_head);
    Half(32, at.dev_elements);
    Half(48, at.drv_head);
    Half(56, at.drv_elements);
    Half(at.dev_head, 0x514F);
    Half(0, 0x4C4F);
  }

  std::byte* window() { return window_.data(); }
  std::byte* region() { return window_.data() + 0x1000; }
  const Places& at() const { return at_; }

  void Half(size_t at, uint16_t value) {
    StoreRelease<uint16_t>(region() + at, value);
  }
  uint16_t Half(size_t at) { return LoadAcquire<uint16_t>(region() + at); }

  void SetState(uint16_t state) { Half(at_.dev_head + 2u, state); }
  uint16_t driver_magic() { return Half(at_.drv_head); }
  uint16_t driver_state() { return Half(at_.drv_head + 2u); }

  bool Send(std::span<const std::byte> message) {
    if (Next(tail_) == Half(at_.drv_head + 6u)) return false;
    CopyToShared(region() + at_.dev_elements + 64 * tail_, message.data(),
                 message.size());
    tail_ = Next(tail_);
    Half(at_.dev_head + 4u, tail_);
    return true;
  }
  bool Take(Packet* packet) {
    if (Half(at_.drv_head + 4u) == head_) return false;
    CopyFromShared(packet->bytes.data(),
                   region() + at_.drv_elements + 64 * head_, 64);
    head_ = Next(head_);
    Half(at_.dev_head + 6u, head_);
    return true;
  }
  void ClearIndices() {
    tail_ = head_ = 0;
    Half(at_.dev_head + 4u, 0);
    Half(at_.dev_head + 6u, 0);
  }

 private:
  uint16_t Next(uint16_t index) const {
    return static_cast<uint16_t>((index + 1u) % at_.count);
  }

  const Places at_;
  alignas(64) std::array<std::byte, 16 * 1024> window_;
  uint16_t tail_ = 0;
  uint16_t head_ = 0;
};

class ShmemFifoTest : public testing::TestWithParam<RawDevice::Places> {
 protected:
  void Join() {
    device_.ClearIndices();
    device_.SetState(kInit);
    ASSERT_TRUE(fifo_.Attach());
    fifo_.Step();
    device_.SetState(kReady);
    fifo_.Step();
    device_.SetState(kRun);
    ASSERT_EQ(fifo_.state(), FifoState::kRunning);
  }
  void ExpectAPacketEachWay(uint32_t number) {
    ASSERT_TRUE(fifo_.Send(Message(number)));
    fifo_.CommitSent();
    ASSERT_TRUE(device_.Take(&packet_));
    EXPECT_TRUE(std::ranges::equal(packet_.bytes, Message(number)));
    EXPECT_FALSE(device_.Take(&packet_));
    ASSERT_TRUE(device_.Send(Message(number + 1)));
    ASSERT_TRUE(fifo_.Receive(&packet_));
    EXPECT_TRUE(std::ranges::equal(packet_.bytes, Message(number + 1)));
    fifo_.CommitReceived();
    EXPECT_FALSE(fifo_.Receive(&packet_));
  }
  void ExpectBroken(FifoFault fault) {
    EXPECT_EQ(fifo_.state(), FifoState::kBroken);
    EXPECT_EQ(fifo_.fault(), fault);
    EXPECT_FALSE(fifo_.Send(Message(1)));
    EXPECT_FALSE(fifo_.Receive(&packet_));
  }

  RawDevice device_{GetParam()};
  ShmemFifo fifo_{device_.window()};
  Packet packet_;
};

// Packed, with lines of their own, and as odd as the rules allow.
INSTANTIATE_TEST_SUITE_P(
    Places, ShmemFifoTest,
    testing::Values(RawDevice::Places{},
                    RawDevice::Places{62, 64, 8064, 128, 4096},
                    RawDevice::Places{5, 4002, 66, 101, 6001}),
    [](const auto& param) {
      return std::to_string(param.param.count) + "Elements";
    });

TEST_P(ShmemFifoTest, WindowTellsItsLayout) {
  EXPECT_TRUE(ShmemFifo::IsHere(device_.window()));
  device_.Half(0, 61);  // an index of layout `spsc`
  EXPECT_FALSE(ShmemFifo::IsHere(device_.window()));
}

TEST_P(ShmemFifoTest, HeaderThatIsWrongIsRefusedByName) {
  device_.Half(4, 2);
  EXPECT_FALSE(fifo_.Attach());
  EXPECT_EQ(fifo_.fault(), FifoFault::kBadHeader);
  EXPECT_EQ(fifo_.header_fault(), ShmemHeaderFault::kVersion);
  EXPECT_FALSE(fifo_.Step());
  device_.Half(4, 1);
  device_.Half(0, 0);
  EXPECT_FALSE(fifo_.Attach());
  EXPECT_EQ(fifo_.header_fault(), ShmemHeaderFault::kMagic);
  device_.Half(0, 0x4C4F);
  EXPECT_TRUE(fifo_.Attach());
  EXPECT_EQ(fifo_.state(), FifoState::kWaiting);
  // Whatever went wrong before.
  ASSERT_NO_FATAL_FAILURE(Join());
  device_.SetState(kInit);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  ASSERT_EQ(fifo_.fault(), FifoFault::kDeviceRestarted);
  device_.Half(4, 2);
  EXPECT_FALSE(fifo_.Attach());
  ExpectBroken(FifoFault::kBadHeader);
  EXPECT_EQ(fifo_.header_fault(), ShmemHeaderFault::kVersion);
}

// --- The handshake. ---

TEST_P(ShmemFifoTest, GoesThroughInitAndReadyToRun) {
  ASSERT_TRUE(fifo_.Attach());
  EXPECT_EQ(device_.driver_magic(), 0x514F);
  EXPECT_EQ(device_.driver_state(), kInit);
  EXPECT_EQ(fifo_.state(), FifoState::kWaiting);
  EXPECT_FALSE(fifo_.Send(Message(1)));
  EXPECT_FALSE(fifo_.Receive(&packet_));

  EXPECT_TRUE(fifo_.Step());
  EXPECT_EQ(device_.driver_state(), kReady);
  EXPECT_FALSE(fifo_.Step()) << "the device is in INIT";
  EXPECT_EQ(fifo_.state(), FifoState::kWaiting);
  device_.SetState(kReady);
  EXPECT_TRUE(fifo_.Step());
  EXPECT_EQ(device_.driver_state(), kRun);
  EXPECT_EQ(fifo_.state(), FifoState::kRunning);
  EXPECT_FALSE(fifo_.Step());
  device_.SetState(kRun);
  ExpectAPacketEachWay(1);
}

TEST_P(ShmemFifoTest, WaitsForTheMagicOfTheDevice) {
  device_.Half(device_.at().dev_head, 0);
  ASSERT_TRUE(fifo_.Attach());
  EXPECT_FALSE(fifo_.Step());
  EXPECT_EQ(device_.driver_state(), kInit);
  device_.Half(device_.at().dev_head, 0x514F);
  EXPECT_TRUE(fifo_.Step());
}

TEST_P(ShmemFifoTest, DeviceThatIsQuickerIsJoined) {
  ASSERT_TRUE(fifo_.Attach());
  device_.SetState(kReady);
  EXPECT_TRUE(fifo_.Step());
  device_.SetState(0x8000 | kRun);  // "debuggable" is no state
  EXPECT_TRUE(fifo_.Step());
  EXPECT_EQ(fifo_.state(), FifoState::kRunning);
  ExpectAPacketEachWay(1);
}

TEST_P(ShmemFifoTest, WaitsInInitWhileTheDeviceRunsWithTheDriverBefore) {
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(1);
  ShmemFifo next(device_.window());
  ASSERT_TRUE(next.Attach());
  EXPECT_EQ(device_.driver_state(), kInit);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(next.Step());
  EXPECT_EQ(device_.driver_state(), kInit);

  device_.ClearIndices();
  device_.SetState(kInit);
  EXPECT_TRUE(next.Step());
  EXPECT_EQ(device_.Half(device_.at().drv_head + 4u), 0);
  EXPECT_EQ(device_.Half(device_.at().drv_head + 6u), 0);
  device_.SetState(kReady);
  EXPECT_TRUE(next.Step());
  EXPECT_EQ(next.state(), FifoState::kRunning);
}

TEST_P(ShmemFifoTest, DeviceAboveRunEndsTheHandshakeInShutdown) {
  for (const uint16_t state : {kShutdown, kPeerDead, uint16_t{17}}) {
    device_.SetState(state);
    ASSERT_TRUE(fifo_.Attach());
    EXPECT_TRUE(fifo_.Step());
    EXPECT_EQ(device_.driver_state(), kShutdown);
    ExpectBroken(FifoFault::kDeviceShutDown);
  }
  ASSERT_NO_FATAL_FAILURE(Join());
}

TEST_P(ShmemFifoTest, DetachSaysShutdown) {
  ASSERT_NO_FATAL_FAILURE(Join());
  fifo_.Detach();
  EXPECT_EQ(device_.driver_state(), kShutdown);
  EXPECT_EQ(fifo_.state(), FifoState::kWaiting);
  EXPECT_FALSE(fifo_.Send(Message(1)));
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(1);
}

// --- Traffic. ---

TEST_P(ShmemFifoTest, KeepsOrderOverManyWrapsUpToAFullQueue) {
  ASSERT_NO_FATAL_FAILURE(Join());
  EXPECT_EQ(fifo_.capacity(), device_.at().count - 1u);
  uint32_t sent = 0;
  uint32_t taken = 0;
  uint32_t answered = 0;
  uint32_t received = 0;
  for (int round = 0; round < 50; ++round) {
    uint32_t batch = 0;
    while (fifo_.Send(Message(sent))) ++sent, ++batch;
    EXPECT_EQ(batch, fifo_.capacity());
    fifo_.CommitSent();
    while (device_.Take(&packet_)) {
      ASSERT_TRUE(std::ranges::equal(packet_.bytes, Message(taken++)));
    }
    while (device_.Send(Message(answered))) ++answered;
    while (fifo_.Receive(&packet_)) {
      ASSERT_TRUE(std::ranges::equal(packet_.bytes, Message(received++)));
    }
    fifo_.CommitReceived();
    // So that the next round starts elsewhere.
    ASSERT_TRUE(fifo_.Send(Message(sent++, 12)));
    fifo_.CommitSent();
    ASSERT_TRUE(device_.Take(&packet_));
    ++taken;
    EXPECT_TRUE(std::all_of(packet_.bytes.begin() + 12, packet_.bytes.end(),
                            [](std::byte b) { return b == std::byte{0}; }));
  }
  EXPECT_EQ(taken, sent);
  EXPECT_EQ(received, answered);
  EXPECT_EQ(fifo_.state(), FifoState::kRunning);
}

TEST_P(ShmemFifoTest, CarriesPacketsInOrderBetweenThreads) {
  ASSERT_NO_FATAL_FAILURE(Join());
  constexpr uint32_t kPackets = 2000;
  std::thread echo([this] {
    Packet packet;
    for (uint32_t i = 0; i < kPackets; ++i) {
      while (!device_.Take(&packet)) std::this_thread::yield();
      while (!device_.Send(packet.bytes)) std::this_thread::yield();
    }
  });
  std::thread sender([this] {
    for (uint32_t i = 0; i < kPackets; ++i) {
      while (!fifo_.Send(Message(i))) std::this_thread::yield();
      fifo_.CommitSent();
    }
  });
  for (uint32_t i = 0; i < kPackets; ++i) {
    while (!fifo_.Receive(&packet_)) {
      ASSERT_EQ(fifo_.fault(), FifoFault::kNone);
      std::this_thread::yield();
    }
    fifo_.CommitReceived();
    ASSERT_TRUE(std::ranges::equal(packet_.bytes, Message(i)));
  }
  echo.join();
  sender.join();
}

// --- Faults. ---

TEST_P(ShmemFifoTest, DeviceIndexPastTheQueueBreaks) {
  ASSERT_NO_FATAL_FAILURE(Join());
  device_.Half(device_.at().dev_head + 4u, device_.at().count);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  ExpectBroken(FifoFault::kIndexOutOfRange);
  ASSERT_NO_FATAL_FAILURE(Join());
  device_.Half(device_.at().dev_head + 6u, 0xFFFF);
  while (fifo_.Send(Message(1))) {
  }
  ExpectBroken(FifoFault::kIndexOutOfRange);
}

TEST_P(ShmemFifoTest, DeviceIndexThatGoesBackBreaks) {
  ASSERT_NO_FATAL_FAILURE(Join());
  ASSERT_TRUE(device_.Send(Message(1)));
  ASSERT_TRUE(device_.Send(Message(2)));
  while (fifo_.Receive(&packet_)) {
  }
  device_.Half(device_.at().dev_head + 4u, 1);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  ExpectBroken(FifoFault::kIndexWentBack);
}

TEST_P(ShmemFifoTest, OwnIndexWrittenByTheDeviceBreaks) {
  ASSERT_NO_FATAL_FAILURE(Join());
  device_.Half(device_.at().drv_head + 6u, 3);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  ExpectBroken(FifoFault::kForeignIndexWrite);
}

TEST_P(ShmemFifoTest, DeviceThatLeavesRunIsNoticed) {
  ASSERT_NO_FATAL_FAILURE(Join());
  device_.SetState(kInit);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  ExpectBroken(FifoFault::kDeviceRestarted);
  ASSERT_NO_FATAL_FAILURE(Join());
  device_.SetState(kShutdown);
  while (fifo_.Send(Message(1))) {
  }
  ExpectBroken(FifoFault::kDeviceShutDown);
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(1);
}

}  // namespace
}  // namespace vmsg::guest
