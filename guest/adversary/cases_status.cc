// The status in any order, and features that are none. Source:
// virtio-msg-messages, 6.6 and 6.7; virtio 1.2, 2.1, 2.2 and 3.1.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr uint32_t kFound = kStatusAcknowledge | kStatusDriver;
constexpr uint32_t kFeatured = kFound | kStatusFeaturesOk;
constexpr uint32_t kRunning = kFeatured | kStatusDriverOk;
constexpr auto kStopped = Leaves::kStopped;

// Goes to `from` as a good driver; then sets `status`. Taken when the device
// has all of `bits` then.
Reaction From(Bench& b, uint32_t from, uint32_t status, uint32_t bits) {
  if (!b.StopAt(from)) b.Fail("set-up");
  return (b.SetStatus(status) & bits) == bits ? kTaken : kRefused;
}

// With a device that runs: refused when the status stays what it is.
Reaction Running(Bench& b, uint32_t status) {
  return b.SetStatus(status) == kRunning ? kRefused : kTaken;
}

constexpr Case kStatus[] = {
    {"driver_ok_first", kReject,
     [](Bench& b) { return From(b, 0, kStatusDriverOk, kStatusDriverOk); },
     kStopped},
    {"driver_ok_before_features_ok", kReject,
     [](Bench& b) {
       return From(b, kFound, kFound | kStatusDriverOk, kStatusDriverOk);
     },
     kStopped},
    {"features_ok_first", kReject,
     [](Bench& b) { return From(b, 0, kStatusFeaturesOk, kStatusFeaturesOk); },
     kStopped},
    {"features_ok_without_driver", kReject,
     [](Bench& b) {
       return From(b, kStatusAcknowledge,
                   kStatusAcknowledge | kStatusFeaturesOk, kStatusFeaturesOk);
     },
     kStopped},
    {"features_ok_without_features", kReject,
     [](Bench& b) { return From(b, kFound, kFeatured, kStatusFeaturesOk); },
     kStopped},
    {"driver_before_acknowledge", kPass,
     [](Bench& b) { return From(b, 0, kStatusDriver, kStatusDriver); },
     kStopped},
    {"everything_at_once_without_features", kReject,
     [](Bench& b) {
       b.StopAt(kFound);
       return (b.SetStatus(kRunning) & (kStatusFeaturesOk | kStatusDriverOk)) ==
                      0
                  ? kRefused
                  : kTaken;
     },
     kStopped},
    {"features_ok_and_driver_ok_at_once", kPass,
     [](Bench& b) {
       b.StopAt(kFound);
       b.WriteFeatures(1, 1);
       return b.SetStatus(kRunning) == kRunning ? kTaken : kRefused;
     },
     kStopped},
    {"driver_ok_without_a_queue", kPass,
     [](Bench& b) { return From(b, kFeatured, kRunning, kRunning); }, kStopped},
    {"needs_reset_from_the_driver", kReject,
     [](Bench& b) { return Running(b, kRunning | kStatusNeedsReset); }},
    {"reserved_bits", kReject,
     [](Bench& b) { return Running(b, kRunning | 0x30); }},
    {"bits_taken_back", kReject,
     [](Bench& b) { return Running(b, kStatusAcknowledge); }},
    {"driver_ok_taken_back", kReject,
     [](Bench& b) { return Running(b, kFeatured); }},
    {"driver_ok_again", kReject, [](Bench& b) { return Running(b, kRunning); }},
    {"upper_bits_ignored", kReject,
     [](Bench& b) { return Running(b, 0xFFFFFF00 | kRunning); }},
    {"upper_bits_only_is_a_reset", kPass,
     [](Bench& b) {
       if (!b.StopAt(kFound)) b.Fail("set-up");
       return b.SetStatus(0xFFFFFF00) == 0 ? kTaken : kRefused;
     },
     kStopped},
    {"failed_while_running", kDegraded,
     [](Bench& b) { return Running(b, kRunning | kStatusFailed); }},
    {"all_ones", kDegraded, [](Bench& b) { return Running(b, UINT32_MAX); }},
    {"driver_ok_after_failed", kReject,
     [](Bench& b) {
       b.StopAt(kFeatured);
       b.SetStatus(kFeatured | kStatusFailed);
       b.Mark();
       return (b.SetStatus(kRunning | kStatusFailed) & kStatusDriverOk) != 0
                  ? kTaken
                  : kRefused;
     },
     kStopped},
    {"reset_twice", kPass,
     [](Bench& b) {
       return b.SetStatus(0) == 0 && b.SetStatus(0) == 0 ? kTaken : kRefused;
     },
     kStopped},
    {"reset_with_a_chain_offered", kPass,
     [](Bench& b) {
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       return b.SetStatus(0) == 0 ? kTaken : kRefused;
     },
     kStopped},
    {"reset_behind_an_event", kPass,
     [](Bench& b) {
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       b.Kick();
       return b.SetStatus(0) == 0 ? kTaken : kRefused;
     },
     kStopped},
    {"requests_behind_a_reset", kPass,
     [](Bench& b) {
       // Sent at once: each waits for the one before, and is answered.
       constexpr uint32_t kCount = 12;
       for (uint32_t i = 0; i < kCount; ++i) {
         b.Post(b.Request(kMsgSetDeviceStatus, 12).U32(8, i % 3));
       }
       b.Ring();
       return b.Collect(kCount) == kCount ? kTaken : kRefused;
     },
     kStopped},
    {"lost_by_a_reset", kDegraded,
     [](Bench& b) { return b.SetStatus(0) == 0 ? kTaken : kRefused; }},
    {"avail_before_driver_ok", kReject,
     [](Bench& b) {
       b.StopAt(kFeatured);
       b.queue().Clear();
       b.SetQueue(b.queue().settings());
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       b.Mark();
       b.Try(b.Request(kMsgEventAvail, 16));
       RawQueue::Used used;
       return b.queue().Take(&used) ? kTaken : kRefused;
     },
     kStopped},
    {"avail_after_a_reset", kReject,
     [](Bench& b) {
       b.StopAt(0);
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       b.Try(b.Request(kMsgEventAvail, 16));
       RawQueue::Used used;
       return b.queue().Take(&used) ? kTaken : kRefused;
     },
     kStopped},
};

// Asks for `word` of block `block` besides VERSION_1 (or without it); taken
// when FEATURES_OK comes.
Reaction Features(Bench& b, uint32_t block, uint32_t word, bool version_1) {
  if (!b.StopAt(kFound)) b.Fail("set-up");
  if (version_1) b.WriteFeatures(1, 1);
  if (!b.WriteFeatures(block, word)) b.Fail("no-answer");
  b.Mark();
  return (b.SetStatus(kFeatured) & kStatusFeaturesOk) != 0 ? kTaken : kRefused;
}

constexpr Case kFeatures[] = {
    {"without_version_1", kReject,
     [](Bench& b) { return Features(b, 0, 0, false); }, kStopped},
    {"device_bit_that_is_not_offered", kReject,
     [](Bench& b) { return Features(b, 0, 1, true); }, kStopped},
    {"every_bit_of_block_0", kReject,
     [](Bench& b) { return Features(b, 0, UINT32_MAX, true); }, kStopped},
    {"every_bit_of_block_1", kReject,
     [](Bench& b) { return Features(b, 1, UINT32_MAX, true); }, kStopped},
    {"admin_queues", kReject,
     [](Bench& b) { return Features(b, 1, 1 | 1 << 9, true); }, kStopped},
    {"notif_config_data", kReject,
     [](Bench& b) { return Features(b, 1, 1 | 1 << 7, true); }, kStopped},
    {"bit_95", kReject,
     [](Bench& b) { return Features(b, 2, 0x80000000, true); }, kStopped},
    {"bit_127", kReject,
     [](Bench& b) { return Features(b, 3, 0x80000000, true); }, kStopped},
    {"bit_of_block_100", kReject,
     [](Bench& b) { return Features(b, 100, 1, true); }, kStopped},
    {"bit_of_the_last_block", kReject,
     [](Bench& b) { return Features(b, UINT32_MAX, 1, true); }, kStopped},
    {"blocks_that_wrap_to_0", kReject,
     [](Bench& b) {
       b.StopAt(kFound);
       // The last word is for the second block behind the last: it is not
       // VERSION_1, as in block 1.
       if (b.Exchange(b.Request(kMsgSetDriverFeatures, 32)
                          .U32(8, UINT32_MAX - 1)
                          .U32(12, 4)
                          .U32(28, 1)) == nullptr) {
         b.Fail("no-answer");
       }
       b.Mark();
       return (b.SetStatus(kFeatured) & kStatusFeaturesOk) != 0 ? kTaken
                                                                : kRefused;
     },
     kStopped},
    {"asked_for_and_taken_back", kPass,
     [](Bench& b) {
       b.StopAt(kFound);
       b.WriteFeatures(0, 1);
       return Features(b, 0, 0, true);
     },
     kStopped},
    {"refused_then_corrected", kPass,
     [](Bench& b) {
       if (Features(b, 3, 1, true) == kTaken) b.Fail("unknown-bit-taken");
       b.WriteFeatures(3, 0);
       return (b.SetStatus(kFeatured) & kStatusFeaturesOk) != 0 ? kTaken
                                                                : kRefused;
     },
     kStopped},
    {"changed_after_features_ok", kReject,
     [](Bench& b) {
       // VERSION_1 stays: without it there would be no DRIVER_OK.
       b.StopAt(kFeatured);
       if (!b.WriteFeatures(1, 0)) b.Fail("no-answer");
       if (b.SetStatus(kFeatured) != kFeatured) return kTaken;
       return kRefused;
     },
     kStopped},
    {"changed_while_running", kReject,
     [](Bench& b) {
       b.WriteFeatures(0, 0);
       if (!b.WriteFeatures(1, 0)) b.Fail("no-answer");
       return b.Status() == kRunning ? kRefused : kTaken;
     }},
    {"written_before_driver", kPass,
     [](Bench& b) {
       b.StopAt(0);
       b.WriteFeatures(1, 1);
       b.SetStatus(kStatusAcknowledge);
       b.SetStatus(kFound);
       return b.SetStatus(kFeatured) == kFeatured ? kTaken : kRefused;
     },
     kStopped},
};

}  // namespace

constinit const std::span<const Case> kStatusCases = kStatus;
constinit const std::span<const Case> kFeatureCases = kFeatures;

}  // namespace vmsg::guest
