#include "devices/virtio_msg_amp_pci/amp_pci_device.h"

#include <array>
#include <atomic>
#include <bit>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/testing/status_matchers.h"

namespace vmsg::amp {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;
using ::vmsg::vmm::StatusIs;

// --- Creation. ---

class AmpPciDeviceCreateTest : public testing::Test {
 protected:
  absl::Status Create(const AmpPciOptions& options, size_t num_loops = 1) {
    std::vector<vmm::EventLoop*> loops(num_loops, &loop_);
    return AmpPciDevice::Create(options, &memory_, loops, nullptr).status();
  }

  vmm::ManualEventLoop loop_;
  vmm::GuestMemory memory_;
};

TEST_F(AmpPciDeviceCreateTest, TakesOneToEightFifosWithOneLoopOrOneEach) {
  EXPECT_THAT(Create({}), vmm::IsOk());
  EXPECT_THAT(Create({.num_fifos = 1}), vmm::IsOk());
  EXPECT_THAT(Create({.num_fifos = 8}), vmm::IsOk());
  EXPECT_THAT(Create({.num_fifos = 3}, 3), vmm::IsOk());
}

TEST_F(AmpPciDeviceCreateTest, NamesTheFieldThatIsOutOfRange) {
  const auto invalid = [](const char* field) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(field));
  };
  EXPECT_THAT(Create({.num_fifos = 0}), invalid("num_fifos"));
  EXPECT_THAT(Create({.num_fifos = 9}), invalid("num_fifos"));
  EXPECT_THAT(Create({.num_fifos = 3}, 2), invalid("loops"));
  EXPECT_THAT(Create({.num_fifos = 3}, 0), invalid("loops"));
  EXPECT_THAT(Create({.max_packets_per_wakeup = 0}),
              invalid("max_packets_per_wakeup"));
  EXPECT_THAT(Create({.max_packets_per_wakeup = 1u << 20}),
              invalid("max_packets_per_wakeup"));
  EXPECT_THAT(Create({.ping = {.timeout = vmm::Duration(0)}}), invalid("ping"));
  EXPECT_THAT(Create({.id = ""}), invalid("id"));
  EXPECT_THAT(Create({.id = "amp/0"}), invalid("id"));
  EXPECT_THAT(Create({.id = std::string(65, 'a')}), invalid("id"));
}

// --- Identity and BARs. ---

TEST(AmpPciDeviceTest, IdentifiesItselfAsSpecified) {
  AmpMachine m;
  EXPECT_EQ(m.guest->Config(0x00), 0x903910EEu);
  EXPECT_EQ(m.guest->Config(0x08), 0x08800001u);
  EXPECT_EQ(m.guest->Config(0x0E, 1), 0x00u) << "type 0, one function";
  EXPECT_EQ(m.guest->Config(0x2C), 0x11001AF4u);
  EXPECT_EQ(m.guest->Config(0x3D, 1), 0u) << "no INTx";
  EXPECT_EQ(m.device->id(), "amp0");
}

TEST(AmpPciDeviceTest, TakesSubsystemIdsFromTheEmbedder) {
  AmpMachine m({.subsystem_vendor_id = 0x1234, .subsystem_id = 0x5678});
  EXPECT_EQ(m.guest->Config(0x2C), 0x56781234u);
}

TEST(AmpPciDeviceTest, HasMsixAsItsOnlyCapability) {
  AmpMachine m({.num_fifos = 5});
  EXPECT_NE(m.guest->Config(0x06, 2) & (1u << 4), 0u);
  const auto at = static_cast<uint16_t>(m.guest->Config(0x34, 1));
  EXPECT_EQ(m.guest->Config(at, 1), 0x11u);
  EXPECT_EQ(m.guest->Config(at + 1, 1), 0u);
  EXPECT_EQ(m.guest->Config(at + 2, 2) & 0x7FF, 4u) << "a vector for each FIFO";
  EXPECT_EQ(m.guest->Config(at + 4), 0x000u | 2) << "table in BAR 2";
  EXPECT_EQ(m.guest->Config(at + 8), 0x800u | 2);
}

TEST(AmpPciDeviceTest, SizesItsBars) {
  for (uint32_t fifos = 1; fifos <= 8; ++fifos) {
    AmpMachine m({.num_fifos = fifos});
    const auto probe = [&](uint16_t offset) {
      m.guest->SetConfig(offset, 4, 0xFFFFFFFF);
      return m.guest->Config(offset);
    };
    EXPECT_EQ(probe(0x10), ~(16u * 1024 - 1)) << "32-bit, not prefetchable";
    EXPECT_EQ(probe(0x14), ~(std::bit_ceil(fifos) * 16 * 1024 - 1) | 8)
        << "32-bit, prefetchable";
    EXPECT_EQ(probe(0x18), ~(4u * 1024 - 1));
    for (const uint16_t absent : {0x1C, 0x20, 0x24}) {
      EXPECT_EQ(probe(absent), 0u);
    }
  }
}

// --- Registers. ---

TEST(AmpPciDeviceTest, ReadsVersionAndFeatures) {
  AmpMachine m;
  m.guest->Start();
  EXPECT_EQ(m.guest->Read32(0, 0x00), 1u);
  EXPECT_EQ(m.guest->Read32(0, 0x04), 0u);
  EXPECT_EQ(m.guest->Read32(0, 0x20), 0u) << "NOTIFY0 is write-only";
  EXPECT_EQ(m.device->bad_accesses().value(), 0u);
}

TEST(AmpPciDeviceTest, WritesToReadOnlyRegistersChangeNothing) {
  AmpMachine m;
  m.guest->Start();
  m.guest->Write32(0, 0x00, 0xFFFFFFFF);
  m.guest->Write32(0, 0x04, 0xFFFFFFFF);
  EXPECT_EQ(m.guest->Read32(0, 0x00), 1u);
  EXPECT_EQ(m.guest->Read32(0, 0x04), 0u);
}

TEST(AmpPciDeviceTest, OtherAccessesReadZeroesAndAreCounted) {
  AmpMachine m({.num_fifos = 2});
  m.guest->Start();
  struct Access {
    uint64_t offset;
    size_t size;
  };
  const std::vector<Access> accesses = {{0x00, 1},  {0x00, 2},   {0x00, 8},
                                        {0x01, 4},  {0x02, 2},   {0x08, 4},
                                        {0x1C, 4},  {0x20, 1},   {0x20, 8},
                                        {0x22, 4},  {0x28, 4},  // NOTIFY2: none
                                        {0x100, 4}, {0x3FFC, 4}, {0x3FFF, 1}};
  uint64_t bad = 0;
  for (const Access& access : accesses) {
    std::vector<std::byte> data(access.size, std::byte{0xAA});
    EXPECT_TRUE(m.guest->Read(0, access.offset, data));
    EXPECT_THAT(data, testing::Each(std::byte{0})) << access.offset;
    EXPECT_EQ(m.device->bad_accesses().value(), ++bad) << access.offset;
    EXPECT_TRUE(m.guest->Write(0, access.offset, data));
    EXPECT_EQ(m.device->bad_accesses().value(), ++bad) << access.offset;
  }
  m.loop.RunUntilIdle();
  EXPECT_EQ(m.device->fifo_counters(0).wakeups.value(), 0u);
  EXPECT_EQ(m.device->fifo_counters(1).wakeups.value(), 0u);
}

TEST(AmpPciDeviceTest, WireMonitorNamesWhatTheDriverOfEachFifoBreaks) {
  AmpMachine m;
  m.DriverBreaks("DRV-INIT-1", 1);
  m.guest->Start();
  m.loop.RunUntilIdle();
  m.guest->Send(1, RawSetStatus(3, 1, /*status=*/1));
  m.guest->Send(1, RawPing(2, 0));
  m.Run(1);
  EXPECT_EQ(m.device->wire_monitor(0)->Summary(), "");
  EXPECT_EQ(m.device->wire_monitor(1)->Summary(), "DRV-INIT-1 1");
  EXPECT_THAT(m.log.lines,
              testing::Contains("amp0/fifo1: driver breaks DRV-INIT-1 (MUST), "
                                "device 3: SET_DEVICE_STATUS before "
                                "GET_DEVICE_INFO"));
  const control::BusReport report = m.device->bus(1)->bus_report();
  EXPECT_EQ(report.counters.back().name, "driver_violations");
  EXPECT_EQ(report.counters.back().value, 1u);
  // The next driver is another one.
  m.device->Reset();
  m.guest->Start();
  m.loop.RunUntilIdle();
  m.guest->Attach(1);
  m.guest->Send(1, RawGetDeviceInfo(3, 1));
  m.guest->Send(1, RawGetStatus(3, 2));
  m.Run(1);
  EXPECT_EQ(m.device->wire_monitor(1)->violations(), 1u);
}

TEST(AmpPciDeviceTest, WithoutWireMonitorNobodyIsJudged) {
  AmpMachine m;
  const auto device =
      AmpPciDevice::Create({.id = "amp1"}, &m.memory, {&m.loop}, &m.log);
  ASSERT_THAT(device, vmm::IsOk());
  EXPECT_EQ((*device)->wire_monitor(0), nullptr);
  for (const auto& [name, value] : (*device)->bus(0)->bus_report().counters) {
    EXPECT_NE(name, "driver_violations");
  }
}

TEST(AmpPciDeviceTest, LogsBadAccessesAFewTimesOnly) {
  AmpMachine m;
  m.guest->Start();
  for (int i = 0; i < 10'000; ++i) m.guest->Write32(0, 0x40, 1);
  EXPECT_THAT(m.log.lines, SizeIs(vmm::Logger::kGuestBurst));
  EXPECT_EQ(m.device->bad_accesses().value(), 10'000u);
}

TEST(AmpPciDeviceTest, EveryAccessToEveryPlaceOfBarZeroIsSafe) {
  AmpMachine m;
  m.guest->Start();
  std::vector<std::byte> data;
  for (uint64_t offset = 0; offset < 16 * 1024; offset += 1) {
    for (const size_t size : {0, 1, 2, 3, 4, 5, 8, 16}) {
      data.assign(size, std::byte{0xFF});
      m.guest->Write(0, offset, data);
      m.guest->Read(0, offset, data);
    }
  }
  EXPECT_EQ(m.guest->Read32(0, 0), 1u);
}

// --- Doorbells. ---

class AmpPciDeviceDoorbellTest : public testing::TestWithParam<bool> {};

TEST_P(AmpPciDeviceDoorbellTest, WakesItsFifoAndNoOther) {
  AmpMachine m({.num_fifos = 8}, GetParam());
  m.guest->Start();
  m.loop.RunUntilIdle();
  m.guest->Ring(5);
  m.guest->Write32(0, 0x20 + 4 * 5, 0);  // whatever the value
  m.loop.RunUntilIdle();
  for (uint32_t n = 0; n < 8; ++n) {
    EXPECT_EQ(m.device->fifo_counters(n).wakeups.value(), n == 5 ? 1u : 0u);
  }
  EXPECT_EQ(m.device->bad_accesses().value(), 0u);
}

TEST_P(AmpPciDeviceDoorbellTest, WorksAfterTheBarHasMoved) {
  AmpMachine m({}, GetParam());
  m.guest->Start();
  m.loop.RunUntilIdle();
  m.guest->SetConfig(0x10, 4, 0xD0000000);
  m.guest->Ring(0);
  m.loop.RunUntilIdle();
  EXPECT_EQ(m.device->fifo_counters(0).wakeups.value(), 0u) << "not there now";
  const std::array<std::byte, 4> one = {std::byte{1}};
  EXPECT_TRUE(m.mmio.Write(vmm::GuestAddress{0xD0000020}, one));
  m.loop.RunUntilIdle();
  EXPECT_EQ(m.device->fifo_counters(0).wakeups.value(), 1u);
}

INSTANTIATE_TEST_SUITE_P(BusOrHandler, AmpPciDeviceDoorbellTest,
                         testing::Bool());

TEST(AmpPciDeviceTest, LeavesTheBusWithMemoryDecodingOff) {
  AmpMachine m;
  m.guest->Start();
  m.guest->SetConfig(0x04, 2, 0);
  std::array<std::byte, 4> data;
  EXPECT_FALSE(m.guest->Read(0, 0, data));
  EXPECT_FALSE(m.guest->Read(1, 0x1000, data));
  EXPECT_FALSE(m.guest->Read(2, 0, data));
}

TEST(AmpPciDeviceTest, WindowsDoNotTrapAndDoNotOverlap) {
  AmpMachine m({.num_fifos = 4});
  m.guest->Start();
  for (uint32_t n = 0; n < 4; ++n) {
    m.guest->SetIndex(n, 0x3FFC, 100 + n);
    EXPECT_EQ(m.guest->Read32(1, n * 0x4000 + 0x3FFC), 100 + n);
  }
}

// --- A first exchange. ---

TEST(AmpPciDeviceTest, AnswersAPingWithOneInterruptOfTheFifosVector) {
  AmpMachine m;
  m.guest->Start();
  m.guest->Send(1, RawPing(7, 0xC0FFEE));
  m.loop.RunUntilIdle();

  const std::vector<vmm::MsiMessage> raised = m.interrupts.raised(1);
  EXPECT_THAT(raised, ElementsAre(vmm::MsiMessage{.address = 0xFEE00000,
                                                  .data = 0x41,
                                                  .requester_id = 1 << 3}));
  EXPECT_EQ(m.interrupts.count(0), 0u);
  const std::vector<Bytes> packets = m.guest->TakeAll(1);
  ASSERT_THAT(packets, SizeIs(1));
  EXPECT_EQ(TypeOf(packets[0]), 0x03);
  EXPECT_EQ(IdOf(packets[0]), 0x03);
  EXPECT_EQ(TokenOf(packets[0]), 7);
  EXPECT_EQ(PayloadWord(packets[0], 0), 0xC0FFEEu);
  EXPECT_EQ(m.device->interrupts_delivered(1), 1u);
  EXPECT_EQ(m.device->fifo_counters(1).interrupts.value(), 1u);
}

TEST(AmpPciDeviceTest, SeveralFunctionsDoNotMix) {
  AmpMachine first({.id = "amp0"});
  auto second = AmpPciDevice::Create({.id = "amp1"}, &first.memory,
                                     {&first.loop}, nullptr);
  ASSERT_THAT(second, vmm::IsOk());
  RawGuest guest(second->get(), &first.mmio, &first.interrupts, {.device = 2},
                 0xC0000000);
  first.guest->Start();
  guest.Start();

  guest.Send(0, RawPing(1, 2));
  first.loop.RunUntilIdle();

  EXPECT_THAT(guest.TakeAll(0), SizeIs(1));
  EXPECT_THAT(first.guest->TakeAll(0), SizeIs(0));
  EXPECT_EQ((*second)->interrupts_delivered(0), 1u);
  EXPECT_EQ(first.device->interrupts_delivered(0), 0u);
  EXPECT_EQ((*second)->bus(1)->id().function, "amp1");
  EXPECT_EQ((*second)->bus(1)->id().fifo, 1u);
}

TEST(AmpPciDeviceDeathTest, DisconnectingWhileTheLoopRunsElsewhereIsABug) {
  AmpMachine m;
  m.guest->Start();
  std::atomic<bool> running = false;
  std::atomic<bool> end = false;
  m.loop.Post([&] {
    running = true;
    while (!end) std::this_thread::yield();
  });
  std::thread loop([&] { m.loop.RunOnce(); });
  while (!running) std::this_thread::yield();
  EXPECT_DEATH(m.device->Disconnect(), "disconnected while its loop runs");
  end = true;
  loop.join();
}

}  // namespace
}  // namespace vmsg::amp
