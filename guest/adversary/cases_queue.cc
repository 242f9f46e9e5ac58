// Settings of a queue that can't be, or not now. Source: virtio-msg-messages,
// 4.9, 4.10 and 6.8.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr uint32_t kFeatured =
    kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
constexpr uint32_t kRunning = kFeatured | kStatusDriverOk;
constexpr auto kStopped = Leaves::kStopped;

// Good settings with one change, after FEATURES_OK.
Reaction Settings(Bench& b, void (*change)(Vqueue&, Bench&)) {
  if (!b.StopAt(kFeatured)) b.Fail("set-up");
  b.queue().Clear();
  Vqueue vqueue = b.queue().settings();
  change(vqueue, b);
  return b.SetQueue(vqueue) ? kTaken : kRefused;
}

// The same for a queue that runs.
Reaction WhileRunning(Bench& b, void (*change)(Vqueue&, Bench&)) {
  const Vqueue before = b.GetQueue(0);
  Vqueue vqueue = b.queue().settings();
  change(vqueue, b);
  b.SetQueue(vqueue);
  const Vqueue after = b.GetQueue(0);
  return after.size == before.size && after.desc == before.desc &&
                 after.driver == before.driver && after.device == before.device
             ? kRefused
             : kTaken;
}

bool ResetQueue(Bench& b) {
  return b.Exchange(b.Request(kMsgResetVqueue, 12).U32(8, 0)) != nullptr;
}

// Puts the queue back to work after a reset of it.
Reaction StartsAgain(Bench& b) {
  b.queue().Clear();
  return b.SetQueue(b.queue().settings()) && b.Serves() ? kTaken : kRefused;
}

constexpr Case kCases[] = {
    {"before_features_ok", kReject,
     [](Bench& b) {
       b.StopAt(kStatusAcknowledge | kStatusDriver);
       return b.SetQueue(b.queue().settings()) ? kTaken : kRefused;
     },
     kStopped},
    {"size_0", kReject,
     [](Bench& b) {
       b.StopAt(kFeatured);
       b.SetQueue(b.queue().settings());
       b.Mark();
       Vqueue vqueue = b.queue().settings();
       vqueue.size = 0;
       b.SetQueue(vqueue);
       return b.GetQueue(0).size == RawQueue::kSize ? kRefused : kTaken;
     },
     kStopped},
    {"size_3", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.size = 3; });
     },
     kStopped},
    {"size_above_the_maximum", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench& bench) {
         q.size = 2 * bench.GetQueue(0).max_size;
       });
     },
     kStopped},
    {"size_0x10008", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.size += 0x10000; });
     },
     kStopped},
    {"size_0x80000000", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.size = 0x80000000; });
     },
     kStopped},
    {"size_all_ones", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.size = UINT32_MAX; });
     },
     kStopped},
    {"size_1", kPass,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.size = 1; });
     },
     kStopped},
    {"index_past_the_end", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.index = 1; });
     },
     kStopped},
    {"index_0x10000", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.index = 0x10000; });
     },
     kStopped},
    {"index_all_ones", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.index = UINT32_MAX; });
     },
     kStopped},
    {"desc_unaligned", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.desc += 8; });
     },
     kStopped},
    {"driver_unaligned", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.driver += 1; });
     },
     kStopped},
    {"device_unaligned", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q, Bench&) { q.device += 2; });
     },
     kStopped},
    {"desc_in_a_bar", kReject,
     [](Bench& b) {
       return Settings(
           b, [](Vqueue& q, Bench& bench) { q.desc = bench.windows(); });
     },
     kStopped},
    {"driver_in_a_bar", kReject,
     [](Bench& b) {
       return Settings(
           b, [](Vqueue& q, Bench& bench) { q.driver = bench.windows(); });
     },
     kStopped},
    {"device_in_a_bar", kReject,
     [](Bench& b) {
       return Settings(
           b, [](Vqueue& q, Bench& bench) { q.device = bench.windows(); });
     },
     kStopped},
    {"device_on_the_doorbells", kReject,
     [](Bench& b) {
       return Settings(
           b, [](Vqueue& q, Bench& bench) { q.device = bench.registers(); });
     },
     kStopped},
    {"desc_wraps", kReject,
     [](Bench& b) {
       return Settings(b,
                       [](Vqueue& q, Bench&) { q.desc = 0xFFFFFFFFFFFFFFC0; });
     },
     kStopped},
    {"driver_wraps", kReject,
     [](Bench& b) {
       return Settings(
           b, [](Vqueue& q, Bench&) { q.driver = 0xFFFFFFFFFFFFFFFE; });
     },
     kStopped},
    {"device_wraps", kReject,
     [](Bench& b) {
       return Settings(
           b, [](Vqueue& q, Bench&) { q.device = 0xFFFFFFFFFFFFFFFC; });
     },
     kStopped},
    {"desc_above_all_memory", kReject,
     [](Bench& b) {
       return Settings(b,
                       [](Vqueue& q, Bench&) { q.desc = uint64_t{1} << 52; });
     },
     kStopped},
    {"desc_above_4_gib_of_itself", kReject,
     [](Bench& b) {
       return Settings(b,
                       [](Vqueue& q, Bench&) { q.desc |= uint64_t{1} << 32; });
     },
     kStopped},
    {"areas_on_top_of_each_other", kPass,
     [](Bench& b) {
       return Settings(b,
                       [](Vqueue& q, Bench&) { q.driver = q.device = q.desc; });
     },
     kStopped},
    {"reserved_words", kPass,
     [](Bench& b) {
       b.StopAt(kFeatured);
       const Vqueue q = b.queue().settings();
       b.Exchange(b.Request(kMsgSetVqueue, 48)
                      .U32(8, 0)
                      .U32(12, UINT32_MAX)
                      .U32(16, q.size)
                      .U32(20, UINT32_MAX)
                      .U64(24, q.desc)
                      .U64(32, q.driver)
                      .U64(40, q.device));
       return b.GetQueue(0).size == q.size ? kTaken : kRefused;
     },
     kStopped},
    {"set_twice", kPass,
     [](Bench& b) {
       b.StopAt(kFeatured);
       Vqueue q = b.queue().settings();
       q.size = 4;
       if (!b.SetQueue(b.queue().settings())) return kRefused;
       return b.SetQueue(q) ? kTaken : kRefused;
     },
     kStopped},
    {"reset_before_it_is_set", kPass,
     [](Bench& b) {
       b.StopAt(kFeatured);
       return ResetQueue(b) && b.SetQueue(b.queue().settings()) ? kTaken
                                                                : kRefused;
     },
     kStopped},
    {"reset_without_the_feature", kReject,
     [](Bench& b) {
       b.StopAt(kStatusAcknowledge | kStatusDriver);
       b.WriteFeatures(0, 0);
       b.WriteFeatures(1, 1);
       b.SetStatus(kFeatured);
       b.queue().Clear();
       b.SetQueue(b.queue().settings());
       b.SetStatus(kRunning);
       b.Mark();
       if (!ResetQueue(b)) b.Fail("no-answer");
       return b.GetQueue(0).size == RawQueue::kSize ? kRefused : kTaken;
     }},
    {"moved_while_running", kReject,
     [](Bench& b) {
       return WhileRunning(
           b, [](Vqueue& q, Bench& bench) { q.desc = bench.queue().table(); });
     }},
    {"resized_while_running", kReject,
     [](Bench& b) {
       return WhileRunning(b, [](Vqueue& q, Bench&) { q.size = 4; });
     }},
    {"size_0_while_running", kReject,
     [](Bench& b) {
       return WhileRunning(b, [](Vqueue& q, Bench&) { q.size = 0; });
     }},
    {"wild_addresses_while_running", kReject,
     [](Bench& b) {
       return WhileRunning(b, [](Vqueue& q, Bench&) {
         q.desc = q.driver = q.device = UINT64_MAX - 63;
       });
     }},
    {"another_queue_while_running", kReject,
     [](Bench& b) {
       return WhileRunning(b, [](Vqueue& q, Bench&) { q.index = 1; });
     }},
    {"lost_by_a_queue_reset", kDegraded,
     [](Bench& b) { return ResetQueue(b) ? kTaken : kRefused; }},
    {"reset_while_running", kPass,
     [](Bench& b) { return ResetQueue(b) ? StartsAgain(b) : kRefused; }},
    {"reset_twice_while_running", kPass,
     [](Bench& b) {
       // NOLINTNEXTLINE(misc-redundant-expression): once more.
       return ResetQueue(b) && ResetQueue(b) ? StartsAgain(b) : kRefused;
     }},
    {"reset_with_a_chain_offered", kPass,
     [](Bench& b) {
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       return ResetQueue(b) ? StartsAgain(b) : kRefused;
     }},
    {"reset_behind_an_event", kPass,
     [](Bench& b) {
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       b.Kick();
       return ResetQueue(b) ? StartsAgain(b) : kRefused;
     }},
    {"avail_after_a_queue_reset", kPass,
     [](Bench& b) {
       if (!ResetQueue(b)) return kRefused;
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       b.Try(b.Request(kMsgEventAvail, 16));
       RawQueue::Used used;
       if (b.queue().Take(&used)) b.Fail("served-without-a-queue");
       return StartsAgain(b);
     }},
    {"bad_settings_after_a_queue_reset", kPass,
     [](Bench& b) {
       if (!ResetQueue(b)) return kRefused;
       Vqueue q = b.queue().settings();
       q.desc = UINT64_MAX - 63;
       if (b.SetQueue(q)) b.Fail("bad-settings-taken");
       return StartsAgain(b);
     }},
    {"full_of_offers_at_driver_ok", kDegraded,
     [](Bench& b) {
       // What lies in the ring before DRIVER_OK is looked at with it.
       b.StopAt(kFeatured);
       b.queue().Clear();
       b.SetQueue(b.queue().settings());
       b.queue().SetAvailableIndex(RawQueue::kSize + 1);
       return b.SetStatus(kRunning) == kRunning ? kTaken : kRefused;
     }},
};

}  // namespace

constinit const std::span<const Case> kQueueCases = kCases;

}  // namespace vmsg::guest
