// Memory does not depend on what a driver sends or leaves. In a program of its
// own: it counts every byte that is allocated. Source: amp-pci-device, 4.

#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <random>
#include <vector>

#include "absl/status/statusor.h"
#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/layout_driver.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "vmm/control/device_manager.h"
#include "vmm/testing/manual_event_loop.h"

namespace {

size_t g_live_bytes = 0;

// Before each block, and as aligned as malloc() itself.
constexpr size_t kHeaderBytes = 16;

}  // namespace

void* operator new(size_t size) {
  auto* const block = static_cast<char*>(std::malloc(size + kHeaderBytes));
  if (block == nullptr) std::abort();
  *reinterpret_cast<size_t*>(block) = size;
  g_live_bytes += size;
  return block + kHeaderBytes;
}
void operator delete(void* memory) noexcept {
  if (memory == nullptr) return;
  char* const block = static_cast<char*>(memory) - kHeaderBytes;
  g_live_bytes -= *reinterpret_cast<size_t*>(block);
  std::free(block);
}
void* operator new[](size_t size) { return operator new(size); }
void operator delete[](void* memory) noexcept { operator delete(memory); }
void operator delete(void* memory, size_t) noexcept { operator delete(memory); }
void operator delete[](void* memory, size_t) noexcept {
  operator delete(memory);
}

namespace vmsg::amp {
namespace {

using std::chrono::milliseconds;

class MemoryBoundTest : public testing::TestWithParam<FifoLayout> {
 protected:
  static constexpr uint32_t kDevices = 32;
  // What queues of the test's own loop may take more, once.
  static constexpr size_t kSlack = 4096;

  MemoryBoundTest() {
    m_.DriverBreaks("DRV-LIMIT-2 DRV-INIT-1 DRV-FINAL-3 BUS-PING-1");
    m_.guest->Start();
    m_.loop.RunUntilIdle();
    for (uint32_t slot = 0; slot < kDevices; ++slot) {
      auto device = std::make_unique<virtio::DummyDevice>(
          virtio::DummyOptions{.seed = slot,
                               .max_transition_delay = milliseconds(3)},
          &m_.loop);
      devices_[slot] = device.get();
      EXPECT_TRUE(
          m_.device->bus(0)
              ->Plug(slot, 1 + slot,
                     std::make_unique<VirtioPluggable>(std::move(device)))
              .ok());
    }
    driver_.Attach();
    // It observes, and its loop does not run: whatever the bus reports waits.
    absl::StatusOr<std::unique_ptr<control::DeviceManager>> manager =
        control::DeviceManager::Create(&control_loop_, {m_.device->bus(0)}, {},
                                       nullptr);
    EXPECT_TRUE(manager.ok());
    manager_ = *std::move(manager);
    m_.loop.RunUntilIdle();
  }

  Bytes SomeMessage() {
    const auto slot = static_cast<uint16_t>(random_() % kDevices);
    const auto token = static_cast<uint16_t>(random_());
    constexpr std::array<uint8_t, 8> kQueue0 = {};
    switch (random_() % 8) {
      case 0:
        return RawPing(token, token);
      case 1:
        return RawGetDevices(token);
      case 2:
        return RawGetDeviceInfo(slot, token);
      case 3:
        return RawSetStatus(slot, token, 0);
      case 4:
        return RawSetStatus(slot, token, 3);
      case 5:
        return RawMessage(0x00, 0x41, slot, 0, kQueue0);  // EVENT_AVAIL
      case 6:
        return RawMessage(0x03, 0x03, 0, token, std::array<uint8_t, 4>{});
      default:
        return RawMessage(0x00, 0x7E, slot, token, kQueue0);  // unknown
    }
  }
  // The driver sends what it can, and devices have news for it.
  void Flood() {
    while (driver_.Put(SomeMessage())) {
    }
    for (int i = 0; i < 3; ++i) driver_.Ring();
    devices_[random_() % kDevices]->ChangeConfig(
        0, std::array<std::byte, 4>{std::byte{1}});
    m_.loop.AdvanceTime(milliseconds(1));
    // What the fakes write down is theirs.
    m_.log.lines.clear();
    m_.interrupts.ClearRaised();
  }

  AmpMachine m_{
      {.num_fifos = 1,
       .fifo_layout = GetParam(),
       .ping = {.interval = milliseconds(20), .timeout = milliseconds(20)}}};
  std::array<virtio::DummyDevice*, kDevices> devices_ = {};
  LayoutDriver driver_{&m_};
  vmm::ManualEventLoop control_loop_{&m_.loop.fake_clock()};
  std::unique_ptr<control::DeviceManager> manager_;
  std::mt19937 random_{1};
};

INSTANTIATE_TEST_SUITE_P(Layouts, MemoryBoundTest,
                         testing::ValuesIn(kAllLayouts),
                         [](const auto& layout) {
                           return LayoutTestName(layout.param);
                         });

TEST_P(MemoryBoundTest, DriverThatFloodsAndDrainsNothingTakesNoMore) {
  for (int i = 0; i < 300; ++i) Flood();
  const size_t before = g_live_bytes;
  for (int i = 0; i < 5000; ++i) Flood();
  EXPECT_LE(g_live_bytes, before + kSlack);
  // All that was sent is on the queues, which are full.
  EXPECT_FALSE(driver_.Put(RawPing(1, 1)));
  EXPECT_GT(m_.device->fifo_counters(0).full_rechecks.value(), 50u);
}

TEST_P(MemoryBoundTest, DriverThatFloodsAndDrainsALittleTakesNoMore) {
  const auto round = [this] {
    Flood();
    for (uint32_t i = random_() % 8; i > 0; --i) driver_.Take();
  };
  for (int i = 0; i < 1000; ++i) round();
  const size_t before = g_live_bytes;
  const uint64_t packets = m_.device->fifo_counters(0).packets_in.value();
  for (int i = 0; i < 5000; ++i) round();
  EXPECT_LE(g_live_bytes, before + kSlack);
  EXPECT_GT(m_.device->fifo_counters(0).packets_in.value(), packets + 5000);
}

TEST_P(MemoryBoundTest, DeviceThatHangsKeepsAFixedNumberOfRequests) {
  const auto round = [this] {
    Flood();
    driver_.TakeAll();
  };
  for (int i = 0; i < 100; ++i) round();
  for (virtio::DummyDevice* device : devices_) device->HoldTransitions(true);
  for (int i = 0; i < 300; ++i) round();
  const size_t before = g_live_bytes;
  for (int i = 0; i < 5000; ++i) round();
  EXPECT_LE(g_live_bytes, before + kSlack);
  for (virtio::DummyDevice* device : devices_) device->HoldTransitions(false);
  for (int i = 0; i < 100; ++i) round();
}

// Each status and each reset is a report, and nobody reads one.
TEST_P(MemoryBoundTest, DriverThatWritesStatusAfterStatusFillsNoOtherQueue) {
  m_.DriverBreaks("DRV-INIT-1");
  const auto round = [this] {
    for (const uint32_t status : {0, 1, 3}) {
      for (uint16_t slot = 0; slot < kDevices; ++slot) {
        driver_.Put(RawSetStatus(slot, 1, status));
      }
      driver_.Ring();
      m_.loop.AdvanceTime(milliseconds(3));
      driver_.TakeAll();
    }
    m_.log.lines.clear();
    m_.interrupts.ClearRaised();
  };
  for (int i = 0; i < 10; ++i) round();
  const size_t before = g_live_bytes;
  const uint64_t resets = m_.device->bus(0)->slot_report(0).resets;
  for (int i = 0; i < 500; ++i) round();
  EXPECT_LE(g_live_bytes, before + kSlack);
  EXPECT_GT(m_.device->bus(0)->slot_report(0).resets, resets + 400);
  EXPECT_LE(control_loop_.RunUntilIdle(), 2);
}

}  // namespace
}  // namespace vmsg::amp
