// Makes the seeds of packed_virtqueue_fuzz_test. To write them:
//
//   bazel run //devices/virtio/queue:packed_virtqueue_seed_test -- --write

#include <cstdint>
#include <string>

#include "bazel/seed_corpus.h"
#include "devices/virtio/queue/virtqueue_fuzz_input.h"
#include "devices/virtio/queue/virtqueue_fuzz_seed.h"
#include "devices/virtio/queue/virtqueue_layout.h"

namespace vmsg::virtio::fuzz {
namespace {

class Seed : public SeedBase<Seed> {
 public:
  Seed(uint8_t features, uint8_t size, PackedCursor start = {})
      : SeedBase(features, static_cast<uint8_t>(size - 1), start.Encode()),
        config_(PackedConfigOfSize(size)) {}

  Seed& Desc(uint64_t table, uint64_t index,
             const PackedDescriptor& descriptor) {
    return PutDescriptor(table, index, EncodePackedDescriptor(descriptor));
  }
  Seed& DriverEvent(PackedCursor position, uint16_t flags) {
    Put16(config_.driver.value + kEventPosition, position.Encode());
    return Put16(config_.driver.value + kEventFlags, flags);
  }

 private:
  QueueConfig config_;
};

// Available in the first turn of the ring, and in the second.
constexpr uint16_t kFirst = PackedAvailFlags(true);
constexpr uint16_t kSecond = PackedAvailFlags(false);

vmsg::fuzz::Seeds Seeds() {
  vmsg::fuzz::Seeds seeds;
  const auto add = [&seeds](const std::string& name, const Seed& seed) {
    seeds[name] = seed.Bytes();
  };
  add("one_request", Seed(kEventIdx | kIndirect, 7)
                         .Desc(0, 0, {0x800, 16, 0, kNext | kFirst})
                         .Desc(0, 1, {0x900, 32, 5, kWrite | kFirst})
                         .Ops(kServeAll));
  add("three_requests_out_of_order",
      Seed(kEventIdx, 4)
          .Desc(0, 0, {0x800, 16, 1, kFirst})
          .Desc(0, 1, {0x900, 32, 2, kWrite | kFirst})
          .Desc(0, 2, {0x800, 300, 3, kWrite | kFirst})
          .DriverEvent({1, true}, kEventDesc)
          .Ops({kPop, kPop, kCopy, kCompleteNewest, kShouldNotify, kPop,
                kCompleteOldest, kCompleteOldest, kShouldNotify, kEnable}));
  // Where the driver wants to hear of it: nearly, or not at all.
  const auto event_at = [](PackedCursor position) {
    return Seed(kEventIdx, 4, {2, true})
        .Desc(0, 2, {0x800, 16, 0, kWrite | kFirst})
        .DriverEvent(position, kEventDesc)
        .Ops({kPop, kCompleteNewest, kShouldNotify});
  };
  add("event_at_it", event_at({2, true}));
  add("event_before_it", event_at({1, true}));
  add("event_behind_it", event_at({3, true}));
  add("event_a_turn_later", event_at({2, false}));
  add("in_order",
      Seed(kInOrder | kEventIdx, 5)
          .Desc(0, 0, {0x800, 16, 1, kNext | kFirst})
          .Desc(0, 1, {0x900, 32, 2, kWrite | kFirst})
          .Desc(0, 2, {0xa00, 8, 3, kWrite | kFirst})
          .Desc(0, 3, {0xb00, 8, 4, kFirst})
          .Ops({kPopAll, kCompleteNewest, kShouldNotify, kCompleteNewest,
                kEnable, kCompleteNewest, kShouldNotify}));
  add("chain_across_the_end",
      Seed(0, 3, {2, true})
          .Desc(0, 2, {0x800, 16, 0, kNext | kFirst})
          .Desc(0, 0, {0x900, 16, 9, kWrite | kSecond})
          .DriverEvent({0, false}, kEventDesc)
          .Ops({kPop, kCompleteOldest, kShouldNotify, kDisable,
                Operation(kAdvanceAvail, 1), kEnable, kPopAll}));
  add("second_turn", Seed(kEventIdx, 2, {0, false})
                         .Desc(0, 0, {0x800, 16, 0, kWrite | kSecond})
                         .Desc(0, 1, {0x800, 16, 1, kWrite | kSecond})
                         .Ops({kPopAll, kCompleteOldest, kCompleteOldest,
                               Operation(kAdvanceAvail, 0), kEnable, kPopAll,
                               kCompleteOldest, kShouldNotify}));
  add("indirect", Seed(kIndirect, 8)
                      .Desc(0, 0, {0x600, 48, 6, kTable | kFirst})
                      .Desc(0x600, 0, {0x800, 8})
                      .Desc(0x600, 1, {0x900, 8, 0, kWrite})
                      .Desc(0x600, 2, {0xa00, 8, 0, kWrite})
                      .Ops(kServeAll));
  add("indirect_in_a_chain", Seed(kIndirect, 8)
                                 .Desc(0, 0, {0x800, 8, 0, kNext | kFirst})
                                 .Desc(0, 1, {0x600, 32, 0, kTable | kFirst})
                                 .Ops(kServeAll));
  add("indirect_in_indirect", Seed(kIndirect, 8)
                                  .Desc(0, 0, {0x600, 16, 0, kTable | kFirst})
                                  .Desc(0x600, 0, {0x600, 16, 0, kTable})
                                  .Ops(kServeAll));
  add("all_round_the_ring", Seed(0, 2)
                                .Desc(0, 0, {0x800, 8, 0, kNext | kFirst})
                                .Desc(0, 1, {0x800, 8, 0, kNext | kFirst})
                                .Ops(kServeAll));
  add("goes_on_where_nothing_is",
      Seed(0, 4).Desc(0, 0, {0x800, 8, 0, kNext | kFirst}).Ops(kServeAll));
  add("too_many_available",
      Seed(0, 1)
          .Desc(0, 0, {0x800, 8, 0, kFirst})
          .Ops({kPop, Operation(kAdvanceAvail, 0), kEnable, kPop}));
  add("buffer_past_the_end",
      Seed(0, 8).Desc(0, 0, {0x7ff8, 16, 0, kWrite | kFirst}).Ops(kServeAll));
  add("buffer_wraps", Seed(0, 8)
                          .Desc(0, 0, {0xfffffffffffffff8, 16, 0, kFirst})
                          .Ops(kServeAll));
  add("read_only", Seed(0, 8)
                       .Desc(0, 0, {0x8000, 8, 0, kNext | kFirst})
                       .Desc(0, 1, {0x8010, 8, 0, kWrite | kFirst})
                       .Ops(kServeAll));
  // The device writes into its own ring on the guest's behalf.
  add("buffer_is_the_ring", Seed(kEventIdx, 4)
                                .Desc(0, 0, {0, 0x48, 0, kWrite | kFirst})
                                .Desc(0, 1, {0, 0x48, 0, kWrite | kFirst})
                                .Ops(kServeAll));
  add("bus_master_off", Seed(0, 2)
                            .Desc(0, 0, {0x800, 8, 0, kWrite | kFirst})
                            .Desc(0, 1, {0x800, 8, 0, kWrite | kFirst})
                            .Ops({kPop, Operation(kGate, 1), kCompleteNewest,
                                  kPop, kReset, kGate, kReset, kPop}));
  add("descriptors_change_while_owed",
      Seed(kEventIdx, 4)
          .Desc(0, 0, {0x800, 8, 0, kWrite | kFirst})
          .Desc(0, 1, {0x900, 8, 1, kWrite | kFirst})
          .Ops({kPopAll, Operation(kRotateDesc, 1), kCopy, kCompleteNewest,
                kPopAll}));
  // Ring, buffers and table across pieces of the translation.
  add("translated", Seed(kTranslated | kEventIdx | kIndirect, 64, {57, true})
                        .Desc(0, 57, {0x1d40, 64, 0, kNext | kFirst})
                        .Desc(0, 58, {0x2000, 3000, 1, kWrite | kFirst})
                        .Desc(0, 59, {0xaf0, 32, 2, kTable | kFirst})
                        .Desc(0xaf0, 0, {0x1000, 8})
                        .Desc(0xaf0, 1, {0x3a0, 16, 0, kWrite})
                        .Ops({kPopAll, kCopy, kCompleteOldest, kCopy,
                              kCompleteNewest, kShouldNotify, kEnable}));
  const auto translated = [](uint64_t address, uint32_t length,
                             uint16_t flags) {
    return Seed(kTranslated, 8)
        .Desc(0, 0, {address, length, 0, static_cast<uint16_t>(flags | kFirst)})
        .Ops(kServeAll);
  };
  add("translated_to_read_only_memory",
      translated(kIovaReadOnlyMemory, 8, kWrite));
  add("translated_in_part", translated(kIovaReadOnlyMemory + 0x7f8, 16, 0));
  add("translated_not_to_be_written", translated(kIovaToBeRead, 8, kWrite));
  add("translated_not_to_be_read", translated(kIovaToBeWritten, 8, 0));
  add("translated_to_no_memory", translated(kIovaOfNoMemory, 8, 0));
  // More pieces than a check looks at, and a hole behind them.
  add("translated_hole_far_behind", translated(0, 0x8801, kWrite));
  return seeds;
}

}  // namespace
}  // namespace vmsg::virtio::fuzz

int main(int argc, char** argv) {
  return vmsg::fuzz::SeedTestMain(
      argc, argv, "devices/virtio/queue/packed_virtqueue_corpus",
      vmsg::virtio::fuzz::Seeds());
}
