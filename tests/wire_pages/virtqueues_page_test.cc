#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"
#include "gtest/gtest.h"
#include "tests/wire_pages/wire_page.h"
#include "vmm/base/guest_address.h"

namespace vmsg::virtio {
namespace {

using Buffer = FakeDriverQueue::Buffer;

TEST(VirtqueuesPageTest, RingsAreAsThePageShows) {
  WirePage page = WirePage::Open("virtqueues.md");
  TestMemory memory;
  const WirePage::Reader read = [&](uint64_t address, size_t size) {
    return memory.Read(vmm::GuestAddress{address}, size);
  };
  FakeDriverQueue driver(memory.memory(), TestMemory::kRam, 4,
                         /*event_idx=*/true);
  const auto queue = *CreateVirtqueue(0, driver.config(), 4,
                                      {kFeatureVersion1, kFeatureEventIdx},
                                      memory.dma(), Virtqueue::Position{});
  const std::vector<Buffer> chain = {{vmm::GuestAddress{0x180000}, 16, false},
                                     {vmm::GuestAddress{0x180100}, 64, true}};
  ASSERT_TRUE(driver.Add(chain).has_value());
  page.ExpectPlaces("split_added", read);
  DescriptorChain taken;
  ASSERT_EQ(queue->Pop(&taken), Virtqueue::PopResult::kChain);
  queue->Complete(std::move(taken), 48);
  page.ExpectPlaces("split_used", read);

  // The packed ring, by its rules.
  constexpr uint16_t kNext = 1;
  constexpr uint16_t kWrite = 2;
  constexpr uint16_t kAvail = 1 << 7;
  constexpr uint16_t kUsed = 1 << 15;
  constexpr uint16_t kId = 3;
  std::vector<std::byte> ring;
  const auto append = [&](uint64_t value, size_t bytes) {
    for (size_t i = 0; i < bytes; ++i) {
      ring.push_back(static_cast<std::byte>(value >> 8 * i));
    }
  };
  for (size_t i = 0; i < chain.size(); ++i) {
    append(chain[i].address.value, 8);
    append(chain[i].length, 4);
    append(kId, 2);
    // Both wrap counters are 1.
    append((i + 1 < chain.size() ? kNext : 0) |
               (chain[i].writable ? kWrite : 0) | kAvail,
           2);
  }
  const WirePage::Reader read_ring = [&](uint64_t address, size_t size) {
    const size_t at = address - TestMemory::kRam.value;
    return std::vector<std::byte>(ring.begin() + at, ring.begin() + at + size);
  };
  page.ExpectPlaces("packed_added", read_ring);
  // What the device stores at the first place, from its length on.
  ring.resize(8);
  append(48, 4);
  append(kId, 2);
  append(kWrite | kAvail | kUsed, 2);
  page.ExpectPlaces("packed_used", read_ring);
  page.ExpectAllCompared();
}

}  // namespace
}  // namespace vmsg::virtio
