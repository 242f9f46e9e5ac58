#include "devices/virtio_msg_amp_pci/fifo/spsc_fifo.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <set>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

#include "devices/virtio_msg_amp_pci/fifo/fifo.h"
#include "devices/virtio_msg_amp_pci/fifo/fifo_traffic.h"
#include "gtest/gtest.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {
namespace {

// The numbers of amp-pci-device, 3.1, written out once more: a test that took
// them from the layout header could not find a mistake there.
constexpr size_t kDriverHead = 0x1000;
constexpr size_t kDriverTail = 0x1040;
constexpr size_t kDriverPackets = 0x1080;
constexpr size_t kDeviceHead = 0x2000;
constexpr size_t kDeviceTail = 0x2040;
constexpr size_t kDevicePackets = 0x2080;
constexpr uint32_t kSlots = 62;

// The driver's end, by hand.
class RawDriver {
 public:
  explicit RawDriver(TestWindow* window) : window_(window) {
    // As a driver does: starts from the indices that it finds.
    head_ = Load(kDriverHead);
    tail_ = Load(kDeviceTail);
  }

  uint32_t Load(size_t at) const { return window_->Load<uint32_t>(at); }
  void Store(size_t at, uint32_t value) { window_->Store(at, value); }

  bool Put(std::span<const std::byte> message) {
    if ((head_ + 1) % kSlots == Load(kDriverTail)) return false;
    vmm::CopyToShared(window_->bytes.data() + kDriverPackets + 64 * head_,
                      message);
    head_ = (head_ + 1) % kSlots;
    Store(kDriverHead, head_);
    return true;
  }
  bool Take(Packet* packet) {
    if (Load(kDeviceHead) == tail_) return false;
    vmm::CopyFromShared(packet->bytes,
                        window_->bytes.data() + kDevicePackets + 64 * tail_);
    tail_ = (tail_ + 1) % kSlots;
    Store(kDeviceTail, tail_);
    return true;
  }

 private:
  TestWindow* const window_;
  uint32_t head_;
  uint32_t tail_;
};

class SpscFifoTest : public testing::Test {
 protected:
  uint32_t Word(size_t at) const { return window_.Load<uint32_t>(at); }
  bool WindowIsZero() const {
    return std::all_of(window_.bytes.begin(), window_.bytes.end(),
                       [](std::byte b) { return b == std::byte{0}; });
  }

  TestWindow window_;
  SpscFifo fifo_{window_.bytes.data()};
  RawDriver driver_{&window_};
  Packet packet_;
};

TEST_F(SpscFifoTest, StartsWithAWindowOfZeroes) {
  EXPECT_TRUE(WindowIsZero());
  EXPECT_EQ(fifo_.state(), FifoState::kRunning);
  EXPECT_EQ(fifo_.fault(), FifoFault::kNone);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  EXPECT_EQ(fifo_.Unread(), 0u);
}

TEST_F(SpscFifoTest, TakesWhatTheDriverPutAtItsPlace) {
  const std::vector<std::byte> message = Message(1);
  std::memcpy(window_.bytes.data() + 0x1080, message.data(), 64);
  EXPECT_FALSE(fifo_.Receive(&packet_)) << "not published yet";
  driver_.Store(0x1000, 1);

  ASSERT_TRUE(fifo_.Receive(&packet_));
  EXPECT_TRUE(std::ranges::equal(packet_.bytes, message));
  EXPECT_FALSE(fifo_.Receive(&packet_));
}

TEST_F(SpscFifoTest, GivesSlotsBackOncePerBatch) {
  for (uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(driver_.Put(Message(i)));
  while (fifo_.Receive(&packet_)) {
  }
  EXPECT_EQ(Word(kDriverTail), 0u);
  fifo_.CommitReceived();
  EXPECT_EQ(Word(kDriverTail), 3u);
}

TEST_F(SpscFifoTest, PutsAMessageAtItsPlaceAndZeroesAfterIt) {
  std::fill_n(window_.bytes.data() + kDevicePackets, 64, std::byte{0xEE});
  for (const size_t size : {12, 13, 8, 0, 63}) {
    SpscFifo fifo(window_.bytes.data());
    std::fill_n(window_.bytes.data() + kDevicePackets, 64, std::byte{0xEE});
    std::vector<std::byte> expected = Message(9, 64);
    std::fill(expected.begin() + size, expected.end(), std::byte{0});

    const std::vector<std::byte> message = Message(9, 64);
    ASSERT_TRUE(fifo.Send(std::span(message).first(size)));
    EXPECT_EQ(Word(kDeviceHead), 0u) << "not published yet";
    EXPECT_TRUE(fifo.CommitSent());

    EXPECT_EQ(Word(kDeviceHead), 1u);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(),
                           window_.bytes.begin() + kDevicePackets))
        << size;
    EXPECT_FALSE(fifo.CommitSent()) << "nothing new";
  }
}

TEST_F(SpscFifoTest, DeviceQueueHoldsSixtyOnePackets) {
  ExpectDeviceQueueHolds(61, &fifo_, &driver_);
}

TEST_F(SpscFifoTest, DriverQueueHoldsSixtyOnePackets) {
  ExpectDriverQueueHolds(61, &fifo_, &driver_);
}

TEST_F(SpscFifoTest, KeepsOrderOverManyWraps) {
  ExpectOrderOverManyWraps(61, &fifo_, &driver_);
}

TEST_F(SpscFifoTest, DriverThatAttachesAgainCarriesOnFromTheIndices) {
  for (uint32_t i = 0; i < 5; ++i) {
    ASSERT_TRUE(driver_.Put(Message(i)));
    ASSERT_TRUE(fifo_.Receive(&packet_));
    ASSERT_TRUE(fifo_.Send(packet_.bytes));
  }
  fifo_.CommitReceived();
  fifo_.CommitSent();
  for (uint32_t i = 0; i < 3; ++i) ASSERT_TRUE(driver_.Take(&packet_));

  RawDriver second(&window_);
  ASSERT_TRUE(second.Take(&packet_));
  EXPECT_EQ(NumberOf(packet_), 3u);
  ASSERT_TRUE(second.Put(Message(77)));
  ASSERT_TRUE(fifo_.Receive(&packet_));
  EXPECT_EQ(NumberOf(packet_), 77u);
}

// --- A driver that does not keep to the rules. ---

TEST_F(SpscFifoTest, DriverHeadOutOfRangeBreaksTheFifo) {
  for (const uint32_t head : {62u, 63u, 0x80000000u, 0xFFFFFFFFu}) {
    fifo_.Reset();
    driver_.Store(kDriverHead, head);
    EXPECT_FALSE(fifo_.Receive(&packet_));
    EXPECT_EQ(fifo_.state(), FifoState::kBroken);
    EXPECT_EQ(fifo_.fault(), FifoFault::kIndexOutOfRange);
  }
}

TEST_F(SpscFifoTest, DriverTailOutOfRangeBreaksTheFifo) {
  driver_.Store(kDeviceTail, 62);
  while (fifo_.Send(Message(1))) {
  }
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexOutOfRange);

  fifo_.Reset();
  driver_.Store(kDeviceTail, 62);
  EXPECT_EQ(fifo_.Unread(), 0u);
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexOutOfRange);
}

TEST_F(SpscFifoTest, OverwrittenDeviceIndicesBreakTheFifo) {
  for (const size_t index : {kDriverTail, kDeviceHead}) {
    fifo_.Reset();
    EXPECT_FALSE(fifo_.Poll());
    EXPECT_EQ(fifo_.state(), FifoState::kRunning);
    driver_.Store(index, 1);
    EXPECT_FALSE(fifo_.Poll());
    EXPECT_EQ(fifo_.state(), FifoState::kBroken);
    EXPECT_EQ(fifo_.fault(), FifoFault::kOwnIndexChanged);
  }
}

TEST_F(SpscFifoTest, OverwrittenDeviceIndexIsNoticedWithoutPoll) {
  driver_.Store(kDriverTail, 1);
  driver_.Store(kDriverHead, 2);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  EXPECT_EQ(fifo_.fault(), FifoFault::kOwnIndexChanged);

  fifo_.Reset();
  driver_.Store(kDeviceHead, 1);
  while (fifo_.Send(Message(1))) {
  }
  EXPECT_EQ(fifo_.fault(), FifoFault::kOwnIndexChanged);
}

TEST_F(SpscFifoTest, BrokenFifoIsLeftAlone) {
  ASSERT_TRUE(driver_.Put(Message(1)));
  ASSERT_TRUE(driver_.Put(Message(2)));
  ASSERT_TRUE(fifo_.Receive(&packet_));
  ASSERT_TRUE(fifo_.Send(Message(3)));
  driver_.Store(kDeviceHead, 40);
  fifo_.Poll();
  ASSERT_EQ(fifo_.state(), FifoState::kBroken);
  const TestWindow before = window_;

  EXPECT_FALSE(fifo_.Receive(&packet_));
  EXPECT_FALSE(fifo_.Send(Message(4)));
  EXPECT_FALSE(fifo_.HasRoom());
  EXPECT_EQ(fifo_.Unread(), 0u);
  fifo_.CommitReceived();
  EXPECT_FALSE(fifo_.CommitSent());
  fifo_.DropDriver(1);
  EXPECT_FALSE(fifo_.Poll());
  EXPECT_EQ(fifo_.fault(), FifoFault::kOwnIndexChanged);
  EXPECT_TRUE(before.bytes == window_.bytes);
}

TEST_F(SpscFifoTest, ResetClearsTheWindowAndEndsBroken) {
  for (uint32_t i = 0; i < 5; ++i) ASSERT_TRUE(driver_.Put(Message(i)));
  ASSERT_TRUE(fifo_.Receive(&packet_));
  ASSERT_TRUE(fifo_.Send(Message(3)));
  fifo_.CommitSent();
  driver_.Store(kDriverHead, 1000);
  fifo_.Poll();
  while (fifo_.Receive(&packet_)) {
  }
  ASSERT_EQ(fifo_.state(), FifoState::kBroken);

  fifo_.Reset();

  EXPECT_TRUE(WindowIsZero());
  EXPECT_EQ(fifo_.state(), FifoState::kRunning);
  RawDriver second(&window_);
  ASSERT_TRUE(second.Put(Message(8)));
  ASSERT_TRUE(fifo_.Receive(&packet_));
  EXPECT_EQ(NumberOf(packet_), 8u);
  ASSERT_TRUE(fifo_.Send(Message(9)));
  fifo_.CommitSent();
  ASSERT_TRUE(second.Take(&packet_));
  EXPECT_EQ(NumberOf(packet_), 9u);
}

TEST_F(SpscFifoTest, RestartKeepsWhatANewDriverPutInTheClearedWindow) {
  for (uint32_t i = 0; i < 5; ++i) ASSERT_TRUE(driver_.Put(Message(i)));
  ASSERT_TRUE(fifo_.Receive(&packet_));
  ASSERT_TRUE(fifo_.Send(Message(3)));

  std::thread([this] { fifo_.ClearWindow(); }).join();
  RawDriver second(&window_);
  ASSERT_TRUE(second.Put(Message(8)));
  fifo_.Restart();

  ASSERT_TRUE(fifo_.Receive(&packet_));
  EXPECT_EQ(NumberOf(packet_), 8u);
  EXPECT_FALSE(fifo_.CommitSent()) << "of before the reset";
}

TEST_F(SpscFifoTest, DroppedDriverLosesItsPacketsAndTheNextOneKeepsIts) {
  for (uint32_t i = 0; i < 5; ++i) ASSERT_TRUE(driver_.Put(Message(i)));
  ASSERT_TRUE(fifo_.Receive(&packet_));  // in the middle of a batch
  ASSERT_TRUE(fifo_.Send(Message(100)));
  const uint32_t mark = fifo_.DriverLeft();
  RawDriver second(&window_);
  ASSERT_TRUE(second.Put(Message(8)));

  fifo_.DropDriver(mark);

  ASSERT_TRUE(fifo_.Receive(&packet_));
  EXPECT_EQ(NumberOf(packet_), 8u);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  EXPECT_EQ(Word(kDriverTail), 5u) << "room at once";
  EXPECT_FALSE(fifo_.CommitSent()) << "the answer is for nobody";
  ASSERT_TRUE(fifo_.Send(Message(101)));
  fifo_.CommitSent();
  ASSERT_TRUE(second.Take(&packet_));
  EXPECT_EQ(NumberOf(packet_), 101u);
}

TEST_F(SpscFifoTest, DropReturnsAPacketTakenFromBeyondTheMark) {
  const uint32_t mark = fifo_.DriverLeft();
  ASSERT_TRUE(driver_.Put(Message(8)));
  ASSERT_TRUE(fifo_.Receive(&packet_));

  fifo_.DropDriver(mark);

  ASSERT_TRUE(fifo_.Receive(&packet_));
  EXPECT_EQ(NumberOf(packet_), 8u);
}

TEST_F(SpscFifoTest, MarkOutOfRangeBreaksTheFifo) {
  driver_.Store(kDriverHead, 62);
  fifo_.DropDriver(fifo_.DriverLeft());
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexOutOfRange);
}

// --- Two threads. ---

TEST_F(SpscFifoTest, StreamsBothWaysBetweenThreads) {
  ExpectStreamBetweenThreads(50'000, &fifo_, &driver_);
}

TEST_F(SpscFifoTest, SurvivesADriverThatScribblesAllOverTheWindow) {
  std::atomic<bool> stop{false};
  std::thread scribbler([&] {
    std::minstd_rand random(1);
    constexpr std::array<size_t, 4> kIndices = {kDriverHead, kDriverTail,
                                                kDeviceHead, kDeviceTail};
    while (!stop.load(std::memory_order_relaxed)) {
      const uint32_t pick = random();
      if (pick % 4 == 0) {
        driver_.Store(kIndices[pick / 4 % 4], random() % 64);
      } else {
        const uint64_t word = random();
        vmm::StoreShared<uint64_t>(
            window_.bytes.data() + kDriverPackets + 8 * (pick % 496), word,
            std::memory_order_relaxed);
      }
    }
  });
  uint32_t breaks = 0;
  uint32_t packets = 0;
  for (uint32_t i = 0; breaks < 200 || packets < 1000; ++i) {
    // Bounded however the indices jump: no more than a queue between two looks.
    for (uint32_t n = 0; n < 64 && fifo_.Receive(&packet_); ++n) {
      ++packets;
      fifo_.Send(packet_.bytes);
    }
    fifo_.CommitReceived();
    fifo_.CommitSent();
    fifo_.Poll();
    if (i % 16 == 0) std::this_thread::yield();
    if (i % 16 == 0) fifo_.DropDriver(fifo_.DriverLeft());
    if (fifo_.state() == FifoState::kBroken) {
      ++breaks;
      fifo_.Reset();
    }
  }
  stop = true;
  scribbler.join();
}

TEST(FifoTest, CreatesTheLayoutAskedFor) {
  auto window = std::make_unique<TestWindow>();
  const std::unique_ptr<DeviceFifo> fifo =
      CreateDeviceFifo(FifoLayout::kSpsc, window->bytes.data());
  ASSERT_NE(fifo, nullptr);
  EXPECT_EQ(fifo->state(), FifoState::kRunning);
  EXPECT_EQ(window->bytes[0x1000], std::byte{0});
}

TEST(FifoTest, NamesStatesAndFaults) {
  EXPECT_EQ(FifoStateName(FifoState::kRunning), "RUNNING");
  EXPECT_EQ(FifoStateName(FifoState::kWaiting), "WAITING");
  EXPECT_EQ(FifoStateName(FifoState::kBroken), "BROKEN");
  std::set<std::string_view> names;
  for (const FifoFault fault :
       {FifoFault::kNone, FifoFault::kIndexOutOfRange,
        FifoFault::kOwnIndexChanged, FifoFault::kOwnStateChanged,
        FifoFault::kUnknownState}) {
    EXPECT_TRUE(names.insert(FifoFaultName(fault)).second)
        << FifoFaultName(fault);
  }
}

}  // namespace
}  // namespace vmsg::amp
