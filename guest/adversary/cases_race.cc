// What a second thread changes while the device uses it: the same words, as
// fast as it can, against checks and uses of the device.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr auto kTwo = Needs::kSecondWriter;
constexpr auto kRuns = Leaves::kRunning;

RawMessage Ping(Bench& b) { return b.OnBus(kBusMsgPing, 12).U32(8, 7); }

// Descriptor 0, or the first entry of the indirect table, alternates.
void Alternate(std::byte* entry, uint64_t round, const RawQueue::Entry& good,
               const RawQueue::Entry& other) {
  const RawQueue::Entry& now = (round & 1) == 0 ? good : other;
  StoreRelaxed<uint64_t>(entry, now.address);
  StoreRelaxed<uint32_t>(entry + 8, now.bytes);
  StoreRelaxed<uint16_t>(entry + 12, now.flags);
  StoreRelaxed<uint16_t>(entry + 14, now.next);
}
RawQueue::Entry Good(Bench& b) {
  return {b.queue().buffer(), 64, RawQueue::kWrite, 0};
}

// Requests against the writer, until the device asks for a reset: it is bound
// to see the bad value once. Not a verdict: that is taken afterwards.
Reaction UntilItBreaks(Bench& b, void (*write)(Bench& b, uint64_t round)) {
  constexpr int kRounds = 3000;
  b.GoodDescriptor(0);
  b.StartWriter(write);
  RawQueue::Used used;
  for (int i = 0; i < kRounds; ++i) {
    b.queue().Offer(0);
    b.Kick();
    if ((b.Status() & ~uint32_t{0xF}) != 0) break;
    b.queue().Take(&used);
  }
  b.StopWriter();
  return kTaken;
}

// Requests against the writer: taken when each is served.
Reaction ServedThroughout(Bench& b, void (*write)(Bench& b, uint64_t round)) {
  constexpr int kRounds = 300;
  b.GoodDescriptor(0);
  b.StartWriter(write);
  bool served = true;
  for (int i = 0; served && i < kRounds; ++i) {
    b.queue().Offer(0);
    b.Kick();
    RawQueue::Used used;
    served = b.WaitUsed(&used);
  }
  b.StopWriter();
  return served ? kTaken : kRefused;
}

// The FIFO in use against the writer. What is answered is no matter here.
Reaction InTraffic(Bench& b, void (*write)(Bench& b, uint64_t round),
                   int rounds) {
  constexpr uint64_t kLookNs = 50'000'000;
  b.StartWriter(write);
  Packet packet;
  for (int i = 0; i < rounds; ++i) {
    b.Post(Ping(b));
    b.Ring();
    while (b.Receive(&packet)) continue;
  }
  // Nobody but the writer stores now: the device looks once more.
  b.Idle(kLookNs);
  b.Ring();
  b.Idle(kLookNs);
  b.StopWriter();
  b.Idle(kLookNs);
  while (b.Receive(&packet)) continue;
  return kTaken;
}

// Where a packet is in both layouts, more or less.
constexpr size_t kDriverPackets = 0x1080;
constexpr size_t kPacketSpace = size_t{62} * 64;

// Layout spsc: in traffic; then the driver goes on from indices that are sound.
Reaction IndexInTraffic(Bench& b, void (*write)(Bench& b, uint64_t round)) {
  constexpr uint32_t kSlots = 62;
  constexpr int kRounds = 2000;
  InTraffic(b, write, kRounds);
  std::byte* const page = b.window() + 0x1000;
  if (LoadAcquire<uint32_t>(page) >= kSlots) {
    StoreRelease<uint32_t>(page, LoadAcquire<uint32_t>(page + 0x40));
  }
  if (!b.victim().fifo()->Attach()) b.Fail("indices");
  return kTaken;
}

// Layout shmem-v1: in traffic, with nothing left in the elements that a device
// which starts over could find again.
Reaction StateInTraffic(Bench& b, void (*write)(Bench& b, uint64_t round)) {
  constexpr int kRounds = 2000;
  std::byte* const region = b.window() + 0x1000;
  ZeroShared(region + LoadRelaxed<uint64_t>(region + 56),
             LoadRelaxed<uint16_t>(region + 10) * kPacketBytes);
  return InTraffic(b, write, kRounds);
}

constexpr Case kQueueRaces[] = {
    {"descriptor_address_good_or_wild", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         Alternate(bench.queue().descriptor_bytes(0), round, Good(bench),
                   {UINT64_MAX - 15, 64, RawQueue::kWrite, 0});
       });
     },
     kRuns, kTwo},
    {"descriptor_address_memory_or_bar", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         Alternate(bench.queue().descriptor_bytes(0), round, Good(bench),
                   {bench.windows(), 64, RawQueue::kWrite, 0});
       });
     },
     kRuns, kTwo},
    {"descriptor_length_64_or_0", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         Alternate(bench.queue().descriptor_bytes(0), round, Good(bench),
                   {bench.queue().buffer(), 0, RawQueue::kWrite, 0});
       });
     },
     kRuns, kTwo},
    {"descriptor_length_64_or_4_gib", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         Alternate(bench.queue().descriptor_bytes(0), round, Good(bench),
                   {bench.queue().buffer(), UINT32_MAX, RawQueue::kWrite, 0});
       });
     },
     kRuns, kTwo},
    {"descriptor_end_or_loop", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         Alternate(bench.queue().descriptor_bytes(0), round, Good(bench),
                   {bench.queue().buffer(), 64,
                    RawQueue::kWrite | RawQueue::kNext, 0});
       });
     },
     kRuns, kTwo},
    {"descriptor_direct_or_indirect", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         Alternate(bench.queue().descriptor_bytes(0), round, Good(bench),
                   {bench.queue().buffer(), 15, RawQueue::kIndirect, 0});
       });
     },
     kRuns, kTwo},
    {"descriptor_length_1_or_4096", kPass,
     [](Bench& b) {
       return ServedThroughout(b, [](Bench& bench, uint64_t round) {
         StoreRelaxed<uint32_t>(bench.queue().descriptor_bytes(0) + 8,
                                (round & 1) == 0 ? 1 : 4096);
       });
     },
     kRuns, kTwo},
    {"other_descriptors", kPass,
     [](Bench& b) {
       return ServedThroughout(b, [](Bench& bench, uint64_t round) {
         StoreRelaxed<uint64_t>(
             bench.queue().descriptor_bytes(1 + round % 7) + 8 * (round & 1),
             round * 0x9E3779B97F4A7C15);
       });
     },
     kRuns, kTwo},
    {"used_flags", kPass,
     [](Bench& b) {
       return ServedThroughout(b, [](Bench& bench, uint64_t round) {
         bench.queue().SetUsedFlags(static_cast<uint16_t>(round));
       });
     },
     kRuns, kTwo},
    {"available_flags", kPass,
     [](Bench& b) {
       const Reaction reaction =
           ServedThroughout(b, [](Bench& bench, uint64_t round) {
             bench.queue().SetAvailableFlags(static_cast<uint16_t>(round));
           });
       b.queue().SetAvailableFlags(0);
       return reaction;
     },
     kRuns, kTwo},
    {"available_index", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         StoreRelaxed<uint16_t>(bench.queue().available_bytes() + 2,
                                static_cast<uint16_t>(round * 0x4000));
       });
     },
     kRuns, kTwo},
    {"available_entries", kDegraded,
     [](Bench& b) {
       return UntilItBreaks(b, [](Bench& bench, uint64_t round) {
         StoreRelaxed<uint16_t>(
             bench.queue().available_bytes() + 4 + 2 * (round % 8),
             (round & 8) == 0 ? 0 : 0xFFFF);
       });
     },
     kRuns, kTwo},
};

constexpr Case kFifoRaces[] = {
    {"driver_packets", kPass,
     [](Bench& b) {
       return InTraffic(
           b,
           [](Bench& bench, uint64_t round) {
             // Sizes and ids of packets that wait; the id never one that
             // exists.
             std::byte* const slot =
                 bench.window() + kDriverPackets + (round * 64) % kPacketSpace;
             StoreRelaxed<uint8_t>(slot + 1, 0x3F);
             StoreRelaxed<uint16_t>(slot + 6, static_cast<uint16_t>(round));
           },
           2000);
     },
     kRuns, kTwo},
};

constexpr Case kSpscRaces[] = {
    {"driver_head", kDegraded,
     [](Bench& b) {
       return IndexInTraffic(b, [](Bench& bench, uint64_t round) {
         StoreRelease<uint32_t>(bench.window() + 0x1000,
                                (round & 1) == 0 ? 0xFFFF : 62);
       });
     },
     kRuns, kTwo},
    {"driver_tail", kDegraded,
     [](Bench& b) {
       return IndexInTraffic(b, [](Bench& bench, uint64_t round) {
         StoreRelease<uint32_t>(bench.window() + 0x1040,
                                static_cast<uint32_t>(round % 62));
       });
     },
     kRuns, kTwo},
    {"device_head", kDegraded,
     [](Bench& b) {
       return IndexInTraffic(b, [](Bench& bench, uint64_t round) {
         StoreRelease<uint32_t>(bench.window() + 0x2000,
                                static_cast<uint32_t>(round % 62));
       });
     },
     kRuns, kTwo},
};

constexpr Case kShmemRaces[] = {
    {"driver_state", kDegraded,
     [](Bench& b) {
       return StateInTraffic(b, [](Bench& bench, uint64_t round) {
         std::byte* const region = bench.window() + 0x1000;
         StoreRelease<uint16_t>(region + LoadRelaxed<uint64_t>(region + 48) + 2,
                                static_cast<uint16_t>(round % 32));
       });
     },
     kRuns, kTwo},
    {"device_words", kDegraded,
     [](Bench& b) {
       return StateInTraffic(b, [](Bench& bench, uint64_t round) {
         std::byte* const region = bench.window() + 0x1000;
         StoreRelease<uint16_t>(
             region + LoadRelaxed<uint64_t>(region + 24) + 2 * (round % 4),
             static_cast<uint16_t>(round));
       });
     },
     kRuns, kTwo},
};

// --- PCI from a second processor. ---

constexpr uint16_t kCommand = 0x04;
constexpr uint16_t kBar0 = 0x10;

constexpr Case kFunctionRaces[] = {
    {"bus_master_in_traffic", kDegraded,
     [](Bench& b) {
       const Reaction reaction = InTraffic(
           b,
           [](Bench& bench, uint64_t round) {
             bench.SetConfig(kCommand, (round & 1) == 0 ? 0x2 : 0x6, 2);
           },
           2000);
       b.SetConfig(kCommand, 0x6, 2);
       return reaction;
     },
     kRuns, kTwo},
    {"vector_mask_in_traffic", kPass,
     [](Bench& b) {
       b.StartWriter([](Bench& bench, uint64_t round) {
         bench.platform()->WriteMmio(bench.msix_table() + 12, 4, round & 1);
       });
       bool answered = true;
       for (int i = 0; answered && i < 300; ++i) {
         answered = b.Try(Ping(b)) == kTaken;
       }
       b.StopWriter();
       b.platform()->WriteMmio(b.msix_table() + 12, 4, 0);
       return answered ? kTaken : kRefused;
     },
     kRuns, kTwo},
    {"registers_moved_in_traffic", kPass,
     [](Bench& b) {
       // A ring may miss: it is rung until the answer is there.
       const uint32_t home = b.Config(kBar0);
       b.StartWriter([](Bench& bench, uint64_t round) {
         const uint32_t at = bench.Config(kBar0);
         bench.SetConfig(kBar0,
                         (round & 1) == 0 ? at + 0x08000000 : at - 0x08000000);
       });
       constexpr uint32_t kAnswers = 300;
       uint32_t answers = 0;
       for (int tries = 0; answers < kAnswers && tries < 30000; ++tries) {
         b.Post(Ping(b));
         b.Ring();
         const uint32_t before = answers;
         Packet packet;
         while (answers < kAnswers && b.Receive(&packet)) ++answers;
         // So that all tries take seconds, and a device that is slow is not
         // taken for one that does not answer.
         if (answers == before) b.Idle(100'000);
       }
       b.StopWriter();
       b.SetConfig(kBar0, home);
       b.Ring();
       b.Idle(50'000'000);
       Packet packet;
       while (b.Receive(&packet)) continue;
       return answers == kAnswers ? kTaken : kRefused;
     },
     kRuns, kTwo},
};

}  // namespace

constinit const std::span<const Case> kRaceCases = kQueueRaces;
constinit const std::span<const Case> kFifoRaceCases = kFifoRaces;
constinit const std::span<const Case> kSpscRaceCases = kSpscRaces;
constinit const std::span<const Case> kShmemRaceCases = kShmemRaces;
constinit const std::span<const Case> kFunctionRaceCases = kFunctionRaces;

}  // namespace vmsg::guest
