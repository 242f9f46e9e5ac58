// What the rings say of notifications, the order of use, and the position in
// EVENT_AVAIL. Source: virtio 1.2, 2.7.7 to 2.7.10 and 2.8.10;
// virtio-msg-messages, EVENT_AVAIL.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr uint32_t kSize = RawQueue::kSize;
constexpr uint16_t kWrite = RawQueue::kWrite;

constexpr Features kSplit = Features::Of(kFeatureVersion1);
constexpr Features kPacked = kSplit.With(kFeatureRingPacked);

void Start(Bench& b, const Features& features) {
  if (!b.StartWith(features)) b.Fail("set-up");
  Packet packet;
  while (b.Receive(&packet)) continue;
}

// Behind the entries of the rings, with EVENT_IDX.
void SetUsedEvent(Bench& b, uint16_t index) {
  StoreRelease<uint16_t>(b.queue().available_bytes() + 4 + size_t{2} * kSize,
                         index);
}
void SetAvailEvent(Bench& b, uint16_t index) {
  StoreRelease<uint16_t>(b.queue().used_bytes() + 4 + size_t{8} * kSize, index);
}

// With the driver's event area like this, a request is served.
Reaction Served(Bench& b, const Features& features, uint16_t position,
                uint16_t flags) {
  Start(b, features);
  b.packed().SetDriverEvent(position, flags);
  return b.Serves() ? kTaken : kRefused;
}
// And the driver hears of it: what makes no sense may cost no event.
Reaction Told(Bench& b, const Features& features, uint16_t position,
              uint16_t flags) {
  Start(b, features);
  b.packed().SetDriverEvent(position, flags);
  b.packed().Offer({b.queue().buffer(), 16, 1, kWrite});
  b.Kick();
  return b.IsTold() ? b.ComesBack(1) : kRefused;
}

// EVENT_AVAIL with some position; what counts is what the ring says.
Reaction Position(Bench& b, const Features& features, uint32_t position) {
  Start(b, features.With(kFeatureNotificationData));
  if (features.Has(kFeatureRingPacked)) {
    b.packed().Offer({b.queue().buffer(), 16, 0, kWrite});
  } else {
    b.GoodDescriptor(0);
    b.queue().Offer(0);
  }
  b.Send(b.Request(kMsgEventAvail, 16).U32(12, position));
  return b.ComesBack(0);
}
// The same with nothing offered.
Reaction PositionOfNothing(Bench& b, const Features& features,
                           uint32_t position) {
  Start(b, features.With(kFeatureNotificationData));
  b.Send(b.Request(kMsgEventAvail, 16).U32(12, position));
  return b.Ignored();
}

constexpr Features kPackedIdx = kPacked.With(kFeatureEventIdx);
constexpr Features kSplitIdx = kSplit.With(kFeatureEventIdx);
constexpr uint32_t kWrap = 0x80000000;

constexpr Case kCases[] = {
    // Packed.
    {"packed_disabled", kPass,
     [](Bench& b) { return Served(b, kPacked, 0, RawPackedQueue::kDisable); }},
    {"packed_flags_3", kPass,
     [](Bench& b) { return Told(b, kPacked, 0, RawPackedQueue::kReserved); }},
    {"packed_reserved_flag_bits", kPass,
     [](Bench& b) { return Told(b, kPacked, 0, 0xFFFC); }},
    {"packed_flags_all_ones", kPass,
     [](Bench& b) { return Told(b, kPackedIdx, 0xFFFF, 0xFFFF); }},
    {"packed_position_without_the_feature", kPass,
     [](Bench& b) { return Told(b, kPacked, 5, RawPackedQueue::kAtPosition); }},
    {"packed_position_past_the_end", kPass,
     [](Bench& b) {
       return Told(b, kPackedIdx, kSize, RawPackedQueue::kAtPosition);
     }},
    {"packed_position_all_ones", kPass,
     [](Bench& b) {
       return Told(b, kPackedIdx, 0xFFFF, RawPackedQueue::kAtPosition);
     }},
    {"packed_position_of_the_other_turn", kPass,
     [](Bench& b) {
       return Served(b, kPackedIdx, 1, RawPackedQueue::kAtPosition);
     }},
    {"packed_device_event_all_ones", kPass,
     [](Bench& b) {
       Start(b, kPackedIdx);
       b.packed().SetDeviceEvent(0xFFFF, 0xFFFF);
       return b.Serves() ? kTaken : kRefused;
     }},
    // Split.
    {"used_event_behind", kPass,
     [](Bench& b) {
       Start(b, kSplitIdx);
       SetUsedEvent(b, 0x8000);
       return b.Serves() ? kTaken : kRefused;
     }},
    {"used_event_all_ones", kPass,
     [](Bench& b) {
       Start(b, kSplitIdx);
       SetUsedEvent(b, 0xFFFF);
       return b.Serves() ? kTaken : kRefused;
     }},
    {"avail_event_overwritten", kPass,
     [](Bench& b) {
       Start(b, kSplitIdx);
       SetAvailEvent(b, 0x1234);
       return b.Serves() ? kTaken : kRefused;
     }},
    {"available_flags_with_event_index", kPass,
     [](Bench& b) {
       // The flag means nothing then: the driver is told.
       Start(b, kSplitIdx);
       b.queue().SetAvailableFlags(0xFFFF);
       SetUsedEvent(b, 1);
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       b.Kick();
       return b.IsTold() ? b.ComesBack(0) : kRefused;
     }},
    {"index_one_too_far_with_event_index", kDegraded,
     [](Bench& b) {
       Start(b, kSplitIdx);
       b.queue().SetAvailableIndex(
           static_cast<uint16_t>(b.queue().available_index() + kSize + 1));
       return b.Ignored();
     }},
    // In order.
    {"in_order_split_heads_in_no_order", kPass,
     [](Bench& b) {
       Start(b, kSplit.With(kFeatureInOrder));
       for (const uint16_t head : {uint16_t{5}, uint16_t{2}, uint16_t{7}}) {
         b.GoodDescriptor(head);
         b.queue().Offer(head);
       }
       b.Kick();
       return b.ComesBack(5) == kTaken && b.ComesBack(2) == kTaken
                  ? b.ComesBack(7)
                  : kRefused;
     }},
    {"in_order_packed_ids_in_no_order", kPass,
     [](Bench& b) {
       Start(b, kPacked.With(kFeatureInOrder));
       for (const uint16_t id : {uint16_t{5}, uint16_t{2}, uint16_t{0xFFFF}}) {
         b.packed().Offer({b.queue().buffer(), 16, id, kWrite});
       }
       b.Kick();
       return b.ComesBack(5) == kTaken && b.ComesBack(2) == kTaken
                  ? b.ComesBack(0xFFFF)
                  : kRefused;
     }},
    {"in_order_same_head_all_the_time", kPass,
     [](Bench& b) {
       Start(b, kSplit.With(kFeatureInOrder));
       b.GoodDescriptor(0);
       for (uint32_t i = 0; i < kSize; ++i) b.queue().Offer(0);
       b.Kick();
       for (uint32_t i = 0; i < kSize; ++i) {
         if (b.ComesBack(0) == kRefused) return kRefused;
       }
       return kTaken;
     }},
    {"in_order_chain_that_breaks", kDegraded,
     [](Bench& b) {
       Start(b, kPacked.With(kFeatureInOrder));
       b.packed().Offer({b.queue().buffer(), 16, 1, kWrite});
       b.packed().Offer({UINT64_MAX, 16, 2, kWrite});
       b.Kick();
       return b.ComesBack(1) == kTaken ? b.ComesBack(2) : kRefused;
     }},
    // The position in EVENT_AVAIL.
    {"avail_packed_position_past_the_end", kPass,
     [](Bench& b) { return Position(b, kPacked, kWrap | kSize); }},
    {"avail_packed_position_all_ones", kPass,
     [](Bench& b) { return Position(b, kPacked, UINT32_MAX); }},
    {"avail_packed_wrap_of_the_other_turn", kPass,
     [](Bench& b) { return Position(b, kPacked, 2); }},
    {"avail_packed_position_behind", kPass,
     [](Bench& b) { return Position(b, kPacked, kWrap); }},
    {"avail_packed_position_ahead_of_the_ring", kReject,
     [](Bench& b) { return PositionOfNothing(b, kPacked, kWrap | 5); }},
    {"avail_split_position_far_ahead", kPass,
     [](Bench& b) { return Position(b, kSplit, 0x8000); }},
    {"avail_split_position_past_16_bits", kPass,
     [](Bench& b) { return Position(b, kSplit, 0x10000); }},
    {"avail_split_position_with_a_wrap", kPass,
     [](Bench& b) { return Position(b, kSplit, kWrap | 2); }},
    {"avail_split_position_ahead_of_the_ring", kReject,
     [](Bench& b) { return PositionOfNothing(b, kSplit, kSize); }},
};

}  // namespace

constinit const std::span<const Case> kEventCases = kCases;

}  // namespace vmsg::guest
