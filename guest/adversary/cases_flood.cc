// Too much of everything, and drivers that never look at what comes back.
// Source: amp-pci-device, 4.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr uint32_t kFeatured =
    kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;

RawMessage Ping(Bench& b) { return b.OnBus(kBusMsgPing, 12).U32(8, 7); }
RawMessage GetStatus(Bench& b) { return b.Request(kMsgGetDeviceStatus, 8); }

// Sends as much as goes in, without taking an answer, until nothing has gone in
// for a while; then takes the answers. Taken when there is one for each.
Reaction NeverDrained(Bench& b, const RawMessage& message) {
  constexpr uint64_t kStuckNs = 20'000'000;
  constexpr uint32_t kMost = 1000;
  uint32_t posted = 0;
  for (int tries = 0; tries < 3 && posted < kMost; ++tries) {
    const uint32_t before = posted;
    while (b.Post(message)) ++posted;
    b.Ring();
    b.Idle(kStuckNs);
    if (posted != before) tries = 0;
  }
  if (posted >= kMost) b.Fail("unbounded-queue");
  return b.Collect(posted) == posted ? kTaken : kRefused;
}

// Sends `count` of something that gets no answer.
void Flood(Bench& b, const RawMessage& message, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) {
    if (!b.Send(message)) return b.Fail("no-room");
  }
}
// Refused when not one answer comes.
Reaction Unanswered(Bench& b, const RawMessage& message, uint32_t count) {
  Flood(b, message, count);
  if (b.Try(GetStatus(b)) == kRefused) b.Fail("no-answer");
  Packet packet;
  return b.Receive(&packet) ? kTaken : kRefused;
}

constexpr uint32_t kMany = 1000;

constexpr Case kCases[] = {
    {"pings_never_drained", kPass,
     [](Bench& b) { return NeverDrained(b, Ping(b)); }},
    {"requests_never_drained", kPass,
     [](Bench& b) { return NeverDrained(b, GetStatus(b)); }},
    {"get_devices_never_drained", kPass,
     [](Bench& b) {
       return NeverDrained(b, b.OnBus(kBusMsgGetDevices, 12).U16(10, 32));
     }},
    {"empty_slot_never_drained", kPass,
     [](Bench& b) { return NeverDrained(b, GetStatus(b).Device(30)); }},
    {"resets_never_drained", kPass,
     [](Bench& b) {
       return NeverDrained(b, b.Request(kMsgSetDeviceStatus, 12));
     },
     Leaves::kStopped},
    {"used_events_never_drained", kPass,
     [](Bench& b) {
       b.GoodDescriptor(0);
       RawQueue::Used used;
       for (int i = 0; i < 200; ++i) {
         b.queue().Offer(0);
         b.Kick();
         for (int wait = 0; !b.queue().Take(&used); ++wait) {
           if (wait == 5000) return kRefused;
           b.Idle(1'000'000);
         }
       }
       return kTaken;
     }},
    {"rings", kPass,
     [](Bench& b) {
       for (uint32_t i = 0; i < 5 * kMany; ++i) b.Ring();
       return b.Try(Ping(b));
     }},
    {"rings_of_every_fifo", kPass,
     [](Bench& b) {
       for (uint32_t i = 0; i < kMany; ++i) {
         for (uint64_t n = 0; n < 8; ++n) b.WriteRegister(0x20 + 4 * n, 4, i);
       }
       return b.Try(Ping(b));
     }},
    {"bad_accesses", kReject,
     [](Bench& b) {
       const auto flood = [](Bench& bench) {
         for (uint32_t i = 0; i < kMany; ++i) bench.WriteRegister(0x20, 2, i);
       };
       if (b.AnswersWithoutRing(Ping(b), flood)) return kTaken;
       return b.ReadsZero(0x20, 2);
     }},
    {"avail_events", kPass,
     [](Bench& b) {
       Flood(b, b.Request(kMsgEventAvail, 16), kMany);
       return b.Serves() ? kTaken : kRefused;
     }},
    {"avail_events_of_no_queue", kReject,
     [](Bench& b) {
       return Unanswered(b, b.Request(kMsgEventAvail, 16).U32(8, 99), kMany);
     }},
    {"malformed_messages", kReject,
     [](Bench& b) { return Unanswered(b, RawMessage().Fill(0xFF), kMany); }},
    {"unknown_ids", kReject,
     [](Bench& b) { return Unanswered(b, b.Request(0x3F, 8), kMany); }},
    {"ping_answers", kReject,
     [](Bench& b) {
       return Unanswered(b, b.OnBus(kBusMsgPing, 12).Type(3), kMany);
     }},
    {"unusable_settings", kReject,
     [](Bench& b) {
       b.StopAt(kFeatured);
       const RawMessage set =
           b.Request(kMsgSetVqueue, 48).U32(16, 8).U64(24, UINT64_MAX);
       for (int i = 0; i < 200; ++i) {
         if (b.Try(set) == kRefused) b.Fail("no-answer");
       }
       return b.GetQueue(0).size == 0 ? kRefused : kTaken;
     },
     Leaves::kStopped},
    {"resets", kPass,
     [](Bench& b) {
       for (int i = 0; i < 100; ++i) {
         if (b.SetStatus(0) != 0) return kRefused;
       }
       return kTaken;
     },
     Leaves::kStopped},
    {"starts", kPass,
     [](Bench& b) {
       for (int i = 0; i < 20; ++i) {
         if (!b.StopAt(kFeatured)) return kRefused;
         b.queue().Clear();
         if (!b.SetQueue(b.queue().settings()) ||
             b.SetStatus(kFeatured | kStatusDriverOk) !=
                 (kFeatured | kStatusDriverOk) ||
             !b.Serves()) {
           return kRefused;
         }
       }
       return kTaken;
     }},
    {"queue_resets", kPass,
     [](Bench& b) {
       for (int i = 0; i < 50; ++i) {
         if (b.Try(b.Request(kMsgResetVqueue, 12)) == kRefused) return kRefused;
         b.queue().Clear();
         if (!b.SetQueue(b.queue().settings()) || !b.Serves()) return kRefused;
       }
       return kTaken;
     }},
    {"broken_queues", kPass,
     [](Bench& b) {
       // Each breaks, asks for a reset once, and gets it.
       for (int i = 0; i < 20; ++i) {
         if (!b.StopAt(kFeatured)) return kRefused;
         b.queue().Clear();
         b.SetQueue(b.queue().settings());
         b.queue().SetAvailableIndex(1000);
         b.SetStatus(kFeatured | kStatusDriverOk);
         if ((b.Status() & kStatusNeedsReset) == 0) b.Fail("not-broken");
       }
       return b.SetStatus(0) == 0 ? kTaken : kRefused;
     },
     Leaves::kStopped},
    {"large_chains", kPass,
     [](Bench& b) {
       // A queue full of chains that name one page again and again.
       for (uint16_t i = 0; i < RawQueue::kSize; ++i) {
         const bool last = i + 1 == RawQueue::kSize;
         b.queue().Indirect(
             i,
             {b.queue().buffer(), RawQueue::kBufferBytes,
              static_cast<uint16_t>(last ? RawQueue::kWrite
                                         : RawQueue::kWrite | RawQueue::kNext),
              static_cast<uint16_t>(i + 1)});
         b.queue().Descriptor(i, {b.queue().table(), 16 * RawQueue::kSize,
                                  RawQueue::kIndirect, 0});
       }
       for (int round = 0; round < 4; ++round) {
         for (uint16_t i = 0; i < RawQueue::kSize; ++i) b.queue().Offer(i);
         b.Kick();
         RawQueue::Used used;
         for (uint32_t i = 0; i < RawQueue::kSize; ++i) {
           if (!b.WaitUsed(&used)) return kRefused;
         }
       }
       return kTaken;
     }},
};

}  // namespace

constinit const std::span<const Case> kFloodCases = kCases;

}  // namespace vmsg::guest
