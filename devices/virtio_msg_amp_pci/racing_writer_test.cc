// A second thread of the guest that rewrites a window while the device works on
// it: packets between copy and use, indices, handshake words. In each layout,
// and made for ThreadSanitizer and AddressSanitizer.

#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "devices/virtio_msg_amp_pci/testing/layout_driver.h"
#include "devices/virtio_msg_amp_pci/testing/live_driver.h"
#include "devices/virtio_msg_amp_pci/testing/loop_thread.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "gtest/gtest.h"
#include "vmm/base/check.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/shared_copy.h"
#include "vmm/testing/fake_interrupt_controller.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::amp {
namespace {

using Clock = std::chrono::steady_clock;

// The words of a window that decide something; the packets of the driver.
// Source: amp-pci-device, 3.1 and 3.2; for the placement that this device
// chooses, fifo/README.md.
struct Places {
  std::vector<size_t> words;
  size_t driver_packets = 0;
  size_t slots = 0;
};
Places PlacesOf(FifoLayout layout) {
  switch (layout) {
    case FifoLayout::kSpsc:
      return {.words = {0x1000, 0x1040, 0x2000, 0x2040},
              .driver_packets = 0x1080,
              .slots = 62};
    case FifoLayout::kShmemV1:
      return {.words = {0x1000, 0x1040, 0x1044, 0x2F80, 0x2F84},
              .driver_packets = 0x2000,
              .slots = 62};
    case FifoLayout::kShmemV1Packed:
      return {.words = {0x1000, 0x1040, 0x1044, 0x1048, 0x104C},
              .driver_packets = 0x2010,
              .slots = 63};
  }
  VMSG_CHECK(false, "unknown layout");
  return {};
}

// One word, as the device copies it: type, id, device number, token, size.
uint64_t HeaderWord(const Bytes& message) {
  uint64_t word = 0;
  for (size_t i = 0; i < 8; ++i) {
    word |= std::to_integer<uint64_t>(message.at(i)) << (8 * i);
  }
  return word;
}

class RacingWriterTest : public testing::TestWithParam<FifoLayout> {
 protected:
  RacingWriterTest() {
    auto device =
        AmpPciDevice::Create({.num_fifos = 2, .fifo_layout = GetParam()},
                             &memory_, {loop_.loop()}, nullptr);
    VMSG_CHECK(device.ok());
    device_ = *std::move(device);
    for (uint32_t slot = 0; slot < 2; ++slot) {
      EXPECT_THAT(
          device_->bus(0)->Plug(
              slot, 1 + slot,
              std::make_unique<VirtioPluggable>(
                  std::make_unique<virtio::DummyDevice>(
                      virtio::DummyOptions{.seed = slot}, loop_.loop()))),
          vmm::IsOk());
    }
    guest_.emplace(device_.get(), &mmio_, &interrupts_);
    guest_->Start();
    loop_.Start();
  }
  ~RacingWriterTest() override {
    loop_.Stop();
    guest_.reset();
  }

  const Places places_ = PlacesOf(GetParam());
  LoopThread loop_;
  vmm::GuestMemory memory_;
  vmm::DispatchMmioBus mmio_;
  vmm::FakeInterruptController interrupts_;
  std::unique_ptr<AmpPciDevice> device_;
  std::optional<RawGuest> guest_;
};

INSTANTIATE_TEST_SUITE_P(Layouts, RacingWriterTest,
                         testing::ValuesIn(kAllLayouts),
                         [](const auto& layout) {
                           return LayoutTestName(layout.param);
                         });

// Two well-formed requests take turns in each packet while the device reads it.
// Whichever it took, it has to answer that one and nothing between the two.
TEST_P(RacingWriterTest, PacketIsDecidedOnOnce) {
  constexpr int kRequests = 20'000;
  constexpr int kMostRequests = 100 * kRequests;
  constexpr uint16_t kPingToken = 0x1111;
  constexpr uint16_t kInfoToken = 0x2222;
  const Bytes ping = RawPing(kPingToken, 5);
  const uint64_t words[2] = {HeaderWord(ping),
                             HeaderWord(RawGetDeviceInfo(31, kInfoToken))};
  LiveDriver driver(&*guest_, 0);
  ASSERT_TRUE(driver.Attach());

  std::atomic<bool> stop{false};
  std::thread writer([&] {
    std::byte* const window = guest_->window(0);
    for (uint64_t i = 0; !stop.load(std::memory_order_relaxed); ++i) {
      for (size_t slot = 0; slot < places_.slots; ++slot) {
        vmm::StoreShared<uint64_t>(window + places_.driver_packets + 64 * slot,
                                   words[i % 2], std::memory_order_relaxed);
      }
    }
  });
  int pings = 0;
  int infos = 0;
  int others = 0;
  // On a busy machine it may take a while until the two threads have met.
  const auto raced = [&] { return pings != 0 && infos != 0; };
  for (int sent = 0;
       others == 0 && sent < (raced() ? kRequests : kMostRequests);) {
    int batch = 0;
    while (batch < 40 && driver.Put(ping)) ++batch;
    guest_->Ring(0);
    sent += batch;
    for (; batch > 0; --batch) {
      const std::optional<Bytes> answer = driver.Await();
      if (!answer.has_value()) {
        ++others;
        break;
      }
      if (TypeOf(*answer) == 0x03 && IdOf(*answer) == 0x03 &&
          DevNumOf(*answer) == 0 && TokenOf(*answer) == kPingToken &&
          SizeOf(*answer) == 12 && PayloadWord(*answer, 0) == 5) {
        ++pings;
      } else if (TypeOf(*answer) == 0x01 && IdOf(*answer) == 0x02 &&
                 DevNumOf(*answer) == 31 && TokenOf(*answer) == kInfoToken &&
                 SizeOf(*answer) == 32) {
        ++infos;
      } else {
        ++others;
      }
    }
  }
  stop = true;
  writer.join();
  EXPECT_EQ(others, 0) << "an answer to a mixture, or none";
  // It was a race, and every request has been answered.
  EXPECT_GT(pings, 0);
  EXPECT_GT(infos, 0);
  EXPECT_GE(pings + infos, kRequests);
  EXPECT_EQ(device_->fifo_counters(0).breaks.value(), 0u);
}

// Everything in the window of FIFO 0 changes all the time, while messages that
// make sense go in between and the operator mends it again and again. FIFO 1
// does not notice, and after a reset FIFO 0 is as good as new.
TEST_P(RacingWriterTest, WindowMayChangeAnywhereAtAnyTime) {
  LiveDriver neighbour(&*guest_, 1);
  ASSERT_TRUE(neighbour.Attach());
  std::atomic<bool> stop{false};

  std::thread writer([&] {
    std::mt19937_64 random(1);
    std::byte* const window = guest_->window(0);
    while (!stop.load(std::memory_order_relaxed)) {
      const uint64_t value = random();
      // Often a value that could be one.
      const auto likely = static_cast<uint32_t>(value % 70);
      switch (value >> 61) {
        case 0:
        case 1:
        case 2: {
          const size_t at = places_.words[random() % places_.words.size()];
          vmm::StoreShared<uint16_t>(window + at + value / 128 % 2 * 2,
                                     static_cast<uint16_t>(likely),
                                     std::memory_order_relaxed);
          break;
        }
        case 3: {
          const size_t at = places_.words[random() % places_.words.size()];
          vmm::StoreShared<uint32_t>(window + at,
                                     static_cast<uint32_t>(random()),
                                     std::memory_order_relaxed);
          break;
        }
        case 4:  // a driver of shmem-v1 that starts
          for (const uint16_t state : {0, 1, 2}) {
            const size_t at = places_.words[3];
            vmm::StoreShared<uint16_t>(window + at, 0x514F,
                                       std::memory_order_relaxed);
            vmm::StoreShared<uint16_t>(window + at + 2, state,
                                       std::memory_order_release);
            std::this_thread::yield();
          }
          break;
        default: {
          const size_t slot = random() % places_.slots;
          vmm::StoreShared<uint64_t>(
              window + places_.driver_packets + 64 * slot + 8 * (random() % 8),
              random(), std::memory_order_relaxed);
          break;
        }
      }
    }
  });
  std::thread sender([&] {
    std::mt19937 random(2);
    const std::array<uint8_t, 12> version_1 = {1, 0, 0, 0, 1, 0,
                                               0, 0, 1, 0, 0, 0};
    std::vector<Bytes> messages = {
        RawGetDevices(1),         RawPing(2, 3),
        RawGetDeviceInfo(0, 4),   RawGetStatus(0, 5),
        RawSetStatus(0, 6, 0),    RawSetStatus(0, 7, 3),
        RawSetStatus(0, 8, 0xB),  RawSetStatus(0, 9, 0xF),
        RawSetStatus(1, 10, 0xF), RawMessage(0, 0x04, 0, 2, version_1),
    };
    std::byte* const window = guest_->window(0);
    while (!stop.load(std::memory_order_relaxed)) {
      const size_t slot = random() % places_.slots;
      Bytes packet(64);
      const Bytes& message = messages[random() % messages.size()];
      std::copy(message.begin(), message.end(), packet.begin());
      vmm::CopyToShared(window + places_.driver_packets + 64 * slot, packet);
      // The driver's index: head of its queue, or the tail in its queue head.
      const size_t index = GetParam() == FifoLayout::kSpsc
                               ? places_.words[0]
                               : places_.words.back();
      vmm::StoreShared<uint16_t>(
          window + index, static_cast<uint16_t>((slot + 1) % places_.slots),
          std::memory_order_release);
      guest_->Ring(0);
    }
  });

  // For some time, and then until it was an attack.
  const auto start = Clock::now();
  int answers = 0;
  const auto enough = [&] {
    return answers > 10 && device_->fifo_counters(0).breaks.value() > 0 &&
           device_->fifo_counters(0).packets_in.value() > 100;
  };
  const auto over = [&] {
    const auto time = Clock::now() - start;
    return time >= std::chrono::minutes(1) ||
           (time >= std::chrono::seconds(2) && enough());
  };
  bool answered = true;
  for (uint16_t token = 1; answered && !over(); ++token) {
    answered = neighbour.Ping(token);
    if (answered) ++answers;
    if (token % 16 == 0) {
      loop_.loop()->Post([this] { device_->bus(0)->ResetBus(); });
    }
  }
  stop = true;
  writer.join();
  sender.join();
  EXPECT_TRUE(answered) << "after " << answers;
  EXPECT_EQ(device_->fifo_counters(1).breaks.value(), 0u);
  EXPECT_TRUE(enough()) << answers;

  device_->Reset();
  guest_->Start();
  LiveDriver after(&*guest_, 0);
  ASSERT_TRUE(after.Attach());
  for (uint16_t token = 1; token < 200; ++token) {
    ASSERT_TRUE(after.Ping(token)) << token;
  }
}

}  // namespace
}  // namespace vmsg::amp
