// Traffic through the whole function: bounded turns, full queues, broken FIFOs.

#include "devices/virtio_msg_amp_pci/fifo_channel.h"

#include <chrono>
#include <vector>

#include "devices/virtio_msg_amp_pci/testing/amp_machine.h"
#include "devices/virtio_msg_amp_pci/testing/raw_guest.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vmsg::amp {
namespace {

using std::chrono::milliseconds;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint32_t kCapacity = 61;

// The tokens of PING answers, in order of arrival.
std::vector<uint16_t> Tokens(const std::vector<Bytes>& packets) {
  std::vector<uint16_t> tokens;
  for (const Bytes& packet : packets) tokens.push_back(TokenOf(packet));
  return tokens;
}

std::vector<uint16_t> Counting(uint16_t first, uint32_t count) {
  std::vector<uint16_t> tokens;
  for (uint32_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<uint16_t>(first + i));
  }
  return tokens;
}

class FifoChannelTest : public testing::Test {
 protected:
  FifoChannelTest() {
    m_.guest->Start();
    m_.loop.RunUntilIdle();
  }

  // Puts PINGs with tokens from `first` on the driver queue of FIFO 0.
  void PutPings(uint16_t first, uint32_t count) {
    for (const uint16_t token : Counting(first, count)) {
      ASSERT_TRUE(m_.guest->Put(0, RawPing(token, token)));
    }
  }
  const FifoCounters& counters(uint32_t n = 0) {
    return m_.device->fifo_counters(n);
  }
  control::BusReport report(uint32_t n = 0) {
    return m_.device->bus(n)->bus_report();
  }

  AmpMachine m_{{.num_fifos = 8}};
};

TEST_F(FifoChannelTest, OneDoorbellServesABatchWithOneInterrupt) {
  PutPings(1, 20);
  m_.guest->Ring(0);
  EXPECT_EQ(Tokens(m_.Run()), Counting(1, 20));
  EXPECT_EQ(m_.interrupts.count(0), 1u);
  EXPECT_EQ(counters().wakeups.value(), 1u);
  EXPECT_EQ(counters().packets_in.value(), 20u);
  EXPECT_EQ(counters().packets_out.value(), 20u);
  EXPECT_EQ(counters().interrupts.value(), 1u);
}

TEST_F(FifoChannelTest, TakesNothingWithoutADoorbell) {
  PutPings(1, 1);
  EXPECT_THAT(m_.Run(), IsEmpty());
}

TEST_F(FifoChannelTest, RaisesNoInterruptForABatchWithoutAnswers) {
  m_.DriverBreaks("DRV-HDR-3");
  Bytes malformed = RawPing(1, 1);
  malformed[6] = std::byte{7};  // msg_size below 8
  m_.guest->Send(0, malformed);
  EXPECT_THAT(m_.Run(), IsEmpty());
  EXPECT_EQ(m_.interrupts.count(0), 0u);
  EXPECT_EQ(m_.guest->Index(0, RawGuest::kDriverTail), 1u)
      << "taken all the same";
}

TEST_F(FifoChannelTest, ServesManyRounds) {
  for (uint16_t round = 0; round < 500; ++round) {
    const uint32_t count = 1 + round % kCapacity;
    PutPings(round, count);
    m_.guest->Ring(0);
    ASSERT_EQ(Tokens(m_.Run()), Counting(round, count));
  }
}

TEST(FifoChannelBoundTest, LongQueueIsServedInBoundedTurns) {
  AmpMachine m({.max_packets_per_wakeup = 4});
  m.guest->Start();
  m.loop.RunUntilIdle();
  for (uint16_t i = 0; i < 11; ++i) m.guest->Put(0, RawPing(i, 0));
  m.guest->Ring(0);
  // A second FIFO gets its turn between those of the first.
  m.guest->Send(1, RawPing(100, 0));

  m.loop.RunOnce();
  EXPECT_EQ(m.device->fifo_counters(0).packets_in.value() % 4, 0u);
  EXPECT_LT(m.device->fifo_counters(0).packets_in.value(), 11u);
  EXPECT_EQ(m.device->fifo_counters(1).packets_in.value(), 1u);
  m.loop.RunUntilIdle();
  EXPECT_EQ(Tokens(m.guest->TakeAll(0)), Counting(0, 11));
  EXPECT_EQ(m.device->fifo_counters(0).wakeups.value(), 1u);
}

// --- A device queue without room. ---

TEST_F(FifoChannelTest, FullDeviceQueueLosesNoAnswerAndRecoversByItself) {
  PutPings(1, kCapacity);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  PutPings(100, kCapacity);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  EXPECT_LE(counters().packets_in.value(), kCapacity + 1)
      << "requests stay on the driver queue";

  std::vector<Bytes> packets = m_.guest->TakeAll(0);  // no doorbell
  EXPECT_EQ(Tokens(packets), Counting(1, kCapacity));
  m_.loop.AdvanceTime(FifoChannel::kMaxRecheck);
  EXPECT_EQ(Tokens(m_.guest->TakeAll(0)), Counting(100, kCapacity));
  EXPECT_EQ(counters().packets_out.value(), 2 * kCapacity);
  EXPECT_EQ(m_.interrupts.count(0), 2u);
}

TEST_F(FifoChannelTest, LooksForRoomAfterOneMillisecondBackingOffToFifty) {
  PutPings(1, kCapacity);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  m_.guest->Send(0, RawPing(100, 0));
  m_.loop.RunUntilIdle();
  const vmm::OwnedCounter& rechecks = counters().full_rechecks;
  EXPECT_EQ(rechecks.value(), 0u);
  m_.loop.AdvanceTime(milliseconds(1));
  EXPECT_EQ(rechecks.value(), 1u);
  m_.loop.AdvanceTime(milliseconds(2 + 4 + 8 + 16 + 32));
  EXPECT_EQ(rechecks.value(), 6u);
  m_.loop.AdvanceTime(milliseconds(49));
  EXPECT_EQ(rechecks.value(), 6u);
  m_.loop.AdvanceTime(milliseconds(1));
  EXPECT_EQ(rechecks.value(), 7u);
  m_.loop.AdvanceTime(milliseconds(500));
  EXPECT_EQ(rechecks.value(), 17u);
}

TEST_F(FifoChannelTest, StopsLookingWhenThereWasRoomAndStartsAtOneAgain) {
  for (uint16_t round = 0; round < 2; ++round) {
    PutPings(1, kCapacity);
    m_.guest->Ring(0);
    m_.loop.RunUntilIdle();
    m_.guest->Send(0, RawPing(100, 0));
    m_.loop.RunUntilIdle();
    const uint64_t before = counters().full_rechecks.value();
    m_.loop.AdvanceTime(milliseconds(1));
    EXPECT_EQ(counters().full_rechecks.value(), before + 1);
    m_.loop.AdvanceTime(milliseconds(50));
    EXPECT_THAT(m_.guest->TakeAll(0), SizeIs(kCapacity));
    m_.loop.AdvanceTime(milliseconds(50));
    EXPECT_THAT(m_.guest->TakeAll(0), SizeIs(1));
    const uint64_t after = counters().full_rechecks.value();
    m_.loop.AdvanceTime(std::chrono::seconds(10));
    EXPECT_EQ(counters().full_rechecks.value(), after);
  }
}

TEST_F(FifoChannelTest, DoorbellAlsoFindsRoom) {
  PutPings(1, kCapacity);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  m_.guest->Send(0, RawPing(100, 0));
  EXPECT_EQ(Tokens(m_.Run()), Counting(1, kCapacity));
  m_.guest->Ring(0);
  EXPECT_EQ(Tokens(m_.Run()), Counting(100, 1));
  m_.loop.AdvanceTime(std::chrono::seconds(1));
  EXPECT_EQ(counters().full_rechecks.value(), 0u);
}

// --- Broken FIFOs. ---

TEST_F(FifoChannelTest, BrokenFifoIsReportedAndTheOthersGoOn) {
  std::vector<control::BusReport> reports;
  m_.device->bus(3)->Observe(nullptr, [&](const control::BusReport& report) {
    reports.push_back(report);
  });
  m_.guest->SetIndex(3, RawGuest::kDriverHead, 62);
  m_.guest->Ring(3);
  for (uint32_t n = 0; n < 8; ++n) {
    if (n != 3) m_.guest->Send(n, RawPing(1, n));
  }
  m_.loop.RunUntilIdle();

  for (uint32_t n = 0; n < 8; ++n) {
    EXPECT_THAT(m_.guest->TakeAll(n), SizeIs(n == 3 ? 0 : 1)) << n;
    EXPECT_EQ(report(n).state, n == 3 ? control::BusState::kBroken
                                      : control::BusState::kRunning);
  }
  EXPECT_EQ(counters(3).breaks.value(), 1u);
  EXPECT_THAT(report(3).fault, HasSubstr("index"));
  ASSERT_THAT(reports, SizeIs(1));
  EXPECT_EQ(reports[0].state, control::BusState::kBroken);
  EXPECT_THAT(m_.log.lines, Contains(HasSubstr("amp0/fifo3: ")));
}

TEST_F(FifoChannelTest, BrokenFifoIsLeftAloneWhateverRings) {
  m_.guest->SetIndex(0, RawGuest::kDeviceHead, 5);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(report().state, control::BusState::kBroken);
  m_.guest->SetIndex(0, RawGuest::kDeviceHead, 0);
  for (int i = 0; i < 100; ++i) {
    m_.guest->Send(0, RawPing(1, 1));
    m_.loop.RunUntilIdle();
    if (i == 60) break;
  }
  EXPECT_EQ(m_.guest->Index(0, RawGuest::kDriverTail), 0u);
  EXPECT_EQ(m_.guest->Index(0, RawGuest::kDeviceHead), 0u);
  EXPECT_EQ(counters().breaks.value(), 1u);
  EXPECT_EQ(counters().packets_in.value(), 0u);
}

TEST_F(FifoChannelTest, BrokenWhileWaitingForRoomStopsLooking) {
  PutPings(1, kCapacity);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  m_.guest->Send(0, RawPing(100, 0));
  m_.loop.RunUntilIdle();
  m_.guest->SetIndex(0, RawGuest::kDeviceTail, 1000);
  m_.loop.AdvanceTime(milliseconds(1));
  EXPECT_EQ(report().state, control::BusState::kBroken);
  m_.loop.AdvanceTime(std::chrono::seconds(10));
  EXPECT_EQ(counters().full_rechecks.value(), 1u);
}

TEST_F(FifoChannelTest, OperatorGetsABrokenFifoGoingAgain) {
  m_.guest->SetIndex(0, RawGuest::kDriverHead, 62);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  ASSERT_EQ(report().state, control::BusState::kBroken);

  std::vector<control::BusState> states;
  m_.device->bus(0)->Observe(
      nullptr, [&](const control::BusReport& r) { states.push_back(r.state); });
  m_.device->bus(0)->ResetBus();
  EXPECT_THAT(states, IsEmpty()) << "not inside the call";
  EXPECT_EQ(m_.guest->Index(0, RawGuest::kDriverHead), 0u);
  m_.guest->Attach(0);
  m_.guest->Send(0, RawPing(5, 1));

  EXPECT_EQ(Tokens(m_.Run()), Counting(5, 1));
  EXPECT_EQ(report().state, control::BusState::kRunning);
  EXPECT_EQ(report().fault, "");
  EXPECT_THAT(states, Contains(control::BusState::kRunning));
}

TEST_F(FifoChannelTest, FunctionResetGetsABrokenFifoGoingAgain) {
  m_.guest->SetIndex(0, RawGuest::kDriverHead, 62);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  m_.device->Reset();
  m_.guest->Start();
  m_.guest->Attach(0);
  m_.guest->Send(0, RawPing(5, 1));
  EXPECT_EQ(Tokens(m_.Run()), Counting(5, 1));
  EXPECT_EQ(report().state, control::BusState::kRunning);
}

TEST_F(FifoChannelTest, BusMasteringDoesNotMendABrokenFifo) {
  m_.guest->SetIndex(0, RawGuest::kDriverHead, 62);
  m_.guest->Ring(0);
  m_.loop.RunUntilIdle();
  m_.guest->SetBusMaster(false);
  m_.guest->SetBusMaster(true);
  m_.loop.RunUntilIdle();
  EXPECT_EQ(report().state, control::BusState::kBroken);
  EXPECT_EQ(counters().breaks.value(), 1u);
}

TEST_F(FifoChannelTest, ReportsThatADriverHasShownItself) {
  int told = 0;
  m_.device->bus(0)->Observe(nullptr,
                             [&](const control::BusReport&) { ++told; });
  EXPECT_FALSE(report().driver_seen);
  m_.guest->Send(0, RawPing(1, 1));
  m_.loop.RunUntilIdle();
  EXPECT_TRUE(report().driver_seen);
  EXPECT_EQ(told, 1);
  m_.guest->Send(0, RawPing(1, 1));
  m_.loop.RunUntilIdle();
  EXPECT_EQ(told, 1);
}

}  // namespace
}  // namespace vmsg::amp
