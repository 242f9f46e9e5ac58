// Headers of messages that are no messages, or not for a driver to send.
// Source: virtio-msg-messages, 2 and 3.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr uint8_t kPing = kBusMsgPing;

RawMessage GetStatus(Bench& b) { return b.Request(kMsgGetDeviceStatus, 8); }

// One byte less than the id asks for.
template <uint8_t kId, uint16_t kBytes>
Reaction Short(Bench& b) {
  return b.Try(b.Request(kId, kBytes - 1));
}
template <uint8_t kId>
Reaction Transport(Bench& b) {
  return b.Try(b.Request(kId, 64));
}
template <uint8_t kId>
Reaction Bus(Bench& b) {
  return b.Try(b.OnBus(kId, 64));
}
template <uint16_t kNumber>
Reaction Device(Bench& b) {
  return b.Try(GetStatus(b).Device(kNumber));
}

// What is nearly an EVENT_AVAIL: whether a chain that waits is served by it.
Reaction ServesBy(Bench& b, const RawMessage& event) {
  b.GoodDescriptor(0);
  b.queue().Offer(0);
  if (b.Try(event) == kTaken) return kTaken;
  RawQueue::Used used;
  if (b.queue().Take(&used)) return kTaken;
  b.Kick();
  if (!b.WaitUsed(&used)) b.Fail("not-served");
  return kRefused;
}

constexpr Case kCases[] = {
    // Sizes.
    {"size_0", kReject, [](Bench& b) { return b.Try(GetStatus(b).Size(0)); }},
    {"size_1", kReject, [](Bench& b) { return b.Try(GetStatus(b).Size(1)); }},
    {"size_7", kReject, [](Bench& b) { return b.Try(GetStatus(b).Size(7)); }},
    {"size_65", kReject, [](Bench& b) { return b.Try(GetStatus(b).Size(65)); }},
    {"size_0x8008", kReject,
     [](Bench& b) { return b.Try(GetStatus(b).Size(0x8008)); }},
    {"size_all_ones", kReject,
     [](Bench& b) { return b.Try(GetStatus(b).Size(0xFFFF)); }},
    {"size_with_surplus", kPass,
     [](Bench& b) { return b.Try(GetStatus(b).Size(64)); }},
    {"size_odd_with_surplus", kPass,
     [](Bench& b) { return b.Try(GetStatus(b).Size(9)); }},
    {"short_get_features", kReject, Short<kMsgGetDeviceFeatures, 16>},
    {"short_set_features", kReject, Short<kMsgSetDriverFeatures, 16>},
    {"short_get_config", kReject, Short<kMsgGetConfig, 16>},
    {"short_set_config", kReject, Short<kMsgSetConfig, 20>},
    {"short_set_status", kReject, Short<kMsgSetDeviceStatus, 12>},
    {"short_get_vqueue", kReject, Short<kMsgGetVqueue, 12>},
    {"short_set_vqueue", kReject, Short<kMsgSetVqueue, 48>},
    {"short_reset_vqueue", kReject, Short<kMsgResetVqueue, 12>},
    {"short_get_shm", kReject, Short<kMsgGetShm, 12>},
    {"short_event_avail", kReject,
     [](Bench& b) { return ServesBy(b, b.Request(kMsgEventAvail, 15)); }},
    {"short_get_devices", kReject,
     [](Bench& b) { return b.Try(b.OnBus(kBusMsgGetDevices, 11)); }},
    {"short_ping", kReject, [](Bench& b) { return b.Try(b.OnBus(kPing, 11)); }},
    // Types.
    {"type_reserved_bits", kPass,
     [](Bench& b) { return b.Try(GetStatus(b).Type(0xFC)); }},
    {"type_response", kReject,
     [](Bench& b) { return b.Try(GetStatus(b).Type(1)); }},
    {"type_response_of_every_request", kReject,
     [](Bench& b) {
       for (uint8_t id = kMsgGetDeviceInfo; id <= kMsgGetShm; ++id) {
         if (b.Try(b.Request(id, 64).Type(1)) == kTaken) return kTaken;
       }
       return kRefused;
     }},
    {"type_response_of_get_devices", kReject,
     [](Bench& b) { return b.Try(b.OnBus(kBusMsgGetDevices, 12).Type(3)); }},
    {"type_all_ones", kReject,
     [](Bench& b) { return b.Try(GetStatus(b).Type(0xFF)); }},
    {"ping_answer_to_no_ping", kReject,
     [](Bench& b) { return b.Try(b.OnBus(kPing, 12).Type(3).U32(8, 9)); }},
    {"event_with_response_bit", kReject,
     [](Bench& b) {
       return ServesBy(b, b.Request(kMsgEventAvail, 16).Type(1));
     }},
    // Ids.
    {"id_0x00", kReject, Transport<0x00>},
    {"id_0x01", kReject, Transport<0x01>},
    {"id_0x0d", kReject, Transport<0x0D>},
    {"id_0x3f", kReject, Transport<0x3F>},
    {"id_0x43", kReject, Transport<0x43>},
    {"id_0x7f", kReject, Transport<0x7F>},
    {"id_0x80", kReject, Transport<0x80>},
    {"id_0xbf", kReject, Transport<0xBF>},
    {"id_0xc0", kReject, Transport<0xC0>},
    {"id_0xff", kReject, Transport<0xFF>},
    {"event_config_from_the_driver", kReject, Transport<kMsgEventConfig>},
    {"event_used_from_the_driver", kReject, Transport<kMsgEventUsed>},
    {"bus_id_0x00", kReject, Bus<0x00>},
    {"bus_id_0x01", kReject, Bus<0x01>},
    {"bus_id_0x04", kReject, Bus<0x04>},
    {"bus_id_0x3f", kReject, Bus<0x3F>},
    {"bus_id_0x41", kReject, Bus<0x41>},
    {"bus_id_0x80", kReject, Bus<0x80>},
    {"bus_id_0xc0", kReject, Bus<0xC0>},
    {"bus_id_0xff", kReject, Bus<0xFF>},
    {"event_device_from_the_driver", kReject, Bus<kBusMsgEventDevice>},
    // Device numbers.
    {"device_32", kReject, Device<32>},
    {"device_255", kReject, Device<255>},
    {"device_256", kReject, Device<256>},
    {"device_0x8000", kReject, Device<0x8000>},
    {"device_0xffff", kReject, Device<0xFFFF>},
    {"device_number_in_a_ping", kReject,
     [](Bench& b) { return b.Try(b.OnBus(kPing, 12).Device(1)); }},
    {"device_number_in_get_devices", kReject,
     [](Bench& b) {
       return b.Try(b.OnBus(kBusMsgGetDevices, 12).Device(0xFFFF));
     }},
    {"info_of_an_empty_slot", kReject,
     [](Bench& b) {
       return b.AnswersZero(b.Request(kMsgGetDeviceInfo, 8).Device(31), 8, 24);
     }},
    {"status_of_an_empty_slot", kReject,
     [](Bench& b) { return b.AnswersZero(GetStatus(b).Device(31), 8, 4); }},
    {"status_set_in_an_empty_slot", kReject,
     [](Bench& b) {
       return b.AnswersZero(
           b.Request(kMsgSetDeviceStatus, 12).Device(31).U32(8, 0x0F), 8, 4);
     }},
    {"queue_of_an_empty_slot", kReject,
     [](Bench& b) {
       return b.AnswersZero(b.Request(kMsgGetVqueue, 12).Device(31), 8, 40);
     }},
    {"queue_set_in_an_empty_slot", kReject,
     [](Bench& b) {
       const RawMessage set =
           b.Request(kMsgSetVqueue, 48).Device(31).U32(16, 8);
       if (b.Exchange(set) == nullptr) b.Fail("no-answer");
       return b.AnswersZero(b.Request(kMsgGetVqueue, 12).Device(31), 8, 40);
     }},
    {"avail_of_an_empty_slot", kReject,
     [](Bench& b) { return b.Try(b.Request(kMsgEventAvail, 16).Device(31)); }},
    // Tokens are the driver's.
    {"token_0", kPass, [](Bench& b) { return b.Try(GetStatus(b).Token(0)); }},
    {"token_0xffff", kPass,
     [](Bench& b) { return b.Try(GetStatus(b).Token(0xFFFF)); }},
    {"same_token_again", kPass,
     [](Bench& b) {
       for (int i = 0; i < 3; ++i) {
         if (b.Try(GetStatus(b)) == kRefused) return kRefused;
       }
       return kTaken;
     }},
    {"event_with_a_token", kPass,
     [](Bench& b) {
       b.GoodDescriptor(0);
       b.queue().Offer(0);
       b.Try(b.Request(kMsgEventAvail, 16).Token(0x1234));
       RawQueue::Used used;
       return b.WaitUsed(&used) ? kTaken : kRefused;
     }},
    // Nothing like a message.
    {"packet_of_zeroes", kReject,
     [](Bench& b) { return b.Try(RawMessage().Fill(0)); }},
    {"packet_of_ones", kReject,
     [](Bench& b) { return b.Try(RawMessage().Fill(0xFF)); }},
    {"packets_of_noise", kReject,
     [](Bench& b) {
       uint64_t x = 0x9E3779B97F4A7C15;
       for (int i = 0; i < 200; ++i) {
         RawMessage noise;
         for (size_t at = 0; at < kPacketBytes; at += 8) {
           x ^= x << 13;
           x ^= x >> 7;
           x ^= x << 17;
           noise.U64(at, x);
         }
         // Not by chance a message after all.
         noise.Id(static_cast<uint8_t>(0x80 | x));
         if (b.Try(noise) == kTaken) return kTaken;
       }
       return kRefused;
     }},
};

}  // namespace

constinit const std::span<const Case> kHeaderCases = kCases;

}  // namespace vmsg::guest
