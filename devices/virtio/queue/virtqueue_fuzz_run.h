// What the fuzz targets of both ring formats do with an input.

#ifndef VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FUZZ_RUN_H_
#define VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FUZZ_RUN_H_

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <deque>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "devices/virtio/features.h"
#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/queue/virtqueue_fuzz_input.h"
#include "devices/virtio/queue/virtqueue_layout.h"
#include "vmm/base/check.h"
#include "vmm/memory/dma_space.h"
#include "vmm/memory/dma_translator.h"
#include "vmm/memory/guest_memory.h"
#include "vmm/memory/iova_map.h"

namespace vmsg::virtio::fuzz {

// Returns where the region is mapped.
inline std::byte* AddRegion(vmm::GuestMemory* memory, uint64_t start,
                            uint64_t bytes, bool read_only) {
  auto backing = vmm::MemoryBacking::CreateAnonymous(bytes, "fuzz");
  VMSG_CHECK(backing.ok());
  VMSG_CHECK(memory
                 ->Add({.range = {{start}, bytes},
                        .read_only = read_only,
                        .backing = *backing})
                 .ok());
  return (*backing)->data();
}

struct Memory {
  Memory() { AddRegion(&guest, kReadOnlyStart, kReadOnlyBytes, true); }

  vmm::GuestMemory guest;
  std::byte* const ram = AddRegion(&guest, 0, kRamBytes, false);
};

inline Memory* TheMemory() {
  static auto* const memory = new Memory;
  return memory;
}

// As virtqueue_fuzz_input.h says.
inline vmm::DmaTranslator* Translator() {
  static vmm::IovaMap* const map = [] {
    auto* made = new vmm::IovaMap;
    const auto add = [made](uint64_t iova, uint64_t bytes, uint64_t physical,
                            bool readable = true, bool writable = true) {
      VMSG_CHECK(made->Map({.iova = {{iova}, bytes},
                            .physical = {physical},
                            .readable = readable,
                            .writable = writable})
                     .ok());
    };
    constexpr uint64_t kPieces = kRamBytes / kTranslatedPiece;
    for (uint64_t i = 0; i < kPieces; ++i) {
      add(kTranslatedPiece * i, kTranslatedPiece,
          kTranslatedPiece * (kPieces - 1 - i));
    }
    constexpr uint64_t kRest = kTranslatedPiece * kPieces;
    add(kRest, kRamBytes - kRest, kRest);
    add(kIovaReadOnlyMemory, kIovaHalfPage, kReadOnlyStart);
    add(kIovaToBeRead, kIovaHalfPage, 0, true, false);
    add(kIovaToBeWritten, kIovaHalfPage, kIovaHalfPage, false, true);
    add(kIovaOfNoMemory, kIovaHalfPage, kReadOnlyStart + kReadOnlyBytes);
    return made;
  }();
  return map;
}

// Any guest memory and any order of operations: the queue ends each call, its
// chains keep their promises, and it owes what was popped and not completed. A
// subclass knows the format.
class Run {
 public:
  Run(const QueueConfig& config, const Features& format,
      std::span<const std::byte> header, std::span<const std::byte> image,
      Virtqueue::Position start)
      : size_(config.size),
        config_(config),
        features_(format),
        guest_(&TheMemory()->guest, nullptr, TranslatorFor(header)),
        dma_(&TheMemory()->guest, &gate_, TranslatorFor(header)) {
    gate_.Set(true);
    // All that is writable, and by a guest's way, word by word, it would be a
    // good part of the run.
    std::memset(TheMemory()->ram, 0, kRamBytes);
    image = image.first(std::min<size_t>(image.size(), kRamBytes));
    VMSG_CHECK(guest_.Write({0}, image) == vmm::DmaResult::kOk);
    const auto features = static_cast<uint8_t>(header[0]);
    features_.Set(kFeatureVersion1);
    if ((features & kEventIdx) != 0) features_.Set(kFeatureEventIdx);
    if ((features & kIndirect) != 0) features_.Set(kFeatureIndirectDesc);
    if ((features & kInOrder) != 0) features_.Set(kFeatureInOrder);
    Create(start);
  }
  Run(const Run&) = delete;
  Run& operator=(const Run&) = delete;
  virtual ~Run() = default;

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
        AskWhetherToNotify();
        break;
      case kEnable:
        queue_->EnableNotifications();
        break;
      case kDisable:
        queue_->DisableNotifications();
        break;
      case kAdvanceAvail:
        AdvanceAvail(argument);
        break;
      case kRotateDesc: {
        DescriptorBytes bytes;
        guest_.Read({0}, bytes);
        guest_.Write({kDescriptorBytes * (argument % size_)}, bytes);
        break;
      }
      case kReset: {
        // As after saving; what was owed is available again.
        const uint16_t used = queue_->position().next_used;
        Create({used, used});
        break;
      }
      case kGate:
        gate_.Set(argument % 2 == 0);
        break;
      case kNumOps:
        break;
    }
    VMSG_CHECK(queue_->owed() == held_.size() && held_.size() <= size_);
  }

 protected:
  virtual void AdvanceAvail(uint8_t argument) = 0;
  // How far the used position moved between two of them.
  virtual uint32_t Passed(uint16_t from, uint16_t to) = 0;
  // The queue says that it has put `count` chains (packed: descriptors) behind
  // `from`.
  virtual void CheckUsed(uint16_t from, uint32_t count) = 0;
  // Whether the driver, by what its area says now, wants to hear of `count`
  // entries (packed: descriptors) from position `from` on. Each is looked at.
  virtual bool DriverWants(uint16_t from, uint32_t count) = 0;

  const uint32_t size_;
  const QueueConfig config_;
  Features features_;
  vmm::DmaGate gate_;
  vmm::DmaSpace guest_;
  vmm::DmaSpace dma_;

 private:
  static vmm::DmaTranslator* TranslatorFor(std::span<const std::byte> header) {
    const auto features = static_cast<uint8_t>(header[0]);
    return (features & kTranslated) != 0 ? Translator() : nullptr;
  }

  void Create(Virtqueue::Position position) {
    auto queue = CreateVirtqueue(0, config_, size_, features_, &dma_, position);
    if (!queue.ok()) {
      VMSG_CHECK(!gate_.open(), "the areas are good");
      return;
    }
    queue_ = *std::move(queue);
    held_.clear();
    asked_at_ = position.next_used;
    unannounced_ = 0;
  }

  void AskWhetherToNotify() {
    // A driver whose wish can't be read is told.
    const bool readable = queue_->fault() == QueueFault::kNone && gate_.open();
    const bool wanted = unannounced_ != 0 &&
                        (!readable || DriverWants(asked_at_, unannounced_));
    VMSG_CHECK(queue_->ShouldNotify() == wanted,
               "told without need, or not told");
    VMSG_CHECK(!queue_->ShouldNotify(), "the answer is recorded");
    asked_at_ = queue_->position().next_used;
    unannounced_ = 0;
  }

  bool Pop() {
    const uint32_t owed = queue_->owed();
    const QueueFault before = queue_->fault();
    DescriptorChain chain;
    const Virtqueue::PopResult result = queue_->Pop(&chain);
    VMSG_CHECK(chain.valid() == (result == Virtqueue::PopResult::kChain));
    VMSG_CHECK((queue_->fault() != QueueFault::kNone) ==
               (result == Virtqueue::PopResult::kBroken));
    VMSG_CHECK(before == QueueFault::kNone || before == queue_->fault(),
               "a fault stays what it is");
    if (result != Virtqueue::PopResult::kChain) {
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

  // Chains that wait for their turn make the difference between none and many.
  void CompleteLast(uint8_t limit) {
    DescriptorChain chain = std::move(held_.back());
    held_.pop_back();
    const uint32_t written =
        limit == 0 ? chain.writable_bytes()
                   : std::min<uint32_t>(chain.writable_bytes(), limit);
    const bool works = queue_->fault() == QueueFault::kNone && gate_.open();
    const uint16_t before = queue_->position().next_used;
    queue_->Complete(std::move(chain), written);
    const uint32_t passed = Passed(before, queue_->position().next_used);
    VMSG_CHECK(passed <= size_);
    unannounced_ += passed;
    VMSG_CHECK(works || passed == 0, "a broken queue writes nothing");
    VMSG_CHECK(!works || passed != 0 || features_.Has(kFeatureInOrder));
    CheckUsed(before, passed);
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

  std::unique_ptr<Virtqueue> queue_;
  std::deque<DescriptorChain> held_;
  uint16_t asked_at_ = 0;  // used position at the last question
  uint32_t unannounced_ = 0;
};

// An input as virtqueue_fuzz_input.h says. Returns 0, for the fuzzer.
template <typename FormatRun>
int RunInput(std::span<const uint8_t> data) {
  if (data.size() < kHeaderBytes) return 0;
  const size_t wanted = data[kHeaderBytes - 1];
  const auto operations =
      data.subspan(kHeaderBytes, std::min(wanted, data.size() - kHeaderBytes));
  FormatRun run(std::as_bytes(data.first(kHeaderBytes)),
                std::as_bytes(data.subspan(kHeaderBytes + operations.size())));
  for (const uint8_t operation : operations) run.Do(operation);
  return 0;
}

}  // namespace vmsg::virtio::fuzz

#endif  // VMSG_DEVICES_VIRTIO_QUEUE_VIRTQUEUE_FUZZ_RUN_H_
