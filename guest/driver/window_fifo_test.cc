#include "guest/driver/window_fifo.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "gtest/gtest.h"
#include "guest/driver/shared_memory.h"
#include "guest/driver/testing/fake_platform.h"

namespace vmsg::guest {
namespace {

constexpr uint64_t kDoorbell = 0xE0000020;

class WindowFifoTest : public testing::Test {
 protected:
  WindowFifoTest() {
    platform_.on_mmio_write = [this](uint64_t address, uint64_t) {
      EXPECT_EQ(address, kDoorbell);
      states_.push_back(Half(72 + 2));
      if (on_doorbell_) on_doorbell_();
    };
  }

  uint16_t Half(size_t at) {
    return LoadAcquire<uint16_t>(window_.data() + 0x1000 + at);
  }
  void Half(size_t at, uint16_t value) {
    StoreRelease<uint16_t>(window_.data() + 0x1000 + at, value);
  }
  // The usual placement of layout `shmem-v1`.
  void MakeShmem() {
    Half(2, 64);
    Half(4, 1);
    Half(10, 63);
    Half(12, 64);
    Half(24, 64);
    Half(32, 80);
    Half(48, 72);
    Half(56, 4112);
    Half(64, 0x514F);
    Half(0, 0x4C4F);
  }
  Error Join() {
    return JoinFifo(&platform_, fifo_.Open(window_.data()), kDoorbell, 7,
                    1'000'000'000);
  }

  FakePlatform platform_;
  alignas(64) std::array<std::byte, kFifoWindowBytes> window_ = {};
  WindowFifo fifo_;
  std::vector<uint16_t> states_;  // the driver's, at each doorbell
  std::function<void()> on_doorbell_;
};

TEST_F(WindowFifoTest, SpscIsJoinedAtOnceWithoutADoorbell) {
  EXPECT_EQ(Join(), Error::kNone);
  EXPECT_TRUE(states_.empty());
  EXPECT_EQ(platform_.waits(), 0u);
}

TEST_F(WindowFifoTest, SpscThatIsBrokenIsToldSo) {
  Half(0, 62);
  EXPECT_EQ(Join(), Error::kFifoBroken);
}

TEST_F(WindowFifoTest, ShmemIsJoinedWithTheDeviceAtTheDoorbell) {
  MakeShmem();
  on_doorbell_ = [this] { Half(64 + 2, 2); };
  EXPECT_EQ(Join(), Error::kNone);
  EXPECT_EQ(states_, (std::vector<uint16_t>{1, 2}));
}

TEST_F(WindowFifoTest, ShmemDeviceThatLooksLaterIsWaitedFor) {
  MakeShmem();
  platform_.on_wait = [this] {
    if (platform_.waits() > 20) Half(64 + 2, 1);
  };
  EXPECT_EQ(Join(), Error::kNone);
  EXPECT_GT(platform_.waits(), 20u);
}

TEST_F(WindowFifoTest, ShmemDeviceThatNeverJoinsIsLeftInTime) {
  MakeShmem();
  EXPECT_EQ(Join(), Error::kTimeout);
  EXPECT_EQ(Half(72 + 2), 3) << "SHUTDOWN";
  EXPECT_GE(platform_.NowNs(), 1'000'000'000u);
}

TEST_F(WindowFifoTest, ShmemDeviceThatIsGoneIsToldSo) {
  MakeShmem();
  Half(64 + 2, 3);
  EXPECT_EQ(Join(), Error::kFifoBroken);
}

TEST_F(WindowFifoTest, ShmemWithABadHeaderIsToldSo) {
  MakeShmem();
  Half(2, 63);
  EXPECT_EQ(Join(), Error::kFifoBroken);
  EXPECT_EQ(Half(72), 0) << "nothing was written";
}

}  // namespace
}  // namespace vmsg::guest
