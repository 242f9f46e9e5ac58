// Makes the seeds of split_virtqueue_fuzz_test. To write them:
//
//   bazel run //devices/virtio/queue:split_virtqueue_seed_test -- --write

#include <cstdint>
#include <string>
#include <vector>

#include "bazel/seed_corpus.h"
#include "devices/virtio/queue/virtqueue_fuzz_input.h"
#include "devices/virtio/queue/virtqueue_fuzz_seed.h"
#include "devices/virtio/queue/virtqueue_layout.h"

namespace vmsg::virtio::fuzz {
namespace {

class Seed : public SeedBase<Seed> {
 public:
  Seed(uint8_t features, uint8_t log2_size, uint16_t start = 0)
      : SeedBase(features, log2_size, start),
        start_(start),
        config_(ConfigOfSize(uint32_t{1} << log2_size)) {
    Put16(config_.driver.value + kAvailIdx, start);
    Put16(config_.device.value + kUsedIdx, start);
  }

  Seed& Desc(uint64_t table, uint64_t index, const Descriptor& descriptor) {
    return PutDescriptor(table, index, EncodeDescriptor(descriptor));
  }
  // The entries from the start, and the index behind them.
  Seed& Avail(const std::vector<uint16_t>& heads) {
    uint16_t idx = start_;
    for (uint16_t head : heads) {
      Put16(config_.driver.value + kAvailRing +
                kAvailEntryBytes * (idx++ % config_.size),
            head);
    }
    return AvailIdx(idx);
  }
  Seed& AvailIdx(uint16_t idx) {
    return Put16(config_.driver.value + kAvailIdx, idx);
  }
  Seed& UsedEvent(uint16_t event) {
    return Put16(config_.driver.value + UsedEventOffset(config_.size), event);
  }

 private:
  uint16_t start_;
  QueueConfig config_;
};

vmsg::fuzz::Seeds Seeds() {
  vmsg::fuzz::Seeds seeds;
  const auto add = [&seeds](const std::string& name, const Seed& seed) {
    seeds[name] = seed.Bytes();
  };
  add("one_request", Seed(kEventIdx | kIndirect, 3)
                         .Desc(0, 0, {0x800, 16, kNext, 1})
                         .Desc(0, 1, {0x900, 32, kWrite})
                         .Avail({0})
                         .Ops(kServeAll));
  add("three_requests_out_of_order",
      Seed(kEventIdx, 2)
          .Desc(0, 0, {0x800, 16})
          .Desc(0, 1, {0x900, 32, kWrite})
          .Desc(0, 2, {0x800, 300, kWrite})
          .Avail({2, 0, 1})
          .UsedEvent(1)
          .Ops({kPop, kPop, kCopy, kCompleteNewest, kShouldNotify, kPop,
                kCompleteOldest, kCompleteOldest, kShouldNotify, kEnable}));
  add("indices_wrap",
      Seed(0, 2, 65534)
          .Desc(0, 0, {0x800, 16, kWrite})
          .Avail({0, 0, 0, 0})
          .Ops({kPopAll, kCompleteOldest, kCompleteOldest, kCompleteOldest,
                kShouldNotify, kDisable, Operation(kAdvanceAvail, 2), kEnable,
                kPopAll, kCompleteOldest, kShouldNotify}));
  // Where the driver wants to hear of it: nearly, or not at all.
  const auto event_at = [](uint16_t event) {
    return Seed(kEventIdx, 2, 2)
        .Desc(0, 0, {0x800, 16, kWrite})
        .Avail({0})
        .UsedEvent(event)
        .Ops({kPop, kCompleteNewest, kShouldNotify});
  };
  add("event_at_it", event_at(2));
  add("event_before_it", event_at(1));
  add("event_behind_it", event_at(3));
  add("in_order",
      Seed(kInOrder | kEventIdx, 2)
          .Desc(0, 0, {0x800, 16, kWrite})
          .Desc(0, 1, {0x900, 32, kWrite})
          .Desc(0, 2, {0xa00, 8})
          .Avail({1, 0, 2})
          .Ops({kPopAll, kCompleteNewest, kShouldNotify, kCompleteNewest,
                kEnable, kCompleteNewest, kShouldNotify}));
  add("indirect", Seed(kIndirect, 3)
                      .Desc(0, 1, {0x600, 48, kTable})
                      .Desc(0x600, 0, {0x800, 8, kNext, 2})
                      .Desc(0x600, 1, {0x900, 8, kWrite})
                      .Desc(0x600, 2, {0xa00, 8, kNext | kWrite, 1})
                      .Avail({1})
                      .Ops(kServeAll));
  add("buffers_before_indirect", Seed(kIndirect, 3)
                                     .Desc(0, 0, {0x800, 8, kNext, 3})
                                     .Desc(0, 3, {0x600, 32, kTable | kWrite})
                                     .Desc(0x600, 0, {0x800, 8, kNext, 1})
                                     .Desc(0x600, 1, {0x900, 8, kWrite})
                                     .Avail({0})
                                     .Ops(kServeAll));
  add("indirect_in_indirect", Seed(kIndirect, 3)
                                  .Desc(0, 0, {0x600, 16, kTable})
                                  .Desc(0x600, 0, {0x600, 16, kTable})
                                  .Avail({0})
                                  .Ops(kServeAll));
  add("loop", Seed(0, 3)
                  .Desc(0, 0, {0x800, 8, kNext, 1})
                  .Desc(0, 1, {0x800, 8, kNext, 0})
                  .Avail({0})
                  .Ops(kServeAll));
  add("too_many_available", Seed(0, 3).AvailIdx(9).Ops(kServeAll));
  add("buffer_past_the_end",
      Seed(0, 3).Desc(0, 0, {0x7ff8, 16, kWrite}).Avail({0}).Ops(kServeAll));
  add("buffer_wraps", Seed(0, 3)
                          .Desc(0, 0, {0xfffffffffffffff8, 16})
                          .Avail({0})
                          .Ops(kServeAll));
  add("read_only", Seed(0, 3)
                       .Desc(0, 0, {0x8000, 8, kNext, 1})
                       .Desc(0, 1, {0x8010, 8, kWrite})
                       .Avail({0})
                       .Ops(kServeAll));
  // The device writes into its own rings on the guest's behalf.
  add("buffer_is_the_ring", Seed(kEventIdx, 2)
                                .Desc(0, 0, {0, 0x100, kWrite})
                                .Avail({0, 0})
                                .Ops(kServeAll));
  add("bus_master_off", Seed(0, 1)
                            .Desc(0, 0, {0x800, 8, kWrite})
                            .Avail({0, 0})
                            .Ops({kPop, Operation(kGate, 1), kCompleteNewest,
                                  kPop, kReset, kGate, kReset, kPop}));
  add("descriptors_change_while_owed",
      Seed(kEventIdx, 2)
          .Desc(0, 1, {0x800, 8, kWrite})
          .Avail({1, 1})
          .Ops({kPop, Operation(kRotateDesc, 1), kCopy, kCompleteNewest,
                kPopAll}));
  // Rings, buffers and table across pieces of the translation.
  add("translated", Seed(kTranslated | kEventIdx | kIndirect, 6)
                        .Desc(0, 0, {0x1d40, 64, kNext, 1})
                        .Desc(0, 1, {0x2000, 3000, kWrite})
                        .Desc(0, 2, {0xaf0, 32, kTable})
                        .Desc(0xaf0, 0, {0x1000, 8, kNext, 1})
                        .Desc(0xaf0, 1, {0x3a0, 16, kWrite})
                        .Avail({0, 2})
                        .Ops({kPopAll, kCopy, kCompleteOldest, kCopy,
                              kCompleteNewest, kShouldNotify, kEnable}));
  const auto translated = [](Descriptor descriptor) {
    return Seed(kTranslated, 3)
        .Desc(0, 0, descriptor)
        .Avail({0})
        .Ops(kServeAll);
  };
  add("translated_to_read_only_memory",
      translated({kIovaReadOnlyMemory, 8, kWrite}));
  add("translated_in_part", translated({kIovaReadOnlyMemory + 0x7f8, 16}));
  add("translated_not_to_be_written", translated({kIovaToBeRead, 8, kWrite}));
  add("translated_not_to_be_read", translated({kIovaToBeWritten, 8}));
  add("translated_to_no_memory", translated({kIovaOfNoMemory, 8}));
  // More pieces than a check looks at, and a hole behind them.
  add("translated_hole_far_behind", translated({0, 0x8801, kWrite}));
  return seeds;
}

}  // namespace
}  // namespace vmsg::virtio::fuzz

int main(int argc, char** argv) {
  return vmsg::fuzz::SeedTestMain(argc, argv,
                                  "devices/virtio/queue/split_virtqueue_corpus",
                                  vmsg::virtio::fuzz::Seeds());
}
