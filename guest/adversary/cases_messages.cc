// Every field of every message at its edges. Source: virtio-msg-messages, 4
// to 6.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr uint32_t kMax = UINT32_MAX;
// Looks like index 0 to who keeps 16 bits of it.
constexpr uint32_t kZeroIn16Bits = 0x10000;
// What a 64-byte message carries.
constexpr uint32_t kFeatureWords = 12;

// GET_DEVICE_FEATURES; refused when it is answered without a bit set.
Reaction GetFeatures(Bench& b, uint32_t block, uint32_t count) {
  const Packet* const answer = b.Exchange(
      b.Request(kMsgGetDeviceFeatures, 16).U32(8, block).U32(12, count));
  if (answer == nullptr) {
    b.Fail("no-answer");
    return kRefused;
  }
  const uint64_t words = RawMessage::Get(*answer, 12, 4);
  if (words > kFeatureWords || words > count ||
      RawMessage::Get(*answer, 6, 2) != 16 + 4 * words) {
    b.Fail("bad-answer");
    return kTaken;
  }
  uint64_t bits = 0;
  for (size_t i = 0; i < words; ++i) {
    bits |= RawMessage::Get(*answer, 16 + 4 * i, 4);
  }
  return bits != 0 ? kTaken : kRefused;
}

RawMessage SetFeatures(Bench& b, uint32_t block, uint32_t count,
                       uint16_t size) {
  return b.Request(kMsgSetDriverFeatures, size).U32(8, block).U32(12, count);
}

// Refused when the answer says that no byte was read.
Reaction GetConfig(Bench& b, uint32_t offset, uint32_t length) {
  return b.AnswersZero(
      b.Request(kMsgGetConfig, 16).U32(8, offset).U32(12, length), 16, 4);
}

RawMessage SetConfig(Bench& b, uint32_t generation, uint32_t offset,
                     uint32_t length, uint16_t size) {
  return b.Request(kMsgSetConfig, size)
      .U32(8, generation)
      .U32(12, offset)
      .U32(16, length);
}
Reaction ConfigWritten(Bench& b, const RawMessage& message) {
  return b.AnswersZero(message, 16, 4);
}

// Refused when everything but the index reads 0.
Reaction GetQueue(Bench& b, uint32_t index) {
  return b.AnswersZero(b.Request(kMsgGetVqueue, 12).U32(8, index), 12, 36);
}

// Refused when queue 0 stays as it is.
Reaction QueueStays(Bench& b, const RawMessage& message) {
  const Vqueue before = b.GetQueue(0);
  if (b.Exchange(message) == nullptr) b.Fail("no-answer");
  const Vqueue after = b.GetQueue(0);
  return after.size == before.size && after.desc == before.desc &&
                 after.driver == before.driver && after.device == before.device
             ? kRefused
             : kTaken;
}
Reaction ResetQueue(Bench& b, uint32_t index) {
  return QueueStays(b, b.Request(kMsgResetVqueue, 12).U32(8, index));
}

Reaction GetShm(Bench& b, uint32_t index) {
  return b.AnswersZero(b.Request(kMsgGetShm, 12).U32(8, index), 12, 8);
}

// A chain waits; refused when this event does not get it served.
Reaction Avail(Bench& b, uint32_t index, uint32_t next) {
  b.GoodDescriptor(0);
  b.queue().Offer(0);
  if (b.Try(b.Request(kMsgEventAvail, 16).U32(8, index).U32(12, next)) ==
      kTaken) {
    b.Fail("answer-to-event");
  }
  RawQueue::Used used;
  if (b.queue().Take(&used)) return kTaken;
  b.Kick();
  if (!b.WaitUsed(&used)) b.Fail("not-served");
  return kRefused;
}

// GET_DEVICES; refused when it gets no answer, or one without a device.
Reaction GetDevices(Bench& b, uint16_t offset, uint16_t count) {
  const Packet* const answer =
      b.Exchange(b.OnBus(kBusMsgGetDevices, 12).U16(8, offset).U16(10, count));
  if (answer == nullptr) return kRefused;
  DeviceWindow window;
  if (!DecodeDevices(answer->bytes, &window) || window.offset != offset ||
      window.count > count) {
    b.Fail("bad-answer");
    return kTaken;
  }
  for (const std::byte byte : window.bitmap) {
    if (byte != std::byte{0}) return kTaken;
  }
  return kRefused;
}

Reaction Ping(Bench& b, uint32_t data) {
  const Packet* const answer =
      b.Exchange(b.OnBus(kBusMsgPing, 12).U32(8, data));
  return answer != nullptr && RawMessage::Get(*answer, 8, 4) == data ? kTaken
                                                                     : kRefused;
}

constexpr Case kCases[] = {
    {"get_info_with_surplus", kPass,
     [](Bench& b) {
       return b.Try(b.Request(kMsgGetDeviceInfo, 64).U64(8, UINT64_MAX));
     }},
    {"get_features_past_the_end", kReject,
     [](Bench& b) { return GetFeatures(b, 4, 1); }},
    {"get_features_last_block", kReject,
     [](Bench& b) { return GetFeatures(b, kMax, 1); }},
    {"get_features_wraps", kReject,
     [](Bench& b) { return GetFeatures(b, kMax, 2); }},
    {"get_features_all_ones", kReject,
     [](Bench& b) { return GetFeatures(b, kMax - 12, kMax); }},
    {"get_features_none", kReject,
     [](Bench& b) { return GetFeatures(b, 0, 0); }},
    {"get_features_more_than_fit", kPass,
     [](Bench& b) { return GetFeatures(b, 0, kFeatureWords + 1); }},
    {"get_features_4_billion", kPass,
     [](Bench& b) { return GetFeatures(b, 0, kMax); }},
    {"set_features_more_than_sent", kReject,
     [](Bench& b) { return b.Try(SetFeatures(b, 0, 2, 20)); }},
    {"set_features_more_than_fit", kReject,
     [](Bench& b) { return b.Try(SetFeatures(b, 0, kFeatureWords + 1, 64)); }},
    {"set_features_count_wraps", kReject,
     [](Bench& b) { return b.Try(SetFeatures(b, 0, 0x40000000, 64)); }},
    {"set_features_count_all_ones", kReject,
     [](Bench& b) { return b.Try(SetFeatures(b, 0, kMax, 64)); }},
    {"set_features_none", kPass,
     [](Bench& b) { return b.Try(SetFeatures(b, 0, 0, 16)); }},
    {"get_config_none", kReject, [](Bench& b) { return GetConfig(b, 0, 0); }},
    {"get_config_past_the_end", kReject,
     [](Bench& b) { return GetConfig(b, 0, 1); }},
    {"get_config_whole_message", kReject,
     [](Bench& b) { return GetConfig(b, 0, 44); }},
    {"get_config_more_than_fits", kReject,
     [](Bench& b) { return GetConfig(b, 0, 45); }},
    {"get_config_4_billion", kReject,
     [](Bench& b) { return GetConfig(b, 0, kMax); }},
    {"get_config_far_away", kReject,
     [](Bench& b) { return GetConfig(b, kMax, 1); }},
    {"get_config_wraps", kReject,
     [](Bench& b) { return GetConfig(b, kMax, kMax); }},
    {"get_config_wraps_to_0", kReject,
     [](Bench& b) { return GetConfig(b, 0xFFFFFFF0, 0x10); }},
    {"set_config_none", kReject,
     [](Bench& b) { return ConfigWritten(b, SetConfig(b, 0, 0, 0, 20)); }},
    {"set_config_past_the_end", kReject,
     [](Bench& b) { return ConfigWritten(b, SetConfig(b, 0, 0, 1, 21)); }},
    {"set_config_whole_message", kReject,
     [](Bench& b) { return ConfigWritten(b, SetConfig(b, 0, 0, 44, 64)); }},
    {"set_config_far_away", kReject,
     [](Bench& b) { return ConfigWritten(b, SetConfig(b, 0, kMax, 1, 21)); }},
    {"set_config_wraps", kReject,
     [](Bench& b) {
       return ConfigWritten(b, SetConfig(b, 0, 0xFFFFFFF0, 0x10, 36));
     }},
    {"set_config_stale_generation", kReject,
     [](Bench& b) { return ConfigWritten(b, SetConfig(b, kMax, 0, 1, 21)); }},
    {"set_config_more_than_sent", kReject,
     [](Bench& b) { return b.Try(SetConfig(b, 0, 0, 2, 21)); }},
    {"set_config_more_than_fits", kReject,
     [](Bench& b) { return b.Try(SetConfig(b, 0, 0, 45, 64)); }},
    {"set_config_4_billion", kReject,
     [](Bench& b) { return b.Try(SetConfig(b, 0, 0, kMax, 64)); }},
    {"get_queue_past_the_end", kReject,
     [](Bench& b) { return GetQueue(b, 1); }},
    {"get_queue_0x10000", kReject,
     [](Bench& b) { return GetQueue(b, kZeroIn16Bits); }},
    {"get_queue_0xffff", kReject, [](Bench& b) { return GetQueue(b, 0xFFFF); }},
    {"get_queue_all_ones", kReject, [](Bench& b) { return GetQueue(b, kMax); }},
    {"reset_queue_past_the_end", kReject,
     [](Bench& b) { return ResetQueue(b, 1); }},
    {"reset_queue_0x10000", kReject,
     [](Bench& b) { return ResetQueue(b, kZeroIn16Bits); }},
    {"reset_queue_all_ones", kReject,
     [](Bench& b) { return ResetQueue(b, kMax); }},
    {"get_shm_0", kReject, [](Bench& b) { return GetShm(b, 0); }},
    {"get_shm_255", kReject, [](Bench& b) { return GetShm(b, 255); }},
    {"get_shm_256", kReject, [](Bench& b) { return GetShm(b, 256); }},
    {"get_shm_all_ones", kReject, [](Bench& b) { return GetShm(b, kMax); }},
    {"avail_past_the_end", kReject, [](Bench& b) { return Avail(b, 1, 0); }},
    {"avail_0x10000", kReject,
     [](Bench& b) { return Avail(b, kZeroIn16Bits, 0); }},
    {"avail_64", kReject, [](Bench& b) { return Avail(b, 64, 0); }},
    {"avail_all_ones", kReject, [](Bench& b) { return Avail(b, kMax, 0); }},
    {"avail_offset_all_ones", kPass,
     [](Bench& b) { return Avail(b, 0, kMax); }},
    {"avail_offset_that_lies", kPass,
     [](Bench& b) { return Avail(b, 0, 0x7FFF); }},
    {"get_devices_unaligned_offset", kReject,
     [](Bench& b) { return GetDevices(b, 1, 8); }},
    {"get_devices_unaligned_count", kReject,
     [](Bench& b) { return GetDevices(b, 0, 31); }},
    {"get_devices_none", kReject, [](Bench& b) { return GetDevices(b, 0, 0); }},
    {"get_devices_past_the_end", kReject,
     [](Bench& b) { return GetDevices(b, 32, 32); }},
    {"get_devices_last", kReject,
     [](Bench& b) { return GetDevices(b, 0xFFF8, 8); }},
    {"get_devices_wraps", kReject,
     [](Bench& b) { return GetDevices(b, 0xFFF8, 0xFFF8); }},
    {"get_devices_too_many", kPass,
     [](Bench& b) { return GetDevices(b, 0, 0xFFF8); }},
    {"ping_0", kPass, [](Bench& b) { return Ping(b, 0); }},
    {"ping_all_ones", kPass, [](Bench& b) { return Ping(b, kMax); }},
};

}  // namespace

constinit const std::span<const Case> kMessageCases = kCases;

}  // namespace vmsg::guest
