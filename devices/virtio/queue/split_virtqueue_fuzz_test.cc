// Any guest memory and any order of operations: the queue ends each call, its
// chains keep their promises, and it owes what was popped and not completed.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "devices/virtio/little_endian.h"
#include "devices/virtio/queue/split_virtqueue_fuzz_input.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "vmm/base/check.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/guest_memory.h"

namespace vmsg::virtio::fuzz {
namespace {

using PopResult = Virtqueue::PopResult;

void AddRegion(vmm::GuestMemory* memory, uint64_t start, uint64_t bytes,
               bool read_only) {
  auto backing = vmm::MemoryBacking::CreateAnonymous(bytes, "fuzz");
  VMSG_CHECK(backing.ok());
  VMSG_CHECK(memory
                 ->Add({.range = {{start}, bytes},
                        .read_only = read_only,
                        .backing = *backing})
                 .ok());
}

vmm::GuestMemory* Memory() {
  static vmm::GuestMemory* const memory = [] {
    auto* made = new vmm::GuestMemory;
    AddRegion(made, 0, kRamBytes, false);
    AddRegion(made, kReadOnlyStart, kReadOnlyBytes, true);
    return made;
  }();
  return memory;
}

class Run {
 public:
  Run(std::span<const std::byte> header, std::span<const std::byte> image)
      : size_(uint32_t{1} << (static_cast<uint32_t>(header[1]) % 7)),
        config_(ConfigOfSize(size_)),
        guest_(Memory()),
        dma_(Memory(), &gate_) {
    gate_.Set(true);
    std::vector<std::byte> ram(kRamBytes);
    std::copy_n(image.begin(), std::min(image.size(), ram.size()), ram.begin());
    VMSG_CHECK(guest_.Write({0}, ram) == vmm::DmaResult::kOk);
    const auto features = static_cast<uint8_t>(header[0]);
    features_.Set(kFeatureVersion1);
    if ((features & kEventIdx) != 0) features_.Set(kFeatureEventIdx);
    if ((features & kIndirect) != 0) features_.Set(kFeatureIndirectDesc);
    const auto start = LoadLittle<uint16_t>(header.subspan<2, 2>());
    Create({start, start});
  }

  void Do(uint8_t operation) {
    const uint8_t argument = operation >> 4;
    switch (static_cast<Op>((operation & 15) % kNumOps)) {
      case kPop:
        Pop();
        break;
      case kPopAll:
        for (uint32_t i = 0; Pop(); ++i) VMSG_CHECK(i < size_);
        break;
      case kCompleteOldest:
        if (held_.empty()) break;
        std::rotate(held_.begin(), held_.begin() + 1, held_.end());
        [[fallthrough]];
      case kCompleteNewest:
        if (!held_.empty()) CompleteLast(argument);
        break;
      case kCopy:
        if (!held_.empty()) Copy(held_.back(), argument);
        break;
      case kShouldNotify:
        queue_->ShouldNotify();
        VMSG_CHECK(!queue_->ShouldNotify(), "the answer is recorded");
        break;
      case kEnable:
        queue_->EnableNotifications();
        break;
      case kDisable:
        queue_->DisableNotifications();
        break;
      case kAdvanceAvail: {
        const vmm::GuestAddress idx{config_.driver.value + kAvailIdx};
        uint16_t value = 0;
        guest_.Load16(idx, std::memory_order_relaxed, &value);
        guest_.Store16(idx, static_cast<uint16_t>(value + argument),
                       std::memory_order_relaxed);
        break;
      }
      case kRotateDesc: {
        DescriptorBytes bytes;
        guest_.Read({0}, bytes);
        guest_.Write({kDescriptorBytes * (argument % size_)}, bytes);
        break;
      }
      case kReset:
        Create(queue_->position());
        break;
      case kGate:
        gate_.Set(argument % 2 == 0);
        break;
      case kNumOps:
        break;
    }
    CheckQueue();
  }

 private:
  void Create(Virtqueue::Position position) {
    auto queue = CreateVirtqueue(0, config_, size_, features_, &dma_, position);
    if (!queue.ok()) {
      VMSG_CHECK(!gate_.open(), "the areas are good");
      return;
    }
    queue_ = *std::move(queue);
    held_.clear();
  }

  bool Pop() {
    const uint32_t owed = queue_->owed();
    const QueueFault before = queue_->fault();
    DescriptorChain chain;
    const PopResult result = queue_->Pop(&chain);
    VMSG_CHECK(chain.valid() == (result == PopResult::kChain));
    VMSG_CHECK((queue_->fault() != QueueFault::kNone) ==
               (result == PopResult::kBroken));
    VMSG_CHECK(before == QueueFault::kNone || before == queue_->fault(),
               "a fault stays what it is");
    if (result != PopResult::kChain) {
      VMSG_CHECK(queue_->owed() == owed);
      return false;
    }
    VMSG_CHECK(queue_->owed() == owed + 1);
    CheckChain(chain);
    held_.push_back(std::move(chain));
    return true;
  }

  void CheckChain(const DescriptorChain& chain) {
    VMSG_CHECK(Sum(chain.readable(), false) == chain.readable_bytes());
    VMSG_CHECK(Sum(chain.writable(), true) == chain.writable_bytes());
    const size_t count = chain.readable().size() + chain.writable().size();
    VMSG_CHECK(count >= 1 && count <= size_);
  }

  // Nobody else runs: what the queue has checked is still so.
  uint64_t Sum(std::span<const Segment> segments, bool writable) {
    uint64_t sum = 0;
    for (const Segment& segment : segments) {
      VMSG_CHECK(segment.length != 0);
      VMSG_CHECK(dma_.Check({segment.address, segment.length}, writable) ==
                 vmm::DmaResult::kOk);
      sum += segment.length;
    }
    return sum;
  }

  void CompleteLast(uint8_t limit) {
    DescriptorChain chain = std::move(held_.back());
    held_.pop_back();
    const uint32_t written =
        limit == 0 ? chain.writable_bytes()
                   : std::min<uint32_t>(chain.writable_bytes(), limit);
    const uint16_t before = UsedIdx();
    const uint16_t expected = static_cast<uint16_t>(
        queue_->position().next_used +
        (queue_->fault() == QueueFault::kNone && gate_.open() ? 1 : 0));
    queue_->Complete(std::move(chain), written);
    VMSG_CHECK(queue_->position().next_used == expected);
    VMSG_CHECK(UsedIdx() == expected || UsedIdx() == before);
  }

  void Copy(const DescriptorChain& chain, uint8_t offset) {
    std::array<std::byte, 256> bytes = {};
    size_t copied = 0;
    const auto left = [&](uint32_t total) {
      return std::min<size_t>(bytes.size(),
                              total > offset ? total - offset : 0);
    };
    if (chain.Read(&dma_, offset, bytes, &copied) == vmm::DmaResult::kOk) {
      VMSG_CHECK(copied == left(chain.readable_bytes()));
    }
    if (chain.Write(&dma_, offset, bytes, &copied) == vmm::DmaResult::kOk) {
      VMSG_CHECK(copied == left(chain.writable_bytes()));
    }
  }

  void CheckQueue() {
    VMSG_CHECK(queue_->owed() == held_.size() && held_.size() <= size_);
  }

  uint16_t UsedIdx() {
    uint16_t value = 0;
    guest_.Load16({config_.device.value + kUsedIdx}, std::memory_order_relaxed,
                  &value);
    return value;
  }

  const uint32_t size_;
  const QueueConfig config_;
  Features features_;
  vmm::DmaGate gate_;
  vmm::DmaSpace guest_;
  vmm::DmaSpace dma_;
  std::unique_ptr<Virtqueue> queue_;
  std::deque<DescriptorChain> held_;
};

}  // namespace
}  // namespace vmsg::virtio::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using vmsg::virtio::fuzz::kHeaderBytes;
  const auto input = std::as_bytes(std::span(data, size));
  if (input.size() < kHeaderBytes) return 0;
  const size_t operations = std::min<size_t>(data[4], size - kHeaderBytes);
  vmsg::virtio::fuzz::Run run(input.first(kHeaderBytes),
                              input.subspan(kHeaderBytes + operations));
  for (size_t i = 0; i < operations; ++i) run.Do(data[kHeaderBytes + i]);
  return 0;
}
