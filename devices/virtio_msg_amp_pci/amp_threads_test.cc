// The function on real loops, each on a thread of its own, for ThreadSanitizer
// and for orders of events that a single thread never shows.

#include <array>
#include <atomic>
#include <chrono>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "devices/virtio/rng/backend.h"
#include "devices/virtio/rng/device.h"
#include "devices/virtio_msg_amp_pci/amp_pci_device.h"
#include "devices/virtio_msg_amp_pci/testing/layout_driver.h"
#include "devices/virtio_msg_amp_pci/testing/live_driver.h"
#include "devices/virtio_msg_amp_pci/testing/loop_thread.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "guest/driver/amp_function.h"
#include "guest/driver/bus.h"
#include "guest/driver/rng.h"
#include "guest/driver/testing/in_process_platform.h"
#include "guest/driver/virtio_device.h"
#include "guest/driver/window_fifo.h"
#include "vmm/base/check.h"
#include "vmm/bus/dispatch_bus.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/pci/pci_host_bridge.h"
#include "vmm/testing/fake_interrupt_controller.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::amp {
namespace {

uint64_t Fnv(uint64_t digest, std::span<const std::byte> bytes) {
  for (const std::byte byte : bytes) {
    digest = (digest ^ std::to_integer<uint64_t>(byte)) * 0x100000001b3;
  }
  return digest;
}

// --- Every FIFO at once. ---

constexpr uint32_t kFunctions = 2;
constexpr uint32_t kFifos = 2;
constexpr uint16_t kDevices = 3;  // on each FIFO
constexpr size_t kReadBytes = 3000;
constexpr int kReads = 40;  // of each device

// What the driver has of one FIFO. Set up by one thread, then used by another.
struct DrivenFifo {
  struct Driven {
    guest::VirtioDevice device;
    guest::Rng rng;
    uint64_t bytes = 0;
    uint64_t digest = virtio::RngStats().digest;
  };

  DrivenFifo(guest::Platform* platform, const guest::AmpFunction& function,
             uint32_t n) {
    guest::Fifo* const fifo = window.Open(function.window(n));
    EXPECT_EQ(guest::JoinFifo(platform, fifo, function.doorbell_address(n),
                              function.interrupt(n).id, 60'000'000'000),
              guest::Error::kNone);
    bus.emplace(
        platform, fifo,
        guest::BusOptions{.doorbell_address = function.doorbell_address(n),
                          .interrupt = function.interrupt(n).id,
                          .timeout_ns = 60'000'000'000});
    for (uint16_t number = 0; number < kDevices; ++number) {
      Driven& driven = devices[number];
      EXPECT_EQ(driven.device.Probe(&*bus, number), guest::Error::kNone);
      EXPECT_EQ(driven.rng.Start(&driven.device,
                                 {.requests = 4, .request_bytes = 256},
                                 platform->dma_arena()),
                guest::Error::kNone);
    }
  }

  void ReadAll() {
    std::vector<std::byte> buffer(kReadBytes);
    for (int i = 0; i < kReads; ++i) {
      for (Driven& driven : devices) {
        uint64_t received = 0;
        uint32_t requests = 0;
        EXPECT_EQ(driven.rng.Read(buffer, &received, &requests),
                  guest::Error::kNone);
        driven.bytes += received;
        driven.digest = Fnv(driven.digest, buffer);
      }
    }
  }

  guest::WindowFifo window;
  std::optional<guest::Bus> bus;
  std::array<Driven, kDevices> devices;
};

class AmpThreadsTest : public testing::TestWithParam<FifoLayout> {};

INSTANTIATE_TEST_SUITE_P(Layouts, AmpThreadsTest,
                         testing::ValuesIn(kAllLayouts),
                         [](const auto& layout) {
                           return LayoutTestName(layout.param);
                         });

TEST_P(AmpThreadsTest, EveryFifoOfTwoFunctionsWorksAtOnce) {
  ASSERT_OK_AND_ASSIGN(const auto platform,
                       guest::InProcessPlatform::Create({}));
  std::array<LoopThread, kFunctions * kFifos> loops;
  std::vector<std::unique_ptr<AmpPciDevice>> functions;
  std::vector<virtio::RngDevice*> rngs;
  for (uint32_t f = 0; f < kFunctions; ++f) {
    ASSERT_OK_AND_ASSIGN(
        auto function,
        AmpPciDevice::Create(
            {.id = "amp" + std::to_string(f),
             .fifo_layout = GetParam(),
             .wire_monitor = true},
            platform->memory(),
            {loops[f * kFifos].loop(), loops[f * kFifos + 1].loop()}, nullptr));
    functions.push_back(std::move(function));
    for (uint32_t n = 0; n < kFifos; ++n) {
      for (uint16_t slot = 0; slot < kDevices; ++slot) {
        ASSERT_OK_AND_ASSIGN(auto rng, virtio::RngDevice::Create(
                                           {}, virtio::CreateGetrandomSource(),
                                           loops[f * kFifos + n].loop()));
        rngs.push_back(rng.get());
        ASSERT_THAT(functions.back()->bus(n)->Plug(
                        slot, 1 + slot,
                        std::make_unique<VirtioPluggable>(std::move(rng))),
                    vmm::IsOk());
      }
    }
  }
  ASSERT_OK_AND_ASSIGN(
      auto bridge,
      vmm::PciHostBridge::Create(
          {.ecam = vmm::GuestAddress{0xE0000000},
           .window_32bit = {vmm::GuestAddress{0xC0000000}, 0x10000000}},
          platform->mmio(), nullptr, platform->interrupts()));
  std::vector<vmm::PciAddress> places;
  for (const auto& function : functions) {
    ASSERT_OK_AND_ASSIGN(const vmm::PciAddress place,
                         bridge->Add(function.get()));
    places.push_back(place);
  }
  ASSERT_THAT(bridge->AssignBars(), vmm::IsOk());
  for (LoopThread& loop : loops) loop.Start();

  std::array<guest::AmpFunction, kFunctions> opened;
  std::vector<std::unique_ptr<DrivenFifo>> fifos;
  for (uint32_t f = 0; f < kFunctions; ++f) {
    ASSERT_EQ(opened[f].Open(platform.get(), {.device = places[f].device}),
              guest::Error::kNone);
    for (uint32_t n = 0; n < kFifos; ++n) {
      fifos.push_back(
          std::make_unique<DrivenFifo>(platform.get(), opened[f], n));
    }
  }
  // One more vCPU: masks and unmasks all vectors of each function.
  std::atomic<bool> stop{false};
  std::thread masker([&] {
    constexpr uint16_t kCommand = 0x04;
    while (!stop.load(std::memory_order_relaxed)) {
      for (const vmm::PciAddress& place : places) {
        const guest::PciLocation where{.device = place.device};
        const auto capability =
            static_cast<uint16_t>(platform->ReadConfig(where, 0x34, 1));
        const uint32_t control = platform->ReadConfig(where, capability + 2, 2);
        platform->WriteConfig(where, capability + 2, 2, control | 1u << 14);
        platform->ReadConfig(where, kCommand, 2);
        platform->WriteConfig(where, capability + 2, 2, control & ~(1u << 14));
      }
      std::this_thread::yield();
    }
  });
  std::vector<std::thread> drivers;
  for (const auto& fifo : fifos) {
    drivers.emplace_back([&fifo] { fifo->ReadAll(); });
  }
  for (std::thread& driver : drivers) driver.join();
  stop = true;
  masker.join();
  for (LoopThread& loop : loops) loop.Stop();

  for (size_t i = 0; i < rngs.size(); ++i) {
    const DrivenFifo::Driven& driven =
        fifos[i / kDevices]->devices[i % kDevices];
    EXPECT_EQ(driven.bytes, uint64_t{kReads} * kReadBytes);
    EXPECT_EQ(rngs[i]->stats().bytes, driven.bytes);
    EXPECT_EQ(rngs[i]->stats().digest, driven.digest);
  }
  for (const auto& function : functions) {
    for (uint32_t n = 0; n < kFifos; ++n) {
      EXPECT_EQ(function->fifo_counters(n).breaks.value(), 0u);
      EXPECT_EQ(function->wire_monitor(n)->Summary(), "");
    }
  }
  for (const auto& fifo : fifos) {
    for (DrivenFifo::Driven& driven : fifo->devices) driven.device.Detach();
  }
  bridge.reset();
}

// --- Drivers that come and go while the loop is at work. ---

class DriverChangeThreadsTest : public testing::TestWithParam<FifoLayout> {
 protected:
  DriverChangeThreadsTest() {
    auto device =
        AmpPciDevice::Create({.num_fifos = 1, .fifo_layout = GetParam()},
                             &memory_, {loop_.loop()}, nullptr);
    VMSG_CHECK(device.ok());
    device_ = *std::move(device);
    guest_.emplace(device_.get(), &mmio_, &interrupts_);
    guest_->Start();
    loop_.Start();
  }
  ~DriverChangeThreadsTest() override {
    loop_.Stop();
    guest_.reset();
  }

  // A driver attaches, sends `count` PINGs with one doorbell, and is gone again
  // after about `spins` looks at its queue, or, when that is nullopt, after the
  // last answer. Every answer that it sees has to be its own.
  void LiveADriversLife(uint16_t life, uint32_t count,
                        std::optional<uint32_t> spins) {
    LiveDriver driver(&*guest_, 0);
    if (GetParam() == FifoLayout::kSpsc) {
      // What the driver before was sent, and did not take, before the device
      // may send again.
      ASSERT_TRUE(driver.Attach());
      while (driver.Take().has_value()) {
      }
      guest_->SetBusMaster(true);
    } else {
      guest_->SetBusMaster(true);
      ASSERT_TRUE(driver.Attach());
    }
    const auto deadline =
        std::chrono::steady_clock::now() + std::chrono::seconds(60);
    for (uint32_t i = 0; i < count; ++i) {
      // Full until the loop has skipped the packets of the driver before.
      while (!driver.Put(RawPing(life, i))) {
        ASSERT_LT(std::chrono::steady_clock::now(), deadline) << i;
      }
    }
    guest_->Ring(0);
    uint32_t answers = 0;
    for (uint32_t i = 0; spins.has_value() ? i < *spins : answers < count;
         ++i) {
      while (const std::optional<Bytes> packet = driver.Take()) {
        ASSERT_EQ(TokenOf(*packet), life) << "an answer to another driver";
        ASSERT_EQ(PayloadWord(*packet, 0), answers);
        ++answers;
      }
      if (i % 1024 != 1023) continue;
      ASSERT_LT(std::chrono::steady_clock::now(), deadline)
          << answers << " of " << count << " answers";
      std::this_thread::yield();
    }
  }

  // The words of the window that the device writes, besides packets.
  std::array<uint32_t, 2> DeviceWords() {
    switch (GetParam()) {
      case FifoLayout::kSpsc:
        break;
      case FifoLayout::kShmemV1:
      case FifoLayout::kShmemV1Packed:
        // Its queue head. amp-pci-device, 3.2.
        return {guest_->Index(0, 0x1040), guest_->Index(0, 0x1044)};
    }
    return {guest_->Index(0, RawGuest::kDeviceHead),
            guest_->Index(0, RawGuest::kDriverTail)};
  }
  // Looks at them for a while.
  void ExpectDeviceToLeaveTheWindowAlone(const std::array<uint32_t, 2>& words) {
    for (uint32_t i = 0; i < 500; ++i) {
      const std::array<uint32_t, 2> now = DeviceWords();
      ASSERT_EQ(now[0], words[0]) << i;
      // Without a handshake the packets of the driver that is gone are skipped
      // at some time.
      ASSERT_TRUE(now[1] == words[1] ||
                  (GetParam() == FifoLayout::kSpsc &&
                   now[1] == guest_->Index(0, RawGuest::kDriverHead)))
          << now[1];
    }
  }

  // How a life goes: one in four to the end, the others cut short while the
  // loop may be anywhere.
  void LiveALife(uint16_t life) {
    const uint32_t count = 1 + random_() % 60;
    std::optional<uint32_t> spins;
    if (life % 4 != 0) spins = random_() % 400;
    LiveADriversLife(life, count, spins);
  }

  // A handshake takes turns with the loop's thread.
  uint16_t lives() const {
    return GetParam() == FifoLayout::kSpsc ? 4000 : 200;
  }

  std::minstd_rand random_{1};
  LoopThread loop_;
  vmm::GuestMemory memory_;
  vmm::DispatchMmioBus mmio_;
  vmm::FakeInterruptController interrupts_;
  std::unique_ptr<AmpPciDevice> device_;
  std::optional<RawGuest> guest_;
};

INSTANTIATE_TEST_SUITE_P(Layouts, DriverChangeThreadsTest,
                         testing::ValuesIn(kAllLayouts),
                         [](const auto& layout) {
                           return LayoutTestName(layout.param);
                         });

TEST_P(DriverChangeThreadsTest, NoAnswerReachesTheNextDriver) {
  for (uint16_t life = 1; life <= lives(); ++life) {
    ASSERT_NO_FATAL_FAILURE(LiveALife(life));
    guest_->SetBusMaster(false);
    const std::array<uint32_t, 2> words = DeviceWords();
    if (life % 2 == 0) {
      ASSERT_NO_FATAL_FAILURE(ExpectDeviceToLeaveTheWindowAlone(words));
    }
  }
  EXPECT_EQ(device_->fifo_counters(0).breaks.value(), 0u);
}

TEST_P(DriverChangeThreadsTest, ResetLeavesNothingThatIsWrittenLater) {
  // Zeroes, but for a queue head's magic.
  const std::array<uint32_t, 2> initial = {
      GetParam() == FifoLayout::kSpsc ? 0u : 0x514Fu, 0u};
  for (uint16_t life = 1; life <= lives(); ++life) {
    ASSERT_NO_FATAL_FAILURE(LiveALife(life));
    device_->Reset();
    if (life % 2 == 0) {
      ASSERT_NO_FATAL_FAILURE(ExpectDeviceToLeaveTheWindowAlone(initial));
    }
    guest_->PlaceBars();
    guest_->EnableInterrupts();
  }
  EXPECT_EQ(device_->fifo_counters(0).breaks.value(), 0u);
}

}  // namespace
}  // namespace vmsg::amp
