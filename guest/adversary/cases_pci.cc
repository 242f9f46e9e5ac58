// Configuration space, BARs and the MSI-X table. Source: PCI Local Bus 3.0, 6;
// amp-pci-device, 1 and 2.

#include "guest/adversary/bench.h"
#include "guest/adversary/catalogue.h"
#include "guest/driver/shared_memory.h"

namespace vmsg::guest {
namespace {

using enum Verdict;
using enum Reaction;

constexpr uint16_t kCommand = 0x04;
constexpr uint16_t kBar0 = 0x10;
constexpr uint16_t kBar1 = 0x14;
constexpr uint16_t kBar2 = 0x18;
constexpr uint32_t kMemory = 2;
constexpr uint32_t kBusMaster = 4;
constexpr uint32_t kIntxDisable = 0x400;
constexpr uint16_t kMsixEnable = 0x8000;
constexpr uint16_t kMsixMaskAll = 0x4000;
constexpr uint64_t kSettleNs = 20'000'000;

RawMessage Ping(Bench& b) { return b.OnBus(kBusMsgPing, 12).U32(8, 7); }
Reaction Answers(Bench& b) { return b.Try(Ping(b)); }

// --- The MSI-X table. ---

uint64_t Entry(Bench& b, uint32_t vector, uint32_t field) {
  return b.msix_table() + 16 * uint64_t{vector} + 4 * uint64_t{field};
}
void SetEntry(Bench& b, uint32_t field, uint32_t value) {
  b.platform()->WriteMmio(Entry(b, 0, field), 4, value);
}
uint32_t GetEntry(Bench& b, uint32_t vector, uint32_t field) {
  return static_cast<uint32_t>(
      b.platform()->ReadMmio(Entry(b, vector, field), 4));
}
enum Field : uint32_t { kAddressLow, kAddressHigh, kData, kControl };

// Gets an answer, and says whether an interrupt came with it.
bool Interrupts(Bench& b) {
  b.Idle(kSettleNs);
  const uint64_t before = b.Interrupts();
  if (Answers(b) == kRefused) b.Fail("no-answer");
  b.Idle(kSettleNs);
  return b.Interrupts() != before;
}

// With a field of vector 0 changed: refused when no interrupt comes.
Reaction Misdirected(Bench& b, Field field, uint32_t value) {
  const uint32_t before = GetEntry(b, 0, field);
  SetEntry(b, field, value);
  const bool came = Interrupts(b);
  SetEntry(b, field, before);
  if (!Interrupts(b)) b.Fail("no-interrupt-afterwards");
  return came ? kTaken : kRefused;
}

constexpr Case kMsix[] = {
    {"masked_vector_stays_pending", kPass,
     [](Bench& b) {
       SetEntry(b, kControl, 1);
       // NOLINTNEXTLINE(misc-redundant-expression): each rings once.
       if (Interrupts(b) || Interrupts(b)) b.Fail("interrupt-though-masked");
       const uint64_t before = b.Interrupts();
       SetEntry(b, kControl, 0);
       b.Idle(kSettleNs);
       // Both in one.
       return b.Interrupts() == before + 1 ? kTaken : kRefused;
     }},
    {"unmasked_with_nothing_pending", kPass,
     [](Bench& b) {
       b.Idle(kSettleNs);
       const uint64_t before = b.Interrupts();
       SetEntry(b, kControl, 1);
       SetEntry(b, kControl, 0);
       b.Idle(kSettleNs);
       return b.Interrupts() == before ? kTaken : kRefused;
     }},
    {"masked_and_unmasked_100_times", kPass,
     [](Bench& b) {
       for (uint32_t i = 0; i < 200; ++i) SetEntry(b, kControl, i & 1);
       SetEntry(b, kControl, 0);
       return Interrupts(b) ? kTaken : kRefused;
     }},
    {"control_reserved_bits", kReject,
     [](Bench& b) {
       SetEntry(b, kControl, 0xFFFFFFFE);
       return GetEntry(b, 0, kControl) == 0 ? kRefused : kTaken;
     }},
    {"address_low_bits", kReject,
     [](Bench& b) {
       const uint32_t before = GetEntry(b, 0, kAddressLow);
       SetEntry(b, kAddressLow, before | 3);
       return GetEntry(b, 0, kAddressLow) == before ? kRefused : kTaken;
     }},
    {"address_in_ram", kReject,
     [](Bench& b) { return Misdirected(b, kAddressLow, 0x00300000); }},
    {"address_of_a_doorbell", kReject,
     [](Bench& b) {
       return Misdirected(b, kAddressLow,
                          static_cast<uint32_t>(b.registers() + 0x20));
     }},
    {"address_of_the_table", kReject,
     [](Bench& b) {
       return Misdirected(b, kAddressLow,
                          static_cast<uint32_t>(b.msix_table()));
     }},
    {"address_all_ones", kReject,
     [](Bench& b) { return Misdirected(b, kAddressLow, 0xFFFFFFFC); }},
    {"address_0", kReject,
     [](Bench& b) { return Misdirected(b, kAddressLow, 0); }},
    {"address_above_4_gib", kReject,
     [](Bench& b) { return Misdirected(b, kAddressHigh, 1); }},
    {"address_above_everything", kReject,
     [](Bench& b) { return Misdirected(b, kAddressHigh, 0xFFFFFFFF); }},
    {"data_of_another_vector", kPass,
     [](Bench& b) {
       const uint32_t id = b.sibling().interrupt();
       const uint64_t before = b.platform()->InterruptCount(id);
       const uint32_t data = GetEntry(b, 0, kData);
       SetEntry(b, kData, GetEntry(b, 1, kData));
       if (Interrupts(b)) b.Fail("interrupt-of-the-vector-before");
       SetEntry(b, kData, data);
       return b.platform()->InterruptCount(id) != before ? kTaken : kRefused;
     }},
    {"written_8_bytes", kPass,
     [](Bench& b) {
       const uint64_t low = GetEntry(b, 0, kAddressLow);
       b.platform()->WriteMmio(
           Entry(b, 0, kAddressLow), 8,
           uint64_t{GetEntry(b, 0, kAddressHigh)} << 32 | low);
       return Interrupts(b) ? kTaken : kRefused;
     }},
    {"written_byte_by_byte", kPass,
     [](Bench& b) {
       const uint32_t data = GetEntry(b, 0, kData);
       for (uint32_t i = 0; i < 4; ++i) {
         b.platform()->WriteMmio(Entry(b, 0, kData) + i, 1,
                                 data >> (8 * i) & 0xFF);
       }
       return Interrupts(b) ? kTaken : kRefused;
     }},
    {"entry_of_no_vector", kReject,
     [](Bench& b) {
       const uint32_t past = b.function()->vectors();
       b.platform()->WriteMmio(Entry(b, past, kAddressLow), 4, UINT32_MAX);
       return GetEntry(b, past, kAddressLow) == 0 ? kRefused : kTaken;
     }},
    {"pending_array_written", kReject,
     [](Bench& b) {
       const uint64_t pending = b.msix_table() + 0x800;
       const uint64_t before = b.platform()->ReadMmio(pending, 8);
       b.platform()->WriteMmio(pending, 8, UINT64_MAX);
       b.platform()->WriteMmio(pending, 4, UINT32_MAX);
       return b.platform()->ReadMmio(pending, 8) == before ? kRefused : kTaken;
     }},
    {"space_between_written", kReject,
     [](Bench& b) {
       const uint64_t between = b.msix_table() + 0x400;
       b.platform()->WriteMmio(between, 8, UINT64_MAX);
       return b.platform()->ReadMmio(between, 8) == 0 ? kRefused : kTaken;
     }},
};

// --- Configuration space. ---

template <uint16_t kOffset>
Reaction Ignored(Bench& b) {
  return b.ConfigIgnores(kOffset, ~b.Config(kOffset));
}

void SetCommand(Bench& b, uint32_t off, uint32_t on) {
  b.SetConfig(kCommand, (b.Config(kCommand, 2) & ~off) | on, 2);
}

uint16_t Control(Bench& b) {
  return static_cast<uint16_t>(b.msix_capability() + 2);
}
// Holds all vectors with a bit of message control; taken when what came
// meanwhile comes afterwards, once.
Reaction HoldVectors(Bench& b, uint16_t clear, uint16_t set) {
  const uint32_t before = b.Config(Control(b), 2);
  b.SetConfig(Control(b), (before & ~uint32_t{clear}) | set, 2);
  if (Interrupts(b)) b.Fail("interrupt-though-held");
  const uint64_t count = b.Interrupts();
  b.SetConfig(Control(b), before, 2);
  b.Idle(kSettleNs);
  return b.Interrupts() == count + 1 ? kTaken : kRefused;
}

// Ones from a function that is not there.
Reaction Absent(Bench& b, PciLocation where) {
  b.platform()->WriteConfig(where, kCommand, 2, 7);
  b.platform()->WriteConfig(where, kBar0, 4, 0xC0000000);
  return b.platform()->ReadConfig(where, 0, 4) == UINT32_MAX &&
                 b.platform()->ReadConfig(where, kCommand, 2) == 0xFFFF
             ? kRefused
             : kTaken;
}

constexpr Case kConfig[] = {
    {"ids_written", kReject, Ignored<0x00>},
    {"revision_and_class_written", kReject, Ignored<0x08>},
    {"header_type_written", kReject, Ignored<0x0C>},
    {"bar_3_written", kReject, Ignored<0x1C>},
    {"bar_4_written", kReject, Ignored<0x20>},
    {"bar_5_written", kReject, Ignored<0x24>},
    {"cardbus_pointer_written", kReject, Ignored<0x28>},
    {"subsystem_written", kReject, Ignored<0x2C>},
    {"rom_bar_written", kReject, Ignored<0x30>},
    {"capability_pointer_written", kReject, Ignored<0x34>},
    {"reserved_0x38_written", kReject, Ignored<0x38>},
    {"msix_capability_id_written", kReject,
     [](Bench& b) { return b.ConfigIgnores(b.msix_capability(), 0xFFFF, 2); }},
    {"msix_table_size_written", kReject,
     [](Bench& b) {
       return b.ConfigIgnores(Control(b), b.Config(Control(b), 2) ^ 0x3FFF, 2);
     }},
    {"msix_table_place_written", kReject, Ignored<0x44>},
    {"msix_pending_place_written", kReject, Ignored<0x48>},
    {"behind_the_capabilities_written", kReject, Ignored<0x4C>},
    {"last_word_written", kReject, Ignored<0xFC>},
    {"extended_space_written", kReject, Ignored<0x100>},
    {"end_of_extended_space_written", kReject, Ignored<0xFFC>},
    {"status_written", kReject,
     [](Bench& b) { return b.ConfigIgnores(0x06, 0xFFFF, 2); }},
    {"command_reserved_bits", kReject,
     [](Bench& b) {
       return b.ConfigIgnores(
           kCommand, b.Config(kCommand, 2) | (0xFFFF & ~kIntxDisable), 2);
     }},
    {"interrupt_line_written", kPass,
     [](Bench& b) {
       b.SetConfig(0x3C, 0xAB, 1);
       const bool taken = b.Config(0x3C, 1) == 0xAB;
       b.SetConfig(0x3C, 0, 1);
       return taken ? kTaken : kRefused;
     }},
    {"interrupt_pin_written", kReject,
     [](Bench& b) { return b.ConfigIgnores(0x3D, 1, 1); }},
    {"unaligned_2_bytes", kReject,
     [](Bench& b) { return b.ConfigIgnores(0x13, 0xFFFF, 2); }},
    {"unaligned_4_bytes", kReject,
     [](Bench& b) { return b.ConfigIgnores(0x02, 0xFFFFFFFF, 4); }},
    {"absent_function", kReject,
     [](Bench& b) {
       PciLocation where = b.function()->where();
       where.function = 5;
       return Absent(b, where);
     }},
    {"absent_device", kReject,
     [](Bench& b) {
       return Absent(b, {31, 7});
     }},
    {"intx_disabled", kPass,
     [](Bench& b) {
       SetCommand(b, 0, kIntxDisable);
       const bool came = Interrupts(b);
       SetCommand(b, kIntxDisable, 0);
       return came ? kTaken : kRefused;
     }},
    {"msix_all_masked", kPass,
     [](Bench& b) { return HoldVectors(b, 0, kMsixMaskAll); }},
    {"msix_disabled", kPass,
     [](Bench& b) { return HoldVectors(b, kMsixEnable, 0); }},
    {"msix_control_100_times", kPass,
     [](Bench& b) {
       const uint32_t before = b.Config(Control(b), 2);
       for (uint32_t i = 0; i < 100; ++i) {
         b.SetConfig(Control(b), i << 14 & 0xC000, 2);
       }
       b.SetConfig(Control(b), before, 2);
       return Interrupts(b) ? kTaken : kRefused;
     }},
    {"bus_master_off_and_on", kDegraded,
     [](Bench& b) {
       SetCommand(b, kBusMaster, 0);
       SetCommand(b, 0, kBusMaster);
       return kTaken;
     }},
    {"bus_master_off_with_requests_waiting", kDegraded,
     [](Bench& b) {
       for (int i = 0; i < 30; ++i) b.Post(Ping(b));
       SetCommand(b, kBusMaster, 0);
       b.Ring();
       SetCommand(b, 0, kBusMaster);
       return kTaken;
     }},
    {"bus_master_off_with_requests_in_work", kDegraded,
     [](Bench& b) {
       for (int i = 0; i < 30; ++i) b.Post(Ping(b));
       b.Ring();
       SetCommand(b, kBusMaster, 0);
       SetCommand(b, 0, kBusMaster);
       return kTaken;
     }},
    {"bus_master_off_with_a_chain_in_work", kDegraded,
     [](Bench& b) {
       b.GoodDescriptor(0, 4096);
       for (uint32_t i = 0; i < RawQueue::kSize; ++i) b.queue().Offer(0);
       b.Kick();
       SetCommand(b, kBusMaster, 0);
       SetCommand(b, 0, kBusMaster);
       return kTaken;
     }},
    {"bus_master_off_stays_off", kDegraded,
     [](Bench& b) {
       SetCommand(b, kBusMaster, 0);
       return Answers(b);
     }},
    {"bus_master_100_times", kDegraded,
     [](Bench& b) {
       for (int i = 0; i < 100; ++i) {
         SetCommand(b, kBusMaster, 0);
         SetCommand(b, 0, kBusMaster);
       }
       return kTaken;
     }},
};

// --- BARs. ---

// Where nothing is: further up in the window of the BARs.
constexpr uint32_t kAway = 0x08000000;

Reaction BarIgnores(Bench& b, uint16_t bar, uint32_t value) {
  return b.ConfigIgnores(bar, value);
}

// To `address` and back. Taken when it went there.
template <uint16_t kBar>
Reaction Moved(Bench& b, uint32_t address) {
  const uint32_t before = b.Config(kBar);
  b.SetConfig(kBar, address);
  const bool went = (b.Config(kBar) & ~uint32_t{0xF}) == address;
  b.SetConfig(kBar, before);
  if (b.Config(kBar) != before) b.Fail("no-way-back");
  if (Answers(b) == kRefused) b.Fail("no-answer");
  return went ? kTaken : kRefused;
}
uint32_t Address(Bench& b, uint16_t bar) {
  return b.Config(bar) & ~uint32_t{0xF};
}

// Sizes of the BARs.
constexpr uint32_t kRegisterBytes = 16 * 1024;
constexpr uint32_t kTableBytes = 4096;
uint32_t WindowBytes(Bench& b) {
  uint32_t bytes = kFifoWindowBytes;
  while (bytes < b.function()->num_fifos() * kFifoWindowBytes) bytes *= 2;
  return bytes;
}
// RAM of ours, or right behind it, where a BAR of this size can be.
uint32_t InRam(Bench& b, uint32_t bytes) {
  return (static_cast<uint32_t>(b.queue().desc()) + bytes) & ~(bytes - 1);
}

constexpr Case kBars[] = {
    {"registers_moved", kPass,
     [](Bench& b) {
       const uint32_t before = b.Config(kBar0);
       const uint32_t to = Address(b, kBar0) + kAway;
       b.SetConfig(kBar0, to);
       const bool there =
           b.platform()->ReadMmio(to, 4) == 1 && b.ReadRegister(0, 4) != 1;
       b.Post(Ping(b));
       b.platform()->WriteMmio(to + 0x20, 4, 1);
       const bool rang = b.Collect(1) == 1;
       b.SetConfig(kBar0, before);
       return there && rang && b.ReadRegister(0, 4) == 1 ? kTaken : kRefused;
     }},
    {"windows_moved", kPass,
     [](Bench& b) {
       constexpr uint32_t kMarker = 0x600DF00D;
       const uint32_t before = b.Config(kBar1);
       const uint32_t to = Address(b, kBar1) + kAway;
       StoreRelease<uint32_t>(b.window() + 0x3000, kMarker);
       b.SetConfig(kBar1, to);
       const std::byte* const there = b.platform()->MapMemory(to, 0x4000);
       const bool same =
           there != nullptr && LoadAcquire<uint32_t>(there + 0x3000) == kMarker;
       b.SetConfig(kBar1, before);
       return same && Answers(b) == kTaken ? kTaken : kRefused;
     }},
    {"msix_table_moved", kPass,
     [](Bench& b) { return Moved<kBar2>(b, Address(b, kBar2) + kAway); }},
    {"moved_50_times", kPass,
     [](Bench& b) {
       for (uint32_t i = 1; i <= 50; ++i) {
         const uint32_t to = Address(b, kBar0) + kAway + i * 0x4000;
         if (Moved<kBar0>(b, to) == kRefused) return kRefused;
       }
       return kTaken;
     }},
    {"sized_while_decoding", kPass,
     [](Bench& b) {
       for (const uint16_t bar : {kBar0, kBar1, kBar2}) {
         const uint32_t before = b.Config(bar);
         b.SetConfig(bar, UINT32_MAX);
         const uint32_t size = ~(b.Config(bar) & ~uint32_t{0xF}) + 1;
         b.SetConfig(bar, before);
         if (size < 0x1000 || (size & (size - 1)) != 0) return kRefused;
       }
       return Answers(b);
     }},
    {"type_bits_written", kReject,
     [](Bench& b) { return BarIgnores(b, kBar0, b.Config(kBar0) | 0xF); }},
    {"address_below_the_size", kReject,
     [](Bench& b) { return BarIgnores(b, kBar0, b.Config(kBar0) + 0x1000); }},
    {"registers_at_0", kPass, [](Bench& b) { return Moved<kBar0>(b, 0); }},
    {"windows_at_0", kPass, [](Bench& b) { return Moved<kBar1>(b, 0); }},
    {"registers_over_ram", kReject,
     [](Bench& b) { return Moved<kBar0>(b, InRam(b, kRegisterBytes)); }},
    {"windows_over_ram", kReject,
     [](Bench& b) { return Moved<kBar1>(b, InRam(b, WindowBytes(b))); }},
    {"msix_table_over_ram", kReject,
     [](Bench& b) { return Moved<kBar2>(b, InRam(b, kTableBytes)); }},
    {"registers_over_the_windows", kReject,
     [](Bench& b) { return Moved<kBar0>(b, Address(b, kBar1)); }},
    {"windows_over_the_registers", kReject,
     [](Bench& b) {
       return Moved<kBar1>(b, Address(b, kBar0) & ~(WindowBytes(b) - 1));
     }},
    {"msix_table_over_the_registers", kReject,
     [](Bench& b) { return Moved<kBar2>(b, Address(b, kBar0)); }},
    {"decoding_off_and_on", kPass,
     [](Bench& b) {
       SetCommand(b, kMemory, 0);
       SetCommand(b, 0, kMemory);
       return Answers(b);
     }},
    {"registers_read_without_decoding", kReject,
     [](Bench& b) {
       SetCommand(b, kMemory, 0);
       const uint64_t version = b.ReadRegister(0, 4);
       SetCommand(b, 0, kMemory);
       return version == UINT32_MAX ? kRefused : kTaken;
     }},
    {"doorbell_without_decoding", kReject,
     [](Bench& b) {
       b.Idle(kSettleNs);
       b.Post(Ping(b));
       SetCommand(b, kMemory, 0);
       b.Ring();
       b.Idle(2 * kSettleNs);
       SetCommand(b, 0, kMemory);
       Packet packet;
       if (b.Receive(&packet)) return kTaken;
       b.Ring();
       if (b.Collect(1) != 1) b.Fail("no-answer");
       return kRefused;
     }},
    {"decoding_and_bus_master_off_and_on", kDegraded,
     [](Bench& b) {
       SetCommand(b, kMemory | kBusMaster, 0);
       SetCommand(b, 0, kMemory | kBusMaster);
       return kTaken;
     }},
};

}  // namespace

constinit const std::span<const Case> kMsixCases = kMsix;
constinit const std::span<const Case> kConfigCases = kConfig;
constinit const std::span<const Case> kBarCases = kBars;

}  // namespace vmsg::guest
