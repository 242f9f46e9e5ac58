// Indices, states, headers and packets of the FIFO windows.
// Source: amp-pci-device, 3.

#include <initializer_list>

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

// The device has as long to notice as a case waits for silence.
constexpr uint64_t kNoticeNs = 250'000'000;

RawMessage Ping(Bench& b) { return b.OnBus(kBusMsgPing, 12).U32(8, 7); }
Reaction Answers(Bench& b) { return b.Try(Ping(b)); }

// More answers than the device queue has room for, none of them taken.
void OweTooManyAnswers(Bench& b) {
  constexpr int kRounds = 4;
  constexpr int kPings = 30;
  for (int i = 0; i < kRounds; ++i) {
    for (int n = 0; n < kPings; ++n) b.Post(Ping(b));
    b.Ring();
    b.Idle(kNoticeNs / kRounds);
  }
}

void Scribble(std::byte* from, size_t bytes, uint64_t value) {
  for (size_t at = 0; at < bytes; at += 8) StoreRelaxed(from + at, value);
}

// --- Layout spsc. ---

constexpr size_t kDriverHead = 0x1000;  // ours
constexpr size_t kDriverTail = 0x1040;  // the device's
constexpr size_t kDeviceHead = 0x2000;  // the device's
constexpr size_t kDeviceTail = 0x2040;  // ours
constexpr size_t kPackets = 0x80;       // in both pages
constexpr uint32_t kSlots = 62;

// Writes an index, rings, and puts back what was there: who has not been broken
// by it goes on.
Reaction Index(Bench& b, size_t at, uint32_t value) {
  std::byte* const word = b.window() + at;
  const auto before = LoadAcquire<uint32_t>(word);
  StoreRelease<uint32_t>(word, value);
  b.Ring();
  b.Idle(kNoticeNs);
  StoreRelease<uint32_t>(word, before);
  b.Ring();
  return kTaken;
}
Reaction IndexMoved(Bench& b, size_t at, uint32_t by) {
  return Index(b, at, (LoadAcquire<uint32_t>(b.window() + at) + by) % kSlots);
}
Reaction TailWhenFull(Bench& b, uint32_t value) {
  std::byte* const word = b.window() + kDeviceTail;
  const auto before = LoadAcquire<uint32_t>(word);
  StoreRelease<uint32_t>(word, value);
  OweTooManyAnswers(b);
  StoreRelease<uint32_t>(word, before);
  return kTaken;
}

constexpr Case kSpsc[] = {
    {"driver_head_one_past_the_end", kDegraded,
     [](Bench& b) { return Index(b, kDriverHead, kSlots); }},
    {"driver_head_0x100", kDegraded,
     [](Bench& b) { return Index(b, kDriverHead, 0x100); }},
    {"driver_head_0x10000", kDegraded,
     [](Bench& b) { return Index(b, kDriverHead, 0x10000); }},
    {"driver_head_0x80000000", kDegraded,
     [](Bench& b) { return Index(b, kDriverHead, 0x80000000); }},
    {"driver_head_all_ones", kDegraded,
     [](Bench& b) { return Index(b, kDriverHead, UINT32_MAX); }},
    {"driver_head_past_empty_packets", kReject,
     [](Bench& b) {
       std::byte* const page = b.window() + kDriverHead;
       Scribble(page + kPackets, kSlots * kPacketBytes, 0);
       const auto head = LoadAcquire<uint32_t>(page);
       StoreRelease<uint32_t>(page, (head + 5) % kSlots);
       b.Ring();
       b.Idle(kNoticeNs);
       // A driver goes on from the indices that it finds.
       if (!b.victim().fifo()->Attach()) return kTaken;
       Packet packet;
       return b.Receive(&packet) ? kTaken : kRefused;
     }},
    {"driver_tail_overwritten", kDegraded,
     [](Bench& b) { return IndexMoved(b, kDriverTail, 1); }},
    {"driver_tail_one_past_the_end", kDegraded,
     [](Bench& b) { return Index(b, kDriverTail, kSlots); }},
    {"driver_tail_all_ones", kDegraded,
     [](Bench& b) { return Index(b, kDriverTail, UINT32_MAX); }},
    {"device_head_overwritten", kDegraded,
     [](Bench& b) { return IndexMoved(b, kDeviceHead, 1); }},
    {"device_head_goes_back", kDegraded,
     [](Bench& b) { return IndexMoved(b, kDeviceHead, kSlots - 1); }},
    {"device_head_all_ones", kDegraded,
     [](Bench& b) { return Index(b, kDeviceHead, UINT32_MAX); }},
    {"device_tail_one_past_the_end", kDegraded,
     [](Bench& b) { return TailWhenFull(b, kSlots); }},
    {"device_tail_all_ones", kDegraded,
     [](Bench& b) { return TailWhenFull(b, UINT32_MAX); }},
    {"device_tail_ahead_of_the_head", kPass,
     [](Bench& b) {
       std::byte* const word = b.window() + kDeviceTail;
       const auto before = LoadAcquire<uint32_t>(word);
       StoreRelease<uint32_t>(word, (before + 5) % kSlots);
       b.Ring();
       b.Idle(kNoticeNs);
       StoreRelease<uint32_t>(word, before);
       return Answers(b);
     }},
};

// --- Layout shmem-v1. ---

constexpr size_t kRegion = 0x1000;
constexpr size_t kMagic = 0;  // in a queue head, as the next three
constexpr size_t kStatus = 2;
constexpr size_t kTail = 4;
constexpr size_t kHead = 6;
constexpr uint16_t kInit = 0;
constexpr uint16_t kReady = 1;
constexpr uint16_t kRun = 2;
constexpr uint16_t kShutdown = 3;
constexpr uint16_t kPeerDead = 4;

std::byte* DriverQueueHead(Bench& b) {
  std::byte* const region = b.window() + kRegion;
  return region + LoadRelaxed<uint64_t>(region + 48);
}
std::byte* DeviceQueueHead(Bench& b) {
  std::byte* const region = b.window() + kRegion;
  return region + LoadRelaxed<uint64_t>(region + 24);
}
uint16_t Elements(Bench& b) {
  return LoadRelaxed<uint16_t>(b.window() + kRegion + 10);
}

// Writes a word of a queue head, rings, and puts it back unless somebody else
// has written it meanwhile.
Reaction Word(Bench& b, std::byte* word, uint16_t value) {
  const auto before = LoadAcquire<uint16_t>(word);
  StoreRelease<uint16_t>(word, value);
  b.Ring();
  b.Idle(kNoticeNs);
  if (LoadAcquire<uint16_t>(word) == value) {
    StoreRelease<uint16_t>(word, before);
  }
  b.Ring();
  return kTaken;
}
// Our own state, and it stays. What the driver has sent before is taken out of
// the elements: a device that starts over with indices of 0 would find it there
// again, and the set-up with it.
template <uint16_t kState>
Reaction State(Bench& b) {
  std::byte* const region = b.window() + kRegion;
  Scribble(region + LoadRelaxed<uint64_t>(region + 56),
           Elements(b) * kPacketBytes, 0);
  StoreRelease<uint16_t>(DriverQueueHead(b) + kStatus, kState);
  b.Ring();
  b.Idle(kNoticeNs);
  return Answers(b);
}
template <uint16_t kState>
Reaction DeviceState(Bench& b) {
  return Word(b, DeviceQueueHead(b) + kStatus, kState);
}
Reaction HeadWhenFull(Bench& b, uint16_t value) {
  std::byte* const word = DriverQueueHead(b) + kHead;
  const auto before = LoadAcquire<uint16_t>(word);
  StoreRelease<uint16_t>(word, value);
  OweTooManyAnswers(b);
  StoreRelease<uint16_t>(word, before);
  return kTaken;
}

// After SHUTDOWN, states without looking at the other side.
Reaction Blindly(Bench& b, std::initializer_list<uint16_t> states) {
  b.victim().fifo()->Detach();
  b.Ring();
  b.Idle(kNoticeNs);
  for (const uint16_t state : states) {
    StoreRelease<uint16_t>(DriverQueueHead(b) + kStatus, state);
    b.Ring();
  }
  b.Idle(kNoticeNs);
  return kTaken;
}

constexpr Case kShmem[] = {
    {"init_in_run", kDegraded, State<kInit>},
    {"ready_in_run", kDegraded, State<kReady>},
    {"shutdown_in_run", kDegraded, State<kShutdown>},
    {"peer_dead_in_run", kDegraded, State<kPeerDead>},
    {"state_5", kDegraded, State<5>},
    {"state_31", kDegraded, State<31>},
    {"debuggable_bit", kPass, State<kRun | 0x8000>},
    {"unnamed_status_bits", kPass, State<kRun | 0x7FE0>},
    {"own_magic_cleared", kDegraded,
     [](Bench& b) { return Word(b, DriverQueueHead(b) + kMagic, 0); }},
    {"own_magic_all_ones", kDegraded,
     [](Bench& b) { return Word(b, DriverQueueHead(b) + kMagic, 0xFFFF); }},
    {"own_tail_one_past_the_end", kDegraded,
     [](Bench& b) { return Word(b, DriverQueueHead(b) + kTail, Elements(b)); }},
    {"own_tail_all_ones", kDegraded,
     [](Bench& b) { return Word(b, DriverQueueHead(b) + kTail, 0xFFFF); }},
    {"own_head_one_past_the_end", kDegraded,
     [](Bench& b) { return HeadWhenFull(b, Elements(b)); }},
    {"own_head_all_ones", kDegraded,
     [](Bench& b) { return HeadWhenFull(b, 0xFFFF); }},
    {"device_state_init", kDegraded, DeviceState<kInit>},
    {"device_state_ready", kDegraded, DeviceState<kReady>},
    {"device_state_shutdown", kDegraded, DeviceState<kShutdown>},
    {"device_state_31", kDegraded, DeviceState<31>},
    {"device_magic_cleared", kDegraded,
     [](Bench& b) { return Word(b, DeviceQueueHead(b) + kMagic, 0); }},
    {"device_tail_overwritten", kDegraded,
     [](Bench& b) {
       return Word(b, DeviceQueueHead(b) + kTail,
                   LoadAcquire<uint16_t>(DeviceQueueHead(b) + kTail) ^ 1);
     }},
    {"device_tail_all_ones", kDegraded,
     [](Bench& b) { return Word(b, DeviceQueueHead(b) + kTail, 0xFFFF); }},
    {"device_head_overwritten", kDegraded,
     [](Bench& b) {
       return Word(b, DeviceQueueHead(b) + kHead,
                   LoadAcquire<uint16_t>(DeviceQueueHead(b) + kHead) ^ 1);
     }},
    {"device_head_all_ones", kDegraded,
     [](Bench& b) { return Word(b, DeviceQueueHead(b) + kHead, 0xFFFF); }},
    {"run_without_a_handshake", kDegraded,
     [](Bench& b) { return Blindly(b, {kRun}); }},
    {"ready_without_init", kDegraded,
     [](Bench& b) { return Blindly(b, {kReady}); }},
    {"handshake_without_looking", kDegraded,
     [](Bench& b) {
       return Blindly(b, {kInit, kReady, kRun});
     }},
    {"handshake_backwards", kDegraded,
     [](Bench& b) {
       return Blindly(b, {kRun, kReady, kInit});
     }},
    {"every_state_in_turn", kDegraded,
     [](Bench& b) {
       b.victim().fifo()->Detach();
       for (uint16_t state = 0; state < 200; ++state) {
         StoreRelease<uint16_t>(DriverQueueHead(b) + kStatus, state & 31);
         b.Ring();
       }
       b.Idle(kNoticeNs);
       return kTaken;
     }},
};

// A field of the header is overwritten with ones, or zeroes where it is all
// ones: the device has no need to read what it wrote.
template <size_t kAt, typename T>
Reaction Field(Bench& b) {
  std::byte* const field = b.window() + kRegion + kAt;
  const T before = LoadAcquire<T>(field);
  StoreRelease<T>(field, static_cast<T>(~before));
  b.Ring();
  const Reaction answers = Answers(b);
  const bool kept = LoadAcquire<T>(field) == static_cast<T>(~before);
  StoreRelease<T>(field, before);
  return answers == kTaken && kept ? kRefused : kTaken;
}

constexpr Case kHeader[] = {
    {"magic", kReject, Field<0, uint16_t>},
    {"length", kReject, Field<2, uint16_t>},
    {"version", kReject, Field<4, uint16_t>},
    {"features", kReject, Field<6, uint16_t>},
    {"num_notif", kReject, Field<8, uint8_t>},
    {"num_vq_notif_per_device", kReject, Field<9, uint8_t>},
    {"num_queue_elements", kReject, Field<10, uint16_t>},
    {"size_queue_elements", kReject, Field<12, uint16_t>},
    {"reserved", kReject, Field<14, uint16_t>},
    {"dev_notif_offset", kReject, Field<16, uint64_t>},
    {"dev_queue_head_offset", kReject, Field<24, uint64_t>},
    {"dev_queue_elements_offset", kReject, Field<32, uint64_t>},
    {"drv_notif_offset", kReject, Field<40, uint64_t>},
    {"drv_queue_head_offset", kReject, Field<48, uint64_t>},
    {"drv_queue_elements_offset", kReject, Field<56, uint64_t>},
};

// --- Both. ---

constexpr Case kWindow[] = {
    {"reserved_space_overwritten", kReject,
     [](Bench& b) {
       Scribble(b.window(), 0x1000, UINT64_MAX);
       Scribble(b.window() + 0x3000, 0x1000, UINT64_MAX);
       b.Ring();
       return Answers(b) == kTaken ? kRefused : kTaken;
     }},
    {"indices_round_and_round", kPass,
     [](Bench& b) {
       for (int i = 0; i < 3 * 64; ++i) {
         if (Answers(b) == kRefused) return kRefused;
       }
       return kTaken;
     }},
    {"full_queue_at_once", kPass,
     [](Bench& b) {
       uint32_t posted = 0;
       while (b.Post(Ping(b))) ++posted;
       b.Ring();
       return b.Collect(posted) == posted ? kTaken : kRefused;
     }},
    {"many_packets_one_ring", kPass,
     [](Bench& b) {
       for (int i = 0; i < 20; ++i) b.Post(Ping(b));
       b.Ring();
       return b.Collect(20) == 20 ? kTaken : kRefused;
     }},
    {"good_behind_bad_packets", kPass,
     [](Bench& b) {
       for (int i = 0; i < 20; ++i) b.Post(RawMessage().Fill(0xFF));
       b.Post(Ping(b));
       b.Ring();
       return b.Collect(1) == 1 ? kTaken : kRefused;
     }},
};

}  // namespace

constinit const std::span<const Case> kSpscCases = kSpsc;
constinit const std::span<const Case> kShmemCases = kShmem;
constinit const std::span<const Case> kShmemHeaderCases = kHeader;
constinit const std::span<const Case> kWindowCases = kWindow;

}  // namespace vmsg::guest
