// The packed ring in any state; see Run.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "devices/virtio/features.h"
#include "devices/virtio/little_endian.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_fuzz_input.h"
#include "devices/virtio/queue/virtqueue_fuzz_run.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "vmm/base/check.h"
#include "vmm/base/guest_address.h"

namespace vmsg::virtio::fuzz {
namespace {

class PackedRun final : public Run {
 public:
  PackedRun(std::span<const std::byte> header, std::span<const std::byte> image)
      : Run(PackedConfigOfSize(SizeOf(header)), {kFeatureRingPacked}, header,
            image, Start(header)) {}

 private:
  static uint32_t SizeOf(std::span<const std::byte> header) {
    return 1 + static_cast<uint32_t>(header[1]) % 64;
  }
  static Virtqueue::Position Start(std::span<const std::byte> header) {
    PackedCursor cursor =
        PackedCursor::Decode(LoadLittle<uint16_t>(header.subspan<2, 2>()));
    cursor.slot = static_cast<uint16_t>(cursor.slot % SizeOf(header));
    return {cursor.Encode(), cursor.Encode()};
  }

  vmm::GuestAddress FlagsAt(uint32_t slot) {
    return {kDescriptorBytes * slot + kPackedFlags};
  }

  void AdvanceAvail(uint8_t argument) override {
    const vmm::GuestAddress at = FlagsAt(argument % size_);
    uint16_t flags = 0;
    guest_.Load16(at, std::memory_order_relaxed, &flags);
    const bool wrap = !IsPackedAvail(flags, /*wrap=*/true);
    flags &= static_cast<uint16_t>(~(kDescFlagAvail | kDescFlagUsed));
    guest_.Store16(at, static_cast<uint16_t>(flags | PackedAvailFlags(wrap)),
                   std::memory_order_relaxed);
  }

  uint32_t Passed(uint16_t from, uint16_t to) override {
    const uint32_t begin = PackedCursor::Decode(from).InTwoTurns(size_);
    const uint32_t end = PackedCursor::Decode(to).InTwoTurns(size_);
    return (end + 2 * size_ - begin) % (2 * size_);
  }

  // The first of them holds a used descriptor, unless the device has written
  // the guest's own buffer over it: that came before.
  void CheckUsed(uint16_t from, uint32_t count) override {
    if (count == 0) return;
    const PackedCursor cursor = PackedCursor::Decode(from);
    uint16_t flags = 0;
    guest_.Load16(FlagsAt(cursor.slot), std::memory_order_relaxed, &flags);
    VMSG_CHECK((flags & ~kDescFlagWrite) == PackedUsedFlags(cursor.wrap));
  }

  // virtio 1.2, 2.8.10 and 2.8.14. What makes no sense is no wish for silence.
  bool DriverWants(uint16_t from, uint32_t count) override {
    uint16_t position = 0;
    uint16_t flags = 0;
    guest_.Load16({config_.driver.value + kEventPosition},
                  std::memory_order_relaxed, &position);
    guest_.Load16({config_.driver.value + kEventFlags},
                  std::memory_order_relaxed, &flags);
    constexpr uint32_t kAtPosition = 2;
    if (flags % 4 != kAtPosition || !features_.Has(kFeatureEventIdx)) {
      return flags % 4 != 1;
    }
    if (position % 0x8000 >= size_) return true;
    PackedCursor cursor = PackedCursor::Decode(from);
    for (uint32_t i = 0; i < count; ++i) {
      if (cursor.Encode() == position) return true;
      cursor.Advance(1, size_);
    }
    return false;
  }
};

}  // namespace
}  // namespace vmsg::virtio::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace fuzz = vmsg::virtio::fuzz;
  return fuzz::RunInput<fuzz::PackedRun>({data, size});
}
