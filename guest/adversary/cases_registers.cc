// Accesses to BAR 0 that no driver makes. Source: amp-pci-device, 2.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr uint64_t kVersion = 0x00;
constexpr uint64_t kFeatures = 0x04;
constexpr uint64_t kReserved = 0x08;
constexpr uint64_t kNotify = 0x20;
constexpr uint64_t kBarBytes = uint64_t{16} * 1024;

RawMessage Ping(Bench& b) { return b.OnBus(kBusMsgPing, 12).U32(8, 7); }

bool TakesAnswer(Bench& b) {
  Packet packet;
  while (b.Receive(&packet)) {
    if ((RawMessage::Get(packet, 0, 1) & kTypeResponse) != 0) return true;
  }
  return false;
}

// A write to BAR 0 that is no ring: whether a message that waits is taken.
Reaction RingsBy(Bench& b, uint64_t offset, uint8_t width, uint64_t value) {
  // A ring of before may still be on its way: then the second time shows.
  for (int i = 0; i < 2; ++i) {
    b.Idle(20'000'000);
    if (!b.Post(Ping(b))) return kRefused;
    b.WriteRegister(offset, width, value);
    b.Idle(40'000'000);
    if (TakesAnswer(b)) continue;
    b.Ring();
    if (b.Collect(1) != 1) b.Fail("no-answer");
    return kRefused;
  }
  return kTaken;
}

// A write that has to leave the registers as they are.
Reaction WriteIgnored(Bench& b, uint64_t offset, uint8_t width) {
  const uint64_t version = b.ReadRegister(kVersion, 4);
  const uint64_t before = b.ReadRegister(offset & ~uint64_t{3}, 4);
  b.WriteRegister(offset, width, UINT64_MAX);
  return b.ReadRegister(kVersion, 4) == version &&
                 b.ReadRegister(offset & ~uint64_t{3}, 4) == before
             ? kRefused
             : kTaken;
}

constexpr Case kCases[] = {
    {"version_read_1_byte", kReject,
     [](Bench& b) { return b.ReadsZero(kVersion, 1); }},
    {"version_read_2_bytes", kReject,
     [](Bench& b) { return b.ReadsZero(kVersion, 2); }},
    {"version_read_8_bytes", kReject,
     [](Bench& b) { return b.ReadsZero(kVersion, 8); }},
    {"version_read_unaligned", kReject,
     [](Bench& b) { return b.ReadsZero(kVersion + 1, 4); }},
    {"version_written", kReject,
     [](Bench& b) { return WriteIgnored(b, kVersion, 4); }},
    {"version_written_8_bytes", kReject,
     [](Bench& b) { return WriteIgnored(b, kVersion, 8); }},
    {"features_written", kReject,
     [](Bench& b) { return WriteIgnored(b, kFeatures, 4); }},
    {"features_read_unaligned", kReject,
     [](Bench& b) { return b.ReadsZero(kFeatures + 2, 4); }},
    {"reserved_read", kReject,
     [](Bench& b) {
       for (uint64_t at = kReserved; at < kNotify; at += 4) {
         if (b.ReadsZero(at, 4) == kTaken) return kTaken;
       }
       return kRefused;
     }},
    {"reserved_written", kReject,
     [](Bench& b) {
       for (uint64_t at = kReserved; at < kNotify; at += 4) {
         if (WriteIgnored(b, at, 4) == kTaken) return kTaken;
       }
       return kRefused;
     }},
    {"notify_read", kReject, [](Bench& b) { return b.ReadsZero(kNotify, 4); }},
    {"notify_read_8_bytes", kReject,
     [](Bench& b) { return b.ReadsZero(kNotify, 8); }},
    {"notify_written_1_byte", kReject,
     [](Bench& b) { return RingsBy(b, kNotify, 1, 1); }},
    {"notify_written_2_bytes", kReject,
     [](Bench& b) { return RingsBy(b, kNotify, 2, 1); }},
    {"notify_written_8_bytes", kReject,
     [](Bench& b) { return RingsBy(b, kNotify, 8, UINT64_MAX); }},
    {"notify_written_unaligned", kReject,
     [](Bench& b) { return RingsBy(b, kNotify + 2, 4, 1); }},
    {"notify_of_no_fifo", kReject,
     [](Bench& b) {
       const uint64_t past = b.function()->num_fifos();
       return RingsBy(b, kNotify + 4 * past, 4, 1);
     }},
    {"notify_of_another_fifo", kReject,
     [](Bench& b) { return RingsBy(b, kNotify + 4, 4, 1); }},
    {"notify_value_0", kPass,
     [](Bench& b) { return RingsBy(b, kNotify, 4, 0); }},
    {"notify_value_all_ones", kPass,
     [](Bench& b) { return RingsBy(b, kNotify, 4, UINT32_MAX); }},
    {"notify_without_a_packet", kPass,
     [](Bench& b) {
       b.Ring();
       return kTaken;
     }},
    {"last_word_read", kReject,
     [](Bench& b) { return b.ReadsZero(kBarBytes - 4, 4); }},
    {"last_word_written", kReject,
     [](Bench& b) { return WriteIgnored(b, kBarBytes - 4, 4); }},
    {"every_size_at_every_offset_read", kReject,
     [](Bench& b) {
       for (uint64_t at = 0; at < kNotify + 0x40; ++at) {
         for (const uint8_t width : {1, 2, 4, 8}) {
           const bool defined = at == kVersion && width == 4;
           if (!defined && b.ReadsZero(at, width) == kTaken) return kTaken;
         }
       }
       return kRefused;
     }},
    {"every_size_at_every_offset_written", kReject,
     [](Bench& b) {
       for (uint64_t at = 0; at < kNotify + 0x40; ++at) {
         for (const uint8_t width : {1, 2, 4, 8}) {
           b.WriteRegister(at, width, UINT64_MAX);
         }
       }
       return WriteIgnored(b, kVersion, 4);
     }},
};

}  // namespace

constinit const std::span<const Case> kRegisterCases = kCases;

}  // namespace vmsg::guest
