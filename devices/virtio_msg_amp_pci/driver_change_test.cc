// A driver that leaves without goodbye, and the next one: bus mastering off and
// on (driver reload, kexec), function reset (reboot).
// What all layouts promise, and what layout `spsc` alone does, where a driver
// carries on at the indices that it finds. For the handshake of `shmem-v1` see
// shmem_channel_test.cc. Source:
// docs/adr/2026-11-22-bus-master-off-resets-devices.md.

#include <algorithm>
#include <array>
#include <memory>
#include <utility>
#include <vector>

#include "devices/virtio/testing/dummy_device.h"
#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/layout_driver.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "devices/virtio_msg_amp_pci/virtio_pluggable.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/memory/iova_map.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::amp {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

// Shows the context that it was activated with.
class ContextDevice final : public virtio::VirtioDevice {
 public:
  uint32_t device_id() const override { return 0xfe1; }
  virtio::Features offered_features() const override {
    return {virtio::kFeatureVersion1};
  }
  std::span<const virtio::QueueLimits> queues() const override {
    return limits_;
  }
  uint32_t config_size() const override { return 0; }
  std::optional<virtio::SharedMemoryRegion> shared_memory(
      uint8_t) const override {
    return std::nullopt;
  }
  void ReadConfig(uint32_t, std::span<std::byte>) const override {}
  bool WriteConfig(uint32_t, std::span<const std::byte>) override {
    return false;
  }
  bool AcceptFeatures(const virtio::Features&) const override { return true; }
  void Activate(const virtio::DeviceContext& context,
                std::vector<std::unique_ptr<virtio::Virtqueue>>,
                StatusCompletion done) override {
    dma = context.dma;
    ++activations;
    context.loop->Post(
        [done = std::move(done)]() mutable { done(absl::OkStatus()); });
    loop_ = context.loop;
  }
  void ActivateQueue(std::unique_ptr<virtio::Virtqueue>) override {}
  void QueueNotify(uint16_t) override {}
  void ResetQueue(uint16_t, Completion done) override {
    Finish(std::move(done));
  }
  void Quiesce(Completion done) override { Finish(std::move(done)); }
  void Resume() override {}
  void FailRequests() override {}
  void Reset(Completion done) override {
    ++resets;
    Finish(std::move(done));
  }
  void Remove(Completion done) override { Finish(std::move(done)); }
  virtio::SavedState Save() const override { return {}; }
  absl::Status Restore(const virtio::SavedState&) override {
    return absl::OkStatus();
  }
  std::vector<std::optional<virtio::Virtqueue::Position>> queue_positions()
      const override {
    return {};
  }

  vmm::DmaSpace* dma = nullptr;
  int activations = 0;
  int resets = 0;
  vmm::EventLoop* loop_ = nullptr;

 private:
  void Finish(Completion done) {
    loop_->Post([done = std::move(done)]() mutable { done(); });
  }
  const std::array<virtio::QueueLimits, 1> limits_ = {{{.max_size = 8}}};
};

class DriverChangeBase {
 public:
  virtual ~DriverChangeBase() = default;

 protected:
  explicit DriverChangeBase(FifoLayout layout,
                            vmm::DmaTranslator* translator = nullptr)
      : translated_(translator != nullptr),
        m_({.fifo_layout = layout, .translator = translator}) {
    m_.guest->Start();
    m_.loop.RunUntilIdle();
  }

  // Gets a message of FIFO 0's driver to the device, and what came back.
  virtual void Send(const Bytes& message) = 0;
  virtual std::vector<Bytes> Take() = 0;

  // A device on slot 0 of FIFO 0, brought to DRIVER_OK.
  ContextDevice* StartDevice() {
    auto device = std::make_unique<ContextDevice>();
    ContextDevice* const raw = device.get();
    raw->loop_ = &m_.loop;
    EXPECT_THAT(m_.device->bus(0)->Plug(
                    0, 1, std::make_unique<VirtioPluggable>(std::move(device))),
                vmm::IsOk());
    BringUp();
    EXPECT_EQ(raw->activations, 1);
    return raw;
  }

  void BringUp() {
    // VERSION_1, and ACCESS_PLATFORM.
    const std::array<uint8_t, 12> features = {
        1, 0, 0, 0, 1, 0, 0, 0, static_cast<uint8_t>(translated_ ? 3 : 1),
        0, 0, 0};
    constexpr std::array<uint8_t, 8> kTwoBlocks = {0, 0, 0, 0, 2, 0, 0, 0};
    Send(RawGetDeviceInfo(0, 5));
    Send(RawSetStatus(0, 1, 3));
    Send(RawMessage(0, 0x03, 0, 6, kTwoBlocks));
    m_.loop.RunUntilIdle();
    Take();
    Send(RawMessage(0, 0x04, 0, 2, features));
    Send(RawSetStatus(0, 3, 0xB));
    Send(RawSetStatus(0, 4, 0xF));
    m_.loop.RunUntilIdle();
    Take();
    EXPECT_EQ(DriverStatus(), 0xFu);
  }

  // Runs; then the tokens of the answers, without the events in between: the
  // READY of a device is owed again to a new driver.
  std::vector<uint16_t> RunForAnswers() {
    m_.loop.RunUntilIdle();
    std::vector<uint16_t> tokens;
    for (const Bytes& packet : Take()) {
      if ((TypeOf(packet) & 1) != 0) tokens.push_back(TokenOf(packet));
    }
    return tokens;
  }

  uint32_t DriverStatus() {
    return m_.device->bus(0)->slot_report(0).driver_status;
  }
  vmm::DmaResult TryDma(ContextDevice* device) {
    std::array<std::byte, 8> bytes;
    return device->dma->Read(AmpMachine::kRam, bytes);
  }

  const bool translated_;
  AmpMachine m_;
};

class DriverChangeTest : public DriverChangeBase,
                         public testing::TestWithParam<FifoLayout> {
 protected:
  DriverChangeTest() : DriverChangeBase(GetParam()) { driver_.Attach(); }
  void Send(const Bytes& message) override { driver_.Send(message); }
  std::vector<Bytes> Take() override { return driver_.TakeAll(); }

  LayoutDriver driver_{&m_};
};

INSTANTIATE_TEST_SUITE_P(Layouts, DriverChangeTest,
                         testing::ValuesIn(kAllLayouts),
                         [](const auto& layout) {
                           return LayoutTestName(layout.param);
                         });

class SpscDriverChangeTest : public DriverChangeBase, public testing::Test {
 protected:
  SpscDriverChangeTest() : DriverChangeBase(FifoLayout::kSpsc) {}
  void Send(const Bytes& message) override { m_.guest->Send(0, message); }
  std::vector<Bytes> Take() override { return m_.guest->TakeAll(0); }
};

// Before the machine, which borrows it.
struct WithIommu {
  vmm::IovaMap iommu;
};

class TranslatedDriverTest : private WithIommu,
                             public DriverChangeBase,
                             public testing::Test {
 protected:
  static constexpr vmm::GuestAddress kIova{0x7f0000000000};

  TranslatedDriverTest() : DriverChangeBase(FifoLayout::kSpsc, &iommu) {}
  void Send(const Bytes& message) override { m_.guest->Send(0, message); }
  std::vector<Bytes> Take() override { return m_.guest->TakeAll(0); }

  vmm::DmaResult TryDmaAt(ContextDevice* device, vmm::GuestAddress address) {
    std::array<std::byte, 8> bytes;
    return device->dma->Read(address, bytes);
  }
  using WithIommu::iommu;
};

// --- All layouts: bus mastering. ---

TEST_P(DriverChangeTest, NothingIsTakenWhileBusMasteringIsOff) {
  driver_.Put(RawPing(1, 1));
  m_.guest->SetBusMaster(false);
  driver_.Ring();
  m_.loop.AdvanceTime(std::chrono::seconds(1));
  EXPECT_EQ(m_.device->fifo_counters(0).packets_in.value(), 0u);
  EXPECT_EQ(m_.device->fifo_counters(0).packets_out.value(), 0u);
}

TEST_P(DriverChangeTest, RequestsOfTheOldDriverAreNotAnsweredToTheNewOne) {
  driver_.Put(RawPing(1, 1));
  driver_.Put(RawPing(2, 2));
  m_.guest->SetBusMaster(false);
  m_.loop.RunUntilIdle();

  m_.guest->SetBusMaster(true);
  driver_.Attach();
  driver_.Send(RawPing(3, 3));
  EXPECT_THAT(RunForAnswers(), ElementsAre(3));
}

// The loop is slow: it sees off and on at once, and packets of before.
TEST_P(DriverChangeTest, LateLoopForgetsTheOldDriver) {
  ContextDevice* const device = StartDevice();
  driver_.Send(RawPing(100, 1));
  driver_.Send(RawSetStatus(0, 101, 0x80));
  m_.guest->SetBusMaster(false);
  m_.guest->SetBusMaster(true);
  driver_.Attach();
  driver_.Send(RawPing(200, 2));

  EXPECT_THAT(RunForAnswers(), ElementsAre(200));
  EXPECT_EQ(device->resets, 1);
  EXPECT_EQ(DriverStatus(), 0u);
}

TEST_P(DriverChangeTest, ManyDriversInARowGetTheirOwnAnswersOnly) {
  for (uint16_t round = 0; round < 50; ++round) {
    driver_.Attach();
    driver_.Send(RawPing(static_cast<uint16_t>(100 + round), 1));
    if (round % 2 != 0) m_.loop.RunUntilIdle();
    if (round % 2 != 0) driver_.TakeAll();
    m_.guest->SetBusMaster(false);
    if (round % 3 == 0) m_.loop.RunUntilIdle();
    m_.guest->SetBusMaster(true);
  }
  driver_.Attach();
  driver_.Send(RawPing(7, 1));
  EXPECT_THAT(RunForAnswers(), ElementsAre(7));
}

TEST_P(DriverChangeTest, BusMasteringOffResetsTheDevices) {
  ContextDevice* const device = StartDevice();
  m_.guest->SetBusMaster(false);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(device->resets, 1);
  EXPECT_EQ(DriverStatus(), 0u);
  EXPECT_FALSE(m_.device->bus(0)->bus_report().driver_seen);

  m_.guest->SetBusMaster(true);
  driver_.Attach();
  BringUp();
  EXPECT_EQ(device->activations, 2);
}

TEST_P(DriverChangeTest, NoDmaFromOffUntilTheDevicesAreReset) {
  ContextDevice* const device = StartDevice();
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kOk);
  m_.guest->SetBusMaster(false);
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kDisabled) << "at once";
  m_.guest->SetBusMaster(true);
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kDisabled)
      << "the device still works for the old driver";
  m_.loop.RunUntilIdle();
  EXPECT_EQ(device->resets, 1);
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kOk);
}

// --- All layouts: function reset. ---

TEST_P(DriverChangeTest, NothingOfBeforeAResetReachesTheNextDriver) {
  ContextDevice* const device = StartDevice();
  driver_.Send(RawPing(1, 1));
  m_.device->Reset();
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kDisabled);
  m_.guest->Start();
  driver_.Begin();
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kDisabled);
  driver_.Finish();
  driver_.Send(RawPing(2, 2));

  EXPECT_THAT(RunForAnswers(), ElementsAre(2));
  EXPECT_EQ(device->resets, 1);
  EXPECT_EQ(DriverStatus(), 0u);
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kOk);
}

TEST_P(DriverChangeTest, ResetAfterBusMasteringOffForgetsTheMark) {
  driver_.Put(RawPing(1, 1));
  driver_.Put(RawPing(2, 1));
  m_.guest->SetBusMaster(false);
  m_.device->Reset();
  m_.guest->Start();
  driver_.Attach();
  driver_.Send(RawPing(3, 2));
  EXPECT_THAT(RunForAnswers(), ElementsAre(3));
}

TEST_P(DriverChangeTest, ResetWhileWaitingForRoomOwesNothing) {
  while (driver_.Put(RawPing(1, 0))) {
  }
  driver_.Ring();
  m_.loop.RunUntilIdle();
  driver_.Send(RawPing(100, 0));
  m_.loop.RunUntilIdle();
  m_.device->Reset();
  m_.guest->Start();
  driver_.Attach();
  m_.loop.AdvanceTime(std::chrono::seconds(1));
  EXPECT_THAT(driver_.TakeAll(), IsEmpty());
  EXPECT_EQ(m_.device->fifo_counters(0).full_rechecks.value(), 0u);
}

// --- All layouts: the operator, and slow devices. ---

TEST_P(DriverChangeTest, OperatorsResetBeforeTheLoopLooksDropsTheOldDriver) {
  ContextDevice* const device = StartDevice();
  driver_.Put(RawPing(1, 1));
  m_.guest->SetBusMaster(false);
  m_.device->bus(0)->ResetBus();
  m_.guest->SetBusMaster(true);
  driver_.Attach();
  driver_.Send(RawPing(2, 1));
  EXPECT_THAT(RunForAnswers(), ElementsAre(2));
  EXPECT_GE(device->resets, 1);
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kOk);
}

TEST_P(DriverChangeTest, SlowResetOfOneDeviceHoldsUpNoOther) {
  auto slow = std::make_unique<virtio::DummyDevice>(
      virtio::DummyOptions{.max_work_delay = vmm::Duration(0),
                           .max_transition_delay = std::chrono::seconds(100)},
      &m_.loop);
  ASSERT_THAT(m_.device->bus(0)->Plug(
                  1, 2, std::make_unique<VirtioPluggable>(std::move(slow))),
              vmm::IsOk());
  ContextDevice* const quick = StartDevice();
  m_.guest->SetBusMaster(false);
  m_.guest->SetBusMaster(true);
  driver_.Attach();
  driver_.Run();
  BringUp();
  EXPECT_EQ(quick->activations, 2);
}

// --- Layout `spsc`: bus mastering. ---

TEST_F(SpscDriverChangeTest, QueueIsLookedAtWhenBusMasteringGoesOn) {
  m_.guest->SetBusMaster(false);
  m_.loop.RunUntilIdle();
  m_.guest->Send(0, RawPing(1, 1));
  m_.loop.RunUntilIdle();  // takes the doorbell
  m_.guest->SetBusMaster(true);
  EXPECT_THAT(m_.Run(), SizeIs(1));
}

// The loop is slow: it sees off, on, and packets of both drivers at once.
TEST_F(SpscDriverChangeTest, LateLoopTellsTheDriversPacketsApart) {
  ContextDevice* const device = StartDevice();
  m_.guest->Send(0, RawPing(100, 1));
  m_.guest->Send(0, RawSetStatus(0, 101, 0x80));
  m_.guest->SetBusMaster(false);
  m_.guest->SetBusMaster(true);
  m_.guest->Attach(0);
  m_.guest->Send(0, RawPing(200, 2));

  EXPECT_THAT(RunForAnswers(), ElementsAre(200));
  EXPECT_EQ(device->resets, 1);
  EXPECT_EQ(DriverStatus(), 0u);
}

TEST_F(SpscDriverChangeTest,
       SeveralChangesBeforeTheLoopLooksKeepTheLastDriver) {
  for (uint16_t round = 0; round < 5; ++round) {
    m_.guest->Attach(0);
    m_.guest->Send(0, RawPing(static_cast<uint16_t>(100 + round), 1));
    m_.guest->SetBusMaster(false);
    m_.guest->SetBusMaster(true);
  }
  m_.guest->Send(0, RawPing(7, 1));
  EXPECT_THAT(RunForAnswers(), ElementsAre(7));
}

TEST_F(SpscDriverChangeTest, InterruptsPendWhileBusMasteringIsOff) {
  m_.guest->Send(0, RawPing(1, 1));
  m_.loop.RunUntilIdle();
  ASSERT_EQ(m_.interrupts.count(0), 1u);
  m_.guest->SetBusMaster(false);
  m_.loop.RunUntilIdle();
  m_.guest->SetBusMaster(true);
  m_.loop.RunUntilIdle();
  // The packet is still there, and the new driver may wait for an interrupt.
  EXPECT_EQ(m_.interrupts.count(0), 2u);
}

TEST_F(SpscDriverChangeTest, DriverThatFindsAFullDeviceQueueIsInterrupted) {
  for (uint16_t i = 0; i < 61; ++i) m_.guest->Put(0, RawPing(i, 0));
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  m_.guest->SetBusMaster(false);
  m_.loop.RunUntilIdle();
  const uint64_t before = m_.interrupts.count(0);

  m_.guest->SetBusMaster(true);
  m_.guest->Attach(0);
  m_.guest->Send(0, RawPing(100, 0));
  m_.loop.RunUntilIdle();
  EXPECT_GT(m_.interrupts.count(0), before);
  EXPECT_THAT(m_.guest->TakeAll(0), SizeIs(61));
  m_.loop.AdvanceTime(std::chrono::milliseconds(50));
  const std::vector<Bytes> packets = m_.guest->TakeAll(0);
  ASSERT_THAT(packets, SizeIs(1));
  EXPECT_EQ(TokenOf(packets[0]), 100);
}

TEST_F(SpscDriverChangeTest, MarkPastTheQueueBreaksTheFifoOnly) {
  m_.guest->SetIndex(0, RawGuest::kDriverHead, 0xFFFFFFFF);
  m_.guest->SetBusMaster(false);
  m_.guest->SetBusMaster(true);
  m_.guest->Send(1, RawPing(1, 1));
  EXPECT_THAT(m_.Run(1), SizeIs(1));
  EXPECT_EQ(m_.device->bus(0)->bus_report().state, control::BusState::kBroken);
}

TEST_F(SpscDriverChangeTest, ReloadWithoutBusMasteringOffCarriesOn) {
  m_.guest->Send(0, RawPing(1, 1));
  m_.loop.RunUntilIdle();  // the answer stays there
  m_.guest->Attach(0);
  m_.guest->Send(0, RawPing(2, 2));
  EXPECT_THAT(RunForAnswers(), ElementsAre(1, 2));
}

// --- Layout `spsc`: function reset. ---

TEST_F(SpscDriverChangeTest, ResetShowsInTheWindowsAtOnce) {
  for (uint32_t n = 0; n < 2; ++n) {
    m_.guest->Send(n, RawPing(1, 1));
    m_.loop.RunUntilIdle();
    m_.guest->SetIndex(n, 0x3000, 0xFFFFFFFF);
  }
  std::byte* const windows = m_.guest->window(0);

  m_.device->Reset();

  EXPECT_TRUE(std::all_of(windows, windows + 2 * 0x4000,
                          [](std::byte b) { return b == std::byte{0}; }));
}

TEST_F(SpscDriverChangeTest, NothingOfBeforeAResetIsWrittenAfterIt) {
  ContextDevice* const device = StartDevice();
  m_.guest->Send(0, RawPing(1, 1));
  m_.device->Reset();
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kDisabled);
  // The new driver is quicker than the loop.
  m_.guest->Start();
  m_.guest->Attach(0);
  m_.interrupts.ClearRaised();
  m_.guest->Send(0, RawPing(2, 2));
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kDisabled);

  EXPECT_THAT(RunForAnswers(), ElementsAre(2));
  EXPECT_EQ(m_.guest->Index(0, RawGuest::kDriverTail), 1u);
  EXPECT_EQ(m_.interrupts.count(0), 1u);
  EXPECT_EQ(device->resets, 1);
  EXPECT_EQ(DriverStatus(), 0u);
  EXPECT_EQ(TryDma(device), vmm::DmaResult::kOk);
}

TEST_F(SpscDriverChangeTest, BusMasteringOffAfterAResetDropsWhatCameBetween) {
  m_.device->Reset();
  m_.guest->Start();
  m_.guest->Attach(0);
  m_.guest->Send(0, RawPing(1, 1));
  m_.guest->SetBusMaster(false);
  m_.guest->SetBusMaster(true);
  m_.guest->Send(0, RawPing(2, 1));
  EXPECT_THAT(RunForAnswers(), ElementsAre(2));
}

// --- Behind a translator. ---

TEST_F(TranslatedDriverTest, BusMasteringStopsTranslatedDmaToo) {
  ASSERT_THAT(iommu.Map({.iova = {kIova, 4096}, .physical = AmpMachine::kRam}),
              vmm::IsOk());
  ContextDevice* const device = StartDevice();
  EXPECT_EQ(TryDmaAt(device, kIova), vmm::DmaResult::kOk);
  EXPECT_EQ(TryDmaAt(device, AmpMachine::kRam), vmm::DmaResult::kOutside);
  m_.guest->SetBusMaster(false);
  EXPECT_EQ(TryDmaAt(device, kIova), vmm::DmaResult::kDisabled);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(device->resets, 1);

  m_.guest->SetBusMaster(true);
  m_.loop.RunUntilIdle();
  Take();
  BringUp();
  EXPECT_EQ(TryDmaAt(device, kIova), vmm::DmaResult::kOk);
  ASSERT_THAT(iommu.Unmap({kIova, 4096}), vmm::IsOk());
  EXPECT_EQ(TryDmaAt(device, kIova), vmm::DmaResult::kOutside);
}

}  // namespace
}  // namespace vmsg::amp
