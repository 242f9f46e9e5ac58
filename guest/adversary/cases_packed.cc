// A packed ring that runs: places, wrap counters, ids and chains, also from a
// second thread. Source: virtio 1.2, 2.8.
//
// A chain that goes on in places which the device still owes can't be made of
// this device: it gives each chain back before it takes the next.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

using Entry = RawPackedQueue::Entry;
constexpr uint32_t kSize = RawPackedQueue::kSize;
constexpr uint16_t kNext = RawQueue::kNext;
constexpr uint16_t kWrite = RawQueue::kWrite;
constexpr uint16_t kIndirect = RawQueue::kIndirect;
constexpr uint16_t kBoth = RawPackedQueue::kAvailable | RawPackedQueue::kUsed;
constexpr auto kStopped = Leaves::kStopped;
constexpr auto kRuns = Leaves::kRunning;
constexpr auto kTwo = Needs::kSecondWriter;

constexpr Features kPacked =
    Features::Of(kFeatureVersion1, kFeatureRingPacked, kFeatureIndirectDesc,
                 kFeatureRingReset);

// The ring is at place 1 then: one request has been served.
void Start(Bench& b, const Features& features = kPacked) {
  if (!b.StartWith(features)) b.Fail("set-up");
}
Entry Good(Bench& b, uint16_t id = 1, uint16_t flags = kWrite) {
  return {b.queue().buffer(), 16, id, flags};
}
// To where the ring begins anew, with the other wrap counter.
void GoRound(Bench& b) {
  while (b.packed().place() != 0) {
    if (!b.Serves()) return b.Fail("set-up");
  }
}

// --- Places and wrap counters. ---

// The device looks, and is to leave alone what is there. Used descriptors say
// nothing where the case writes what looks like one.
Reaction LeftAlone(Bench& b) {
  StoreRelaxed<uint64_t>(b.queue().buffer_bytes(), 0);
  b.Kick();
  if (b.Try(b.Request(kMsgGetDeviceStatus, 8)) == kRefused) {
    b.Fail("no-answer");
  }
  return LoadRelaxed<uint64_t>(b.queue().buffer_bytes()) == 0 ? kRefused
                                                              : kTaken;
}
// A good descriptor at the next place whose flags say something else than that
// it is available.
Reaction Unavailable(Bench& b, uint16_t flags) {
  b.packed().Write(b.packed().place(), Good(b, 1, kWrite | flags));
  return LeftAlone(b);
}
// Good settings with one change.
Reaction Settings(Bench& b, void (*change)(Vqueue&)) {
  constexpr uint32_t kFeatured =
      kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
  b.StopAt(kStatusAcknowledge | kStatusDriver);
  for (uint32_t block = 0; block < 2; ++block) {
    b.WriteFeatures(block, kPacked.block(block));
  }
  if (b.SetStatus(kFeatured) != kFeatured) b.Fail("set-up");
  b.Mark();
  Vqueue vqueue = b.queue().settings();
  change(vqueue);
  return b.SetQueue(vqueue) ? kTaken : kRefused;
}

constexpr Case kRing[] = {
    {"three_times_round", kPass,
     [](Bench& b) {
       Start(b);
       for (uint32_t i = 0; i < 3 * kSize; ++i) {
         if (!b.Serves()) return kRefused;
       }
       return kTaken;
     }},
    {"full_to_the_last_place", kPass,
     [](Bench& b) {
       Start(b);
       for (uint16_t i = 0; i < kSize; ++i) b.packed().Offer(Good(b, i));
       b.Kick();
       for (uint16_t i = 0; i < kSize; ++i) {
         if (b.ComesBack(i) == kRefused) return kRefused;
       }
       return kTaken;
     }},
    {"flags_of_no_turn", kReject,
     [](Bench& b) {
       Start(b);
       return Unavailable(b, 0);
     }},
    {"flags_of_a_used_place", kReject,
     [](Bench& b) {
       Start(b);
       return Unavailable(b, kBoth);
     }},
    {"wrap_counter_of_the_next_turn", kReject,
     [](Bench& b) {
       Start(b);
       return Unavailable(b, RawPackedQueue::kUsed);
     }},
    {"wrap_counter_of_the_turn_before", kReject,
     [](Bench& b) {
       Start(b);
       GoRound(b);
       return Unavailable(b, RawPackedQueue::kAvailable);
     }},
    {"place_skipped", kReject,
     [](Bench& b) {
       Start(b);
       b.packed().Write(b.packed().place() + 1,
                        Good(b, 1, kWrite | b.packed().available()));
       return LeftAlone(b);
     }},
    {"other_places_all_ones", kPass,
     [](Bench& b) {
       Start(b);
       for (uint32_t i = 1; i < kSize; ++i) {
         b.packed().Write(b.packed().place() + i,
                          {UINT64_MAX, UINT32_MAX, 0xFFFF, 0xFFFF});
       }
       return b.Serves() ? kTaken : kRefused;
     }},
    {"ring_all_ones", kReject,
     [](Bench& b) {
       Start(b);
       for (uint32_t i = 0; i < kSize; ++i) {
         b.packed().Write(i, {UINT64_MAX, UINT32_MAX, 0xFFFF, 0xFFFF});
       }
       return LeftAlone(b);
     }},
    {"ring_all_zero", kReject,
     [](Bench& b) {
       Start(b);
       for (uint32_t i = 0; i < kSize; ++i) b.packed().Write(i, {});
       return LeftAlone(b);
     }},
    {"every_place_available_and_wild", kDegraded,
     [](Bench& b) {
       Start(b);
       for (uint32_t i = 0; i < kSize; ++i) {
         b.packed().Write(
             i, {UINT64_MAX, UINT32_MAX, 0xFFFF, RawPackedQueue::kAvailable});
       }
       return b.Ignored();
     }},
    {"offer_withdrawn", kPass,
     [](Bench& b) {
       Start(b);
       const uint32_t place = b.packed().place();
       b.packed().Write(place, Good(b, 1, kWrite | b.packed().available()));
       b.packed().Write(place, {});
       return b.Ignored() == kRefused && b.Serves() ? kTaken : kRefused;
     }},
    {"used_place_overwritten", kPass,
     [](Bench& b) {
       Start(b);
       const uint32_t place = b.packed().place();
       if (!b.Serves()) return kRefused;
       b.packed().Write(place, {UINT64_MAX, UINT32_MAX, 0xFFFF, 0xFFFF});
       return b.Serves() ? kTaken : kRefused;
     }},
    {"event_without_an_offer", kPass,
     [](Bench& b) {
       Start(b);
       return b.Ignored() == kRefused && b.Serves() ? kTaken : kRefused;
     }},
    {"id_past_the_end", kPass,
     [](Bench& b) {
       Start(b);
       return b.OfferedPacked(Good(b, kSize));
     }},
    {"id_all_ones", kPass,
     [](Bench& b) {
       Start(b);
       return b.OfferedPacked(Good(b, 0xFFFF));
     }},
    {"same_id_twice", kPass,
     [](Bench& b) {
       Start(b);
       b.packed().Offer(Good(b, 3));
       b.packed().Offer(Good(b, 3));
       b.Kick();
       return b.ComesBack(3) == kTaken ? b.ComesBack(3) : kRefused;
     }},
    {"id_of_the_last_descriptor_counts", kPass,
     [](Bench& b) {
       Start(b);
       b.packed().Offer(Good(b, 4, kWrite | kNext));
       b.packed().Offer(Good(b, 5));
       b.Kick();
       const Reaction reaction = b.ComesBack(5);
       b.packed().Pass(1);
       return reaction;
     }},
    {"size_7", kPass,
     [](Bench& b) { return Settings(b, [](Vqueue& q) { q.size = 7; }); },
     kStopped},
    {"size_0x8000", kReject,
     [](Bench& b) { return Settings(b, [](Vqueue& q) { q.size = 0x8000; }); },
     kStopped},
    {"ring_unaligned", kReject,
     [](Bench& b) { return Settings(b, [](Vqueue& q) { q.desc += 8; }); },
     kStopped},
    {"driver_event_unaligned", kReject,
     [](Bench& b) { return Settings(b, [](Vqueue& q) { q.driver += 2; }); },
     kStopped},
    {"device_event_unaligned", kReject,
     [](Bench& b) { return Settings(b, [](Vqueue& q) { q.device += 2; }); },
     kStopped},
    {"driver_event_wraps", kReject,
     [](Bench& b) {
       return Settings(b, [](Vqueue& q) { q.driver = 0xFFFFFFFFFFFFFFFC; });
     },
     kStopped},
    {"wrap_counter_kept_over_a_queue_reset", kReject,
     [](Bench& b) {
       Start(b);
       GoRound(b);
       if (b.Try(b.Request(kMsgResetVqueue, 12)) == kRefused) {
         b.Fail("no-answer");
       }
       const uint16_t old = b.packed().available();
       b.packed().Clear();
       if (!b.SetQueue(b.queue().settings())) b.Fail("set-up");
       b.Mark();
       return Unavailable(b, old);
     }},
};

// --- Chains. ---

Reaction One(Bench& b, const Entry& entry) {
  Start(b);
  return b.OfferedPacked(entry);
}
// An indirect descriptor for a table of `bytes` bytes.
Reaction Table(Bench& b, uint32_t bytes, uint16_t flags = kIndirect) {
  return b.OfferedPacked({b.queue().table(), bytes, 1, flags});
}
void FillTable(Bench& b, uint16_t entries, uint16_t flags = kWrite) {
  for (uint16_t i = 0; i < entries; ++i) {
    b.packed().Indirect(i, Good(b, 0, flags));
  }
}

constexpr Case kChains[] = {
    {"goes_on_where_nothing_was", kDegraded,
     [](Bench& b) { return One(b, Good(b, 1, kWrite | kNext)); }},
    {"goes_on_in_a_used_place", kDegraded,
     [](Bench& b) {
       Start(b);
       while (b.packed().place() + 1 < kSize) b.Serves();
       return b.OfferedPacked(Good(b, 1, kWrite | kNext));
     }},
    {"goes_on_in_a_place_of_the_next_turn", kDegraded,
     [](Bench& b) {
       Start(b);
       b.packed().Write(b.packed().place() + 1,
                        Good(b, 1, kWrite | RawPackedQueue::kUsed));
       return b.OfferedPacked(Good(b, 1, kWrite | kNext));
     }},
    {"goes_on_all_round_the_ring", kDegraded,
     [](Bench& b) {
       Start(b);
       for (uint32_t i = 0; i + 1 < kSize; ++i) {
         b.packed().Offer(Good(b, 1, kWrite | kNext));
       }
       return b.OfferedPacked(Good(b, 1, kWrite | kNext));
     }},
    {"as_long_as_the_ring", kPass,
     [](Bench& b) {
       Start(b);
       for (uint32_t i = 0; i + 1 < kSize; ++i) {
         b.packed().Offer(Good(b, 1, kWrite | kNext));
       }
       const Reaction reaction = b.OfferedPacked(Good(b));
       b.packed().Pass(kSize - 1);
       return reaction;
     }},
    {"length_0", kDegraded,
     [](Bench& b) {
       return One(b, {b.queue().buffer(), 0, 1, kWrite});
     }},
    {"length_all_ones", kDegraded,
     [](Bench& b) {
       return One(b, {b.queue().buffer(), UINT32_MAX, 1, kWrite});
     }},
    {"address_all_ones", kDegraded,
     [](Bench& b) {
       return One(b, {UINT64_MAX, 1, 1, kWrite});
     }},
    {"address_in_a_fifo_window", kDegraded,
     [](Bench& b) {
       return One(b, {b.windows() + 0x1000, 64, 1, kWrite});
     }},
    {"readable_after_writable", kDegraded,
     [](Bench& b) {
       Start(b);
       b.packed().Offer(Good(b, 1, kWrite | kNext));
       return b.OfferedPacked(Good(b, 1, 0));
     }},
    {"nothing_to_write_to", kPass,
     [](Bench& b) { return One(b, Good(b, 1, 0)); }},
    {"unknown_flags", kPass,
     [](Bench& b) { return One(b, Good(b, 1, kWrite | 0x7F78)); }},
    {"buffer_is_the_driver_event", kPass,
     [](Bench& b) {
       return One(b, {b.queue().driver(), 4, 1, kWrite});
     }},
    {"buffer_is_the_device_event", kPass,
     [](Bench& b) {
       return One(b, {b.queue().device(), 4, 1, kWrite});
     }},
    // Indirect tables.
    {"indirect", kPass,
     [](Bench& b) {
       Start(b);
       FillTable(b, kSize);
       return Table(b, 16 * kSize);
     }},
    {"indirect_next_in_the_table", kPass,
     [](Bench& b) {
       // The entries follow each other, whatever they say.
       Start(b);
       FillTable(b, 2, kWrite | kNext);
       return Table(b, 32);
     }},
    {"indirect_with_write", kPass,
     [](Bench& b) {
       Start(b);
       FillTable(b, 1);
       return Table(b, 16, kIndirect | kWrite);
     }},
    {"indirect_with_next", kDegraded,
     [](Bench& b) {
       Start(b);
       FillTable(b, 1);
       return Table(b, 16, kIndirect | kNext);
     }},
    {"indirect_behind_a_buffer", kDegraded,
     [](Bench& b) {
       Start(b);
       FillTable(b, 1);
       b.packed().Offer(Good(b, 1, kWrite | kNext));
       return Table(b, 16);
     }},
    {"indirect_in_indirect", kDegraded,
     [](Bench& b) {
       Start(b);
       b.packed().Indirect(0, {b.queue().table(), 16, 0, kIndirect});
       return Table(b, 16);
     }},
    {"indirect_length_0", kDegraded,
     [](Bench& b) {
       Start(b);
       return Table(b, 0);
     }},
    {"indirect_length_15", kDegraded,
     [](Bench& b) {
       Start(b);
       return Table(b, 15);
     }},
    {"indirect_length_4_gib", kDegraded,
     [](Bench& b) {
       // All entries of a table are used.
       Start(b);
       FillTable(b, 1);
       return Table(b, 0xFFFFFFF0);
     }},
    {"indirect_longer_than_the_queue", kDegraded,
     [](Bench& b) {
       Start(b);
       FillTable(b, kSize + 1);
       return Table(b, 16 * (kSize + 1));
     }},
    {"indirect_empty_entry", kDegraded,
     [](Bench& b) {
       Start(b);
       FillTable(b, 1);
       return Table(b, 32);
     }},
    {"indirect_table_in_a_bar", kDegraded,
     [](Bench& b) {
       return One(b, {b.windows(), 16, 1, kIndirect});
     }},
    {"indirect_not_negotiated", kDegraded,
     [](Bench& b) {
       Start(b, Features::Of(kFeatureVersion1, kFeatureRingPacked));
       FillTable(b, 1);
       return Table(b, 16);
     }},
};

// --- A second writer. ---

// Requests against the writer, until the device asks for a reset, as it is
// bound to. Not a verdict: that is taken afterwards.
Reaction UntilItBreaks(Bench& b, void (*write)(Bench& b, uint64_t round)) {
  constexpr int kRounds = 3000;
  Start(b);
  b.StartWriter(write);
  RawQueue::Used used;
  for (int i = 0; i < kRounds; ++i) {
    b.packed().Offer(Good(b));
    b.Kick();
    if ((b.Status() & ~uint32_t{0xF}) != 0) break;
    b.packed().Take(&used);
  }
  b.StopWriter();
  return kTaken;
}

// Requests against the writer: taken when each is served.
Reaction ServedThroughout(Bench& b, const Features& features,
                          void (*write)(Bench& b, uint64_t round)) {
  constexpr int kRounds = 300;
  Start(b, features);
  b.StartWriter(write);
  bool served = true;
  for (int i = 0; served && i < kRounds; ++i) {
    b.packed().Offer(Good(b));
    b.Kick();
    RawQueue::Used used;
    served = b.WaitUsed(&used);
  }
  b.StopWriter();
  return served ? kTaken : kRefused;
}

constexpr Case kRaces[] = {
    {"address_good_or_wild", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         StoreRelaxed<uint64_t>(
             bench.packed().place_bytes(static_cast<uint32_t>(round / 2)),
             (round & 1) == 0 ? bench.queue().buffer() : UINT64_MAX - 15);
       });
     },
     kRuns, kTwo},
    {"length_16_or_0", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         StoreRelaxed<uint32_t>(
             bench.packed().place_bytes(static_cast<uint32_t>(round / 2)) + 8,
             (round & 1) == 0 ? 16 : 0);
       });
     },
     kRuns, kTwo},
    {"flags_of_every_turn", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         StoreRelaxed<uint16_t>(
             bench.packed().place_bytes(static_cast<uint32_t>(round)) + 14,
             (round & 8) == 0 ? RawPackedQueue::kAvailable | kWrite | kNext
                              : RawPackedQueue::kUsed | kIndirect);
       });
     },
     kRuns, kTwo},
    {"ids", kPass,
     [](Bench& b) {
       return ServedThroughout(b, kPacked, [](Bench& bench, uint64_t round) {
         StoreRelaxed<uint16_t>(
             bench.packed().place_bytes(static_cast<uint32_t>(round)) + 12,
             static_cast<uint16_t>(round * 0x9E37));
       });
     },
     kRuns, kTwo},
    {"driver_event", kPass,
     [](Bench& b) {
       return ServedThroughout(b, kPacked.With(kFeatureEventIdx),
                               [](Bench& bench, uint64_t round) {
                                 bench.packed().SetDriverEvent(
                                     static_cast<uint16_t>(round * 0x9E37),
                                     static_cast<uint16_t>(round));
                               });
     },
     kRuns, kTwo},
    {"device_event", kPass,
     [](Bench& b) {
       return ServedThroughout(b, kPacked.With(kFeatureEventIdx),
                               [](Bench& bench, uint64_t round) {
                                 bench.packed().SetDeviceEvent(
                                     static_cast<uint16_t>(round * 0x9E37),
                                     static_cast<uint16_t>(round));
                               });
     },
     kRuns, kTwo},
};

}  // namespace

constinit const std::span<const Case> kPackedCases = kRing;
constinit const std::span<const Case> kPackedChainCases = kChains;
constinit const std::span<const Case> kPackedRaceCases = kRaces;

}  // namespace vmsg::guest
