// Each row that the monitor checks: one way to break it, and what a driver does
// instead, which is not reported. Source: the conformance table.

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <vector>

#include "devices/virtio_msg/monitor/rows.h"
#include "devices/virtio_msg/monitor/testing/conversation.h"
#include "devices/virtio_msg/testing/wire.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace vmsg::msg {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;

constexpr uint16_t kDev = Conversation::kDev;

Bytes WithByte(Bytes message, size_t offset, uint8_t value) {
  message.at(offset) = std::byte{value};
  return message;
}
Bytes Padded(Bytes message, size_t size, uint8_t last = 0) {
  message.resize(size);
  message.back() = std::byte{last};
  return message;
}

struct Case {
  Row row;
  std::string name;  // of the way to break it
  void (*right)(Conversation&);
  void (*wrong)(Conversation&);
};

const std::vector<Case>& Cases() {
  static const auto* const cases = new std::vector<Case>{
      // --- Headers. ---
      {Row::kDrvLimit1, "SizeAboveTheMaximum",
       [](Conversation& c) { c.Driver(Padded(GetStatusRequest(kDev), 64)); },
       [](Conversation& c) {
         c.Driver(Padded(WithByte(GetStatusRequest(kDev), 6, 65), 80));
       }},
      {Row::kDrvLimit2, "IdOfLaterRevision",
       [](Conversation& c) { c.Driver(GetShmRequest(kDev, 0)); },
       [](Conversation& c) { c.Driver(Message(0, 0x0D, kDev)); }},
      {Row::kDrvLimit2, "IdOfImplementation",
       [](Conversation& c) { c.Driver(GetShmRequest(kDev, 0)); },
       [](Conversation& c) { c.Driver(Message(0, 0x80, kDev)); }},
      {Row::kDrvLimit2, "MessageOfDevice",
       [](Conversation& c) { c.Driver(GetShmRequest(kDev, 0)); },
       [](Conversation& c) {
         c.Driver(Message(0, 0x42, kDev, Payload().U32(0)));
       }},
      {Row::kDrvLimit2, "UnknownBusMessage", [](Conversation& c) { c.Ping(1); },
       [](Conversation& c) { c.Driver(Message(2, 0x04, 0)); }},
      {Row::kDrvEndian1, "BigEndianSize",
       [](Conversation& c) { c.Driver(GetStatusRequest(kDev)); },
       [](Conversation& c) { c.Driver(Hex("00 07 00 05 00 01 00 08")); }},
      {Row::kDrvHdr1, "ReservedTypeBit",
       [](Conversation& c) { c.Driver(Message(0, 0x07, kDev)); },
       [](Conversation& c) { c.Driver(Message(4, 0x07, kDev)); }},
      {Row::kDrvHdr3, "SizeBelowHeader",
       [](Conversation& c) { c.Driver(GetStatusRequest(kDev)); },
       [](Conversation& c) {
         c.Driver(WithByte(GetStatusRequest(kDev), 6, 7));
       }},
      {Row::kDrvHdr3, "HalfAHeader",
       [](Conversation& c) { c.Driver(GetStatusRequest(kDev)); },
       [](Conversation& c) { c.Driver(Hex("00 07 05 00")); }},
      {Row::kDrvHdr3, "SizeAbovePacket",
       [](Conversation& c) { c.Driver(GetStatusRequest(kDev)); },
       [](Conversation& c) {
         c.Driver(WithByte(GetStatusRequest(kDev), 6, 9));
       }},
      {Row::kDrvHdr3, "PayloadTooShort",
       [](Conversation& c) {
         c.Info();
         c.Driver(GetVqueueRequest(kDev, 0));
       },
       [](Conversation& c) { c.Driver(Message(0, 0x09, kDev)); }},
      {Row::kDrvHdr3, "CountThatDoesNotFit",
       [](Conversation& c) { c.Driver(GetStatusRequest(kDev)); },
       [](Conversation& c) {
         c.Driver(Message(0, 0x04, kDev, Payload().U32(0).U32(1)));
       }},
      {Row::kDrvHdr5, "NumberThatNoBusHas",
       [](Conversation& c) { c.Driver(GetDeviceInfoRequest(31)); },
       [](Conversation& c) { c.Driver(GetDeviceInfoRequest(32)); }},
      {Row::kDrvHdr5, "UseOfNoDevice",
       [](Conversation& c) {
         c.Info(0);
         c.Status(0);
         c.Ready();
         c.Info();
         c.Status(1);
       },
       [](Conversation& c) {
         c.Info(0);
         c.Status(1, 0);
       }},
      {Row::kDrvHdr6, "PaddingWithData",
       [](Conversation& c) {
         c.Driver(WithByte(Padded(GetStatusRequest(kDev), 12), 6, 12));
       },
       [](Conversation& c) {
         c.Driver(WithByte(Padded(GetStatusRequest(kDev), 12, 1), 6, 12));
       }},
      {Row::kFactHdr2, "ResponseToNothing",
       [](Conversation& c) { c.Driver(GetStatusRequest(kDev)); },
       [](Conversation& c) { c.Driver(Message(1, 0x07, kDev)); }},
      {Row::kBusHdr2, "BusMessageWithNumber",
       [](Conversation& c) { c.Ping(1); },
       [](Conversation& c) {
         c.Driver(Message(2, 0x03, kDev, Payload().U32(1)));
       }},
      {Row::kBusHdr4, "ReservedTypeBit", [](Conversation& c) { c.Ping(1); },
       [](Conversation& c) {
         c.Driver(Message(0x82, 0x03, 0, Payload().U32(1)));
       }},
      {Row::kBusHdr6, "RestOfPacketWithData",
       [](Conversation& c) { c.Driver(Padded(GetStatusRequest(kDev), 64)); },
       [](Conversation& c) {
         c.Driver(Padded(GetStatusRequest(kDev), 64, 0xA5));
       }},
      {Row::kBusEnum3, "UnalignedWindow",
       [](Conversation& c) { c.Driver(GetDevicesRequest(8, 24)); },
       [](Conversation& c) { c.Driver(GetDevicesRequest(8, 20)); }},
      {Row::kBusPing1, "OtherDataInPingAnswer",
       [](Conversation& c) {
         c.Device(Message(2, 0x03, 0, Payload().U32(0x1234), 7));
         c.Driver(Message(3, 0x03, 0, Payload().U32(0x1234), 7));
       },
       [](Conversation& c) {
         c.Device(Message(2, 0x03, 0, Payload().U32(0x1234), 7));
         c.Driver(Message(3, 0x03, 0, Payload().U32(0x1235), 7));
       }},
      {Row::kBusPing1, "PingAnsweredTwice",
       [](Conversation& c) {
         for (uint32_t i = 0; i < 3; ++i) {
           c.Device(Message(2, 0x03, 0, Payload().U32(i), 7));
           c.Driver(Message(3, 0x03, 0, Payload().U32(i), 7));
         }
       },
       [](Conversation& c) {
         c.Device(Message(2, 0x03, 0, Payload().U32(1), 7));
         c.Driver(Message(3, 0x03, 0, Payload().U32(1), 7));
         c.Driver(Message(3, 0x03, 0, Payload().U32(1), 7));
       }},

      // --- Initialization. ---
      {Row::kDrvInit1, "StatusBeforeInfo",
       [](Conversation& c) {
         c.Info();
         c.Status(0);
         c.Status(1);
         c.Status(0);
         c.Status(1);
       },
       [](Conversation& c) {
         c.Status(0);
         c.Status(1);
         c.Status(3);
       }},
      {Row::kDrvInit1, "FeaturesBeforeInfo",
       [](Conversation& c) {
         c.Info();
         c.ReadFeatures();
       },
       [](Conversation& c) { c.ReadFeatures(); }},
      {Row::kDrvInit2, "QueueBeforeFeaturesOk",
       [](Conversation& c) {
         c.Negotiate();
         c.SetUpQueue();
       },
       [](Conversation& c) {
         c.Acknowledge();
         c.WriteFeatures();
         c.SetUpQueue();
       }},
      {Row::kDrvInit2, "QueueBeforeTheAnswer",
       [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Acknowledge();
         c.ReadQueue();
         c.WriteFeatures();
         c.Driver(SetStatusRequest(kDev, 11));
         c.WriteQueue();
       }},
      {Row::kDrvInit3, "DriverOkWithUnconfirmedQueue",
       [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.WriteQueue();
         c.Status(15);
         c.Avail();
       }},
      {Row::kDrvInit3, "LaterQueueUnconfirmed",
       [](Conversation& c) {
         c.Start();
         c.SetUpQueue(1);
         c.Avail(1);
       },
       [](Conversation& c) {
         c.Start();
         c.ReadQueue(1);
         c.WriteQueue(1);
         c.Avail(1);
         c.Avail(1);
       }},
      {Row::kDrvInit4, "NotificationWithoutDriverOk",
       [](Conversation& c) {
         c.Start();
         c.Avail();
       },
       [](Conversation& c) {
         c.Negotiate();
         c.SetUpQueue();
         c.Avail();
       }},
      {Row::kDrvFeat1, "WritesWhatItNeverRead",
       [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Info();
         for (const uint32_t status : {0u, 1u, 3u}) c.Status(status);
         c.WriteFeatures();
         c.Status(11);
       }},
      {Row::kDrvFeat1, "FeaturesOkWithoutReading",
       [](Conversation& c) {
         c.Acknowledge();
         c.Status(11);
       },
       [](Conversation& c) {
         c.Info();
         for (const uint32_t status : {0u, 1u, 3u, 11u}) c.Status(status);
       }},
      {Row::kDrvFeat1, "SaysNothingOfOtherBlocks",
       [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Info();
         for (const uint32_t status : {0u, 1u, 3u}) c.Status(status);
         c.WriteFeatures(0, Conversation::kVersion1);
         c.WriteFeatures(1, Conversation::kVersion1);
       }},
      {Row::kDrvFeat1, "FeaturesOkWithoutReadingAndASetThen",
       [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Info();
         for (const uint32_t status : {0u, 1u, 3u}) c.Status(status);
         c.Status(11, 3);
         c.WriteFeatures(1, Conversation::kVersion1);
       }},
      {Row::kDrvFeat2, "BitThatWasNotOffered",
       [](Conversation& c) {
         c.Acknowledge();
         c.WriteFeatures(0, 0x145);
       },
       [](Conversation& c) {
         c.Acknowledge();
         c.WriteFeatures(0, 0x147);
       }},
      {Row::kDrvFeat2, "BitPastTheEnd",
       [](Conversation& c) {
         c.Acknowledge();
         c.Driver(SetDriverFeaturesRequest(kDev, 0, {0, 1, 0, 0, 0}));
       },
       [](Conversation& c) {
         c.Acknowledge();
         c.Driver(SetDriverFeaturesRequest(kDev, 0, {0, 1, 0, 0, 4}));
       }},
      {Row::kDrvFeat3, "DriverOkWithoutFeaturesOk",
       [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Acknowledge();
         c.WriteFeatures();
         c.Status(7);
       }},
      {Row::kDrvFeat3, "FeaturesAfterFeaturesOk",
       [](Conversation& c) {
         c.Negotiate();
         c.Status(0);
         c.Negotiate();
       },
       [](Conversation& c) {
         c.Negotiate();
         c.WriteFeatures();
       }},
      {Row::kDrvFeat4, "QueueAfterRefusal",
       [](Conversation& c) {
         c.Acknowledge();
         c.WriteFeatures(0, 0);
         c.Status(11, 3);
         c.Status(3 | 128);
       },
       [](Conversation& c) {
         c.Acknowledge();
         c.WriteFeatures(0, 0);
         c.Status(11, 3);
         c.SetUpQueue();
       }},
      {Row::kDrvFeat4, "DriverOkAfterRefusal",
       [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Acknowledge();
         c.Status(11, 3);
         c.Status(7);
       }},
      {Row::kDrvStatus2, "BitsCleared",
       [](Conversation& c) {
         c.Start();
         c.Status(15 | 128);
         c.Status(0);
       },
       [](Conversation& c) {
         c.Start();
         c.Status(11);
       }},
      {Row::kDrvStatus2, "BitsClearedThatTheDeviceKeeps",
       [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Negotiate();
         c.Status(1, 11);
         c.Status(15);
       }},
      {Row::kDrvStatus2, "DriverWithoutAcknowledge",
       [](Conversation& c) { c.Acknowledge(); },
       [](Conversation& c) {
         c.Info();
         c.Status(2);
       }},
      {Row::kDrvStatus2, "FeaturesOkBeforeDriver",
       [](Conversation& c) { c.Negotiate(); },
       [](Conversation& c) {
         c.Info();
         c.ReadFeatures();
         c.Status(1);
         c.Status(9);
       }},
      {Row::kDrvStatus2, "FeaturesWrittenBeforeDriver",
       [](Conversation& c) { c.Negotiate(); },
       [](Conversation& c) {
         c.Info();
         c.ReadFeatures();
         c.WriteFeatures();
       }},
      {Row::kDrvStatus2, "UndefinedBit",
       [](Conversation& c) { c.Acknowledge(); },
       [](Conversation& c) {
         c.Info();
         c.Status(0x101);
       }},
      {Row::kDrvStatus2, "NeedsResetIsTheDevices",
       [](Conversation& c) {
         // Set by a driver that adds to what it has read.
         c.Start();
         c.ConfigEvent(15 | 64, 0);
         c.Status(15 | 64 | 128);
       },
       [](Conversation& c) {
         c.Start();
         c.Status(15 | 64);
       }},
      {Row::kDrvStatus3, "ResetWithHighBits",
       [](Conversation& c) {
         c.Start();
         c.Status(0);
       },
       [](Conversation& c) {
         c.Start();
         c.Status(0x100, 0);
       }},
      {Row::kDrvFinal1, "DriverOkBeforeTheVerdict",
       [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Acknowledge();
         c.WriteFeatures();
         c.Driver(SetStatusRequest(kDev, 11));
         c.Driver(SetStatusRequest(kDev, 15));
       }},
      {Row::kDrvFinal1, "DriverOkBeforeTheQueueIsThere",
       [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Negotiate();
         c.SetUpQueue(1);
         c.ReadQueue();
         c.Driver(SetVqueueRequest(kDev, 0, 0, 0x1000, 0x1800, 0x2000));
         c.Driver(SetStatusRequest(kDev, 15));
       }},
      {Row::kDrvFinal2, "NotificationBeforeTheAnswer",
       [](Conversation& c) {
         c.Start();
         c.Avail();
       },
       [](Conversation& c) {
         c.Negotiate();
         c.SetUpQueue();
         c.Driver(SetStatusRequest(kDev, 15));
         c.Avail();
       }},
      {Row::kDrvFinal3, "NotificationOfUnconfiguredQueue",
       [](Conversation& c) {
         c.Start();
         c.Avail(0);
       },
       [](Conversation& c) {
         c.Start();
         c.Avail(1);
       }},
      {Row::kDrvFinal3, "NotificationAfterReset",
       [](Conversation& c) {
         c.Start();
         c.Status(0);
         c.Start();
         c.Avail();
       },
       [](Conversation& c) {
         c.Start();
         c.Status(0);
         c.Avail();
       }},
      {Row::kDrvSds2, "StatusDuringReset",
       [](Conversation& c) {
         c.Start();
         c.Status(0, 15);
         c.ReadStatus(15);
         c.ReadStatus(0);
         c.Status(1);
       },
       [](Conversation& c) {
         c.Start();
         c.Status(0, 15);
         c.ReadStatus(15);
         c.Status(1);
       }},

      // --- Configuration. ---
      {Row::kDrvInfo2, "ReadPastTheEnd",
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(1, 12, 4);
       },
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(1, 13, 4);
       }},
      {Row::kDrvInfo2, "RangeThatWraps",
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(1, 0, 16);
       },
       [](Conversation& c) {
         c.Info();
         c.Driver(GetConfigRequest(kDev, 0xFFFFFFFF, 1));
       }},
      {Row::kDrvInfo2, "WritePastTheEnd",
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(1);
         c.WriteConfig(1, 1, 15);
       },
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(1);
         c.WriteConfig(1, 1, 16);
       }},
      {Row::kDrvGen1, "CountThatWasNeverShown",
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(7);
         c.WriteConfig(7, 7);
       },
       [](Conversation& c) {
         c.Info();
         c.WriteConfig(0, 0);
       }},
      {Row::kDrvGen1, "CountOfEarlierRead",
       [](Conversation& c) {
         // Its write may cross the event.
         c.Info();
         c.ReadConfig(7);
         c.ConfigEvent(3, 8, {1});
         c.WriteConfig(7, 7);
         c.WriteConfig(8, 8);
       },
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(7);
         c.ReadConfig(8);
         c.WriteConfig(7, 7);
       }},
      {Row::kDrvGen2, "RetryWithoutReading",
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(7);
         c.WriteConfig(7, 8);
         c.ReadConfig(8);
         c.WriteConfig(8, 8);
       },
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(7);
         c.WriteConfig(7, 8);
         c.WriteConfig(8, 8);
       }},
      {Row::kDrvEc2, "CountWithoutTheData",
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(7);
         c.ConfigEvent(3, 8);
         c.ReadConfig(8);
         c.WriteConfig(8, 8);
         c.ConfigEvent(3, 8);  // the status alone
         c.WriteConfig(8, 8);
       },
       [](Conversation& c) {
         c.Info();
         c.ReadConfig(7);
         c.ConfigEvent(3, 8);
         c.WriteConfig(8, 8);
       }},

      // --- Queues. ---
      {Row::kDrvVq1, "QueueWithoutALook", [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Negotiate();
         c.WriteQueue();
       }},
      {Row::kDrvVq1, "ActiveQueueWithoutRingReset",
       [](Conversation& c) {
         c.Start();
         c.Status(0);
         c.Start();
       },
       [](Conversation& c) {
         c.Negotiate();
         c.SetUpQueue();
         c.WriteQueue(0, 16);
       }},
      {Row::kDrvVq2, "SizeAboveTheMaximum",
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.WriteQueue(0, 64);
       },
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.WriteQueue(0, 65);
       }},
      {Row::kDrvVq3, "AreasOverlap",
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.WriteQueueAt(0x1000, 0x1080, 0x1098);
       },
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.WriteQueueAt(0x1000, 0x107E, 0x1098);
       }},
      {Row::kDrvVq3, "AreasNeverSet",
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.WriteQueueAt(0, 0x1800, 0x2000);  // there may be memory at 0
       },
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.WriteQueueAt(0, 0, 0);
       }},
      {Row::kDrvVq3, "AreaPastTheEnd", [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.WriteQueueAt(0xFFFFFFFFFFFFFFF0, 0x1800, 0x2000);
       }},
      {Row::kDrvSvq2, "UnalignedArea",
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.WriteQueueAt(0x1010, 0x1802, 0x2004);
       },
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.WriteQueueAt(0x1000, 0x1800, 0x2002);
       }},
      {Row::kDrvSvq2, "PackedRingsWantMore",
       [](Conversation& c) {
         c.Negotiate(Conversation::kVersion1 | Conversation::kRingPacked);
         c.ReadQueue();
         c.WriteQueueAt(0x1000, 0x1800, 0x1804);
       },
       [](Conversation& c) {
         c.Negotiate(Conversation::kVersion1 | Conversation::kRingPacked);
         c.ReadQueue();
         c.WriteQueueAt(0x1000, 0x1802, 0x1808);
       }},
      {Row::kFactSvq1, "ReservedWord", [](Conversation& c) { c.Start(); },
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue();
         c.Driver(WithByte(SetVqueueRequest(kDev, 0, 8, 0x1000, 0x1800, 0x2000),
                           12, 1));
       }},
      {Row::kDrvGdi1, "QueuePastTheEnd",
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue(1);
       },
       [](Conversation& c) {
         c.Negotiate();
         c.ReadQueue(2, 0, 0);
       }},
      {Row::kDrvVq4, "ActiveQueueWithRingReset",
       [](Conversation& c) {
         c.Start(Conversation::kVersion1 | Conversation::kRingReset);
         c.ResetQueue();
         c.SetUpQueue();
       },
       [](Conversation& c) {
         c.Start(Conversation::kVersion1 | Conversation::kRingReset);
         c.WriteQueue();
       }},
      {Row::kDrvRvq1, "QueueResetWithoutTheFeature",
       [](Conversation& c) {
         c.Start(Conversation::kVersion1 | Conversation::kRingReset);
         c.ResetQueue();
       },
       [](Conversation& c) {
         c.Start();
         c.ResetQueue();
       }},

      // --- Operation. ---
      {Row::kDrvNotif2, "IndexThatTheDeviceDoesNotHave",
       [](Conversation& c) {
         c.Start();
         c.Avail(0);
       },
       [](Conversation& c) {
         c.Start();
         c.Avail(2);
       }},
      {Row::kDrvNotif3, "NoPositionAtFirst",
       [](Conversation& c) {
         c.Start(Conversation::kVersion1 | Conversation::kNotificationData);
         c.Avail(0, 1);
         c.Avail(0, 0xFFFF);
         c.Avail(0, 0);
       },
       [](Conversation& c) {
         c.Start(Conversation::kVersion1 | Conversation::kNotificationData);
         c.Avail(0, 0);
       }},
      {Row::kDrvNotif3, "PositionAbove16Bits",
       [](Conversation& c) {
         c.Start(Conversation::kVersion1 | Conversation::kNotificationData);
         c.Avail(0, 1);
       },
       [](Conversation& c) {
         c.Start(Conversation::kVersion1 | Conversation::kNotificationData);
         c.Avail(0, 0x10001);
       }},
      {Row::kDrvNotif3, "PositionOutsideOfThePackedRing",
       [](Conversation& c) {
         c.Start(Conversation::kVersion1 | Conversation::kNotificationData |
                 Conversation::kRingPacked);
         c.Avail(0, 7);
         c.Avail(0, 0x80000000);
         c.Avail(0, 0);
       },
       [](Conversation& c) {
         c.Start(Conversation::kVersion1 | Conversation::kNotificationData |
                 Conversation::kRingPacked);
         c.Avail(0, 0x80000008);
       }},
      {Row::kDrvNotif4, "PositionWithoutTheFeature",
       [](Conversation& c) {
         c.Start();
         c.Avail(0, 0);
       },
       [](Conversation& c) {
         c.Start();
         c.Avail(0, 1);
       }},
      {Row::kDrvReset3, "WorkAfterNeedsReset",
       [](Conversation& c) {
         c.Start();
         c.ConfigEvent(15 | 64, 0);
         c.Avail();  // may have crossed the event
         c.ReadStatus(15 | 64);
         c.Status(0);
         c.Start();
         c.Avail();
       },
       [](Conversation& c) {
         c.Start();
         c.ConfigEvent(15 | 64, 0);
         c.ReadStatus(15 | 64);
         c.ReadConfig(0);
         c.Avail();
         c.Avail();
       }},
      {Row::kDrvFinal3, "RemovedDeviceNotifiedAfterItsReset",
       [](Conversation& c) {
         c.Start();
         c.Removed();
         c.Avail();
         c.Status(0);
       },
       [](Conversation& c) {
         c.Start();
         c.Removed();
         c.Status(0);
         c.Avail();
       }},
      {Row::kDrvEvdev2, "RemovedDeviceStartedAgain",
       [](Conversation& c) {
         c.Start();
         c.Removed();
         c.Avail();
         c.Status(0);
         c.Ready();
         c.Start();
       },
       [](Conversation& c) {
         c.Start();
         c.Removed();
         for (const uint32_t status : {0u, 1u, 3u}) c.Status(status);
         c.WriteFeatures();
         c.Status(11);
         c.SetUpQueue();
         c.Status(15);
       }},
  };
  return *cases;
}

class ViolationsTest : public testing::TestWithParam<Case> {};

TEST_P(ViolationsTest, IsReportedOnceUnderItsRow) {
  Conversation conversation;
  GetParam().wrong(conversation);
  EXPECT_THAT(conversation.rows(), ElementsAre(GetParam().row))
      << conversation.monitor().Summary();
  EXPECT_EQ(conversation.monitor().count(GetParam().row), 1u);
}

TEST_P(ViolationsTest, CorrectTrafficIsNotReported) {
  Conversation conversation;
  GetParam().right(conversation);
  EXPECT_THAT(conversation.texts(), IsEmpty())
      << conversation.monitor().Summary();
}

std::string CaseName(const testing::TestParamInfo<Case>& info) {
  std::string name(RowId(info.param.row));
  std::replace(name.begin(), name.end(), '-', '_');
  return name + "_" + info.param.name;
}

INSTANTIATE_TEST_SUITE_P(Rows, ViolationsTest, testing::ValuesIn(Cases()),
                         CaseName);

TEST(ViolationsTableTest, EachCheckedRowHasACase) {
  std::set<std::string_view> tested;
  for (const Case& c : Cases()) tested.insert(RowId(c.row));
  for (const RowEntry& entry : RowTable()) {
    EXPECT_EQ(tested.contains(entry.id), entry.verdict == RowVerdict::kChecked)
        << entry.id;
  }
}

}  // namespace
}  // namespace vmsg::msg
