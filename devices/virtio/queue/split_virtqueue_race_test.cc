// The two sides on two threads: a driver that keeps the rules, and one that
// scribbles. For ThreadSanitizer and AddressSanitizer above all.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <random>
#include <thread>
#include <utility>
#include <vector>

#include "devices/virtio/queue/virtqueue.h"
#include "devices/virtio/testing/fake_driver_queue.h"
#include "devices/virtio/testing/test_memory.h"
#include "vmm/memory/dma_space.h"

namespace vmsg::virtio {
namespace {

using Buffer = FakeDriverQueue::Buffer;
using PopResult = Virtqueue::PopResult;

constexpr uint32_t kSize = 16;
const Features kFeatures = {kFeatureVersion1, kFeatureIndirectDesc,
                            kFeatureEventIdx};

// Levels, as a doorbell and an interrupt are.
struct Bells {
  std::atomic<bool> kick{false};
  std::atomic<bool> interrupt{false};
};

// Echoes: each request is one readable and one writable word.
void RunDevice(TestMemory* memory, Virtqueue* queue, uint32_t requests,
               Bells* bells) {
  uint32_t served = 0;
  while (served < requests) {
    if (!bells->kick.exchange(false)) {
      std::this_thread::yield();
      continue;
    }
    do {
      DescriptorChain chain;
      while (queue->Pop(&chain) == PopResult::kChain) {
        std::array<std::byte, 4> word;
        size_t copied = 0;
        ASSERT_EQ(chain.Read(memory->dma(), 0, word, &copied),
                  vmm::DmaResult::kOk);
        ASSERT_EQ(chain.Write(memory->dma(), 0, word, &copied),
                  vmm::DmaResult::kOk);
        queue->Complete(std::move(chain), 4);
        ++served;
        if (served % 3 == 0 && queue->ShouldNotify()) bells->interrupt = true;
      }
      if (queue->ShouldNotify()) bells->interrupt = true;
    } while (queue->EnableNotifications());
    ASSERT_EQ(queue->fault(), QueueFault::kNone);
  }
}

// A lost kick or a lost interrupt hangs this test: each side sleeps unless it
// was told.
void EchoAcrossThreads(bool event_idx) {
  constexpr uint32_t kRequests = 20000;
  TestMemory memory;
  FakeDriverQueue driver(memory.memory(), TestMemory::kRam, kSize, event_idx);
  Features features = kFeatures;
  if (!event_idx) features.Clear(kFeatureEventIdx);
  auto queue =
      *CreateVirtqueue(0, driver.config(), kSize, features, memory.dma());
  Bells bells;
  std::thread device(
      [&] { RunDevice(&memory, queue.get(), kRequests, &bells); });

  vmm::DmaSpace guest(memory.memory());
  uint32_t sent = 0;
  uint32_t received = 0;
  const auto slot_of = [](uint32_t request) {
    return vmm::GuestAddress{TestMemory::kBuffers.value +
                             8 * (request % (kSize / 2))};
  };
  while (received < kRequests) {
    while (sent < kRequests && sent - received < kSize / 2) {
      const vmm::GuestAddress in = slot_of(sent);
      std::array<std::byte, 4> word;
      StoreLittle<uint32_t>(sent, word);
      ASSERT_EQ(guest.Write(in, word), vmm::DmaResult::kOk);
      const Buffer buffers[] = {{in, 4}, {{in.value + 4}, 4, true}};
      ASSERT_TRUE(driver.Add(buffers).has_value());
      ++sent;
    }
    if (driver.ShouldKick()) bells.kick = true;
    bool any = false;
    while (const auto used = driver.TakeUsed()) {
      any = true;
      EXPECT_EQ(used->length, 4u);
      std::array<std::byte, 4> word;
      ASSERT_EQ(guest.Read({slot_of(received).value + 4}, word),
                vmm::DmaResult::kOk);
      ASSERT_EQ(LoadLittle<uint32_t>(std::span<const std::byte, 4>(word)),
                received);
      ++received;
    }
    if (any || received == kRequests || driver.EnableInterrupts()) continue;
    while (!bells.interrupt.exchange(false)) std::this_thread::yield();
  }
  device.join();
  EXPECT_EQ(driver.bad_used(), 0u);
}

TEST(SplitQueueRaceTest, NoKickOrInterruptIsLostWithTheEventIndex) {
  EchoAcrossThreads(/*event_idx=*/true);
}

TEST(SplitQueueRaceTest, NoKickOrInterruptIsLostWithFlags) {
  EchoAcrossThreads(/*event_idx=*/false);
}

// What a chain promises, whatever the guest does meanwhile.
void ExpectInvariants(const DescriptorChain& chain, const Virtqueue& queue) {
  ASSERT_TRUE(chain.valid());
  ASSERT_GE(chain.readable().size() + chain.writable().size(), 1u);
  ASSERT_LE(chain.readable().size() + chain.writable().size(), queue.size());
  uint64_t readable = 0;
  for (const Segment& segment : chain.readable()) {
    ASSERT_NE(segment.length, 0u);
    readable += segment.length;
  }
  uint64_t writable = 0;
  for (const Segment& segment : chain.writable()) {
    ASSERT_NE(segment.length, 0u);
    writable += segment.length;
  }
  ASSERT_EQ(readable, chain.readable_bytes());
  ASSERT_EQ(writable, chain.writable_bytes());
  ASSERT_LE(queue.owed(), queue.size());
}

TEST(SplitQueueRaceTest, WriterThatScribblesOverRingsHarmsNobodyElse) {
  TestMemory memory;
  FakeDriverQueue driver(memory.memory(), TestMemory::kRam, kSize,
                         /*event_idx=*/true);
  std::atomic<bool> stop{false};
  std::thread scribbler([&] {
    vmm::DmaSpace guest(memory.memory());
    std::mt19937_64 random(7);
    const uint64_t ring_bytes = FakeDriverQueue::BytesNeeded(kSize);
    while (!stop.load(std::memory_order_relaxed)) {
      // A plausible descriptor now and then, so that chains get through.
      Descriptor descriptor;
      descriptor.address = random() % 8 == 0
                               ? random()
                               : TestMemory::kBuffers.value + random() % 4096;
      descriptor.length = random() % 8 == 0
                              ? static_cast<uint32_t>(random())
                              : 1 + static_cast<uint32_t>(random() % 512);
      descriptor.flags =
          static_cast<uint16_t>(random() % 16 == 0 ? random() : random() % 4);
      descriptor.next = static_cast<uint16_t>(random() % (kSize + 1));
      guest.Write(
          {TestMemory::kRam.value + kDescriptorBytes * (random() % kSize)},
          EncodeDescriptor(descriptor));
      std::array<std::byte, 8> noise;
      StoreLittle<uint64_t>(random(), noise);
      if (random() % 16 == 0) {
        guest.Write({TestMemory::kRam.value + random() % ring_bytes}, noise);
      }
      guest.Store16({driver.config().driver.value + kAvailRing +
                     kAvailEntryBytes * (random() % kSize)},
                    static_cast<uint16_t>(random() % (kSize + 1)),
                    std::memory_order_relaxed);
      // An index that moves by little.
      guest.Store16({driver.config().driver.value + kAvailIdx},
                    static_cast<uint16_t>(random() % 4),
                    std::memory_order_release);
    }
  });

  // Until enough has happened of both kinds; else the scribbling proves
  // nothing.
  uint64_t chains = 0;
  uint64_t faults = 0;
  std::array<std::byte, 64> data = {};
  while (chains < 2000 || faults < 2000) {
    auto queue =
        *CreateVirtqueue(0, driver.config(), kSize, kFeatures, memory.dma());
    std::vector<DescriptorChain> held;
    DescriptorChain chain;
    PopResult popped;
    while ((popped = queue->Pop(&chain)) == PopResult::kChain) {
      ++chains;
      ExpectInvariants(chain, *queue);
      size_t copied = 0;
      chain.Read(memory.dma(), 0, data, &copied);
      chain.Write(memory.dma(), 0, data, &copied);
      held.push_back(std::move(chain));
      if (held.size() == 3) break;
    }
    if (popped == PopResult::kBroken) ++faults;
    for (DescriptorChain& owed : held) {
      const uint32_t written = owed.writable_bytes();
      queue->Complete(std::move(owed), written);
    }
    queue->ShouldNotify();
    queue->EnableNotifications();
  }
  stop.store(true, std::memory_order_relaxed);
  scribbler.join();
}

TEST(SplitQueueRaceTest, MemoryMayComeAndGoWhileTheQueueIsInUse) {
  TestMemory memory;
  const vmm::GuestAddress base{0x10000000};
  const vmm::GuestRange range{base, 0x10000};
  auto backing = *vmm::MemoryBacking::CreateAnonymous(range.size, "plugged");
  const auto plug = [&] {
    ASSERT_TRUE(
        memory.memory()->Add({.range = range, .backing = backing}).ok());
  };
  plug();
  FakeDriverQueue driver(memory.memory(), base, kSize);
  driver.WriteDescriptor(0, {base.value + 0x8000, 64, kDescFlagWrite});
  driver.SetAvailIdx(4);  // entries are 0, each time

  std::atomic<bool> stop{false};
  std::thread plugger([&] {
    while (!stop.load(std::memory_order_relaxed)) {
      (void)memory.memory()->Remove(range);
      plug();
    }
  });
  // Until enough got through between two removals.
  uint64_t completed = 0;
  std::array<std::byte, 64> data = {};
  while (completed < 2000) {
    auto queue =
        CreateVirtqueue(0, driver.config(), kSize, kFeatures, memory.dma());
    if (!queue.ok()) continue;
    DescriptorChain chain;
    while ((*queue)->Pop(&chain) == PopResult::kChain) {
      size_t copied = 0;
      chain.Write(memory.dma(), 0, data, &copied);
      (*queue)->Complete(std::move(chain), static_cast<uint32_t>(copied));
      if ((*queue)->fault() == QueueFault::kNone) ++completed;
    }
    (*queue)->ShouldNotify();
  }
  stop.store(true, std::memory_order_relaxed);
  plugger.join();
}

}  // namespace
}  // namespace vmsg::virtio
