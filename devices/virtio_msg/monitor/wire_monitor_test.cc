#include "devices/virtio_msg/monitor/wire_monitor.h"

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "devices/virtio_msg/monitor/testing/conversation.h"
#include "devices/virtio_msg/testing/bus_harness.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "vmm/base/log.h"
#include "vmm/testing/fake_clock.h"

namespace vmsg::msg {
namespace {

using testing::Each;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr uint16_t kDev = Conversation::kDev;

class RememberingLogSink final : public vmm::LogSink {
 public:
  void Write(const vmm::LogRecord& record) override {
    lines.push_back(std::string(record.source) + ": " +
                    std::string(record.message));
  }
  std::vector<std::string> lines;
};

// A SET_VQUEUE that breaks DRV-INIT-2 and nothing else.
void BreakInit2(Conversation* c) {
  c->Driver(SetVqueueRequest(kDev, 0, 0, 0x1000, 0x1800, 0x2000));
  c->Answer(0x0A);
}

TEST(WireMonitorTest, LineNamesBusRowLevelAndDevice) {
  RememberingLogSink log;
  Conversation c(&log);
  c.Start();
  c.ResetQueue();
  EXPECT_THAT(log.lines,
              ElementsAre("amp0/fifo0: driver breaks DRV-RVQ-1 (SHOULD), "
                          "device 5: RESET_VQUEUE of queue 0 without the "
                          "feature"));
}

TEST(WireMonitorTest, ViolationOfTheBusNamesNoDevice) {
  RememberingLogSink log;
  Conversation c(&log);
  c.Driver(GetDevicesRequest(0, 9));
  EXPECT_THAT(c.devices(), ElementsAre(Violation::kNoDevice));
  EXPECT_THAT(log.lines, ElementsAre(HasSubstr("BUS-ENUM-3 (MUST): ")));
}

TEST(WireMonitorTest, CountsByRow) {
  Conversation c;
  c.Start();
  c.ResetQueue();
  c.ResetQueue();
  c.Avail(1);
  EXPECT_EQ(c.monitor().violations(), 3u);
  EXPECT_EQ(c.monitor().count(Row::kDrvRvq1), 2u);
  EXPECT_EQ(c.monitor().count(Row::kDrvFinal3), 1u);
  EXPECT_EQ(c.monitor().count(Row::kDrvVq1), 0u);
  EXPECT_EQ(c.monitor().Summary(), "DRV-FINAL-3 1, DRV-RVQ-1 2");
}

TEST(WireMonitorTest, FloodIsCountedAndHardlyLogged) {
  RememberingLogSink log;
  Conversation c(&log);
  c.Start();
  for (int i = 0; i < 10'000; ++i) c.Driver(Message(0, 0x7F, kDev));
  EXPECT_EQ(c.monitor().count(Row::kDrvLimit2), 10'000u);
  EXPECT_THAT(log.lines, SizeIs(1 + vmm::Logger::kGuestBurst));
  // A row that shows for the first time is not lost in it.
  c.ResetQueue();
  EXPECT_THAT(log.lines.back(), HasSubstr("DRV-RVQ-1"));
}

TEST(WireMonitorTest, OneSlipIsNotReportedForAllThatFollows) {
  Conversation c;
  c.Acknowledge();
  c.Status(11, 11);
  c.SetUpQueue();
  c.Status(15);
  c.Avail(0, 3);
  for (int i = 0; i < 5; ++i) c.Avail();
  EXPECT_THAT(c.rows(), ElementsAre(Row::kDrvNotif4));
}

TEST(WireMonitorTest, NewDriverHasDoneNothingYet) {
  Conversation c;
  c.Start();
  c.monitor().OnDriverReset();
  c.Avail();
  c.ReadConfig(1);
  EXPECT_THAT(c.rows(), ElementsAre(Row::kDrvFinal3, Row::kDrvInit1));
}

TEST(WireMonitorTest, AnswersOfBeforeAResetSayNothingAboutTheNewDriver) {
  Conversation c;
  c.Acknowledge();
  c.WriteFeatures();
  c.Driver(SetStatusRequest(kDev, 11));
  c.monitor().OnDriverReset();
  c.Answer(0x08, Payload().U32(11));
  c.Info();
  BreakInit2(&c);
  EXPECT_THAT(c.rows(), testing::Contains(Row::kDrvInit2));
}

TEST(WireMonitorTest, DevicesAreJudgedApart) {
  Conversation c;
  c.Start();
  c.Driver(AvailEvent(kDev + 1, 0));
  EXPECT_THAT(c.rows(), ElementsAre(Row::kDrvFinal3));
  EXPECT_THAT(c.devices(), ElementsAre(kDev + 1));
}

TEST(WireMonitorTest, DeviceThatRefusesAQueueHasItNotConfigured) {
  Conversation c;
  c.Negotiate();
  c.ReadQueue();
  c.WriteQueue(0, 7);  // no power of two: the device makes nothing of it
  c.ReadQueue(0, 0);
  c.Status(15);
  c.Avail();
  EXPECT_THAT(c.rows(), ElementsAre(Row::kDrvFinal3));
}

TEST(WireMonitorTest, RemovedDeviceMayBeUsedUntilTheDriverHasLookedAtTheEvent) {
  Conversation c;
  c.Start();
  c.ReadConfig(4);
  c.Removed();
  c.Avail();
  c.ReadConfig(0, 0, 0);
  c.ReadStatus(0);  // forced: nothing is there any more
  c.Avail();
  c.Status(0);
  EXPECT_THAT(c.texts(), IsEmpty());
}

// amp-pci-device, 4: it serves its driver until that lets go of it.
TEST(WireMonitorTest, InfoOfADeviceThatIsBeingRemovedDoesNotMakeItANewOne) {
  Conversation c;
  c.Start();
  c.ReadConfig(4);
  c.Removed();
  c.Info();
  c.Avail();
  c.WriteConfig(4, 4);
  c.ReadStatus(15);
  c.Avail();
  c.Status(0);
  EXPECT_THAT(c.texts(), IsEmpty());
}

TEST(WireMonitorTest, DriverThatAskedWhileItsDeviceWentMayStartTheNext) {
  Conversation c;
  c.Start();
  c.Removed();
  c.Info();
  c.Ready();
  c.Start();
  c.Avail();
  EXPECT_THAT(c.texts(), IsEmpty());
  // One that it found before its READY, and has never reset.
  c.Removed();
  c.Info();
  c.Status(1);
  c.Status(3);
  c.ReadFeatures();
  c.WriteFeatures();
  c.Status(11);
  c.SetUpQueue();
  c.Status(15);
  c.Ready();
  c.Avail();
  EXPECT_THAT(c.texts(), IsEmpty());
}

TEST(WireMonitorTest, EventThatCrossesTheInfoOfTheNextDeviceIsForTheOld) {
  for (const bool ready : {false, true}) {
    Conversation c;
    c.Start();
    c.Removed();
    if (ready) c.Ready();
    c.Info(ready ? 4 : 0);
    c.Avail();
    EXPECT_THAT(c.texts(), IsEmpty());
    // The driver has that answer when it asks again.
    c.ReadStatus(0);
    c.Avail();
    EXPECT_THAT(c.rows(), ElementsAre(ready ? Row::kDrvFinal3 : Row::kDrvHdr5));
  }
}

TEST(WireMonitorTest, NumberThatWasFoundEmptyIsUsedAgainAfterReady) {
  Conversation c;
  c.Start();
  c.Removed();
  c.Info(0);
  c.Ready();
  c.Start();
  c.Avail();
  EXPECT_THAT(c.texts(), IsEmpty());
  c.Removed();
  c.Info(0);
  c.Status(1, 0);
  EXPECT_THAT(c.rows(), ElementsAre(Row::kDrvHdr5));
}

TEST(WireMonitorTest, DriverThatProbesWhileItsDeviceGoesIsForgiven) {
  Conversation c;
  c.Info();
  c.Removed();
  c.Status(0);
  c.Status(1);
  c.Status(3);
  c.ReadFeatures();
  c.WriteFeatures();
  c.Status(11);
  c.SetUpQueue();
  c.Status(15);
  c.Status(0);
  EXPECT_THAT(c.texts(), IsEmpty());
}

// REMOVED waits for its turn, and nobody answers already.
TEST(WireMonitorTest, DriverWhoseDeviceVanishesInItsProbeIsForgiven) {
  Conversation c;
  c.Info();
  c.Status(0);
  c.Status(1, 0);
  // One that adds a bit to what it reads, and one that keeps its own count.
  c.Status(2, 0);
  c.Status(3, 0);
  c.ReadFeatures();
  c.WriteFeatures();
  c.Status(8, 0);
  c.SetUpQueue();
  c.Avail();
  c.Status(0, 0);
  EXPECT_THAT(c.texts(), IsEmpty());
  c.Removed();
  c.Info(0);
  c.Status(1, 0);
  EXPECT_THAT(c.rows(), ElementsAre(Row::kDrvHdr5));
}

TEST(WireMonitorTest, DriverThatReadsTheStatusOfNobodyIsForgiven) {
  Conversation c;
  c.Start();
  c.Driver(GetStatusRequest(Conversation::kDev));
  c.Answer(0x07, Payload().U32(0));
  c.Avail();
  c.Status(128, 0);
  c.Status(0, 0);
  EXPECT_THAT(c.texts(), IsEmpty());
  // The next device of the number is judged from its info on.
  c.Info();
  c.ReadFeatures();
  c.WriteFeatures();
  EXPECT_THAT(c.rows(), ElementsAre(Row::kDrvStatus2));
}

TEST(WireMonitorTest, CountOfAnEventThatWasReadBeforeItCameIsKnown) {
  Conversation c;
  c.Start();
  c.Driver(GetConfigRequest(Conversation::kDev, 0, 4));
  c.ConfigEvent(15, 7);
  c.Answer(0x05, Payload().U32(7).U32(0).U32(4).U32(0));
  c.Driver(SetConfigRequest(Conversation::kDev, 7, 4, {1}));
  EXPECT_THAT(c.texts(), IsEmpty());
}

TEST(WireMonitorTest, NewDeviceOfANumberHasFeaturesAndSizesOfItsOwn) {
  Conversation c;
  c.Start();
  c.Removed();
  c.Status(0);
  c.Info();
  for (const uint32_t status : {0u, 1u, 3u}) c.Status(status);
  c.WriteFeatures();
  EXPECT_THAT(c.rows(), ElementsAre(Row::kDrvFeat1));
}

TEST(WireMonitorTest, ResetThatOvertakesNeedsResetEndsIt) {
  Conversation c;
  c.Start();
  c.Driver(SetStatusRequest(kDev, 0));
  c.ConfigEvent(15 | 64, 0);
  c.Answer(0x08, Payload().U32(0));
  c.Start();
  c.Avail();
  EXPECT_THAT(c.texts(), IsEmpty());
}

TEST(WireMonitorTest, DriverThatWasPausedAnswersAllThatItFinds) {
  Conversation c;
  constexpr uint16_t kPings = 62;
  for (uint16_t i = 1; i <= kPings; ++i) {
    c.Device(Message(2, 0x03, 0, Payload().U32(100u + i), i));
  }
  for (uint16_t i = 1; i <= kPings; ++i) {
    c.Driver(Message(3, 0x03, 0, Payload().U32(100u + i), i));
  }
  EXPECT_THAT(c.texts(), IsEmpty());
  c.Driver(Message(3, 0x03, 0, Payload().U32(101), 1));
  EXPECT_THAT(c.rows(), ElementsAre(Row::kBusPing1));
}

TEST(WireMonitorTest, DriverThatFindsAPingOfTheOneBeforeMayAnswerIt) {
  Conversation c;
  c.Device(Message(2, 0x03, 0, Payload().U32(100), 1));
  c.monitor().OnDriverReset();
  c.Driver(Message(3, 0x03, 0, Payload().U32(100), 1));
  EXPECT_THAT(c.texts(), IsEmpty());
  c.Driver(Message(3, 0x03, 0, Payload().U32(100), 1));
  EXPECT_THAT(c.rows(), ElementsAre(Row::kBusPing1));
}

TEST(WireMonitorTest, MoreOpenRequestsThanAnyBusKeepsAreSurvived) {
  Conversation c;
  c.Info();
  for (int i = 0; i < 100; ++i) c.Driver(GetStatusRequest(kDev));
  for (int i = 0; i < 100; ++i) c.Answer(0x07, Payload().U32(0));
  c.Start();
  EXPECT_THAT(c.texts(), IsEmpty());
}

TEST(WireMonitorTest, BlockFarPastTheEndIsNoOfferedOne) {
  Conversation c;
  c.Acknowledge();
  c.Driver(SetDriverFeaturesRequest(kDev, 0xFFFFFFFF, {1, 1}));
  EXPECT_THAT(c.rows(), ElementsAre(Row::kDrvFeat2));
}

// --- On a bus. ---

TEST(WireMonitorOnBusTest, SeesWhatTheBusTakesAndSends) {
  vmm::FakeClock clock;
  WireMonitor monitor({.name = "bus"}, &clock, nullptr);
  BusHarness harness({.traffic_observer = &monitor});
  harness.PlugDummy(3);
  harness.Enumerate();
  harness.Ask(GetDeviceInfoRequest(3));
  for (const uint32_t status : {0u, 1u, 3u}) {
    harness.Ask(SetStatusRequest(3, status));
  }
  harness.Ask(GetDeviceFeaturesRequest(3, 0, 2));
  harness.Ask(SetDriverFeaturesRequest(3, 0, {0, 1}));
  harness.Ask(SetStatusRequest(3, 11));
  harness.Ask(GetVqueueRequest(3, 0));
  harness.Ask(BusHarness::SetVqueueFor(3, 0));
  harness.Ask(GetVqueueRequest(3, 0));
  harness.Ask(SetStatusRequest(3, 15));
  harness.Send(AvailEvent(3, 0));
  EXPECT_EQ(monitor.Summary(), "");
  // The function is reset: nothing of that holds.
  harness.bus().ResetAll();
  harness.Send(AvailEvent(3, 0));
  EXPECT_EQ(monitor.Summary(), "DRV-FINAL-3 1");
  harness.Send(Message(0, 0x70, 3));
  EXPECT_EQ(harness.counters().malformed.value(), 1u);
  EXPECT_EQ(monitor.count(Row::kDrvLimit2), 1u);
}

TEST(WireMonitorOnBusTest, AnswerThatFindsNoRoomCountsWhenItIsSent) {
  vmm::FakeClock clock;
  WireMonitor monitor({.name = "bus"}, &clock, nullptr);
  BusHarness harness({.traffic_observer = &monitor});
  harness.PlugDummy(3);
  harness.Enumerate();
  harness.link().set_room(0);
  harness.Send(GetDeviceInfoRequest(3));  // its answer is owed
  harness.link().set_room(FakeLink::kUnlimited);
  harness.link().Service();
  harness.link().Take();
  // It knows from that answer how many queues there are.
  harness.Ask(GetVqueueRequest(3, 9));
  EXPECT_EQ(monitor.Summary(), "DRV-GDI-1 1");
}

}  // namespace
}  // namespace vmsg::msg
