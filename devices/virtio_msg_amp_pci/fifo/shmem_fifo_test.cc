#include "devices/virtio_msg_amp_pci/fifo/shmem_fifo.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <thread>
#include <vector>

#include "devices/virtio_msg_amp_pci/fifo/fifo_traffic.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/memory/shared_copy.h"

namespace vmsg::amp {
namespace {

using ::testing::ElementsAre;

// The numbers of amp-pci-device, 3.2, written out once more: a test that took
// them from the layout header could not find a mistake there.
constexpr size_t kRegion = 0x1000;
constexpr uint16_t kInit = 0;
constexpr uint16_t kReady = 1;
constexpr uint16_t kRun = 2;
constexpr uint16_t kShutdown = 3;
constexpr uint16_t kPeerDead = 4;

// Places are those of the header: within the region.
struct Window : TestWindow {
  template <typename T>
  T Load(size_t at) const {
    return TestWindow::Load<T>(kRegion + at);
  }
  template <typename T>
  void Store(size_t at, T value) {
    TestWindow::Store<T>(kRegion + at, value);
  }
};

// The driver's end, by hand, wherever the header says that things are.
class RawDriver {
 public:
  explicit RawDriver(Window* window) : window_(window) {
    slots_ = window->Load<uint16_t>(10);
    dev_head_ = window->Load<uint64_t>(24);
    dev_elements_ = window->Load<uint64_t>(32);
    drv_head_ = window->Load<uint64_t>(48);
    drv_elements_ = window->Load<uint64_t>(56);
  }

  uint32_t capacity() const { return slots_ - 1; }
  size_t dev_head() const { return dev_head_; }
  size_t drv_head() const { return drv_head_; }

  uint16_t device_state() const {
    return window_->Load<uint16_t>(dev_head_ + 2);
  }
  // magic, status, tail, head.
  std::vector<uint16_t> device_words() const {
    std::vector<uint16_t> words;
    for (size_t at = 0; at < 8; at += 2) {
      words.push_back(window_->Load<uint16_t>(dev_head_ + at));
    }
    return words;
  }
  void SetState(uint16_t state) {
    window_->Store<uint16_t>(drv_head_ + 2, state);
  }

  // The three steps of a driver.
  void Init() {
    SetState(kInit);
    window_->Store<uint16_t>(drv_head_, 0x514F);
  }
  void Ready() {
    tail_ = head_ = 0;
    StoreTail(0);
    StoreHead(0);
    SetState(kReady);
  }
  void Run() { SetState(kRun); }

  void StoreTail(uint16_t tail) {
    window_->Store<uint16_t>(drv_head_ + 4, tail);
  }
  void StoreHead(uint16_t head) {
    window_->Store<uint16_t>(drv_head_ + 6, head);
  }

  bool Put(std::span<const std::byte> message) {
    if ((tail_ + 1u) % slots_ == window_->Load<uint16_t>(dev_head_ + 6)) {
      return false;
    }
    vmm::CopyToShared(
        window_->bytes.data() + kRegion + drv_elements_ + 64 * tail_, message);
    tail_ = static_cast<uint16_t>((tail_ + 1u) % slots_);
    StoreTail(tail_);
    return true;
  }
  bool Take(Packet* packet) {
    if (window_->Load<uint16_t>(dev_head_ + 4) == head_) return false;
    vmm::CopyFromShared(packet->bytes, window_->bytes.data() + kRegion +
                                           dev_elements_ + 64 * head_);
    head_ = static_cast<uint16_t>((head_ + 1u) % slots_);
    StoreHead(head_);
    return true;
  }

 private:
  Window* const window_;
  uint16_t slots_;
  size_t dev_head_;
  size_t dev_elements_;
  size_t drv_head_;
  size_t drv_elements_;
  uint16_t tail_ = 0;
  uint16_t head_ = 0;
};

// What a channel does at a doorbell. True when a driver left.
bool Settle(DeviceFifo* fifo) {
  bool left = false;
  for (int i = 0; i < 4 && fifo->Poll(); ++i) left |= fifo->Step();
  return left;
}

class ShmemFifoTest : public testing::TestWithParam<ShmemPlacement> {
 protected:
  // A driver that is in RUN with the device.
  void Join() {
    driver_.Init();
    driver_.Ready();
    Settle(&fifo_);
    driver_.Run();
    ASSERT_FALSE(fifo_.Poll());
    ASSERT_EQ(fifo_.state(), FifoState::kRunning);
    ASSERT_EQ(driver_.device_state(), kRun);
  }
  void ExpectAPacketEachWay(uint32_t number) {
    ASSERT_TRUE(driver_.Put(Message(number)));
    ASSERT_TRUE(fifo_.Receive(&packet_));
    EXPECT_EQ(NumberOf(packet_), number);
    EXPECT_FALSE(fifo_.Receive(&packet_));
    fifo_.CommitReceived();
    ASSERT_TRUE(fifo_.Send(Message(number + 1)));
    EXPECT_TRUE(fifo_.CommitSent());
    ASSERT_TRUE(driver_.Take(&packet_));
    EXPECT_EQ(NumberOf(packet_), number + 1);
    EXPECT_FALSE(driver_.Take(&packet_));
  }
  void ExpectWaiting() {
    EXPECT_EQ(fifo_.state(), FifoState::kWaiting);
    EXPECT_FALSE(fifo_.Receive(&packet_));
    EXPECT_FALSE(fifo_.Send(Message(1)));
    EXPECT_FALSE(fifo_.HasRoom());
    EXPECT_EQ(fifo_.Unread(), 0u);
  }

  Window window_;
  ShmemFifo fifo_{window_.bytes.data(), GetParam()};
  RawDriver driver_{&window_};
  Packet packet_;
};

INSTANTIATE_TEST_SUITE_P(Placements, ShmemFifoTest,
                         testing::Values(kShmemSpread, kShmemPacked),
                         [](const auto& p) {
                           return p.param.elements == 62 ? "Spread" : "Packed";
                         });

// --- The bytes of the window. ---

std::vector<uint8_t> Bytes(const Window& window, size_t from, size_t count) {
  std::vector<uint8_t> bytes;
  for (size_t i = 0; i < count; ++i) {
    bytes.push_back(std::to_integer<uint8_t>(window.bytes[from + i]));
  }
  return bytes;
}

void ExpectInitialWindow(const Window& window,
                         const std::vector<uint8_t>& header) {
  EXPECT_EQ(Bytes(window, 0x1000, 64), header);
  EXPECT_THAT(Bytes(window, 0x1040, 8),
              ElementsAre(0x4F, 0x51, 0, 0, 0, 0, 0, 0));
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  EXPECT_TRUE(std::all_of(window.bytes.begin(), window.bytes.begin() + 0x1000,
                          is_zero));
  EXPECT_TRUE(
      std::all_of(window.bytes.begin() + 0x1048, window.bytes.end(), is_zero));
}

const std::vector<uint8_t> kSpreadHeader = {
    0x4F, 0x4C, 64, 0, 1,  0, 0, 0,   // magic, length, version, features
    0,    0,    62, 0, 64, 0, 0, 0,   // notifications, elements, size
    0,    0,    0,  0, 0,  0, 0, 0,   // no notification area of the device
    64,   0,    0,  0, 0,  0, 0, 0,   // its queue head
    128,  0,    0,  0, 0,  0, 0, 0,   // its elements
    0,    0,    0,  0, 0,  0, 0, 0,   // likewise the driver's
    0x80, 0x1F, 0,  0, 0,  0, 0, 0,   // 8064
    0x00, 0x10, 0,  0, 0,  0, 0, 0};  // 4096

TEST(ShmemFifoLayoutTest, SpreadWindowIsThisByteByByte) {
  const auto on_heap = std::make_unique<Window>();
  Window& window = *on_heap;
  ShmemFifo fifo(window.bytes.data(), kShmemSpread);
  ExpectInitialWindow(window, kSpreadHeader);
}

TEST(ShmemFifoLayoutTest, PackedWindowIsTheUsualPlacementByteByByte) {
  const auto on_heap = std::make_unique<Window>();
  Window& window = *on_heap;
  ShmemFifo fifo(window.bytes.data(), kShmemPacked);
  std::vector<uint8_t> header = kSpreadHeader;
  header[10] = 63;
  header[32] = 80;
  header[48] = 72;
  header[49] = 0;
  header[56] = 0x10;  // 4112
  header[57] = 0x10;
  ExpectInitialWindow(window, header);
}

TEST(ShmemFifoLayoutTest, SpreadHeadsAndElementsHaveLinesOfTheirOwn) {
  std::vector<size_t> starts = {0, kShmemSpread.dev_head,
                                kShmemSpread.drv_head};
  for (size_t i = 0; i < 62; ++i) {
    starts.push_back(kShmemSpread.dev_elements + 64 * i);
    starts.push_back(kShmemSpread.drv_elements + 64 * i);
  }
  std::ranges::sort(starts);
  for (size_t i = 0; i < starts.size(); ++i) {
    EXPECT_EQ(starts[i] % 64, 0u);
    if (i == 0) continue;
    EXPECT_GE(starts[i], starts[i - 1] + 64);
  }
}

TEST_P(ShmemFifoTest, PacketsAreAtTheirPlaces) {
  ASSERT_NO_FATAL_FAILURE(Join());
  const size_t to_device = kRegion + window_.Load<uint64_t>(56);
  const size_t to_driver = kRegion + window_.Load<uint64_t>(32);
  const std::vector<std::byte> message = Message(1);
  std::ranges::copy(message, window_.bytes.begin() + to_device);
  EXPECT_FALSE(fifo_.Receive(&packet_)) << "not published yet";
  driver_.StoreTail(1);
  ASSERT_TRUE(fifo_.Receive(&packet_));
  EXPECT_TRUE(std::ranges::equal(packet_.bytes, message));
  EXPECT_THAT(driver_.device_words(), ElementsAre(0x514F, kRun, 0, 0));
  fifo_.CommitReceived();
  EXPECT_THAT(driver_.device_words(), ElementsAre(0x514F, kRun, 0, 1));

  std::fill_n(window_.bytes.begin() + to_driver, 64, std::byte{0xEE});
  ASSERT_TRUE(fifo_.Send(std::span(message).first(13)));
  EXPECT_THAT(driver_.device_words(), ElementsAre(0x514F, kRun, 0, 1));
  EXPECT_TRUE(fifo_.CommitSent());
  EXPECT_THAT(driver_.device_words(), ElementsAre(0x514F, kRun, 1, 1));
  std::vector<std::byte> expected = message;
  std::fill(expected.begin() + 13, expected.end(), std::byte{0});
  EXPECT_TRUE(std::equal(expected.begin(), expected.end(),
                         window_.bytes.begin() + to_driver));
}

// --- The handshake. ---

TEST_P(ShmemFifoTest, WaitsInInitWithoutADriver) {
  EXPECT_FALSE(fifo_.Poll());
  EXPECT_THAT(driver_.device_words(), ElementsAre(0x514F, kInit, 0, 0));
  ExpectWaiting();
}

TEST_P(ShmemFifoTest, TakesOneStepAtATime) {
  driver_.Init();
  ASSERT_TRUE(fifo_.Poll());
  EXPECT_EQ(driver_.device_state(), kInit) << "Poll writes nothing";
  EXPECT_FALSE(fifo_.Step());
  EXPECT_EQ(driver_.device_state(), kReady);
  EXPECT_FALSE(fifo_.Poll()) << "waits for READY";
  ExpectWaiting();
  driver_.Ready();
  ASSERT_TRUE(fifo_.Poll());
  EXPECT_FALSE(fifo_.Step());
  EXPECT_EQ(driver_.device_state(), kRun);
  EXPECT_EQ(fifo_.state(), FifoState::kRunning);
  EXPECT_FALSE(fifo_.Poll());
  driver_.Run();
  EXPECT_FALSE(fifo_.Poll());
  ExpectAPacketEachWay(5);
}

// The device looks after any subset of the driver's three steps.
TEST_P(ShmemFifoTest, RunsWheneverItLooks) {
  for (uint32_t looks = 0; looks < 8; ++looks) {
    const auto on_heap = std::make_unique<Window>();
    Window& window = *on_heap;
    ShmemFifo fifo(window.bytes.data(), GetParam());
    RawDriver driver(&window);
    driver.Init();
    const auto look = [&fifo] { EXPECT_FALSE(Settle(&fifo)); };
    if ((looks & 1) != 0) look();
    driver.Ready();
    if ((looks & 2) != 0) look();
    // A driver that finds the device in INIT waits.
    if (driver.device_state() == kInit) look();
    driver.Run();
    if ((looks & 4) != 0) look();
    EXPECT_FALSE(Settle(&fifo));
    EXPECT_EQ(fifo.state(), FifoState::kRunning) << looks;
    EXPECT_EQ(driver.device_state(), kRun) << looks;
    EXPECT_TRUE(driver.Put(Message(looks)));
    EXPECT_TRUE(fifo.Receive(&packet_));
  }
}

TEST_P(ShmemFifoTest, DebuggableBitDoesNotMatter) {
  driver_.Init();
  driver_.Ready();
  driver_.SetState(0x8000 | kReady);
  Settle(&fifo_);
  driver_.SetState(0x8000 | kRun);
  EXPECT_FALSE(Settle(&fifo_));
  EXPECT_EQ(fifo_.state(), FifoState::kRunning);
}

TEST_P(ShmemFifoTest, StateWithoutMagicIsNoDriver) {
  for (const uint16_t state : {kInit, kReady, kRun, kShutdown}) {
    driver_.SetState(state);
    EXPECT_FALSE(fifo_.Poll()) << state;
  }
}

TEST_P(ShmemFifoTest, DriverOfBeforeInRunIsNotJoined) {
  driver_.Init();
  driver_.Ready();
  driver_.Run();
  driver_.StoreTail(7);
  EXPECT_FALSE(fifo_.Poll());
  ExpectWaiting();
}

TEST_P(ShmemFifoTest, DriverThatGivesUpInTheMiddleIsFollowedByAnother) {
  driver_.Init();
  Settle(&fifo_);
  ASSERT_EQ(driver_.device_state(), kReady);
  driver_.SetState(kShutdown);
  EXPECT_FALSE(Settle(&fifo_));
  EXPECT_EQ(driver_.device_state(), kInit);
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(1);
}

// --- Restart. ---

TEST_P(ShmemFifoTest, DriverThatRestartsInTheMiddleOfTrafficIsNoticed) {
  ASSERT_NO_FATAL_FAILURE(Join());
  for (uint32_t i = 0; i < 20; ++i) ExpectAPacketEachWay(2 * i);
  // Some of everything is under way.
  ASSERT_TRUE(driver_.Put(Message(100)));
  ASSERT_TRUE(driver_.Put(Message(101)));
  ASSERT_TRUE(fifo_.Receive(&packet_));
  ASSERT_TRUE(fifo_.Send(Message(102)));
  ASSERT_TRUE(fifo_.CommitSent());
  ASSERT_TRUE(fifo_.Send(Message(103)));

  driver_.Init();
  ASSERT_TRUE(fifo_.Poll());
  EXPECT_TRUE(fifo_.Step()) << "the driver left";
  EXPECT_THAT(driver_.device_words(), ElementsAre(0x514F, kInit, 0, 0));
  ExpectWaiting();
  EXPECT_FALSE(fifo_.CommitSent());
  EXPECT_FALSE(Settle(&fifo_)) << "once is enough";
  EXPECT_EQ(driver_.device_state(), kReady);
  driver_.Ready();
  Settle(&fifo_);
  driver_.Run();
  ExpectAPacketEachWay(200);
}

TEST_P(ShmemFifoTest, EveryStateOfALeavingDriverEndsTheRun) {
  for (const uint16_t state : {kInit, kShutdown, kPeerDead}) {
    ASSERT_NO_FATAL_FAILURE(Join());
    ExpectAPacketEachWay(1);
    driver_.SetState(state);
    ASSERT_TRUE(fifo_.Poll()) << state;
    EXPECT_TRUE(fifo_.Step());
    EXPECT_THAT(driver_.device_words(), ElementsAre(0x514F, kInit, 0, 0));
    ExpectWaiting();
  }
  ASSERT_NO_FATAL_FAILURE(Join());
  window_.Store<uint16_t>(driver_.drv_head(), 0);
  EXPECT_TRUE(Settle(&fifo_)) << "the magic is gone";
  ExpectWaiting();
}

TEST_P(ShmemFifoTest, SecondReadyOfADriverThatRanIsARestart) {
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(1);
  driver_.Init();
  driver_.Ready();  // the device has looked at neither
  ASSERT_TRUE(fifo_.Poll());
  EXPECT_TRUE(fifo_.Step());
  EXPECT_EQ(driver_.device_state(), kInit);
  EXPECT_FALSE(Settle(&fifo_));
  driver_.Run();
  ExpectAPacketEachWay(3);
}

TEST_P(ShmemFifoTest, FunctionResetStartsOver) {
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(1);
  fifo_.ClearWindow();
  EXPECT_THAT(driver_.device_words(), ElementsAre(0x514F, kInit, 0, 0));
  // A driver that is quicker than the loop.
  driver_.Init();
  driver_.Ready();
  fifo_.Restart();
  ExpectWaiting();
  EXPECT_FALSE(Settle(&fifo_));
  driver_.Run();
  ExpectAPacketEachWay(3);
}

TEST_P(ShmemFifoTest, DriverThatLeftWithoutAWordIsFollowedByAnother) {
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(1);
  ASSERT_TRUE(driver_.Put(Message(9)));
  const uint32_t mark = fifo_.DriverLeft();
  EXPECT_THAT(driver_.device_words(), ElementsAre(0x514F, kInit, 0, 0));
  driver_.Init();
  driver_.Ready();
  fifo_.DropDriver(mark);
  ExpectWaiting();
  EXPECT_FALSE(Settle(&fifo_));
  driver_.Run();
  ExpectAPacketEachWay(3);
}

TEST_P(ShmemFifoTest, ShutdownShowsInTheWindow) {
  ASSERT_NO_FATAL_FAILURE(Join());
  fifo_.Shutdown();
  EXPECT_EQ(driver_.device_state(), kShutdown);
  fifo_.Reset();
  EXPECT_EQ(driver_.device_state(), kInit);
}

// --- Traffic. ---

TEST_P(ShmemFifoTest, DeviceQueueHoldsAllSlotsButOne) {
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectDeviceQueueHolds(driver_.capacity(), &fifo_, &driver_);
}

TEST_P(ShmemFifoTest, DriverQueueHoldsAllSlotsButOne) {
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectDriverQueueHolds(driver_.capacity(), &fifo_, &driver_);
}

TEST_P(ShmemFifoTest, KeepsOrderOverManyWraps) {
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectOrderOverManyWraps(driver_.capacity(), &fifo_, &driver_);
}

// --- Faults. ---

TEST_P(ShmemFifoTest, DriverTailPastTheQueueBreaksTheFifo) {
  ASSERT_NO_FATAL_FAILURE(Join());
  driver_.StoreTail(static_cast<uint16_t>(driver_.capacity() + 1));
  EXPECT_FALSE(fifo_.Receive(&packet_));
  EXPECT_EQ(fifo_.state(), FifoState::kBroken);
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexOutOfRange);
}

TEST_P(ShmemFifoTest, DriverHeadPastTheQueueBreaksTheFifo) {
  ASSERT_NO_FATAL_FAILURE(Join());
  driver_.StoreHead(0xFFFF);
  for (uint32_t i = 0; i <= driver_.capacity(); ++i) fifo_.Send(Message(i));
  EXPECT_EQ(fifo_.state(), FifoState::kBroken);
  EXPECT_EQ(fifo_.fault(), FifoFault::kIndexOutOfRange);
}

TEST_P(ShmemFifoTest, OverwrittenDeviceWordsBreakTheFifo) {
  const std::array<FifoFault, 4> faults = {
      FifoFault::kOwnStateChanged, FifoFault::kOwnStateChanged,
      FifoFault::kOwnIndexChanged, FifoFault::kOwnIndexChanged};
  for (size_t i = 0; i < faults.size(); ++i) {
    ASSERT_NO_FATAL_FAILURE(Join());
    window_.Store<uint16_t>(driver_.dev_head() + 2 * i, 5);
    EXPECT_TRUE(fifo_.Poll());
    EXPECT_EQ(fifo_.state(), FifoState::kBroken);
    EXPECT_EQ(fifo_.fault(), faults[i]);
    fifo_.Reset();
  }
}

TEST_P(ShmemFifoTest, OverwrittenDeviceIndexIsNoticedWithoutPoll) {
  ASSERT_NO_FATAL_FAILURE(Join());
  window_.Store<uint16_t>(driver_.dev_head() + 6, 5);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  EXPECT_EQ(fifo_.fault(), FifoFault::kOwnIndexChanged);
}

TEST_P(ShmemFifoTest, StateThatDoesNotExistBreaksTheFifo) {
  for (const uint16_t state : {5, 17, 31}) {
    ASSERT_NO_FATAL_FAILURE(Join());
    driver_.SetState(state);
    EXPECT_TRUE(fifo_.Poll());
    EXPECT_EQ(fifo_.fault(), FifoFault::kUnknownState);
    Settle(&fifo_);
    EXPECT_EQ(driver_.device_state(), kInit);
  }
}

TEST_P(ShmemFifoTest, BrokenFifoShowsInitAndIsLeftAloneUntilADriverStartsAnew) {
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(1);
  driver_.StoreTail(0x7000);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  EXPECT_FALSE(Settle(&fifo_));
  EXPECT_THAT(driver_.device_words(), ElementsAre(0x514F, kInit, 0, 0));
  EXPECT_EQ(fifo_.state(), FifoState::kBroken);
  driver_.StoreTail(2);
  EXPECT_FALSE(fifo_.Receive(&packet_));
  EXPECT_FALSE(fifo_.Send(Message(1)));
  EXPECT_FALSE(fifo_.CommitSent());
  EXPECT_FALSE(fifo_.Poll());

  driver_.Init();
  ASSERT_TRUE(fifo_.Poll());
  EXPECT_TRUE(fifo_.Step()) << "the bus has to forget the driver of before";
  EXPECT_EQ(fifo_.fault(), FifoFault::kNone);
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(3);
}

// Also when the driver is past INIT before the device has looked.
TEST_P(ShmemFifoTest, BreakIsSeenAsBrokenForAStep) {
  ASSERT_NO_FATAL_FAILURE(Join());
  driver_.Init();
  driver_.Ready();
  window_.Store<uint16_t>(driver_.dev_head(), 0);
  ASSERT_TRUE(fifo_.Poll());
  EXPECT_FALSE(fifo_.Step());
  EXPECT_EQ(fifo_.state(), FifoState::kBroken);
  ASSERT_TRUE(fifo_.Poll());
  EXPECT_TRUE(fifo_.Step());
  EXPECT_EQ(fifo_.state(), FifoState::kWaiting);
}

TEST_P(ShmemFifoTest, ResetAndDroppedDriverEndBroken) {
  for (const bool reset : {true, false}) {
    ASSERT_NO_FATAL_FAILURE(Join());
    driver_.StoreTail(0x7000);
    EXPECT_FALSE(fifo_.Receive(&packet_));
    if (reset) {
      fifo_.Reset();
    } else {
      fifo_.DropDriver(fifo_.DriverLeft());
    }
    EXPECT_EQ(fifo_.state(), FifoState::kWaiting);
    EXPECT_EQ(fifo_.fault(), FifoFault::kNone);
  }
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(3);
}

// --- Two threads. ---

TEST_P(ShmemFifoTest, StreamsBothWaysBetweenThreads) {
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectStreamBetweenThreads(5000, &fifo_, &driver_);
}

// A driver that goes away and comes back at any time, and waits in INIT until
// the device has left RUN: it never sees a packet of the life before.
TEST_P(ShmemFifoTest, DriversComeAndGoWhileTheDeviceIsAtWork) {
  constexpr uint32_t kLives = 100;
  std::atomic<bool> stop{false};
  std::thread device([this, &stop] {
    Packet packet;
    while (!stop.load(std::memory_order_relaxed)) {
      Settle(&fifo_);
      while (fifo_.HasRoom() && fifo_.Receive(&packet)) {
        fifo_.Send(packet.bytes);
      }
      fifo_.CommitReceived();
      fifo_.CommitSent();
      std::this_thread::yield();
    }
  });
  std::minstd_rand random(1);
  for (uint32_t life = 1; life <= kLives; ++life) {
    driver_.Init();
    while (driver_.device_state() == kRun) std::this_thread::yield();
    driver_.Ready();
    while (driver_.device_state() == kInit) std::this_thread::yield();
    driver_.Run();
    const uint32_t count = random() % 200;
    uint32_t back = 0;
    for (uint32_t i = 0; i < count;) {
      if (driver_.Put(Message(life << 16 | i))) ++i;
      while (driver_.Take(&packet_)) {
        ASSERT_EQ(NumberOf(packet_), life << 16 | back++);
      }
    }
  }
  stop = true;
  device.join();
  EXPECT_EQ(fifo_.fault(), FifoFault::kNone);
}

// Whatever a second writer does while it looks, each operation of the device
// ends. How many packets a turn takes is up to who takes them: a tail that
// moves on all the time announces without end.
TEST_P(ShmemFifoTest, SurvivesADriverThatScribblesAllOverTheWindow) {
  std::atomic<bool> stop{false};
  std::thread scribbler([this, &stop] {
    std::minstd_rand random(7);
    while (!stop.load(std::memory_order_relaxed)) {
      const size_t at = random() % 3 == 0   ? random() % 0x2000
                        : random() % 2 == 0 ? driver_.drv_head() + random() % 8
                                            : driver_.dev_head() + random() % 8;
      const uint32_t kind = random() % 4;
      if (kind == 0) {
        driver_.Init();
        driver_.Ready();
      } else if (kind == 1) {
        driver_.Run();
      } else {
        window_.Store<uint16_t>(at & ~size_t{1},
                                static_cast<uint16_t>(random() % 70));
      }
    }
  });
  uint32_t taken = 0;
  uint32_t breaks = 0;
  for (uint32_t i = 0; i < 5000 || taken < 200 || breaks < 10; ++i) {
    Settle(&fifo_);
    for (uint32_t n = 0; n < 64 && fifo_.Receive(&packet_); ++n) ++taken;
    fifo_.CommitReceived();
    fifo_.Send(Message(i));
    fifo_.CommitSent();
    if (fifo_.state() == FifoState::kBroken) ++breaks;
    if (i % 64 == 0) fifo_.DropDriver(fifo_.DriverLeft());
    if (i % 256 == 0) fifo_.Reset();
    if (i % 16 == 0) std::this_thread::yield();
  }
  stop = true;
  scribbler.join();
  fifo_.Reset();
  ASSERT_NO_FATAL_FAILURE(Join());
  ExpectAPacketEachWay(1);
}

}  // namespace
}  // namespace vmsg::amp
