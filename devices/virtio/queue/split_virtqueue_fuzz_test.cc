// The split ring in any state; see Run.

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

class SplitRun final : public Run {
 public:
  SplitRun(std::span<const std::byte> header, std::span<const std::byte> image)
      : Run(ConfigOfSize(uint32_t{1} << (static_cast<uint32_t>(header[1]) % 7)),
            {}, header, image, Start(header)) {}

 private:
  static Virtqueue::Position Start(std::span<const std::byte> header) {
    const auto start = LoadLittle<uint16_t>(header.subspan<2, 2>());
    return {start, start};
  }

  void AdvanceAvail(uint8_t argument) override {
    const vmm::GuestAddress idx{config_.driver.value + kAvailIdx};
    uint16_t value = 0;
    guest_.Load16(idx, std::memory_order_relaxed, &value);
    guest_.Store16(idx, static_cast<uint16_t>(value + argument),
                   std::memory_order_relaxed);
  }

  uint32_t Passed(uint16_t from, uint16_t to) override {
    return static_cast<uint16_t>(to - from);
  }

  void CheckUsed(uint16_t from, uint32_t count) override {
    if (count == 0) return;
    uint16_t idx = 0;
    guest_.Load16({config_.device.value + kUsedIdx}, std::memory_order_relaxed,
                  &idx);
    VMSG_CHECK(idx == static_cast<uint16_t>(from + count));
  }

  // virtio 1.2, 2.7.7.2.
  bool DriverWants(uint16_t from, uint32_t count) override {
    const bool event_idx = features_.Has(kFeatureEventIdx);
    uint16_t word = 0;
    guest_.Load16({config_.driver.value +
                   (event_idx ? UsedEventOffset(size_) : kAvailFlags)},
                  std::memory_order_relaxed, &word);
    if (!event_idx) return word % 2 == 0;
    for (uint32_t i = 0; i < count; ++i) {
      if (static_cast<uint16_t>(from + i) == word) return true;
    }
    return false;
  }
};

}  // namespace
}  // namespace vmsg::virtio::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  namespace fuzz = vmsg::virtio::fuzz;
  return fuzz::RunInput<fuzz::SplitRun>({data, size});
}
