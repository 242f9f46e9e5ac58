// Rings and descriptors of a queue that runs. Source: virtio 1.2, 2.7.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr uint32_t kSize = RawQueue::kSize;
constexpr uint16_t kNext = RawQueue::kNext;
constexpr uint16_t kWrite = RawQueue::kWrite;
constexpr uint16_t kIndirect = RawQueue::kIndirect;

// --- The rings. ---

// Offers a good chain, then puts the available index `ahead` further.
Reaction Ahead(Bench& b, uint16_t ahead) {
  b.GoodDescriptor(0);
  b.queue().SetAvailableIndex(
      static_cast<uint16_t>(b.queue().available_index() + ahead));
  b.Kick();
  RawQueue::Used used;
  return b.WaitUsed(&used) ? kTaken : kRefused;
}

// A canonical request with the ring in some state.
Reaction Serves(Bench& b) { return b.Serves() ? kTaken : kRefused; }

constexpr Case kRings[] = {
    {"index_one_too_far", kDegraded,
     [](Bench& b) { return Ahead(b, kSize + 1); }},
    {"index_half_way_round", kDegraded,
     [](Bench& b) { return Ahead(b, 0x8000); }},
    {"index_goes_back", kDegraded, [](Bench& b) { return Ahead(b, 0xFFFF); }},
    {"index_goes_far_back", kDegraded,
     [](Bench& b) { return Ahead(b, 0x10000 - kSize); }},
    {"head_past_the_end", kDegraded, [](Bench& b) { return b.Offered(kSize); }},
    {"head_all_ones", kDegraded, [](Bench& b) { return b.Offered(0xFFFF); }},
    {"same_head_twice", kPass,
     [](Bench& b) {
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       b.queue().Offer(0);
       b.Kick();
       RawQueue::Used used;
       return b.WaitUsed(&used) && b.WaitUsed(&used) ? kTaken : kRefused;
     }},
    {"full_to_the_last_descriptor", kPass,
     [](Bench& b) {
       for (uint16_t i = 0; i < kSize; ++i) {
         b.GoodDescriptor(i);
         b.queue().Offer(i);
       }
       b.Kick();
       RawQueue::Used used;
       for (uint32_t i = 0; i < kSize; ++i) {
         if (!b.WaitUsed(&used)) return kRefused;
       }
       return kTaken;
     }},
    {"event_without_an_offer", kPass,
     [](Bench& b) {
       b.Kick();
       return Serves(b);
     }},
    {"offer_withdrawn", kPass,
     [](Bench& b) {
       const uint16_t index = b.queue().available_index();
       b.queue().Offer(0);
       b.queue().SetAvailableIndex(index);
       b.Kick();
       return Serves(b);
     }},
    {"available_flags_all_ones", kPass,
     [](Bench& b) {
       b.queue().SetAvailableFlags(0xFFFF);
       const Reaction reaction = Serves(b);
       b.queue().SetAvailableFlags(0);
       return reaction;
     }},
    {"used_flags_overwritten", kPass,
     [](Bench& b) {
       b.queue().SetUsedFlags(0xFFFF);
       return Serves(b);
     }},
    {"used_index_overwritten", kPass,
     [](Bench& b) {
       // The device counts for itself, and stores what it has counted.
       b.queue().SetUsedIndex(0x1234);
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       b.Kick();
       b.Try(b.Request(kMsgGetDeviceStatus, 8));
       RawQueue::Used used;
       return b.WaitUsed(&used) && used.id == 0 ? kTaken : kRefused;
     }},
    {"entries_all_wild_but_the_offered", kPass,
     [](Bench& b) {
       for (uint32_t i = 1; i < kSize; ++i) {
         b.queue().Descriptor(i, {UINT64_MAX, UINT32_MAX, 0xFFFF, 0xFFFF});
       }
       return Serves(b);
     }},
    {"descriptors_changed_after_the_offer", kPass,
     [](Bench& b) {
       b.GoodDescriptor(0);
       if (b.Offered(0) == kRefused) return kRefused;
       b.queue().Descriptor(0, {UINT64_MAX, UINT32_MAX, 0xFFFF, 0xFFFF});
       b.Kick();
       return Serves(b);
     }},
};

// --- Chains. ---

Reaction One(Bench& b, const RawQueue::Entry& entry) {
  b.queue().Descriptor(0, entry);
  return b.Offered(0);
}
// An indirect descriptor for a table of `bytes` bytes.
Reaction Table(Bench& b, uint32_t bytes, uint16_t flags = kIndirect) {
  return One(b, {b.queue().table(), bytes, flags, 1});
}
RawQueue::Entry Good(Bench& b, uint16_t flags = kWrite, uint16_t next = 0) {
  return {b.queue().buffer(), 16, flags, next};
}

constexpr Case kChains[] = {
    {"next_past_the_end", kDegraded,
     [](Bench& b) { return One(b, Good(b, kWrite | kNext, kSize)); }},
    {"next_all_ones", kDegraded,
     [](Bench& b) { return One(b, Good(b, kWrite | kNext, 0xFFFF)); }},
    {"next_is_itself", kDegraded,
     [](Bench& b) { return One(b, Good(b, kWrite | kNext, 0)); }},
    {"loop_of_two", kDegraded,
     [](Bench& b) {
       b.queue().Descriptor(1, Good(b, kWrite | kNext, 0));
       return One(b, Good(b, kWrite | kNext, 1));
     }},
    {"loop_behind_a_start", kDegraded,
     [](Bench& b) {
       b.queue().Descriptor(1, Good(b, kWrite | kNext, 2));
       b.queue().Descriptor(2, Good(b, kWrite | kNext, 1));
       return One(b, Good(b, kWrite | kNext, 1));
     }},
    {"chain_of_all_descriptors", kPass,
     [](Bench& b) {
       for (uint16_t i = 0; i < kSize; ++i) {
         const bool last = i + 1 == kSize;
         b.queue().Descriptor(i,
                              Good(b, last ? kWrite : kWrite | kNext, i + 1));
       }
       return b.Offered(0);
     }},
    {"length_0", kDegraded,
     [](Bench& b) {
       return One(b, {b.queue().buffer(), 0, kWrite, 0});
     }},
    {"length_0_behind_a_good_one", kDegraded,
     [](Bench& b) {
       b.queue().Descriptor(1, {b.queue().buffer(), 0, kWrite, 0});
       return One(b, Good(b, kWrite | kNext, 1));
     }},
    {"length_1", kPass,
     [](Bench& b) {
       return One(b, {b.queue().buffer(), 1, kWrite, 0});
     }},
    {"length_all_ones", kDegraded,
     [](Bench& b) {
       return One(b, {b.queue().buffer(), UINT32_MAX, kWrite, 0});
     }},
    {"length_2_gib", kDegraded,
     [](Bench& b) {
       return One(b, {b.queue().buffer(), 0x80000000, kWrite, 0});
     }},
    {"address_0_wraps_below", kDegraded,
     [](Bench& b) {
       return One(b, {UINT64_MAX, 2, kWrite, 0});
     }},
    {"address_all_ones", kDegraded,
     [](Bench& b) {
       return One(b, {UINT64_MAX, 1, kWrite, 0});
     }},
    {"address_and_length_wrap", kDegraded,
     [](Bench& b) {
       return One(b, {0xFFFFFFFFFFFFFF00, UINT32_MAX, kWrite, 0});
     }},
    {"address_above_all_memory", kDegraded,
     [](Bench& b) {
       return One(b, {uint64_t{1} << 52, 16, kWrite, 0});
     }},
    {"address_in_a_fifo_window", kDegraded,
     [](Bench& b) {
       return One(b, {b.windows() + 0x1000, 64, kWrite, 0});
     }},
    {"address_on_a_doorbell", kDegraded,
     [](Bench& b) {
       return One(b, {b.registers() + 0x20, 4, kWrite, 0});
     }},
    {"address_of_the_msix_table", kDegraded,
     [](Bench& b) {
       return One(b, {b.msix_table(), 16, kWrite, 0});
     }},
    {"address_of_the_local_apic", kDegraded,
     [](Bench& b) {
       return One(b, {0xFEE00000, 16, kWrite, 0});
     }},
    {"readable_address_all_ones", kDegraded,
     [](Bench& b) {
       return One(b, {UINT64_MAX, 1, 0, 0});
     }},
    {"nothing_to_write_to", kPass, [](Bench& b) { return One(b, Good(b, 0)); }},
    {"readable_before_writable", kPass,
     [](Bench& b) {
       b.queue().Descriptor(1, Good(b));
       return One(b, Good(b, kNext, 1));
     }},
    {"readable_after_writable", kDegraded,
     [](Bench& b) {
       b.queue().Descriptor(1, Good(b, 0));
       return One(b, Good(b, kWrite | kNext, 1));
     }},
    {"unknown_flags", kPass,
     [](Bench& b) { return One(b, Good(b, kWrite | 0xFFF8)); }},
    {"buffer_is_the_used_ring", kPass,
     [](Bench& b) {
       return One(b, {b.queue().device() + 4, 8 * kSize, kWrite, 0});
     }},
    {"buffer_is_the_descriptor_table", kPass,
     [](Bench& b) {
       return One(b, {b.queue().desc(), 16 * kSize, kWrite, 0});
     }},
    {"same_buffer_in_every_descriptor", kPass,
     [](Bench& b) {
       b.queue().Descriptor(1, Good(b, kWrite | kNext, 2));
       b.queue().Descriptor(2, Good(b));
       return One(b, Good(b, kWrite | kNext, 1));
     }},
    // Indirect tables.
    {"indirect_length_0", kDegraded, [](Bench& b) { return Table(b, 0); }},
    {"indirect_length_15", kDegraded, [](Bench& b) { return Table(b, 15); }},
    {"indirect_length_17", kDegraded,
     [](Bench& b) {
       b.queue().Indirect(0, Good(b));
       return Table(b, 17);
     }},
    {"indirect_length_4_gib", kPass,
     [](Bench& b) {
       // As long as only its first entry is used.
       b.queue().Indirect(0, Good(b));
       return Table(b, 0xFFFFFFF0);
     }},
    {"indirect_with_next", kDegraded,
     [](Bench& b) {
       b.queue().Indirect(0, Good(b));
       return Table(b, 16, kIndirect | kNext);
     }},
    {"indirect_with_write", kPass,
     [](Bench& b) {
       b.queue().Indirect(0, Good(b));
       return Table(b, 16, kIndirect | kWrite);
     }},
    {"indirect_in_indirect", kDegraded,
     [](Bench& b) {
       b.queue().Indirect(0, {b.queue().table(), 16, kIndirect, 0});
       return Table(b, 16);
     }},
    {"indirect_behind_a_buffer", kPass,
     [](Bench& b) {
       b.queue().Indirect(0, Good(b));
       b.queue().Descriptor(1, {b.queue().table(), 16, kIndirect, 0});
       return One(b, Good(b, kWrite | kNext, 1));
     }},
    {"indirect_table_in_a_bar", kDegraded,
     [](Bench& b) {
       return One(b, {b.windows(), 16, kIndirect, 0});
     }},
    {"indirect_table_wraps", kDegraded,
     [](Bench& b) {
       return One(b, {0xFFFFFFFFFFFFFFF0, 64, kIndirect, 0});
     }},
    {"indirect_table_is_the_ring", kDegraded,
     [](Bench& b) {
       return One(b, {b.queue().desc(), 16 * kSize, kIndirect, 0});
     }},
    {"indirect_next_past_the_end", kDegraded,
     [](Bench& b) {
       b.queue().Indirect(0, Good(b, kWrite | kNext, 2));
       return Table(b, 32);
     }},
    {"indirect_loop", kDegraded,
     [](Bench& b) {
       b.queue().Indirect(0, Good(b, kWrite | kNext, 1));
       b.queue().Indirect(1, Good(b, kWrite | kNext, 0));
       return Table(b, 32);
     }},
    {"indirect_longer_than_the_queue", kDegraded,
     [](Bench& b) {
       for (uint16_t i = 0; i <= kSize; ++i) {
         b.queue().Indirect(
             i, Good(b, i == kSize ? kWrite : kWrite | kNext, i + 1));
       }
       return Table(b, 16 * (kSize + 1));
     }},
    {"indirect_as_long_as_the_queue", kPass,
     [](Bench& b) {
       for (uint16_t i = 0; i < kSize; ++i) {
         b.queue().Indirect(
             i, Good(b, i + 1 == kSize ? kWrite : kWrite | kNext, i + 1));
       }
       return Table(b, 16 * kSize);
     }},
    {"indirect_not_negotiated", kDegraded,
     [](Bench& b) {
       b.StopAt(kStatusAcknowledge | kStatusDriver);
       b.WriteFeatures(0, 0);
       b.WriteFeatures(1, 1);
       constexpr uint32_t kFeatured =
           kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk;
       b.SetStatus(kFeatured);
       b.queue().Clear();
       b.SetQueue(b.queue().settings());
       b.SetStatus(kFeatured | kStatusDriverOk);
       if (!b.Serves()) b.Fail("set-up");
       b.queue().Indirect(0, Good(b));
       return Table(b, 16);
     }},
};

}  // namespace

constinit const std::span<const Case> kRingCases = kRings;
constinit const std::span<const Case> kDescriptorCases = kChains;

}  // namespace vmsg::guest
