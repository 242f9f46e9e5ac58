#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/fake_packed_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"
#include "gtest/gtest.h"
#include "tests/wire_pages/wire_page.h"
#include "vmm/base/guest_address.h"

namespace vmsg::virtio {
namespace {

using Buffer = FakeDriverQueue::Buffer;

const std::vector<Buffer>& ExampleChain() {
  static const auto* const kChain =
      new std::vector<Buffer>{{vmm::GuestAddress{0x180000}, 16, false},
                              {vmm::GuestAddress{0x180100}, 64, true}};
  return *kChain;
}

// The driver adds the chain of the example, and the device writes 48 bytes to
// it: what is in the areas then stands on the page under these two names.
template <typename Driver>
void CompareExample(const std::string& ring, const Features& features,
                    Driver* driver, TestMemory* memory, WirePage* page) {
  const WirePage::Reader read = [&](uint64_t address, size_t size) {
    return memory->Read(vmm::GuestAddress{address}, size);
  };
  const auto queue =
      *CreateVirtqueue(0, driver->config(), 4, features, memory->dma());
  ASSERT_TRUE(driver->Add(ExampleChain()).has_value());
  page->ExpectPlaces(ring + "_added", read);
  DescriptorChain taken;
  ASSERT_EQ(queue->Pop(&taken), Virtqueue::PopResult::kChain);
  queue->Complete(std::move(taken), 48);
  page->ExpectPlaces(ring + "_used", read);
}

TEST(VirtqueuesPageTest, RingsAreAsThePageShows) {
  WirePage page = WirePage::Open("virtqueues.md");
  {
    TestMemory memory;
    FakeDriverQueue driver(memory.memory(), TestMemory::kRam, 4,
                           /*event_idx=*/true);
    CompareExample("split", {kFeatureVersion1, kFeatureEventIdx}, &driver,
                   &memory, &page);
  }
  {
    TestMemory memory;
    FakePackedDriverQueue driver(memory.memory(), TestMemory::kRam, 4,
                                 /*event_idx=*/true);
    CompareExample("packed",
                   {kFeatureVersion1, kFeatureEventIdx, kFeatureRingPacked},
                   &driver, &memory, &page);
  }
  page.ExpectAllCompared();
}

}  // namespace
}  // namespace vmsg::virtio
